/*
 * start_stop_test.c - a start and a stop in which one call fails: the first, the second, and so on,
 * of each kind, under each concurrency. The server is refused with a sentence, or it serves; and
 * afterwards nothing is left: no descriptor, thread, child or path. And a start with too few
 * descriptors.
 *
 * Calls are counted, and fail, as they are linked (--wrap, in BUILD), those of children too. Each
 * trial is a process of its own.
 */
#include "tests/support.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* A trial that takes longer hangs. */
#define TRIAL_S 60

/* More calls of a kind make no start. */
#define CALLS_MAX 2000

enum call {
    ALIGNED_ALLOC, BIND, CALLOC, EPOLL_CREATE, EPOLL_CTL, EVENTFD, FORK, GETSOCKNAME, LISTEN,
    MALLOC, MMAP, PIDFD_OPEN, PTHREAD_CREATE, REALLOC, SETSOCKOPT, SOCKET, TIMERFD_CREATE, CALLS,
};

static const struct fault {
    const char *name;
    int error;
} faults[CALLS] = {
    [ALIGNED_ALLOC] = { "aligned_alloc", ENOMEM }, [BIND] = { "bind", EADDRINUSE },
    [CALLOC] = { "calloc", ENOMEM }, [EPOLL_CREATE] = { "epoll_create1", EMFILE },
    [EPOLL_CTL] = { "epoll_ctl", ENOSPC }, [EVENTFD] = { "eventfd", EMFILE },
    [FORK] = { "fork", EAGAIN }, [GETSOCKNAME] = { "getsockname", ENOBUFS },
    [LISTEN] = { "listen", EADDRINUSE }, [MALLOC] = { "malloc", ENOMEM },
    [MMAP] = { "mmap", ENOMEM }, [PIDFD_OPEN] = { "pidfd_open", EMFILE },
    [PTHREAD_CREATE] = { "pthread_create", EAGAIN }, [REALLOC] = { "realloc", ENOMEM },
    [SETSOCKOPT] = { "setsockopt", ENOBUFS }, [SOCKET] = { "socket", EMFILE },
    [TIMERFD_CREATE] = { "timerfd_create", EMFILE },
};

enum phase { START, STOP };

static const char *const phases[] = { [START] = "start", [STOP] = "stop" };

static struct plan {
    _Atomic bool armed;
    _Atomic int left;               /* calls until the one that fails; below 0: it has */
    enum call call;
    enum phase phase;
    unsigned spare;                 /* so many descriptors may be opened */
    char complaint[400];            /* of the trial */
} *plan;                            /* children share it */

/* Returns true if it is this call's turn. */
static bool fails(enum call call)
{
    if (!plan || !plan->armed || plan->call != call || --plan->left != 0)
        return false;
    errno = faults[call].error;
    return true;
}

/* ------------------------------------------------------------------ the calls --------- */

#define WRAP(call, type, failed, name, parameters, ...) \
    type __real_##name parameters; \
    type __wrap_##name parameters; \
    type __wrap_##name parameters \
    { \
        return fails(call) ? (failed) : __real_##name(__VA_ARGS__); \
    }

WRAP(ALIGNED_ALLOC, void *, NULL, aligned_alloc, (size_t alignment, size_t size), alignment, size)
WRAP(BIND, int, -1, bind, (int fd, const struct sockaddr *to, socklen_t len), fd, to, len)
WRAP(CALLOC, void *, NULL, calloc, (size_t n, size_t size), n, size)
WRAP(EPOLL_CREATE, int, -1, epoll_create1, (int flags), flags)
WRAP(EVENTFD, int, -1, eventfd, (unsigned count, int flags), count, flags)
WRAP(FORK, pid_t, -1, fork, (void), )
WRAP(GETSOCKNAME, int, -1, getsockname, (int fd, struct sockaddr *ret, socklen_t *len), fd,
     ret, len)
