/* concurrency_test.c - the same handlers in a pool, one after another, on threads, in children. */
#include "tests/support.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* What handlers in children tell the test, and the test them. */
static struct board {
    _Atomic int trace_len;
    char trace[256];
    _Atomic int traced;         /* so much of it has been written */
    _Atomic int inside;         /* handlers that wait for the gate now */
    _Atomic int most_inside;
    _Atomic int passed;         /* handlers that blocked at the gate, and went on */
    _Atomic int timed;          /* calls of timers */
} *board;

static struct gate gate;        /* an eventfd: children share it */
static int private_count;       /* children do not */
static _Atomic int told_error;  /* the last that handle_error was told of */
static _Atomic int told_phase;

static enum weir_concurrency how;
static uint32_t processes;      /* of WEIR_PREFORK */

static int begin(void **state)
{
    (void)state;
    gate_init(&gate);
    memset(board, 0, sizeof(*board));
    private_count = 0;
    processes = how == WEIR_PREFORK ? 2 : 0;
    told_error = 0;
    told_phase = -1;
    return 0;
}

static int end(void **state)
{
    (void)state;
    gate_fini(&gate);
    return 0;
}

static void trace(const char *word)
{
    size_t len = strlen(word);
    int at = atomic_fetch_add(&board->trace_len, (int)len);

    if ((size_t)at + len < sizeof(board->trace))
        memcpy(board->trace + at, word, len);
    atomic_fetch_add(&board->traced, (int)len);
}

static void note_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    told_phase = failure->phase;
    told_error = failure->error;
    trace("handle_error ");
}

/* ------------------------------------------------------------------ the handler ------- */

static void count_in(void)
{
    int inside = atomic_fetch_add(&board->inside, 1) + 1;
    int most = board->most_inside;

    while (most < inside && !atomic_compare_exchange_weak(&board->most_inside, &most, inside))
        ;
}

static int wait_at_gate(struct weir_request *req)
{
    struct pollfd fd = { .fd = gate.fd, .events = POLLIN };
    int r = 0;

    count_in();
    while (r == 0 && poll(&fd, 1, 0) == 0)
        r = weir_sleep(req, 1);
    atomic_fetch_sub(&board->inside, 1);
    return r;
}

/* Until the gate is open, or the server drains. */
static int poll_gate(struct weir_request *req)
{
    struct pollfd fd = { .fd = gate.fd, .events = POLLIN };
    int r = 0;

    count_in();
    while (r == 0 && !weir_draining(req))
        r = weir_poll(req, &fd, 1, 20);
    atomic_fetch_sub(&board->inside, 1);
    return r < 0 ? r : (int)weir_printf(req, r > 0 ? "passed\n" : "drained\n");
}

/* A pair's one end, which waits to be read; the other is served, with arg. */
static int submit_with(struct weir_server *server, const char *say, void *arg)
{
    int ends[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    if (write(ends[0], say, strlen(say)) < 0 || shutdown(ends[0], SHUT_WR) < 0)
        return -errno;
    r = weir_submit(server, ends[1], NULL, arg);
    if (r == 0)
        return ends[0];
    close(ends[0]);
    close(ends[1]);
    return r;
}

static int submit(struct weir_server *server, const char *say)
{
    return submit_with(server, say, NULL);
}

static int submit_from_handler(struct weir_request *req)
{
    int r = submit(weir_request_server(req), "x\n");

    weir_printf(req, "%d\n", r < 0 ? r : 0);
    if (r >= 0)
        close(r);
    return 0;
}

static void count_timed(struct weir_request *req, void *arg)
{
    (void)req;
    (void)arg;
    atomic_fetch_add(&board->timed, 1);
}

/* One that is due, and one that the end of the server comes before. */
static int start_timers(struct weir_request *req)
{
    struct weir_server *server = weir_request_server(req);
    int r = weir_timer_after(server, 1, count_timed, NULL, NULL);
    int s = weir_timer_every(server, 60 * 60 * 1000, count_timed, NULL, NULL);

    return weir_printf(req, "%d %d\n", r, s) < 0 ? -EIO : 0;
}

static int crash(void)
{
    void *nothing = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    /* The sanitizers catch it, and exit. */
    signal(SIGSEGV, SIG_DFL);
    *(volatile char *)nothing = 1;
    return 0;
}

static int answer(struct weir_request *req, const char *line, ssize_t len)
{
    int *lines = weir_state(req);

    switch (line[0]) {
    case 'P':
        return poll_gate(req);
    case 'b':
        count_in();
        gate_pass(&gate);
        atomic_fetch_add(&board->passed, 1);
        return 0;
    case 'u':
        return submit_from_handler(req);
    case 't':
        return start_timers(req);
    case 'v':
        return crash();
    case 'V':
        signal(SIGSEGV, SIG_DFL);
        return raise(SIGSEGV);
    case 'a':
        return weir_printf(req, "%s\n", weir_arg(req) ? (const char *)weir_arg(req) : "none") < 0
            ? -EIO : 0;
    case 'p':
        return weir_printf(req, "%d\n", (int)getpid()) < 0 ? -EIO : 0;
    case 'c':
        return weir_printf(req, "%d\n", ++private_count) < 0 ? -EIO : 0;
    case 'g': {
        int r = wait_at_gate(req);

        return r < 0 ? r : (int)weir_write(req, "passed\n", 7) - 7;
    }
    case 'C':
        weir_server_cancel(weir_request_server(req));
        return 0;
    case 'q':
        return 0;
    case 'e':
        return -EPROTO;
    case 's':
        weir_printf(req, "stopped\n");
        return WEIR_STOP_SERVER;
    case 'd':
        return kill(getpid(), SIGKILL);
    case 'h':
        return weir_server_shutdown(weir_request_server(req)) == -EDEADLK &&
               weir_server_close(weir_request_server(req)) == -EDEADLK ? 0 : -EIO;
    default:
        weir_printf(req, "%d %.*s", ++*lines, (int)len, line);
        return WEIR_KEEP;
    }
}

static int handle(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    return n <= 0 ? (int)n : answer(req, line, n);
}

static const struct weir_handler lines = {
    .name = "lines", .handle = handle, .state_size = sizeof(int),
};

#define START(...) support_start(WEIR_OPTIONS( \
        .listen = "tcp://127.0.0.1:0", .handler = &lines, .concurrency = how, .workers = 2, \
        .processes = processes, .handle_error = note_error, __VA_ARGS__))
