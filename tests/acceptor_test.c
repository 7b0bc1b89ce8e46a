/*
 * acceptor_test.c - who is let in, and when not: full servers, lacking descriptors and memory,
 * clients that are gone already, idle ones.
 */
#include "tests/support.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void ignore_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    (void)failure;
}

static int say_bye(struct weir_request *req, int status)
{
    (void)status;
    weir_printf(req, "bye\n");
    return 0;
}

static const struct weir_handler lines = {
    .name = "lines", .handle = support_echo, .finish = say_bye,
};

#define OPTIONS(...) WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &lines, \
                                  .handle_error = ignore_error, __VA_ARGS__)

static void assert_adds_up(struct weir_server *server)
{
    struct weir_stats stats = support_stats(server);

    assert_int_equal(stats.accepted, stats.closed + stats.refused + stats.active);
}

/* ------------------------------------------------------------------ full -------------- */

static void assert_pauses_when_full(const struct weir_options *options)
{
    struct weir_server *server = support_start(options);
    int clients[10];

    for (int i = 0; i < 10; i++) {
        clients[i] = support_connect(server, 0);
        /* They go on with another line: who is idle would make room. */
        support_say(clients[i], "in\nha");
    }
    /* Each that leaves lets one in. */
    for (int i = 0; i < 10; i++) {
        support_expect(clients[i], "in\n");
        SUPPORT_AWAIT(server, accepted, == (i + 3 < 10 ? (unsigned)i + 3 : 10u));
        for (int later = i + 3; later < 10; later++)
            assert_true(support_is_silent(clients[later]));
        support_half_close(clients[i]);
        support_expect(clients[i], "habye\n");
        support_expect_end(clients[i]);
        close(clients[i]);
    }
    SUPPORT_AWAIT(server, closed, == 10);
    assert_int_equal(support_stats(server).accept_errors, 0);
    assert_int_equal(support_stats(server).made_room, 0);
    weir_server_destroy(server);
}

static void a_full_server_pauses_and_loses_nobody(void **state)
{
    (void)state;
    for (int dispatch = 0; dispatch < 2; dispatch++)
        assert_pauses_when_full(OPTIONS(.max_connections = 3, .dispatch = dispatch));
}

static void all_listeners_of_a_full_server_pause(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" }, { .address = support_abstract("full") },
    };
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &lines, .max_connections = 1));
    int first = support_connect(server, 0);
    int second;

    (void)state;
    SUPPORT_AWAIT(server, accepted, == 1);
    second = support_connect(server, 1);
    support_say(second, "in\n");
    support_say(first, "a\nha");
    support_expect(first, "a\n");
    assert_int_equal(support_stats(server).accepted, 1);
    close(first);
    support_expect(second, "in\n");
    close(second);
    weir_server_destroy(server);
}

static void several_acceptors_pause_together(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.max_connections = 4, .acceptors = 3));
    int clients[40];

    (void)state;
    for (int i = 0; i < 40; i++) {
        clients[i] = support_connect(server, 0);
        support_say(clients[i], "in\n");
        support_half_close(clients[i]);
    }
    for (int i = 0; i < 40; i++) {
        support_expect(clients[i], "in\nbye\n");
        support_expect_end(clients[i]);
        close(clients[i]);
    }
    SUPPORT_AWAIT(server, closed, == 40);
    weir_server_destroy(server);
}

static int connect_at_once(const char *abstract_uri)
{
    const char *name = abstract_uri + strlen("unix:@");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    memcpy(address.sun_path + 1, name, strlen(name));
    if (connect(fd, (const struct sockaddr *)&address, len) < 0) {
        int error = errno;

        close(fd);
        return -error;
    }
    return fd;
}

