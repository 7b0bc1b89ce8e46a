/*
 * endpoint_test.c - listeners of one server that differ in more than their handlers: deadlines,
 * limits, rules, sockets.
 *
 * Two clients of two listeners are compared: a timeout that ends the one would have ended the other
 * before, for that has waited for longer. So nothing here is measured by a clock.
 */
#include "tests/support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct way {
    const char *name;
    enum weir_concurrency concurrency;
    enum weir_dispatch dispatch;
    enum weir_stack stack;
    uint32_t workers;
    uint32_t acceptors;
} ways[] = {
    { "pool", WEIR_POOL, WEIR_DISPATCH_WORKER, WEIR_STACK_FIBER, 2, 1 },
    { "pool, by the acceptor", WEIR_POOL, WEIR_DISPATCH_ACCEPTOR, WEIR_STACK_FIBER, 2, 1 },
    { "pool, own stacks", WEIR_POOL, WEIR_DISPATCH_WORKER, WEIR_STACK_THREAD, 4, 1 },
    { "pool, three acceptors", WEIR_POOL, WEIR_DISPATCH_WORKER, WEIR_STACK_FIBER, 1, 3 },
    { "prefork", WEIR_PREFORK, WEIR_DISPATCH_WORKER, WEIR_STACK_FIBER, 1, 1 },
    { "thread", WEIR_THREAD, WEIR_DISPATCH_WORKER, WEIR_STACK_FIBER, 0, 1 },
    { "fork", WEIR_FORK, WEIR_DISPATCH_WORKER, WEIR_STACK_FIBER, 0, 1 },
    { "serial", WEIR_SERIAL, WEIR_DISPATCH_WORKER, WEIR_STACK_FIBER, 0, 1 },
};

static const struct way *way;

#define EACH_WAY() \
    for (way = ways; way < ways + sizeof(ways) / sizeof(*ways); way++)

/* Only one connection is served at a time. */
static bool is_one_by_one(void)
{
    return way->concurrency == WEIR_SERIAL;
}

/* ------------------------------------------------------------------ the server -------- */

#define MUCH ((size_t)16 << 20)

/* "k..." comes back and is kept, "m..." is answered by more than sockets hold, others come back. */
static int talk(struct weir_request *req)
{
    static const char much[MUCH];
    char *line;
    ssize_t n = weir_readline(req, &line, 16);
    ssize_t r;

    if (n == -ETIMEDOUT) {
        weir_write(req, "late\n", 5);
        return 0;
    }
    if (n <= 0)
        return (int)n;
    r = line[0] == 'm' ? weir_write(req, much, sizeof(much)) : weir_write(req, line, (size_t)n);
    if (r < 0)
        return (int)r;
    return line[0] == 'k' ? WEIR_KEEP : 0;
}

static struct weir_handler handler = { .name = "talk", .handle = talk };

static void be_silent(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    (void)failure;
}

static struct weir_server *start(const struct weir_listen *listeners, size_t len,
                                 struct weir_options options)
{
    options.listeners = listeners;
    options.listeners_len = len;
    handler.stack = way->stack;
    options.handler = &handler;
    options.handle_error = be_silent;
    options.concurrency = way->concurrency;
    options.dispatch = way->dispatch;
    options.workers = way->workers;
    options.acceptors = way->acceptors;
    options.processes = way->concurrency == WEIR_PREFORK;
    return support_start(&options);
}

#define OPTIONS(...) (*WEIR_OPTIONS(__VA_ARGS__))

/* ------------------------------------------------------------------ deadlines --------- */

#define SHORT_MS 20

/* How a deadline passes, and what is left of the client that it was for. */
struct deadline {
    const char *name;
    size_t in_listen;           /* the field */
    size_t in_options;
    const char *say;            /* what a client says before it waits */
    const char *answer;         /* ... and is told */
    const char *last;           /* what it is told when it is late; NULL: a part of much */
};

#define DEADLINE(field, ...) \
    { #field, offsetof(struct weir_listen, field), offsetof(struct weir_options, field), \
      __VA_ARGS__ }

static const struct deadline deadlines[] = {
    DEADLINE(read_timeout_ms, "", "", "late\n"),
    DEADLINE(head_timeout_ms, "", "", "late\n"),
    DEADLINE(request_timeout_ms, "", "", "late\n"),
    DEADLINE(idle_timeout_ms, "k\n", "k\n", ""),
    DEADLINE(write_timeout_ms, "m\n", "", NULL),
    DEADLINE(progress_timeout_ms, "m\n", "", NULL),
};

static void set(void *structure, size_t at, uint32_t value)
{
    memcpy((char *)structure + at, &value, sizeof(value));
}

static int begin_to_wait(struct weir_server *server, size_t i, const struct deadline *deadline)
{
    int fd = support_connect(server, i);

    support_say(fd, deadline->say);
    support_expect(fd, deadline->answer);
    return fd;
}

static size_t drop_all(int fd)
{
    static char dropped[1 << 16];
    size_t len = 0;
    ssize_t n;

    while ((n = recv(fd, dropped, sizeof(dropped), 0)) > 0)
        len += (size_t)n;
    return len;
}

