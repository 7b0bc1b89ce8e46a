/*
 * sized.c - see sized.h.
 */
#include "bench/sized.h"

#include <stdint.h>

#include "handlers/http/http.h"

static int answer(struct weir_request *req)
{
    ssize_t n = weir_write(req, "!", 1);

    return n < 0 ? (int)n : WEIR_KEEP;
}

static int read_line(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, SIZE_MAX);

    return n > 0 ? answer(req) : (int)n;
}

const struct weir_handler sized_line = { .name = "line", .handle = read_line };

static int peek_at_all(struct weir_request *req)
{
    const size_t *len = weir_handler_data(req);
    char *data;
    ssize_t n = weir_peek(req, &data, *len);

    if (n < (ssize_t)*len)
        return n < 0 ? (int)n : 0;
    weir_consume(req, *len);
    return answer(req);
}

const struct weir_handler sized_peek = { .name = "peek", .handle = peek_at_all };

static int peek_for_more(struct weir_request *req)
{
    char *data;
    ssize_t n = 0;

    do {
        ssize_t more = weir_peek(req, &data, (size_t)n + 1);

        if (more <= n)
            return more < 0 ? (int)more : 0;
        n = more;
    } while (data[n - 1] != '\n');
    weir_consume(req, (size_t)n);
    return answer(req);
}

const struct weir_handler sized_peek_more = { .name = "peek more", .handle = peek_for_more };

static int reply(struct weir_http *ex)
{
    return weir_http_reply(ex, 200, "text/plain", "!", 1);
}

static int read_body(struct weir_http *ex)
{
    char piece[8192];
    ssize_t n;

    while ((n = weir_http_read_body(ex, piece, sizeof(piece))) > 0)
        ;
    return n < 0 ? (int)n : reply(ex);
}

static const struct weir_http_route routes[] = {
    { "GET", "/", reply, NULL },
    { "POST", "/body", read_body, NULL },
};
static const struct weir_http_site site = {
    WEIR_HTTP_ROUTES(routes), .body_limit = SIZE_MAX,
};

const struct weir_handler sized_http = WEIR_HTTP_HANDLER("sized", &site);
