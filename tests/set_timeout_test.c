/*
 * set_timeout_test.c - a handler changes the timeouts of its own request, whoever runs it.
 *
 * The listener has none, or such as would end the handler at once: so what a test sees is the
 * handler's own. Handlers tell their client what they saw, for they may be in another process.
 */
#include "handlers/http/http.h"
#include "tests/support.h"
#include "tests/words.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* More than sockets hold. */
#define MUCH ((size_t)16 << 20)

/* So long clients wait that would be late by a timeout of SOON_MS. */
#define SOON_MS 20
#define LATER_MS 100

static const struct way {
    const char *name;
    enum weir_concurrency concurrency;
    enum weir_stack stack;
} ways[] = {
    { "a pool", WEIR_POOL, WEIR_STACK_FIBER },
    { "own stacks", WEIR_POOL, WEIR_STACK_THREAD },
    { "threads", WEIR_THREAD, WEIR_STACK_FIBER },
    { "children", WEIR_FORK, WEIR_STACK_FIBER },
    { "processes", WEIR_PREFORK, WEIR_STACK_FIBER },
    { "nothing but itself", WEIR_SERIAL, WEIR_STACK_FIBER },
};

static const struct way *way;
static struct weir_server *server;

static void tell_hint(struct weir_server *of, const struct weir_failure *failure)
{
    (void)of;
    words_tell("%s;", failure->hint ? failure->hint : "no hint");
}

static void serve_by(struct weir_handler handler, struct weir_options options)
{
    static struct weir_handler served;

    served = handler;
    served.name = "own";
    served.stack = way->stack;
    options.listen = "tcp://127.0.0.1:0";
    options.handler = &served;
    options.handle_error = tell_hint;
    options.concurrency = way->concurrency;
    options.processes = way->concurrency == WEIR_PREFORK;
    options.workers = 1;
    server = support_start(&options);
}

#define SERVE(handle_, ...) \
    serve_by((struct weir_handler){ .handle = (handle_) }, *WEIR_OPTIONS(__VA_ARGS__))

static void end(void)
{
    weir_server_cancel(server);
    weir_server_destroy(server);
}

/* Once each way. */
static void go(void (*test)(void))
{
    for (way = ways; way < ways + sizeof(ways) / sizeof(*ways); way++) {
        test();
        end();
    }
}

/* ------------------------------------------------------------------ reads ------------- */

static int read_soon(struct weir_request *req)
{
    char *line;
    int set = weir_set_timeout(req, WEIR_TIMEOUT_READ, SOON_MS);
    ssize_t n = weir_readline(req, &line, 16);

    weir_printf(req, "%d %d\n", set, n == -ETIMEDOUT);
    return 0;
}

static void read_late(void)
{
    SERVE(read_soon, .user = NULL);
    support_expect_last(support_ask(server, 0, "no end"), "0 1\n");
    SUPPORT_AWAIT(server, timeouts, == 1);
}

static void a_read_has_the_time_that_its_handler_gives(void **state)
{
    (void)state;
    go(read_late);
}

static int read_for_ever(struct weir_request *req)
{
    char *line;

    weir_set_timeout(req, WEIR_TIMEOUT_READ, WEIR_FOREVER);
    weir_write(req, "go\n", 3);
    return weir_printf(req, "%zd\n", weir_readline(req, &line, 16)) < 0 ? -EIO : 0;
}

static void read_long(void)
{
    int fd;

    SERVE(read_for_ever, .read_timeout_ms = SOON_MS);
    fd = support_connect(server, 0);
    support_expect(fd, "go\n");
    poll(NULL, 0, LATER_MS);
    support_say(fd, "abc\n");
    support_expect_last(fd, "4\n");
}

static void a_read_outlives_the_listeners_timeout_if_its_handler_says_so(void **state)
{
    (void)state;
    go(read_long);
}

/* "set" sets a timeout that the next call must not have. */
static int set_or_answer(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 16);

    if (n <= 0)
        return (int)n;
    if (*line == 's')
        weir_set_timeout(req, WEIR_TIMEOUT_READ, SOON_MS);
    weir_write(req, line, (size_t)n);
    return WEIR_KEEP;
}