WRAP(LISTEN, int, -1, listen, (int fd, int backlog), fd, backlog)
WRAP(MALLOC, void *, NULL, malloc, (size_t size), size)
WRAP(MMAP, void *, MAP_FAILED, mmap,
     (void *at, size_t len, int protection, int flags, int fd, off_t offset),
     at, len, protection, flags, fd, offset)
WRAP(PIDFD_OPEN, int, -1, pidfd_open, (pid_t pid, unsigned flags), pid, flags)
WRAP(PTHREAD_CREATE, int, EAGAIN, pthread_create,
     (pthread_t *ret, const pthread_attr_t *attr, void *(*main_)(void *), void *arg),
     ret, attr, main_, arg)
WRAP(REALLOC, void *, NULL, realloc, (void *block, size_t size), block, size)
WRAP(SETSOCKOPT, int, -1, setsockopt,
     (int fd, int level, int name, const void *value, socklen_t len), fd, level, name, value, len)
WRAP(SOCKET, int, -1, socket, (int family, int type, int protocol), family, type, protocol)
WRAP(TIMERFD_CREATE, int, -1, timerfd_create, (int clock, int flags), clock, flags)

int __real_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);

/* To take something out of a set does not fail. */
int __wrap_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    if (op == EPOLL_CTL_ADD && fails(EPOLL_CTL))
        return -1;
    return __real_epoll_ctl(epfd, op, fd, event);
}

/* ------------------------------------------------------------------ a trial ----------- */

static int handle(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    weir_write(req, "answer\n", 7);
    return 0;
}

static void ignore_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    (void)failure;
}

static const struct weir_handler handler = { .name = "trial", .handle = handle };

static char paths[2][64];
static char uris[2][80];

static const struct weir_listen listeners[] = {
    { .address = "udp://127.0.0.1:0", .handler = &handler },
    { .address = uris[1], .handler = &handler },
    { .address = "tcp://127.0.0.1:0", .handler = &handler },
    { .address = uris[0], .handler = &handler },
};

static void name_paths(void)
{
    for (int i = 0; i < 2; i++)
        snprintf(paths[i], sizeof(paths[i]), "/tmp/weir-start-stop-%d-%d", (int)getpid(), i);
    snprintf(uris[0], sizeof(uris[0]), "unix://%s", paths[0]);
    snprintf(uris[1], sizeof(uris[1]), "unixgram://%s", paths[1]);
}

static _Noreturn void complain(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(plan->complaint, sizeof(plan->complaint), format, args);
    va_end(args);
    _exit(1);
}

static size_t entries(const char *path)
{
    DIR *folder = opendir(path);
    size_t count = 0;

    while (folder && readdir(folder))
        count++;
    if (folder)
        closedir(folder);
    return count;
}

static void *tell_number(void *number)
{
    *(pid_t *)number = gettid();
    return NULL;
}

/* A sanitizer may start a thread of its own with the first one. */
static void begin_threads(void)
{
    char entry[64];
    pthread_t thread;
    pid_t number;

    if (pthread_create(&thread, NULL, tell_number, &number) != 0)
        complain("no thread can be had");
    pthread_join(thread, NULL);
    snprintf(entry, sizeof(entry), "/proc/self/task/%d", (int)number);
    while (access(entry, F_OK) == 0)
        poll(NULL, 0, 1);
}

static void check_nothing_is_left(size_t threads, size_t descriptors)
{
    for (int i = 0; i < 2; i++)
        if (access(paths[i], F_OK) == 0)
            complain("%s is left", paths[i]);
    if (waitpid(-1, NULL, WNOHANG) != -1)
        complain("a child is left");
    /* One that was joined is there for a moment more. */
    for (int ms = 0; entries("/proc/self/task") != threads && ms < PLENTY_MS; ms++)
        poll(NULL, 0, 1);
    if (entries("/proc/self/task") != threads)
        complain("a thread is left");
    if (entries("/proc/self/fd") != descriptors)
        complain("%zd descriptors are left",
                 (ssize_t)(entries("/proc/self/fd") - descriptors));
}

