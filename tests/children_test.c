/*
 * children_test.c - children in adverse circumstances: no descriptor for one, ends that leave
 * nothing to be reaped, no pidfd_open(2), children that are stopped, that block, that can't start.
 */
#include "tests/support.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLIENTS 8

/* So long a server waits for children that it has cancelled. */
#define CANCELLED_MS 2000

/* What handlers in children tell the test. */
static struct board {
    _Atomic int inside;             /* handlers that are at the gate now */
    _Atomic pid_t pid;              /* the last of them is in this process */
} *board;

static struct gate gate;            /* an eventfd: children share it */
static enum weir_concurrency how;
static _Atomic int errors;          /* how often handle_error was told of something ... */
static _Atomic int last_error;      /* ... and of what */

static int begin(void **state)
{
    (void)state;
    gate_init(&gate);
    memset(board, 0, sizeof(*board));
    errors = 0;
    last_error = 0;
    return 0;
}

static int end(void **state)
{
    (void)state;
    gate_fini(&gate);
    return 0;
}

static void note_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    last_error = failure->error;
    errors++;
}

static int handle(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    if (line[0] == 'd')
        return kill(getpid(), SIGKILL);
    if (line[0] == 'g') {
        board->pid = getpid();
        board->inside++;
        gate_pass(&gate);
        board->inside--;
    }
    weir_printf(req, "answer\n");
    return 0;
}

static const struct weir_handler handler = {
    .name = "children", .handle = handle, .stack = WEIR_STACK_THREAD,
};

#define OPTIONS(...) WEIR_OPTIONS( \
        .listen = "tcp://127.0.0.1:0", .handler = &handler, .concurrency = how, .workers = 2, \
        .processes = how == WEIR_PREFORK ? 1 : 0, .handle_error = note_error, __VA_ARGS__)

static void finish(struct weir_server *server)
{
    assert_int_equal(weir_server_shutdown(server), 0);
    weir_server_destroy(server);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* ------------------------------------------------------------------ no descriptor ----- */

static void without_descriptors_for_children_clients_wait(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.max_children = CLIENTS));
    struct capture capture;
    struct rlimit before;
    char text[400];
    int fds[CLIENTS];

    (void)state;
    for (int i = 0; i < CLIENTS; i++)
        fds[i] = support_ask(server, 0, "gate\n");
    capture_begin(&capture);
    before = support_leave_descriptors(5);
    assert_int_equal(weir_server_start(server), 0);
    SUPPORT_UNTIL(board->inside >= 2);
    SUPPORT_AWAIT(server, accept_errors, >= 3);
    assert_true(board->inside < CLIENTS);
    assert_int_equal(board->inside, support_stats(server).workers);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    gate_open(&gate);
    for (int i = 0; i < CLIENTS; i++)
        support_expect_last(fds[i], "answer\n");
    assert_int_equal(errors, 0);
    assert_int_equal(support_stats(server).refused, 0);
    finish(server);
    capture_end(&capture, text, sizeof(text));
    assert_non_null(strstr(text, "accepting pauses"));
}

/* ------------------------------------------------------------------ unseen ends ------- */

static void serve_some(struct weir_server *server, int clients)
{
    for (int i = 0; i < clients; i++)
        support_talk(server, 0, "x\n", "answer\n");
    SUPPORT_AWAIT(server, closed, == (uint64_t)clients);
    assert_int_equal(support_stats(server).refused, 0);
    assert_int_equal(errors, 0);
}

static void serve_and_bury(void)
{
    struct weir_server *server = support_start(OPTIONS(.user = NULL));
    struct capture capture;
    char text[300];

    serve_some(server, 60);
    capture_begin(&capture);
    support_talk(server, 0, "die\n", "");
    SUPPORT_UNTIL(errors == 1);
    capture_end(&capture, text, sizeof(text));
    assert_int_equal(last_error, -ECHILD);
    support_talk(server, 0, "x\n", "answer\n");
    /* What a child has not told takes it along, where it tells only when asked. */
    if (how == WEIR_FORK)
        SUPPORT_AWAIT(server, closed, == 62);
    finish(server);
}