#define DEFAULTS .user = NULL

static void finish(struct weir_server *server)
{
    assert_int_equal(weir_server_shutdown(server), 0);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ under each -------- */

static void lines_are_answered_and_state_is_kept_between_them(void **state)
{
    struct weir_server *server = START(DEFAULTS);

    (void)state;
    for (int i = 0; i < 20; i++) {
        int fd = support_ask(server, 0, "x\n");

        support_expect(fd, "1 x\n");
        support_say(fd, "y\nz\n");
        support_expect(fd, "2 y\n3 z\n");
        support_half_close(fd);
        support_expect_end(fd);
        close(fd);
    }
    SUPPORT_AWAIT(server, closed, == 20);
    assert_int_equal(support_stats(server).accepted, 20);
    SUPPORT_AWAIT(server, active, == 0);
    assert_int_equal(support_stats(server).bytes_in, 20 * 6);
    assert_int_equal(support_stats(server).handle_errors, 0);
    finish(server);
}

static char *keep(char **kept, const char *text)
{
    *kept = strdup(text);
    assert_non_null(*kept);
    return *kept;
}

/* Strings and the array are overwritten once the server is created, before anybody serves. */
static void what_its_creator_named_may_go(void **state)
{
    struct weir_listen *listeners = test_calloc(2, sizeof(*listeners));
    struct weir_server *server;
    char *texts[3];

    (void)state;
    listeners[0] = listeners[1] = (struct weir_listen){
        .address = keep(&texts[0], "tcp://127.0.0.1:0"),
    };
    server = support_create(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &lines, .concurrency = how,
        .workers = 2, .processes = processes, .access = keep(&texts[1], "default allow\n"),
        .worker_cpus = keep(&texts[2], "0")));
    memset(listeners, 0x5a, 2 * sizeof(*listeners));
    test_free(listeners);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        memset(texts[i], 0x5a, strlen(texts[i]));
        free(texts[i]);
    }
    assert_int_equal(weir_server_start(server), 0);
    support_talk(server, 0, "x\ny\nh\n", "1 x\n2 y\n");
    support_talk(server, 1, "x\nh\n", "1 x\n");
    finish(server);
}

static void an_error_is_told_and_ends_only_its_own_connection(void **state)
{
    struct weir_server *server = START(DEFAULTS);

    (void)state;
    for (int i = 0; i < 3; i++)
        support_expect_last(support_ask(server, 0, "error\n"), "");
    support_talk(server, 0, "h\n", "");
    SUPPORT_AWAIT(server, handle_errors, == 3);
    finish(server);
}

static void a_silent_client_is_timed_out(void **state)
{
    struct weir_server *server = START(.read_timeout_ms = 20, .idle_timeout_ms = 30);
    uint64_t began = support_now_ms();
    int fd = support_connect(server, 0);

    (void)state;
    support_expect_end(fd);
    close(fd);
    assert_true(support_now_ms() - began >= 20);
    /* It asks while nobody is timed out: later it might be late. */
    assert_int_equal(weir_server_shutdown(server), 0);
    fd = support_ask(server, 0, "x\n");
    began = support_now_ms();
    assert_int_equal(weir_server_start(server), 0);
    support_expect(fd, "1 x\n");
    support_expect_end(fd);
    close(fd);
    assert_true(support_now_ms() - began >= 30);
    SUPPORT_AWAIT(server, timeouts, == 2);
    SUPPORT_AWAIT(server, handle_errors, == 1);
    finish(server);
}

