/* lifecycle_test.c - create, serve, shut down, close, destroy: in every order, from everywhere. */
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
#include <unistd.h>

/*
 * The handler of most tests answers words, a connection at a time:
 *   keep     "kept", and rests until there is more
 *   wait     parks until the server is told to close, says so, and answers the next line
 *   block    blocks its worker until the test opens the gate, and answers
 *   hold     blocks its worker until the server is told to close, and answers
 *   sleep    parks for longer than any test
 */
static struct gate gate;            /* the handlers wait for the test */
static struct gate draining;        /* the test waits for a server that is closing */
static _Atomic int finished;        /* finish() was called */
static _Atomic int last_status;     /* ... with this */

static int open_gates(void **state)
{
    (void)state;
    gate_init(&gate);
    gate_init(&draining);
    finished = 0;
    last_status = 0;
    return 0;
}

static int close_gates(void **state)
{
    (void)state;
    gate_fini(&draining);
    gate_fini(&gate);
    return 0;
}

static int wait_for_closing(struct weir_request *req)
{
    while (!weir_draining(req)) {
        int r = weir_sleep(req, 1);

        if (r < 0)
            return r;
    }
    gate_open(&draining);
    return 0;
}

static int answer_late(struct weir_request *req)
{
    char *line;
    ssize_t n;
    int r = wait_for_closing(req);

    if (r < 0)
        return r;
    n = weir_readline(req, &line, 100);
    if (n < 0)
        return (int)n;
    weir_printf(req, "late %.*s", (int)n, line);
    return 0;
}

static int obey(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    switch (line[0]) {
    case 'k':
        weir_printf(req, "kept\n");
        return WEIR_KEEP;
    case 'w':
        return answer_late(req);
    case 'b':
        gate_pass(&gate);
        break;
    case 'h':
        while (!weir_draining(req))
            usleep(1000);
        break;
    case 's':
        return weir_sleep(req, UINT32_MAX / 2);
    default:
        break;
    }
    weir_printf(req, "done\n");
    return 0;
}

static int note_finish(struct weir_request *req, int status)
{
    (void)req;
    last_status = status;
    finished++;
    return 0;
}

static void ignore_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    (void)failure;
}

static const struct weir_handler obedient = {
    .name = "obedient", .handle = obey, .finish = note_finish,
};

#define OPTIONS_OF(handler_, workers_, ...) WEIR_OPTIONS( \
        .listen = "tcp://127.0.0.1:0", .handler = (handler_), .workers = (workers_), \
        .handle_error = ignore_error, __VA_ARGS__)
#define OPTIONS(...) OPTIONS_OF(&obedient, 2, __VA_ARGS__)
#define DEFAULTS OPTIONS(.user = NULL)

/* A client that has asked for something and whose handler has begun with it. */
static int asking(struct weir_server *server, const char *word)
{
    uint64_t before = support_stats(server).bytes_in;
    int fd = support_ask(server, 0, word);

    SUPPORT_AWAIT(server, bytes_in, == before + strlen(word));
    return fd;
}

static int kept(struct weir_server *server)
{
    int fd = asking(server, "keep\n");

    support_expect(fd, "kept\n");
    SUPPORT_AWAIT(server, idle, > 0);
    return fd;
}

static void shut_down_and_destroy(struct weir_server *server)
{
    assert_int_equal(weir_server_shutdown(server), 0);
    weir_server_destroy(server);
}

static void open_gate_once(struct weir_server *server)
{
    (void)server;
    gate_open(&gate);
}

/* ------------------------------------------------------------------ bind, activate ---- */

/* Conformance behaviour 3; in the order of Python's bind_and_activate=False. */
static void a_deferred_server_opens_its_sockets_step_by_step(void **state)
{
    size_t before = support_open_descriptors();
    struct weir_server *server = support_create(OPTIONS(.defer = true, .acceptors = 2));
    char uri[WEIR_ADDRESS_SIZE];
    size_t unbound = support_open_descriptors();
    int fd;

    (void)state;
    assert_int_equal(weir_server_address(server, 0, uri, sizeof(uri)), -ERANGE);
    assert_int_equal(weir_server_bind(server), 0);
    assert_int_equal(support_open_descriptors(), unbound + 2);
    assert_true(weir_server_address(server, 0, uri, sizeof(uri)) > 0);
    assert_null(strstr(uri, ":0"));
    assert_int_equal(weir_server_activate(server), 0);
    fd = support_connect(server, 0);
    support_say(fd, "x\n");
    assert_int_equal(weir_server_start(server), 0);
    support_expect_last(fd, "done\n");
    shut_down_and_destroy(server);
    assert_int_equal(support_open_descriptors(), before);
}

