/*
 * deadline_test.c - what has come in time is never told to be late, however late it is looked at.
 *
 * The whole server is a child process that is stopped (SIGSTOP) while many of its handlers wait.
 * What they wait for comes then; it goes on when all their deadlines have passed. A busy machine or
 * a handler that keeps its worker does the same, but not when a test wants it.
 */
#include "tests/support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLIENTS_MAX 200

/* More than a worker takes from the kernel at a time, wherever that many can be served. */
static const struct way {
    const char *name;
    unsigned clients;
    uint32_t workers;
    enum weir_concurrency concurrency;
    enum weir_dispatch dispatch;
    enum weir_stack stack;
} ways[] = {
    { "a worker", CLIENTS_MAX, 1, WEIR_POOL, WEIR_DISPATCH_WORKER, WEIR_STACK_FIBER },
    { "two workers", CLIENTS_MAX, 2, WEIR_POOL, WEIR_DISPATCH_WORKER, WEIR_STACK_FIBER },
    { "the acceptor", CLIENTS_MAX, 2, WEIR_POOL, WEIR_DISPATCH_ACCEPTOR, WEIR_STACK_FIBER },
    { "own stacks", 8, 8, WEIR_POOL, WEIR_DISPATCH_WORKER, WEIR_STACK_THREAD },
    { "a process", CLIENTS_MAX, 1, WEIR_PREFORK, WEIR_DISPATCH_WORKER, WEIR_STACK_FIBER },
    { "threads", CLIENTS_MAX, 1, WEIR_THREAD, WEIR_DISPATCH_WORKER, WEIR_STACK_FIBER },
    { "children", 40, 1, WEIR_FORK, WEIR_DISPATCH_WORKER, WEIR_STACK_FIBER },
    { "nothing but itself", 1, 1, WEIR_SERIAL, WEIR_DISPATCH_WORKER, WEIR_STACK_FIBER },
};

static const struct way *way;

/* How many handlers wait, or are about to. In every process. */
static _Atomic unsigned *waiting;

/* ------------------------------------------------------------------ the server -------- */

static struct weir_server *server;
static pid_t pid;

static void serve(int (*handle)(struct weir_request *req), struct weir_options options)
{
    static struct weir_handler handler;

    handler = (struct weir_handler){ .name = "late", .handle = handle, .stack = way->stack };
    options.listen = "tcp://127.0.0.1:0";
    options.handler = &handler;
    options.workers = way->workers;
    options.concurrency = way->concurrency;
    options.dispatch = way->dispatch;
    if (way->concurrency == WEIR_FORK)
        options.max_children = way->clients;
    options.processes = way->concurrency == WEIR_PREFORK;
    options.backlog = CLIENTS_MAX;
    server = support_create(&options);
    atomic_store(waiting, 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setpgid(0, 0);
        weir_serve_forever(server);
        _exit(0);
    }
    setpgid(pid, pid);
}

static void tell_all(int number)
{
    assert_int_equal(kill(-pid, number), 0);
}

static void stop_all(void)
{
    int status;

    tell_all(SIGSTOP);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
}

