/*
 * http_test.c - the HTTP handler over a request of memory: what it does with callbacks, and what
 * comes over the wire, byte for byte. http_cases_test.c has the cases of the RFCs.
 */
#include "tests/http_fake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/http/http.h"

void *__real_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size);

static bool no_memory;

void *__wrap_realloc(void *block, size_t size)
{
    return no_memory ? NULL : __real_realloc(block, size);
}

/* ------------------------------------------------------------------ a site ------------ */

static int hello(struct weir_http *ex)
{
    return weir_http_reply(ex, 200, "text/plain", "hello\n", 6);
}

/* Answers a body with the body. */
static int mirror(struct weir_http *ex)
{
    char body[8192];
    size_t len = 0;
    ssize_t n;

    while ((n = weir_http_read_body(ex, body + len, sizeof(body) - len)) > 0)
        len += (size_t)n;
    return n < 0 ? (int)n : weir_http_reply(ex, 200, NULL, body, len);
}

/* Tells what it was asked, after reading the body: the strings must outlive that. */
static int describe(struct weir_http *ex)
{
    const char *path = weir_http_path(ex), *query = weir_http_query(ex);
    const char *host = weir_http_header(ex, "hOST"), *none = weir_http_header(ex, "X-None");
    static char text[16 * 1024];
    char body[64], *name, *value;
    int len;

    while (weir_http_read_body(ex, body, sizeof(body)) > 0)
        ;
    len = snprintf(text, sizeof(text), "%s|%s|%s|%s|%s", weir_http_method(ex), path,
                   query ? query : "-", host ? host : "-", none ? none : "-");
    for (size_t i = 0; weir_http_header_at(ex, i, &name, &value); i++)
        len += snprintf(text + len, sizeof(text) - (size_t)len, "|%s=%s", name, value);
    return weir_http_reply(ex, 200, NULL, text, (size_t)len);
}

static int stream(struct weir_http *ex)
{
    int r = weir_http_begin(ex, 200, "text/plain");

    if (r == 0)
        r = weir_http_write(ex, "one", 3);
    if (r == 0)
        r = weir_http_write(ex, "", 0);
    if (r == 0)
        r = weir_http_write(ex, "twenty-six characters long", 26);
    return r;
}

/* Answers a body piece by piece, with a reply that has begun before any was read. */
static int mirror_pieces(struct weir_http *ex)
{
    int r = weir_http_begin(ex, 200, NULL);
    char piece[64];
    ssize_t n = 0;

    while (r == 0 && (n = weir_http_read_body(ex, piece, sizeof(piece))) > 0)
        r = weir_http_write(ex, piece, (size_t)n);
    return n < 0 ? (int)n : r;
}

/* Replies, and then reads what was sent. */
static int reply_and_read(struct weir_http *ex)
{
    int r = hello(ex);
    char body[64];
    ssize_t n = r;

    if (r == 0)
        n = weir_http_read_body(ex, body, sizeof(body));
    assert_true(n <= 0 || (n == 5 && memcmp(body, "hello", 5) == 0));
    return n < 0 ? (int)n : 0;
}

static int break_off(struct weir_http *ex)
{
    int r = weir_http_begin(ex, 200, NULL);

    return r < 0 ? r : -EIO;
}

static int send_file(struct weir_http *ex)
{
    FILE *file = tmpfile();
    int r;

    assert_non_null(file);
    fputs("0123456789", file);
    fflush(file);
    r = weir_http_reply_file(ex, 200, NULL, fileno(file), 2, *(const size_t *)weir_http_data(ex));
    fclose(file);
    return r;
}

static int add_headers(struct weir_http *ex)
{
    int r = weir_http_add_header(ex, "X-One", "1");

    assert_int_equal(weir_http_add_header(ex, "X-Two\r\nX-Bad", "2"), -EINVAL);
    assert_int_equal(weir_http_add_header(ex, "X-Two", "2\r\nX-Bad: 1"), -EINVAL);
    assert_int_equal(weir_http_add_header(ex, "", "2"), -EINVAL);
    assert_int_equal(weir_http_add_header(ex, "content-length", "2"), -EINVAL);
    assert_int_equal(weir_http_add_header(ex, "Transfer-Encoding", "chunked"), -EINVAL);
    assert_int_equal(weir_http_add_header(ex, "Connection", "close"), -EINVAL);
    assert_int_equal(weir_http_reply(ex, 200, "text/plain\r\nX-Bad: 1", "", 0), -EINVAL);
    assert_int_equal(weir_http_reply(ex, 199, NULL, "", 0), -EINVAL);
    assert_int_equal(weir_http_reply(ex, 600, NULL, "", 0), -EINVAL);
    assert_int_equal(weir_http_write(ex, "x", 1), -EINVAL);
    if (r == 0)
        r = weir_http_add_header(ex, "X-Two", "2");
    if (r == 0)
        r = weir_http_reply(ex, 299, NULL, "", 0);
    assert_int_equal(weir_http_reply(ex, 200, NULL, "", 0), -EALREADY);
    assert_int_equal(weir_http_add_header(ex, "X-Three", "3"), -EALREADY);
    return r;
}

static int answer_number(struct weir_http *ex)
{
    return *(const int *)weir_http_data(ex);
}

static int add_and_answer_number(struct weir_http *ex)
{
    int r = weir_http_add_header(ex, "Retry-After", "9");

    return r < 0 ? r : answer_number(ex);
}

static int answer_typed(struct weir_http *ex)
{
    int r = weir_http_add_header(ex, "X-One", "1");

    return r < 0 ? r : weir_http_reply(ex, 200, weir_http_data(ex), "typed\n", 6);
}

static int no_content(struct weir_http *ex)
{
    return weir_http_reply(ex, 204, NULL, "ignored", 7);
}

#define SHORT_TYPE "application/vnd.weir.somethin+json; charset=utf-8; profile=short"
#define LONG_TYPE "application/vnd.weir.somethin+json; charset=utf-8; profile=longer"

static const size_t within = 5, beyond = 9;
static const int nothing = 0, teapot = 418, busy = 503, broken = -EIO, reset = -ECONNRESET, odd = 7;

static const struct weir_http_route routes[] = {
    { "GET", "/", hello, NULL },
    { "POST", "/", hello, NULL },
    { "POST", "/mirror", mirror, NULL },
    { NULL, "/describe", describe, NULL },
    { NULL, "/below/*", describe, NULL },
    { "OPTIONS", "*", describe, NULL },
    { "GET", "/stream", stream, NULL },
    { "POST", "/mirror-pieces", mirror_pieces, NULL },
    { "POST", "/reply-and-read", reply_and_read, NULL },
    { "GET", "/break-off", break_off, NULL },
    { "GET", "/file", send_file, &within },
    { "GET", "/short-file", send_file, &beyond },
    { "GET", "/headers", add_headers, NULL },
    { "GET", "/no-content", no_content, NULL },
    { "GET", "/short-type", answer_typed, SHORT_TYPE },
    { "GET", "/long-type", answer_typed, LONG_TYPE },
    { "GET", "/nothing", answer_number, &nothing },
    { "GET", "/teapot", answer_number, &teapot },
    { "GET", "/busy", answer_number, &busy },
    { "GET", "/broken", answer_number, &broken },
    { "GET", "/upstream-reset", answer_number, &reset },
    { "GET", "/odd", answer_number, &odd },
    { "GET", "/busy-for-a-while", add_and_answer_number, &busy },
    { "GET", "/broken-after-all", add_and_answer_number, &broken },
};

