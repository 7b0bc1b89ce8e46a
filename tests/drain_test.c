/*
 * drain_test.c - a server ends whatever its clients do: those that never stop asking, those that
 * stop in the middle of a request, those that say nothing; in every concurrency, and with both
 * dispatches.
 */
#include "tests/support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Who serves, and how. */
static const struct way {
    const char *name;
    enum weir_concurrency concurrency;
    enum weir_dispatch dispatch;
} ways[] = {
    { "pool", WEIR_POOL, WEIR_DISPATCH_WORKER },
    { "pool, dispatched by the acceptor", WEIR_POOL, WEIR_DISPATCH_ACCEPTOR },
    { "serial", WEIR_SERIAL, WEIR_DISPATCH_WORKER },
    { "thread", WEIR_THREAD, WEIR_DISPATCH_WORKER },
    { "fork", WEIR_FORK, WEIR_DISPATCH_WORKER },
    { "prefork", WEIR_PREFORK, WEIR_DISPATCH_WORKER },
};

static const struct way *way;
static _Atomic bool ended;      /* what end_in_thread has been told to do is done */

static int begin(void **state)
{
    (void)state;
    ended = false;
    return 0;
}

/* ------------------------------------------------------------------ handlers ---------- */

static int answer_line(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 4096);

    if (n <= 0)
        return (int)n;
    n = weir_write(req, line, (size_t)n);
    return n < 0 ? (int)n : WEIR_KEEP;
}

/* Does not return before its client has ended. */
static int answer_lines(struct weir_request *req)
{
    int r;

    do
        r = answer_line(req);
    while (r == WEIR_KEEP);
    return r;
}

static void ignore_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    (void)failure;
}

static const struct weir_handler keeps = { .name = "keeps", .handle = answer_line };
static const struct weir_handler loops = { .name = "loops", .handle = answer_lines };
static int answer_once(struct weir_request *req)
{
    int r = answer_line(req);

    return r == WEIR_KEEP ? 0 : r;
}

static const struct weir_handler once = { .name = "once", .handle = answer_once };

static int greet(struct weir_request *req)
{
    weir_printf(req, "hello\n");
    return weir_flush(req);
}

static const struct weir_handler greets = {
    .name = "greets", .setup = greet, .handle = answer_line, .client_first = true,
};
static const struct weir_handler greets_at_once = {
    .name = "greets at once", .setup = greet, .handle = answer_line,
};
static const struct weir_handler blocks = {
    .name = "blocks", .handle = answer_line, .stack = WEIR_STACK_THREAD,
};

/* ------------------------------------------------------------------ clients ----------- */

#define CLIENTS_MAX 3

/* Requests without end. Its length is no multiple of a buffer's, nor of a line's. */
static char requests[60000];

/* One that always has sent more than is answered, and reads what comes. False: it has ended. */
static bool go_on(int fd, size_t *at)
{
    ssize_t n = send(fd, requests + *at, sizeof(requests) - *at, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN)
        return false;
    if (n > 0)
        *at = (*at + (size_t)n) % sizeof(requests);
    while ((n = recv(fd, NULL, 1 << 20, MSG_TRUNC | MSG_DONTWAIT)) > 0)
        ;
    return n < 0 && errno == EAGAIN;
}

static int connect_to(const char *uri)
{
    struct sockaddr_in to = { .sin_family = AF_INET };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    to.sin_port = htons((uint16_t)atoi(strrchr(uri, ':') + 1));
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    return connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 ? fd : -1;
}

static void begin_clients(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close_range(3, ~0U, 0);     /* the server's listener, above all: it would not be closed */
}

