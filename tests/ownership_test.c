/*
 * ownership_test.c - whose a server is: destroyed from inside of it, copied by fork(2), submitted
 * to by handlers of others.
 */
#include "tests/support.h"

#include "engine/server/server.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What handlers, also those in children, tell the test. */
static struct board {
    _Atomic int destroyed;          /* what weir_server_destroy has returned */
    _Atomic int closed;             /* ... and weir_server_close */
    _Atomic int submitted;          /* ... and weir_submit_fd */
    _Atomic int refused;            /* ... when that was negative */
    _Atomic int asked;              /* so many handlers or hooks have asked */
} *board;

static struct weir_server *target;  /* of what handlers and hooks do */

static int begin(void **state)
{
    (void)state;
    memset(board, 0, sizeof(*board));
    target = NULL;
    return 0;
}

static int end(void **state)
{
    (void)state;
    return 0;
}

static int close_and_destroy(void *server)
{
    board->closed = weir_server_close(server);
    board->destroyed = weir_server_destroy(server);
    board->asked++;
    return 0;
}

/* A pair's one end, whose other one is served. */
static int submit(struct weir_server *server, const struct weir_handler *by)
{
    int ends[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    shutdown(ends[0], SHUT_WR);
    r = weir_submit_fd(server, ends[1], by);
    if (r < 0) {
        board->refused = r;
        close(ends[1]);
    }
    board->submitted = r;
    close(ends[0]);
    board->asked++;
    return 0;
}

static int submit_to_target(struct weir_request *req)
{
    (void)req;
    return submit(target, NULL);
}

static const struct weir_handler submitter = { .name = "submitter", .handle = submit_to_target };

static int handle(struct weir_request *req)
{
    struct weir_server *server = weir_request_server(req);
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    switch (line[0]) {
    case 'd':
        close_and_destroy(server);
        break;
    case 'o':
        weir_offload(req, close_and_destroy, server);
        break;
    case 'e':
        exit(3);
    case 'f':
        return -EPROTO;
    case 's':
        weir_write(req, "stops\n", 6);
        return WEIR_STOP_SERVER;
    default:
        break;
    }
    weir_write(req, "answer\n", 7);
    return WEIR_KEEP;
}

static const struct weir_handler handler = { .name = "owned", .handle = handle };

static void destroy_in_hook(struct weir_server *server)
{
    if (board->asked == 0)
        close_and_destroy(server);
}

static int destroy_in_verify(struct weir_server *server, const struct weir_peer *peer)
{
    (void)peer;
    destroy_in_hook(server);
    return 1;
}

static void destroy_in_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)failure;
    destroy_in_hook(server);
}

static void finish(struct weir_server *server)
{
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_destroy(server), 0);
}

static const enum weir_concurrency every[] = {
    WEIR_POOL, WEIR_SERIAL, WEIR_THREAD, WEIR_FORK, WEIR_PREFORK,
};
#define EVERY (sizeof(every) / sizeof(every[0]))

/* ------------------------------------------------------------------ who serves -------- */

/* Nobody who calls a mixin asks first whether it has the function. */
static void every_mixin_has_every_function(void **state)
{
    (void)state;
    for (size_t i = 0; i < EVERY; i++) {
        struct weir_server *server = support_create(WEIR_OPTIONS(
                .listen = "tcp://127.0.0.1:0", .handler = &handler, .concurrency = every[i]));
        const struct mixin *mixin = server->mixin;

        assert_non_null(mixin);
        assert_true(mixin->prepare && mixin->process && mixin->reap && mixin->add_stats);
        assert_true(mixin->begin && mixin->end && mixin->renew && mixin->kill);
        assert_true(mixin->free_locks && mixin->destroy && mixin->shortage);
        assert_int_equal(mixin->accepts_here, every[i] != WEIR_PREFORK);
        assert_int_equal(mixin->has_workers, every[i] == WEIR_POOL);
        weir_server_destroy(server);
    }
}

/* ------------------------------------------------------------------ from inside ------- */

static void expect_refusal(void)
{
    SUPPORT_UNTIL(board->asked >= 1);
    assert_int_equal(board->destroyed, -EDEADLK);
}