static void the_backlog_holds_one_more_than_it_was_given(void **state)
{
    const char *uri = support_abstract("backlog");
    struct weir_server *server = support_create(WEIR_OPTIONS(.listen = uri, .handler = &lines,
                                                             .backlog = 2));
    int clients[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        clients[i] = connect_at_once(uri);
        assert_true(clients[i] >= 0);
    }
    assert_int_equal(connect_at_once(uri), -EAGAIN);
    assert_int_equal(weir_server_start(server), 0);
    for (int i = 0; i < 3; i++) {
        support_half_close(clients[i]);
        SUPPORT_UNTIL(!support_is_silent(clients[i]));
        support_expect(clients[i], "bye\n");
        close(clients[i]);
    }
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ want -------------- */

static void without_descriptors_accepting_pauses_and_resumes(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.max_connections = 100));
    struct capture capture;
    struct rlimit before;
    char written[500];
    int clients[4];
    uint64_t began_ms;
    uint64_t errors;

    (void)state;
    for (int i = 0; i < 4; i++) {
        clients[i] = support_connect(server, 0);
        /* They go on with another line: who is idle would make room. */
        support_say(clients[i], "in\nha");
    }
    capture_begin(&capture);
    before = support_leave_descriptors(2);
    began_ms = support_now_ms();
    assert_int_equal(weir_server_start(server), 0);
    support_expect(clients[0], "in\n");
    support_expect(clients[1], "in\n");
    SUPPORT_AWAIT(server, accept_errors, >= 3);
    assert_int_equal(support_stats(server).accepted, 2);
    /* It tries again every 50 ms, and does not spin. */
    errors = support_stats(server).accept_errors;
    assert_true(errors <= (support_now_ms() - began_ms) / 50 + 1);
    /* One that leaves lets the next one in. */
    support_half_close(clients[0]);
    support_expect(clients[0], "habye\n");
    support_expect(clients[2], "in\n");
    assert_int_equal(support_stats(server).accepted, 3);
    /* So does a descriptor that somebody else gives back. */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    support_expect(clients[3], "in\n");
    capture_end(&capture, written, sizeof(written));
    assert_non_null(strstr(written, "accepting pauses: Too many open files\n"));
    for (int i = 0; i < 4; i++)
        close(clients[i]);
    weir_server_destroy(server);
}

static void a_connection_without_memory_is_refused(void **state)
{
    const struct weir_handler huge = {
        .name = "huge", .handle = support_echo, .state_size = (size_t)1 << 46,
    };
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0", .handler = &huge },
        { .address = "tcp://127.0.0.1:0", .handler = &lines },
    };
    struct weir_server *server = support_start(WEIR_OPTIONS(.listeners = listeners,
                                                            .listeners_len = 2));

    (void)state;
    for (int i = 0; i < 10; i++) {
        int fd = support_connect(server, 0);

        support_expect_end(fd);
        close(fd);
        support_talk(server, 1, "a\n", "a\nbye\n");
    }
    SUPPORT_AWAIT(server, closed, == 10);
    assert_int_equal(support_stats(server).refused, 10);
    assert_adds_up(server);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ full -------------- */

#define ROOM 20

static void assert_all_are_served_while_it_is_full(const struct weir_options *options)
{
    struct weir_server *server = support_start(options);
    int clients[3 * ROOM];

    for (int i = 0; i < 3 * ROOM; i++) {
        clients[i] = support_connect(server, 0);
        support_say(clients[i], "in\n");
        support_expect(clients[i], "in\n");
    }
    SUPPORT_AWAIT(server, made_room, >= 2 * ROOM);
    assert_true(support_stats(server).active <= ROOM);
    assert_true(support_stats(server).full > 0);
    assert_int_equal(support_stats(server).timeouts, 0);
    /* Who was idle for the longest time went first, and finish() has run. */
    support_expect(clients[0], "bye\n");
    support_expect_end(clients[0]);
    support_say(clients[3 * ROOM - 1], "still\n");
    support_expect(clients[3 * ROOM - 1], "still\n");
    for (int i = 0; i < 3 * ROOM; i++)
        close(clients[i]);
    SUPPORT_AWAIT(server, active, == 0);
    assert_adds_up(server);
    weir_server_destroy(server);
}

static void idle_connections_make_room_for_others(void **state)
{
    (void)state;
    assert_all_are_served_while_it_is_full(OPTIONS(.max_connections = ROOM));
    assert_all_are_served_while_it_is_full(OPTIONS(.max_connections = ROOM, .workers = 1));
    assert_all_are_served_while_it_is_full(OPTIONS(.max_connections = ROOM,
                                                   .dispatch = WEIR_DISPATCH_ACCEPTOR));
    assert_all_are_served_while_it_is_full(OPTIONS(.max_connections = ROOM, .acceptors = 2));
    assert_all_are_served_while_it_is_full(OPTIONS(.max_connections = ROOM, .processes = 1,
                                                   .concurrency = WEIR_PREFORK, .workers = 2));
}