static void the_caller_may_forget_a_deferred_servers_addresses(void **state)
{
    char name[WEIR_ADDRESS_SIZE];
    struct weir_listen listeners[] = {
        { .address = name }, { .address = "tcp://127.0.0.1:0", .handler = &obedient },
    };
    struct weir_server *server;

    (void)state;
    snprintf(name, sizeof(name), "%s", support_abstract("forgotten"));
    server = support_create(WEIR_OPTIONS(.listeners = listeners, .listeners_len = 2,
                                         .handler = &obedient, .defer = true));
    memset(name, 0, sizeof(name));
    memset(listeners, 0, sizeof(listeners));
    assert_int_equal(weir_server_bind(server), 0);
    assert_int_equal(weir_server_activate(server), 0);
    assert_int_equal(weir_server_start(server), 0);
    support_talk(server, 0, "x\n", "done\n");
    support_talk(server, 1, "x\n", "done\n");
    weir_server_destroy(server);
}

static void a_step_out_of_order_is_refused(void **state)
{
    static const char no_listening[] = "the server can't serve: it does not listen yet: "
                                       "weir_server_bind and weir_server_activate come first";
    struct weir_server *server = support_create(OPTIONS(.defer = true));

    (void)state;
    assert_int_equal(weir_serve_forever(server), -EINVAL);
    assert_string_equal(weir_why(), no_listening);
    assert_int_equal(weir_server_activate(server), -EINVAL);
    assert_string_equal(weir_why(), "the server can't listen: weir_server_bind comes first");
    assert_int_equal(weir_server_bind(server), 0);
    assert_int_equal(weir_server_bind(server), -EALREADY);
    assert_string_equal(weir_why(), "the server can't bind: it has done that already");
    assert_int_equal(weir_server_start(server), -EINVAL);
    assert_string_equal(weir_why(), no_listening);
    assert_int_equal(weir_server_activate(server), 0);
    assert_int_equal(weir_server_activate(server), -EALREADY);
    assert_string_equal(weir_why(), "the server can't listen: it does already");
    assert_int_equal(weir_server_start(server), 0);
    support_talk(server, 0, "x\n", "done\n");
    shut_down_and_destroy(server);
}

static void a_server_that_is_not_deferred_has_made_both_steps(void **state)
{
    struct weir_server *server = support_create(DEFAULTS);

    (void)state;
    assert_int_equal(weir_server_bind(server), -EALREADY);
    assert_int_equal(weir_server_activate(server), -EALREADY);
    weir_server_destroy(server);
}

static void a_closed_server_makes_no_step(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.defer = true));

    (void)state;
    assert_int_equal(weir_server_close(server), 0);
    assert_int_equal(weir_server_bind(server), -EBADF);
    assert_string_equal(weir_why(), "the server can't bind: it was closed");
    assert_int_equal(weir_server_activate(server), -EBADF);
    assert_string_equal(weir_why(), "the server can't listen: it was closed");
    weir_server_destroy(server);
}

static void a_bind_that_fails_binds_nothing_and_may_be_repeated(void **state)
{
    struct weir_server *taken = support_create(WEIR_OPTIONS(
        .listen = support_abstract("taken"), .handler = &obedient));
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" }, { .address = support_abstract("taken") },
    };
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &obedient, .defer = true,
        .acceptors = 2));
    size_t before = support_open_descriptors();
    char uri[WEIR_ADDRESS_SIZE];

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(weir_server_bind(server), -EADDRINUSE);
        assert_non_null(strstr(weir_why(), "the name is in use by another socket"));
        assert_int_equal(weir_server_address(server, 0, uri, sizeof(uri)), -ERANGE);
        assert_int_equal(support_open_descriptors(), before);
        assert_int_equal(weir_server_activate(server), -EINVAL);
    }
    weir_server_destroy(taken);
    assert_int_equal(weir_server_bind(server), 0);
    assert_int_equal(weir_server_activate(server), 0);
    assert_int_equal(weir_server_start(server), 0);
    support_talk(server, 0, "x\n", "done\n");
    support_talk(server, 1, "x\n", "done\n");
    weir_server_destroy(server);
}

static void an_activation_that_fails_may_be_repeated(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.defer = true, .reuse_address = true));
    struct weir_server *taken;
    char uri[WEIR_ADDRESS_SIZE];

    (void)state;
    assert_int_equal(weir_server_bind(server), 0);
    assert_true(weir_server_address(server, 0, uri, sizeof(uri)) > 0);
    taken = support_create(WEIR_OPTIONS(.listen = uri, .handler = &obedient,
                                        .reuse_address = true));
    assert_int_equal(weir_server_activate(server), -EADDRINUSE);
    assert_non_null(strstr(weir_why(), "the port is in use"));
    weir_server_destroy(taken);
    assert_int_equal(weir_server_activate(server), 0);
    assert_int_equal(weir_server_start(server), 0);
    support_talk(server, 0, "x\n", "done\n");
    weir_server_destroy(server);
}

