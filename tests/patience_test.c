/*
 * patience_test.c - how long a client is waited for, whoever serves it: a head and a body that
 * trickle, a reply that is hardly read; and that one which is slow but steady gets to its end.
 *
 * A client that trickles goes on until it is given up. One that is steady has PIECE bytes moved
 * PACE times as often as progress_timeout_ms asks for; if this machine was too slow for it, it
 * tries again at half the rate.
 */
#include "handlers/http/http.h"
#include "tests/support.h"
#include "tests/words.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOON_MS 20
#define FIRST_MS 60
#define PIECE ((size_t)64 << 10)
#define PIECES 12
#define PACE 3

/* More than sockets hold. */
#define MUCH ((size_t)16 << 20)

static const struct way {
    const char *name;
    enum weir_concurrency concurrency;
    enum weir_stack stack;
    bool is_unix;
} ways[] = {
    { "a pool", WEIR_POOL, WEIR_STACK_FIBER, false },
    { "a pool, unix", WEIR_POOL, WEIR_STACK_FIBER, true },
    { "own stacks", WEIR_POOL, WEIR_STACK_THREAD, false },
    { "threads", WEIR_THREAD, WEIR_STACK_FIBER, false },
    { "threads, unix", WEIR_THREAD, WEIR_STACK_FIBER, true },
    { "children", WEIR_FORK, WEIR_STACK_FIBER, false },
    { "children, unix", WEIR_FORK, WEIR_STACK_FIBER, true },
    { "processes", WEIR_PREFORK, WEIR_STACK_FIBER, false },
    { "processes, unix", WEIR_PREFORK, WEIR_STACK_FIBER, true },
    { "nothing but itself", WEIR_SERIAL, WEIR_STACK_FIBER, false },
    { "nothing but itself, unix", WEIR_SERIAL, WEIR_STACK_FIBER, true },
};

static const struct way *way;
static struct weir_server *server;

static void tell_hint(struct weir_server *of, const struct weir_failure *failure)
{
    (void)of;
    words_tell("%.*s;", failure->hint ? (int)strcspn(failure->hint, " ") : 0, failure->hint);
}

static void serve_by(struct weir_handler handler, struct weir_options options)
{
    static struct weir_handler served;

    served = handler;
    served.name = "patient";
    served.stack = way->stack;
    options.listen = way->is_unix ? support_abstract("patience") : "tcp://127.0.0.1:0";
    options.handler = &served;
    options.handle_error = tell_hint;
    options.concurrency = way->concurrency;
    options.processes = way->concurrency == WEIR_PREFORK;
    options.workers = 1;
    server = support_start(&options);
}

#define SERVE(handle_, ...) \
    serve_by((struct weir_handler){ .handle = (handle_), .finish = words_tell_status }, \
             *WEIR_OPTIONS(__VA_ARGS__))

static void end(void)
{
    if (server)
        weir_server_cancel(server);
    weir_server_destroy(server);
    server = NULL;
}

static void go(void (*test)(void))
{
    for (way = ways; way < ways + sizeof(ways) / sizeof(*ways); way++) {
        test();
        end();
    }
}

/* The same for a client whose rate this machine may be too slow for: false, if it was. */
static void go_steadily(bool (*test)(uint32_t timeout_ms))
{
    for (way = ways; way < ways + sizeof(ways) / sizeof(*ways); way++) {
        uint32_t timeout_ms = FIRST_MS;
        bool was_steady;

        do {
            assert_true(timeout_ms < PLENTY_MS);
            was_steady = test(timeout_ms);
            end();
            timeout_ms *= 2;
        } while (!was_steady);
    }
}

/* ------------------------------------------------------------------ clients ----------- */

/* A byte now and then, until the server has something to say. */
static void trickle(int fd, char byte)
{
    struct pollfd answer = { .fd = fd, .events = POLLIN };
    struct support_patience patience = support_patience();

    while (poll(&answer, 1, 1) == 0) {
        support_be_patient(&patience, "an end of the trickle", __FILE__, __LINE__);
        send(fd, &byte, 1, MSG_NOSIGNAL);
    }
}

