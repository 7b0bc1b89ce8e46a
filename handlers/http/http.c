/*
 * http.c - one connection's exchanges: await a head, find its route, let the callback answer.
 *
 * A client may stall anywhere, and what it then holds is the stack of its fiber. So a head is
 * awaited with a few words of state, and only a complete one is given the frame of an exchange.
 *
 * Strings of the request point into the read buffer, whose content lasts until the next read. Only
 * a request with a body is read from again before its callback has returned: then, and only then,
 * the head is copied first.
 */
#include "handlers/http/exchange.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "handlers/http/mistake.h"
#include "handlers/http/reply.h"
#include "handlers/http/scan.h"

enum { BODY_LIMIT_DEFAULT = 1024 * 1024 };

/* ------------------------------------------------------------------ ending ------------ */

/* A peer that went away or fell silent is no error of the handler's. */
static int quiet(ssize_t r)
{
    return r == -ECONNRESET || r == -EPIPE || r == -ETIMEDOUT ? 0 : (int)r;
}

/* Whether what has come of a request begins as one for a head alone does. */
static bool asks_for_head(struct weir_request *req)
{
    char *data;
    ssize_t n = weir_peek(req, &data, 0);

    return n >= 5 && memcmp(data, "HEAD ", 5) == 0;
}

/*
 * Answers what is not a request, of which no more can be understood, whatever of it is on the way.
 * Returns what handle does.
 */
static int refuse_request(struct weir_request *req, int status)
{
    struct http_reply reply = { .status = status, .connection = HTTP_CONNECTION_CLOSE };
    int r = http_reply_page(req, &reply, asks_for_head(req));

    weir_linger(req);
    return r < 0 ? quiet(r) : 0;
}

/* ------------------------------------------------------------------ an exchange ------- */

/*
 * The head is in the buffer, whole. Returns 0, a status to refuse with, or -ENOMEM. What is not set
 * here is set by exchange_call: to clear all of it would take longer.
 */
static int exchange_init(struct weir_http *ex, struct weir_request *req, struct http_field *fields,
                         size_t len)
{
    ssize_t n = weir_peek(req, &ex->text, len);
    int status;

    ex->req = req;
    ex->site = weir_handler_data(req);
    ex->head.fields = fields;
    status = n < 0 ? (int)n : http_read_head(&ex->head, ex->text, len);
    if (status != 0)
        return status;
    ex->copy = NULL;
    if (ex->head.body != HTTP_BODY_NONE) {
        ex->copy = malloc(len);
        if (!ex->copy)
            return -ENOMEM;
        ex->text = memcpy(ex->copy, ex->text, len);
    }
    weir_consume(req, len);
    ex->added = NULL;
    ex->added_len = 0;
    ex->state = REPLY_NONE;
    ex->error = 0;
    ex->mistake = NULL;
    ex->told = false;
    ex->bodiless = strcmp(ex->head.method, "HEAD") == 0;
    ex->keep = ex->head.keep;
    return 0;
}

static void exchange_fini(struct weir_http *ex)
{
    free(ex->copy);
    free(ex->added);
}

/* Finds who answers, and lets it. Returns as a callback does. */
static int exchange_call(struct weir_http *ex)
{
    uint64_t limit = ex->site->body_limit ? ex->site->body_limit : BODY_LIMIT_DEFAULT;
    int too_long = http_body_init(&ex->body, ex->req, &ex->head, limit);
    int status = exchange_find_route(ex);

    if (status == 0)
        status = too_long;
    return status != 0 ? status : ex->route->call(ex);
}

/* The reply to an error of a callback's: the peer's fault if a call of ours gave that error. */
static int error_status(const struct weir_http *ex, int error)
{
    if (error != ex->error)
        return 500;
    if (ex->body.fault != 0)
        return ex->body.fault;
    return error == -ETIMEDOUT ? 408 : 500;
}

/* Returns true if a call of ours gave that error because of the connection. */
static bool is_connections(const struct weir_http *ex, int error)
{
    return error != 0 && error == ex->error;
}

/*
 * Gives up the connection for what the callback returned, an error or what stands for one. Unless
 * the peer is to blame, handle_error hears of it: here, where its route is known.
 */