static void a_handler_stops_the_server_from_wherever_it_runs(void **state)
{
    struct weir_server *server = START(DEFAULTS);

    (void)state;
    for (int i = 0; i < 2; i++) {
        support_expect_last(support_ask(server, 0, "stop\n"), "stopped\n");
        /* Once it has stopped it can be closed, or started again. */
        SUPPORT_UNTIL(weir_server_start(server) == 0);
    }
    support_talk(server, 0, "h\n", "");
    finish(server);
}

static void a_handler_can_not_shut_its_server_down_and_wait(void **state)
{
    struct weir_server *server = START(DEFAULTS);

    (void)state;
    support_talk(server, 0, "h\n", "");
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(support_stats(server).handle_errors, 0);
    finish(server);
}

static int traced_setup(struct weir_request *req)
{
    (void)req;
    trace("setup ");
    return 0;
}

static int traced_handle(struct weir_request *req)
{
    char *line;

    trace("handle ");
    weir_readline(req, &line, 10);
    return -EPROTO;
}

static int traced_finish(struct weir_request *req, int status)
{
    (void)req;
    (void)status;
    trace("finish ");
    return 0;
}

static int traced_verify(struct weir_server *server, const struct weir_peer *peer)
{
    (void)server;
    (void)peer;
    trace("verify ");
    return 1;
}

static void everything_is_called_in_socketservers_order(void **state)
{
    static const struct weir_handler traced = {
        .name = "traced", .setup = traced_setup, .handle = traced_handle, .finish = traced_finish,
    };
    struct weir_server *server = support_start(WEIR_OPTIONS(
            .listen = "tcp://127.0.0.1:0", .handler = &traced, .concurrency = how,
            .verify_request = traced_verify, .handle_error = note_error));
    const char *order = "verify setup handle finish handle_error ";

    (void)state;
    support_talk(server, 0, "x\n", "");
    SUPPORT_UNTIL((size_t)board->traced == strlen(order));
    assert_string_equal(board->trace, order);
    finish(server);
}

static void a_kept_connection_ends_when_the_server_does(void **state)
{
    struct weir_server *server = START(DEFAULTS);
    int fd = support_ask(server, 0, "x\n");

    (void)state;
    support_expect(fd, "1 x\n");
    finish(server);
    support_expect_end(fd);
    close(fd);
}

static void nothing_is_left_open_behind_a_server(void **state)
{
    size_t before = support_open_descriptors();
    struct weir_server *server = START(DEFAULTS);

    (void)state;
    for (int i = 0; i < 5; i++)
        support_expect_last(support_ask(server, 0, "error\n"), "");
    finish(server);
    assert_int_equal(support_open_descriptors(), before);
}

static void a_client_may_come_again_as_soon_as_it_sees_the_end(void **state)
{
    struct weir_server *server = START(.max_per_address = 1);

    (void)state;
    for (int i = 0; i < 50; i++)
        support_expect_last(support_ask(server, 0, "q\n"), "");
    assert_int_equal(support_stats(server).refused, 0);
    finish(server);
}

static void a_connection_of_ones_own_is_served_like_any_other(void **state)
{
    struct weir_server *server = START(.max_per_address = 1);
    int fd;

    (void)state;
    for (int i = 0; i < 3; i++) {
        fd = submit(server, "x\n");
        assert_true(fd >= 0);
        support_expect_last(fd, "1 x\n");
    }
    SUPPORT_AWAIT(server, closed, == 3);
    assert_int_equal(support_stats(server).accepted, 3);
    finish(server);
}

static void what_is_submitted_comes_with_its_argument(void **state)
{
    static char arg[] = "for the handler";
    struct weir_server *server = START(DEFAULTS);

    (void)state;
    support_talk(server, 0, "a\n", "none\n");
    support_expect_last(submit_with(server, "a\n", arg), "for the handler\n");
    support_expect_last(submit_with(server, "a\n", NULL), "none\n");
    SUPPORT_AWAIT(server, closed, == 3);
    finish(server);
}

static void a_handler_submits_where_another_can_serve_it(void **state)
{
    bool may = how != WEIR_SERIAL && how != WEIR_FORK;
    struct weir_server *server = START(DEFAULTS);
    char expected[16];

    (void)state;
    snprintf(expected, sizeof(expected), "%d\n", may ? 0 : -EDEADLK);
    support_talk(server, 0, "u\n", expected);
    SUPPORT_AWAIT(server, closed, == (may ? 2 : 1));
    finish(server);
}

static void timers_call_where_there_are_fibers(void **state)
{
    bool may = how == WEIR_POOL || how == WEIR_PREFORK;
    struct weir_server *server = START(DEFAULTS);
    char expected[32];

    (void)state;
    snprintf(expected, sizeof(expected), "%d %d\n", may ? 0 : -EOPNOTSUPP,
             may ? 0 : -EOPNOTSUPP);
    support_talk(server, 0, "t\n", expected);
    SUPPORT_UNTIL(board->timed == (may ? 1 : 0));
    finish(server);
    assert_int_equal(board->timed, may ? 1 : 0);
}

