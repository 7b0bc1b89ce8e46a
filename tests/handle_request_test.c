/* handle_request_test.c - one client at a time, without serve_forever: waiting, and polling. */
#include "tests/support.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define PARALLEL 16

static _Atomic int timeouts;        /* calls of handle_timeout */
static _Atomic int actions;         /* ... of service_actions */

static int reset(void **state)
{
    (void)state;
    timeouts = 0;
    actions = 0;
    return 0;
}

static const struct weir_handler echoing = { .name = "echoing", .handle = support_echo };

static void count_timeout(struct weir_server *server)
{
    (void)server;
    timeouts++;
}

static void count_action(struct weir_server *server)
{
    (void)server;
    actions++;
}

#define OPTIONS_AT(listen_, ...) WEIR_OPTIONS( \
        .listen = (listen_), .handler = &echoing, .handle_timeout = count_timeout, __VA_ARGS__)
#define OPTIONS(...) OPTIONS_AT("tcp://127.0.0.1:0", __VA_ARGS__)

/* Where a client that has connected is there to be accepted: TCP tells the client first. */
#define OPTIONS_AT_ONCE(...) OPTIONS_AT(support_abstract("one"), __VA_ARGS__)

static bool is_readable(int fd)
{
    struct pollfd waits = { .fd = fd, .events = POLLIN };

    return poll(&waits, 1, 0) > 0;
}

static int asking(struct weir_server *server, size_t i, const char *word)
{
    int fd = support_connect(server, i);

    support_say(fd, word);
    return fd;
}

static void expect_last(int fd, const char *text)
{
    support_half_close(fd);
    support_expect(fd, text);
    support_expect_end(fd);
    close(fd);
}

/* ------------------------------------------------------------------ clients ----------- */

/* Conformance behaviour 33. */
static void exactly_one_of_three_waiting_clients_is_served(void **state)
{
    struct weir_server *server = support_create(OPTIONS_AT_ONCE(.user = NULL));
    int clients[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        clients[i] = asking(server, 0, "a\n");
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(weir_handle_request(server), 1);
        assert_int_equal(support_stats(server).accepted, i + 1);
        /* The kernel hands them over in the order in which they came. */
        expect_last(clients[i], "a\n");
        for (unsigned later = i + 1; later < 3; later++)
            assert_true(support_is_silent(clients[later]));
    }
    assert_int_equal(timeouts, 0);
    weir_server_destroy(server);
}

static void *connect_later(void *server)
{
    int fd = asking(server, 0, "late\n");

    expect_last(fd, "late\n");
    return NULL;
}

static void without_a_timeout_it_waits_for_a_client(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.user = NULL));
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, connect_later, server), 0);
    assert_int_equal(weir_handle_request(server), 1);
    pthread_join(thread, NULL);
    weir_server_destroy(server);
}

static void it_does_not_wait_for_the_handler(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.workers = 1));
    int silent = support_connect(server, 0);
    int asks;

    (void)state;
    assert_int_equal(weir_handle_request(server), 1);
    asks = asking(server, 0, "b\n");
    assert_int_equal(weir_handle_request(server), 1);
    expect_last(asks, "b\n");
    assert_true(support_is_silent(silent));
    support_say(silent, "c\n");
    expect_last(silent, "c\n");
    weir_server_destroy(server);
}

static int refuse_all(struct weir_server *server, const struct weir_peer *peer)
{
    (void)server;
    (void)peer;
    return 0;
}

static void a_refused_client_counts(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.verify_request = refuse_all));
    int fd = support_connect(server, 0);

    (void)state;
    assert_int_equal(weir_handle_request(server), 1);
    support_expect_end(fd);
    close(fd);
    assert_int_equal(support_stats(server).refused, 1);
    weir_server_destroy(server);
}

