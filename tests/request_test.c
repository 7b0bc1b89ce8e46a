/*
 * request_test.c - the waits of a handler, and what it is told of its peer, its worker, itself.
 */
#include "tests/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* ------------------------------------------------------------------ sleep ------------- */

static int note_sleep(struct weir_request *req)
{
    uint64_t began_ms = support_now_ms();

    note("%d", weir_sleep(req, 30));
    note(support_now_ms() - began_ms >= 30 ? "" : "too early");
    note("%d", weir_sleep(req, 0));
    return 0;
}

static void sleep_does_not_end_too_early(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(note_sleep);
    support_talk(server, 0, "", "");
    notes_expect("00");
}

/* Says so, and then sleeps longer than anybody waits. */
static int sleep_long(struct weir_request *req)
{
    note("sleeps,");
    note("%d,", weir_sleep(req, 3600 * 1000));
    note("%d,", weir_sleep(req, 3600 * 1000));
    note("%d", weir_yield(req));
    return 0;
}

static void a_request_timeout_ends_a_sleep(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(sleep_long, .request_timeout_ms = 30);
    support_talk(server, 0, "", "");
    notes_expect("sleeps,-110,-110,0");
    assert_int_equal(support_stats(server).timeouts, 2);
}

static void a_cancel_ends_a_sleep_and_every_later_wait(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(sleep_long);
    fd = support_connect(server, 0);
    notes_expect("sleeps,");
    weir_server_cancel(server);
    notes_expect("sleeps,-125,-125,-125");
    support_expect_end(fd);
    close(fd);
}

/* Every wait, each on a connection of its own: which one is the first byte. */
static int wait_somehow(struct weir_request *req)
{
    static char filler[1 << 16];
    char *line;
    char kind = '?';
    ssize_t n;

    weir_read_exact(req, &kind, 1);
    do {
        switch (kind) {
        case 'l': n = weir_readline(req, &line, 10); break;
        case 'r': n = weir_read(req, &kind, 1); break;
        case 'p': n = weir_peek(req, &line, 5); break;
        case 'w': n = weir_write(req, filler, sizeof(filler)); break;
        case 'y': n = weir_yield(req); break;
        default: n = weir_sleep(req, 10); break;
        }
    } while (n >= 0);
    return (int)n;
}

static void a_cancel_ends_every_kind_of_wait(void **state)
{
    static const char kinds[] = "lrpwys";
    int fds[sizeof(kinds) - 1];
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(wait_somehow, .workers = 6);
    for (size_t i = 0; i < sizeof(kinds) - 1; i++) {
        fds[i] = support_connect(server, 0);
        support_send(fds[i], &kinds[i], 1);
    }
    SUPPORT_AWAIT(server, bytes_in, == sizeof(kinds) - 1);
    weir_server_cancel(server);
    SUPPORT_AWAIT(server, closed, == sizeof(kinds) - 1);
    assert_int_equal(support_stats(server).cancelled, sizeof(kinds) - 1);
    for (size_t i = 0; i < sizeof(kinds) - 1; i++)
        close(fds[i]);
}

#define SLEEPERS 50

static int sleep_a_moment(struct weir_request *req)
{
    unsigned number = (unsigned)weir_request_fd(req);
    uint32_t worker = weir_worker_number(req);
    uint32_t workers = way->concurrency == WEIR_THREAD ? SLEEPERS : 3;
    unsigned before = number * 3;

    for (unsigned i = 0; i < 5; i++) {
        errno = (int)number;
        weir_sleep(req, i);
        weir_yield(req);
        if (number != (unsigned)weir_request_fd(req) || before != number * 3)
            note("not its own");
        if (worker != weir_worker_number(req))
            note("moved");
    }
    weir_printf(req, "%u", (unsigned)(worker < workers));
    return 0;
}

static void handlers_that_wait_keep_their_own_and_stay_on_their_worker(void **state)
{
    struct weir_server *server;
    int fds[SLEEPERS];

    (void)state;
    server = STREAM_SERVE(sleep_a_moment, .workers = 3);
    for (size_t i = 0; i < SLEEPERS; i++)
        fds[i] = support_connect(server, 0);
    for (size_t i = 0; i < SLEEPERS; i++) {
        support_expect(fds[i], "1");
        support_expect_end(fds[i]);
        close(fds[i]);
    }
    notes_expect("");
}