/* A path of its own twice: nobody listens at the first, so the second takes it over. */
static void a_deferred_server_that_robs_itself_is_told(void **state)
{
    char uri[WEIR_ADDRESS_SIZE];
    struct weir_listen listeners[] = { { .address = uri }, { .address = uri } };
    struct weir_server *server;
    char sentence[300];

    (void)state;
    snprintf(uri, sizeof(uri), "unix:///tmp/weir-twice-%d", (int)getpid());
    snprintf(sentence, sizeof(sentence), "%s: this server's own listeners[1] has that address: "
             "give each of them another one", uri);
    server = support_create(WEIR_OPTIONS(.listeners = listeners, .listeners_len = 2,
                                         .handler = &obedient, .defer = true));
    assert_int_equal(weir_server_bind(server), 0);
    assert_int_equal(weir_server_activate(server), -EADDRINUSE);
    assert_string_equal(weir_why(), sentence);
    weir_server_destroy(server);
    assert_int_equal(access(uri + strlen("unix://"), F_OK), -1);
}

static void a_wrong_owner_is_told_before_anything_is_opened(void **state)
{
    struct weir_server *server;

    (void)state;
    assert_int_equal(weir_server_create(&server, OPTIONS(.unix_owner = "no one")), -EINVAL);
    assert_string_equal(weir_why(), "unix_owner: no one: there is no user 'no one'");
}

static void an_owner_without_a_unix_path_is_refused(void **state)
{
    struct weir_server *server;

    (void)state;
    assert_int_equal(weir_server_create(&server, OPTIONS(.unix_owner = "0")), -EINVAL);
    assert_string_equal(weir_why(), "unix_owner is set, but no listener has a Unix path: add one, "
                                    "such as unix:///run/weir.sock, or leave it out");
}

/* ------------------------------------------------------------------ serving ----------- */

/* Conformance behaviour 22. */
static void shutdown_before_serving_ends_the_next_serving_at_once(void **state)
{
    struct weir_server *server = support_create(DEFAULTS);

    (void)state;
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_serve_forever(server), 0);
    assert_int_equal(weir_server_start(server), 0);
    support_talk(server, 0, "x\n", "done\n");
    shut_down_and_destroy(server);
}

/* Conformance behaviours 23 and 24. */
static void a_second_shutdown_does_not_poison_the_next_serving(void **state)
{
    struct weir_server *server = support_start(DEFAULTS);

    (void)state;
    for (int i = 0; i < 3; i++) {
        support_talk(server, 0, "x\n", "done\n");
        assert_int_equal(weir_server_shutdown(server), 0);
        assert_int_equal(weir_server_shutdown(server), 0);
        weir_server_stop(server);
        assert_int_equal(weir_server_start(server), 0);
    }
    support_talk(server, 0, "x\n", "done\n");
    shut_down_and_destroy(server);
}

/* Conformance behaviour 25. */
static void clients_between_two_servings_wait_in_the_backlog(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.acceptors = 2));
    int fd;

    (void)state;
    assert_int_equal(weir_server_shutdown(server), 0);
    fd = support_connect(server, 0);
    support_say(fd, "x\n");
    assert_int_equal(support_stats(server).accepted, 0);
    assert_int_equal(weir_server_start(server), 0);
    support_expect_last(fd, "done\n");
    shut_down_and_destroy(server);
}

/* A further acceptor looks at a flag, which is set before its descriptor is written. */
static void a_stop_that_reaches_an_acceptor_late_is_not_for_the_next_serving(void **state)
{
    enum { CLIENTS = 64 };
    struct weir_server *server = support_start(OPTIONS(.acceptors = 4));
    int fds[CLIENTS];

    (void)state;
    assert_int_equal(weir_server_shutdown(server), 0);
    for (int i = 1; i < 4; i++)
        acceptor_stop(&server->acceptors[i]);
    assert_int_equal(weir_server_start(server), 0);
    /* Each acceptor has a socket of its own, and the kernel shares clients out to all. */
    for (int i = 0; i < CLIENTS; i++)
        fds[i] = support_ask(server, 0, "x\n");
    for (int i = 0; i < CLIENTS; i++)
        support_expect_last(fds[i], "done\n");
    shut_down_and_destroy(server);
}