static void every_listener_has_its_turn(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" }, { .address = support_abstract("turn") },
    };
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &echoing));
    int busy[PARALLEL];
    int other;

    (void)state;
    for (int i = 0; i < PARALLEL; i++)
        busy[i] = asking(server, 0, "tcp\n");
    other = asking(server, 1, "unix\n");
    for (int i = 0; i < 2; i++)
        assert_int_equal(weir_handle_request(server), 1);
    expect_last(other, "unix\n");
    for (int i = 1; i < PARALLEL; i++)
        assert_int_equal(weir_handle_request(server), 1);
    for (int i = 0; i < PARALLEL; i++)
        expect_last(busy[i], "tcp\n");
    weir_server_destroy(server);
}

/* The kernel spreads clients over the sockets that share a port. */
static void clients_of_every_acceptor_are_found(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.acceptors = 3));
    int clients[PARALLEL];

    (void)state;
    for (int i = 0; i < PARALLEL; i++)
        clients[i] = asking(server, 0, "x\n");
    for (int i = 0; i < PARALLEL; i++)
        assert_int_equal(weir_handle_request(server), 1);
    for (int i = 0; i < PARALLEL; i++)
        expect_last(clients[i], "x\n");
    weir_server_destroy(server);
}

static void kept_connections_are_served_however_they_are_dispatched(void **state)
{
    (void)state;
    for (int dispatch = 0; dispatch < 2; dispatch++) {
        struct weir_server *server = support_create(OPTIONS(.dispatch = dispatch));
        int fd = asking(server, 0, "a\n");

        assert_int_equal(weir_handle_request(server), 1);
        for (int i = 0; i < 3; i++) {
            support_expect(fd, "a\n");
            SUPPORT_AWAIT(server, idle, == 1);
            support_say(fd, "a\n");
        }
        expect_last(fd, "a\n");
        weir_server_destroy(server);
    }
}

/* ------------------------------------------------------------------ timeouts ---------- */

/* Conformance behaviours 28 and 30. */
static void nobody_came_is_told_not_earlier_than_the_timeout(void **state)
{
    struct weir_server *server = support_create(OPTIONS(
        .timeout_ms = 30, .service_actions = count_action, .poll_interval_ms = 1));

    (void)state;
    for (int i = 1; i <= 3; i++) {
        uint64_t began_ms = support_now_ms();

        assert_int_equal(weir_handle_request(server), 0);
        assert_true(support_now_ms() - began_ms >= 30);
        assert_int_equal(timeouts, i);
    }
    assert_int_equal(actions, 0);
    weir_server_destroy(server);
}

static _Atomic int signals;

static void count_signal(int number)
{
    (void)number;
    signals++;
}

/* Conformance behaviour 32. */
static void signals_do_not_shorten_the_timeout(void **state)
{
    const struct itimerval often = { .it_interval.tv_usec = 3000, .it_value.tv_usec = 3000 };
    const struct itimerval never = { .it_interval.tv_usec = 0 };
    const struct sigaction count = { .sa_handler = count_signal };
    struct weir_server *server = support_create(OPTIONS(.timeout_ms = 100));
    struct sigaction before;
    uint64_t began_ms = support_now_ms();

    (void)state;
    assert_int_equal(sigaction(SIGALRM, &count, &before), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    assert_int_equal(weir_handle_request(server), 0);
    assert_true(support_now_ms() - began_ms >= 100);
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);
    assert_true(signals > 0);
    assert_int_equal(timeouts, 1);
    weir_server_destroy(server);
}

/* Conformance behaviour 29. */
static void serve_forever_knows_no_timeout(void **state)
{
    struct weir_server *server = support_start(OPTIONS(
        .timeout_ms = 1, .service_actions = count_action, .poll_interval_ms = 10));

    (void)state;
    SUPPORT_UNTIL(actions >= 3);
    support_talk(server, 0, "x\n", "x\n");
    assert_int_equal(timeouts, 0);
    weir_server_destroy(server);
}

static void close_server(struct weir_server *server)
{
    count_timeout(server);
    assert_int_equal(weir_server_close(server), 0);
}

static void the_timeouts_hook_may_end_the_server(void **state)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &echoing, .timeout_ms = 1,
        .handle_timeout = close_server));

    (void)state;
    assert_int_equal(weir_handle_request(server), 0);
    assert_int_equal(timeouts, 1);
    assert_int_equal(weir_handle_request(server), -EBADF);
    weir_server_destroy(server);
}

