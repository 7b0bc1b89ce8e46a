/*
 * system_calls_test.c - what a request costs in system calls: a recv and a send, and little else.
 *
 * One worker, in a child process; all calls of all its threads are counted. Where requests come
 * together, the child is held until they have: so the counts don't depend on who is faster.
 * Sanitizers make calls of their own, so this is not run with them.
 */
#include "tests/traced.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handlers/echo.h"
#include "handlers/hello.h"

enum {
    CLIENTS = 64,
    ROUNDS = 10,
    DEPTH = 16,         /* requests in one send, or datagrams under way */
    FILE_SIZE = 65536,
    LONG_HEAD = 32000,
    REPLY_MAX = FILE_SIZE + 1000,
};

static struct weir_server *server;
static struct traced *traced;

/* ------------------------------------------------------------------ a server ---------- */

static void serve(const struct weir_handler *handler, const char *listen)
{
    server = support_create(WEIR_OPTIONS(.listen = listen, .handler = handler, .workers = 1));
    traced = traced_start(server);
}

static int end(void **state)
{
    (void)state;
    if (traced)
        traced_end(traced);
    traced = NULL;
    weir_server_destroy(server);
    server = NULL;
    return 0;
}

/* ------------------------------------------------------------------ clients ----------- */

/* How long the answer to a request is, of a connection that is kept. */
static size_t ask_first(int fd, const char *request)
{
    static char reply[REPLY_MAX];
    ssize_t n;

    support_say(fd, request);
    n = recv(fd, reply, sizeof(reply), 0);
    assert_true(n > 0);
    return (size_t)n;
}

static void read_reply(int fd, size_t len)
{
    static char reply[REPLY_MAX];

    assert_true(len <= sizeof(reply));
    assert_int_equal(support_read_all(fd, reply, len), len);
}

/* They all have had an answer before; each time all ask before any is answered. */
static void ask_at_once(const int *fds, const char *request, size_t reply_len)
{
    for (int round = 0; round < ROUNDS; round++) {
        traced_hold(traced);
        for (int i = 0; i < CLIENTS; i++)
            support_say(fds[i], request);
        traced_let_go(traced);
        for (int i = 0; i < CLIENTS; i++)
            read_reply(fds[i], reply_len);
    }
}

/* ------------------------------------------------------------------ counts ------------ */

static struct traced_calls calls;

static uint64_t made(long number)
{
    return calls.by_number[number];
}

/* For people: what each of so many requests has cost. */
static void count(const char *what, unsigned requests)
{
    static const struct {
        long number;
        const char *name;
    } names[] = {
        { SYS_recvfrom, "recvfrom" }, { SYS_sendto, "sendto" }, { TRACED_EPOLL_WAIT, "epoll_wait" },
        { SYS_recvmsg, "recvmsg" },
        { SYS_recvmmsg, "recvmmsg" }, { SYS_sendmmsg, "sendmmsg" }, { SYS_sendfile, "sendfile" },
        { SYS_epoll_ctl, "epoll_ctl" }, { SYS_accept4, "accept4" }, { SYS_write, "write" },
        { SYS_shutdown, "shutdown" }, { SYS_close, "close" },
    };
    uint64_t others;

    calls = traced_count(traced);
    others = calls.all;
    printf("%s: %.2f a request:", what, (double)calls.all / requests);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        uint64_t n = made(names[i].number);

        if (n > 0)
            printf(" %s %.2f", names[i].name, (double)n / requests);
        others -= n;
    }
    printf(" others %.2f\n", (double)others / requests);
}

/* ------------------------------------------------------------------ kept connections -- */

static void ask_one_after_another(const char *what, const char *request, unsigned per_request)
{
    int fd = support_connect(server, 0);
    size_t reply_len = ask_first(fd, request);

    traced_begin(traced);
    for (int i = 0; i < CLIENTS; i++) {
        support_say(fd, request);
        read_reply(fd, reply_len);
    }
    count(what, CLIENTS * per_request);
    close(fd);
    assert_int_equal(made(SYS_recvfrom), CLIENTS);
    assert_int_equal(made(SYS_sendto), CLIENTS);
    assert_int_equal(made(TRACED_EPOLL_WAIT), CLIENTS);
    assert_int_equal(calls.all, 3 * CLIENTS);
}