static void clients_are_served_one_by_one_on_request(void **state)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(
            .listen = "tcp://127.0.0.1:0", .handler = &lines, .concurrency = how, .workers = 2,
            .timeout_ms = 10));
    int fds[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        fds[i] = support_ask(server, 0, "x\n");
        support_half_close(fds[i]);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(weir_handle_request(server), 1);
        support_expect_last(fds[i], "1 x\n");
        assert_int_equal(support_stats(server).accepted, i + 1);
    }
    SUPPORT_UNTIL(weir_handle_request(server) == 0 && support_stats(server).active == 0);
    assert_int_equal(support_stats(server).closed, 3);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ at once ----------- */

static void an_address_has_so_many_connections_and_no_more(void **state)
{
    struct weir_server *server;
    int first;
    int second;

    (void)state;
    /* Each process counts for itself. */
    processes = how == WEIR_PREFORK ? 1 : 0;
    server = START(.max_per_address = 2);
    first = support_ask(server, 0, "gate\n");
    second = support_ask(server, 0, "gate\n");
    SUPPORT_UNTIL(board->inside == 2);
    support_expect_last(support_connect(server, 0), "");
    SUPPORT_AWAIT(server, refused, == 1);
    gate_open(&gate);
    support_expect_last(first, "passed\n");
    support_expect_last(second, "passed\n");
    support_talk(server, 0, "x\n", "1 x\n");
    assert_int_equal(support_stats(server).refused, 1);
    finish(server);
}

static void what_is_submitted_beyond_the_limit_stays_its_owners(void **state)
{
    struct weir_server *server = START(.max_connections = 1);
    int fd = support_ask(server, 0, "gate\n");

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    /* A child may be ahead of the parent that counts it. */
    SUPPORT_AWAIT(server, active, == 1);
    assert_int_equal(submit(server, "x\n"), -EAGAIN);
    gate_open(&gate);
    support_expect_last(fd, "passed\n");
    SUPPORT_UNTIL((fd = submit(server, "x\n")) >= 0);
    support_expect_last(fd, "1 x\n");
    finish(server);
}

static void a_handler_cancels_everybodys_wait(void **state)
{
    struct weir_server *server = START(DEFAULTS);
    int fds[4];

    (void)state;
    support_come_to_gate(server, fds, 4);
    SUPPORT_UNTIL(board->inside == 4);
    support_expect_last(support_ask(server, 0, "Cancel\n"), "");
    for (int i = 0; i < 4; i++)
        support_expect_last(fds[i], "");
    SUPPORT_AWAIT(server, cancelled, == 4);
    finish(server);
}

static void a_handler_that_polls_sees_what_is_ready_and_the_end(void **state)
{
    struct weir_server *server = START(DEFAULTS);
    int fd = support_ask(server, 0, "Poll\n");

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_close(server), 0);
    support_expect_last(fd, "drained\n");
    weir_server_destroy(server);

    server = START(DEFAULTS);
    fd = support_ask(server, 0, "Poll\n");
    SUPPORT_UNTIL(board->inside == 1);
    weir_server_cancel(server);
    support_expect_last(fd, "");
    SUPPORT_AWAIT(server, cancelled, == 1);
    finish(server);

    server = START(DEFAULTS);
    fd = support_ask(server, 0, "Poll\n");
    SUPPORT_UNTIL(board->inside == 1);
    gate_open(&gate);
    support_expect_last(fd, "passed\n");
    finish(server);
}

static void handlers_run_side_by_side(void **state)
{
    struct weir_server *server = START(DEFAULTS);
    int fds[5];

    (void)state;
    support_come_to_gate(server, fds, 5);
    SUPPORT_UNTIL(board->inside == 5);
    SUPPORT_AWAIT(server, active, == 5);
    support_pass_gate(&gate, fds, 5);
    finish(server);
}

static void *shut_down(void *server)
{
    weir_server_shutdown(server);
    return NULL;
}

static void a_serial_server_serves_one_after_another(void **state)
{
    struct weir_server *server = START(DEFAULTS);
    int first = support_ask(server, 0, "gate\n");
    int second;

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    second = support_ask(server, 0, "gate\n");
    gate_open(&gate);
    support_expect_last(first, "passed\n");
    support_expect_last(second, "passed\n");
    assert_int_equal(board->most_inside, 1);
    finish(server);
}

static void what_is_ready_when_a_serial_server_is_stopped_waits(void **state)
{
    struct weir_server *server = START(DEFAULTS);
    int first = support_ask(server, 0, "gate\n");
    int second = support_ask(server, 0, "x\n");
    pthread_t thread;

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    weir_server_stop(server);
    assert_int_equal(pthread_create(&thread, NULL, shut_down, server), 0);
    gate_open(&gate);
    support_expect_last(first, "passed\n");
    pthread_join(thread, NULL);
    assert_int_equal(support_stats(server).accepted, 1);
    assert_int_equal(weir_server_start(server), 0);
    support_expect(second, "1 x\n");
    finish(server);
    close(second);
}