/* The edge that tells of the client and the stop come at once: the edge must not be forgotten. */
static void a_client_that_comes_with_the_stop_is_served_next_time(void **state)
{
    struct weir_server *server = support_create(DEFAULTS);

    (void)state;
    for (int i = 0; i < 100; i++) {
        int fd;

        assert_int_equal(weir_server_start(server), 0);
        fd = support_connect(server, 0);
        weir_server_stop(server);
        assert_int_equal(weir_server_shutdown(server), 0);
        assert_int_equal(weir_server_start(server), 0);
        support_say(fd, "x\n");
        support_expect_last(fd, "done\n");
        assert_int_equal(weir_server_shutdown(server), 0);
    }
    weir_server_destroy(server);
}

static struct weir_server *stopped_here;
static int client_of_hook = -1;

static void connect_and_stop(struct weir_server *server)
{
    char uri[WEIR_ADDRESS_SIZE];

    if (client_of_hook >= 0 || weir_server_address(server, 0, uri, sizeof(uri)) < 0)
        return;
    client_of_hook = support_connect(server, 0);
    weir_server_stop(server);
}

/* Conformance behaviour 26. */
static void what_is_ready_when_the_stop_is_seen_is_not_served(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.service_actions = connect_and_stop));

    (void)state;
    assert_int_equal(weir_serve_forever(server), 0);
    assert_int_equal(support_stats(server).accepted, 0);
    weir_server_destroy(server);
    support_expect_end(client_of_hook);
    close(client_of_hook);
    client_of_hook = -1;
}

static void serving_twice_at_a_time_is_refused(void **state)
{
    struct weir_server *server = support_start(DEFAULTS);

    (void)state;
    assert_int_equal(weir_server_start(server), -EBUSY);
    assert_string_equal(weir_why(), "the server can't serve: it does already");
    assert_int_equal(weir_serve_forever(server), -EBUSY);
    assert_int_equal(weir_server_close(server), -EBUSY);
    assert_string_equal(weir_why(), "the server can't be closed: it serves; shut it down first");
    support_talk(server, 0, "x\n", "done\n");
    shut_down_and_destroy(server);
}

static void a_closed_server_does_not_serve(void **state)
{
    struct weir_server *server = support_create(DEFAULTS);

    (void)state;
    assert_int_equal(weir_server_close(server), 0);
    assert_int_equal(weir_server_close(server), 0);
    assert_int_equal(weir_serve_forever(server), -EBADF);
    assert_string_equal(weir_why(), "the server can't serve: it was closed");
    assert_int_equal(weir_server_start(server), -EBADF);
    weir_server_destroy(server);
}

static void *serve_in_thread(void *server)
{
    weir_serve_forever(server);
    return NULL;
}

/* Conformance behaviour 18. */
static void shutdown_waits_until_serving_has_ended(void **state)
{
    struct weir_server *server = support_create(DEFAULTS);
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, serve_in_thread, server), 0);
    support_talk(server, 0, "x\n", "done\n");
    assert_int_equal(weir_server_shutdown(server), 0);
    /* It would be refused while serving goes on. */
    assert_int_equal(weir_server_close(server), 0);
    pthread_join(thread, NULL);
    weir_server_destroy(server);
}

/* Conformance behaviour 27: Python's waits for its poll_interval; with this one, for a day. */
static void shutdown_does_not_wait_for_the_poll_interval(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.service_actions = open_gate_once,
                                                       .poll_interval_ms = 86400000));

    (void)state;
    gate_pass(&gate);
    shut_down_and_destroy(server);
}

/* Conformance behaviour 19. */
static void shutdown_may_race_with_the_start(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct weir_server *server = support_create(OPTIONS(.acceptors = 1 + (i % 2)));
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, serve_in_thread, server), 0);
        assert_int_equal(weir_server_shutdown(server), 0);
        pthread_join(thread, NULL);
        weir_server_destroy(server);
    }
}

static _Atomic bool serves_no_more;
static _Atomic int servings;

static void *serve_again_and_again(void *server)
{
    while (!serves_no_more) {
        weir_serve_forever(server);
        servings++;
    }
    return NULL;
}

static void *shut_down_often(void *server)
{
    while (servings < 100)
        weir_server_shutdown(server);
    gate_open(&gate);
    return NULL;
}

