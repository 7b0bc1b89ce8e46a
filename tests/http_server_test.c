/*
 * http_server_test.c - the HTTP handler in a server that serves: what a fake request cannot show,
 * for it never parks. http_test.c has the cases of the protocol.
 */
#include "tests/support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "handlers/http/http.h"

enum {
    MANY = 3 * 1000 * 1000,         /* bytes of a request: more than our buffers hold */
    PIECE = 16,                     /* ... of any program's environment */
    MORE = 24 * 1000 * 1000,        /* of a reply: more than the kernel takes off a handler */
};

/* ------------------------------------------------------------------ a site ------------ */

/*
 * Reads the body, and prints its length and a sum over its bytes. Returns the print's, or -errno.
 */
static int print_sum(struct weir_http *ex, char *text)
{
    unsigned char buf[1000];
    size_t len = 0;
    unsigned total = 0;
    ssize_t n;

    while ((n = weir_http_read_body(ex, buf, sizeof(buf))) > 0) {
        len += (size_t)n;
        for (ssize_t i = 0; i < n; i++)
            total += buf[i];
    }
    return n < 0 ? (int)n : sprintf(text, "%zu %u", len, total);
}

static int sum(struct weir_http *ex)
{
    char text[64];
    int n = print_sum(ex, text);

    return n < 0 ? n : weir_http_reply(ex, 200, NULL, text, (size_t)n);
}

static int begin_and_sum(struct weir_http *ex)
{
    int n = weir_http_begin(ex, 200, NULL);
    char text[64];

    if (n == 0)
        n = print_sum(ex, text);
    return n < 0 ? n : weir_http_write(ex, text, (size_t)n);
}

static int stream_many(struct weir_http *ex)
{
    char piece[1000];
    int r = weir_http_begin(ex, 200, NULL);

    memset(piece, 'x', sizeof(piece));
    for (int i = 0; i < MORE / 1000 && r == 0; i++)
        r = weir_http_write(ex, piece, sizeof(piece));
    return r;
}

static int send_many(struct weir_http *ex)
{
    return weir_http_reply_file(ex, 200, NULL, *(const int *)weir_http_data(ex), 0, MORE);
}

static int break_down(struct weir_http *ex)
{
    (void)ex;
    return -EIO;
}

static int file_fd;

/* A file that the kernel has no sendfile for, PIECE bytes of it. */
static int send_environment(struct weir_http *ex)
{
    int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
    int r = weir_http_reply_file(ex, 200, NULL, fd, 0, PIECE);

    close(fd);
    return r;
}

static int reply_late(struct weir_http *ex)
{
    int r = weir_sleep(weir_http_request(ex), 100);

    return r < 0 ? r : weir_http_reply(ex, 200, NULL, "late", 4);
}

static const struct weir_http_route routes[] = {
    { "GET", "/late", reply_late, NULL },
    { "POST", "/sum", sum, NULL },
    { "POST", "/begin-and-sum", begin_and_sum, NULL },
    { "GET", "/stream", stream_many, NULL },
    { "GET", "/file", send_many, &file_fd },
    { "GET", "/environment", send_environment, NULL },
    { "GET", "/fail", break_down, NULL },
};

static const struct weir_http_site site = {
    WEIR_HTTP_ROUTES(routes), .body_limit = MANY };

static const struct weir_handler handler = WEIR_HTTP_HANDLER("site", &site);

/* ------------------------------------------------------------------ a server ---------- */

static struct weir_server *server;
static atomic_int told;             /* what handle_error heard last; 0: nothing */

static void hear_error(struct weir_server *of, const struct weir_failure *failure)
{
    (void)of;
    /* release: for who awaits it. pairs: the tests' loads */
    atomic_store_explicit(&told, failure->error, memory_order_release);
}

static int start_with(const struct weir_options *options)
{
    struct weir_options mine = *options;

    atomic_store_explicit(&told, 0, memory_order_relaxed);  /* no server yet. pairs: none */
    mine.listen = "tcp://127.0.0.1:0";
    mine.handler = &handler;
    mine.workers = 1;
    mine.handle_error = hear_error;
    server = support_start(&mine);
    return 0;
}

static int start(void **state)
{
    (void)state;
    return start_with(WEIR_OPTIONS(.user = NULL));
}

static int start_with_request_timeout(void **state)
{
    (void)state;
    return start_with(WEIR_OPTIONS(.request_timeout_ms = 1500));
}

static int start_with_write_timeout(void **state)
{
    (void)state;
    return start_with(WEIR_OPTIONS(.write_timeout_ms = 50));
}

static int stop_server(void **state)
{
    (void)state;
    weir_server_destroy(server);
    return 0;
}

