/*
 * handover_test.c - sockets that one server hands on to another: nobody is refused in between, and
 * nobody is let go who has come, whichever of the two he has come to. Both are in one process here;
 * descriptors are duplicated, as they would be by exec or SCM_RIGHTS.
 */
#include "tests/support.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const struct way {
    const char *name;
    enum weir_concurrency concurrency;
    uint32_t acceptors;
    uint32_t processes;
    uint32_t successors;        /* acceptors of the successor */
} ways[] = {
    { "pool", WEIR_POOL, 1, 0, 1 },
    { "several acceptors", WEIR_POOL, 3, 0, 3 },
    { "more acceptors than before", WEIR_POOL, 1, 0, 3 },
    { "fewer acceptors than before", WEIR_POOL, 3, 0, 2 },
    { "thread", WEIR_THREAD, 2, 0, 2 },
    { "fork", WEIR_FORK, 1, 0, 1 },
    { "prefork", WEIR_PREFORK, 1, 2, 1 },
};

/* Which has no second client before the first has gone. */
static const struct way serial = { "serial", WEIR_SERIAL, 1, 0, 1 };

static const struct way *way;
static char folder[] = "/tmp/weir_handover_XXXXXX";
static char path[sizeof(folder) + 16];
static char uri[sizeof(path) + 16];

#define LISTENERS 3

static const struct weir_handler echo = {
    .name = "echo", .handle = support_echo, .client_first = true,
};

static int tell_draining(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    n = weir_printf(req, "%s\n", weir_draining(req) ? "goodbye" : "hello");
    return n < 0 ? (int)n : WEIR_KEEP;
}

static const struct weir_handler polite = {
    .name = "polite", .handle = tell_draining, .client_first = true,
};

/* ------------------------------------------------------------------ servers ----------- */

static struct weir_server *create(const struct weir_listen *listeners, uint32_t acceptors)
{
    return support_create(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = LISTENERS, .handler = &echo, .workers = 2,
        .concurrency = way->concurrency, .processes = way->processes, .acceptors = acceptors));
}

static struct weir_server *create_first(void)
{
    const struct weir_listen listeners[LISTENERS] = {
        { .address = "tcp://localhost:0" }, { .address = uri }, { .address = "udp://127.0.0.1:0" },
    };

    return create(listeners, way->acceptors);
}

/* The descriptors of the i-th listener, as another process would have them. */
static void name_descriptors(struct weir_server *server, uint32_t i, char *buf, size_t size)
{
    size_t len = (size_t)snprintf(buf, size, "fd://");
    uint32_t number;
    int fd;

    for (size_t k = 0; (fd = weir_server_listen_fd(server, k, &number)) >= 0; k++)
        if (number == i)
            len += (size_t)snprintf(buf + len, size - len, "%s%d", buf[len - 1] == '/' ? "" : ",",
                                    dup(fd));
    assert_int_equal(fd, -ERANGE);
    assert_true(len < size);
}

static struct weir_server *create_successor(struct weir_server *server)
{
    char addresses[LISTENERS][100];
    struct weir_listen listeners[LISTENERS];

    for (uint32_t i = 0; i < LISTENERS; i++) {
        name_descriptors(server, i, addresses[i], sizeof(addresses[i]));
        listeners[i] = (struct weir_listen){ .address = addresses[i], .taken_over = true };
    }
    return create(listeners, way->successors);
}

static void start(struct weir_server *server)
{
    assert_int_equal(weir_server_start(server), 0);
}

static void hand_on_and_close(struct weir_server *server)
{
    assert_int_equal(weir_server_hand_on(server), 0);
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_close(server), 0);
}

static bool path_is_there(void)
{
    struct stat file;

    return lstat(path, &file) == 0 && S_ISSOCK(file.st_mode);
}

static size_t count_addresses(struct weir_server *server)
{
    char address[WEIR_ADDRESS_SIZE];
    size_t count = 0;

    while (weir_server_address(server, count, address, sizeof(address)) >= 0)
        count++;
    return count;
}

/* ------------------------------------------------------------------ tests ------------- */