/* Asks until the server has ended every one of its connections. */
static _Noreturn void ask_for_ever(const char *uri, int clients, size_t line_len)
{
    struct pollfd fds[CLIENTS_MAX];
    size_t at[CLIENTS_MAX] = { 0 };
    int left = 0;

    begin_clients();
    memset(requests, 'x', sizeof(requests));
    for (size_t i = line_len - 1; i < sizeof(requests); i += line_len)
        requests[i] = '\n';
    /* The server may have ended before all have come. */
    for (int i = 0; i < clients; i++) {
        fds[i] = (struct pollfd){ .fd = connect_to(uri), .events = POLLIN | POLLOUT };
        left += fds[i].fd >= 0;
    }
    while (left > 0) {
        poll(fds, (nfds_t)clients, -1);
        for (int i = 0; i < clients; i++) {
            if (fds[i].fd < 0 || !fds[i].revents || go_on(fds[i].fd, &at[i]))
                continue;
            close(fds[i].fd);
            fds[i].fd = -1;
            left--;
        }
    }
    _exit(0);
}

/* They are a process of their own: a server that forks shall not fork their threads. */
static pid_t fork_clients(struct weir_server *server, char *ret_uri)
{
    pid_t pid;

    assert_true(weir_server_address(server, 0, ret_uri, WEIR_ADDRESS_SIZE) > 0);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    return pid;
}

static pid_t start_clients(struct weir_server *server, int clients, size_t line_len)
{
    char uri[WEIR_ADDRESS_SIZE];
    pid_t pid = fork_clients(server, uri);

    if (pid == 0)
        ask_for_ever(uri, clients, line_len);
    return pid;
}

/* ------------------------------------------------------------------ servers ----------- */

#define CREATE(handler_, ...) support_create(WEIR_OPTIONS( \
        .listen = "tcp://127.0.0.1:0", .handler = (handler_), .workers = 1, \
        .concurrency = way->concurrency, .dispatch = way->dispatch, \
        .processes = way->concurrency == WEIR_PREFORK ? 2 : 0, \
        .handle_error = ignore_error, __VA_ARGS__))

static struct weir_server *start(struct weir_server *server)
{
    assert_int_equal(weir_server_start(server), 0);
    return server;
}

static void *shut_down_and_close(void *server)
{
    if (weir_server_shutdown(server) == 0 && weir_server_close(server) == 0)
        ended = true;
    return NULL;
}

/* On another thread, so that it fails instead of hanging if it doesn't. */
static void close_in_time(struct weir_server *server)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, shut_down_and_close, server), 0);
    SUPPORT_UNTIL(ended);
    pthread_join(thread, NULL);
}

static void expect_end(struct weir_server *server)
{
    close_in_time(server);
    weir_server_destroy(server);
}

/* A serial server has no second client while it serves one. */
static int clients_at_once(void)
{
    return way->concurrency == WEIR_SERIAL ? 1 : CLIENTS_MAX;
}

static void expect_drain_ends(const struct weir_handler *handler, size_t line_len)
{
    struct weir_server *server = CREATE(handler, .drain_timeout_ms = 0);
    pid_t clients = start_clients(server, clients_at_once(), line_len);

    assert_int_equal(weir_server_start(server), 0);
    SUPPORT_AWAIT(server, handled, > 1000);
    expect_end(server);
    assert_int_equal(support_status_of(clients), 0);
}

/* ------------------------------------------------------------------ tests ------------- */

/* Whether a request ends where the buffer does ... */
static void a_drain_ends_though_clients_never_stop_asking(void **state)
{
    (void)state;
    expect_drain_ends(&keeps, 32);
}

/* ... or there is always the beginning of another one. */
static void a_drain_ends_though_there_is_always_half_a_request(void **state)
{
    (void)state;
    expect_drain_ends(&keeps, 37);
}

static void a_drain_ends_on_a_workers_own_stack_too(void **state)
{
    (void)state;
    expect_drain_ends(&blocks, 37);
}

/* Its handler never returns by itself: a drain waits for it as long as it is told to. */
static void a_drain_that_takes_too_long_cancels_who_never_waits(void **state)
{
    struct weir_server *server = CREATE(&loops, .drain_timeout_ms = 50);
    pid_t clients = start_clients(server, clients_at_once(), 37);

    (void)state;
    assert_int_equal(weir_server_start(server), 0);
    SUPPORT_AWAIT(server, bytes_in, > 100000);
    expect_end(server);
    assert_int_equal(support_status_of(clients), 0);
}