static void expect_late(struct weir_server *server, int fd, const struct deadline *deadline)
{
    /* Who reads nothing is late; it must not read before it is. */
    SUPPORT_AWAIT(server, timeouts, == 1);
    if (deadline->last) {
        support_expect_last(fd, deadline->last);
        return;
    }
    assert_true(drop_all(fd) < MUCH);
    close(fd);
}

static void expect_in_time(int fd, const struct deadline *deadline)
{
    if (deadline->last) {
        support_say(fd, "end\n");
        support_expect_last(fd, "end\n");
        return;
    }
    assert_int_equal(drop_all(fd), MUCH);
    close(fd);
}

/* The first listener's client waits for as long as it likes, the second one's doesn't. */
static void assert_only_the_second_is_late(const struct weir_listen *listeners,
                                           const struct weir_options *options,
                                           const struct deadline *deadline)
{
    struct weir_server *server = start(listeners, 2, *options);
    int patient = -1;

    if (!is_one_by_one())
        patient = begin_to_wait(server, 0, deadline);
    expect_late(server, begin_to_wait(server, 1, deadline), deadline);
    if (is_one_by_one())
        patient = begin_to_wait(server, 0, deadline);
    expect_in_time(patient, deadline);
    assert_int_equal(support_stats(server).timeouts, 1);
    weir_server_destroy(server);
}

static void a_listeners_deadline_goes_before_the_servers(void **state)
{
    (void)state;
    EACH_WAY() {
        for (size_t i = 0; i < sizeof(deadlines) / sizeof(*deadlines); i++) {
            struct weir_listen listeners[] = {
                { .address = support_abstract("patient") }, { .address = "tcp://127.0.0.1:0" },
            };

            set(&listeners[1], deadlines[i].in_listen, SHORT_MS);
            assert_only_the_second_is_late(listeners, WEIR_OPTIONS(.user = NULL), &deadlines[i]);
        }
    }
}

static void a_listener_may_wait_for_ever_where_the_server_does_not(void **state)
{
    (void)state;
    EACH_WAY() {
        for (size_t i = 0; i < sizeof(deadlines) / sizeof(*deadlines); i++) {
            struct weir_options options = OPTIONS(.user = NULL);
            struct weir_listen listeners[] = {
                { .address = "tcp://127.0.0.1:0" }, { .address = support_abstract("servers") },
            };

            set(&listeners[0], deadlines[i].in_listen, WEIR_FOREVER);
            set(&options, deadlines[i].in_options, SHORT_MS);
            assert_only_the_second_is_late(listeners, &options, &deadlines[i]);
        }
    }
}

static void a_server_may_say_for_ever(void **state)
{
    struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .read_timeout_ms = SHORT_MS },
    };

    (void)state;
    EACH_WAY()
        assert_only_the_second_is_late(listeners, WEIR_OPTIONS(
            .read_timeout_ms = WEIR_FOREVER, .write_timeout_ms = WEIR_FOREVER,
            .idle_timeout_ms = WEIR_FOREVER, .request_timeout_ms = WEIR_FOREVER,
            .head_timeout_ms = WEIR_FOREVER, .progress_timeout_ms = WEIR_FOREVER,
            .drain_timeout_ms = WEIR_FOREVER), &deadlines[0]);
}

/* What bounds a first read bounds the silence before it. */
static void a_silent_client_has_its_listeners_deadlines(void **state)
{
    const size_t fields[] = {
        offsetof(struct weir_listen, idle_timeout_ms),
        offsetof(struct weir_listen, head_timeout_ms),
        offsetof(struct weir_listen, read_timeout_ms),
        offsetof(struct weir_listen, request_timeout_ms),
    };
    const struct deadline silence = { .say = "", .answer = "", .last = "" };

    (void)state;
    handler.client_first = true;
    EACH_WAY() {
        for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
            struct weir_listen listeners[] = {
                { .address = "tcp://127.0.0.1:0" }, { .address = "tcp://127.0.0.1:0" },
            };

            set(&listeners[1], fields[i], SHORT_MS);
            assert_only_the_second_is_late(listeners, WEIR_OPTIONS(.user = NULL), &silence);
        }
    }
    handler.client_first = false;
}

/* Waits for what the first byte says: for room, for time, for the rest behind it, for a line. */
static int wait_in_vain(struct weir_request *req)
{
    static const char much[MUCH];
    bool *was_kept = weir_state(req);
    char *data;
    ssize_t n = weir_peek(req, &data, 1);

    if (n <= 0)
        return (int)n;
    if (data[0] == 'm') {
        n = weir_write(req, much, sizeof(much));
        return n < 0 ? (int)n : 0;
    }
    if (data[0] == 's')
        return weir_sleep(req, 3600000);
    if (data[0] == 'k' && !*was_kept) {
        *was_kept = true;
        return WEIR_KEEP;
    }
    n = weir_readline(req, &data, 16);
    return n < 0 ? (int)n : 0;
}

static int hints[2];

/* From whichever process. */
static void send_hint(struct weir_server *server, const struct weir_failure *failure)
{
    const char *hint = failure->hint ? failure->hint : "none";

    (void)server;
    if (failure->error == -ETIMEDOUT)
        (void)!write(hints[1], hint, strlen(hint));
}