static void a_successor_has_the_same_addresses(void **state)
{
    struct weir_server *first = create_first();
    struct weir_server *second = create_successor(first);
    char of_first[WEIR_ADDRESS_SIZE], of_second[WEIR_ADDRESS_SIZE];

    (void)state;
    assert_int_equal(count_addresses(second), count_addresses(first));
    for (size_t i = 0; i < count_addresses(first); i++) {
        weir_server_address(first, i, of_first, sizeof(of_first));
        weir_server_address(second, i, of_second, sizeof(of_second));
        assert_string_equal(of_first, of_second);
    }
    weir_server_destroy(second);
    weir_server_destroy(first);
}

#define COMERS 24

/* Whoever comes while nobody accepts any more waits for the successor, at whichever socket. */
static void who_waits_at_the_end_is_the_successors_client(void **state)
{
    struct weir_server *first = create_first();
    struct weir_server *second;
    int fds[COMERS];

    (void)state;
    start(first);
    second = create_successor(first);
    assert_int_equal(weir_server_hand_on(first), 0);
    assert_int_equal(weir_server_shutdown(first), 0);
    for (int i = 0; i < COMERS; i++)
        fds[i] = support_ask(second, (size_t)i % 2, "one\n");
    assert_int_equal(weir_server_close(first), 0);
    weir_server_destroy(first);
    start(second);
    for (int i = 0; i < COMERS; i++) {
        support_expect(fds[i], "one\n");
        close(fds[i]);
    }
    weir_server_destroy(second);
}

static void a_datagram_that_waits_is_the_successors(void **state)
{
    struct weir_server *first = create_first();
    struct weir_server *second = create_successor(first);
    int fd;

    (void)state;
    hand_on_and_close(first);
    weir_server_destroy(first);
    fd = support_connect(second, count_addresses(second) - 1);
    support_say(fd, "one\n");
    start(second);
    support_expect(fd, "one\n");
    close(fd);
    weir_server_destroy(second);
}

static void the_path_stays_for_the_successor_who_removes_it(void **state)
{
    struct weir_server *first = create_first();
    struct weir_server *second;

    (void)state;
    start(first);
    second = create_successor(first);
    start(second);
    hand_on_and_close(first);
    weir_server_destroy(first);
    assert_true(path_is_there());
    weir_server_destroy(second);
    assert_false(path_is_there());
}

static void a_successor_that_never_served_has_changed_nothing(void **state)
{
    struct weir_server *first = create_first();

    (void)state;
    start(first);
    weir_server_destroy(create_successor(first));
    assert_true(path_is_there());
    for (size_t i = 0; i < 2; i++) {
        int fd = support_ask(first, i, "one\n");

        support_expect(fd, "one\n");
        close(fd);
    }
    weir_server_destroy(first);
    assert_false(path_is_there());
}

static void a_third_follows_the_second(void **state)
{
    struct weir_server *server = create_first();

    (void)state;
    start(server);
    for (int i = 0; i < 3; i++) {
        struct weir_server *successor = create_successor(server);
        int fd;

        start(successor);
        hand_on_and_close(server);
        weir_server_destroy(server);
        server = successor;
        fd = support_ask(server, 1, "one\n");
        support_expect(fd, "one\n");
        close(fd);
    }
    weir_server_destroy(server);
    assert_false(path_is_there());
}

/* ------------------------------------------------------------------ taking leave ------ */

static _Atomic bool closed;

static void *hand_on_in_thread(void *server)
{
    if (weir_server_hand_on(server) == 0 && weir_server_shutdown(server) == 0 &&
        weir_server_close(server) == 0)
        closed = true;
    return NULL;
}

static pthread_t begin_to_hand_on(struct weir_server *server)
{
    pthread_t thread;

    closed = false;
    assert_int_equal(pthread_create(&thread, NULL, hand_on_in_thread, server), 0);
    /* The close had better have begun when the client speaks, but nothing is judged by that. */
    usleep(20000);
    return thread;
}

static void end_handing_on(struct weir_server *server, pthread_t thread)
{
    SUPPORT_UNTIL(closed);
    pthread_join(thread, NULL);
    weir_server_destroy(server);
}

static struct weir_server *start_alone(const struct weir_handler *handler)
{
    return support_start(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = handler, .workers = 2,
        .concurrency = way->concurrency, .processes = way->processes));
}

/* Returns true if that is what came next, and false at the end. */
static bool hears(int fd, const char *text)
{
    char buf[64] = "";
    size_t len = strlen(text);

    return recv(fd, buf, len, MSG_WAITALL) == (ssize_t)len && memcmp(buf, text, len) == 0;
}