static void check_reason(int r)
{
    const char *why = weir_why();

    if (why[0] == '\0' || strchr(why, '\n'))
        complain("%d comes without a sentence: '%s'", r, why);
}

static void converse(struct weir_server *server, size_t i)
{
    char answer[8] = "";
    int fd = support_ask(server, i, "x\n");

    if (support_read_all(fd, answer, 7) != 7)
        complain("it has started, and does not serve");
    close(fd);
}

/* A stop of what has never served is kept; and what could not start can be started once more. */
static void check_is_as_before(struct weir_server *server)
{
    weir_server_stop(server);
    if (weir_serve_forever(server) < 0)
        complain("it can't serve after a start that failed: %s", weir_why());
    if (weir_server_start(server) < 0)
        complain("it can't be started after a start that failed: %s", weir_why());
    for (size_t i = 2; i < 4; i++)
        converse(server, i);
}

static void try(enum weir_concurrency how, enum weir_dispatch dispatch, enum phase phase)
{
    const struct weir_options *options = WEIR_OPTIONS(
            .listeners = listeners, .listeners_len = 4, .concurrency = how, .dispatch = dispatch,
            .workers = how == WEIR_POOL || how == WEIR_PREFORK ? 2 : 0,
            .processes = how == WEIR_PREFORK ? 2 : 0, .max_per_address = 100,
            .access = "default allow\n", .handle_error = ignore_error, .drain_timeout_ms = 1);
    struct weir_server *server = NULL;
    size_t threads;
    size_t descriptors;
    int r;

    begin_threads();
    threads = entries("/proc/self/task");
    descriptors = entries("/proc/self/fd");
    plan->armed = phase == START;
    r = weir_server_create(&server, options);
    if (r == 0)
        r = weir_server_start(server);
    plan->armed = false;
    if (r < 0)
        check_reason(r);
    if (r < 0 && server)
        check_is_as_before(server);
    for (size_t i = 2; i < 4 && r == 0; i++)
        converse(server, i);
    plan->armed = phase == STOP;
    if (server && (weir_server_shutdown(server) < 0 || weir_server_close(server) < 0))
        complain("it can't be closed: %s", weir_why());
    if (weir_server_destroy(server) < 0)
        complain("it can't be destroyed: %s", weir_why());
    plan->armed = false;
    check_nothing_is_left(threads, descriptors);
}

/* More descriptors make no difference to any concurrency with one listener. */
#define DESCRIPTORS_ENOUGH 40

/* The client's socket is there before descriptors are scarce. */
static void converse_by(int client, struct weir_server *server)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    const struct timeval plenty = { .tv_sec = PLENTY_MS / 1000 };
    char uri[WEIR_ADDRESS_SIZE];
    char answer[8] = "";

    weir_server_address(server, 0, uri, sizeof(uri));
    to.sin_port = htons((in_port_t)strtoul(strrchr(uri, ':') + 1, NULL, 10));
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &plenty, sizeof(plenty));
    if (connect(client, (const struct sockaddr *)&to, sizeof(to)) < 0 ||
        send(client, "x\n", 2, MSG_NOSIGNAL) != 2 ||
        recv(client, answer, 7, MSG_WAITALL) != 7)
        complain("it has started, and does not serve");
}

/* So many may be opened from now on. Returns true if the server has started, and serves. */
static bool try_with_descriptors(enum weir_concurrency how, enum weir_dispatch dispatch,
                                 unsigned spare)
{
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct weir_server *server = NULL;
    int r;

    support_leave_descriptors(spare);
    r = weir_server_create(&server, WEIR_OPTIONS(
            .listen = "tcp://127.0.0.1:0", .handler = &handler, .concurrency = how,
            .dispatch = dispatch, .workers = how == WEIR_POOL || how == WEIR_PREFORK ? 2 : 0,
            .processes = how == WEIR_PREFORK ? 1 : 0, .handle_error = ignore_error,
            .drain_timeout_ms = 1));
    if (r == 0)
        r = weir_server_start(server);
    if (r < 0)
        check_reason(r);
    else
        converse_by(client, server);
    weir_server_destroy(server);
    return r == 0;
}