static void expect_hint(struct weir_server *server, size_t i, const char *option)
{
    char uri[WEIR_ADDRESS_SIZE];
    char expected[300];
    char hint[300] = "";

    assert_true(weir_server_address(server, i, uri, sizeof(uri)) > 0);
    snprintf(expected, sizeof(expected), "%s has passed, which is %d for %s", option, SHORT_MS,
             uri);
    assert_true(read(hints[0], hint, sizeof(hint) - 1) > 0);
    assert_string_equal(hint, expected);
}

static void a_timeout_is_told_by_its_name_and_listener(void **state)
{
    static const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0", .read_timeout_ms = SHORT_MS },
        { .address = "tcp://127.0.0.1:0", .write_timeout_ms = SHORT_MS },
        { .address = "tcp://127.0.0.1:0", .request_timeout_ms = SHORT_MS },
        { .address = "tcp://127.0.0.1:0", .idle_timeout_ms = SHORT_MS },
        { .address = "tcp://127.0.0.1:0", .head_timeout_ms = SHORT_MS },
        { .address = "tcp://127.0.0.1:0", .progress_timeout_ms = SHORT_MS },
    };
    static const char *const options[] = { "read_timeout_ms", "write_timeout_ms",
                                           "request_timeout_ms", "idle_timeout_ms",
                                           "head_timeout_ms", "progress_timeout_ms" };
    static const char *const said[] = { "half", "m", "s", "k", "half", "m" };
    enum { LISTENERS = sizeof(listeners) / sizeof(*listeners) };

    (void)state;
    assert_int_equal(pipe(hints), 0);
    EACH_WAY() {
        const struct weir_handler waiting = {
            .name = "waiting", .handle = wait_in_vain, .state_size = sizeof(bool),
            .stack = way->stack,
        };
        struct weir_server *server = support_start(WEIR_OPTIONS(
            .listeners = listeners, .listeners_len = LISTENERS, .handler = &waiting,
            .handle_error = send_hint, .concurrency = way->concurrency,
            .dispatch = way->dispatch, .workers = way->workers, .acceptors = way->acceptors,
            .processes = way->concurrency == WEIR_PREFORK));

        for (size_t i = 0; i < LISTENERS; i++) {
            int fd = support_ask(server, i, said[i]);

            expect_hint(server, i, options[i]);
            close(fd);
        }
        weir_server_destroy(server);
    }
    close(hints[0]);
    close(hints[1]);
}

/* A stream that a handler has opened is under the deadlines of the listener that it serves. */
static int ask_a_silent_server(struct weir_request *req)
{
    struct weir_request *peer;
    char *line;
    int r = weir_connect(req, weir_user(req), 0, &peer);
    ssize_t n;

    if (r < 0)
        return r;
    n = weir_readline(peer, &line, 16);
    weir_printf(req, "%s\n", n == -ETIMEDOUT ? "late" : "in time");
    return 0;
}

static const struct weir_handler asker = { .name = "asker", .handle = ask_a_silent_server };

static void what_a_handler_opens_has_its_listeners_deadlines(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0", .read_timeout_ms = WEIR_FOREVER },
        { .address = "tcp://127.0.0.1:0", .handler = &asker, .read_timeout_ms = SHORT_MS },
        { .address = "tcp://127.0.0.1:0", .handler = &asker, .read_timeout_ms = WEIR_FOREVER },
    };
    char uri[WEIR_ADDRESS_SIZE];
    struct weir_server *server;
    int patient;

    (void)state;
    way = ways;
    server = start(listeners, 3, OPTIONS(.user = uri));
    assert_true(weir_server_address(server, 0, uri, sizeof(uri)) > 0);
    patient = support_connect(server, 2);
    SUPPORT_AWAIT(server, accepted, == 2);
    support_talk(server, 1, "", "late\n");
    assert_true(support_is_silent(patient));
    weir_server_cancel(server);
    close(patient);
    weir_server_destroy(server);
}

static int sleep_long(struct weir_request *req)
{
    char byte;

    weir_read(req, &byte, 1);
    if (byte == 's')
        weir_printf(req, "%s", weir_sleep(req, 3600000) == -ETIMEDOUT ? "late" : "in time");
    else
        weir_write(req, &byte, 1);
    return 0;
}

static const struct weir_handler sleeper = { .name = "sleeper", .handle = sleep_long };

static void datagrams_have_the_deadlines_of_their_listener(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "udp://127.0.0.1:0" },
        { .address = "udp://127.0.0.1:0", .request_timeout_ms = SHORT_MS },
    };
    struct weir_server *server;
    int patient, hurried;

    (void)state;
    way = ways;
    handler = sleeper;
    server = start(listeners, 2, OPTIONS(.user = NULL));
    patient = support_connect(server, 0);
    hurried = support_connect(server, 1);
    support_say(patient, "s");
    SUPPORT_AWAIT(server, accepted, == 1);
    support_say(hurried, "s");
    support_expect(hurried, "late");
    assert_true(support_is_silent(patient));
    support_say(patient, "x");
    support_expect(patient, "x");
    weir_server_cancel(server);
    close(patient);
    close(hurried);
    weir_server_destroy(server);
    handler = (struct weir_handler){ .name = "talk", .handle = talk };
}

/* ------------------------------------------------------------------ how many ---------- */