static int start_with_file(void **state)
{
    FILE *file = tmpfile();

    assert_non_null(file);
    for (int i = 0; i < MORE / 1000; i++)
        assert_true(fprintf(file, "%01000d", 0) == 1000);
    assert_int_equal(fflush(file), 0);
    file_fd = dup(fileno(file));
    fclose(file);
    return start(state);
}

static int stop_with_file(void **state)
{
    close(file_fd);
    return stop_server(state);
}

static char reply[MORE + 1000];

/* Everything that comes until the end, terminated. The length of what follows the head. */
static size_t read_reply(int fd)
{
    size_t len = support_read_all(fd, reply, sizeof(reply) - 1);
    const char *body;

    reply[len] = '\0';
    close(fd);
    body = strstr(reply, "\r\n\r\n");
    assert_non_null(body);
    return len - (size_t)(body + 4 - reply);
}

static void assert_replied(int fd, const char *start_of_reply, const char *end)
{
    read_reply(fd);
    assert_memory_equal(reply, start_of_reply, strlen(start_of_reply));
    assert_non_null(strstr(reply, end));
}

/* ------------------------------------------------------------------ tests ------------- */

static void a_body_that_comes_in_pieces_parks_its_handler_and_is_read_whole(void **state)
{
    int fd = support_connect(server, 0);

    (void)state;
    support_say(fd, "POST /sum HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n3\r\nab");
    SUPPORT_AWAIT(server, parked, == 1);
    support_say(fd, "c\r\n2");
    support_say(fd, "\r\nde\r\n0\r\n\r\n");
    assert_replied(fd, "HTTP/1.1 200 OK\r\n", "\r\n\r\n5 495");
}

static void others_are_served_while_a_body_is_missing(void **state)
{
    int stalled = support_connect(server, 0);
    int fd = support_connect(server, 0);

    (void)state;
    support_say(stalled, "POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
                         "Connection: close\r\n\r\n");
    SUPPORT_AWAIT(server, parked, >= 1);
    support_say(fd, "POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
                    "Connection: close\r\n\r\na");
    assert_replied(fd, "HTTP/1.1 200 OK\r\n", "\r\n\r\n1 97");
    support_say(stalled, "aaaaaaaaa");
    assert_replied(stalled, "HTTP/1.1 200 OK\r\n", "\r\n\r\n9 873");
}

static void a_client_that_expects_it_is_invited_to_send_its_body(void **state)
{
    int fd = support_connect(server, 0);

    (void)state;
    support_say(fd, "POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
                    "Expect: 100-continue\r\nConnection: close\r\n\r\n");
    support_expect(fd, "HTTP/1.1 100 Continue\r\n\r\n");
    support_say(fd, "abc");
    assert_replied(fd, "HTTP/1.1 200 OK\r\n", "\r\n\r\n3 294");
}

/* "100 Continue" would be no chunk. */
static void a_client_whose_reply_has_begun_is_not_invited(void **state)
{
    int fd = support_connect(server, 0);

    (void)state;
    support_say(fd, "POST /begin-and-sum HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
                    "Expect: 100-continue\r\n\r\n");
    SUPPORT_AWAIT(server, parked, == 1);
    support_say(fd, "abc");
    assert_replied(fd, "HTTP/1.1 200 OK\r\n", "\r\n\r\n5\r\n3 294\r\n0\r\n\r\n");
    assert_non_null(strstr(reply, "\r\nConnection: close\r\n"));
    assert_null(strstr(reply, "100 Continue"));
}

static void with_an_empty_line_behind_a_request_its_connection_is_idle(void **state)
{
    int fd = support_connect(server, 0);

    (void)state;
    support_say(fd, "POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na\r\n");
    SUPPORT_AWAIT(server, idle, == 1);
    support_say(fd, "\r\nPOST /sum HTTP/1.0\r\nContent-Length: 1\r\n\r\nb");
    assert_replied(fd, "HTTP/1.1 200 OK\r\n", "\r\n\r\n1 97");
    assert_non_null(strstr(reply, "\r\n\r\n1 98"));
}

static void a_body_as_long_as_the_limit_is_read(void **state)
{
    int fd = support_connect(server, 0);
    char *body = malloc(MANY);
    char head[128];

    (void)state;
    assert_non_null(body);
    memset(body, 1, MANY);
    sprintf(head, "POST /sum HTTP/1.0\r\nContent-Length: %d\r\n\r\n", MANY);
    support_say(fd, head);
    support_send(fd, body, MANY);
    assert_replied(fd, "HTTP/1.1 200 OK\r\n", "\r\n\r\n3000000 3000000");
    free(body);
}