static void set_and_go_on(void)
{
    int fd;

    SERVE(set_or_answer, .user = NULL);
    fd = support_ask(server, 0, "set\nbegin");
    poll(NULL, 0, LATER_MS);
    support_say(fd, "ning\n");
    support_expect(fd, "set\nbeginning\n");
    close(fd);
}

static void the_next_call_has_the_listeners_timeouts_again(void **state)
{
    (void)state;
    go(set_and_go_on);
}

/* Takes nothing before there is a whole line. */
static int look_then_leave(struct weir_request *req)
{
    char *data;
    ssize_t n = weir_peek(req, &data, 1);

    if (n <= 0)
        return (int)n;
    weir_set_timeout(req, WEIR_TIMEOUT_READ, SOON_MS);
    if (!memchr(data, '\n', (size_t)n))
        return WEIR_KEEP;
    return weir_write(req, data, (size_t)n) < 0 ? -EIO : 0;
}

static void leave_and_go_on(void)
{
    int fd;

    SERVE(look_then_leave, .user = NULL);
    fd = support_ask(server, 0, "begin");
    poll(NULL, 0, LATER_MS);
    support_say(fd, "ning\n");
    support_expect_last(fd, "beginning\n");
}

static void a_wait_between_two_calls_has_the_timeout_of_neither(void **state)
{
    (void)state;
    go(leave_and_go_on);
}

/* ------------------------------------------------------------------ writes ------------ */

static int write_soon(struct weir_request *req)
{
    static const char much[MUCH];
    char *line;

    weir_readline(req, &line, 16);
    weir_set_timeout(req, WEIR_TIMEOUT_WRITE, SOON_MS);
    return (int)(weir_write(req, much, sizeof(much)) < 0 ? weir_flush(req) : 0);
}

static void write_late(void)
{
    char expected[200];
    int fd;

    serve_by((struct weir_handler){ .handle = write_soon, .finish = words_tell_status },
             *WEIR_OPTIONS(.user = NULL));
    fd = support_ask(server, 0, "go\n");
    snprintf(expected, sizeof(expected), "finish %d;write_timeout_ms has passed, which the handler "
             "has set to %d;", -ETIMEDOUT, SOON_MS);
    words_expect(expected);
    SUPPORT_AWAIT(server, timeouts, == 1);
    close(fd);
}

static void a_write_has_the_time_that_its_handler_gives_and_finish_is_told(void **state)
{
    (void)state;
    go(write_late);
}

/* ------------------------------------------------------------------ the request ------- */

static int sleep_briefly(struct weir_request *req)
{
    int set = weir_set_timeout(req, WEIR_TIMEOUT_REQUEST, SOON_MS);
    int slept = weir_sleep(req, PLENTY_MS);

    /* To send it there must be time again. */
    weir_set_timeout(req, WEIR_TIMEOUT_REQUEST, PLENTY_MS);
    return weir_printf(req, "%d %d\n", set, slept == -ETIMEDOUT) < 0 ? -EIO : 0;
}

static void sleep_late(void)
{
    SERVE(sleep_briefly, .user = NULL);
    support_talk(server, 0, "", "0 1\n");
}

static void a_request_has_the_time_that_its_handler_gives(void **state)
{
    (void)state;
    go(sleep_late);
}

static int sleep_longer(struct weir_request *req)
{
    weir_set_timeout(req, WEIR_TIMEOUT_REQUEST, WEIR_FOREVER);
    return weir_printf(req, "%d\n", weir_sleep(req, LATER_MS)) < 0 ? -EIO : 0;
}

static void sleep_long(void)
{
    SERVE(sleep_longer, .request_timeout_ms = SOON_MS);
    support_talk(server, 0, "", "0\n");
    assert_int_equal(support_stats(server).timeouts, 0);
}

static void a_request_outlives_the_listeners_timeout_if_its_handler_says_so(void **state)
{
    (void)state;
    go(sleep_long);
}

/* ------------------------------------------------------------------ other streams ----- */