/* One that is counted and holds its place: its handler has begun with a line. */
static int occupy(struct weir_server *server, size_t i)
{
    uint64_t before = support_stats(server).accepted;
    int fd = support_connect(server, i);

    support_say(fd, "h");
    SUPPORT_AWAIT(server, accepted, > before);
    return fd;
}

static void leave(int fd)
{
    support_say(fd, "i\n");
    support_expect_last(fd, "hi\n");
}

static int wait_in_the_backlog(struct weir_server *server, size_t i)
{
    int fd = support_connect(server, i);

    support_say(fd, "wait\n");
    return fd;
}

/* The i-th is full, and the other one isn't. */
static void assert_full_by_itself(struct weir_server *server, size_t i)
{
    uint64_t before = support_stats(server).full;
    int inside = occupy(server, i);
    int outside = wait_in_the_backlog(server, i);

    SUPPORT_AWAIT(server, full, > before);
    support_talk(server, 1 - i, "other\n", "other\n");
    assert_true(support_is_silent(outside));
    leave(inside);
    support_expect_last(outside, "wait\n");
    SUPPORT_AWAIT(server, active, == 0);
}

static struct weir_options one_at_a_time(void)
{
    struct weir_options options = OPTIONS(.max_connections = 1);

    if (way->concurrency == WEIR_FORK) {
        options.max_connections = 0;
        options.max_children = 1;
    }
    return options;
}

static void a_full_server_lets_in_by_a_listener_with_a_limit_of_its_own(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .max_connections = 1 },
    };

    (void)state;
    EACH_WAY() {
        struct weir_server *server;

        if (is_one_by_one())
            continue;
        server = start(listeners, 2, one_at_a_time());
        assert_full_by_itself(server, 0);
        assert_full_by_itself(server, 1);
        weir_server_destroy(server);
    }
}

/* Two addresses share one place: a client of the one keeps out a client of the other. */
static void the_second_waits_for_the_first(struct weir_server *server, size_t first, size_t second)
{
    int inside = occupy(server, first);
    int outside = wait_in_the_backlog(server, second);

    SUPPORT_AWAIT(server, full, > 0);
    assert_true(support_is_silent(outside));
    leave(inside);
    support_expect_last(outside, "wait\n");
}

static void listeners_without_a_limit_of_their_own_share_the_servers(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0", .max_connections = 3 },
        { .address = "tcp://127.0.0.1:0" }, { .address = support_abstract("shared") },
    };
    struct weir_server *server;

    (void)state;
    way = ways;
    server = start(listeners, 3, one_at_a_time());
    the_second_waits_for_the_first(server, 1, 2);
    weir_server_destroy(server);
}

/* A name that has several addresses is one listener. */
static void the_addresses_of_a_name_share_its_limit(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://localhost:0", .max_connections = 1 },
    };
    struct weir_server *server;
    char uri[WEIR_ADDRESS_SIZE];

    (void)state;
    way = ways;
    server = start(listeners, 1, OPTIONS(.user = NULL));
    if (weir_server_address(server, 1, uri, sizeof(uri)) < 0) {
        weir_server_destroy(server);
        skip();     /* localhost has one address here */
    }
    the_second_waits_for_the_first(server, 0, 1);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ which it is ------- */

/* Which listener its client came in by, and what that one has of its own. */
static int tell_listener(struct weir_request *req)
{
    const char *user = weir_listener_user(req);

    if (weir_listener_number(req) == WEIR_NO_LISTENER)
        weir_printf(req, "none %s\n", user ? user : "-");
    else
        weir_printf(req, "%u %s\n", weir_listener_number(req), user ? user : "-");
    return 0;
}

/* The same is known before: the handler says it again. */
static int verify_listener(struct weir_server *server, const struct weir_peer *peer)
{
    const struct weir_listen *listeners = weir_server_user(server);

    if (peer->listener_user != listeners[peer->listener_number].user)
        return -EPROTO;
    return strncmp(peer->listen, listeners[peer->listener_number].address, 3) == 0;
}

static const struct weir_handler which = { .name = "which", .handle = tell_listener };

static void expect_answer(int fd, const char *answer)
{
    support_expect(fd, answer);
    close(fd);
}

static void a_handler_is_told_by_which_listener_its_client_came_in(void **state)
{
    char north[] = "north";
    char south[] = "south";
    const struct weir_listen listeners[] = {
        { .address = "tcp://localhost:0", .handler = &which, .user = north },
        { .address = "tcp://127.0.0.1:0", .handler = &which },
        { .address = "udp://127.0.0.1:0", .handler = &which, .user = south },
    };

    (void)state;
    EACH_WAY() {
        struct weir_server *server = start(listeners, 3, OPTIONS(
            .user = (void *)listeners, .verify_request = verify_listener));
        char uri[WEIR_ADDRESS_SIZE];
        size_t addresses = 0;
        int fd;

        /* A name may have several addresses: all of them are one listener. */
        while (weir_server_address(server, addresses, uri, sizeof(uri)) > 0)
            addresses++;
        for (size_t i = 0; i + 2 < addresses; i++)
            expect_answer(support_connect(server, i), "0 north\n");
        expect_answer(support_connect(server, addresses - 2), "1 -\n");
        fd = support_connect(server, addresses - 1);
        support_say(fd, "x");
        expect_answer(fd, "2 south\n");
        weir_server_destroy(server);
    }
}