/*
 * The server is handed on, and then the client says something. Returns whether it is heard within
 * the time that it has; how long that was on this machine since began_ms, the clock says.
 */
static bool is_heard_behind(struct weir_server *server, int fd, uint64_t began_ms,
                            bool *ret_in_time)
{
    pthread_t thread = begin_to_hand_on(server);
    bool heard;

    send(fd, "two\n", 4, MSG_NOSIGNAL);
    heard = hears(fd, "goodbye\n");
    *ret_in_time = support_now_ms() - began_ms < 900;
    close(fd);
    end_handing_on(server, thread);
    return heard;
}

/* It came, or was answered with `answer`, just before. */
static bool is_heard(const char *first, const char *answer, bool *ret_in_time)
{
    struct weir_server *server = start_alone(&polite);
    uint64_t began_ms = support_now_ms();
    int fd = support_ask(server, 0, first);

    support_expect(fd, answer);
    if (*answer == '\0')
        SUPPORT_AWAIT(server, accepted, == 1);
    return is_heard_behind(server, fd, began_ms, ret_in_time);
}

struct submission {
    struct weir_server *server;
    int fd;
};

static void *submit(void *arg)
{
    const struct submission *submission = arg;

    weir_submit_fd(submission->server, submission->fd, NULL);
    return NULL;
}

/*
 * Somebody else has accepted it. Another client, whom the server has accepted, waits behind it
 * where only one is served: else a serial server might not tell it of the stop.
 */
static bool is_submitted_heard(bool *ret_in_time)
{
    struct submission submission = { .server = start_alone(&polite) };
    uint64_t began_ms = support_now_ms();
    pthread_t submitter;
    int pair[2], next;
    bool heard;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    submission.fd = pair[1];
    assert_int_equal(pthread_create(&submitter, NULL, submit, &submission), 0);
    support_say(pair[0], "one\n");
    support_expect(pair[0], "hello\n");
    next = support_connect(submission.server, 0);
    /* A serial server counts what was submitted once it has been served. */
    SUPPORT_AWAIT(submission.server, accepted, == (way->concurrency == WEIR_SERIAL ? 1 : 2));
    heard = is_heard_behind(submission.server, pair[0], began_ms, ret_in_time);
    pthread_join(submitter, NULL);
    close(next);
    return heard;
}

/* first NULL: it was submitted. */
static void expect_heard(const char *first, const char *answer)
{
    bool in_time = false;
    bool heard = false;

    for (int tries = 0; tries < 20 && !heard && !in_time; tries++)
        heard = first ? is_heard(first, answer, &in_time) : is_submitted_heard(&in_time);
    assert_true(heard);
}

static void who_came_just_before_is_heard(void **state)
{
    (void)state;
    expect_heard("", "");
}

static void who_was_answered_just_before_is_heard(void **state)
{
    (void)state;
    expect_heard("one\n", "hello\n");
}

static void who_was_submitted_is_heard(void **state)
{
    (void)state;
    if (way->concurrency == WEIR_PREFORK)
        skip();     /* its children accept */
    expect_heard(NULL, NULL);
}

static void a_silent_client_is_left_in_the_end(void **state)
{
    struct weir_server *server = start_alone(&polite);
    int fd = support_ask(server, 0, "one\n");
    pthread_t thread;

    (void)state;
    support_expect(fd, "hello\n");
    thread = begin_to_hand_on(server);
    support_expect_last(fd, "");
    end_handing_on(server, thread);
}

/* However patient clients are. */
static void taking_leave_has_an_end(void **state)
{
    struct weir_server *server = start_alone(&polite);
    int silent = support_connect(server, 0);
    int kept = support_ask(server, 0, "one\n");
    pthread_t thread;

    (void)state;
    support_expect(kept, "hello\n");
    thread = begin_to_hand_on(server);
    support_expect_last(silent, "");
    support_expect_last(kept, "");
    end_handing_on(server, thread);
}