static void end(void)
{
    tell_all(SIGKILL);
    waitpid(pid, NULL, 0);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ a scene ----------- */

/* What clients do before the server is stopped, and while it is; and what they must have then. */
struct scene {
    int (*handle)(struct weir_request *req);
    const char *first;          /* what each says at first ... */
    const char *answer;         /* ... and is told then */
    const char *meanwhile;      /* what it says then; NULL: it reads what there is */
    const char *last;           /* the end of all that comes */
    struct weir_options options;
};

/* Reads until this comes. flags: MSG_DONTWAIT, no further than there is something. */
static bool comes(int fd, const char *text, int flags)
{
    static char got[1 << 16];
    size_t len = strlen(text);
    size_t have = 0;
    ssize_t n;

    while ((n = recv(fd, got + have, sizeof(got) - have, flags)) > 0) {
        have += (size_t)n;
        if (have > len) {
            memmove(got, got + have - len, len);
            have = len;
        }
        if (have == len && memcmp(got, text, len) == 0)
            return true;
    }
    return false;
}

static bool hears(int fd, const char *text)
{
    char got[16];
    size_t len = strlen(text);

    assert_true(len <= sizeof(got));
    return recv(fd, got, len, MSG_WAITALL) == (ssize_t)len && memcmp(got, text, len) == 0;
}

/*
 * Each client says first, and is told answer. Returns false if one could not or was not: the server
 * may have ended it, but not before deadline_ms.
 */
static bool begin_all(const int *fds, unsigned clients, const char *first, const char *answer,
                      uint64_t deadline_ms)
{
    size_t len = strlen(first);
    bool all = true;

    for (unsigned i = 0; i < clients && all; i++)
        all = send(fds[i], first, len, MSG_NOSIGNAL) == (ssize_t)len;
    for (unsigned i = 0; i < clients && all && *answer; i++)
        all = hears(fds[i], answer);
    if (!all)
        assert_true(support_now_ms() >= deadline_ms);
    return all;
}

/* Until so many handlers wait: true, or false if deadline_ms comes before. */
static bool wait_for_handlers(unsigned number, uint64_t deadline_ms)
{
    SUPPORT_UNTIL(atomic_load(waiting) >= number || support_now_ms() >= deadline_ms);
    return support_now_ms() < deadline_ms;
}

/* False: the machine was too slow, and the deadlines had passed already when the server stopped. */
static bool plays(const struct scene *scene, uint32_t timeout_ms)
{
    int fds[CLIENTS_MAX];
    bool came[CLIENTS_MAX] = { false };
    uint64_t deadline_ms;
    unsigned in_time = 0;
    bool all_wait;
    bool stopped_in_time;

    serve(scene->handle, scene->options);
    /* A request begins when its client is let in, so the first deadline runs from here. */
    deadline_ms = support_now_ms() + timeout_ms;
    for (unsigned i = 0; i < way->clients; i++)
        fds[i] = support_connect(server, 0);
    all_wait = begin_all(fds, way->clients, scene->first, scene->answer, deadline_ms) &&
               wait_for_handlers(way->clients, deadline_ms);
    stop_all();
    stopped_in_time = all_wait && support_now_ms() < deadline_ms;
    for (unsigned i = 0; i < way->clients; i++) {
        if (scene->meanwhile && stopped_in_time)
            support_say(fds[i], scene->meanwhile);      /* else it may have been closed */
        else if (!scene->meanwhile)
            came[i] = comes(fds[i], scene->last, MSG_DONTWAIT);
    }
    /* Until every deadline has passed, and the sweep of idle ones would find them. */
    if (stopped_in_time)
        poll(NULL, 0, (int)timeout_ms + 50);
    tell_all(SIGCONT);
    for (unsigned i = 0; i < way->clients && stopped_in_time; i++)
        in_time += came[i] || comes(fds[i], scene->last, 0);
    for (unsigned i = 0; i < way->clients; i++)
        close(fds[i]);
    end();
    if (stopped_in_time)
        assert_int_equal(in_time, way->clients);
    return stopped_in_time;
}

/* Each way; with more time where the machine needs it. deadline: which of the options it is. */
static void play(struct scene *scene, uint32_t *deadline_ms)
{
    for (way = ways; way < ways + sizeof(ways) / sizeof(*ways); way++) {
        *deadline_ms = 300;
        while (!plays(scene, *deadline_ms)) {
            *deadline_ms *= 2;
            assert_true(*deadline_ms < PLENTY_MS);
        }
    }
}

/* ------------------------------------------------------------------ reads ------------- */

static int say_whether_in_time(struct weir_request *req, bool in_time)
{
    weir_printf(req, "%s\n", in_time ? "in time" : "too late");
    return 0;
}

static int read_the_rest(struct weir_request *req)
{
    char *data;

    weir_peek(req, &data, 2);
    atomic_fetch_add(waiting, 1);
    return say_whether_in_time(req, weir_readline(req, &data, 16) == 4);
}

static void a_read_finds_what_came_within_its_timeout(void **state)
{
    struct scene scene = { read_the_rest, "ab", "", "c\n", "in time\n",
                           *WEIR_OPTIONS(.read_timeout_ms = 1) };

    (void)state;
    play(&scene, &scene.options.read_timeout_ms);
}

static void a_read_finds_what_came_within_the_requests_timeout(void **state)
{
    struct scene scene = { read_the_rest, "ab", "", "c\n", "in time\n",
                           *WEIR_OPTIONS(.request_timeout_ms = 1) };

    (void)state;
    play(&scene, &scene.options.request_timeout_ms);
}

static int poll_for_the_rest(struct weir_request *req)
{
    struct pollfd fds = { .fd = weir_request_fd(req), .events = POLLIN };
    char *data;

    weir_peek(req, &data, 2);
    atomic_fetch_add(waiting, 1);
    return say_whether_in_time(req, weir_poll(req, &fds, 1, -1) == 1);
}

static void a_poll_finds_what_came_within_the_requests_timeout(void **state)
{
    struct scene scene = { poll_for_the_rest, "ab", "", "c\n", "in time\n",
                           *WEIR_OPTIONS(.request_timeout_ms = 1) };

    (void)state;
    play(&scene, &scene.options.request_timeout_ms);
}

static int answer_and_keep(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 16);

    if (n <= 0)
        return (int)n;
    weir_write(req, line, (size_t)n);
    atomic_fetch_add(waiting, 1);
    return WEIR_KEEP;
}