/* What it takes of the reply, at 1 KiB now and then, before there is an end. */
static size_t read_hardly(int fd)
{
    struct support_patience patience = support_patience();
    char piece[1024];
    size_t len = 0;
    ssize_t n;

    while (support_stats(server).timeouts == 0) {
        support_be_patient(&patience, "an end of the reply", __FILE__, __LINE__);
        len += (size_t)recv(fd, piece, sizeof(piece), MSG_WAITALL);
        poll(NULL, 0, 1);
    }
    while ((n = recv(fd, piece, sizeof(piece), 0)) > 0)
        len += (size_t)n;
    return len;
}

/* One of its pauses, as often as PACE has it. */
struct pacer {
    uint64_t last_ms;
    uint32_t timeout_ms;
    bool steady;
};

static struct pacer begin_pacing(uint32_t timeout_ms)
{
    return (struct pacer){ .last_ms = support_now_ms(), .timeout_ms = timeout_ms, .steady = true };
}

static void pause_between_pieces(struct pacer *pacer)
{
    uint64_t now_ms;

    poll(NULL, 0, (int)(pacer->timeout_ms / PACE));
    now_ms = support_now_ms();
    if (now_ms - pacer->last_ms > pacer->timeout_ms / 2)
        pacer->steady = false;
    pacer->last_ms = now_ms;
}

/* Of a client that was not steady, whatever became of it. */
static void give_up(int fd)
{
    char text[200];
    bool told = false;

    close(fd);
    while (!told) {
        ssize_t n = read(words_fd(), text, sizeof(text) - 1);

        assert_true(n > 0);
        text[n] = '\0';
        told = strstr(text, "finish");
    }
    end();
    /* Behind that nobody tells any more. */
    while (poll(&(struct pollfd){ .fd = words_fd(), .events = POLLIN }, 1, 0) > 0)
        assert_true(read(words_fd(), text, sizeof(text)) > 0);
    server = NULL;
}

/* ------------------------------------------------------------------ heads ------------- */

static int take_line(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 1 << 20);

    if (n == -ETIMEDOUT)
        weir_write(req, "late\n", 5);
    return n < 0 ? (int)n : 0;
}

static void trickle_a_head(void)
{
    int fd;

    SERVE(take_line, .head_timeout_ms = SOON_MS);
    fd = support_connect(server, 0);
    trickle(fd, 'a');
    support_expect_last(fd, "late\n");
    words_expect("finish -110;head_timeout_ms;");
    SUPPORT_AWAIT(server, timeouts, == 1);
}

static void a_head_that_trickles_ends_in_its_time(void **state)
{
    (void)state;
    assert_int_equal(ETIMEDOUT, 110);
    go(trickle_a_head);
}

/* Behind the head there is no least rate by default, and the head's time is over. */
static int take_head_and_rest(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 16);

    if (n < 0)
        return (int)n;
    weir_end_head(req);
    weir_write(req, "go\n", 3);
    return weir_printf(req, "%zd\n", weir_readline(req, &line, 16)) < 0 ? -EIO : 0;
}

static void wait_behind_a_head(void)
{
    int fd;

    SERVE(take_head_and_rest, .head_timeout_ms = 10 * SOON_MS);
    fd = support_ask(server, 0, "head\n");
    support_expect(fd, "go\n");
    poll(NULL, 0, 15 * SOON_MS);
    support_say(fd, "abc\n");
    support_expect_last(fd, "4\n");
    words_expect("finish 0;");
    assert_int_equal(support_stats(server).timeouts, 0);
}

static void a_heads_time_is_over_with_the_head(void **state)
{
    (void)state;
    go(wait_behind_a_head);
}

/* ------------------------------------------------------------------ bodies ------------ */

static char piece[PIECE];