static void a_cancel_reaches_who_never_waits(void **state)
{
    struct weir_server *server = CREATE(&loops, .drain_timeout_ms = 0);
    pid_t clients = start_clients(server, clients_at_once(), 32);

    (void)state;
    assert_int_equal(weir_server_start(server), 0);
    SUPPORT_AWAIT(server, bytes_in, > 100000);
    weir_server_cancel(server);
    assert_int_equal(support_status_of(clients), 0);
    expect_end(server);
}

/* Between two calls of handle(), that is. */
static void a_cancel_reaches_who_is_always_called_again(void **state)
{
    struct weir_server *server = CREATE(&keeps, .drain_timeout_ms = 0);
    pid_t clients = start_clients(server, clients_at_once(), 32);

    (void)state;
    assert_int_equal(weir_server_start(server), 0);
    SUPPORT_AWAIT(server, handled, > 1000);
    weir_server_cancel(server);
    expect_end(server);
    assert_int_equal(support_status_of(clients), 0);
}

static void half_a_request_is_waited_for_until_the_drain_timeout(void **state)
{
    struct weir_server *server = CREATE(&keeps, .drain_timeout_ms = 50);
    uint64_t began;
    int fd;

    (void)state;
    assert_int_equal(weir_server_start(server), 0);
    fd = support_ask(server, 0, "one\nhalf a li");
    support_expect(fd, "one\n");
    began = support_now_ms();
    expect_end(server);
    assert_true(support_now_ms() - began >= 50);
    support_expect_end(fd);
    close(fd);
}

static void *finish_line(void *arg)
{
    const int *fd = arg;

    /* Once it says that it stops, nobody comes in any more. */
    usleep(20000);
    support_say(*fd, "ne\n");
    return NULL;
}

static void half_a_request_is_answered_when_its_other_half_comes(void **state)
{
    struct weir_server *server = CREATE(&keeps, .drain_timeout_ms = 0);
    pthread_t thread;
    int fd;

    (void)state;
    assert_int_equal(weir_server_start(server), 0);
    fd = support_ask(server, 0, "one\nhalf a li");
    support_expect(fd, "one\n");
    assert_int_equal(pthread_create(&thread, NULL, finish_line, &fd), 0);
    expect_end(server);
    pthread_join(thread, NULL);
    support_expect_last(fd, "half a line\n");
}

/* How many handlers are at the gate, in whichever process; and the gate. */
static _Atomic unsigned *at_gate;
static struct gate gate;

/* As answer_line; but the line "gate" is answered once the gate is open. */
static int answer_behind_gate(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 4096);

    if (n <= 0)
        return (int)n;
    if (strncmp(line, "gate\n", (size_t)n) == 0) {
        atomic_fetch_add(at_gate, 1);
        gate_pass(&gate);
    }
    n = weir_write(req, line, (size_t)n);
    return n < 0 ? (int)n : WEIR_KEEP;
}

/*
 * What is said later arrives while the first line, "gate", is being answered, and the server begins
 * to drain meanwhile.
 */
static void expect_drain_at_the_gate(struct weir_server *server, int fd, const char *said_later,
                                     const char *answers)
{
    pthread_t thread;

    SUPPORT_UNTIL(atomic_load(at_gate) == 1);
    support_say(fd, said_later);
    assert_int_equal(pthread_create(&thread, NULL, shut_down_and_close, server), 0);
    /* The gate had better open behind the begin of the drain, but nothing is judged by that. */
    usleep(20000);
    gate_open(&gate);
    support_expect_last(fd, answers);
    SUPPORT_UNTIL(ended);
    pthread_join(thread, NULL);
    weir_server_destroy(server);
    gate_fini(&gate);
}

static struct weir_server *start_gated(const struct weir_handler *handler)
{
    gate_init(&gate);
    atomic_store(at_gate, 0);
    return start(CREATE(handler, .drain_timeout_ms = 0));
}

static void expect_answered_at_a_drain(const char *said, const char *said_later,
                                       const char *answers)
{
    static const struct weir_handler handler = { .name = "gated", .handle = answer_behind_gate };
    struct weir_server *server = start_gated(&handler);

    expect_drain_at_the_gate(server, support_ask(server, 0, said), said_later, answers);
}