static const struct weir_handler silent = {
    .name = "silent", .handle = support_echo, .client_first = true,
};

/* Who is silent may be so for less time than who is idle. */
#define SILENT_OPTIONS(max) \
    WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &silent, .max_connections = (max), \
                 .idle_timeout_ms = 75000, .request_timeout_ms = 60000)

/* False: it took so long that they may have been taken for silent ones. */
static bool fresh_clients_are_all_served(void)
{
    struct weir_server *server = support_start(SILENT_OPTIONS(ROOM));
    uint64_t began_ms = support_now_ms();
    int clients[2 * ROOM];
    bool at_once;

    for (int i = 0; i < 2 * ROOM; i++)
        clients[i] = support_connect(server, 0);
    SUPPORT_AWAIT(server, full, >= 2);
    for (int i = 0; i < 2 * ROOM; i++)
        support_say(clients[i], "in\n");
    at_once = support_now_ms() - began_ms < 900;
    for (int i = 0; i < 2 * ROOM && at_once; i++)
        support_expect(clients[i], "in\n");
    for (int i = 0; i < 2 * ROOM; i++)
        close(clients[i]);
    weir_server_destroy(server);
    return at_once;
}

static void clients_that_have_just_connected_keep_their_places(void **state)
{
    struct support_patience patience = support_patience();

    (void)state;
    while (!fresh_clients_are_all_served())
        support_be_patient(&patience, "a quick moment", __FILE__, __LINE__);
}

/* However soon the others are to be done with, they have come later. */
static void who_has_been_idle_longer_goes_before_who_has_not_spoken(void **state)
{
    struct weir_server *server = support_start(SILENT_OPTIONS(6));
    int clients[7];

    (void)state;
    for (int i = 0; i < 3; i++) {
        clients[i] = support_connect(server, 0);
        support_say(clients[i], "in\n");
        support_expect(clients[i], "in\n");
    }
    SUPPORT_AWAIT(server, idle, == 3);
    for (int i = 3; i < 6; i++) {
        clients[i] = support_connect(server, 0);
        SUPPORT_AWAIT(server, idle, == (uint64_t)i + 1);
    }
    clients[6] = support_connect(server, 0);
    support_say(clients[6], "in\n");
    support_expect(clients[6], "in\n");
    support_expect_end(clients[0]);
    assert_int_equal(support_stats(server).made_room, 1);
    for (int i = 3; i < 6; i++) {
        support_say(clients[i], "in\n");
        support_expect(clients[i], "in\n");
    }
    for (int i = 0; i < 7; i++)
        close(clients[i]);
    weir_server_destroy(server);
}

/* Nobody is sent away while nobody waits: that there is no room left is nothing by itself. */
static void a_full_server_keeps_its_idle_connections_until_somebody_waits(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.max_connections = 3));
    int clients[4];

    (void)state;
    for (int i = 0; i < 3; i++) {
        clients[i] = support_connect(server, 0);
        support_say(clients[i], "in\n");
        support_expect(clients[i], "in\n");
    }
    for (int i = 0; i < 3; i++) {
        support_say(clients[i], "again\n");
        support_expect(clients[i], "again\n");
    }
    assert_int_equal(support_stats(server).full, 0);
    assert_int_equal(support_stats(server).made_room, 0);
    clients[3] = support_connect(server, 0);
    support_say(clients[3], "in\n");
    support_expect(clients[3], "in\n");
    assert_int_equal(support_stats(server).made_room, 1);
    for (int i = 0; i < 4; i++)
        close(clients[i]);
    weir_server_destroy(server);
}

/* Those that are at work stay, and a place is had as soon as one of them rests. */
static void connections_at_work_make_no_room(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.max_connections = 2));
    int clients[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        clients[i] = support_connect(server, 0);
    support_say(clients[0], "half a li");
    support_say(clients[1], "half a li");
    support_say(clients[2], "in\n");
    SUPPORT_AWAIT(server, full, >= 3);
    assert_int_equal(support_stats(server).made_room, 0);
    support_say(clients[1], "ne\n");
    support_expect(clients[1], "half a line\nbye\n");
    support_expect(clients[2], "in\n");
    support_say(clients[0], "ne\n");
    support_expect(clients[0], "half a line\n");
    assert_int_equal(support_stats(server).made_room, 1);
    for (int i = 0; i < 3; i++)
        close(clients[i]);
    weir_server_destroy(server);
}