static size_t take_body(struct weir_request *req, size_t len)
{
    static _Thread_local char buf[4096];
    size_t done = 0;

    while (done < len) {
        ssize_t n = weir_read(req, buf, sizeof(buf));

        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

static int take_all_pieces(struct weir_request *req)
{
    char *line;
    size_t done;

    if (weir_readline(req, &line, 16) < 0)
        return -EIO;
    weir_end_head(req);
    done = take_body(req, PIECES * PIECE);
    if (weir_printf(req, "%s\n", done < PIECES * PIECE ? "late" : "all") < 0)
        return -EIO;
    return done < PIECES * PIECE ? -ETIMEDOUT : 0;
}

static void trickle_a_body(void)
{
    int fd;

    SERVE(take_all_pieces, .progress_timeout_ms = SOON_MS);
    fd = support_ask(server, 0, "head\n");
    trickle(fd, 'a');
    support_expect_last(fd, "late\n");
    words_expect("finish -110;progress_timeout_ms;");
    SUPPORT_AWAIT(server, timeouts, == 1);
}

static void a_body_that_trickles_ends(void **state)
{
    (void)state;
    go(trickle_a_body);
}

static bool send_steadily(uint32_t timeout_ms)
{
    struct pacer pacer;
    int fd;

    SERVE(take_all_pieces, .progress_timeout_ms = timeout_ms);
    fd = support_connect(server, 0);
    support_say(fd, "head\n");
    pacer = begin_pacing(timeout_ms);
    for (size_t i = 0; i < PIECES && pacer.steady; i++) {
        support_send(fd, piece, sizeof(piece));
        pause_between_pieces(&pacer);
    }
    if (pacer.steady) {
        support_expect_last(fd, "all\n");
        words_expect("finish 0;");
    } else {
        give_up(fd);
    }
    return pacer.steady;
}

static void a_body_that_comes_steadily_may_take_longer(void **state)
{
    (void)state;
    go_steadily(send_steadily);
}

/* ------------------------------------------------------------------ replies ----------- */

static int file_fd;

/* "w": writes, "f": sends a file; len bytes. */
static int reply_much(struct weir_request *req, size_t len)
{
    char *line;
    ssize_t n;

    if (weir_readline(req, &line, 16) < 0)
        return -EIO;
    if (*line == 'f') {
        n = weir_sendfile(req, file_fd, 0, len);
    } else {
        for (n = 0; n >= 0 && len > 0; len -= PIECE)
            n = weir_write(req, piece, PIECE);
    }
    return n < 0 ? (int)n : weir_flush(req);
}

static int reply_all(struct weir_request *req)
{
    return reply_much(req, MUCH);
}

static int reply_pieces(struct weir_request *req)
{
    return reply_much(req, PIECES * PIECE);
}

static void read_hardly_by(const char *how)
{
    int fd;

    SERVE(reply_all, .progress_timeout_ms = SOON_MS);
    fd = support_ask(server, 0, how);
    assert_true(read_hardly(fd) < MUCH);
    close(fd);
    words_expect("finish -110;progress_timeout_ms;");
    assert_int_equal(support_stats(server).timeouts, 1);
}

static void read_what_is_written_hardly(void)
{
    read_hardly_by("w\n");
}

static void read_a_file_hardly(void)
{
    read_hardly_by("f\n");
}

static void a_reply_that_is_hardly_read_ends(void **state)
{
    (void)state;
    go(read_what_is_written_hardly);
    go(read_a_file_hardly);
}

/* Room is told of in lumps that are more than a client takes in progress_timeout_ms. */
static int reply_pieces_through_large_buffers(struct weir_request *req)
{
    int size = 400 << 10;

    setsockopt(weir_request_fd(req), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    return reply_pieces(req);
}

static size_t take_pieces(int fd, struct pacer *pacer)
{
    static char taken[PIECE];
    size_t len = 0;
    ssize_t n;

    do {
        n = recv(fd, taken, sizeof(taken), MSG_WAITALL);
        if (n > 0)
            len += (size_t)n;
        pause_between_pieces(pacer);
    } while (n > 0 && pacer->steady);
    return len;
}

static bool read_steadily(uint32_t timeout_ms, const char *how)
{
    int size = 32 << 10;
    struct pacer pacer;
    size_t len;
    int fd;

    SERVE(reply_pieces_through_large_buffers, .progress_timeout_ms = timeout_ms);
    fd = support_connect(server, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    support_say(fd, how);
    pacer = begin_pacing(timeout_ms);
    len = take_pieces(fd, &pacer);
    if (!pacer.steady) {
        give_up(fd);
        return false;
    }
    close(fd);
    assert_int_equal(len, PIECES * PIECE);
    words_expect("finish 0;");
    return true;
}

static bool read_what_is_written_steadily(uint32_t timeout_ms)
{
    return read_steadily(timeout_ms, "w\n");
}

static bool read_a_file_steadily(uint32_t timeout_ms)
{
    return read_steadily(timeout_ms, "f\n");
}

static void a_reply_that_is_read_steadily_may_take_longer(void **state)
{
    (void)state;
    go_steadily(read_what_is_written_steadily);
    go_steadily(read_a_file_steadily);
}

/* ------------------------------------------------------------------ whose time it is -- */

/* The client has said everything, and waits. */
static int be_slow(struct weir_request *req)
{
    char *line;

    for (int i = 0; i < 3; i++) {
        if (weir_readline(req, &line, 16) != 2)
            return -EIO;
        weir_end_head(req);
        weir_write(req, line, 2);
        weir_flush(req);
        weir_sleep(req, 2 * SOON_MS);
    }
    return 0;
}

static void wait_for_a_slow_handler(void)
{
    SERVE(be_slow, .head_timeout_ms = SOON_MS, .progress_timeout_ms = SOON_MS);
    support_talk(server, 0, "a\nb\nc\n", "a\nb\nc\n");
    words_expect("finish 0;");
    assert_int_equal(support_stats(server).timeouts, 0);
}

static void a_client_does_not_pay_for_a_slow_handler(void **state)
{
    (void)state;
    go(wait_for_a_slow_handler);
}

/* ------------------------------------------------------------------ own --------------- */

/* By the client's letter. */
static int set_own(struct weir_request *req)
{
    char *line;

    if (weir_readline(req, &line, 16) < 0)
        return -EIO;
    switch (*line) {
    case 'h':
        weir_set_timeout(req, WEIR_TIMEOUT_HEAD, SOON_MS);
        return take_line(req);
    case 'p':
        weir_set_timeout(req, WEIR_TIMEOUT_PROGRESS, SOON_MS);
        return (int)weir_write(req, weir_user(req), MUCH);
    case 'H':
        weir_set_timeout(req, WEIR_TIMEOUT_HEAD, WEIR_FOREVER);
        break;
    default:
        weir_end_head(req);
        weir_set_timeout(req, WEIR_TIMEOUT_PROGRESS, WEIR_FOREVER);
    }
    weir_write(req, "go\n", 3);
    return weir_printf(req, "%zd\n", weir_readline(req, &line, 16)) < 0 ? -EIO : 0;
}

static void be_late_for(const char *say, const char *told)
{
    int fd = support_ask(server, 0, say);

    words_expect(told);
    close(fd);
}

static void set_shorter_ones(void)
{
    static char much[MUCH];

    SERVE(set_own, .user = much);
    be_late_for("h\n", "finish -110;head_timeout_ms;");
    be_late_for("p\n", "finish -110;progress_timeout_ms;");
}

static void a_handler_may_be_less_patient_than_its_listener(void **state)
{
    (void)state;
    go(set_shorter_ones);
}

static void be_in_time_for(const char *say)
{
    int fd = support_ask(server, 0, say);

    support_expect(fd, "go\n");
    poll(NULL, 0, 3 * SOON_MS);
    support_say(fd, "abc\n");
    support_expect_last(fd, "4\n");
    words_expect("finish 0;");
}

static void set_longer_ones(void)
{
    SERVE(set_own, .head_timeout_ms = SOON_MS, .progress_timeout_ms = SOON_MS);
    be_in_time_for("H\n");
    be_in_time_for("P\n");
    assert_int_equal(support_stats(server).timeouts, 0);
}

static void a_handler_may_be_more_patient_than_its_listener(void **state)
{
    (void)state;
    go(set_longer_ones);
}

/* "f": for ever, and else for a second, which is the shortest that there is. */
static int set_idle(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 16);

    if (n <= 0)
        return (int)n;
    weir_set_timeout(req, WEIR_TIMEOUT_IDLE, *line == 'f' ? WEIR_FOREVER : 1);
    weir_write(req, line, (size_t)n);
    return WEIR_KEEP;
}

static void be_idle(void)
{
    int fd;

    SERVE(set_idle, .user = NULL);
    fd = support_ask(server, 0, "a\n");
    support_expect_last(fd, "a\n");
    SUPPORT_AWAIT(server, timeouts, == 1);
    words_expect("finish 0;");
}

static void be_idle_longer(void)
{
    int fd;

    SERVE(set_idle, .idle_timeout_ms = SOON_MS);
    fd = support_ask(server, 0, "f\n");
    support_expect(fd, "f\n");
    poll(NULL, 0, 5 * SOON_MS);
    support_say(fd, "f\n");
    support_expect(fd, "f\n");
    support_half_close(fd);
    support_expect_last(fd, "");
    words_expect("finish 0;");
    assert_int_equal(support_stats(server).timeouts, 0);
}

static void a_handler_says_how_long_its_connection_may_be_idle(void **state)
{
    (void)state;
    go(be_idle);
    go(be_idle_longer);
}

/* ------------------------------------------------------------------ HTTP -------------- */

static int take_http(struct weir_http *ex)
{
    static _Thread_local char buf[4096];
    ssize_t n;

    while ((n = weir_http_read_body(ex, buf, sizeof(buf))) > 0)
        ;
    return n < 0 ? (int)n : weir_http_reply(ex, 200, NULL, NULL, 0);
}

static int give_http(struct weir_http *ex)
{
    return weir_http_reply_file(ex, 200, NULL, file_fd, 0, MUCH);
}

static const struct weir_http_route routes[] = {
    { "POST", "/", take_http, NULL }, { "GET", "/", give_http, NULL },
};
static const struct weir_http_site site = { WEIR_HTTP_ROUTES(routes), .body_limit = MUCH };

#define SERVE_HTTP(...) \
    serve_by((struct weir_handler)WEIR_HTTP_HANDLER("http", &site), *WEIR_OPTIONS(__VA_ARGS__))

#define POST "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"

static void trickle_http(const char *begin, char more)
{
    int fd = support_ask(server, 0, begin);

    trickle(fd, more);
    support_expect(fd, "HTTP/1.1 408 ");
    close(fd);
    SUPPORT_AWAIT(server, timeouts, == 1);
}

static void trickle_an_http_head(void)
{
    SERVE_HTTP(.head_timeout_ms = SOON_MS);
    trickle_http("GET /", 'a');
}

static void trickle_an_http_body(void)
{
    SERVE_HTTP(.head_timeout_ms = PLENTY_MS, .progress_timeout_ms = SOON_MS);
    trickle_http(POST, 'a');
}

static void an_http_request_that_trickles_is_told_408(void **state)
{
    (void)state;
    go(trickle_an_http_head);
    go(trickle_an_http_body);
}

static void read_http_hardly(void)
{
    int fd;

    SERVE_HTTP(.progress_timeout_ms = SOON_MS);
    fd = support_ask(server, 0, SUPPORT_HELLO);
    assert_true(read_hardly(fd) < MUCH);
    close(fd);
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(support_stats(server).timeouts, 1);
    assert_int_equal(support_stats(server).handle_errors, 0);
}

static void an_http_reply_that_is_hardly_read_ends(void **state)
{
    (void)state;
    go(read_http_hardly);
}

static int begin(void **state)
{
    (void)state;
    file_fd = memfd_create("much", 0);
    assert_true(file_fd >= 0);
    assert_int_equal(ftruncate(file_fd, MUCH), 0);
    return words_open();
}

static int finish(void **state)
{
    (void)state;
    words_close();
    close(file_fd);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_that_trickles_ends_in_its_time),
        cmocka_unit_test(a_heads_time_is_over_with_the_head),
        cmocka_unit_test(a_body_that_trickles_ends),
        cmocka_unit_test(a_body_that_comes_steadily_may_take_longer),
        cmocka_unit_test(a_reply_that_is_hardly_read_ends),
        cmocka_unit_test(a_reply_that_is_read_steadily_may_take_longer),
        cmocka_unit_test(a_client_does_not_pay_for_a_slow_handler),
        cmocka_unit_test(a_handler_may_be_less_patient_than_its_listener),
        cmocka_unit_test(a_handler_may_be_more_patient_than_its_listener),
        cmocka_unit_test(a_handler_says_how_long_its_connection_may_be_idle),
        cmocka_unit_test(an_http_request_that_trickles_is_told_408),
        cmocka_unit_test(an_http_reply_that_is_hardly_read_ends),
    };

    return cmocka_run_group_tests(tests, begin, finish);
}