/* ------------------------------------------------------------------ all of them ------- */

static struct way {
    const char *name;
    enum weir_concurrency concurrency;
    enum weir_dispatch dispatch;
} way;

static struct support_end run_trial(void (*trial)(void))
{
    plan->armed = false;
    strcpy(plan->complaint, "it has crashed");
    return support_run_in_child(trial);
}

static void fail_once(void)
{
    alarm(TRIAL_S);
    try(way.concurrency, way.dispatch, plan->phase);
}

/* Returns true if the n-th call has been made, and so has failed. */
static bool nth_fails(enum call call, enum phase phase, int n)
{
    struct support_end end;

    plan->call = call;
    plan->left = n;
    plan->phase = phase;
    end = run_trial(fail_once);
    if (end.status != 0)
        fail_msg("%s, %s, call %d of %s: %s (status %d)\n%s", way.name, phases[phase], n,
                 faults[call].name, plan->complaint, end.status, end.said);
    return plan->left <= 0;
}

static void each_call_may_fail(enum phase phase)
{
    for (int call = 0; call < CALLS; call++) {
        int n = 1;

        while (n < CALLS_MAX && nth_fails((enum call)call, phase, n))
            n++;
        assert_true(n < CALLS_MAX);
        /* It is the engine's calls that are counted. */
        assert_true(phase == STOP || call != EVENTFD || n > 3);
    }
}

static void a_start_in_which_a_call_fails(void **state)
{
    (void)state;
    each_call_may_fail(START);
}

static void be_short_of_descriptors(void)
{
    alarm(TRIAL_S);
    if (!try_with_descriptors(way.concurrency, way.dispatch, plan->spare) &&
        plan->spare == DESCRIPTORS_ENOUGH)
        _exit(1);
}

/* Who listens serves: with too few descriptors for a single client a server says so at once. */
static void with_few_descriptors_it_does_not_start_or_serves(void **state)
{
    (void)state;
    for (plan->spare = 0; plan->spare <= DESCRIPTORS_ENOUGH; plan->spare++) {
        struct support_end end = run_trial(be_short_of_descriptors);

        if (end.status != 0)
            fail_msg("%s, %u descriptors: %s (status %d)\n%s", way.name, plan->spare,
                     plan->complaint, end.status, end.said);
    }
}

static void a_stop_in_which_a_call_fails(void **state)
{
    (void)state;
    each_call_may_fail(STOP);
}

int main(void)
{
    static const struct way ways[] = {
        { "pool", WEIR_POOL, WEIR_DISPATCH_WORKER },
        { "pool, dispatch by the acceptor", WEIR_POOL, WEIR_DISPATCH_ACCEPTOR },
        { "serial", WEIR_SERIAL, WEIR_DISPATCH_WORKER },
        { "thread", WEIR_THREAD, WEIR_DISPATCH_WORKER },
        { "fork", WEIR_FORK, WEIR_DISPATCH_WORKER },
        { "prefork", WEIR_PREFORK, WEIR_DISPATCH_WORKER },
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_in_which_a_call_fails),
        cmocka_unit_test(a_stop_in_which_a_call_fails),
        cmocka_unit_test(with_few_descriptors_it_does_not_start_or_serves),
    };
    int failed = 0;

    name_paths();
    plan = support_board(sizeof(*plan));
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        way = ways[i];
        failed += cmocka_run_group_tests_name(way.name, tests, NULL, NULL);
    }
    return failed;
}