static void a_line_that_is_waited_for_costs_a_wait_a_recv_and_a_send(void **state)
{
    (void)state;
    serve(&echo_handler, "tcp://127.0.0.1:0");
    ask_one_after_another("line echo, one client", SUPPORT_LINE, 1);
}

static void a_page_that_is_waited_for_costs_a_wait_a_recv_and_a_send(void **state)
{
    (void)state;
    serve(&hello_handler, "tcp://127.0.0.1:0");
    ask_one_after_another("HTTP hello, one client", SUPPORT_HELLO, 1);
}

static void pipelined_requests_share_a_wait_a_recv_and_a_send(void **state)
{
    char requests[sizeof(SUPPORT_HELLO) * DEPTH] = "";

    (void)state;
    for (int i = 0; i < DEPTH; i++)
        strcat(requests, SUPPORT_HELLO);
    serve(&hello_handler, "tcp://127.0.0.1:0");
    ask_one_after_another("HTTP hello, 16 pipelined", requests, DEPTH);
}

static void ask_under_load(const char *what, const char *request, long receive)
{
    size_t reply_len = 0;
    int fds[CLIENTS];

    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = support_connect(server, 0);
        reply_len = ask_first(fds[i], request);
    }
    traced_begin(traced);
    ask_at_once(fds, request, reply_len);
    count(what, CLIENTS * ROUNDS);
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    assert_int_equal(made(receive), CLIENTS * ROUNDS);
    assert_int_equal(made(SYS_sendto), CLIENTS * ROUNDS);
    assert_int_equal(made(receive) + made(SYS_sendto) + made(TRACED_EPOLL_WAIT), calls.all);
    assert_true(calls.all * 10 <= CLIENTS * ROUNDS * 21);
}

static void lines_under_load_cost_a_recv_and_a_send_each(void **state)
{
    (void)state;
    serve(&echo_handler, "tcp://127.0.0.1:0");
    ask_under_load("line echo, 64 clients at once", SUPPORT_LINE, SYS_recvfrom);
}

static void unix_lines_under_load_cost_a_recv_and_a_send_each(void **state)
{
    (void)state;
    serve(&echo_handler, support_abstract("calls"));
    ask_under_load("line echo over a Unix socket, 64 clients at once", SUPPORT_LINE, SYS_recvmsg);
}

static void pages_under_load_cost_a_recv_and_a_send_each(void **state)
{
    (void)state;
    serve(&hello_handler, "tcp://127.0.0.1:0");
    ask_under_load("HTTP hello, 64 clients at once", SUPPORT_HELLO, SYS_recvfrom);
}

static void a_connection_is_registered_once_and_only_when_it_has_to_wait(void **state)
{
    int fd;

    (void)state;
    serve(&echo_handler, "tcp://127.0.0.1:0");
    support_talk(server, 0, SUPPORT_LINE, SUPPORT_LINE);        /* it has begun */
    traced_begin(traced);
    traced_hold(traced);
    fd = support_ask(server, 0, SUPPORT_LINE);
    traced_let_go(traced);
    support_expect(fd, SUPPORT_LINE);
    for (int i = 0; i < ROUNDS; i++) {
        support_say(fd, SUPPORT_LINE);
        support_expect(fd, SUPPORT_LINE);
    }
    count("line echo, a new connection's first eleven", 1 + ROUNDS);
    close(fd);
    assert_int_equal(made(SYS_recvfrom), 1 + ROUNDS);
    assert_int_equal(made(SYS_sendto), 1 + ROUNDS);
    assert_int_equal(made(SYS_epoll_ctl), 1);
}

/* ------------------------------------------------------------------ children ---------- */

static int return_a_number(struct weir_request *req, void *number)
{
    (void)req;
    return *(const int *)number;
}