/* Each waits for the end of one serving, not for a moment between two in which nobody serves. */
static void shutdown_returns_though_serving_begins_again_at_once(void **state)
{
    struct weir_server *server = support_create(DEFAULTS);
    struct pollfd returned = { .fd = gate.fd, .events = POLLIN };
    pthread_t serving, stopping;

    (void)state;
    serves_no_more = false;
    servings = 0;
    assert_int_equal(pthread_create(&serving, NULL, serve_again_and_again, server), 0);
    assert_int_equal(pthread_create(&stopping, NULL, shut_down_often, server), 0);
    assert_int_equal(poll(&returned, 1, PLENTY_MS), 1);
    assert_int_equal(pthread_join(stopping, NULL), 0);
    serves_no_more = true;
    /* It may be just between two servings: then nothing is to be stopped yet. */
    SUPPORT_UNTIL(weir_server_shutdown(server) == 0 && pthread_tryjoin_np(serving, NULL) == 0);
    weir_server_destroy(server);
}

static void a_server_is_destroyed_in_whatever_state_it_is(void **state)
{
    struct weir_server *fresh = support_create(DEFAULTS);
    struct weir_server *serving = support_start(DEFAULTS);
    struct weir_server *stopped = support_start(DEFAULTS);
    struct weir_server *closed = support_start(DEFAULTS);

    (void)state;
    assert_int_equal(weir_server_shutdown(stopped), 0);
    assert_int_equal(weir_server_shutdown(closed), 0);
    assert_int_equal(weir_server_close(closed), 0);
    weir_server_destroy(fresh);
    weir_server_destroy(serving);
    weir_server_destroy(stopped);
    weir_server_destroy(closed);
}

/* ------------------------------------------------------------------ from everywhere --- */

static int end_it_all(struct weir_request *req)
{
    struct weir_server *server = weir_request_server(req);

    weir_printf(req, "%d ", weir_server_shutdown(server) == -EDEADLK);
    weir_printf(req, "%s|", weir_why());
    weir_printf(req, "%d ", weir_server_close(server) == -EDEADLK);
    weir_printf(req, "%s|", weir_why());
    weir_printf(req, "%d ", weir_serve_forever(server) == -EDEADLK);
    weir_printf(req, "%s|", weir_why());
    weir_printf(req, "%d\n", weir_server_start(server) == -EDEADLK);
    return 0;
}

/* Conformance behaviour 21. */
static void a_handler_that_would_wait_for_itself_is_refused(void **state)
{
    static const enum weir_stack stacks[] = { WEIR_STACK_FIBER, WEIR_STACK_THREAD };

    (void)state;
    for (int i = 0; i < 2; i++) {
        const struct weir_handler ending = {
            .name = "ending", .handle = end_it_all, .stack = stacks[i],
        };
        struct weir_server *server = support_start(OPTIONS_OF(&ending, 2, .user = NULL));

        support_talk(server, 0, "", "1 the server can't be shut down by its own handler or hook: "
                                    "use weir_server_stop|"
                                    "1 the server can't be closed by its own handler: use "
                                    "weir_server_stop|"
                                    "1 the server can't serve: this is one of its handlers|"
                                    "1\n");
        shut_down_and_destroy(server);
    }
}

/* What a hook got from shutdown and close. */
static _Atomic int hook_shutdown;
static _Atomic int hook_close;

static void end_from_hook(struct weir_server *server)
{
    hook_shutdown = weir_server_shutdown(server);
    hook_close = weir_server_close(server);
    weir_server_stop(server);
}

static int end_from_verify(struct weir_server *server, const struct weir_peer *peer)
{
    (void)peer;
    end_from_hook(server);
    return -EACCES;
}

static void end_from_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)failure;
    end_from_hook(server);
}

static void a_hook_that_would_wait_for_itself_is_refused(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.service_actions = end_from_hook));
    int fd;

    (void)state;
    assert_int_equal(weir_serve_forever(server), 0);
    weir_server_destroy(server);
    assert_int_equal(hook_shutdown, -EDEADLK);
    assert_int_equal(hook_close, -EBUSY);

    hook_shutdown = hook_close = 0;
    server = support_create(OPTIONS(.verify_request = end_from_verify, .acceptors = 2));
    fd = support_connect(server, 0);
    assert_int_equal(weir_serve_forever(server), 0);
    support_expect_last(fd, "");
    weir_server_destroy(server);
    assert_int_equal(hook_shutdown, -EDEADLK);
    assert_int_equal(hook_close, -EBUSY);
}

static void an_error_hook_in_a_handler_is_refused_as_well(void **state)
{
    const struct weir_handler ending = { .name = "ending", .handle = obey };
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &ending, .handle_error = end_from_error,
        .read_timeout_ms = 1));
    int fd = support_connect(server, 0);

    (void)state;
    hook_shutdown = hook_close = 0;
    assert_int_equal(weir_serve_forever(server), 0);
    support_expect_last(fd, "");
    weir_server_destroy(server);
    assert_int_equal(hook_shutdown, -EDEADLK);
    assert_int_equal(hook_close, -EDEADLK);
}