static void a_handler_does_not_destroy_its_server(void **state)
{
    for (size_t i = 0; i < EVERY; i++) {
        struct weir_server *server = support_start(WEIR_OPTIONS(
                .listen = "tcp://127.0.0.1:0", .handler = &handler, .concurrency = every[i]));

        begin(state);
        support_talk(server, 0, "destroy\noffload\n", "answer\nanswer\n");
        SUPPORT_UNTIL(board->asked == 2);
        assert_int_equal(board->destroyed, -EDEADLK);
        assert_int_equal(board->closed, -EDEADLK);
        support_talk(server, 0, "x\n", "answer\n");
        finish(server);
    }
}

static void a_hook_does_not_destroy_its_server(void **state)
{
    const struct weir_options hooks[] = {
        { .service_actions = destroy_in_hook, .poll_interval_ms = 1 },
        { .verify_request = destroy_in_verify },
        { .handle_error = destroy_in_error },
    };

    for (size_t i = 0; i < sizeof(hooks) / sizeof(hooks[0]); i++) {
        struct weir_options options = hooks[i];
        struct weir_server *server;

        begin(state);
        options.size = sizeof(options);
        options.listen = "tcp://127.0.0.1:0";
        options.handler = &handler;
        server = support_start(&options);
        support_talk(server, 0, "fail\n", "");
        expect_refusal();
        finish(server);
    }
}

static void *handle_one(void *server)
{
    board->submitted = weir_handle_request(server);
    return NULL;
}

static struct gate gate;

static int destroy_and_wait(struct weir_server *server, const struct weir_peer *peer)
{
    (void)peer;
    close_and_destroy(server);
    gate_pass(&gate);
    return 1;
}

static void a_server_in_handle_request_is_not_destroyed(void **state)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(
            .listen = "tcp://127.0.0.1:0", .handler = &handler,
            .verify_request = destroy_and_wait));
    int fd = support_ask(server, 0, "x\n");
    pthread_t thread;

    (void)state;
    gate_init(&gate);
    assert_int_equal(pthread_create(&thread, NULL, handle_one, server), 0);
    SUPPORT_UNTIL(board->asked == 1);
    assert_int_equal(board->closed, -EBUSY);
    assert_int_equal(board->destroyed, -EBUSY);
    assert_int_equal(weir_server_destroy(server), -EBUSY);
    assert_non_null(strstr(weir_why(), "weir_handle_request"));
    gate_open(&gate);
    support_expect(fd, "answer\n");
    pthread_join(thread, NULL);
    gate_fini(&gate);
    assert_int_equal(board->submitted, 1);
    assert_int_equal(weir_server_destroy(server), 0);
    support_expect_last(fd, "");
}

static void destroy_target(void)
{
    _exit(weir_server_destroy(target) == -EDEADLK ? 3 : 4);
}

/* Behind atexit(3) it would wait for itself. */
static void a_handler_may_exit(void **state)
{
    pid_t pid;
    int fd;

    (void)state;
    target = support_create(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &handler));
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        atexit(destroy_target);
        weir_serve_forever(target);
        _exit(2);
    }
    fd = support_ask(target, 0, "exit\n");
    assert_int_equal(support_status_of(pid), 3);
    close(fd);
    assert_int_equal(weir_server_destroy(target), 0);
}

/* ------------------------------------------------------------------ copies ------------ */

static char path[64];
static char uri[80];

static struct weir_server *create_with_path(enum weir_concurrency how)
{
    static struct weir_listen listeners[3] = {
        { .address = "tcp://127.0.0.1:0", .handler = &handler },
        { .address = uri, .handler = &handler },
        { .address = "udp://127.0.0.1:0", .handler = &handler },
    };

    snprintf(path, sizeof(path), "/tmp/weir-ownership-%d", (int)getpid());
    snprintf(uri, sizeof(uri), "unix://%s", path);
    return support_create(WEIR_OPTIONS(.listeners = listeners, .listeners_len = 3,
                                       .concurrency = how,
                                       .processes = how == WEIR_PREFORK ? 1 : 0));
}

static bool path_is_there(void)
{
    return access(path, F_OK) == 0;
}

/* Of a server that this process serves. */
static void expect_service(struct weir_server *server)
{
    support_talk(server, 0, "x\n", "answer\n");
    support_talk(server, 1, "x\n", "answer\n");
}

