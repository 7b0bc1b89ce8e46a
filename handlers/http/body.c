/*
 * body.c - lengths and chunks over the buffered stream of a request.
 *
 * What is wrong with a body is remembered as the status that answers it, so that a callback can
 * hand back any error that it was given.
 */
#include "handlers/http/body.h"

#include <errno.h>

#include "handlers/http/grammar.h"

enum {
    SKIP_MAX = 64 * 1024,       /* bytes read only to keep a connection; opening one costs less */
    OVERHEAD_MAX = 8 * 1024,    /* bytes that a peer may have us skip in chunked framing */
    TRAILER_LINE_MAX = 4096,
};

int http_body_init(struct http_body_reader *body, struct weir_request *req,
                   const struct http_head *head, uint64_t limit)
{
    *body = (struct http_body_reader){
        .req = req,
        .left = head->body_len,
        .room = limit,
        .kind = head->body,
        .first_chunk = true,
        .expect = head->expect && head->body != HTTP_BODY_NONE,
        .fault = head->body_len > limit ? 413 : 0,
    };
    return body->fault;
}

static int fail_body(struct http_body_reader *body, int status)
{
    body->fault = status;
    return status == 413 ? -EFBIG : -EBADMSG;
}

/* A peer that has sent nothing of the body by now may be waiting for our word. */
static int invite(struct http_body_reader *body)
{
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    char *data;
    ssize_t n;

    if (!body->expect)
        return 0;
    body->expect = false;
    n = weir_peek(body->req, &data, 0);
    if (n == 0)
        n = weir_write(body->req, line, sizeof(line) - 1);
    return n < 0 ? (int)n : 0;
}

/* Reads a line that must be empty: the CRLF that ends a chunk's data. */
static int end_chunk(struct http_body_reader *body)
{
    char *line;
    ssize_t n = weir_readline(body->req, &line, 2);

    if (n < 0)
        return (int)n;
    return n == 2 && line[0] == '\r' && line[1] == '\n' ? 0 : fail_body(body, 400);
}

/* Trailer fields are skipped: none that we would heed may be in one. */
static int skip_trailers(struct http_body_reader *body)
{
    char *line;
    ssize_t n;

    for (;;) {
        n = weir_readline(body->req, &line, TRAILER_LINE_MAX);
        if (n < 0)
            return (int)n;
        body->overhead += (uint32_t)n;
        if (n < 2 || line[n - 1] != '\n' || line[n - 2] != '\r' || body->overhead > OVERHEAD_MAX)
            return fail_body(body, 400);
        if (n == 2)
            return 0;
        if (!http_is_trailer(line, (size_t)n - 2))
            return fail_body(body, 400);
    }
}

static int begin_chunk(struct http_body_reader *body)
{
    size_t extension;
    uint64_t size;
    char *line;
    ssize_t n;
    int r = 0;

    if (!body->first_chunk)
        r = end_chunk(body);
    if (r < 0)
        return r;
    body->first_chunk = false;
    n = weir_readline(body->req, &line, HTTP_CHUNK_LINE_MAX);
    if (n < 0)
        return (int)n;
    if (http_parse_chunk(line, (size_t)n, &size, &extension) != 0)
        return fail_body(body, 400);
    body->overhead += (uint32_t)extension;
    if (body->overhead > OVERHEAD_MAX)
        return fail_body(body, 400);
    if (size > body->room)
        return fail_body(body, 413);
    body->room -= size;
    body->left = size;
    if (size > 0)
        return 0;
    r = skip_trailers(body);
    if (r == 0)
        body->kind = HTTP_BODY_NONE;
    return r;
}

/* Makes `left` the number of bytes that can be read before any framing; 0 at the body's end. */
static int advance_body(struct http_body_reader *body)
{
    int r = body->fault != 0 ? fail_body(body, body->fault) : invite(body);

    /* Here, so that a request without a body has no call for it. */
    weir_end_head(body->req);
    if (r == 0 && body->kind == HTTP_BODY_CHUNKED && body->left == 0)
        r = begin_chunk(body);
    return r;
}

static void took(struct http_body_reader *body, size_t len)
{
    body->left -= len;
    if (body->left == 0 && body->kind == HTTP_BODY_LENGTH)
        body->kind = HTTP_BODY_NONE;
}

ssize_t http_body_read(struct http_body_reader *body, void *buf, size_t len)
{
    ssize_t n;
    int r;

    if (body->kind == HTTP_BODY_NONE || len == 0)
        return 0;
    r = advance_body(body);
    if (r < 0 || body->left == 0)
        return r;
    n = weir_read(body->req, buf, len < body->left ? len : (size_t)body->left);
    if (n == 0)
        return fail_body(body, 400);
    if (n > 0)
        took(body, (size_t)n);
    return n;
}

bool http_body_skippable(const struct http_body_reader *body)
{
    if (body->kind == HTTP_BODY_NONE)
        return true;
    return !body->expect && body->fault == 0 && body->left <= SKIP_MAX;
}

bool http_body_skip(struct http_body_reader *body)
{
    size_t skipped = 0;
    char *data;
    ssize_t n;

    while (body->kind != HTTP_BODY_NONE) {
        if (skipped > SKIP_MAX || advance_body(body) < 0)
            return false;
        if (body->left == 0)
            continue;
        n = weir_peek(body->req, &data, 1);
        if (n <= 0)
            return false;
        if ((uint64_t)n > body->left)
            n = (ssize_t)body->left;
        weir_consume(body->req, (size_t)n);
        took(body, (size_t)n);
        skipped += (size_t)n;
    }
    return true;
}
