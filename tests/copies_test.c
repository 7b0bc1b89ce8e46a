/*
 * copies_test.c - fork(2) beside threads that are in the engine's calls: whatever a child does with
 * its copy of a server, no lock is held there by a thread that it does not have.
 */
#include "tests/support.h"

#include "engine/base/compiler.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of children, for each kind of server; and how long one may take, on a busy machine too. */
#define CHILDREN 40
#define HUNG_S 20

static struct weir_server *server;
static _Atomic bool ending;
static _Atomic int begun;

static int handle(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n > 0)
        weir_write(req, "answer\n", 7);
    return n < 0 ? (int)n : 0;
}

static const struct weir_handler handler = { .name = "copied", .handle = handle };

static const enum weir_concurrency every[] = {
    WEIR_POOL, WEIR_SERIAL, WEIR_THREAD, WEIR_FORK, WEIR_PREFORK,
};
#define EVERY (sizeof(every) / sizeof(every[0]))

static struct weir_server *create(enum weir_concurrency how)
{
    return support_create(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &handler,
                                       .concurrency = how, .max_per_address = 1000,
                                       .workers = how == WEIR_POOL ? 2 : 0,
                                       .processes = how == WEIR_PREFORK ? 1 : 0));
}

static struct weir_access *rules(void)
{
    struct weir_access *access;

    return weir_access_parse("default allow\n", &access) == 0 ? access : NULL;
}

/* ------------------------------------------------------------------ the parent's ------ */

static void ask_for_stats(void)
{
    struct weir_stats stats;

    weir_server_stats(server, &stats, sizeof(stats));
}

static void change_rules(void)
{
    weir_server_set_access(server, rules());
    usleep(500);
}

/* A pair's one end, whose other one is served. */
static int submit(void)
{
    int ends[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    shutdown(ends[0], SHUT_WR);
    r = weir_submit_fd(server, ends[1], NULL);
    if (r < 0)
        close(ends[1]);
    close(ends[0]);
    return r;
}

static void submit_one(void)
{
    submit();
}

/* What takes locks of all servers together: of the memory for stacks, and of the fault handler. */
static void serve_another(void)
{
    struct weir_server *other;

    if (weir_server_create(&other, WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                .handler = &handler, .workers = 1)) < 0)
        return;
    weir_server_start(other);
    weir_server_shutdown(other);
    weir_server_destroy(other);
}

static void *do_for_ever(void *call)
{
    begun++;
    while (!ending)
        ((void (*)(void))call)();
    return NULL;
}

static void (*const of_served[])(void) = {
    ask_for_stats, change_rules, submit_one, serve_another,
};

/* What claims it for nobody. */
static void (*const of_fresh[])(void) = { ask_for_stats, change_rules, serve_another };

/* ------------------------------------------------------------------ the child's ------- */

/* Where a child is, and what it has been told. */
static struct board {
    const char *_Atomic step;
    _Atomic int got;
} *board;

#define EXPECT(call, expected) do { \
        board->step = #call; \
        board->got = (call); \
        if (board->got != (expected)) \
            _exit(2); \
    } while (0)

static int expected_of_doorman(enum weir_concurrency how)
{
    return how == WEIR_PREFORK ? -EOPNOTSUPP : -ESRCH;
}

static int serve_in_child(enum weir_concurrency how)
{
    struct weir_server *own;
    int r = weir_server_create(&own, WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                  .handler = &handler, .concurrency = how));

    if (r == 0)
        r = weir_server_start(own);
    if (r == 0)
        r = weir_server_shutdown(own);
    return r == 0 ? weir_server_destroy(own) : r;
}

static int set_rules(void)
{
    struct weir_access *access = rules();
    int r = weir_server_set_access(server, access);

    if (r < 0)
        weir_access_free(access);
    return r;
}