static void what_was_submitted_came_in_by_no_listener(void **state)
{
    const struct weir_listen listener = { .address = "unix:@weir-which", .user = &way };
    struct weir_server *server;
    int pair[2];

    (void)state;
    way = ways;
    server = start(&listener, 1, OPTIONS(.user = NULL));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(weir_submit_fd(server, pair[1], &which), 0);
    expect_answer(pair[0], "none -\n");
    weir_server_destroy(server);
}

static void submitted_connections_count_among_the_servers(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0", .max_connections = 1 },
    };
    struct weir_server *server;
    int pairs[2][2];
    int inside;

    (void)state;
    way = ways;
    server = start(listeners, 1, OPTIONS(.max_connections = 1));
    for (int i = 0; i < 2; i++)
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]), 0);
    inside = occupy(server, 0);
    assert_int_equal(weir_submit_fd(server, pairs[0][1], NULL), 0);
    assert_int_equal(weir_submit_fd(server, pairs[1][1], NULL), -EAGAIN);
    support_say(pairs[0][0], "in\n");
    support_expect_last(pairs[0][0], "in\n");
    SUPPORT_AWAIT(server, closed, == 1);
    leave(inside);
    close(pairs[1][0]);
    close(pairs[1][1]);
    weir_server_destroy(server);
}

static void one_by_one_a_full_server_lets_in_by_the_other_listener(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .max_connections = 1 },
    };
    struct weir_server *server;
    int inside, outside, other;

    (void)state;
    handler.stack = WEIR_STACK_FIBER;
    server = support_create(WEIR_OPTIONS(.listeners = listeners, .listeners_len = 2,
                                         .handler = &handler, .workers = 1,
                                         .max_connections = 1));
    inside = support_connect(server, 0);
    support_say(inside, "h");
    assert_int_equal(weir_handle_request(server), 1);
    outside = wait_in_the_backlog(server, 0);
    other = wait_in_the_backlog(server, 1);
    assert_int_equal(weir_handle_request(server), 1);
    support_expect_last(other, "wait\n");
    assert_true(support_is_silent(outside));
    leave(inside);
    assert_int_equal(weir_handle_request(server), 1);
    support_expect_last(outside, "wait\n");
    weir_server_destroy(server);
}

/* Only those make room for a client whose places are the same as the one that it waits for. */
static void idle_connections_make_room_for_their_own_listener(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .max_connections = 1 },
    };

    (void)state;
    EACH_WAY() {
        struct weir_server *server;
        int oldest, idle;

        if (way->concurrency != WEIR_POOL && way->concurrency != WEIR_PREFORK)
            continue;
        server = start(listeners, 2, OPTIONS(.user = NULL));
        oldest = support_ask(server, 0, "k\n");
        support_expect(oldest, "k\n");
        SUPPORT_AWAIT(server, idle, == 1);
        idle = support_ask(server, 1, "k\n");
        support_expect(idle, "k\n");
        support_talk(server, 1, "new\n", "new\n");
        support_expect_end(idle);
        close(idle);
        SUPPORT_AWAIT(server, made_room, == 1);
        support_say(oldest, "old\n");
        support_expect_last(oldest, "old\n");
        weir_server_destroy(server);
    }
}

static _Atomic unsigned entered;
static struct gate gate;

static int pass_gate(struct weir_request *req)
{
    char text[8];
    ssize_t n = weir_read(req, text, sizeof(text));

    if (n > 0 && text[0] == 'h') {
        struct pollfd pollfd = { .fd = gate.fd, .events = POLLIN };

        atomic_fetch_add(&entered, 1);
        weir_poll(req, &pollfd, 1, -1);
    }
    weir_write(req, text, n > 0 ? (size_t)n : 0);
    return 0;
}

static const struct weir_handler gated = { .name = "gated", .handle = pass_gate };

static void datagrams_are_counted_by_their_listener(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "udp://127.0.0.1:0", .handler = &gated },
        { .address = "udp://127.0.0.1:0", .handler = &gated, .max_connections = 1 },
        { .address = "tcp://127.0.0.1:0" },
    };
    struct weir_server *server;
    int held, waits, other;

    (void)state;
    way = ways;
    atomic_store(&entered, 0);
    gate_init(&gate);
    server = start(listeners, 3, OPTIONS(.max_connections = 2));
    held = support_connect(server, 1);
    waits = support_connect(server, 1);
    other = support_connect(server, 0);
    support_say(held, "hold");
    SUPPORT_UNTIL(atomic_load(&entered) == 1);
    support_say(waits, "wait");
    support_say(other, "other");
    support_expect(other, "other");
    support_talk(server, 2, "in\n", "in\n");
    assert_true(support_is_silent(waits));
    gate_open(&gate);
    support_expect(held, "hold");
    support_expect(waits, "wait");
    close(held);
    close(waits);
    close(other);
    weir_server_destroy(server);
    gate_fini(&gate);
}

static void *close_server(void *server)
{
    assert_int_equal(weir_server_close(server), 0);
    return NULL;
}