/* Sleeps on and on until all of them have begun. */
static int sleep_until_all_do(struct weir_request *req)
{
    atomic_uint *there = weir_user(req);
    int r = 0;

    atomic_fetch_add_explicit(there, 1, memory_order_relaxed);
    while (atomic_load_explicit(there, memory_order_relaxed) < SLEEPERS && r == 0)
        r = weir_sleep(req, 1);
    return r;
}

static void one_worker_has_many_sleepers(void **state)
{
    static atomic_uint there;
    struct weir_server *server;
    int fds[SLEEPERS];

    (void)state;
    if (way->stack == WEIR_STACK_THREAD)
        skip();
    atomic_store_explicit(&there, 0, memory_order_relaxed);
    server = STREAM_SERVE(sleep_until_all_do, .workers = 1, .user = &there);
    for (size_t i = 0; i < SLEEPERS; i++)
        fds[i] = support_connect(server, 0);
    for (size_t i = 0; i < SLEEPERS; i++) {
        support_expect_end(fds[i]);
        close(fds[i]);
    }
}

/* ------------------------------------------------------------------ yield ------------- */

/* Starts when both are there. */
static int take_turns(struct weir_request *req)
{
    atomic_uint *there = weir_user(req);
    unsigned number = atomic_fetch_add_explicit(there, 1, memory_order_relaxed);
    int r = 0;

    while (atomic_load_explicit(there, memory_order_relaxed) < 2 && r == 0)
        r = weir_yield(req);
    for (int i = 0; i < 5; i++) {
        note("%c", 'a' + (int)number);
        weir_yield(req);
    }
    return r;
}

static void two_that_yield_take_turns_on_one_worker(void **state)
{
    static atomic_uint there;
    struct weir_server *server;
    int first;
    int second;

    (void)state;
    atomic_store_explicit(&there, 0, memory_order_relaxed);
    if (way->stack == WEIR_STACK_THREAD)
        skip();
    server = STREAM_SERVE(take_turns, .workers = 1, .user = &there);
    first = support_connect(server, 0);
    second = support_connect(server, 0);
    support_expect_end(first);
    support_expect_end(second);
    /* The second begins: it is its turn when it comes, and the first one's after that. */
    notes_expect("bababababa");
    close(first);
    close(second);
}

/* ------------------------------------------------------------------ who and where ----- */

static int note_where(struct weir_request *req)
{
    char text[WEIR_ADDRESS_SIZE];
    char tight[5];
    struct sockaddr_storage address;
    socklen_t len = 0;
    int r;

    note("%s ", weir_peer_text(req, text, sizeof(text)));
    note("%s ", weir_peer_text(req, tight, sizeof(tight)));
    r = weir_peer_address(req, &address, &len);
    note("%d:%d ", r, address.ss_family);
    r = weir_local_address(req, &address, &len);
    note("%d:%d", r, address.ss_family);
    return 0;
}

/* The peer's text, as the client knows itself, in the form that address.h promises. */
static void expect_where(struct weir_server *server, int fd)
{
    struct sockaddr_storage mine;
    socklen_t len = sizeof(mine);
    char expect[2 * WEIR_ADDRESS_SIZE];
    char peer[WEIR_ADDRESS_SIZE];

    assert_int_equal(getsockname(fd, (struct sockaddr *)&mine, &len), 0);
    if (mine.ss_family == AF_INET)
        snprintf(peer, sizeof(peer), "127.0.0.1:%d",
                 ntohs(((struct sockaddr_in *)&mine)->sin_port));
    else if (mine.ss_family == AF_INET6)
        snprintf(peer, sizeof(peer), "[::1]:%d", ntohs(((struct sockaddr_in6 *)&mine)->sin6_port));
    else
        snprintf(peer, sizeof(peer), "unix:%s", len > sizeof(sa_family_t) ? "@weir-peer" : "");
    snprintf(expect, sizeof(expect), "%s %.4s 0:%d 0:%d", peer, peer, mine.ss_family,
             mine.ss_family);
    support_expect_end(fd);
    SUPPORT_AWAIT(server, closed, == 1);
    notes_expect(expect);
    close(fd);
}

static void a_peer_is_known_by_its_address(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(note_where);
    expect_where(server, support_connect(server, 0));
}