static int exchange_fail(struct weir_http *ex, int r, int error)
{
    ex->keep = false;
    ex->added_len = 0;          /* meant for the reply that is not made */
    if (!is_connections(ex, error))
        mistake_tell_return(ex, r, error);
    if (ex->state == REPLY_NONE)
        exchange_reply_page(ex, error_status(ex, error));
    if (!is_connections(ex, error))
        return 0;
    return ex->body.fault != 0 ? 0 : quiet(error);
}

/* Makes what a callback returned a complete reply. Returns 0 or -errno. */
static int exchange_complete(struct weir_http *ex, int r)
{
    int error = r;

    if (r == 0 && ex->state == REPLY_DONE)
        return 0;
    if (r == 0 && ex->state == REPLY_STREAMING)
        error = exchange_end_stream(ex);
    else if (r >= 400 && r <= 599 && ex->state == REPLY_NONE)
        error = exchange_reply_page(ex, r);
    else if (r >= 0)
        error = -ENOMSG;        /* no reply, or a value that means nothing: a callback's defect */
    return error < 0 ? exchange_fail(ex, r, error) : 0;
}

/* Serves the request whose head, of len bytes, is in the buffer. Returns what handle does. */
static __attribute__((noinline)) int exchange(struct weir_request *req, size_t len)
{
    struct http_field fields[HTTP_FIELDS_MAX];
    struct weir_http ex;
    int r = exchange_init(&ex, req, fields, len);

    if (r < 0)
        return r;
    if (r > 0)
        return refuse_request(req, r);
    r = exchange_complete(&ex, exchange_call(&ex));
    if (ex.keep)
        ex.keep = http_body_skip(&ex.body);
    if (!ex.keep && ex.body.kind != HTTP_BODY_NONE)
        weir_linger(req);
    exchange_fini(&ex);
    return r == 0 && ex.keep ? WEIR_KEEP : r;
}

/* ------------------------------------------------------------------ a connection ------ */

/* What to do about a head that will never be complete. */
static int give_up_request(struct weir_request *req, ssize_t error, size_t arrived)
{
    if (arrived == 0)
        return quiet(error);
    if (error == 0)
        return refuse_request(req, 400);
    return error == -ETIMEDOUT ? refuse_request(req, 408) : quiet(error);
}

/*
 * Old clients send an empty line behind a body, and RFC 9112, 2.2 has it ignored: any number, for a
 * limit would have to be remembered where they come one by one. Returns how many bytes are left.
 */
static __attribute__((cold, noinline)) size_t skip_empty_lines(struct weir_request *req,
                                                               char **data, size_t len)
{
    while (len >= 2 && (*data)[0] == '\r' && (*data)[1] == '\n') {
        weir_consume(req, 2);
        *data += 2;
        len -= 2;
    }
    return len;
}

/*
 * Waits until a whole head is buffered, and nothing before it. If that comes to nothing, ret_len is
 * 0, and what is returned is for handle to return: with nothing but empty lines no request has
 * begun, and the connection is as idle as without.
 */
static int await_head(struct weir_request *req, size_t *ret_len)
{
    struct http_scan scan;
    size_t arrived = 0;
    char *data;
    int status;

    *ret_len = 0;
    http_scan_begin(&scan);
    do {
        ssize_t n = weir_peek(req, &data, arrived + 1);

        if (n <= (ssize_t)arrived)
            return give_up_request(req, n < 0 ? n : 0, arrived);
        arrived = (size_t)n;
        if (*data == '\r') {
            arrived = skip_empty_lines(req, &data, arrived);
            if (arrived == 0)
                return WEIR_KEEP;
            http_scan_begin(&scan);     /* it may have seen a CR whose LF was missing */
        }
        status = http_scan(&scan, data, arrived, ret_len);
    } while (status == -EAGAIN);
    return status != 0 ? refuse_request(req, status) : 0;
}

/* Pipelined requests are a call each, so that each has the whole of request_timeout_ms. */
int weir_http_handle(struct weir_request *req)
{
    size_t len;
    int r = await_head(req, &len);

    return len > 0 ? exchange(req, len) : r;
}