/* Whatever it counts against: who closes waits for all. */
static void a_drain_waits_for_the_connections_of_each_listener(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .max_connections = 2 },
    };

    (void)state;
    EACH_WAY() {
        struct weir_server *server;
        int clients[2];
        pthread_t closer;

        if (is_one_by_one())
            continue;
        server = start(listeners, 2, OPTIONS(.user = NULL));
        for (size_t i = 0; i < 2; i++)
            clients[i] = occupy(server, i);
        assert_int_equal(weir_server_shutdown(server), 0);
        assert_int_equal(pthread_create(&closer, NULL, close_server, server), 0);
        leave(clients[0]);
        leave(clients[1]);
        assert_int_equal(pthread_join(closer, NULL), 0);
        assert_int_equal(support_stats(server).active, 0);
        weir_server_destroy(server);
    }
}

/* ------------------------------------------------------------------ who --------------- */

static void expect_in(struct weir_server *server, size_t i)
{
    support_talk(server, i, "in\n", "in\n");
}

static void expect_out(struct weir_server *server, size_t i)
{
    int fd = support_connect(server, i);

    support_expect_end(fd);
    close(fd);
}

static void a_listener_has_rules_in_place_of_the_servers(void **state)
{
    (void)state;
    EACH_WAY() {
        char open[] = "default allow";
        char shut[] = "deny 127.0.0.0/8\ndefault allow";
        struct weir_listen listeners[] = {
            { .address = "tcp://127.0.0.1:0" },
            { .address = "tcp://127.0.0.1:0", .access = open },
            { .address = "tcp://127.0.0.1:0", .access = shut },
        };
        struct weir_access *rules;
        struct weir_server *server = start(listeners, 3, OPTIONS(.access = "deny 127.0.0.1"));

        /* They were copied. */
        memset(open, 'x', sizeof(open) - 1);
        memset(shut, 'x', sizeof(shut) - 1);
        memset(listeners, 0x5a, sizeof(listeners));
        expect_out(server, 0);
        expect_in(server, 1);
        expect_out(server, 2);
        SUPPORT_AWAIT(server, refused, == 2);
        assert_int_equal(weir_access_parse("default allow", &rules), 0);
        assert_int_equal(weir_server_set_access(server, rules), 0);
        /* With WEIR_PREFORK a client may meet a child of before. */
        if (way->concurrency != WEIR_PREFORK)
            expect_in(server, 0);
        expect_in(server, 1);
        expect_out(server, 2);
        weir_server_destroy(server);
    }
}

static void datagrams_are_asked_for_by_their_listeners_rules(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "udp://127.0.0.1:0", .handler = &gated },
        { .address = "udp://127.0.0.1:0", .handler = &gated, .access = "deny 127.0.0.1" },
    };
    struct weir_server *server;
    int in, out;

    (void)state;
    way = ways;
    server = start(listeners, 2, OPTIONS(.access = "allow 127.0.0.1"));
    in = support_connect(server, 0);
    out = support_connect(server, 1);
    support_say(out, "out");
    SUPPORT_AWAIT(server, refused, == 1);
    support_say(in, "in");
    support_expect(in, "in");
    assert_true(support_is_silent(out));
    close(in);
    close(out);
    weir_server_destroy(server);
}

static void bad_rules_of_a_listener_are_refused(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.2:0", .access = "allow all" },
    };
    struct weir_server *server = NULL;

    (void)state;
    assert_int_equal(weir_server_create(&server, WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &handler)), -EINVAL);
    assert_string_equal(weir_why(), "tcp://127.0.0.2:0: access: line 1: all: not an IPv4 or IPv6 "
                                    "address or network");
    assert_null(server);
}

/* So many of one address get in by the i-th, and no more. */
static void assert_so_many_get_in(struct weir_server *server, size_t i, unsigned most)
{
    int inside[4];

    for (unsigned n = 0; n < most; n++)
        inside[n] = occupy(server, i);
    expect_out(server, i);
    while (most > 0)
        leave(inside[--most]);
    SUPPORT_AWAIT(server, active, == 0);
}

static void a_listener_counts_the_connections_of_an_address_by_itself(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .max_per_address = 2 },
        { .address = "tcp://127.0.0.1:0", .max_per_address = WEIR_ANY_NUMBER },
    };

    (void)state;
    EACH_WAY() {
        struct weir_server *server;
        int unlimited[4];
        int shared;

        if (is_one_by_one())
            continue;
        server = start(listeners, 3, OPTIONS(.max_per_address = 1));
        for (int i = 0; i < 4; i++)
            unlimited[i] = occupy(server, 2);
        assert_int_equal(support_stats(server).refused, 0);
        for (int i = 0; i < 4; i++)
            leave(unlimited[i]);
        SUPPORT_AWAIT(server, active, == 0);
        assert_so_many_get_in(server, 0, 1);
        assert_so_many_get_in(server, 1, 2);
        shared = occupy(server, 0);
        expect_in(server, 1);
        leave(shared);
        assert_int_equal(support_stats(server).refused, 2);
        weir_server_destroy(server);
    }
}

static const struct way *fork_way(void)
{
    const struct way *found = ways;

    while (found->concurrency != WEIR_FORK)
        found++;
    return found;
}