static int shut_down_job(void *server)
{
    return weir_server_shutdown(server);
}

static int shut_down_elsewhere(struct weir_request *req)
{
    weir_printf(req, "%d\n", weir_offload(req, shut_down_job, weir_request_server(req)));
    return 0;
}

/* A handler that has to wait for the shutdown can: where it is in nobody's way. */
static void a_handler_may_wait_for_the_shutdown_on_an_offload_thread(void **state)
{
    const struct weir_handler ending = { .name = "ending", .handle = shut_down_elsewhere };
    struct weir_server *server = support_create(OPTIONS_OF(&ending, 1, .user = NULL));
    int fd = support_connect(server, 0);

    (void)state;
    assert_int_equal(weir_serve_forever(server), 0);
    support_expect_last(fd, "0\n");
    weir_server_destroy(server);
}

static int stop_and_finish(struct weir_request *req, int status)
{
    (void)status;
    weir_server_stop(weir_request_server(req));
    return 0;
}

static int refuse_setup(struct weir_request *req)
{
    weir_server_stop(weir_request_server(req));
    return -EACCES;
}

static int stop_itself(struct weir_request *req)
{
    (void)req;
    return WEIR_STOP_SERVER;
}

/* Conformance behaviours 18 to 27, from within: wherever it comes from, the next serving lives. */
static void a_stop_from_any_part_of_a_handler_ends_this_serving_only(void **state)
{
    const struct weir_handler handlers[] = {
        { .name = "setup", .setup = refuse_setup, .handle = obey },
        { .name = "handle", .handle = stop_itself },
        { .name = "finish", .handle = obey, .finish = stop_and_finish },
    };

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct weir_server *server = support_create(OPTIONS_OF(&handlers[i], 2, .user = NULL));

        for (int again = 0; again < 3; again++) {
            int fd = support_connect(server, 0);

            support_half_close(fd);
            assert_int_equal(weir_serve_forever(server), 0);
            support_expect_last(fd, "");
        }
        weir_server_destroy(server);
    }
}

static void stop_on_signal(int number)
{
    (void)number;
    weir_server_stop(stopped_here);
}

static void *raise_once_served(void *arg)
{
    pthread_t *main_thread = arg;

    gate_pass(&gate);
    pthread_kill(*main_thread, SIGUSR1);
    return NULL;
}

static void a_signal_handler_may_stop_the_server(void **state)
{
    const struct sigaction stop = { .sa_handler = stop_on_signal };
    pthread_t main_thread = pthread_self();
    struct sigaction before;
    pthread_t thread;

    (void)state;
    stopped_here = support_create(OPTIONS(.service_actions = open_gate_once));
    assert_int_equal(sigaction(SIGUSR1, &stop, &before), 0);
    assert_int_equal(pthread_create(&thread, NULL, raise_once_served, &main_thread), 0);
    assert_int_equal(weir_serve_forever(stopped_here), 0);
    pthread_join(thread, NULL);
    sigaction(SIGUSR1, &before, NULL);
    weir_server_destroy(stopped_here);
}

/* ------------------------------------------------------------------ closing ----------- */

/* Conformance behaviour 20. */
static void shutdown_does_not_wait_for_handlers(void **state)
{
    struct weir_server *server = support_start(DEFAULTS);
    int blocked = asking(server, "block\n");

    (void)state;
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(finished, 0);
    gate_open(&gate);
    support_expect_last(blocked, "done\n");
    weir_server_destroy(server);
    assert_int_equal(finished, 1);
}

static void close_waits_for_running_handlers(void **state)
{
    struct weir_server *server = support_start(DEFAULTS);
    int held = asking(server, "hold\n");

    (void)state;
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_close(server), 0);
    assert_int_equal(finished, 1);
    assert_int_equal(support_stats(server).active, 0);
    support_expect_last(held, "done\n");
    weir_server_destroy(server);
}

static void *say_late(void *fd)
{
    gate_pass(&draining);
    support_say(*(int *)fd, "words\n");
    return NULL;
}

static void close_waits_for_parked_handlers(void **state)
{
    (void)state;
    for (int dispatch = 0; dispatch < 2; dispatch++) {
        struct weir_server *server = support_start(OPTIONS(.dispatch = dispatch));
        int waiting = asking(server, "wait\n");
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, say_late, &waiting), 0);
        assert_int_equal(weir_server_shutdown(server), 0);
        assert_int_equal(weir_server_close(server), 0);
        pthread_join(thread, NULL);
        assert_int_equal(finished, 1 + dispatch);
        support_expect_last(waiting, "late words\n");
        weir_server_destroy(server);
    }
}