/* ... unless the listener bounds its requests, and they keep their handlers waiting. */
static void requests_that_stall_make_room_where_they_have_a_deadline(void **state)
{
    for (int dispatch = 0; dispatch < 2; dispatch++) {
        struct weir_server *server = support_start(OPTIONS(.max_connections = 1,
                                                           .request_timeout_ms = 3600000,
                                                           .dispatch = dispatch));
        int stalled = support_ask(server, 0, "half a li"), next;

        (void)state;
        SUPPORT_AWAIT(server, parked, == 1);
        next = support_ask(server, 0, "in\n");
        support_expect(next, "in\n");
        /* finish() has run. */
        support_expect_last(stalled, "bye\n");
        assert_int_equal(support_stats(server).made_room, 1);
        assert_int_equal(support_stats(server).timeouts, 0);
        assert_int_equal(support_stats(server).handle_errors, 1);
        close(next);
        SUPPORT_AWAIT(server, active, == 0);
        weir_server_destroy(server);
    }
}

/* If the server is so slow that a second passes before a place is free, others may have to go. */
static bool is_the_longest_silent_sent_away_alone(void)
{
    struct weir_server *server = support_start(OPTIONS(.max_connections = 3,
                                                       .request_timeout_ms = 3600000));
    int stalled[2], idle, next[2];
    bool alone;

    for (unsigned i = 0; i < 2; i++) {
        stalled[i] = support_ask(server, 0, "half a li");
        SUPPORT_AWAIT(server, parked, == i + 1);
    }
    idle = support_ask(server, 0, "in\n");
    support_expect(idle, "in\n");
    /* Who is idle goes first, although it has been silent for less time. */
    next[0] = support_ask(server, 0, "half a li");
    support_expect_last(idle, "bye\n");
    SUPPORT_AWAIT(server, parked, == 3);
    next[1] = support_ask(server, 0, "in\n");
    support_expect_last(stalled[0], "bye\n");
    support_expect(next[1], "in\n");
    alone = support_stats(server).made_room == 2;
    if (alone) {
        support_say(stalled[1], "ne\n");
        support_expect(stalled[1], "half a line\n");
    }
    close(stalled[1]);
    close(next[0]);
    close(next[1]);
    weir_server_destroy(server);
    return alone;
}

static void the_longest_silent_makes_room_first(void **state)
{
    struct support_patience patience = support_patience();

    (void)state;
    while (!is_the_longest_silent_sent_away_alone())
        support_be_patient(&patience, "a quick moment", __FILE__, __LINE__);
}

static int write_without_end(struct weir_request *req)
{
    static const char text[1 << 16];
    ssize_t n;

    do
        n = weir_write(req, text, sizeof(text));
    while (n > 0);
    return (int)n;
}

/* The same of a client that takes nothing of what is written for it. */
static void replies_that_stall_make_room(void **state)
{
    static const struct weir_handler endless = { .name = "endless", .handle = write_without_end };
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &endless, .handle_error = ignore_error,
        .max_connections = 1, .request_timeout_ms = 3600000));
    int deaf = support_connect(server, 0), next;
    char first;

    (void)state;
    SUPPORT_AWAIT(server, parked, == 1);
    next = support_connect(server, 0);
    assert_int_equal(recv(next, &first, 1, 0), 1);
    /* Once more for each time that its last look found room after all. */
    SUPPORT_AWAIT(server, made_room, >= 1);
    close(deaf);
    close(next);
    SUPPORT_AWAIT(server, active, == 0);
    weir_server_destroy(server);
}

static int sleep_long(struct weir_request *req)
{
    return weir_sleep(req, 3600000);
}