/* Even if they always have more to say than is answered. */
static void taking_leave_has_an_end_though_a_client_never_stops(void **state)
{
    struct weir_server *server = start_alone(&polite);
    int fd = support_ask(server, 0, "one\n");
    pthread_t thread;
    char buf[4096];

    (void)state;
    support_expect(fd, "hello\n");
    thread = begin_to_hand_on(server);
    while (send(fd, "x\n", 2, MSG_NOSIGNAL) > 0)
        while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
            ;
    close(fd);
    end_handing_on(server, thread);
}

/* A service manager has the socket, and nobody accepts until it has started another process. */
static void who_waits_at_an_inherited_socket_is_left_there(void **state)
{
    struct weir_server *first = start_alone(&echo);
    struct weir_server *server;
    char address[100];
    uint32_t number;
    char buf[8];
    int kept, asker, accepted;

    (void)state;
    kept = dup(weir_server_listen_fd(first, 0, &number));
    assert_int_equal(number, 0);
    hand_on_and_close(first);
    weir_server_destroy(first);
    snprintf(address, sizeof(address), "fd://%d", dup(kept));
    server = support_start(WEIR_OPTIONS(.listen = address, .handler = &echo, .workers = 2,
                                        .concurrency = way->concurrency,
                                        .processes = way->processes));
    assert_int_equal(weir_server_shutdown(server), 0);
    asker = support_ask(server, 0, "one\n");
    weir_server_destroy(server);
    accepted = accept(kept, NULL, NULL);
    assert_true(accepted >= 0);
    assert_int_equal(recv(accepted, buf, sizeof(buf), 0), 4);
    close(accepted);
    close(asker);
    close(kept);
}

/* ------------------------------------------------------------------ refusals ---------- */

static void what_cannot_be_handed_on_is_said(void **state)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &echo, .defer = true));
    uint32_t number = 77;

    (void)state;
    assert_int_equal(weir_server_hand_on(server), -EINVAL);
    assert_non_null(strstr(weir_why(), "the server can't be handed on: it does not listen yet"));
    assert_int_equal(weir_server_listen_fd(server, 0, &number), -ERANGE);
    assert_int_equal(weir_server_bind(server), 0);
    assert_int_equal(weir_server_activate(server), 0);
    assert_true(weir_server_listen_fd(server, 0, &number) >= 0);
    assert_int_equal(number, 0);
    assert_int_equal(weir_server_close(server), 0);
    assert_int_equal(weir_server_listen_fd(server, 0, &number), -EBADF);
    assert_int_equal(weir_server_hand_on(server), -EBADF);
    weir_server_destroy(server);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/weir.sock", folder);
    snprintf(uri, sizeof(uri), "unix://%s", path);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    rmdir(folder);
    strcpy(folder, "/tmp/weir_handover_XXXXXX");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_successor_has_the_same_addresses),
        cmocka_unit_test(who_waits_at_the_end_is_the_successors_client),
        cmocka_unit_test(a_datagram_that_waits_is_the_successors),
        cmocka_unit_test(the_path_stays_for_the_successor_who_removes_it),
        cmocka_unit_test(a_successor_that_never_served_has_changed_nothing),
        cmocka_unit_test(a_third_follows_the_second),
        cmocka_unit_test(who_came_just_before_is_heard),
        cmocka_unit_test(who_was_answered_just_before_is_heard),
        cmocka_unit_test(who_was_submitted_is_heard),
        cmocka_unit_test(taking_leave_has_an_end),
        cmocka_unit_test(taking_leave_has_an_end_though_a_client_never_stops),
        cmocka_unit_test(who_waits_at_an_inherited_socket_is_left_there),
        cmocka_unit_test(what_cannot_be_handed_on_is_said),
    };
    const struct CMUnitTest of_one_client[] = {
        cmocka_unit_test(who_came_just_before_is_heard),
        cmocka_unit_test(who_was_answered_just_before_is_heard),
        cmocka_unit_test(who_was_submitted_is_heard),
        cmocka_unit_test(a_silent_client_is_left_in_the_end),
        cmocka_unit_test(taking_leave_has_an_end_though_a_client_never_stops),
        cmocka_unit_test(who_waits_at_an_inherited_socket_is_left_there),
    };
    int failed = 0;

    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        way = &ways[i];
        failed += cmocka_run_group_tests_name(way->name, tests, make_folder, remove_folder);
    }
    way = &serial;
    failed += cmocka_run_group_tests_name(way->name, of_one_client, make_folder, remove_folder);
    return failed;
}