static void a_kept_connection_that_speaks_in_time_is_not_idle(void **state)
{
    struct scene scene = { answer_and_keep, "a\n", "a\n", "b\n", "b\n",
                           *WEIR_OPTIONS(.idle_timeout_ms = 1) };

    (void)state;
    play(&scene, &scene.options.idle_timeout_ms);
}

/* ------------------------------------------------------------------ writes ------------ */

/* Fills the socket past the engine, so that the write that follows waits. */
static int write_into_the_full(struct weir_request *req)
{
    static const char filler[1 << 16];
    int fd = weir_request_fd(req);
    char *line;

    weir_readline(req, &line, 16);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ 4096 }, sizeof(int));
    while (send(fd, filler, sizeof(filler), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        ;
    atomic_fetch_add(waiting, 1);
    weir_write(req, "in time\n", 8);
    return weir_flush(req);
}

static void a_write_finds_the_room_that_came_within_its_timeout(void **state)
{
    struct scene scene = { write_into_the_full, "w\n", "", NULL, "in time\n",
                           *WEIR_OPTIONS(.write_timeout_ms = 1) };

    (void)state;
    play(&scene, &scene.options.write_timeout_ms);
}

/* More than sockets hold. */
#define MUCH ((size_t)16 << 20)

static int write_much(struct weir_request *req)
{
    static const char much[MUCH];
    char *line;

    weir_readline(req, &line, 16);
    return weir_write(req, much, sizeof(much)) < 0 ? -1 : 0;
}

/* Takes what there is, to the end or with MSG_DONTWAIT. */
static size_t take(int fd, int flags)
{
    static char taken[1 << 16];
    size_t len = 0;
    ssize_t n;

    while ((n = recv(fd, taken, sizeof(taken), flags)) > 0)
        len += (size_t)n;
    return len;
}

/* False: as plays(). */
static bool takes_all(uint32_t timeout_ms)
{
    struct pollfd input = { .events = POLLIN };
    uint64_t began_ms = support_now_ms();
    bool stopped_in_time;
    bool taken_in_time;
    size_t len;

    serve(write_much, *WEIR_OPTIONS(.write_timeout_ms = timeout_ms));
    input.fd = support_connect(server, 0);
    support_say(input.fd, "w\n");
    assert_int_equal(poll(&input, 1, PLENTY_MS), 1);
    stop_all();
    stopped_in_time = support_now_ms() < began_ms + timeout_ms;
    len = take(input.fd, MSG_DONTWAIT);
    if (stopped_in_time)
        poll(NULL, 0, (int)timeout_ms + 200);
    tell_all(SIGCONT);
    began_ms = support_now_ms();
    len += take(input.fd, 0);
    /* Of the time that the write is given anew. */
    taken_in_time = support_now_ms() < began_ms + timeout_ms;
    close(input.fd);
    end();
    if (stopped_in_time && taken_in_time)
        assert_int_equal(len, MUCH);
    return stopped_in_time && taken_in_time;
}

static void a_write_whose_deadline_passed_unseen_goes_on_for_a_peer_that_takes_it(void **state)
{
    (void)state;
    for (way = ways; way < ways + sizeof(ways) / sizeof(*ways); way++) {
        uint32_t timeout_ms = 500;

        while (!takes_all(timeout_ms)) {
            timeout_ms *= 2;
            assert_true(timeout_ms < PLENTY_MS);
        }
    }
}

/* ------------------------------------------------------------------ connects ---------- */

#define CONNECTS 64

static char elsewhere[WEIR_ADDRESS_SIZE];
static uint32_t connect_timeout_ms;

/* "c" connects, anything else is answered at once. */
static int connect_elsewhere(struct weir_request *req)
{
    struct weir_request *peer;
    char *line;

    if (weir_readline(req, &line, 16) > 0 && *line != 'c')
        return say_whether_in_time(req, true);
    atomic_fetch_add(waiting, 1);
    return say_whether_in_time(req, weir_connect(req, elsewhere, connect_timeout_ms, &peer) == 0);
}

/* A listener whose queue is full: who connects waits, and TCP tries again after a second. */
static int open_full_listener(int *ret_client)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(addr);
    const struct timeval plenty = { .tv_sec = PLENTY_MS / 1000 };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &plenty, sizeof(plenty));
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    snprintf(elsewhere, sizeof(elsewhere), "tcp://127.0.0.1:%d", ntohs(addr.sin_port));
    *ret_client = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(*ret_client, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

/* The listener's first client, and then all whose connects wait. */
static void accept_all(int fd, int *accepted)
{
    listen(fd, CONNECTS);
    close(accept(fd, NULL, NULL));
    for (unsigned i = 0; i < CONNECTS; i++) {
        accepted[i] = accept(fd, NULL, NULL);
        assert_true(accepted[i] >= 0);
    }
}

static void close_all(const int *fds)
{
    for (unsigned i = 0; i < CONNECTS; i++)
        close(fds[i]);
}

/* The server is stopped. Returns how many connects it finds to be made in time. */
static unsigned count_made(const int *fds, int fd, uint32_t timeout_ms)
{
    int accepted[CONNECTS];
    unsigned in_time = 0;

    accept_all(fd, accepted);
    poll(NULL, 0, (int)timeout_ms);
    tell_all(SIGCONT);
    for (unsigned i = 0; i < CONNECTS; i++)
        in_time += comes(fds[i], "in time\n", 0);
    close_all(accepted);
    return in_time;
}

/* False: as plays(). */
static bool connects(uint32_t timeout_ms)
{
    int fds[CONNECTS];
    unsigned in_time = 0;
    uint64_t deadline_ms;
    bool stopped_in_time;
    int client;
    int fd = open_full_listener(&client);

    connect_timeout_ms = timeout_ms;
    serve(connect_elsewhere, *WEIR_OPTIONS(.user = NULL));
    deadline_ms = support_now_ms() + timeout_ms;
    for (unsigned i = 0; i < CONNECTS; i++)
        fds[i] = support_ask(server, 0, "c\n");
    SUPPORT_UNTIL(atomic_load(waiting) == CONNECTS);
    /* The only worker comes to this one when the last of those has begun its connect. */
    support_talk(server, 0, "more\n", "in time\n");
    stop_all();
    stopped_in_time = support_now_ms() < deadline_ms;
    if (stopped_in_time)
        in_time = count_made(fds, fd, timeout_ms);
    close_all(fds);
    end();
    close(client);
    close(fd);
    if (stopped_in_time)
        assert_int_equal(in_time, CONNECTS);
    return stopped_in_time;
}

static void a_connect_that_was_accepted_in_time_is_made(void **state)
{
    uint32_t timeout_ms = 2500;

    (void)state;
    way = ways;
    while (!connects(timeout_ms)) {
        timeout_ms *= 2;
        assert_true(timeout_ms < PLENTY_MS);
    }
}

/* ------------------------------------------------------------------ a hog ------------- */

static struct gate gate;

/* "hog": keeps its worker until the test says so. */
static int hog_or_read(struct weir_request *req)
{
    char *data;

    if (weir_peek(req, &data, 2) >= 2 && *data == 'h') {
        atomic_fetch_add(waiting, 1);
        gate_pass(&gate);
        return 0;
    }
    return read_the_rest(req);
}

/* False: too slow. */
static bool finds_behind_a_hog(uint32_t timeout_ms)
{
    int fds[CLIENTS_MAX];
    uint64_t deadline_ms;
    unsigned in_time = 0;
    bool slow;
    int hog;

    gate_init(&gate);
    serve(hog_or_read, *WEIR_OPTIONS(.read_timeout_ms = timeout_ms));
    deadline_ms = support_now_ms() + timeout_ms;
    for (unsigned i = 0; i < way->clients; i++)
        fds[i] = support_connect(server, 0);
    slow = !begin_all(fds, way->clients, "ab", "", deadline_ms) ||
           !wait_for_handlers(way->clients, deadline_ms);
    hog = support_connect(server, 0);
    slow = slow || !begin_all(&hog, 1, "hog", "", deadline_ms) ||
           !wait_for_handlers(way->clients + 1, deadline_ms);
    for (unsigned i = 0; i < way->clients && !slow; i++)
        support_say(fds[i], "c\n");
    if (!slow)
        poll(NULL, 0, (int)timeout_ms + 50);
    gate_open(&gate);
    for (unsigned i = 0; i < way->clients && !slow; i++)
        in_time += comes(fds[i], "in time\n", 0);
    for (unsigned i = 0; i < way->clients; i++)
        close(fds[i]);
    close(hog);
    end();
    gate_fini(&gate);
    if (!slow)
        assert_int_equal(in_time, way->clients);
    return !slow;
}

static void a_read_behind_a_handler_that_keeps_its_worker_is_in_time(void **state)
{
    uint32_t timeout_ms = 300;

    (void)state;
    way = ways;
    while (!finds_behind_a_hog(timeout_ms)) {
        timeout_ms *= 2;
        assert_true(timeout_ms < PLENTY_MS);
    }
}

static int begin(void **state)
{
    (void)state;
    waiting = mmap(NULL, sizeof(*waiting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                   0);
    return waiting == MAP_FAILED;
}

static int finish(void **state)
{
    (void)state;
    return munmap(waiting, sizeof(*waiting));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_finds_what_came_within_its_timeout),
        cmocka_unit_test(a_read_finds_what_came_within_the_requests_timeout),
        cmocka_unit_test(a_poll_finds_what_came_within_the_requests_timeout),
        cmocka_unit_test(a_kept_connection_that_speaks_in_time_is_not_idle),
        cmocka_unit_test(a_write_finds_the_room_that_came_within_its_timeout),
        cmocka_unit_test(a_write_whose_deadline_passed_unseen_goes_on_for_a_peer_that_takes_it),
        cmocka_unit_test(a_connect_that_was_accepted_in_time_is_made),
        cmocka_unit_test(a_read_behind_a_handler_that_keeps_its_worker_is_in_time),
    };

    return cmocka_run_group_tests(tests, begin, finish);
}