/* A copy of what nobody has served yet, given up in the process that did not make it. */
static void a_child_that_destroys_its_copy_harms_nobody(void **state)
{
    (void)state;
    for (size_t i = 0; i < EVERY; i++) {
        struct weir_server *server = create_with_path(every[i]);
        pid_t pid;

        fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            _exit(-weir_server_destroy(server));
        assert_int_equal(support_status_of(pid), 0);
        assert_int_equal(weir_server_start(server), 0);
        expect_service(server);
        finish(server);
        assert_false(path_is_there());
    }
}

static _Noreturn void serve_here(struct weir_server *server)
{
    int r = weir_serve_forever(server);

    _exit(r < 0 || weir_server_destroy(server) < 0 || path_is_there() ? 1 : 0);
}

/* The same in the process that made it, as daemon(3) would if it waited for the end. */
static void a_parent_that_destroys_its_copy_harms_nobody(void **state)
{
    (void)state;
    for (size_t i = 0; i < EVERY; i++) {
        struct weir_server *server = create_with_path(every[i]);
        char address[WEIR_ADDRESS_SIZE];
        pid_t pid;
        int fd;

        weir_server_address(server, 0, address, sizeof(address));
        fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            serve_here(server);
        expect_service(server);
        assert_int_equal(weir_server_destroy(server), 0);
        assert_true(path_is_there());
        for (int n = 0; n < 3; n++) {
            fd = support_connect_to(address);
            support_say(fd, "x\n");
            support_expect(fd, "answer\n");
            close(fd);
        }
        fd = support_connect_to(uri);
        support_say(fd, "stop\n");
        support_expect_last(fd, "stops\n");
        assert_int_equal(support_status_of(pid), 0);
        assert_false(path_is_there());
    }
}

static int use_copy(struct weir_server *server)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return 1;
    if (weir_server_start(server) != -ESRCH || weir_handle_request(server) >= 0 ||
        weir_submit_fd(server, pair[0], NULL) >= 0)
        return 2;
    if (weir_server_shutdown(server) != 0 || weir_server_close(server) != 0)
        return 3;
    return weir_server_destroy(server) == 0 ? 0 : 4;
}

/* Its threads are not there: nothing of it may be waited for. */
static void a_copy_of_what_serves_can_be_given_up_and_no_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < EVERY; i++) {
        struct weir_server *server = create_with_path(every[i]);
        pid_t pid;
        int kept;

        assert_int_equal(weir_server_start(server), 0);
        kept = support_ask(server, 0, "x\n");
        support_expect(kept, "answer\n");
        fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            _exit(use_copy(server));
        assert_int_equal(support_status_of(pid), 0);
        support_say(kept, "x\n");
        support_expect(kept, "answer\n");
        close(kept);
        assert_true(path_is_there());
        expect_service(server);
        finish(server);
        assert_false(path_is_there());
    }
}

/* A child that was made by somebody who executes a program changes nothing once it is served. */
static void a_fork_that_has_nothing_to_do_with_it_changes_nothing(void **state)
{
    struct weir_server *server = create_with_path(WEIR_POOL);
    pid_t pid;

    (void)state;
    assert_int_equal(weir_server_start(server), 0);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(0);
    assert_int_equal(support_status_of(pid), 0);
    finish(server);
    assert_false(path_is_there());
}

/* The lock that another thread had then is nobody's here who could ever let it go. */
static void a_copy_is_destroyed_whatever_other_threads_were_at(void **state)
{
    struct weir_server *server = create_with_path(WEIR_POOL);
    pid_t pid;

    (void)state;
    assert_int_equal(weir_server_start(server), 0);
    fflush(NULL);
    pthread_mutex_lock(&server->lock);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(5);
        _exit(-weir_server_destroy(server));
    }
    pthread_mutex_unlock(&server->lock);
    assert_int_equal(support_status_of(pid), 0);
    expect_service(server);
    finish(server);
    assert_false(path_is_there());
}

/* ------------------------------------------------------------------ submitting -------- */

static struct weir_server *origin;

static int submit_to_origin(struct weir_request *req)
{
    (void)req;
    return submit(origin, &handler);
}

static const struct weir_handler back = { .name = "back", .handle = submit_to_origin };