/* Who waits for something else than its client is at work. */
static void handlers_that_sleep_make_no_room(void **state)
{
    static const struct weir_handler sleeper = { .name = "sleeper", .handle = sleep_long };
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &sleeper, .handle_error = ignore_error,
        .max_connections = 1, .request_timeout_ms = 3600000));
    uint64_t until_ms;
    int first = support_connect(server, 0), second;

    (void)state;
    SUPPORT_AWAIT(server, running, == 1);
    second = support_connect(server, 0);
    /* A second of silence is what the others are given. */
    for (until_ms = support_stats(server).full + 40; support_stats(server).full < until_ms;)
        assert_int_equal(support_stats(server).made_room, 0);
    assert_int_equal(support_stats(server).made_room, 0);
    weir_server_cancel(server);
    close(first);
    close(second);
    weir_server_destroy(server);
}

/* More than a client has room for that does not read, and less than the server's socket has. */
#define HELD ((size_t)512 << 10)

static struct gate worker_gate;

/* "hold" holds its worker; anything else is answered by much. */
static int hold_or_answer(struct weir_request *req)
{
    static char much[HELD];
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    if (line[0] == 'h') {
        gate_pass(&worker_gate);
        return 0;
    }
    n = weir_write(req, much, sizeof(much));
    return n < 0 ? (int)n : 0;
}

/*
 * Its wait is ended while its worker is held by somebody else, and it speaks before that goes on:
 * so it is served, and then nothing is left of its having been asked to go.
 */
static void who_speaks_at_the_last_moment_has_the_whole_answer(void **state)
{
    static const struct weir_handler handler = { .name = "held", .handle = hold_or_answer };
    static char answer[HELD + 1];
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &handler, .handle_error = ignore_error,
        .workers = 1, .max_connections = 2, .request_timeout_ms = 3600000));
    int client, holder, third;

    (void)state;
    gate_init(&worker_gate);
    client = support_connect(server, 0);
    SUPPORT_AWAIT(server, parked, == 1);
    holder = support_ask(server, 0, "hold\n");
    SUPPORT_AWAIT(server, running, == 1);
    third = support_connect(server, 0);
    SUPPORT_AWAIT(server, parked, == 0);
    support_say(client, "go\n");
    gate_open(&worker_gate);
    support_expect_end(holder);
    SUPPORT_AWAIT(server, closed, == 2);
    support_say(client, "x");
    assert_int_equal(support_read_all(client, answer, sizeof(answer)), HELD);
    close(client);
    close(holder);
    close(third);
    weir_server_destroy(server);
    gate_fini(&worker_gate);
}

/* As where a program has other uses for its descriptors than max_connections knows of. */
static void without_descriptors_idle_connections_make_room(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.max_connections = 100));
    struct rlimit before;
    int clients[6];

    (void)state;
    for (int i = 0; i < 6; i++) {
        clients[i] = support_connect(server, 0);
        support_say(clients[i], "in\n");
    }
    before = support_leave_descriptors(2);
    assert_int_equal(weir_server_start(server), 0);
    for (int i = 0; i < 6; i++)
        support_expect(clients[i], "in\n");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    SUPPORT_AWAIT(server, made_room, >= 4);
    for (int i = 0; i < 6; i++)
        close(clients[i]);
    weir_server_destroy(server);
}

static void what_was_full_is_told_once(void **state)
{
    struct weir_server *server;
    struct capture capture;
    char written[500];
    int clients[6];

    (void)state;
    capture_begin(&capture);
    server = support_start(OPTIONS(.max_connections = 2));
    for (int i = 0; i < 6; i++) {
        clients[i] = support_connect(server, 0);
        support_say(clients[i], "in\n");
        support_expect(clients[i], "in\n");
    }
    for (int i = 0; i < 6; i++)
        close(clients[i]);
    SUPPORT_AWAIT(server, made_room, == 4);
    capture_end(&capture, written, sizeof(written));
    weir_server_destroy(server);
    assert_non_null(strstr(written, ": full: 2 connections are open, as many as max_connections "
                           "allows, and others wait\n"));
    assert_ptr_equal(strchr(written, '\n'), written + strlen(written) - 1);
}

/* ------------------------------------------------------------------ limits apart ------ */