static void use_copy(enum weir_concurrency how, int i)
{
    struct weir_stats stats;
    char address[WEIR_ADDRESS_SIZE];
    int doorman = expected_of_doorman(how);

    EXPECT(weir_server_address(server, 0, address, sizeof(address)) > 0, 1);
    EXPECT(weir_server_stats(server, &stats, sizeof(stats)), 0);
    EXPECT((int)(stats.active + stats.workers), 0);
    EXPECT(set_rules(), -ESRCH);
    EXPECT(submit(), doorman);
    EXPECT(weir_server_fileno(server), doorman);
    EXPECT(weir_handle_request(server), doorman);
    EXPECT(weir_serve_forever(server), -ESRCH);
    EXPECT(weir_server_start(server), -ESRCH);
    EXPECT(weir_server_shutdown(server), 0);
    /* ThreadSanitizer locks around a thread's begin, and does not free that lock at a fork. */
    if (i % 4 == 0 && !WEIR_TSAN)
        EXPECT(serve_in_child(WEIR_POOL), 0);
    if (i % 2 == 0)
        EXPECT(weir_server_close(server), 0);
    EXPECT(weir_server_destroy(server), 0);
}

/* Nobody has served it: whatever is not done by threads can be done here. */
static void use_fresh(enum weir_concurrency how, int i)
{
    struct weir_stats stats;

    (void)how;
    EXPECT(weir_server_stats(server, &stats, sizeof(stats)), 0);
    EXPECT(set_rules(), 0);
    if (i % 2 == 0)
        EXPECT(weir_server_close(server), 0);
    EXPECT(weir_server_destroy(server), 0);
}

/* ------------------------------------------------------------------ both -------------- */

static void fork_one(void (*use)(enum weir_concurrency how, int i), enum weir_concurrency how,
                     int i)
{
    int status;
    pid_t pid;

    board->step = "none";
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(HUNG_S);
        use(how, i);
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status != 0)
        fail_msg("concurrency %d, child %d: status %x in %s, which returned %d", (int)how, i,
                 (unsigned)status, board->step, board->got);
}

static void fork_beside(void (*const *calls)(void), size_t len,
                        void (*use)(enum weir_concurrency how, int i), enum weir_concurrency how)
{
    pthread_t threads[4];

    ending = false;
    begun = 0;
    for (size_t i = 0; i < len; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, do_for_ever, (void *)calls[i]), 0);
    SUPPORT_UNTIL(begun == (int)len);
    for (int i = 0; i < CHILDREN; i++)
        fork_one(use, how, i);
    ending = true;
    for (size_t i = 0; i < len; i++)
        pthread_join(threads[i], NULL);
}

/*
 * AddressSanitizer, as GCC 12 has it, does not free the locks of its allocator at a fork: a child
 * that frees memory hangs if another thread of its parent's had one. The C library frees its own.
 */
static void skip_if_memory_hangs(void)
{
    if (!WEIR_ASAN)
        return;
    print_message("NOT ASSERTED HERE: children of a process whose threads use memory\n");
    skip();
}

static void a_copy_of_what_serves_hangs_in_no_call(void **state)
{
    (void)state;
    skip_if_memory_hangs();
    for (size_t i = 0; i < EVERY; i++) {
        server = create(every[i]);
        assert_int_equal(weir_server_start(server), 0);
        fork_beside(of_served, 4, use_copy, every[i]);
        support_talk(server, 0, "x\n", "answer\n");
        assert_int_equal(weir_server_shutdown(server), 0);
        assert_int_equal(weir_server_destroy(server), 0);
    }
}

static void what_nobody_has_served_hangs_in_no_call(void **state)
{
    (void)state;
    skip_if_memory_hangs();
    for (size_t i = 0; i < EVERY; i++) {
        server = create(every[i]);
        fork_beside(of_fresh, 3, use_fresh, every[i]);
        assert_int_equal(weir_server_start(server), 0);
        support_talk(server, 0, "x\n", "answer\n");
        assert_int_equal(weir_server_shutdown(server), 0);
        assert_int_equal(weir_server_destroy(server), 0);
    }
}

static struct gate gate;

static int wait_in_verify(struct weir_server *of, const struct weir_peer *peer)
{
    (void)of;
    (void)peer;
    begun++;
    gate_pass(&gate);
    return 1;
}