static int submit_to_target_and_back(struct weir_request *req)
{
    (void)req;
    return submit(target, &back);
}

/* The turn that it would wait for is its own, further up the stack. */
static void a_detour_to_ones_own_serial_server_is_refused(void **state)
{
    static const struct weir_handler there = {
        .name = "there", .handle = submit_to_target_and_back,
    };

    (void)state;
    origin = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &there,
                                        .concurrency = WEIR_SERIAL));
    target = support_create(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &handler,
                                         .concurrency = WEIR_SERIAL));
    support_expect_last(support_connect(origin, 0), "");
    SUPPORT_UNTIL(board->asked == 2);
    /* The detour was served, and it is the way back that was refused. */
    assert_int_equal(board->submitted, 0);
    assert_int_equal(board->refused, -EDEADLK);
    finish(origin);
    assert_int_equal(weir_server_destroy(target), 0);
}

static int kept[2];             /* a pair that a handler submits one end of, and waits for */
static _Atomic bool is_closed;  /* the server of that handler */

static int submit_kept(struct weir_request *req)
{
    (void)req;
    return weir_submit_fd(target, kept[1], &handler);
}

static void *close_in_thread(void *server)
{
    if (weir_server_shutdown(server) == 0 && weir_server_close(server) == 0)
        is_closed = true;
    return NULL;
}

/* Closes a server in whose handler another, serial one serves a client that says so much last. */
static void expect_close_ends_it(enum weir_concurrency how, const char *last)
{
    static const struct weir_handler submits = { .name = "submits", .handle = submit_kept };
    struct weir_server *server;
    pthread_t closer;
    int client;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, kept), 0);
    target = support_create(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &handler,
                                         .concurrency = WEIR_SERIAL));
    server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &submits,
                                        .concurrency = how, .drain_timeout_ms = 50,
                                        .processes = how == WEIR_PREFORK ? 1 : 0));
    client = support_ask(server, 0, "x");
    support_say(kept[0], "a line\n");
    support_expect(kept[0], "answer\n");
    support_say(kept[0], last);
    /* A child has closed its own. */
    if (how == WEIR_FORK || how == WEIR_PREFORK)
        close(kept[1]);
    is_closed = false;
    assert_int_equal(pthread_create(&closer, NULL, close_in_thread, server), 0);
    SUPPORT_UNTIL(is_closed);
    pthread_join(closer, NULL);
    support_expect_last(kept[0], "");
    support_expect_end(client);
    close(client);
    assert_int_equal(weir_server_destroy(server), 0);
    assert_int_equal(weir_server_destroy(target), 0);
}

static void the_end_of_a_server_ends_what_its_handler_has_submitted(void **state)
{
    (void)state;
    for (size_t i = 0; i < EVERY; i++) {
        /* It rests, or waits in its handler. */
        expect_close_ends_it(every[i], "");
        expect_close_ends_it(every[i], "unfinished");
    }
}

static int submit_and_go_on(struct weir_request *req)
{
    int r = weir_submit_fd(target, kept[1], &handler);

    weir_printf(req, "submitted\n");
    return r;
}

static void cancel_and_destroy(struct weir_server *server)
{
    assert_int_equal(weir_server_shutdown(server), 0);
    weir_server_cancel(server);
    assert_int_equal(weir_server_close(server), 0);
    assert_int_equal(weir_server_destroy(server), 0);
}

/* Its handler has handed the client on and waits for nothing: its end is none of the client's. */
static void expect_end_changes_nothing(enum weir_concurrency how, enum weir_concurrency targets)
{
    static const struct weir_handler submits = { .name = "submits", .handle = submit_and_go_on };
    struct weir_server *server;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, kept), 0);
    target = support_create(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &handler,
                                         .concurrency = targets));
    server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &submits,
                                        .concurrency = how));
    support_talk(server, 0, "x", "submitted\n");
    support_say(kept[0], "a line\n");
    support_expect(kept[0], "answer\n");
    cancel_and_destroy(server);
    /* It looks for orders each time it waits for a line. */
    for (int i = 0; i < 4; i++) {
        support_say(kept[0], "a line\n");
        support_expect(kept[0], "answer\n");
    }
    close(kept[0]);
    cancel_and_destroy(target);
}