/* Two listeners, the second with a limit of its own. */
#define BOTH(narrow, ...) WEIR_OPTIONS( \
    .listeners = (const struct weir_listen[]){ \
        { .address = "tcp://127.0.0.1:0" }, \
        { .address = "tcp://127.0.0.1:0", .max_connections = (narrow) }, \
    }, .listeners_len = 2, .handler = &lines, .handle_error = ignore_error, __VA_ARGS__)

/* It goes on with another line: who is idle would make room. */
static int come_to_stay(struct weir_server *server, size_t i)
{
    int fd = support_ask(server, i, "in\nha");

    support_expect(fd, "in\n");
    return fd;
}

static void leave(int fd)
{
    support_half_close(fd);
    support_expect_last(fd, "habye\n");
}

/* Those of one listener have all the room that it has: they wait, and the other's are served. */
static void assert_one_rests_alone(struct weir_server *server, size_t full, size_t other)
{
    int first = come_to_stay(server, full);
    int second = support_ask(server, full, "in\nha");

    SUPPORT_AWAIT(server, full, >= 1);
    for (int i = 0; i < 5; i++) {
        int fd = come_to_stay(server, other);

        assert_true(support_is_silent(second));
        leave(fd);
    }
    assert_true(support_is_silent(second));
    leave(first);
    support_expect(second, "in\n");
    leave(second);
    SUPPORT_AWAIT(server, active, == 0);
    assert_int_equal(support_stats(server).accept_errors, 0);
    assert_int_equal(support_stats(server).made_room, 0);
    weir_server_destroy(server);
}

static void a_listener_with_its_own_limit_is_served_while_the_server_is_full(void **state)
{
    (void)state;
    for (int dispatch = 0; dispatch < 2; dispatch++)
        assert_one_rests_alone(support_start(BOTH(1, .max_connections = 1, .dispatch = dispatch)),
                               0, 1);
    assert_one_rests_alone(support_start(BOTH(1, .max_connections = 1, .concurrency = WEIR_THREAD)),
                           0, 1);
}

static void a_listener_over_its_own_limit_rests_while_others_accept(void **state)
{
    (void)state;
    for (int dispatch = 0; dispatch < 2; dispatch++)
        assert_one_rests_alone(support_start(BOTH(1, .max_connections = 9, .dispatch = dispatch)),
                               1, 0);
    assert_one_rests_alone(support_start(BOTH(1, .max_connections = 9, .concurrency = WEIR_THREAD)),
                           1, 0);
}

/* Of children, which wait in line where there is one. */
static void so_it_is_with_children(void **state)
{
    static const enum weir_concurrency hows[] = { WEIR_FORK, WEIR_PREFORK };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_one_rests_alone(support_start(BOTH(1, .max_connections = 1, .concurrency = hows[i],
                                                  .processes = hows[i] == WEIR_PREFORK)), 0, 1);
        assert_one_rests_alone(support_start(BOTH(1, .max_connections = 9, .concurrency = hows[i],
                                                  .processes = hows[i] == WEIR_PREFORK)), 1, 0);
    }
}

/* However long another listener's have been idle: they have their places from another limit. */
static void only_those_under_the_same_limit_make_room(void **state)
{
    struct weir_server *server = support_start(BOTH(1, .max_connections = 9));
    int clients[3];

    (void)state;
    clients[0] = support_ask(server, 0, "in\n");
    support_expect(clients[0], "in\n");
    SUPPORT_AWAIT(server, idle, == 1);
    clients[1] = support_ask(server, 1, "in\n");
    support_expect(clients[1], "in\n");
    clients[2] = support_ask(server, 1, "in\n");
    support_expect(clients[2], "in\n");
    support_expect(clients[1], "bye\n");
    support_expect_end(clients[1]);
    assert_int_equal(support_stats(server).made_room, 1);
    support_say(clients[0], "still\n");
    support_expect(clients[0], "still\n");
    for (int i = 0; i < 3; i++)
        close(clients[i]);
    weir_server_destroy(server);
}