static void close_ends_kept_connections(void **state)
{
    (void)state;
    for (int dispatch = 0; dispatch < 2; dispatch++) {
        struct weir_server *server = support_start(OPTIONS(.dispatch = dispatch));
        int clients[5];

        for (int i = 0; i < 5; i++)
            clients[i] = kept(server);
        assert_int_equal(weir_server_shutdown(server), 0);
        assert_int_equal(weir_server_close(server), 0);
        for (int i = 0; i < 5; i++)
            support_expect_last(clients[i], "");
        assert_int_equal(finished, 5 * (1 + dispatch));
        assert_int_equal(last_status, 0);
        weir_server_destroy(server);
    }
}

static void close_serves_what_is_queued(void **state)
{
    (void)state;
    for (int dispatch = 0; dispatch < 2; dispatch++) {
        struct weir_server *server = support_start(OPTIONS_OF(&obedient, 1, .dispatch = dispatch));
        int idle = kept(server);
        int held = asking(server, "hold\n");
        int queued[5];

        for (int i = 0; i < 5; i++) {
            queued[i] = support_connect(server, 0);
            support_say(queued[i], i % 2 ? "keep\n" : "x\n");
        }
        SUPPORT_AWAIT(server, accepted, == 7);
        support_say(idle, "keep\n");
        assert_int_equal(weir_server_shutdown(server), 0);
        assert_int_equal(weir_server_close(server), 0);
        support_expect_last(held, "done\n");
        for (int i = 0; i < 5; i++)
            support_expect_last(queued[i], i % 2 ? "kept\n" : "done\n");
        /* A drained server answers a kept connection's last request. */
        support_expect_last(idle, "kept\n");
        weir_server_destroy(server);
    }
}

static void nobody_connects_to_a_closed_server(void **state)
{
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = support_abstract("closed"),
                                                            .handler = &obedient));
    struct weir_server *next;

    (void)state;
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_close(server), 0);
    /* The name is free again, while the old server is not destroyed yet. */
    next = support_start(WEIR_OPTIONS(.listen = support_abstract("closed"), .handler = &obedient));
    support_talk(next, 0, "x\n", "done\n");
    weir_server_destroy(next);
    weir_server_destroy(server);
}

static void close_without_block_on_close_returns_at_once(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.block_on_close = WEIR_NO));
    int blocked = asking(server, "block\n");
    int waiting = asking(server, "wait\n");
    int idle = kept(server);

    (void)state;
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_close(server), 0);
    support_expect_last(idle, "");
    assert_int_equal(support_stats(server).active, 2);
    gate_open(&gate);
    support_expect_last(blocked, "done\n");
    support_say(waiting, "words\n");
    weir_server_destroy(server);
    assert_int_equal(finished, 3);
    support_expect_last(waiting, "late words\n");
}

static void daemon_handlers_are_cancelled_where_they_park(void **state)
{
    size_t before = support_open_descriptors();

    (void)state;
    for (int block = WEIR_DEFAULT; block <= WEIR_NO; block++) {
        struct weir_server *server = support_start(OPTIONS(.daemon_threads = true,
                                                           .block_on_close = block));
        int sleeping = asking(server, "sleep\n");
        int idle = kept(server);

        finished = 0;
        assert_int_equal(weir_server_shutdown(server), 0);
        assert_int_equal(weir_server_close(server), 0);
        support_expect_last(idle, "");
        support_expect_last(sleeping, "");
        SUPPORT_AWAIT(server, active, == 0);
        assert_int_equal(finished, 2);
        assert_int_equal(support_stats(server).cancelled, 1);
        weir_server_destroy(server);
        SUPPORT_UNTIL(support_open_descriptors() == before);
    }
}

static void daemon_handlers_that_run_are_left_behind(void **state)
{
    size_t before = support_open_descriptors();
    struct weir_server *server = support_start(OPTIONS(.daemon_threads = true));
    int blocked = asking(server, "block\n");

    (void)state;
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_close(server), 0);
    assert_int_equal(support_stats(server).active, 1);
    weir_server_destroy(server);
    assert_int_equal(finished, 0);
    gate_open(&gate);
    support_expect_last(blocked, "done\n");
    /* It frees itself once its last handler has returned. */
    SUPPORT_UNTIL(support_open_descriptors() == before);
    assert_int_equal(finished, 1);
}

static void a_drain_that_takes_too_long_cancels(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.drain_timeout_ms = 30));
    int sleeping = asking(server, "sleep\n");
    uint64_t began_ms;

    (void)state;
    assert_int_equal(weir_server_shutdown(server), 0);
    began_ms = support_now_ms();
    assert_int_equal(weir_server_close(server), 0);
    assert_true(support_now_ms() - began_ms >= 30);
    assert_int_equal(finished, 1);
    assert_int_equal(last_status, -ECANCELED);
    support_expect_last(sleeping, "");
    weir_server_destroy(server);
}