static void a_timeout_needs_no_hook(void **state)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &echoing, .timeout_ms = 1));

    (void)state;
    assert_int_equal(weir_handle_request(server), 0);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ polling ----------- */

/* Conformance behaviour 76. */
static void one_thread_serves_two_servers(void **state)
{
    struct weir_server *servers[] = {
        support_create(OPTIONS(.user = NULL)),
        support_create(WEIR_OPTIONS(.listen = support_abstract("second"), .handler = &echoing)),
    };
    int clients[2][PARALLEL];
    int served[2] = { 0, 0 };

    (void)state;
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < PARALLEL; i++)
            clients[s][i] = asking(servers[s], 0, s == 0 ? "first\n" : "second\n");
    while (served[0] + served[1] < 2 * PARALLEL) {
        struct pollfd waits[] = {
            { .fd = weir_server_fileno(servers[0]), .events = POLLIN },
            { .fd = weir_server_fileno(servers[1]), .events = POLLIN },
        };

        assert_true(poll(waits, 2, PLENTY_MS) > 0);
        for (int s = 0; s < 2; s++)
            if (waits[s].revents != 0) {
                assert_int_equal(weir_handle_request(servers[s]), 1);
                served[s]++;
            }
    }
    for (int s = 0; s < 2; s++) {
        assert_int_equal(served[s], PARALLEL);
        for (int i = 0; i < PARALLEL; i++)
            expect_last(clients[s][i], s == 0 ? "first\n" : "second\n");
        assert_false(is_readable(weir_server_fileno(servers[s])));
        weir_server_destroy(servers[s]);
    }
}

static void the_descriptor_is_readable_while_anybody_waits(void **state)
{
    struct weir_server *server = support_create(OPTIONS_AT_ONCE(.user = NULL));
    int fd = weir_server_fileno(server);
    int clients[2];

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(weir_server_fileno(server), fd);
    assert_false(is_readable(fd));
    for (int i = 0; i < 2; i++)
        clients[i] = asking(server, 0, "x\n");
    for (int i = 0; i < 2; i++) {
        assert_true(is_readable(fd));
        assert_int_equal(weir_handle_request(server), 1);
    }
    assert_false(is_readable(fd));
    for (int i = 0; i < 2; i++)
        expect_last(clients[i], "x\n");
    weir_server_destroy(server);
}

/* An inherited listener is open elsewhere still, and its clients keep coming. */
static void a_closed_servers_descriptor_is_never_readable(void **state)
{
    struct weir_server *maker = support_create(OPTIONS_AT_ONCE(.user = NULL));
    struct weir_server *server;
    char address[32];
    int listener = -1, fd, client;

    (void)state;
    /* The maker's listener is the only socket that this process has. */
    for (int i = 3; i < 100 && listener < 0; i++) {
        int listens = 0;
        socklen_t len = sizeof(listens);

        if (getsockopt(i, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens)
            listener = i;
    }
    assert_true(listener >= 0);
    snprintf(address, sizeof(address), "fd://%d", dup(listener));
    server = support_create(OPTIONS_AT(address, .user = NULL));
    fd = weir_server_fileno(server);
    client = asking(maker, 0, "x\n");
    assert_true(is_readable(fd));
    assert_int_equal(weir_server_close(server), 0);
    assert_false(is_readable(fd));
    assert_int_equal(weir_server_fileno(server), -EBADF);
    assert_string_equal(weir_why(), "the server can't be polled: it was closed");
    assert_int_equal(weir_handle_request(maker), 1);
    expect_last(client, "x\n");
    weir_server_destroy(server);
    weir_server_destroy(maker);
}

/* ------------------------------------------------------------------ limits ------------ */

static void a_full_server_waits_for_room(void **state)
{
    struct weir_server *server = support_create(OPTIONS_AT_ONCE(.max_connections = 1,
                                                                .timeout_ms = 20));
    int first = asking(server, 0, "1\nha");
    int second = asking(server, 0, "2\n");
    struct support_patience patience = support_patience();

    (void)state;
    assert_int_equal(weir_handle_request(server), 1);
    support_expect(first, "1\n");
    assert_int_equal(weir_handle_request(server), 0);
    assert_int_equal(timeouts, 1);
    assert_int_equal(support_stats(server).accepted, 1);
    close(first);
    while (weir_handle_request(server) == 0)
        support_be_patient(&patience, "room", __FILE__, __LINE__);
    expect_last(second, "2\n");
    weir_server_destroy(server);
}

/* Whoever waits elsewhere may wait in front of it. */
static void a_listener_that_has_room_is_served_while_the_server_is_full(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .max_connections = 1 },
    };
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &echoing,
        .handle_timeout = count_timeout, .max_connections = 1, .timeout_ms = 20));
    int first = asking(server, 0, "1\nha");
    int second = asking(server, 0, "2\n");
    int third;

    (void)state;
    assert_int_equal(weir_handle_request(server), 1);
    support_expect(first, "1\n");
    assert_int_equal(weir_handle_request(server), 0);
    third = asking(server, 1, "3\n");
    assert_int_equal(weir_handle_request(server), 1);
    expect_last(third, "3\n");
    assert_true(support_is_silent(second));
    close(first);
    close(second);
    weir_server_destroy(server);
}