/* Descriptors are everybody's. */
static void without_descriptors_all_listeners_rest(void **state)
{
    struct weir_server *server = support_create(BOTH(5, .max_connections = 5));
    struct rlimit before;
    int clients[3];

    (void)state;
    clients[0] = support_connect(server, 0);
    clients[1] = support_connect(server, 1);
    clients[2] = support_connect(server, 0);
    for (int i = 0; i < 3; i++)
        support_say(clients[i], "in\nha");
    before = support_leave_descriptors(1);
    assert_int_equal(weir_server_start(server), 0);
    SUPPORT_AWAIT(server, accept_errors, >= 2);
    assert_int_equal(support_stats(server).accepted, 1);
    assert_int_equal(support_stats(server).full, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (int i = 0; i < 3; i++)
        support_expect(clients[i], "in\n");
    for (int i = 0; i < 3; i++)
        close(clients[i]);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ refused ----------- */

static _Atomic int asked;

static int every_other(struct weir_server *server, const struct weir_peer *peer)
{
    (void)server;
    (void)peer;
    switch (asked++ % 3) {
    case 0:
        return 1;
    case 1:
        return 0;
    default:
        return -EACCES;
    }
}

static void who_is_refused_is_counted(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.verify_request = every_other));

    (void)state;
    for (int i = 0; i < 30; i++) {
        int fd = support_connect(server, 0);

        support_half_close(fd);
        if (i % 3 == 0)
            support_expect(fd, "bye\n");
        support_expect_end(fd);
        close(fd);
    }
    SUPPORT_AWAIT(server, closed, == 10);
    assert_int_equal(support_stats(server).accepted, 30);
    assert_int_equal(support_stats(server).refused, 20);
    assert_int_equal(support_stats(server).verify_errors, 10);
    assert_adds_up(server);
    weir_server_destroy(server);
}

static void a_client_that_is_gone_before_it_was_accepted_does_no_harm(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.max_connections = 50));

    (void)state;
    for (int i = 0; i < 20; i++) {
        int fd = support_connect(server, 0);

        if (i % 2)
            support_say(fd, "gone\n");
        support_reset(fd);
    }
    assert_int_equal(weir_server_start(server), 0);
    support_talk(server, 0, "here\n", "here\nbye\n");
    SUPPORT_AWAIT(server, active, == 0);
    assert_adds_up(server);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ several ----------- */

#define ACCEPTORS 3

/* The acceptors' threads, as verify_request meets them. */
static struct {
    pthread_mutex_t lock;
    pthread_t threads[ACCEPTORS];
    size_t len;
} met = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int meet(struct weir_server *server, const struct weir_peer *peer)
{
    size_t i = 0;

    (void)server;
    (void)peer;
    pthread_mutex_lock(&met.lock);
    while (i < met.len && !pthread_equal(met.threads[i], pthread_self()))
        i++;
    if (i == met.len && i < ACCEPTORS)
        met.threads[met.len++] = pthread_self();
    pthread_mutex_unlock(&met.lock);
    return 1;
}

static void forget_met(void)
{
    pthread_mutex_lock(&met.lock);
    met.len = 0;
    pthread_mutex_unlock(&met.lock);
}

static size_t count_met(void)
{
    size_t len;

    pthread_mutex_lock(&met.lock);
    len = met.len;
    pthread_mutex_unlock(&met.lock);
    return len;
}

static void each_acceptor_gets_its_share(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.acceptors = ACCEPTORS,
                                                       .verify_request = meet));

    (void)state;
    forget_met();
    SUPPORT_UNTIL((support_talk(server, 0, "", "bye\n"), count_met() == ACCEPTORS));
    weir_server_destroy(server);
}

static int connect_by_ipv4(struct weir_server *server)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char uri[WEIR_ADDRESS_SIZE];

    assert_true(weir_server_address(server, 0, uri, sizeof(uri)) > 0);
    address.sin_port = htons((uint16_t)atoi(strrchr(uri, ':') + 1));
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* Of an address without a host, IPv4 comes to each acceptor as well as IPv6. */
static void each_acceptor_gets_its_share_of_either_family(void **state)
{
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = "tcp://:0", .handler = &lines, .acceptors = ACCEPTORS,
        .verify_request = meet));

    (void)state;
    forget_met();
    SUPPORT_UNTIL((close(connect_by_ipv4(server)), count_met() == ACCEPTORS));
    forget_met();
    SUPPORT_UNTIL((support_talk(server, 0, "", "bye\n"), count_met() == ACCEPTORS));
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ idle -------------- */