static void serve_under(const struct sigaction *sigchld)
{
    struct sigaction before;

    assert_int_equal(sigaction(SIGCHLD, sigchld, &before), 0);
    serve_and_bury();
    assert_int_equal(sigaction(SIGCHLD, &before, NULL), 0);
}

static void children_may_end_without_a_trace(void **state)
{
    (void)state;
    serve_under(&(const struct sigaction){ .sa_handler = SIG_IGN });
    begin(state);
    serve_under(&(const struct sigaction){ .sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT });
}

static _Atomic bool enough;

static void *reap_whoever_ends(void *nothing)
{
    while (!enough)
        waitpid(-1, NULL, WNOHANG);
    return nothing;
}

static void children_may_be_reaped_by_the_program(void **state)
{
    pthread_t thief;

    (void)state;
    enough = false;
    assert_int_equal(pthread_create(&thief, NULL, reap_whoever_ends, NULL), 0);
    serve_and_bury();
    enough = true;
    pthread_join(thief, NULL);
}

/* ------------------------------------------------------------------ no pidfd_open(2) -- */

/* From now on, in this process and its children. */
static void refuse_pidfd_open(int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {
        .len = sizeof(filter) / sizeof(filter[0]), .filter = filter,
    };

    assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void without_pidfd_open_children_are_looked_after(void **state)
{
    (void)state;
    serve_and_bury();
}

static void without_pidfd_open_nobody_is_forked_beforehand(void **state)
{
    struct weir_server *server;

    (void)state;
    assert_true(weir_server_create(&server, OPTIONS(.user = NULL)) < 0);
    assert_non_null(strstr(weir_why(), "pidfd_open"));
    assert_non_null(strstr(weir_why(), "5.3"));
}

/* ------------------------------------------------------------------ who does not end -- */

static void close_while_one_does_not_end(struct weir_server *server)
{
    struct capture capture;
    char expected[64];
    char text[600];

    snprintf(expected, sizeof(expected), "weir: child %d ", (int)board->pid);
    capture_begin(&capture);
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_close(server), 0);
    weir_server_destroy(server);
    capture_end(&capture, text, sizeof(text));
    assert_non_null(strstr(text, expected));
    assert_non_null(strstr(text, "is killed"));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void who_blocks_is_killed_after_the_drain(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.drain_timeout_ms = 1));
    int fd = support_ask(server, 0, "gate\n");

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    close_while_one_does_not_end(server);
    support_expect_last(fd, "");
}

static void who_is_stopped_is_killed_after_the_drain(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.drain_timeout_ms = 1));
    int fd = support_ask(server, 0, "gate\n");

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    assert_int_equal(kill(board->pid, SIGSTOP), 0);
    close_while_one_does_not_end(server);
    support_expect_last(fd, "");
}

static void who_blocks_is_killed_once_cancelled(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.user = NULL));
    int fd = support_ask(server, 0, "gate\n");

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    weir_server_cancel(server);
    close_while_one_does_not_end(server);
    support_expect_last(fd, "");
}

/* The next wait of so many milliseconds at most is over before the child ends, and is told late. */
static _Atomic int held_ms;

static bool is_to_be_held(int timeout_ms)
{
    return held_ms > 0 && timeout_ms > 0 && timeout_ms <= held_ms && getpid() != board->pid;
}

int __real_poll(struct pollfd *fds, nfds_t len, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t len, int timeout_ms);

int __wrap_poll(struct pollfd *fds, nfds_t len, int timeout_ms)
{
    siginfo_t ended;

    if (!is_to_be_held(timeout_ms))
        return __real_poll(fds, len, timeout_ms);
    for (nfds_t i = 0; i < len; i++)
        fds[i].revents = 0;
    __real_poll(NULL, 0, held_ms + 1);
    held_ms = 0;
    gate_open(&gate);
    waitid(P_PID, (id_t)board->pid, &ended, WEXITED | WNOWAIT);
    return 0;
}