/* Of a stream to where nobody says anything: its own timeout, and then the request's. */
static int read_from_silence(struct weir_request *req)
{
    struct weir_request *own, *bound;
    char *line;
    ssize_t first, second;

    if (weir_connect(req, weir_user(req), 0, &own) < 0 ||
        weir_connect(req, weir_user(req), 0, &bound) < 0)
        return -EIO;
    weir_set_timeout(own, WEIR_TIMEOUT_READ, SOON_MS);
    first = weir_readline(own, &line, 16);
    weir_set_timeout(bound, WEIR_TIMEOUT_REQUEST, SOON_MS);
    second = weir_readline(bound, &line, 16);
    weir_set_timeout(req, WEIR_TIMEOUT_REQUEST, WEIR_FOREVER);
    weir_printf(req, "%d %d\n", first == -ETIMEDOUT, second == -ETIMEDOUT);
    return 0;
}

static char silence[WEIR_ADDRESS_SIZE];

static void read_nothing(void)
{
    SERVE(read_from_silence, .user = silence);
    support_talk(server, 0, "", "1 1\n");
    SUPPORT_AWAIT(server, timeouts, == 2);
}

static void streams_that_it_opened_end_with_their_own_timeout_or_the_requests(void **state)
{
    static const struct weir_handler keeper = { .name = "silence", .handle = set_or_answer };
    struct weir_server *other = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                           .handler = &keeper));

    (void)state;
    weir_server_address(other, 0, silence, sizeof(silence));
    go(read_nothing);
    weir_server_cancel(other);
    weir_server_destroy(other);
}

/* ------------------------------------------------------------------ HTTP -------------- */

static int read_body_soon(struct weir_http *ex)
{
    char buf[16];

    weir_set_timeout(weir_http_request(ex), WEIR_TIMEOUT_READ, SOON_MS);
    return (int)weir_http_read_body(ex, buf, sizeof(buf));
}

static const struct weir_http_route routes[] = { { "POST", "/", read_body_soon, NULL } };
static const struct weir_http_site site = { WEIR_HTTP_ROUTES(routes), .body_limit = 100 };

static void post_late(void)
{
    int fd;

    serve_by((struct weir_handler)WEIR_HTTP_HANDLER("http", &site), *WEIR_OPTIONS(.user = NULL));
    fd = support_ask(server, 0, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    support_expect(fd, "HTTP/1.1 408 ");
    close(fd);
    SUPPORT_AWAIT(server, timeouts, == 1);
}

static void a_route_bounds_the_body_that_it_waits_for(void **state)
{
    (void)state;
    go(post_late);
}

/* ------------------------------------------------------------------ refusals ---------- */

static int set_nonsense(struct weir_request *req)
{
    int r = weir_set_timeout(req, WEIR_TIMEOUT_READ, 0);
    int s = weir_set_timeout(req, (enum weir_timeout)6, 1);

    return weir_printf(req, "%d %d\n", r == -EINVAL, s == -EINVAL) < 0 ? -EIO : 0;
}

static void refuse(void)
{
    SERVE(set_nonsense, .user = NULL);
    support_talk(server, 0, "", "1 1\n");
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    go(refuse);
}

static int begin_words(void **state)
{
    (void)state;
    return words_open();
}

static int end_words(void **state)
{
    (void)state;
    words_close();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_has_the_time_that_its_handler_gives),
        cmocka_unit_test(a_read_outlives_the_listeners_timeout_if_its_handler_says_so),
        cmocka_unit_test(the_next_call_has_the_listeners_timeouts_again),
        cmocka_unit_test(a_wait_between_two_calls_has_the_timeout_of_neither),
        cmocka_unit_test_setup_teardown(
            a_write_has_the_time_that_its_handler_gives_and_finish_is_told, begin_words, end_words),
        cmocka_unit_test(a_request_has_the_time_that_its_handler_gives),
        cmocka_unit_test(a_request_outlives_the_listeners_timeout_if_its_handler_says_so),
        cmocka_unit_test(streams_that_it_opened_end_with_their_own_timeout_or_the_requests),
        cmocka_unit_test(a_route_bounds_the_body_that_it_waits_for),
        cmocka_unit_test(nonsense_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