static void idle_connections_are_closed_and_busy_ones_live(void **state)
{
    (void)state;
    for (int dispatch = 0; dispatch < 2; dispatch++) {
        struct weir_server *server = support_start(OPTIONS(.idle_timeout_ms = 300,
                                                           .dispatch = dispatch));
        int idle = support_connect(server, 0);
        int busy = support_connect(server, 0);
        uint64_t since_ms = support_now_ms();

        support_say(idle, "a\n");
        support_expect(idle, "a\n");
        while (support_is_silent(idle)) {
            support_say(busy, "b\n");
            support_expect(busy, "b\n");
        }
        assert_true(support_now_ms() - since_ms >= 300);
        support_expect(idle, "bye\n");
        support_expect_end(idle);
        support_say(busy, "b\n");
        support_expect(busy, "b\n");
        assert_int_equal(support_stats(server).timeouts, 1);
        close(idle);
        close(busy);
        weir_server_destroy(server);
    }
}

/* Ten idle times, one after the other: none too short by so much as the clock's grain. */
static void an_idle_connection_is_not_closed_early(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.idle_timeout_ms = 15));

    (void)state;
    for (int i = 0; i < 10; i++) {
        int fd = support_connect(server, 0);
        uint64_t since_ms = support_now_ms();

        support_say(fd, "a\n");
        support_expect(fd, "a\nbye\n");
        assert_true(support_now_ms() - since_ms >= 15);
        close(fd);
    }
    weir_server_destroy(server);
}

static void a_connection_inside_a_handler_is_not_idle(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.idle_timeout_ms = 20));
    int inside = support_connect(server, 0);
    int idle = support_connect(server, 0);

    (void)state;
    support_say(inside, "half a ");
    support_say(idle, "a\n");
    support_expect(idle, "a\nbye\n");
    support_expect_end(idle);
    support_say(inside, "line\n");
    support_expect(inside, "half a line\n");
    close(inside);
    close(idle);
    weir_server_destroy(server);
}

/* Sanitizers end the process for a size that malloc would just refuse. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_server_pauses_and_loses_nobody),
        cmocka_unit_test(all_listeners_of_a_full_server_pause),
        cmocka_unit_test(several_acceptors_pause_together),
        cmocka_unit_test(the_backlog_holds_one_more_than_it_was_given),
        cmocka_unit_test(without_descriptors_accepting_pauses_and_resumes),
        cmocka_unit_test(a_connection_without_memory_is_refused),
        cmocka_unit_test(idle_connections_make_room_for_others),
        cmocka_unit_test(clients_that_have_just_connected_keep_their_places),
        cmocka_unit_test(who_has_been_idle_longer_goes_before_who_has_not_spoken),
        cmocka_unit_test(a_full_server_keeps_its_idle_connections_until_somebody_waits),
        cmocka_unit_test(connections_at_work_make_no_room),
        cmocka_unit_test(requests_that_stall_make_room_where_they_have_a_deadline),
        cmocka_unit_test(the_longest_silent_makes_room_first),
        cmocka_unit_test(replies_that_stall_make_room),
        cmocka_unit_test(handlers_that_sleep_make_no_room),
        cmocka_unit_test(who_speaks_at_the_last_moment_has_the_whole_answer),
        cmocka_unit_test(without_descriptors_idle_connections_make_room),
        cmocka_unit_test(what_was_full_is_told_once),
        cmocka_unit_test(a_listener_with_its_own_limit_is_served_while_the_server_is_full),
        cmocka_unit_test(a_listener_over_its_own_limit_rests_while_others_accept),
        cmocka_unit_test(so_it_is_with_children),
        cmocka_unit_test(only_those_under_the_same_limit_make_room),
        cmocka_unit_test(without_descriptors_all_listeners_rest),
        cmocka_unit_test(who_is_refused_is_counted),
        cmocka_unit_test(a_client_that_is_gone_before_it_was_accepted_does_no_harm),
        cmocka_unit_test(each_acceptor_gets_its_share),
        cmocka_unit_test(each_acceptor_gets_its_share_of_either_family),
        cmocka_unit_test(idle_connections_are_closed_and_busy_ones_live),
        cmocka_unit_test(an_idle_connection_is_not_closed_early),
        cmocka_unit_test(a_connection_inside_a_handler_is_not_idle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