static void close_waits_for_handlers_unless_told_not_to(void **state)
{
    struct weir_server *server = START(.drain_timeout_ms = 50);
    int fd = support_ask(server, 0, "gate\n");

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    weir_server_shutdown(server);
    /* The drain's timeout cancels the handler, which closes. */
    assert_int_equal(weir_server_close(server), 0);
    assert_int_equal(support_stats(server).active, 0);
    assert_int_equal(support_stats(server).cancelled, 1);
    support_expect_end(fd);
    close(fd);
    weir_server_destroy(server);

    server = START(.block_on_close = WEIR_NO);
    fd = support_ask(server, 0, "gate\n");
    SUPPORT_UNTIL(board->inside == 1);
    weir_server_shutdown(server);
    assert_int_equal(weir_server_close(server), 0);
    assert_int_equal(board->inside, 1);
    gate_open(&gate);
    weir_server_destroy(server);
    support_expect_last(fd, "passed\n");
}

static bool has_children(void)
{
    siginfo_t info;

    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static void daemon_handlers_are_cancelled(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = START(.daemon_threads = true);
    fd = support_ask(server, 0, "gate\n");
    SUPPORT_UNTIL(board->inside == 1);
    weir_server_shutdown(server);
    assert_int_equal(weir_server_close(server), 0);
    support_expect_end(fd);
    close(fd);
    SUPPORT_AWAIT(server, cancelled, == 1);
    SUPPORT_AWAIT(server, active, <= 1);
    weir_server_destroy(server);
    /* Somebody stays behind to wait for a child. */
    SUPPORT_UNTIL(!has_children());
}

static void at_the_limit_accepting_waits_and_shutdown_does_not(void **state)
{
    struct weir_server *server = START(.max_connections = 2);
    int fds[5];

    (void)state;
    support_come_to_gate(server, fds, 5);
    SUPPORT_UNTIL(board->inside == 2);
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_start(server), 0);
    support_pass_gate(&gate, fds, 5);
    assert_int_equal(board->most_inside, 2);
    finish(server);
}

/* ------------------------------------------------------------------ a program's end --- */

/* A program whose main returns while its one handler blocks: how many had passed the gate then. */
static pid_t start_program(bool daemon_threads)
{
    struct weir_server *server;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid != 0)
        return pid;
    server = START(.daemon_threads = daemon_threads);
    support_ask(server, 0, "block\n");
    SUPPORT_UNTIL(board->inside == 1);
    weir_server_shutdown(server);
    weir_server_destroy(server);
    _exit(board->passed);
}

static int end_of_program(pid_t pid)
{
    int status = -1;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_program_that_destroys_its_server_waits_for_its_handlers(void **state)
{
    pid_t pid = start_program(false);

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    gate_open(&gate);
    assert_int_equal(end_of_program(pid), 1);
}

static void a_program_takes_its_daemon_handlers_with_it(void **state)
{
    pid_t pid = start_program(true);

    (void)state;
    assert_int_equal(end_of_program(pid), 0);
}

/* ------------------------------------------------------------------ threads ----------- */

static void a_thousand_threads_leave_nothing_behind(void **state)
{
    struct weir_server *server = START(DEFAULTS);

    (void)state;
    for (int i = 0; i < 1000; i++)
        support_talk(server, 0, "error\n", "");
    SUPPORT_AWAIT(server, closed, == 1000);
    SUPPORT_AWAIT(server, workers, == 0);
    finish(server);
}

/* ------------------------------------------------------------------ children ---------- */

static int number(struct weir_server *server, const char *question)
{
    char text[32] = "";
    int fd = support_ask(server, 0, question);

    support_read_all(fd, text, sizeof(text) - 1);
    close(fd);
    return atoi(text);
}

static void a_child_is_another_process_with_memory_of_its_own(void **state)
{
    struct weir_server *server = START(DEFAULTS);
    int first = number(server, "pid\n");
    int second = number(server, "pid\n");

    (void)state;
    assert_true(first > 0 && first != getpid());
    assert_true(second > 0 && second != getpid() && second != first);
    assert_int_equal(number(server, "count\n"), 1);
    assert_int_equal(number(server, "count\n"), 1);
    assert_int_equal(private_count, 0);
    finish(server);
}

static void more_than_max_children_wait_their_turn(void **state)
{
    struct weir_server *server = START(.max_children = 2);
    int fds[5];

    (void)state;
    support_come_to_gate(server, fds, 5);
    SUPPORT_UNTIL(board->inside == 2);
    SUPPORT_AWAIT(server, workers, == 2);
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_start(server), 0);
    support_pass_gate(&gate, fds, 5);
    assert_int_equal(board->most_inside, 2);
    SUPPORT_AWAIT(server, workers, == 0);
    finish(server);
}