static void a_unix_peer_with_a_name_is_known_by_it(void **state)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    char uri[WEIR_ADDRESS_SIZE];
    struct weir_server *server;
    int fd;

    (void)state;
    if (way->family != AF_UNIX)
        skip();
    server = STREAM_SERVE(note_where);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(name.sun_path + 1, "weir-peer", 9);
    assert_int_equal(bind(fd, (const struct sockaddr *)&name,
                          offsetof(struct sockaddr_un, sun_path) + 10), 0);
    weir_server_address(server, 0, uri, sizeof(uri));
    memcpy(to.sun_path + 1, uri + strlen("unix:@"), strlen(uri) - strlen("unix:@"));
    assert_int_equal(connect(fd, (const struct sockaddr *)&to,
                             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(uri) -
                                         strlen("unix:"))), 0);
    expect_where(server, fd);
}

static void an_ipv6_peer_is_known_by_its_address(void **state)
{
    struct weir_server *server;
    const struct weir_handler handler = { .name = "where", .handle = note_where };

    (void)state;
    if (weir_server_create(&server, WEIR_OPTIONS(.listen = "tcp://[::1]:0", .handler = &handler,
                                                 .dispatch = way->dispatch)) < 0)
        skip();
    assert_int_equal(weir_server_start(server), 0);
    expect_where(server, support_connect(server, 0));
    weir_server_shutdown(server);
    weir_server_destroy(server);
}

/* After the peer has reset the connection, its text stays, and no call makes trouble. */
static int note_where_after_the_reset(struct weir_request *req)
{
    char text[WEIR_ADDRESS_SIZE];
    char *line;
    struct sockaddr_storage address;
    socklen_t len;

    weir_write(req, "hello", 5);
    note("%zd ", weir_readline(req, &line, 10));
    weir_peer_text(req, text, sizeof(text));
    note("%.*s", way->family == AF_UNIX ? 5 : 10, text);
    note(" %d", weir_peer_address(req, &address, &len));
    weir_local_address(req, &address, &len);
    return 0;
}

static void a_peer_is_still_known_after_it_has_gone(void **state)
{
    struct weir_server *server;
    char byte;
    int fd;

    (void)state;
    server = STREAM_SERVE(note_where_after_the_reset);
    fd = support_connect(server, 0);
    /* One byte is read, the others are not: closing is a reset in either family. */
    assert_int_equal(recv(fd, &byte, 1, 0), 1);
    support_reset(fd);
    notes_expect(way->family == AF_UNIX ? "-104 unix: 0" : "-104 127.0.0.1: 0");
}

static int note_belongings(struct weir_request *req)
{
    note(weir_state(req) ? "state " : "none ");
    note("%s %s ", (const char *)weir_handler_data(req), (const char *)weir_user(req));
    note(weir_request_fd(req) >= 0 ? "fd " : "no fd ");
    note(weir_draining(req) ? "draining" : "serving");
    return 0;
}

static void a_request_gives_what_the_server_and_the_handler_were_given(void **state)
{
    static char user[] = "user";
    struct weir_server *server;

    (void)state;
    server = stream_serve(&(const struct weir_handler){
        .name = "belongings", .handle = note_belongings, .data = "data",
    }, WEIR_OPTIONS(.user = user));
    support_talk(server, 0, "", "");
    notes_expect("none data user fd serving");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STREAM_TEST(sleep_does_not_end_too_early),
        STREAM_TEST(a_request_timeout_ends_a_sleep),
        STREAM_TEST(a_cancel_ends_a_sleep_and_every_later_wait),
        STREAM_TEST(a_cancel_ends_every_kind_of_wait),
        STREAM_TEST(handlers_that_wait_keep_their_own_and_stay_on_their_worker),
        STREAM_TEST(one_worker_has_many_sleepers),
        STREAM_TEST(two_that_yield_take_turns_on_one_worker),
        STREAM_TEST(a_peer_is_known_by_its_address),
        STREAM_TEST(a_unix_peer_with_a_name_is_known_by_it),
        STREAM_TEST(an_ipv6_peer_is_known_by_its_address),
        STREAM_TEST(a_peer_is_still_known_after_it_has_gone),
        STREAM_TEST(a_request_gives_what_the_server_and_the_handler_were_given),
    };

    return STREAM_RUN(tests, WAYS);
}