static int write_in_child(struct weir_request *req, void *line)
{
    return weir_write(req, line, strlen(SUPPORT_LINE)) < 0;
}

/* Many that return at once, and one that answers. */
static int answer_by_children(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);
    int sum = 0;

    if (n <= 0)
        return (int)n;
    for (int i = 0; i < CLIENTS; i++)
        sum += weir_join(req, weir_spawn(req, return_a_number, &i));
    if (sum != CLIENTS * (CLIENTS - 1) / 2)
        return -EINVAL;
    return weir_join(req, weir_spawn(req, write_in_child, line)) == 0 ? WEIR_KEEP : -EIO;
}

static void children_cost_no_system_calls(void **state)
{
    static const struct weir_handler handler = { .name = "children",
                                                 .handle = answer_by_children };

    (void)state;
    serve(&handler, "tcp://127.0.0.1:0");
    ask_one_after_another("line echo by a child, beside 64 others", SUPPORT_LINE, 1);
}

/* ------------------------------------------------------------------ long messages ----- */

/* The whole message is there when the server begins. Calls of recvmsg, those in vain included. */
static uint64_t calls_for(const struct weir_handler *handler, const char *message, size_t len)
{
    char byte;
    int fd;

    serve(handler, support_abstract("long"));
    fd = support_ask(server, 0, "");
    traced_begin(traced);
    traced_hold(traced);
    support_send(fd, message, len);
    traced_let_go(traced);
    assert_int_equal(recv(fd, &byte, 1, 0), 1);
    count("a long message", 1);
    close(fd);
    end(NULL);
    return made(SYS_recvmsg);
}

static void a_long_message_takes_a_recv_for_each_doubling(void **state)
{
    static const struct weir_handler by_one = { .name = "by one",
                                                .handle = support_peek_for_one_more };
    static const struct weir_handler at_all = { .name = "at all",
                                                .handle = support_peek_at_all };
    const char *text = support_long_line();

    (void)state;
    /* 8 KiB, 8, 16, 32 and the rest; or the rest at once. A first look may have been in vain. */
    assert_true(calls_for(&by_one, text, SUPPORT_LONG) <= 6);
    assert_true(calls_for(&at_all, text, SUPPORT_LONG) <= 3);
}

static void a_long_head_takes_a_recv_for_each_doubling(void **state)
{
    static const char begin[] = "GET / HTTP/1.1\r\nHost: x\r\nCookie: ";
    static char head[LONG_HEAD];

    (void)state;
    memset(head, 'c', sizeof(head));
    memcpy(head, begin, strlen(begin));
    memcpy(head + sizeof(head) - 4, "\r\n\r\n", 4);
    assert_true(calls_for(&hello_handler, head, sizeof(head)) <= 4);
}

/* ------------------------------------------------------------------ new connections --- */

static void ask_and_part(void)
{
    static char reply[REPLY_MAX];
    int fd;

    traced_hold(traced);
    fd = support_ask(server, 0, "GET / HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n");
    traced_let_go(traced);
    assert_true(support_read_all(fd, reply, sizeof(reply)) > 0);
    close(fd);
}

static void a_connection_per_request_is_in_no_epoll_set(void **state)
{
    (void)state;
    serve(&hello_handler, "tcp://127.0.0.1:0");
    ask_and_part();
    traced_begin(traced);
    for (int i = 0; i < CLIENTS; i++)
        ask_and_part();
    count("HTTP hello, a connection per request", CLIENTS);
    assert_int_equal(made(SYS_recvfrom), CLIENTS);
    assert_int_equal(made(SYS_sendto), CLIENTS);
    assert_int_equal(made(SYS_shutdown), CLIENTS);
    /* Only the listener may have been, for the while in which so many came. */
    assert_true(made(SYS_epoll_ctl) <= CLIENTS / 4);
    /* The one that finds nobody else, too. */
    assert_true(made(SYS_accept4) <= 2 * CLIENTS);
    /* The worker is called once at most. */
    assert_true(made(SYS_write) <= CLIENTS);
}