/* They lie in the kernel: the handler has read its own line before they were sent. */
static void what_arrives_while_the_drain_begins_is_answered(void **state)
{
    (void)state;
    expect_answered_at_a_drain("gate\n", "two\nthree\n", "gate\ntwo\nthree\n");
}

/* The second line has been read with the first. */
static void what_lies_behind_what_was_read_is_answered_at_a_drain(void **state)
{
    (void)state;
    expect_answered_at_a_drain("gate\ntwo\n", "three\nfour\n", "gate\ntwo\nthree\nfour\n");
}

/* The request that breaks off there ends in the kernel, and others are behind it. */
static void what_lies_behind_half_a_request_is_answered_at_a_drain(void **state)
{
    (void)state;
    expect_answered_at_a_drain("gate\ntw", "o\nthree\nfour\n", "gate\ntwo\nthree\nfour\n");
}

/* As the look after an event whose input has been read already: it finds nothing, at the gate. */
ssize_t __real_rfile_received(struct weir_request *req, size_t room, ssize_t n);
ssize_t __wrap_rfile_received(struct weir_request *req, size_t room, ssize_t n);

static _Atomic bool *look_is_vain;

ssize_t __wrap_rfile_received(struct weir_request *req, size_t room, ssize_t n)
{
    if (n > 0 && atomic_exchange(look_is_vain, false)) {
        n = -EAGAIN;
        atomic_fetch_add(at_gate, 1);
        gate_pass(&gate);
    }
    return __real_rfile_received(req, room, n);
}

static void expect_answered_behind_a_look(struct weir_server *server, int fd)
{
    /* The second line doesn't wait until the kernel confirms the first one. */
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)), 0);
    atomic_store(look_is_vain, true);
    support_say(fd, "overlooked\n");
    expect_drain_at_the_gate(server, fd, "two\n", "two\n");
}

static void what_arrives_behind_the_look_at_an_idle_client_is_answered_at_a_drain(void **state)
{
    struct weir_server *server = start_gated(&keeps);
    int fd = support_ask(server, 0, "one\n");

    (void)state;
    support_expect(fd, "one\n");
    SUPPORT_AWAIT(server, idle, == 1);
    expect_answered_behind_a_look(server, fd);
}

static void what_arrives_behind_the_look_at_a_silent_client_is_answered_at_a_drain(void **state)
{
    static const struct weir_handler handler = {
        .name = "silent", .handle = answer_line, .client_first = WEIR_YES,
    };
    struct weir_server *server = start_gated(&handler);
    int fd = support_ask(server, 0, "");

    (void)state;
    SUPPORT_AWAIT(server, accepted, == 1);
    expect_answered_behind_a_look(server, fd);
}

/*
 * Nobody accepts any more. Of those in the backlog, who has asked is served, as one would expect.
 */
static void who_waits_to_be_accepted_and_has_asked_is_answered(void **state)
{
    struct weir_server *server = start(CREATE(&keeps, .user = NULL));
    int asked[20];
    int silent;

    (void)state;
    assert_int_equal(weir_server_shutdown(server), 0);
    silent = support_connect(server, 0);
    for (int i = 0; i < 20; i++)
        asked[i] = support_ask(server, 0, "one\n");
    expect_end(server);
    for (int i = 0; i < 20; i++)
        support_expect_last(asked[i], "one\n");
    support_expect_last(silent, "");
}

/* Whether their handlers have begun or not, who was accepted with its request is answered. */
static void expect_accepted_answered(const struct weir_handler *handler, const char *answer)
{
    struct weir_server *server = start(CREATE(handler, .user = NULL));
    int fds[CLIENTS_MAX];

    for (int i = 0; i < clients_at_once(); i++)
        fds[i] = support_ask(server, 0, "one\n");
    SUPPORT_UNTIL(support_stats(server).accepted == (uint64_t)clients_at_once());
    expect_end(server);
    for (int i = 0; i < clients_at_once(); i++)
        support_expect_last(fds[i], answer);
}