static void *close_in_thread(void *server)
{
    weir_server_close(server);
    return NULL;
}

static void a_second_close_hurries_the_first(void **state)
{
    struct weir_server *server = support_start(DEFAULTS);
    int sleeping = asking(server, "sleep\n");
    int waiting = asking(server, "wait\n");
    pthread_t thread;

    (void)state;
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(pthread_create(&thread, NULL, close_in_thread, server), 0);
    gate_pass(&draining);
    assert_int_equal(weir_server_close(server), 0);
    pthread_join(thread, NULL);
    assert_int_equal(finished, 2);
    assert_int_equal(support_stats(server).cancelled, 2);
    support_expect_last(sleeping, "");
    support_expect_last(waiting, "");
    weir_server_destroy(server);
}

static void cancel_reaches_every_parked_handler(void **state)
{
    struct weir_server *server = support_start(OPTIONS_OF(&obedient, 3, .user = NULL));
    int clients[20];

    (void)state;
    for (int i = 0; i < 20; i++)
        clients[i] = asking(server, i % 2 ? "sleep\n" : "half a line");
    SUPPORT_AWAIT(server, parked, == 10);
    weir_server_cancel(server);
    SUPPORT_AWAIT(server, closed, == 20);
    for (int i = 0; i < 20; i++)
        support_expect_last(clients[i], "");
    assert_int_equal(support_stats(server).cancelled, 20);
    assert_int_equal(finished, 20);
    shut_down_and_destroy(server);
}

static void destroy_waits_for_handlers(void **state)
{
    struct weir_server *server = support_start(DEFAULTS);
    int held = asking(server, "hold\n");

    (void)state;
    weir_server_destroy(server);
    assert_int_equal(finished, 1);
    support_expect_last(held, "done\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_gates, close_gates)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_deferred_server_opens_its_sockets_step_by_step),
        TEST(the_caller_may_forget_a_deferred_servers_addresses),
        TEST(a_step_out_of_order_is_refused),
        TEST(a_server_that_is_not_deferred_has_made_both_steps),
        TEST(a_closed_server_makes_no_step),
        TEST(a_bind_that_fails_binds_nothing_and_may_be_repeated),
        TEST(an_activation_that_fails_may_be_repeated),
        TEST(a_deferred_server_that_robs_itself_is_told),
        TEST(a_wrong_owner_is_told_before_anything_is_opened),
        TEST(an_owner_without_a_unix_path_is_refused),
        TEST(shutdown_before_serving_ends_the_next_serving_at_once),
        TEST(a_second_shutdown_does_not_poison_the_next_serving),
        TEST(clients_between_two_servings_wait_in_the_backlog),
        TEST(a_stop_that_reaches_an_acceptor_late_is_not_for_the_next_serving),
        TEST(a_client_that_comes_with_the_stop_is_served_next_time),
        TEST(what_is_ready_when_the_stop_is_seen_is_not_served),
        TEST(serving_twice_at_a_time_is_refused),
        TEST(a_closed_server_does_not_serve),
        TEST(shutdown_waits_until_serving_has_ended),
        TEST(shutdown_does_not_wait_for_the_poll_interval),
        TEST(shutdown_may_race_with_the_start),
        TEST(shutdown_returns_though_serving_begins_again_at_once),
        TEST(a_server_is_destroyed_in_whatever_state_it_is),
        TEST(a_handler_that_would_wait_for_itself_is_refused),
        TEST(a_hook_that_would_wait_for_itself_is_refused),
        TEST(an_error_hook_in_a_handler_is_refused_as_well),
        TEST(a_handler_may_wait_for_the_shutdown_on_an_offload_thread),
        TEST(a_stop_from_any_part_of_a_handler_ends_this_serving_only),
        TEST(a_signal_handler_may_stop_the_server),
        TEST(shutdown_does_not_wait_for_handlers),
        TEST(close_waits_for_running_handlers),
        TEST(close_waits_for_parked_handlers),
        TEST(close_ends_kept_connections),
        TEST(close_serves_what_is_queued),
        TEST(nobody_connects_to_a_closed_server),
        TEST(close_without_block_on_close_returns_at_once),
        TEST(daemon_handlers_are_cancelled_where_they_park),
        TEST(daemon_handlers_that_run_are_left_behind),
        TEST(a_drain_that_takes_too_long_cancels),
        TEST(a_second_close_hurries_the_first),
        TEST(cancel_reaches_every_parked_handler),
        TEST(destroy_waits_for_handlers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