/* ------------------------------------------------------------------ datagrams, files -- */

static void exchange_datagrams(int fd)
{
    char reply[sizeof(SUPPORT_LINE)];

    traced_hold(traced);
    for (int i = 0; i < DEPTH; i++)
        support_say(fd, SUPPORT_LINE);
    traced_let_go(traced);
    for (int i = 0; i < DEPTH; i++)
        assert_int_equal(recv(fd, reply, sizeof(reply), 0), strlen(SUPPORT_LINE));
}

static void datagrams_that_come_together_share_their_calls(void **state)
{
    int fd;

    (void)state;
    serve(&echo_handler, "udp://127.0.0.1:0");
    fd = support_connect(server, 0);
    exchange_datagrams(fd);     /* for which it has to get memory */
    traced_begin(traced);
    for (int round = 0; round < ROUNDS; round++)
        exchange_datagrams(fd);
    count("UDP echo, 16 at once", DEPTH * ROUNDS);
    close(fd);
    assert_int_equal(made(SYS_recvmmsg), ROUNDS);
    assert_int_equal(made(SYS_sendmmsg), ROUNDS);
    assert_int_equal(made(TRACED_EPOLL_WAIT), ROUNDS);
    assert_int_equal(calls.all, 3 * ROUNDS);
}

static int file_fd;

static int send_file(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n > 0)
        n = weir_write(req, line, (size_t)n);
    if (n > 0)
        n = weir_sendfile(req, file_fd, 0, FILE_SIZE);
    return n > 0 ? WEIR_KEEP : (int)n;
}

static void a_file_takes_a_send_for_its_head_and_no_copy(void **state)
{
    static const struct weir_handler handler = { .name = "file", .handle = send_file };
    int fd;

    (void)state;
    file_fd = memfd_create("file", MFD_CLOEXEC);
    assert_true(file_fd >= 0);
    assert_int_equal(ftruncate(file_fd, FILE_SIZE), 0);
    serve(&handler, "tcp://127.0.0.1:0");
    fd = support_ask(server, 0, SUPPORT_LINE);
    read_reply(fd, strlen(SUPPORT_LINE) + FILE_SIZE);
    traced_begin(traced);
    for (int i = 0; i < ROUNDS; i++) {
        support_say(fd, SUPPORT_LINE);
        read_reply(fd, strlen(SUPPORT_LINE) + FILE_SIZE);
    }
    count("a line and a file of 64 KiB", ROUNDS);
    close(fd);
    close(file_fd);
    assert_int_equal(made(SYS_recvfrom), ROUNDS);
    assert_int_equal(made(SYS_sendto), ROUNDS);
    assert_true(made(SYS_sendfile) >= ROUNDS);
    assert_int_equal(made(SYS_read), 0);
}

#define TRACED_TEST(test) cmocka_unit_test_teardown(test, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRACED_TEST(a_line_that_is_waited_for_costs_a_wait_a_recv_and_a_send),
        TRACED_TEST(a_page_that_is_waited_for_costs_a_wait_a_recv_and_a_send),
        TRACED_TEST(pipelined_requests_share_a_wait_a_recv_and_a_send),
        TRACED_TEST(lines_under_load_cost_a_recv_and_a_send_each),
        TRACED_TEST(unix_lines_under_load_cost_a_recv_and_a_send_each),
        TRACED_TEST(pages_under_load_cost_a_recv_and_a_send_each),
        TRACED_TEST(a_connection_is_registered_once_and_only_when_it_has_to_wait),
        TRACED_TEST(children_cost_no_system_calls),
        TRACED_TEST(a_long_message_takes_a_recv_for_each_doubling),
        TRACED_TEST(a_long_head_takes_a_recv_for_each_doubling),
        TRACED_TEST(a_connection_per_request_is_in_no_epoll_set),
        TRACED_TEST(datagrams_that_come_together_share_their_calls),
        TRACED_TEST(a_file_takes_a_send_for_its_head_and_no_copy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