static void who_was_accepted_just_before_is_answered(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        ended = false;
        expect_accepted_answered(&keeps, "one\n");
        ended = false;
        expect_accepted_answered(&greets, "hello\none\n");
    }
}

/* How many of the clients that come one after another have been answered. */
static _Atomic uint64_t *answered;

#define COMERS 16

static void expect_answer_or_end(int fd)
{
    char answer[4];

    if (fd >= 0 && recv(fd, answer, sizeof(answer), MSG_WAITALL) == sizeof(answer))
        ++*answered;
    close(fd);
}

/* A connection and a request after another, COMERS of them at a time, until nobody listens. */
static _Noreturn void come_for_ever(const char *uri)
{
    int fds[COMERS];
    size_t at = 0;

    begin_clients();
    memset(fds, -1, sizeof(fds));
    for (int fd; (fd = connect_to(uri)) >= 0; at = (at + 1) % COMERS) {
        send(fd, "one\n", 4, MSG_NOSIGNAL);
        expect_answer_or_end(fds[at]);
        fds[at] = fd;
    }
    for (size_t i = 0; i < COMERS; i++)
        expect_answer_or_end(fds[i]);
    _exit(0);
}

/* Others may be reset in the backlog, but nobody is accepted and then let go. */
static void who_comes_during_a_drain_is_answered_if_accepted(void **state)
{
    struct weir_server *server = CREATE(&once, .user = NULL);
    char uri[WEIR_ADDRESS_SIZE];
    struct weir_stats stats;
    pid_t clients;

    (void)state;
    *answered = 0;
    clients = fork_clients(server, uri);
    if (clients == 0)
        come_for_ever(uri);
    assert_int_equal(weir_server_start(server), 0);
    SUPPORT_AWAIT(server, handled, > 200);
    close_in_time(server);
    stats = support_stats(server);
    weir_server_destroy(server);
    assert_int_equal(support_status_of(clients), 0);
    assert_int_equal(stats.accepted, *answered);
}

/* A client that has connected, says nothing, and is the server's only one. */
static int come_silently(struct weir_server *server)
{
    int fd = support_connect(server, 0);

    SUPPORT_AWAIT(server, active, == 1);
    if (way->concurrency != WEIR_FORK)
        SUPPORT_AWAIT(server, idle, == 1);
    return fd;
}

static void a_client_that_has_said_nothing_holds_up_no_drain(void **state)
{
    struct weir_server *server = start(CREATE(&greets, .user = NULL));
    int fd = come_silently(server);

    (void)state;
    expect_end(server);
    support_expect_last(fd, "");
}

static void its_first_words_are_answered_however_late(void **state)
{
    struct weir_server *server = start(CREATE(&greets, .user = NULL));
    int fd = come_silently(server);

    (void)state;
    assert_true(support_is_silent(fd));
    support_say(fd, "one\ntwo\nthr");
    support_expect(fd, "hello\none\ntwo\n");
    support_say(fd, "ee\n");
    support_expect(fd, "three\n");
    support_half_close(fd);
    support_expect_last(fd, "");
    expect_end(server);
}

/* Whatever ends it. */
static void expect_silence_ends(struct weir_server *server, uint64_t timeouts)
{
    int fd = support_connect(server, 0);

    if (timeouts == 0)
        support_half_close(fd);
    support_expect_last(fd, "");
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(support_stats(server).timeouts, timeouts);
    assert_int_equal(support_stats(server).handled, 0);
    assert_int_equal(support_stats(server).setup_errors, 0);
    assert_int_equal(support_stats(server).handle_errors, 0);
    expect_end(server);
}

static void a_client_that_says_nothing_is_given_up_after_the_shortest_timeout(void **state)
{
    (void)state;
    expect_silence_ends(start(CREATE(&greets, .idle_timeout_ms = 30, .read_timeout_ms = 600000)),
                        1);
    ended = false;
    expect_silence_ends(start(CREATE(&greets, .read_timeout_ms = 30)), 1);
    ended = false;
    expect_silence_ends(start(CREATE(&greets, .idle_timeout_ms = 600000,
                                     .request_timeout_ms = 30)), 1);
}