static void the_end_of_a_server_is_nothing_to_what_it_has_handed_on(void **state)
{
    static const enum weir_concurrency hows[] = { WEIR_SERIAL, WEIR_THREAD, WEIR_POOL };
    static const enum weir_concurrency targets[] = { WEIR_FORK, WEIR_THREAD, WEIR_POOL };

    (void)state;
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 3; j++)
            expect_end_changes_nothing(hows[i], targets[j]);
}

/* ------------------------------------------------------------------ two of a kind ------ */

static struct pair {
    struct weir_server *servers[2];
    _Atomic int at_work;            /* so many of their handlers are */
    _Atomic int submitted;          /* so many were served by the other */
    _Atomic int refused;            /* so many were told -EDEADLK */
} pair;

static int submit_to_the_other(struct weir_request *req)
{
    int ends[2];
    int r;

    pair.at_work++;
    SUPPORT_UNTIL(pair.at_work == 2);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    shutdown(ends[0], SHUT_WR);
    r = weir_submit_fd(pair.servers[weir_request_server(req) == pair.servers[0]], ends[1],
                       &handler);
    if (r == 0)
        pair.submitted++;
    if (r == -EDEADLK)
        pair.refused++;
    if (r < 0)
        close(ends[1]);
    close(ends[0]);
    return 0;
}

/* Each has its turn, and wants the other's: one of them is refused, and so the other is served. */
static void of_two_serial_servers_that_wait_for_each_other_one_is_refused(void **state)
{
    static const struct weir_handler other = { .name = "other", .handle = submit_to_the_other };

    (void)state;
    for (int round = 0; round < 50; round++) {
        int clients[2];

        memset(&pair, 0, sizeof(pair));
        for (int i = 0; i < 2; i++)
            pair.servers[i] = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                         .handler = &other,
                                                         .concurrency = WEIR_SERIAL));
        for (int i = 0; i < 2; i++)
            clients[i] = support_connect(pair.servers[i], 0);
        for (int i = 0; i < 2; i++)
            support_expect_last(clients[i], "");
        assert_int_equal(pair.submitted, 1);
        assert_int_equal(pair.refused, 1);
        for (int i = 0; i < 2; i++)
            finish(pair.servers[i]);
    }
}

static void a_child_submits_to_nobody_whose_threads_are_its_parents(void **state)
{
    const enum weir_concurrency by[] = { WEIR_FORK, WEIR_PREFORK };

    for (size_t i = 0; i < 2; i++) {
        struct weir_server *server;

        begin(state);
        target = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &handler));
        server = support_start(WEIR_OPTIONS(
                .listen = "tcp://127.0.0.1:0", .handler = &submitter, .concurrency = by[i],
                .processes = by[i] == WEIR_PREFORK ? 1 : 0));
        support_expect_last(support_connect(server, 0), "");
        SUPPORT_UNTIL(board->asked == 1);
        assert_int_equal(board->submitted, -ESRCH);
        support_talk(target, 0, "x\n", "answer\n");
        finish(server);
        finish(target);
    }
}

/* ------------------------------------------------------------------ main -------------- */

#define TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_mixin_has_every_function),
        TEST(a_handler_does_not_destroy_its_server),
        TEST(a_hook_does_not_destroy_its_server),
        TEST(a_server_in_handle_request_is_not_destroyed),
        TEST(a_handler_may_exit),
        TEST(a_child_that_destroys_its_copy_harms_nobody),
        TEST(a_parent_that_destroys_its_copy_harms_nobody),
        TEST(a_copy_of_what_serves_can_be_given_up_and_no_more),
        TEST(a_fork_that_has_nothing_to_do_with_it_changes_nothing),
        TEST(a_copy_is_destroyed_whatever_other_threads_were_at),
        TEST(a_detour_to_ones_own_serial_server_is_refused),
        TEST(the_end_of_a_server_ends_what_its_handler_has_submitted),
        TEST(the_end_of_a_server_is_nothing_to_what_it_has_handed_on),
        TEST(of_two_serial_servers_that_wait_for_each_other_one_is_refused),
        TEST(a_child_submits_to_nobody_whose_threads_are_its_parents),
    };

    board = support_board(sizeof(*board));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