/* A listener's own places come on top of max_children, and so do its clients in the crowd. */
static void children_besides_max_children_are_counted_by_address_too(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0", .max_connections = 6, .max_per_address = 100 },
    };
    struct weir_server *server;
    int inside[6];

    (void)state;
    way = fork_way();
    server = start(listeners, 1, OPTIONS(.max_children = 1));
    for (int i = 0; i < 6; i++)
        inside[i] = occupy(server, 0);
    assert_int_equal(support_stats(server).no_memory, 0);
    for (int i = 0; i < 6; i++)
        leave(inside[i]);
    weir_server_destroy(server);
}

#define HAMMERS 3
#define BLOWS 300

/* Whoever is refused comes again: its address has its limit until a child is seen to be done. */
static void *hammer(void *server)
{
    char answer[8];

    for (int i = 0; i < BLOWS; i++) {
        int fd = support_connect(server, 0);

        /* Fails if the client was refused, and reset, before it has spoken. */
        send(fd, "x\n", 2, MSG_NOSIGNAL);
        support_read_all(fd, answer, sizeof(answer));
        close(fd);
    }
    return NULL;
}

/* The parent gives a place away once a child has counted its connection as closed. */
static void a_child_that_ends_takes_no_place_again(void **state)
{
    const struct weir_listen listeners[] = { { .address = "tcp://127.0.0.1:0" } };
    struct weir_server *server;
    pthread_t threads[HAMMERS];

    (void)state;
    way = fork_way();
    server = start(listeners, 1, OPTIONS(.max_children = HAMMERS + 1, .max_per_address = 2));
    for (int i = 0; i < HAMMERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, server), 0);
    for (int i = 0; i < HAMMERS; i++)
        pthread_join(threads[i], NULL);
    SUPPORT_AWAIT(server, active, == 0);
    assert_int_equal(support_stats(server).no_memory, 0);
    assert_so_many_get_in(server, 0, 2);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ sockets ----------- */

static int tell_nodelay(struct weir_request *req)
{
    int nodelay = -1;
    socklen_t len = sizeof(nodelay);

    getsockopt(weir_request_fd(req), IPPROTO_TCP, TCP_NODELAY, &nodelay, &len);
    weir_printf(req, "%s\n", nodelay > 0 ? "no delay" : nodelay == 0 ? "delay" : "no TCP");
    return 0;
}

static const struct weir_handler teller = { .name = "teller", .handle = tell_nodelay };

static void a_listener_chooses_whether_nagles_algorithm_delays(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .disable_nagle_algorithm = WEIR_YES },
        { .address = "tcp://127.0.0.1:0", .disable_nagle_algorithm = WEIR_NO },
    };

    (void)state;
    way = ways;
    for (unsigned choice = WEIR_DEFAULT; choice <= WEIR_NO; choice++) {
        const bool disabled = choice == WEIR_YES;
        const struct weir_handler before = handler;
        struct weir_server *server;

        handler = teller;
        server = start(listeners, 3, OPTIONS(.disable_nagle_algorithm = choice));
        support_talk(server, 0, "", disabled ? "no delay\n" : "delay\n");
        support_talk(server, 1, "", "no delay\n");
        support_talk(server, 2, "", "delay\n");
        weir_server_destroy(server);
        handler = before;
    }
}

/* Of the kernel: how many may wait there, by TCP_INFO of a socket that listens. */
static unsigned backlog_of(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);

    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    return info.tcpi_sacked;
}

/* The descriptor of this process that listens there. */
static int find_listener(struct weir_server *server, size_t i)
{
    char uri[WEIR_ADDRESS_SIZE];
    unsigned port;

    assert_true(weir_server_address(server, i, uri, sizeof(uri)) > 0);
    assert_int_equal(sscanf(uri, "tcp://127.0.0.1:%u", &port), 1);
    for (int fd = 3; fd < 200; fd++) {
        struct sockaddr_in address = { .sin_family = AF_UNSPEC };
        socklen_t len = sizeof(address);

        if (getsockname(fd, (struct sockaddr *)&address, &len) == 0 &&
            address.sin_family == AF_INET && ntohs(address.sin_port) == port)
            return fd;
    }
    fail_msg("no socket is bound to %s", uri);
    return -1;
}

static void a_listener_has_a_backlog_of_its_own(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" }, { .address = "tcp://127.0.0.1:0", .backlog = 7 },
    };

    (void)state;
    for (int defer = 0; defer < 2; defer++) {
        struct weir_server *server = support_create(WEIR_OPTIONS(
            .listeners = listeners, .listeners_len = 2, .handler = &handler, .backlog = 5,
            .defer = defer));

        if (defer) {
            assert_int_equal(weir_server_bind(server), 0);
            assert_int_equal(weir_server_activate(server), 0);
        }
        assert_int_equal(backlog_of(find_listener(server, 0)), 5);
        assert_int_equal(backlog_of(find_listener(server, 1)), 7);
        weir_server_destroy(server);
    }
}

/* ------------------------------------------------------------------ few descriptors --- */

#define OWN_PLACES 5
#define NAMED_LISTENERS 10
#define FEW_DESCRIPTORS 128

/* What the process of the server tells, and its exit status. */
struct few {
    char uris[2][WEIR_ADDRESS_SIZE];
};

enum { SERVED, SHORT_OF_DESCRIPTORS, NOT_MADE };