/* ... which is not that of one that has asked and rests. */
static void who_has_spoken_rests_as_long_as_may_be(void **state)
{
    struct weir_server *server = start(CREATE(&greets, .read_timeout_ms = 30));
    int fd = support_ask(server, 0, "one\n");

    (void)state;
    support_expect(fd, "hello\none\n");
    usleep(300000);
    support_say(fd, "two\n");
    support_expect(fd, "two\n");
    assert_int_equal(support_stats(server).timeouts, 0);
    close(fd);
    expect_end(server);
}

static void who_goes_without_a_word_was_never_there(void **state)
{
    (void)state;
    expect_silence_ends(start(CREATE(&greets, .user = NULL)), 0);
}

/* It may be that it only listens: nobody but the handler knows. */
static void a_handler_that_begins_at_once_is_waited_for(void **state)
{
    struct weir_server *server = start(CREATE(&greets_at_once, .drain_timeout_ms = 50));
    int fd = support_connect(server, 0);
    uint64_t began;

    (void)state;
    support_expect(fd, "hello\n");
    began = support_now_ms();
    expect_end(server);
    assert_true(support_now_ms() - began >= 50);
    support_expect_last(fd, "");
}

/* ------------------------------------------------------------------ main -------------- */

#define TEST(test) cmocka_unit_test_setup(test, begin)
#define UNDER_EACH \
        TEST(a_drain_ends_though_clients_never_stop_asking), \
        TEST(a_drain_ends_though_there_is_always_half_a_request), \
        TEST(a_drain_that_takes_too_long_cancels_who_never_waits), \
        TEST(a_cancel_reaches_who_never_waits), \
        TEST(a_cancel_reaches_who_is_always_called_again), \
        TEST(half_a_request_is_waited_for_until_the_drain_timeout), \
        TEST(half_a_request_is_answered_when_its_other_half_comes), \
        TEST(what_arrives_while_the_drain_begins_is_answered), \
        TEST(what_lies_behind_what_was_read_is_answered_at_a_drain), \
        TEST(what_lies_behind_half_a_request_is_answered_at_a_drain), \
        TEST(what_arrives_behind_the_look_at_a_silent_client_is_answered_at_a_drain), \
        TEST(who_comes_during_a_drain_is_answered_if_accepted), \
        TEST(who_was_accepted_just_before_is_answered), \
        TEST(a_client_that_has_said_nothing_holds_up_no_drain), \
        TEST(its_first_words_are_answered_however_late), \
        TEST(a_client_that_says_nothing_is_given_up_after_the_shortest_timeout), \
        TEST(who_has_spoken_rests_as_long_as_may_be), \
        TEST(who_goes_without_a_word_was_never_there), \
        TEST(a_handler_that_begins_at_once_is_waited_for)

int main(void)
{
    const struct CMUnitTest tests[] = { UNDER_EACH };
    const struct CMUnitTest counted[] = {
        TEST(what_arrives_behind_the_look_at_an_idle_client_is_answered_at_a_drain),
    };
    const struct CMUnitTest handing[] = {
        TEST(who_waits_to_be_accepted_and_has_asked_is_answered),
    };
    const struct CMUnitTest pool[] = {
        TEST(a_drain_ends_on_a_workers_own_stack_too),
    };
    int failed = 0;

    answered = support_board(sizeof(*answered));
    at_gate = support_board(sizeof(*at_gate));
    look_is_vain = support_board(sizeof(*look_is_vain));
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        way = &ways[i];
        failed += cmocka_run_group_tests_name(way->name, tests, NULL, NULL);
        /* The children of fork don't tell whether their client is idle. */
        if (way->concurrency != WEIR_FORK)
            failed += cmocka_run_group_tests_name(way->name, counted, NULL, NULL);
        if (way->concurrency == WEIR_POOL || way->concurrency == WEIR_THREAD)
            failed += cmocka_run_group_tests_name(way->name, handing, NULL, NULL);
        if (way->concurrency == WEIR_POOL)
            failed += cmocka_run_group_tests_name(way->name, pool, NULL, NULL);
    }
    return failed;
}