/* It sends all of it before it reads. */
static void the_refusal_of_a_long_body_reaches_a_client_that_is_sending_it(void **state)
{
    int fd = support_connect(server, 0);
    static char body[MANY];
    char head[128];

    (void)state;
    sprintf(head, "POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 10 * MANY);
    support_say(fd, head);
    for (int i = 0; i < 10; i++)
        support_send(fd, body, sizeof(body));
    assert_replied(fd, "HTTP/1.1 413 Content Too Large\r\n", "\r\nConnection: close\r\n");
}

static void a_stream_larger_than_any_buffer_is_sent_whole(void **state)
{
    int fd = support_connect(server, 0);

    (void)state;
    support_say(fd, "GET /stream HTTP/1.0\r\n\r\n");
    SUPPORT_AWAIT(server, parked, == 1);        /* until we read */
    assert_int_equal(read_reply(fd), MORE);
}

static void a_file_larger_than_any_buffer_is_sent_whole(void **state)
{
    int fd = support_connect(server, 0);

    (void)state;
    support_say(fd, "GET /file HTTP/1.0\r\n\r\n");
    SUPPORT_AWAIT(server, parked, == 1);
    assert_int_equal(read_reply(fd), MORE);
    assert_non_null(strstr(reply, "\r\nContent-Length: 24000000\r\n"));
}

static void a_file_without_sendfile_is_a_body_all_the_same(void **state)
{
    char text[PIECE];
    int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_int_equal(read(fd, text, PIECE), PIECE);
    close(fd);
    fd = support_connect(server, 0);
    support_say(fd, "GET /environment HTTP/1.0\r\n\r\n");
    assert_int_equal(read_reply(fd), PIECE);
    assert_memory_equal(strstr(reply, "\r\n\r\n") + 4, text, PIECE);
}

static void a_reader_that_leaves_within_a_reply_is_not_reported(void **state)
{
    int fd = support_connect(server, 0);

    (void)state;
    support_say(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    SUPPORT_AWAIT(server, parked, == 1);
    support_reset(fd);
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(atomic_load_explicit(&told, memory_order_acquire), 0);
}

static void a_callback_that_fails_is_reported_and_its_peer_told_500(void **state)
{
    int fd = support_connect(server, 0);

    (void)state;
    support_say(fd, "GET /fail HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_replied(fd, "HTTP/1.1 500 Internal Server Error\r\n", "\r\nConnection: close\r\n");
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(atomic_load_explicit(&told, memory_order_acquire), -EIO);
}

/* Who serves, and how. */
static const struct way {
    const char *name;
    enum weir_concurrency concurrency;
    enum weir_stack stack;
    uint32_t processes;
} ways[] = {
    { .name = "pool" },
    { .name = "pool, stacks of the workers", .stack = WEIR_STACK_THREAD },
    { .name = "serial", .concurrency = WEIR_SERIAL },
    { .name = "thread", .concurrency = WEIR_THREAD },
    { .name = "fork", .concurrency = WEIR_FORK },
    { .name = "prefork", .concurrency = WEIR_PREFORK, .processes = 1 },
};

static const struct way *way;

#define ASK_FILE "GET /environment HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"

static void *drain(void *drained)
{
    if (weir_server_shutdown(server) == 0 && weir_server_close(server) == 0)
        gate_open(drained);
    return NULL;
}

/* On another thread, so that it fails instead of hanging if it doesn't end. */
static void drain_in_time(void)
{
    struct gate drained;
    struct pollfd opened;
    pthread_t thread;

    gate_init(&drained);
    opened = (struct pollfd){ .fd = drained.fd, .events = POLLIN };
    assert_int_equal(pthread_create(&thread, NULL, drain, &drained), 0);
    assert_int_equal(poll(&opened, 1, PLENTY_MS), 1);
    pthread_join(thread, NULL);
    gate_fini(&drained);
}

/*
 * No timeout ends a client that was told the end, and stays: it takes nobody's turn or place, and a
 * drain does not wait for it.
 */
static void expect_nobody_waits_for(const char *asks, const char *start_of_reply)
{
    struct weir_handler mine = handler;
    int fd;

    mine.stack = way->stack;
    server = support_start(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &mine, .workers = 1, .max_per_address = 1,
        .concurrency = way->concurrency, .processes = way->processes, .drain_timeout_ms = 0));
    fd = support_ask(server, 0, asks);
    support_expect(fd, start_of_reply);
    assert_true(support_read_all(fd, reply, sizeof(reply)) > 0);
    assert_replied(support_ask(server, 0, ASK_FILE "\r\n"), "HTTP/1.1 200 OK\r\n", "");
    assert_int_equal(support_stats(server).refused, 0);
    drain_in_time();
    weir_server_destroy(server);
    close(fd);
}

static void a_refused_client_that_stays_holds_up_nobody(void **state)
{
    (void)state;
    expect_nobody_waits_for("BAD\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n");
}

static void nor_one_that_never_sends_its_body(void **state)
{
    (void)state;
    expect_nobody_waits_for(ASK_FILE "Content-Length: 900000\r\nExpect: 100-continue\r\n\r\n",
                            "HTTP/1.1 200 OK\r\n");
}

/* What whoever wrote the callback finds in the log. */
static void the_line_of_a_failed_callback_names_its_route(void **state)
{
    struct weir_server *plain = support_start(WEIR_OPTIONS(.listen = support_abstract("line"),
                                                           .handler = &handler));
    int fd = support_connect(plain, 0);
    struct capture capture;
    char written[500];

    (void)state;
    capture_begin(&capture);
    support_say(fd, "GET /fail HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_replied(fd, "HTTP/1.1 500 Internal Server Error\r\n", "\r\nConnection: close\r\n");
    weir_server_destroy(plain);
    capture_end(&capture, written, sizeof(written));
    assert_string_equal(written, "weir: request from unix: handle of handler 'site' failed: "
                                 "Input/output error (GET /fail: its callback returned this "
                                 "error, and the peer gets 500)\n");
}

static int replies(void)
{
    int n = 0;

    for (const char *at = reply; (at = strstr(at, "HTTP/1.1 200 OK\r\n")); at++)
        n++;
    return n;
}

/* Half of the next one is always there: the server is never without input between two. */
static void each_of_pipelined_requests_has_the_request_timeout_for_itself(void **state)
{
    static const char late[] = "GET /late HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd = support_connect(server, 0);

    (void)state;
    support_send(fd, late, 10);
    for (int i = 0; i < 19; i++) {
        support_send(fd, late + 10, sizeof(late) - 11);
        support_send(fd, late, 10);
        SUPPORT_AWAIT(server, handled, > (uint64_t)i);
    }
    support_say(fd, &late[10]);
    support_half_close(fd);
    read_reply(fd);
    assert_int_equal(replies(), 20);
    assert_int_equal(support_stats(server).timeouts, 0);
}

/* The last of the flushes is the engine's own. */
static void a_peer_that_does_not_read_in_time_is_not_reported(void **state)
{
    static char asks[64 * 1024];
    static const char stream[] = "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd = support_connect(server, 0);

    (void)state;
    for (size_t at = 0; at + sizeof(stream) < sizeof(asks); at += sizeof(stream) - 1)
        memcpy(asks + at, stream, sizeof(stream) - 1);
    support_say(fd, asks);
    SUPPORT_AWAIT(server, timeouts, >= 1);
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(atomic_load_explicit(&told, memory_order_acquire), 0);
    assert_int_equal(support_stats(server).handle_errors, 0);
    close(fd);
}

#define SERVED(test) cmocka_unit_test_setup_teardown(test, start, stop_server)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVED(a_body_that_comes_in_pieces_parks_its_handler_and_is_read_whole),
        SERVED(others_are_served_while_a_body_is_missing),
        SERVED(a_client_that_expects_it_is_invited_to_send_its_body),
        SERVED(a_client_whose_reply_has_begun_is_not_invited),
        SERVED(with_an_empty_line_behind_a_request_its_connection_is_idle),
        SERVED(a_body_as_long_as_the_limit_is_read),
        SERVED(the_refusal_of_a_long_body_reaches_a_client_that_is_sending_it),
        SERVED(a_stream_larger_than_any_buffer_is_sent_whole),
        cmocka_unit_test_setup_teardown(a_file_larger_than_any_buffer_is_sent_whole,
                                        start_with_file, stop_with_file),
        SERVED(a_file_without_sendfile_is_a_body_all_the_same),
        SERVED(a_reader_that_leaves_within_a_reply_is_not_reported),
        SERVED(a_callback_that_fails_is_reported_and_its_peer_told_500),
        cmocka_unit_test(the_line_of_a_failed_callback_names_its_route),
        cmocka_unit_test_setup_teardown(
            each_of_pipelined_requests_has_the_request_timeout_for_itself,
            start_with_request_timeout, stop_server),
        cmocka_unit_test_setup_teardown(a_peer_that_does_not_read_in_time_is_not_reported,
                                        start_with_write_timeout, stop_server),
    };
    const struct CMUnitTest of_each_way[] = {
        cmocka_unit_test(a_refused_client_that_stays_holds_up_nobody),
        cmocka_unit_test(nor_one_that_never_sends_its_body),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    for (way = ways; way < ways + sizeof(ways) / sizeof(ways[0]); way++)
        failed += cmocka_run_group_tests_name(way->name, of_each_way, NULL, NULL);
    return failed;
}