static void an_idle_connection_makes_room(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.max_connections = 1));
    int first = asking(server, 0, "1\n");
    int second = asking(server, 0, "2\n");

    (void)state;
    assert_int_equal(weir_handle_request(server), 1);
    support_expect(first, "1\n");
    assert_int_equal(weir_handle_request(server), 1);
    support_expect_end(first);
    close(first);
    expect_last(second, "2\n");
    assert_int_equal(support_stats(server).made_room, 1);
    weir_server_destroy(server);
}

static void *leave(void *fd)
{
    expect_last(*(int *)fd, "1\n");
    return NULL;
}

static void room_ends_the_wait(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.max_connections = 1));
    int first = asking(server, 0, "1\n");
    int second = asking(server, 0, "2\n");
    pthread_t thread;

    (void)state;
    assert_int_equal(weir_handle_request(server), 1);
    assert_int_equal(pthread_create(&thread, NULL, leave, &first), 0);
    assert_int_equal(weir_handle_request(server), 1);
    pthread_join(thread, NULL);
    expect_last(second, "2\n");
    weir_server_destroy(server);
}

static void want_of_descriptors_is_an_error_and_loses_nobody(void **state)
{
    struct weir_server *server = support_create(OPTIONS_AT_ONCE(.max_connections = 1000,
                                                                .timeout_ms = 1));
    struct rlimit before;
    int fd;

    (void)state;
    assert_int_equal(weir_handle_request(server), 0);   /* opens what it needs itself */
    fd = asking(server, 0, "x\n");
    before = support_leave_descriptors(0);
    assert_int_equal(weir_handle_request(server), -EMFILE);
    assert_string_equal(weir_why(), "the server can't accept: Too many open files: raise the limit "
                        "of descriptors (ulimit -n)");
    assert_int_equal(support_stats(server).accept_errors, 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(weir_handle_request(server), 1);
    expect_last(fd, "x\n");
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ with the others --- */

static void a_server_that_serves_handles_nothing_itself(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.user = NULL));

    (void)state;
    assert_int_equal(weir_handle_request(server), -EBUSY);
    assert_string_equal(weir_why(), "the server can't serve: it does already");
    support_talk(server, 0, "x\n", "x\n");
    weir_server_destroy(server);
}

/* What a verify_request hook was told, in the middle of weir_handle_request. */
static int told[3];

static int try_everything(struct weir_server *server, const struct weir_peer *peer)
{
    (void)peer;
    told[0] = weir_handle_request(server);
    told[1] = weir_serve_forever(server);
    told[2] = weir_server_close(server);
    return 1;
}