static void close_reaps_every_child_and_no_foreign_one(void **state)
{
    struct weir_server *server;
    pid_t foreign = fork();
    int status;

    (void)state;
    if (foreign == 0)
        _exit(7);
    server = START(DEFAULTS);
    for (int i = 0; i < 10; i++)
        support_talk(server, 0, "error\n", "");
    finish(server);
    assert_int_equal(waitpid(-1, &status, 0), foreign);
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_int_equal(waitpid(-1, &status, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* By the signal of that number; what it was asked is how. */
static void expect_crash(struct weir_server *server, const char *ask, int number)
{
    struct capture capture;
    char expected[64];
    char text[256];

    snprintf(expected, sizeof(expected), "was ended by signal %d\n", number);
    told_error = 0;
    capture_begin(&capture);
    support_talk(server, 0, ask, "");
    SUPPORT_UNTIL(told_error == -ECHILD);
    capture_end(&capture, text, sizeof(text));
    assert_non_null(strstr(text, expected));
    assert_int_equal(told_phase, WEIR_PHASE_PROCESS);
}

static void a_crashing_child_harms_nobody(void **state)
{
    struct weir_server *server = START(DEFAULTS);
    int other = support_ask(server, 0, "gate\n");

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    expect_crash(server, "die\n", SIGKILL);
    expect_crash(server, "violate\n", SIGSEGV);
    SUPPORT_AWAIT(server, closed, == 2);
    gate_open(&gate);
    support_expect_last(other, "passed\n");
    finish(server);
}

static void a_child_takes_the_signals_that_its_servers_starter_takes(void **state)
{
    struct weir_server *server = START(DEFAULTS);

    (void)state;
    /* Raised, it waits where it is blocked. */
    expect_crash(server, "V\n", SIGSEGV);
    finish(server);
}

static void a_daemon_child_outlives_its_program(void **state)
{
    pid_t pid = start_program(true);

    (void)state;
    assert_int_equal(end_of_program(pid), 0);
    gate_open(&gate);
    SUPPORT_UNTIL(board->passed == 1);
}

/* How the child ended that ends next: its status, or the signal, negative. */
static int end_of_child(void)
{
    const struct timespec plenty = { .tv_sec = PLENTY_MS / 1000 };
    siginfo_t info;
    sigset_t sigchld;

    sigemptyset(&sigchld);
    sigaddset(&sigchld, SIGCHLD);
    assert_int_equal(sigtimedwait(&sigchld, &info, &plenty), SIGCHLD);
    return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

static void forget_ended_children(void)
{
    const struct timespec now = { 0 };
    sigset_t sigchld;

    sigemptyset(&sigchld);
    sigaddset(&sigchld, SIGCHLD);
    while (sigtimedwait(&sigchld, NULL, &now) == SIGCHLD)
        ;
}

static void a_childs_exit_status_says_whether_it_failed(void **state)
{
    struct weir_server *server = START(DEFAULTS);

    (void)state;
    forget_ended_children();
    support_talk(server, 0, "quit\n", "");
    assert_int_equal(end_of_child(), 0);
    support_talk(server, 0, "error\n", "");
    assert_int_equal(end_of_child(), 1);
    support_talk(server, 0, "x\n", "1 x\n");
    assert_int_equal(end_of_child(), 0);
    support_talk(server, 0, "die\n", "");
    assert_int_equal(end_of_child(), -SIGKILL);
    finish(server);
}

static void many_children_leave_nothing_behind(void **state)
{
    struct weir_server *server = START(.max_children = 4);

    (void)state;
    for (int i = 0; i < 300; i++)
        support_talk(server, 0, "error\n", "");
    SUPPORT_AWAIT(server, closed, == 300);
    SUPPORT_AWAIT(server, workers, == 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    finish(server);
}

/* ------------------------------------------------------------------ the limit --------- */

/* The system's limit is for all threads and processes of a user, and root has none. */
#define ANOTHER_USER 54321

static struct rlimit take_all_processes(void)
{
    struct rlimit before;
    struct rlimit tight;

    assert_int_equal(getrlimit(RLIMIT_NPROC, &before), 0);
    tight = before;
    tight.rlim_cur = 1;
    assert_int_equal(setrlimit(RLIMIT_NPROC, &tight), 0);
    return before;
}

static void clients_for_whom_nobody_can_be_had_wait(void **state)
{
    struct weir_server *server;
    struct capture capture;
    struct rlimit before;
    char text[1000];
    int clients[5];

    (void)state;
    capture_begin(&capture);
    server = START(DEFAULTS);
    before = take_all_processes();
    for (int i = 0; i < 5; i++)
        clients[i] = support_ask(server, 0, "x\n");
    /* It has tried again and again. */
    SUPPORT_AWAIT(server, accept_errors, >= 3);
    assert_int_equal(support_stats(server).accepted, 1);
    assert_int_equal(submit(server, "x\n"), -EAGAIN);
    SUPPORT_AWAIT(server, active, == 0);
    setrlimit(RLIMIT_NPROC, &before);
    for (int i = 0; i < 5; i++) {
        support_half_close(clients[i]);
        support_expect_last(clients[i], "1 x\n");
    }
    assert_int_equal(support_stats(server).refused, 0);
    assert_int_equal(told_error, 0);
    finish(server);
    capture_end(&capture, text, sizeof(text));
    assert_non_null(strstr(text, "RLIMIT_NPROC"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void one_who_waits_for_somebody_is_let_go_at_the_end(void **state)
{
    struct weir_server *server = START(DEFAULTS);
    struct rlimit before = take_all_processes();
    int client = support_ask(server, 0, "x\n");

    (void)state;
    SUPPORT_AWAIT(server, accept_errors, >= 1);
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(support_stats(server).refused, 0);
    finish(server);
    support_expect_last(client, "");
    assert_int_equal(told_error, -EAGAIN);
    setrlimit(RLIMIT_NPROC, &before);
}

static void one_who_is_served_on_request_too(void **state)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(
            .listen = "tcp://127.0.0.1:0", .handler = &lines, .concurrency = how,
            .handle_error = note_error));
    int begins = support_ask(server, 0, "x\n");
    int first = support_ask(server, 0, "x\n");
    int second = support_ask(server, 0, "x\n");
    struct rlimit before;

    (void)state;
    support_half_close(begins);
    assert_int_equal(weir_handle_request(server), 1);
    support_expect_last(begins, "1 x\n");
    before = take_all_processes();
    support_half_close(second);
    assert_int_equal(weir_handle_request(server), 1);
    support_expect_last(first, "");
    assert_int_equal(told_error, -EAGAIN);
    setrlimit(RLIMIT_NPROC, &before);
    assert_int_equal(weir_handle_request(server), 1);
    support_expect_last(second, "1 x\n");
    weir_server_destroy(server);
}

static void one_who_is_held_keeps_its_place_and_is_the_first_on_request(void **state)
{
    struct weir_server *server = START(.max_connections = 1);
    struct rlimit before = take_all_processes();
    int held = support_ask(server, 0, "x\n");
    int next;

    (void)state;
    SUPPORT_AWAIT(server, accept_errors, >= 1);
    assert_int_equal(weir_server_shutdown(server), 0);
    setrlimit(RLIMIT_NPROC, &before);
    assert_int_equal(submit(server, "x\n"), -EAGAIN);
    next = support_ask(server, 0, "x\n");
    assert_int_equal(weir_handle_request(server), 1);
    support_half_close(held);
    support_expect_last(held, "1 x\n");
    support_half_close(next);
    assert_int_equal(weir_handle_request(server), 1);
    support_expect_last(next, "1 x\n");
    finish(server);
}

static void a_server_that_can_have_nobody_to_serve_does_not_start(void **state)
{
    struct rlimit before;
    struct weir_server *server = support_create(WEIR_OPTIONS(
            .listen = "tcp://127.0.0.1:0", .handler = &lines, .concurrency = how));

    (void)state;
    before = take_all_processes();
    assert_int_equal(weir_server_start(server), -EAGAIN);
    if (how == WEIR_POOL) {
        assert_int_equal(weir_handle_request(server), -EAGAIN);
        assert_int_equal(submit(server, "x\n"), -EAGAIN);
    }
    setrlimit(RLIMIT_NPROC, &before);
    assert_int_equal(weir_server_start(server), 0);
    support_talk(server, 0, "x\n", "1 x\n");
    finish(server);
}

static void a_child_that_can_not_be_replaced_is_replaced_later(void **state)
{
    struct rlimit before;
    struct weir_server *server;

    (void)state;
    processes = 1;
    server = START(DEFAULTS);
    before = take_all_processes();
    support_talk(server, 0, "die\n", "");
    SUPPORT_UNTIL(told_error == -EAGAIN);
    assert_int_equal(told_phase, WEIR_PHASE_PROCESS);
    assert_int_equal(support_stats(server).workers, 0);
    setrlimit(RLIMIT_NPROC, &before);
    support_talk(server, 0, "x\n", "1 x\n");
    finish(server);
}

/* ------------------------------------------------------------------ main -------------- */

#define TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)
#define UNDER_EACH \
        TEST(lines_are_answered_and_state_is_kept_between_them), \
        TEST(what_its_creator_named_may_go), \
        TEST(an_error_is_told_and_ends_only_its_own_connection), \
        TEST(a_silent_client_is_timed_out), \
        TEST(a_handler_stops_the_server_from_wherever_it_runs), \
        TEST(a_handler_can_not_shut_its_server_down_and_wait), \
        TEST(everything_is_called_in_socketservers_order), \
        TEST(a_kept_connection_ends_when_the_server_does), \
        TEST(nothing_is_left_open_behind_a_server), \
        TEST(a_client_may_come_again_as_soon_as_it_sees_the_end), \
        TEST(a_handler_submits_where_another_can_serve_it), \
        TEST(timers_call_where_there_are_fibers)
#define ACCEPTING \
        TEST(a_connection_of_ones_own_is_served_like_any_other), \
        TEST(what_is_submitted_comes_with_its_argument), \
        TEST(clients_are_served_one_by_one_on_request)
#define SIDE_BY_SIDE \
        TEST(handlers_run_side_by_side), \
        TEST(close_waits_for_handlers_unless_told_not_to), \
        TEST(daemon_handlers_are_cancelled), \
        TEST(an_address_has_so_many_connections_and_no_more), \
        TEST(a_handler_cancels_everybodys_wait), \
        TEST(a_handler_that_polls_sees_what_is_ready_and_the_end)
#define LIMITED \
        TEST(what_is_submitted_beyond_the_limit_stays_its_owners), \
        TEST(at_the_limit_accepting_waits_and_shutdown_does_not)

/* In a process of its own, which becomes another user's. */
static int run_at_the_limit(void)
{
    const struct CMUnitTest tests[] = {
        TEST(clients_for_whom_nobody_can_be_had_wait),
        TEST(one_who_waits_for_somebody_is_let_go_at_the_end),
        TEST(one_who_is_served_on_request_too),
        TEST(one_who_is_held_keeps_its_place_and_is_the_first_on_request),
    };
    const struct CMUnitTest prefork[] = {
        TEST(a_child_that_can_not_be_replaced_is_replaced_later),
        TEST(a_server_that_can_have_nobody_to_serve_does_not_start),
    };
    const struct CMUnitTest pool[] = {
        TEST(a_server_that_can_have_nobody_to_serve_does_not_start),
    };
    int status = -1;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        int failed = geteuid() == 0 && setuid(ANOTHER_USER) < 0;

        how = WEIR_PREFORK;
        failed += cmocka_run_group_tests_name("prefork, at the limit", prefork, NULL, NULL);
        how = WEIR_POOL;
        failed += cmocka_run_group_tests_name("pool, at the limit", pool, NULL, NULL);
        how = WEIR_FORK;
        failed += cmocka_run_group_tests_name("fork, at the limit", tests, NULL, NULL);
        how = WEIR_THREAD;
        failed += cmocka_run_group_tests_name("thread, at the limit", tests, NULL, NULL);
        fflush(NULL);
        _exit(failed);
    }
    waitpid(pid, &status, 0);
    return status != 0;
}

static int run_programs(void)
{
    const struct CMUnitTest threads[] = {
        TEST(a_program_that_destroys_its_server_waits_for_its_handlers),
        TEST(a_program_takes_its_daemon_handlers_with_it),
    };
    const struct CMUnitTest children[] = {
        TEST(a_program_that_destroys_its_server_waits_for_its_handlers),
        TEST(a_daemon_child_outlives_its_program),
    };
    int failed;

    how = WEIR_PREFORK;
    failed = cmocka_run_group_tests_name("prefork, a program's end", threads, NULL, NULL);
    how = WEIR_POOL;
    failed += cmocka_run_group_tests_name("pool, a program's end", threads, NULL, NULL);
    how = WEIR_THREAD;
    failed += cmocka_run_group_tests_name("thread, a program's end", threads, NULL, NULL);
    how = WEIR_FORK;
    return failed + cmocka_run_group_tests_name("fork, a program's end", children, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest pool[] = { UNDER_EACH, ACCEPTING, SIDE_BY_SIDE, LIMITED };
    const struct CMUnitTest serial[] = {
        UNDER_EACH, ACCEPTING,
        TEST(a_serial_server_serves_one_after_another),
        TEST(what_is_ready_when_a_serial_server_is_stopped_waits),
    };
    const struct CMUnitTest threads[] = {
        UNDER_EACH, ACCEPTING, SIDE_BY_SIDE, LIMITED,
        TEST(a_thousand_threads_leave_nothing_behind),
    };
    const struct CMUnitTest children[] = {
        UNDER_EACH, ACCEPTING, SIDE_BY_SIDE, LIMITED,
        TEST(a_child_is_another_process_with_memory_of_its_own),
        TEST(more_than_max_children_wait_their_turn),
        TEST(close_reaps_every_child_and_no_foreign_one),
        TEST(a_crashing_child_harms_nobody),
        TEST(a_child_takes_the_signals_that_its_servers_starter_takes),
        TEST(a_childs_exit_status_says_whether_it_failed),
        TEST(many_children_leave_nothing_behind),
    };
    const struct CMUnitTest prefork[] = {
        UNDER_EACH, SIDE_BY_SIDE,
        TEST(close_reaps_every_child_and_no_foreign_one),
    };
    int failed;

    board = support_board(sizeof(*board));
    failed = run_at_the_limit() + run_programs();
    how = WEIR_FORK;
    failed += cmocka_run_group_tests_name("fork", children, NULL, NULL);
    how = WEIR_PREFORK;
    failed += cmocka_run_group_tests_name("prefork", prefork, NULL, NULL);
    how = WEIR_SERIAL;
    failed += cmocka_run_group_tests_name("serial", serial, NULL, NULL);
    how = WEIR_THREAD;
    failed += cmocka_run_group_tests_name("thread", threads, NULL, NULL);
    how = WEIR_POOL;
    failed += cmocka_run_group_tests_name("pool", pool, NULL, NULL);
    return failed;
}