/* In a process of its own, which serves until the other end of the pipe is closed. */
static int serve_with_few(int told_fd, int until_fd)
{
    struct weir_listen listeners[2 + NAMED_LISTENERS] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .max_connections = OWN_PLACES },
    };
    struct rlimit limit = { FEW_DESCRIPTORS, FEW_DESCRIPTORS };
    struct weir_server *server;
    struct weir_stats stats;
    struct few few;
    char byte;

    for (size_t i = 2; i < 2 + NAMED_LISTENERS; i++)
        listeners[i].address = "tcp://localhost:0";
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return NOT_MADE;
    server = start(listeners, 2 + NAMED_LISTENERS, OPTIONS(.max_children = 0));
    for (size_t i = 0; i < 2; i++)
        weir_server_address(server, i, few.uris[i], sizeof(few.uris[i]));
    if (write(told_fd, &few, sizeof(few)) != sizeof(few) || read(until_fd, &byte, 1) < 0)
        return NOT_MADE;
    weir_server_stats(server, &stats, sizeof(stats));
    weir_server_cancel(server);
    weir_server_destroy(server);
    return stats.accept_errors == 0 ? SERVED : SHORT_OF_DESCRIPTORS;
}

/* More clients than there are descriptors hold the server's places, then the listener's come. */
static void fill_and_ask(const struct few *few)
{
    int crowd[FEW_DESCRIPTORS];
    int own[OWN_PLACES];

    for (size_t i = 0; i < FEW_DESCRIPTORS; i++) {
        crowd[i] = support_connect_to(few->uris[0]);
        support_say(crowd[i], "h");
    }
    for (size_t i = 0; i < OWN_PLACES; i++) {
        own[i] = support_connect_to(few->uris[1]);
        support_say(own[i], "k\n");
        support_expect(own[i], "k\n");
    }
    for (size_t i = 0; i < OWN_PLACES; i++)
        close(own[i]);
    for (size_t i = 0; i < FEW_DESCRIPTORS; i++)
        close(crowd[i]);
}

static void try_with_few_descriptors(void)
{
    struct few few;
    int told[2];
    int until[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe2(told, O_CLOEXEC), 0);
    assert_int_equal(pipe2(until, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(told[0]);
        close(until[1]);
        _exit(serve_with_few(told[1], until[0]));
    }
    close(told[1]);
    close(until[0]);
    assert_int_equal(read(told[0], &few, sizeof(few)), sizeof(few));
    fill_and_ask(&few);
    close(until[1]);
    close(told[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, SERVED);
}

/*
 * Names are several sockets each, and the limit of descriptors is what lowers max_connections. A
 * handler that has its worker's thread keeps the others waiting, however many places there are.
 */
static void places_of_a_listeners_own_are_kept_where_descriptors_are_few(void **state)
{
    (void)state;
    EACH_WAY()
        if (!is_one_by_one() && way->stack == WEIR_STACK_FIBER)
            try_with_few_descriptors();
}

/* Less than they need is refused when the sockets are bound, and not when clients come. */
static void own_places_that_cannot_be_kept_are_refused(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .max_connections = OWN_PLACES },
    };
    /* It opens 11, and weir_handle_request would open one more. */
    struct rlimit before = support_leave_descriptors(11 + 1 + OWN_PLACES);
    struct weir_server *server;
    int r = weir_server_create(&server, WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &handler, .workers = 2));

    (void)state;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(r, -EMFILE);
    assert_non_null(strstr(weir_why(), "max_connections are 5 in all"));
}

#define TEST(test) cmocka_unit_test(test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_listeners_deadline_goes_before_the_servers),
        TEST(a_listener_may_wait_for_ever_where_the_server_does_not),
        TEST(a_server_may_say_for_ever),
        TEST(a_silent_client_has_its_listeners_deadlines),
        TEST(a_timeout_is_told_by_its_name_and_listener),
        TEST(what_a_handler_opens_has_its_listeners_deadlines),
        TEST(datagrams_have_the_deadlines_of_their_listener),
        TEST(a_full_server_lets_in_by_a_listener_with_a_limit_of_its_own),
        TEST(listeners_without_a_limit_of_their_own_share_the_servers),
        TEST(the_addresses_of_a_name_share_its_limit),
        TEST(a_handler_is_told_by_which_listener_its_client_came_in),
        TEST(what_was_submitted_came_in_by_no_listener),
        TEST(submitted_connections_count_among_the_servers),
        TEST(one_by_one_a_full_server_lets_in_by_the_other_listener),
        TEST(idle_connections_make_room_for_their_own_listener),
        TEST(datagrams_are_counted_by_their_listener),
        TEST(a_drain_waits_for_the_connections_of_each_listener),
        TEST(a_listener_has_rules_in_place_of_the_servers),
        TEST(datagrams_are_asked_for_by_their_listeners_rules),
        TEST(bad_rules_of_a_listener_are_refused),
        TEST(a_listener_counts_the_connections_of_an_address_by_itself),
        TEST(children_besides_max_children_are_counted_by_address_too),
        TEST(a_child_that_ends_takes_no_place_again),
        TEST(a_listener_chooses_whether_nagles_algorithm_delays),
        TEST(a_listener_has_a_backlog_of_its_own),
        TEST(places_of_a_listeners_own_are_kept_where_descriptors_are_few),
        TEST(own_places_that_cannot_be_kept_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