static void nothing_else_goes_on_meanwhile(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.verify_request = try_everything));
    int fd = asking(server, 0, "x\n");

    (void)state;
    assert_int_equal(weir_handle_request(server), 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(told[i], -EBUSY);
    expect_last(fd, "x\n");
    weir_server_destroy(server);
}

static void serving_finds_those_who_still_wait(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.user = NULL));
    int clients[3];

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++)
            clients[i] = asking(server, 0, "x\n");
        assert_int_equal(weir_handle_request(server), 1);
        assert_int_equal(weir_server_start(server), 0);
        for (int i = 0; i < 3; i++)
            expect_last(clients[i], "x\n");
        assert_int_equal(weir_server_shutdown(server), 0);
    }
    weir_server_destroy(server);
}

static void shutdown_is_ignored_and_left_to_serving(void **state)
{
    struct weir_server *server = support_create(OPTIONS_AT_ONCE(.timeout_ms = 1));
    int fd = asking(server, 0, "x\n");

    (void)state;
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_handle_request(server), 1);
    expect_last(fd, "x\n");
    assert_int_equal(weir_handle_request(server), 0);
    assert_int_equal(weir_serve_forever(server), 0);
    weir_server_destroy(server);
}

static int handle_another(struct weir_request *req)
{
    weir_printf(req, "%d", weir_handle_request(weir_request_server(req)) == -EDEADLK);
    return 0;
}

static void a_handler_handles_no_other_request(void **state)
{
    const struct weir_handler another = { .name = "another", .handle = handle_another };
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &another));
    int fd = support_connect(server, 0);

    (void)state;
    assert_int_equal(weir_handle_request(server), 1);
    expect_last(fd, "1");
    weir_server_destroy(server);
}

static void before_it_listens_there_is_nothing_to_handle(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.defer = true));

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(weir_handle_request(server), -EINVAL);
        assert_string_equal(weir_why(), "the server can't serve: it does not listen yet: "
                            "weir_server_bind and weir_server_activate come first");
        assert_int_equal(weir_server_fileno(server), -EINVAL);
        if (i == 0)
            assert_int_equal(weir_server_bind(server), 0);
    }
    weir_server_destroy(server);
}

static void nothing_stays_open(void **state)
{
    size_t before = support_open_descriptors();

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct weir_server *server = support_create(OPTIONS(.timeout_ms = 1));

        assert_true(weir_server_fileno(server) >= 0);
        assert_int_equal(weir_handle_request(server), 0);
        weir_server_destroy(server);
    }
    assert_int_equal(support_open_descriptors(), before);
}

#define TEST(name) cmocka_unit_test_setup(name, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(exactly_one_of_three_waiting_clients_is_served),
        TEST(without_a_timeout_it_waits_for_a_client),
        TEST(it_does_not_wait_for_the_handler),
        TEST(a_refused_client_counts),
        TEST(every_listener_has_its_turn),
        TEST(clients_of_every_acceptor_are_found),
        TEST(kept_connections_are_served_however_they_are_dispatched),
        TEST(nobody_came_is_told_not_earlier_than_the_timeout),
        TEST(signals_do_not_shorten_the_timeout),
        TEST(serve_forever_knows_no_timeout),
        TEST(the_timeouts_hook_may_end_the_server),
        TEST(a_timeout_needs_no_hook),
        TEST(one_thread_serves_two_servers),
        TEST(the_descriptor_is_readable_while_anybody_waits),
        TEST(a_closed_servers_descriptor_is_never_readable),
        TEST(a_full_server_waits_for_room),
        TEST(a_listener_that_has_room_is_served_while_the_server_is_full),
        TEST(an_idle_connection_makes_room),
        TEST(room_ends_the_wait),
        TEST(want_of_descriptors_is_an_error_and_loses_nobody),
        TEST(a_server_that_serves_handles_nothing_itself),
        TEST(nothing_else_goes_on_meanwhile),
        TEST(serving_finds_those_who_still_wait),
        TEST(shutdown_is_ignored_and_left_to_serving),
        TEST(a_handler_handles_no_other_request),
        TEST(before_it_listens_there_is_nothing_to_handle),
        TEST(nothing_stays_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