static void *handle_one(void *nothing)
{
    (void)nothing;
    assert_int_equal(weir_handle_request(server), 1);
    return NULL;
}

/* In the parent there is one, and it is not destroyed under it. */
static void a_copy_has_no_thread_in_handle_request(void **state)
{
    pthread_t thread;
    int fd;

    (void)state;
    gate_init(&gate);
    server = support_create(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &handler,
                                         .verify_request = wait_in_verify));
    begun = 0;
    fd = support_ask(server, 0, "x\n");
    assert_int_equal(pthread_create(&thread, NULL, handle_one, NULL), 0);
    SUPPORT_UNTIL(begun == 1);
    assert_int_equal(weir_server_destroy(server), -EBUSY);
    fork_one(use_copy, WEIR_POOL, 0);
    fork_one(use_copy, WEIR_POOL, 1);
    gate_open(&gate);
    support_expect_last(fd, "answer\n");
    pthread_join(thread, NULL);
    gate_fini(&gate);
    assert_int_equal(weir_server_destroy(server), 0);
}

/* ------------------------------------------------------------------ orders ------------ */

static void fork_idly(void)
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

/* The process has forked, and that had nothing to do with it. */
static void a_shutdown_before_serving_outlives_a_fork(void **state)
{
    (void)state;
    for (size_t i = 0; i < EVERY; i++) {
        server = create(every[i]);
        fork_idly();
        assert_int_equal(weir_server_shutdown(server), 0);
        assert_int_equal(weir_serve_forever(server), 0);
        /* It was for that serving alone. */
        assert_int_equal(weir_server_start(server), 0);
        support_talk(server, 0, "x\n", "answer\n");
        assert_int_equal(weir_server_shutdown(server), 0);
        assert_int_equal(weir_server_destroy(server), 0);
    }
}

static void *serve(void *nothing)
{
    (void)nothing;
    assert_int_equal(weir_serve_forever(server), 0);
    return NULL;
}

/* Whichever of the two comes first. */
static void a_shutdown_beside_the_first_serving_ends_it(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        pthread_t thread;

        server = create(WEIR_POOL);
        fork_idly();
        assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
        assert_int_equal(weir_server_shutdown(server), 0);
        pthread_join(thread, NULL);
        assert_int_equal(weir_server_destroy(server), 0);
    }
}

/* What the child serves is not the parent's to shut down, who can't tell whether it does. */
static void a_shutdown_of_what_another_process_serves_is_kept_here(void **state)
{
    pid_t pid;
    int status;

    (void)state;
    server = create(WEIR_POOL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(weir_serve_forever(server) == 0 ? 0 : 1);
    support_talk(server, 0, "x\n", "answer\n");
    assert_int_equal(weir_server_shutdown(server), 0);
    for (int i = 0; i < 20; i++)
        support_talk(server, 0, "x\n", "answer\n");
    weir_server_stop(server);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(weir_server_destroy(server), 0);
}

/* Bound here, it is not for a child to listen on it. */
static void a_copy_of_what_is_bound_is_not_activated(void **state)
{
    pid_t pid;
    int status;

    (void)state;
    server = support_create(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &handler,
                                         .defer = true));
    assert_int_equal(weir_server_bind(server), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(-weir_server_activate(server));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), ESRCH);
    assert_int_equal(weir_server_activate(server), 0);
    assert_int_equal(weir_server_start(server), 0);
    support_talk(server, 0, "x\n", "answer\n");
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_destroy(server), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_of_what_serves_hangs_in_no_call),
        cmocka_unit_test(what_nobody_has_served_hangs_in_no_call),
        cmocka_unit_test(a_copy_has_no_thread_in_handle_request),
        cmocka_unit_test(a_shutdown_before_serving_outlives_a_fork),
        cmocka_unit_test(a_shutdown_beside_the_first_serving_ends_it),
        cmocka_unit_test(a_shutdown_of_what_another_process_serves_is_kept_here),
        cmocka_unit_test(a_copy_of_what_is_bound_is_not_activated),
    };

    board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return board == MAP_FAILED ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