static const struct weir_http_site site = {
    WEIR_HTTP_ROUTES(routes), .body_limit = 4096 };

static const struct weir_handler handler = WEIR_HTTP_HANDLER("test", &site);

/* ------------------------------------------------------------------ exchanges --------- */

/* What came of some input. */
struct outcome {
    char text[128 * 1024];      /* the replies, without their Date fields */
    int status;                 /* what handle returned at last */
    unsigned waits;
    bool lingers;
    unsigned reports;           /* how often handle_error was told, and what at last */
    int reported;
    char hint[400];
};

static void copy_without_dates(char *to, char *text)
{
    static const char shape[] = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    char *date;

    while ((date = strstr(text, "Date: "))) {
        to = mempcpy(to, text, (size_t)(date - text));
        text = date + sizeof(shape) - 1;
        assert_memory_equal(text - 6, " GMT\r\n", 6);
    }
    strcpy(to, text);
}

struct weather {
    size_t first;               /* bytes that come at once, before ... */
    size_t step;                /* ... so many at a time; 0: all at once */
    int ending, write_error;
    bool draining;
};

static void serve_by(const struct weir_handler *by, struct outcome *ret, const char *input,
                     size_t len, struct weather weather)
{
    struct weir_request *req = calloc(1, sizeof(*req));

    assert_non_null(req);
    req->handler = by;
    req->input = input;
    req->input_len = len;
    req->first = weather.first;
    req->step = weather.step ? weather.step : len + 1;
    req->ending = weather.ending;
    req->write_error = weather.write_error;
    req->draining = weather.draining;
    do
        ret->status = by->handle(req);
    while (ret->status == WEIR_KEEP && (req->view_len > 0 || req->arrived < len));
    copy_without_dates(ret->text, req->output);
    ret->waits = req->waits;
    ret->lingers = req->lingers;
    ret->reports = req->reports;
    ret->reported = req->reported;
    strcpy(ret->hint, req->hint);
    free(req->block);
    free(req);
}

static void serve(struct outcome *ret, const char *input, size_t len, struct weather weather)
{
    serve_by(&handler, ret, input, len, weather);
}

static struct outcome outcome, again;

/* The replies to input, which must not depend on how it is cut into pieces. */
static const char *replies_to_bytes(const char *input, size_t len)
{
    static const size_t steps[] = { 1, 2, 7, 64 };

    serve(&outcome, input, len, (struct weather){ 0 });
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        serve(&again, input, len, (struct weather){ .step = steps[i] });
        assert_string_equal(again.text, outcome.text);
        assert_int_equal(again.status, outcome.status);
    }
    return outcome.text;
}

static const char *replies_to(const char *input)
{
    return replies_to_bytes(input, strlen(input));
}

#define HELLO "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Type: text/plain\r\n\r\nhello\n"
#define REFUSAL(status, length) "HTTP/1.1 " status "\r\nConnection: close\r\nContent-Length: " \
        #length "\r\nContent-Type: text/plain\r\n\r\n" status "\n"
#define BAD_REQUEST REFUSAL("400 Bad Request", 16)

static void assert_reply(const char *input, const char *reply)
{
    assert_string_equal(replies_to(input), reply);
}