/* The server is held, with its whole process, say, while its time to wait for the child passes. */
static void who_has_ended_is_not_killed_however_late_the_server_looks(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.user = NULL));
    int fd = support_ask(server, 0, "gate\n");
    struct capture capture;
    char text[600];

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    weir_server_cancel(server);
    assert_int_equal(weir_server_shutdown(server), 0);
    capture_begin(&capture);
    held_ms = CANCELLED_MS;
    assert_int_equal(weir_server_close(server), 0);
    assert_int_equal(held_ms, 0);
    weir_server_destroy(server);
    capture_end(&capture, text, sizeof(text));
    assert_null(strstr(text, "is killed"));
    close(fd);
}

/* ------------------------------------------------------------------ who can't start --- */

static void if_none_can_start_the_server_does_not(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.user = NULL));
    struct rlimit before = support_leave_descriptors(4);

    (void)state;
    assert_int_equal(weir_server_start(server), -EMFILE);
    assert_non_null(strstr(weir_why(), "ulimit -n"));
    assert_int_equal(support_stats(server).workers, 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errors, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(weir_server_start(server), 0);
    support_talk(server, 0, "x\n", "answer\n");
    finish(server);
}

static void who_can_not_start_later_says_why(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.user = NULL));
    int fd = support_ask(server, 0, "die\n");
    struct capture capture;
    struct rlimit before;
    char text[300];

    (void)state;
    capture_begin(&capture);
    before = support_leave_descriptors(4);
    support_expect_last(fd, "");
    SUPPORT_UNTIL(last_error == -EMFILE);
    capture_end(&capture, text, sizeof(text));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    support_talk(server, 0, "x\n", "answer\n");
    finish(server);
}

/* ------------------------------------------------------------------ main -------------- */

#define TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)
#define UNDER_BOTH \
        TEST(children_may_end_without_a_trace), \
        TEST(children_may_be_reaped_by_the_program), \
        TEST(who_blocks_is_killed_after_the_drain), \
        TEST(who_is_stopped_is_killed_after_the_drain), \
        TEST(who_blocks_is_killed_once_cancelled), \
        TEST(who_has_ended_is_not_killed_however_late_the_server_looks)

/* In a process of its own. */
static int run_without_pidfd_open(int error)
{
    const struct CMUnitTest children[] = {
        TEST(without_pidfd_open_children_are_looked_after),
        TEST(children_may_end_without_a_trace),
        TEST(children_may_be_reaped_by_the_program),
    };
    const struct CMUnitTest stopped[] = {
        TEST(who_is_stopped_is_killed_after_the_drain),
    };
    const struct CMUnitTest prefork[] = {
        TEST(without_pidfd_open_nobody_is_forked_beforehand),
    };
    int status = -1;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        int failed;

        refuse_pidfd_open(error);
        how = WEIR_FORK;
        failed = cmocka_run_group_tests_name("fork, no pidfd_open", children, NULL, NULL);
        if (error == EPERM)
            failed += cmocka_run_group_tests_name("fork, no end", stopped, NULL, NULL);
        how = WEIR_PREFORK;
        failed += cmocka_run_group_tests_name("prefork, no pidfd_open", prefork, NULL, NULL);
        fflush(NULL);
        _exit(failed);
    }
    waitpid(pid, &status, 0);
    return status != 0;
}

int main(void)
{
    const struct CMUnitTest children[] = {
        UNDER_BOTH,
        TEST(without_descriptors_for_children_clients_wait),
    };
    const struct CMUnitTest prefork[] = {
        UNDER_BOTH,
        TEST(if_none_can_start_the_server_does_not),
        TEST(who_can_not_start_later_says_why),
    };
    int failed;

    board = support_board(sizeof(*board));
    failed = run_without_pidfd_open(EPERM) + run_without_pidfd_open(ENOSYS);
    how = WEIR_FORK;
    failed += cmocka_run_group_tests_name("fork", children, NULL, NULL);
    how = WEIR_PREFORK;
    return failed + cmocka_run_group_tests_name("prefork", prefork, NULL, NULL);
}