/* The input is refused, the connection closed, and nothing behind it served. */
static void assert_refused(const char *input, const char *reply)
{
    char longer[1024];

    assert_reply(input, reply);
    assert_int_equal(outcome.status, 0);
    assert_true(strlen(input) < sizeof(longer) - 64);
    sprintf(longer, "%s%s", input, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_reply(longer, reply);
    assert_int_equal(outcome.status, 0);
    /* What the peer is still sending costs it nothing of the reply. */
    assert_true(outcome.lingers);
}

static void assert_bad(const char *input)
{
    assert_refused(input, BAD_REQUEST);
}

/* ------------------------------------------------------------------ good requests ----- */

static void a_request_is_answered_and_the_connection_kept(void **state)
{
    (void)state;
    assert_reply("GET / HTTP/1.1\r\nHost: x\r\n\r\n", HELLO);
    assert_int_equal(outcome.status, WEIR_KEEP);
}

static void a_whole_request_needs_one_wait(void **state)
{
    static const char input[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    (void)state;
    serve(&outcome, input, strlen(input), (struct weather){ 0 });
    assert_int_equal(outcome.waits, 1);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    assert_reply("GET / HTTP/1.1\r\nHost: x\r\n\r\n"
                 "GET /teapot HTTP/1.1\r\nHost: x\r\n\r\n"
                 "POST /mirror HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
                 "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                 HELLO
                 "HTTP/1.1 418 \r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\n418 \n"
                 "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc" HELLO);
    assert_int_equal(outcome.status, WEIR_KEEP);
}

static void connection_close_is_obeyed_and_announced(void **state)
{
    (void)state;
    assert_reply("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n"
                 "Content-Type: text/plain\r\n\r\nhello\n");
    assert_int_equal(outcome.status, 0);
}

static void http_1_0_closes_unless_it_asks_to_be_kept(void **state)
{
    (void)state;
    assert_reply("GET / HTTP/1.0\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n"
                 "Content-Type: text/plain\r\n\r\nhello\n");
    assert_int_equal(outcome.status, 0);
    assert_reply("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 6\r\n"
                 "Content-Type: text/plain\r\n\r\nhello\n");
    assert_int_equal(outcome.status, WEIR_KEEP);
}

static void a_draining_server_answers_and_closes(void **state)
{
    static const char input[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    (void)state;
    serve(&outcome, input, strlen(input), (struct weather){ .draining = true });
    assert_non_null(strstr(outcome.text, "Connection: close\r\n"));
    assert_int_equal(outcome.status, 0);
}

static void head_gets_the_headers_of_get_and_no_body(void **state)
{
    (void)state;
    assert_reply("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Type: text/plain\r\n\r\n");
    assert_reply("HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                 "Content-Type: text/plain\r\n\r\n");
    assert_reply("HEAD /file HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    assert_reply("HEAD /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 404 Not Found\r\nContent-Length: 14\r\n"
                 "Content-Type: text/plain\r\n\r\n");
    assert_int_equal(outcome.status, WEIR_KEEP);
}

static void empty_lines_before_a_request_are_skipped(void **state)
{
    (void)state;
    assert_reply("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
                 HELLO HELLO);
    assert_reply("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", HELLO);
    assert_bad("\r\n\rGET / HTTP/1.1\r\nHost: x\r\n\r\n");
}

static void a_request_is_told_apart_into_its_pieces(void **state)
{
    (void)state;
    assert_non_null(strstr(replies_to("GET /describe?a=1?b HTTP/1.1\r\nHOST:\t x:1 \t\r\n"
                                      "A:\r\nB: b\xe4 b\r\n\r\n"),
                           "\r\n\r\nGET|/describe|a=1?b|x:1|-|HOST=x:1|A=|B=b\xe4 b"));
    assert_non_null(strstr(replies_to("PUT /below/x/y? HTTP/1.1\r\nHost:\r\n\r\n"),
                           "\r\n\r\nPUT|/below/x/y|||-|Host="));
    assert_non_null(strstr(replies_to("GET http://x:1/describe?q HTTP/1.1\r\nHost: x:1\r\n\r\n"),
                           "\r\n\r\nGET|/describe|q|x:1|-|"));
    assert_non_null(strstr(replies_to("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"),
                           "\r\n\r\nOPTIONS|*|-|x|-|"));
}

static void an_absolute_target_without_a_path_asks_for_the_root(void **state)
{
    (void)state;
    assert_reply("GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", HELLO);
    assert_reply("GET http://x?q HTTP/1.1\r\nHost: x\r\n\r\n", HELLO);
}

static void strings_of_a_request_outlive_the_reading_of_its_body(void **state)
{
    (void)state;
    assert_non_null(strstr(replies_to("POST /describe?q HTTP/1.1\r\nHost: there\r\n"
                                      "Content-Length: 10\r\n\r\n0123456789"),
                           "\r\n\r\nPOST|/describe|q|there|-|Host=there|Content-Length=10"));
}

/* ------------------------------------------------------------------ bodies ------------ */

static void a_body_of_a_given_length_is_read(void **state)
{
    (void)state;
    assert_reply("POST /mirror HTTP/1.1\r\nHost: x\r\nContent-Length: 0005\r\n\r\nhelloGET",
                 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" BAD_REQUEST);
    assert_reply("POST /mirror HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

#define CHUNKED "POST /mirror HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"

static void a_chunked_body_is_put_together(void **state)
{
    (void)state;
    assert_reply(CHUNKED "5\r\nhello\r\n00A;x=\"y z\"\r\n, my world\r\n0\r\n\r\n"
                 "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nhello, my world" HELLO);
}

static void trailers_are_skipped(void **state)
{
    (void)state;
    assert_reply(CHUNKED "1\r\na\r\n0\r\nX: y\r\nContent-Length: 7\r\n\r\n"
                 "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na" HELLO);
}

static void malformed_chunks_are_refused(void **state)
{
    static const char *const chunks[] = {
        "\r\n", "x\r\n", "-1\r\n", "+1\r\n", "0x1\r\n", " 1\r\n", "1 \r\na\r\n0\r\n\r\n",
        "1\na\r\n0\r\n\r\n", "1\r\naXX0\r\n\r\n", "1\r\na\n0\r\n\r\n", "1\r\nab\r\n0\r\n\r\n",
        "1;a\x01\r\na\r\n0\r\n\r\n", "1;a\rb\r\na\r\n0\r\n\r\n", "10000000000000000\r\n",
        "ffffffffffffffff\r\n", "0\r\nno field\r\n\r\n", "0\r\nX: a\nY: b\r\n\r\n",
        "0\r\n folded\r\n\r\n", "0\r\nA : b\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        char input[256];

        sprintf(input, CHUNKED "%s", chunks[i]);
        assert_bad(input);
    }
}

static void extensions_and_trailers_have_a_limit(void **state)
{
    static char input[32 * 1024];
    char *end = stpcpy(input, CHUNKED);

    (void)state;
    for (int i = 0; i < 50; i++)
        end += sprintf(end, "1;%0200d\r\na\r\n", 0);
    stpcpy(end, "0\r\n\r\n");
    assert_reply(input, BAD_REQUEST);

    sprintf(input, CHUNKED "1;%0300d\r\na\r\n0\r\n\r\n", 0);
    assert_reply(input, BAD_REQUEST);

    end = stpcpy(input, CHUNKED "0\r\n");
    for (int i = 0; i < 100; i++)
        end += sprintf(end, "X: %0100d\r\n", 0);
    stpcpy(end, "\r\n");
    assert_reply(input, BAD_REQUEST);
}

static void a_body_cut_short_is_a_bad_request(void **state)
{
    (void)state;
    assert_reply("POST /mirror HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhell", BAD_REQUEST);
    assert_reply(CHUNKED "5\r\nhell", BAD_REQUEST);
    assert_reply(CHUNKED "5\r\nhello\r\n", BAD_REQUEST);
    assert_int_equal(outcome.status, 0);
}

static void a_body_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    assert_refused("POST /mirror HTTP/1.1\r\nHost: x\r\nContent-Length: 4097\r\n\r\n",
                   REFUSAL("413 Content Too Large", 22));
    assert_refused(CHUNKED "1\r\na\r\n1000\r\n", REFUSAL("413 Content Too Large", 22));
}

static void a_body_that_nobody_reads_is_skipped(void **state)
{
    (void)state;
    assert_reply("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
                 "GET / HTTP/1.1\r\nHost: x\r\n\r\n", HELLO HELLO);
    assert_reply("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", HELLO HELLO);
    assert_int_equal(outcome.status, WEIR_KEEP);
    assert_reply("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "5\r\nhelloXX0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", HELLO);
    assert_int_equal(outcome.status, 0);
}

#define EXPECT "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n"

static void continue_is_sent_when_the_body_is_wanted_and_not_there(void **state)
{
    char input[256];
    int head = sprintf(input, EXPECT, "/mirror");

    (void)state;
    strcpy(input + head, "hello");
    serve(&outcome, input, strlen(input), (struct weather){ .step = (size_t)head });
    assert_string_equal(outcome.text, "HTTP/1.1 100 Continue\r\n\r\n"
                        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    serve(&outcome, input, strlen(input), (struct weather){ 0 });
    assert_string_equal(outcome.text, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
}

static void continue_is_not_sent_for_a_body_that_is_not_wanted(void **state)
{
    char input[256];

    (void)state;
    sprintf(input, EXPECT, "/");
    assert_reply(input, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n"
                 "Content-Type: text/plain\r\n\r\nhello\n");
    assert_int_equal(outcome.status, 0);
}

/* What comes of a request that expects, whose body comes late, or, with a short input, never. */
static const char *replies_to_late_body(const char *path, const char *body, int ending)
{
    char input[256];
    int head = sprintf(input, EXPECT, path);

    strcpy(input + head, body);
    serve(&outcome, input, strlen(input),
          (struct weather){ .step = (size_t)head, .ending = ending });
    return outcome.text;
}

static void continue_is_not_sent_once_a_reply_has_begun(void **state)
{
    static const char head[] =
        "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    static const char reply[] = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n"
        "Content-Type: text/plain\r\n\r\nhello\n";
    char whole[256];

    (void)state;
    sprintf(whole, "%s5\r\nhello\r\n0\r\n\r\n", head);
    assert_string_equal(replies_to_late_body("/mirror-pieces", "hello", 0), whole);
    assert_int_equal(outcome.status, 0);
    assert_string_equal(replies_to_late_body("/mirror-pieces", "", 0), head);
    assert_string_equal(replies_to_late_body("/mirror-pieces", "", -ETIMEDOUT), head);
    assert_int_equal(outcome.status, 0);
    assert_string_equal(replies_to_late_body("/reply-and-read", "hello", 0), reply);
    assert_string_equal(replies_to_late_body("/reply-and-read", "", 0), reply);
    assert_string_equal(replies_to_late_body("/reply-and-read", "", -ETIMEDOUT), reply);
    assert_int_equal(outcome.status, 0);
}

static void other_expectations_fail(void **state)
{
    (void)state;
    assert_refused("GET / HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\n\r\n",
                   REFUSAL("417 Expectation Failed", 23));
}

/* ------------------------------------------------------------------ replies ----------- */

static void a_stream_is_sent_in_chunks(void **state)
{
    (void)state;
    assert_reply("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n"
                 "\r\n3\r\none\r\n1a\r\ntwenty-six characters long\r\n0\r\n\r\n");
    assert_int_equal(outcome.status, WEIR_KEEP);
}

static void a_stream_to_http_1_0_ends_with_the_connection(void **state)
{
    (void)state;
    assert_reply("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\n"
                 "\r\nonetwenty-six characters long");
    assert_int_equal(outcome.status, 0);
}

static void a_stream_that_fails_is_left_visibly_unfinished(void **state)
{
    (void)state;
    assert_reply("GET /break-off HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_int_equal(outcome.status, 0);
    assert_int_equal(outcome.reported, -EIO);
}

static void a_file_is_sent_from_its_offset(void **state)
{
    (void)state;
    assert_reply("GET /file HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n23456");
    assert_int_equal(outcome.status, WEIR_KEEP);
    assert_reply("GET /short-file HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n23456789");
    assert_int_equal(outcome.status, 0);
    assert_int_equal(outcome.reported, -EIO);
    assert_int_equal(outcome.reports, 1);
    assert_string_equal(outcome.hint, "GET /short-file: its callback replied with more of a file "
                        "than there is: give weir_http_reply_file the length that is left behind "
                        "the offset");
}

static void added_headers_are_sent_and_cannot_be_split(void **state)
{
    (void)state;
    assert_reply("GET /headers HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 299 \r\nContent-Length: 0\r\nX-One: 1\r\nX-Two: 2\r\n\r\n");
}

static void a_type_may_be_of_any_length(void **state)
{
    (void)state;
    assert_int_equal(strlen(SHORT_TYPE), 64);
    assert_int_equal(strlen(LONG_TYPE), 65);
    assert_reply("GET /short-type HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Type: " SHORT_TYPE "\r\n"
                 "X-One: 1\r\n\r\ntyped\n");
    assert_reply("GET /long-type HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Type: " LONG_TYPE "\r\n"
                 "X-One: 1\r\n\r\ntyped\n");
}

static void no_content_has_neither_body_nor_length(void **state)
{
    (void)state;
    assert_reply("GET /no-content HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n");
    assert_int_equal(outcome.status, WEIR_KEEP);
}

static void a_status_that_a_callback_returns_becomes_a_page(void **state)
{
    (void)state;
    assert_reply("GET /busy HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 24\r\n"
                 "Content-Type: text/plain\r\n\r\n503 Service Unavailable\n");
    assert_int_equal(outcome.status, WEIR_KEEP);
}

static void added_headers_are_sent_with_a_status_but_not_with_an_error(void **state)
{
    (void)state;
    assert_reply("GET /busy-for-a-while HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 24\r\n"
                 "Content-Type: text/plain\r\nRetry-After: 9\r\n\r\n503 Service Unavailable\n");
    assert_reply("GET /broken-after-all HTTP/1.1\r\nHost: x\r\n\r\n",
                 REFUSAL("500 Internal Server Error", 26));
}

static void a_callback_that_fails_is_told_and_answered_with_500(void **state)
{
    static const struct { const char *input; int error; } rows[] = {
        { "GET /broken HTTP/1.1\r\nHost: x\r\n\r\n", -EIO },
        { "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", -ENOMSG },
        { "GET /odd HTTP/1.1\r\nHost: x\r\n\r\n", -ENOMSG },
        { "GET /upstream-reset HTTP/1.1\r\nHost: x\r\n\r\n", -ECONNRESET },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_reply(rows[i].input, REFUSAL("500 Internal Server Error", 26));
        assert_int_equal(outcome.status, 0);
        assert_int_equal(outcome.reports, 1);
        assert_int_equal(outcome.reported, rows[i].error);
    }
}

/* Does what a mistake wants done, a character for each call, and returns what the last one does. */
static int do_steps(struct weir_http *ex)
{
    int r = 0;

    for (const char *step = weir_http_data(ex); *step; step++) {
        switch (*step) {
        case 'r': r = weir_http_reply(ex, 200, NULL, "x", 1); break;
        case 'b': r = weir_http_begin(ex, 200, NULL); break;
        case 'w': r = weir_http_write(ex, "y", 1); break;
        case 'h': r = weir_http_add_header(ex, "X", "y"); break;
        case 'H': r = weir_http_add_header(ex, "X", "y\r\nZ: z"); break;
        case 'L': r = weir_http_add_header(ex, "content-length", "9"); break;
        case 'T': r = weir_http_reply(ex, 200, "text\n", "x", 1); break;
        case '1': r = weir_http_reply(ex, 199, NULL, "x", 1); break;
        case '6': r = weir_http_begin(ex, 600, NULL); break;
        case '0': return 0;
        case 'E': return -EIO;
        case '4': return 404;
        case '2': return 200;
        case '7': return 700;
        default: fail();
        }
    }
    return r;
}

#define REPLIED "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
#define BEGUN "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#define NO_REPLY REFUSAL("500 Internal Server Error", 26)

#define TWICE "began a second reply: reply once, and return"
#define LATE_FIELD "added a field after it had begun its reply: call weir_http_add_header " \
    "before"
#define EARLY_PIECE "wrote a piece before weir_http_begin"
#define LATE_PIECE "wrote a piece after a reply that was whole: for pieces begin it by " \
    "weir_http_begin"
#define BAD_FIELD "added a field with a character that none may have"
#define BAD_TYPE "replied with a type that has a character that none may have"
#define OUR_FIELD "added Date, Connection, Content-Length, Transfer-Encoding or Content-Type: " \
    "the calls that reply make these"
#define NOTHING "returned 0 without a reply: call weir_http_reply, or return a status of 400 " \
    "to 599"
#define NO_PAGE "there are pages for 400 to 599; for another status call weir_http_reply, and " \
    "return what it returns"
#define CLOSED "returned this error after it had begun its reply, so the connection is closed"

/* Each is told once, with the route and what to change; the peer gets what can still be had. */
static void each_mistake_of_a_callback_is_told_in_one_sentence(void **state)
{
    static const struct {
        const char *steps, *output;
        int status, error;
        const char *did;
    } rows[] = {
        { "0", NO_REPLY, 0, -ENOMSG, NOTHING },
        { "h0", NO_REPLY, 0, -ENOMSG, NOTHING },
        { "2", NO_REPLY, 0, -ENOMSG, "returned 200: " NO_PAGE },
        { "7", NO_REPLY, 0, -ENOMSG, "returned 700: " NO_PAGE },
        { "r4", REPLIED, 0, -ENOMSG, "returned 404 after it had begun its reply: return 0" },
        { "r2", REPLIED, 0, -ENOMSG, "returned 200 after it had begun its reply: return 0" },
        { "b4", BEGUN, 0, -ENOMSG, "returned 404 after it had begun its reply: return 0" },
        { "E", NO_REPLY, 0, -EIO, "returned this error, and the peer gets 500" },
        { "rE", REPLIED, 0, -EIO, CLOSED },
        { "bwE", BEGUN "1\r\ny\r\n", 0, -EIO, CLOSED },
        { "rr", REPLIED, 0, -EALREADY, TWICE },
        { "rr0", REPLIED, WEIR_KEEP, -EALREADY, TWICE },
        { "rrrb0", REPLIED, WEIR_KEEP, -EALREADY, TWICE },
        { "rr4", REPLIED, 0, -EALREADY, TWICE },
        { "br0", BEGUN "0\r\n\r\n", WEIR_KEEP, -EALREADY, TWICE },
        { "bb", BEGUN, 0, -EALREADY, TWICE },
        { "rh", REPLIED, 0, -EALREADY, LATE_FIELD },
        { "rh0", REPLIED, WEIR_KEEP, -EALREADY, LATE_FIELD },
        { "w", NO_REPLY, 0, -EINVAL, EARLY_PIECE },
        { "w0", NO_REPLY, 0, -EINVAL, EARLY_PIECE },
        { "wr", REPLIED, WEIR_KEEP, -EINVAL, EARLY_PIECE },
        { "rw", REPLIED, 0, -EINVAL, LATE_PIECE },
        { "rwww0", REPLIED, WEIR_KEEP, -EINVAL, LATE_PIECE },
        { "H", NO_REPLY, 0, -EINVAL, BAD_FIELD },
        { "H0", NO_REPLY, 0, -ENOMSG, BAD_FIELD },
        { "L", NO_REPLY, 0, -EINVAL, OUR_FIELD },
        { "1", NO_REPLY, 0, -EINVAL, "replied with a status outside 200 to 599" },
        { "6", NO_REPLY, 0, -EINVAL, "replied with a status outside 200 to 599" },
        { "10", NO_REPLY, 0, -ENOMSG, "replied with a status outside 200 to 599" },
        { "T", NO_REPLY, 0, -EINVAL, BAD_TYPE },
    };
    struct weir_http_route route = { "GET", "/mistakes/*", do_steps, NULL };
    const struct weir_http_site one = { .routes = &route, .routes_len = 1,
                                        .route_size = sizeof(route) };
    const struct weir_handler mistaken = WEIR_HTTP_HANDLER("mistaken", &one);
    static const char input[] = "GET /mistakes/x HTTP/1.1\r\nHost: x\r\n\r\n";
    char hint[400];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        route.data = rows[i].steps;
        serve_by(&mistaken, &outcome, input, strlen(input), (struct weather){ 0 });
        assert_string_equal(outcome.text, rows[i].output);
        assert_int_equal(outcome.status, rows[i].status);
        assert_int_equal(outcome.reports, 1);
        assert_int_equal(outcome.reported, rows[i].error);
        snprintf(hint, sizeof(hint), "GET /mistakes/*: its callback %s", rows[i].did);
        assert_string_equal(outcome.hint, hint);
    }
}

/* What a callback tries with what its peer gave it is no mistake, if it can do without. */
static void what_is_refused_for_its_bytes_is_told_only_if_it_mattered(void **state)
{
    static const char *const steps[] = { "Hr", "Lr", "1r", "Tr", "6r", "r", "bw", "4" };
    struct weir_http_route route = { NULL, "/", do_steps, NULL };
    const struct weir_http_site one = { .routes = &route, .routes_len = 1,
                                        .route_size = sizeof(route) };
    const struct weir_handler right = WEIR_HTTP_HANDLER("right", &one);
    static const char input[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    (void)state;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        route.data = steps[i];
        serve_by(&right, &outcome, input, strlen(input), (struct weather){ 0 });
        assert_int_equal(outcome.reports, 0);
        assert_int_equal(outcome.status, WEIR_KEEP);
    }
}

/* ------------------------------------------------------------------ refusals ---------- */

static void unknown_paths_and_methods_are_refused_and_the_connection_kept(void **state)
{
    (void)state;
    assert_reply("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 404 Not Found\r\nContent-Length: 14\r\n"
                 "Content-Type: text/plain\r\n\r\n404 Not Found\n");
    assert_reply("GET /below HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 404 Not Found\r\nContent-Length: 14\r\n"
                 "Content-Type: text/plain\r\n\r\n404 Not Found\n");
    assert_reply("PUT / HTTP/1.1\r\nHost: x\r\n\r\n",
                 "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 23\r\n"
                 "Content-Type: text/plain\r\nAllow: GET, HEAD, POST\r\n\r\n"
                 "405 Method Not Allowed\n");
    assert_int_equal(outcome.status, WEIR_KEEP);
}

/* That there is such a page must not be denied for want of memory; and no callback is to blame. */
static void without_memory_for_allow_the_server_has_failed(void **state)
{
    static const char ask[] = "PUT / HTTP/1.1\r\nHost: x\r\n\r\n";

    (void)state;
    no_memory = true;
    serve(&outcome, ask, strlen(ask), (struct weather){ 0 });
    no_memory = false;
    assert_string_equal(outcome.text, REFUSAL("500 Internal Server Error", 26));
    assert_int_equal(outcome.status, -ENOMEM);
    assert_int_equal(outcome.reports, 0);
}

static void methods_and_versions_that_are_not_implemented_are_named_so(void **state)
{
    (void)state;
    assert_refused("BREW / HTTP/1.1\r\nHost: x\r\n\r\n", REFUSAL("501 Not Implemented", 20));
    assert_refused("CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n",
                   REFUSAL("501 Not Implemented", 20));
    assert_refused("GET / HTTP/2.0\r\nHost: x\r\n\r\n",
                   REFUSAL("505 HTTP Version Not Supported", 31));
    assert_refused("GET / HTTP/0.9\r\nHost: x\r\n\r\n",
                   REFUSAL("505 HTTP Version Not Supported", 31));
    assert_reply("GET / HTTP/1.7\r\nHost: x\r\n\r\n", HELLO);
}

static void malformed_request_lines_are_refused(void **state)
{
    static const char *const lines[] = {
        "GET /\r\n", "GET\r\n", " GET / HTTP/1.1\r\n", "GET  / HTTP/1.1\r\n",
        "GET /  HTTP/1.1\r\n", "GET / HTTP/1.1 \r\n", "GET\t/ HTTP/1.1\r\n",
        "GET / HTTP/1\r\n", "GET / HTTP/11.1\r\n", "GET / HTTP/1.10\r\n", "GET / http/1.1\r\n",
        "GET / HTTP/x.y\r\n", "GET / ICE/1.0\r\n", "SOURCE / ICE/1.0\r\n", "GET x HTTP/1.1\r\n",
        "GET * HTTP/1.1\r\n", "GET /\x80 HTTP/1.1\r\n", "GET /a b HTTP/1.1\r\n",
        "GET /#a HTTP/1.1\r\n", "GET /\x7f HTTP/1.1\r\n", "GET /\x01 HTTP/1.1\r\n",
        "G\x01T / HTTP/1.1\r\n", "GET / HTTP/1.1\n", "GET / HTTP/1.1\r\r\n",
        "GET /\r HTTP/1.1\r\n", "OPTIONS *x HTTP/1.1\r\n", "\x16\x03\x01\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char input[256];

        sprintf(input, "%sHost: x\r\n\r\n", lines[i]);
        assert_bad(input);
        sprintf(input, "%s\r\n", lines[i]);
        assert_bad(input);
    }
}

static void malformed_fields_are_refused(void **state)
{
    static const char *const fields[] = {
        "A : b\r\n", "A\t: b\r\n", " A: b\r\n", "A b: c\r\n", ": b\r\n", "A\r\n", "A\x01: b\r\n",
        "A\xe4: b\r\n", "A(: b\r\n", "A: b\r\n c\r\n", "A: b\r\n\tc\r\n", "A:\r\n \r\n",
        "A: b\n", "A: b\rc\r\n", "A: b\r\r\n", "A: b\x01\r\n", "A: b\x7f\r\n", "A: b\n\r\n",
        "\rA: b\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        char input[256];

        sprintf(input, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", fields[i]);
        assert_bad(input);
        sprintf(input, "GET / HTTP/1.1\r\n%sHost: x\r\n\r\n", fields[i]);
        assert_bad(input);
    }
}

static void of_control_bytes_only_the_tab_may_be_in_a_value(void **state)
{
    static const size_t lens[] = { 1, 7, 8, 9, 16, 17 };

    (void)state;
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
        for (size_t at = 0; at < lens[i]; at++)
            for (int byte = 1; byte < 256; byte++) {
                bool good = byte == '\t' || (byte >= ' ' && byte != 127);
                char value[32] = "abcdefghijklmnopq";
                char input[128];

                value[at] = (char)byte;
                value[lens[i]] = '\0';
                serve(&outcome, input, (size_t)sprintf(
                    input, "GET / HTTP/1.1\r\nHost: x\r\nA: %s\r\n\r\n", value),
                    (struct weather){ 0 });
                assert_string_equal(outcome.text, good ? HELLO : BAD_REQUEST);
            }
}

/* The same numbers in every run. */
static unsigned random_below(unsigned limit)
{
    static uint64_t number = 1;

    number = number * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(number >> 33) % limit;
}

/* Replaces a byte, leaves one out, or adds one. */
static void change_a_byte(char *text)
{
    static const char bytes[] = "\r\n\t  ::/??#*@%GHCETUhost-keep,1.0\x01\x7f\xe4\"[]";
    size_t len = strlen(text);
    char *at = text + random_below((unsigned)len);
    char byte = bytes[random_below(sizeof(bytes) - 1)];

    switch (random_below(3)) {
    case 0:
        *at = byte;
        break;
    case 1:
        memmove(at, at + 1, len - (size_t)(at - text));
        break;
    default:
        memmove(at + 1, at, len - (size_t)(at - text) + 1);
        *at = byte;
    }
}

/*
 * A head of the i-th kind with a few bytes changed. False: it is not one, or none alone, any more.
 */
static bool make_odd_head(char *head, unsigned i)
{
    static const char *const heads[] = {
        "GET /describe HTTP/1.1\r\nHost: x\r\n",
        "GET /describe?a=b?c HTTP/1.1\r\nAccept: */*\r\nHOST:127.0.0.1:8080\r\nCookie: a=b; c\r\n",
        "GET /below/%41?x HTTP/1.1\r\nhost: [::1]\r\nConnection: keep-alive\r\nUpdate: 1\r\n",
        "GET /below/ HTTP/1.1\r\nHost: x\r\nconnection: x,\tClose\r\nTransfer-Codings: x\r\n",
        "GET /below/y HTTP/1.1\r\nHost:\t x\r\nContent-Length: 0\r\nProxy-Connections: x\r\n",
        "HEAD / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nUpgrade: x\r\nA:\tb\tc\r\n",
        "GET http://x:80/describe HTTP/1.1\r\nHost: [v1.a]\r\nExpect: ,100-continue\r\n",
        "POST /mirror HTTP/1.0\r\nHost: %41\r\nConnection: keep-alive\r\nContent-Length: 5\t\r\n",
        "PUT /describe HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTE: gzip\r\n",
    };
    unsigned kinds = sizeof(heads) / sizeof(heads[0]);

    strcpy(head, heads[i % kinds]);
    for (unsigned n = i < kinds ? 0 : 1 + random_below(3); n > 0; n--)
        change_a_byte(head);
    return !strstr(head, "\r\n\r\n") && strncmp(head, "\r\n", 2) != 0;
}

/* The method is all that makes the second request line one for the library. */
static void plain_request_lines_are_read_as_the_library_reads_them(void **state)
{
    unsigned kept = 0;

    (void)state;
    for (unsigned i = 0; i < 6000; i++) {
        char plain[256], other[260];
        const char *told;

        if (!make_odd_head(plain, i) || strncmp(plain, "GET ", 4) != 0)
            continue;
        strcat(plain, "\r\n");
        sprintf(other, "POST%s", plain + 3);
        serve(&outcome, plain, strlen(plain), (struct weather){ 0 });
        serve(&again, other, strlen(other), (struct weather){ 0 });
        told = strstr(outcome.text, "GET|");
        if (told)
            assert_string_equal(told + 3, strstr(again.text, "POST|") + 4);
        else
            assert_string_equal(outcome.text, again.text);
        assert_int_equal(outcome.status, again.status);
        kept += outcome.status == WEIR_KEEP;
    }
    assert_in_range(kept, 800, 3500);
}

static void the_verdict_on_a_head_does_not_depend_on_how_it_came(void **state)
{
    unsigned refused = 0;

    (void)state;
    for (unsigned i = 0; i < 6000; i++) {
        char head[256];
        size_t len;

        if (!make_odd_head(head, i))
            continue;
        strcat(head, "\r\n");
        len = strlen(head);
        serve(&outcome, head, len, (struct weather){ 0 });
        for (unsigned n = 0; n < 3; n++) {
            serve(&again, head, len, (struct weather){ .first = random_below((unsigned)len) });
            assert_string_equal(again.text, outcome.text);
        }
        serve(&again, head, len, (struct weather){ .step = 1 });
        assert_string_equal(again.text, outcome.text);
        assert_int_equal(again.status, outcome.status);
        refused += strncmp(outcome.text, "HTTP/1.1 4", 10) == 0;
    }
    assert_in_range(refused, 1000, 5000);
}

/* In the place of each byte, and before it: what ends a C string must not end what is looked at. */
static void nul_bytes_are_refused_anywhere_in_a_head(void **state)
{
    static const char *const inputs[] = {
        "GET /?a HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n",
        "PUT /a HTTP/1.0\r\nHost: [v1.a]:80\r\nContent-Length: 0\r\n\r\n",
        "GET http://[::1]:80/ HTTP/1.1\r\nHost: %41\r\nExpect: 100-continue\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    };

    (void)state;
    for (size_t n = 0; n < sizeof(inputs) / sizeof(inputs[0]); n++) {
        size_t len = strlen(inputs[n]);

        for (size_t i = 1; i < len - 2; i++) {
            char bytes[128];

            memcpy(bytes, inputs[n], len);
            bytes[i] = '\0';
            assert_string_equal(replies_to_bytes(bytes, len), BAD_REQUEST);
            memcpy(bytes + i + 1, inputs[n] + i, len - i);
            assert_string_equal(replies_to_bytes(bytes, len + 1), BAD_REQUEST);
        }
    }
}

static void the_host_must_be_there_once_and_be_one(void **state)
{
    static const char *const fields[] = {
        "", "A: Host\r\n", "Host: x\r\nHost: x\r\n", "Host: x\r\nhost: y\r\n", "Host: a b\r\n",
        "Host: a/b\r\n", "Host: a@b\r\n", "Host: a\"b\r\n", "Host: \xe4\r\n", "Host: a?b\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        char input[256];

        sprintf(input, "GET / HTTP/1.1\r\n%s\r\n", fields[i]);
        assert_bad(input);
    }
    assert_reply("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", HELLO);
}

static void lengths_that_two_programs_could_read_differently_are_refused(void **state)
{
    static const char *const fields[] = {
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: \r\n", "Content-Length: +1\r\n", "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n", "Content-Length: 1,1\r\n", "Content-Length: 1, 1\r\n",
        "Content-Length: 1 1\r\n", "Content-Length: 1a\r\n", "Content-Length: a1\r\n",
        "Content-Length: 1.0\r\n", "Content-Length: 18446744073709551617\r\n",
        "Content-Length: 99999999999999999999999999\r\n", "Content-Length: 1;\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        char input[256];

        sprintf(input, "POST /mirror HTTP/1.1\r\nHost: x\r\n%s\r\n", fields[i]);
        assert_bad(input);
    }
    assert_bad("POST /mirror HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
}

static void transfer_codings_but_chunked_are_not_implemented(void **state)
{
    static const char *const codings[] = {
        "gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", "identity", "xchunked",
        "chunkedx", "chunked;q=1", "\"chunked\"", "", ",chunked", "chun ked", "\013chunked",
        "chunked,", ",",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(codings) / sizeof(codings[0]); i++) {
        bool malformed = codings[i][0] == '\013' || codings[i][0] == '\0';
        char input[256];

        sprintf(input, "POST /mirror HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: %s\r\n\r\n",
                codings[i]);
        assert_refused(input, malformed ? BAD_REQUEST : REFUSAL("501 Not Implemented", 20));
    }
}

static char *fill(char *at, char c, size_t len)
{
    memset(at, c, len);
    at[len] = '\0';
    return at + len;
}

static void a_request_line_has_a_limit(void **state)
{
    static char input[64 * 1024];
    char *end = stpcpy(input, "GET /below/");

    (void)state;
    end = fill(end, 'a', 8192 - strlen("GET /below/ HTTP/1.1\r\n"));
    stpcpy(end, " HTTP/1.0\r\n\r\n");
    assert_memory_equal(replies_to(input), "HTTP/1.1 200 OK\r\n", 17);
    stpcpy(end, "a HTTP/1.0\r\n\r\n");
    assert_reply(input, REFUSAL("414 URI Too Long", 17));
    fill(end, 'a', 10000);      /* the line never ends */
    assert_reply(input, REFUSAL("414 URI Too Long", 17));
}

static void fields_have_limits_in_number_and_size(void **state)
{
    static const char start[] = "GET / HTTP/1.1\r\n";
    static char input[128 * 1024];
    char *end = stpcpy(input, start);
    char *fields = end;

    (void)state;
    end = stpcpy(end, "Host: x\r\n");
    for (int i = 1; i < 100; i++)
        end = stpcpy(end, "A: b\r\n");
    stpcpy(end, "\r\n");
    assert_reply(input, HELLO);
    stpcpy(end, "A: b\r\n\r\n");
    assert_reply(input, REFUSAL("431 Request Header Fields Too Large", 36));

    end = stpcpy(fields, "Host: x\r\nA: ");
    end = fill(end, 'a', 32768 - (size_t)(end - fields) - 4);
    stpcpy(end, "\r\n\r\n");
    assert_reply(input, HELLO);
    stpcpy(end, "a\r\n\r\n");
    assert_reply(input, REFUSAL("431 Request Header Fields Too Large", 36));
    fill(end, 'a', 40000);
    assert_reply(input, REFUSAL("431 Request Header Fields Too Large", 36));
}

/* ------------------------------------------------------------------ bad weather ------- */

static void a_head_cut_short_is_a_bad_request(void **state)
{
    (void)state;
    assert_reply("GET / HT", BAD_REQUEST);
    assert_reply("GET / HTTP/1.1\r\nHost: x\r\n", BAD_REQUEST);
    assert_int_equal(outcome.status, 0);
}

static void a_peer_that_leaves_between_requests_gets_no_reply(void **state)
{
    (void)state;
    serve(&outcome, "", 0, (struct weather){ 0 });
    assert_string_equal(outcome.text, "");
    assert_int_equal(outcome.status, 0);
}

static void with_empty_lines_alone_a_connection_is_idle(void **state)
{
    static const char *const inputs[][2] = {
        { "\r\n", "" }, { "\r\n\r\n\r\n", "" },
        { "GET / HTTP/1.1\r\nHost: x\r\n\r\n\r\n", HELLO },
        { "GET / HTTP/1.1\r\nHost: x\r\n\r\n\r\n\r\n", HELLO },
        { "POST /mirror HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na\r\n",
          "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++)
        for (size_t step = 0; step < 4; step++) {
            serve(&outcome, inputs[i][0], strlen(inputs[i][0]),
                  (struct weather){ .step = step, .ending = -ETIMEDOUT });
            assert_string_equal(outcome.text, inputs[i][1]);
            assert_int_equal(outcome.status, WEIR_KEEP);
        }
}

static void a_timeout_is_answered_only_if_a_request_had_begun(void **state)
{
    static const char head[] = "GET / HT";
    static const char body[] = "POST /mirror HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel";
    struct weather weather = { .ending = -ETIMEDOUT };

    (void)state;
    serve(&outcome, "", 0, weather);
    assert_string_equal(outcome.text, "");
    assert_int_equal(outcome.status, 0);
    serve(&outcome, head, strlen(head), weather);
    assert_string_equal(outcome.text, REFUSAL("408 Request Timeout", 20));
    assert_int_equal(outcome.status, 0);
    serve(&outcome, body, strlen(body), weather);
    assert_string_equal(outcome.text, REFUSAL("408 Request Timeout", 20));
    assert_int_equal(outcome.status, 0);
}

static void a_peer_that_resets_is_not_reported(void **state)
{
    static const char head[] = "GET / HT";
    static const char body[] = "POST /mirror HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel";
    static const char whole[] = "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n";

    (void)state;
    serve(&outcome, head, strlen(head), (struct weather){ .ending = -ECONNRESET });
    assert_int_equal(outcome.status, 0);
    serve(&outcome, body, strlen(body), (struct weather){ .ending = -ECONNRESET });
    assert_int_equal(outcome.status, 0);
    serve(&outcome, whole, strlen(whole), (struct weather){ .write_error = -EPIPE });
    assert_int_equal(outcome.status, 0);
}

static void a_cancelled_request_stays_cancelled(void **state)
{
    static const char head[] = "GET / HT";

    (void)state;
    serve(&outcome, head, strlen(head), (struct weather){ .ending = -ECANCELED });
    assert_string_equal(outcome.text, "");
    assert_int_equal(outcome.status, -ECANCELED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_answered_and_the_connection_kept),
        cmocka_unit_test(a_whole_request_needs_one_wait),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(connection_close_is_obeyed_and_announced),
        cmocka_unit_test(http_1_0_closes_unless_it_asks_to_be_kept),
        cmocka_unit_test(a_draining_server_answers_and_closes),
        cmocka_unit_test(head_gets_the_headers_of_get_and_no_body),
        cmocka_unit_test(empty_lines_before_a_request_are_skipped),
        cmocka_unit_test(a_request_is_told_apart_into_its_pieces),
        cmocka_unit_test(an_absolute_target_without_a_path_asks_for_the_root),
        cmocka_unit_test(strings_of_a_request_outlive_the_reading_of_its_body),
        cmocka_unit_test(a_body_of_a_given_length_is_read),
        cmocka_unit_test(a_chunked_body_is_put_together),
        cmocka_unit_test(trailers_are_skipped),
        cmocka_unit_test(malformed_chunks_are_refused),
        cmocka_unit_test(extensions_and_trailers_have_a_limit),
        cmocka_unit_test(a_body_cut_short_is_a_bad_request),
        cmocka_unit_test(a_body_beyond_the_limit_is_refused),
        cmocka_unit_test(a_body_that_nobody_reads_is_skipped),
        cmocka_unit_test(continue_is_sent_when_the_body_is_wanted_and_not_there),
        cmocka_unit_test(continue_is_not_sent_for_a_body_that_is_not_wanted),
        cmocka_unit_test(continue_is_not_sent_once_a_reply_has_begun),
        cmocka_unit_test(other_expectations_fail),
        cmocka_unit_test(a_stream_is_sent_in_chunks),
        cmocka_unit_test(a_stream_to_http_1_0_ends_with_the_connection),
        cmocka_unit_test(a_stream_that_fails_is_left_visibly_unfinished),
        cmocka_unit_test(a_file_is_sent_from_its_offset),
        cmocka_unit_test(added_headers_are_sent_and_cannot_be_split),
        cmocka_unit_test(a_type_may_be_of_any_length),
        cmocka_unit_test(no_content_has_neither_body_nor_length),
        cmocka_unit_test(a_status_that_a_callback_returns_becomes_a_page),
        cmocka_unit_test(added_headers_are_sent_with_a_status_but_not_with_an_error),
        cmocka_unit_test(a_callback_that_fails_is_told_and_answered_with_500),
        cmocka_unit_test(each_mistake_of_a_callback_is_told_in_one_sentence),
        cmocka_unit_test(what_is_refused_for_its_bytes_is_told_only_if_it_mattered),
        cmocka_unit_test(unknown_paths_and_methods_are_refused_and_the_connection_kept),
        cmocka_unit_test(without_memory_for_allow_the_server_has_failed),
        cmocka_unit_test(methods_and_versions_that_are_not_implemented_are_named_so),
        cmocka_unit_test(malformed_request_lines_are_refused),
        cmocka_unit_test(malformed_fields_are_refused),
        cmocka_unit_test(of_control_bytes_only_the_tab_may_be_in_a_value),
        cmocka_unit_test(plain_request_lines_are_read_as_the_library_reads_them),
        cmocka_unit_test(the_verdict_on_a_head_does_not_depend_on_how_it_came),
        cmocka_unit_test(nul_bytes_are_refused_anywhere_in_a_head),
        cmocka_unit_test(the_host_must_be_there_once_and_be_one),
        cmocka_unit_test(lengths_that_two_programs_could_read_differently_are_refused),
        cmocka_unit_test(transfer_codings_but_chunked_are_not_implemented),
        cmocka_unit_test(a_request_line_has_a_limit),
        cmocka_unit_test(fields_have_limits_in_number_and_size),
        cmocka_unit_test(a_head_cut_short_is_a_bad_request),
        cmocka_unit_test(a_peer_that_leaves_between_requests_gets_no_reply),
        cmocka_unit_test(with_empty_lines_alone_a_connection_is_idle),
        cmocka_unit_test(a_timeout_is_answered_only_if_a_request_had_begun),
        cmocka_unit_test(a_peer_that_resets_is_not_reported),
        cmocka_unit_test(a_cancelled_request_stays_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
