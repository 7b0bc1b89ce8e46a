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
#include "handlers/http/http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "handlers/http/body.h"
#include "handlers/http/grammar.h"
#include "handlers/http/reply.h"
#include "handlers/http/request.h"
#include "handlers/http/scan.h"

enum {
    BODY_LIMIT_DEFAULT = 1024 * 1024,
    LINGER_MAX = 64 << 20,      /* bytes taken from a refused peer so that it gets to our answer */
    ALLOW_MAX = 512,            /* the methods that the parser knows come to 280 */
};

enum reply_state { REPLY_NONE, REPLY_STREAMING, REPLY_DONE };

struct weir_http {
    struct weir_request *req;
    const struct weir_http_site *site;
    const struct weir_http_route *route;
    struct http_head head;
    struct http_body_reader body;
    char *text;                 /* the head: what its offsets refer to */
    char *copy;                 /* == text when that is ours to free */
    char *added;                /* fields for the reply */
    size_t added_len;
    enum reply_state state;
    int error;                  /* the last that the connection gave the callback */
    bool bodiless;              /* HEAD, or a status that says so: a reply's body is left out */
    bool keep;                  /* the connection, after this exchange */
};

/* ------------------------------------------------------------------ ending ------------ */

/* A peer that went away or fell silent is no error of the handler's. */
static int quiet(ssize_t r)
{
    return r == -ECONNRESET || r == -EPIPE || r == -ETIMEDOUT ? 0 : (int)r;
}

/*
 * Closing a socket with unread input resets the connection, and the reset may overtake our answer.
 * So we end our side only, and read on for a while what the peer is still sending. (A datagram has
 * all been read, and no side to end.)
 */
static void linger(struct weir_request *req)
{
    size_t taken = 0;
    char *data;
    ssize_t n;

    if (weir_end_output(req) < 0)
        return;
    while (taken < LINGER_MAX && (n = weir_peek(req, &data, 1)) > 0) {
        weir_consume(req, (size_t)n);
        taken += (size_t)n;
    }
}

/* Whether what has come of a request begins as one for a head alone does. */
static bool asks_for_head(struct weir_request *req)
{
    char *data;
    ssize_t n = weir_peek(req, &data, 0);

    return n >= 5 && memcmp(data, "HEAD ", 5) == 0;
}

/* Answers what is not a request, of which no more can be understood. Returns what handle does. */
static int refuse(struct weir_request *req, int status)
{
    struct http_reply reply = { .status = status, .connection = HTTP_CONNECTION_CLOSE };
    int r = http_reply_page(req, &reply, asks_for_head(req));

    if (r < 0)
        return quiet(r);
    linger(req);
    return 0;
}

/* ------------------------------------------------------------------ the request ------- */

const char *weir_http_method(const struct weir_http *ex)
{
    return ex->head.method;
}

/* Ends a piece of the head. What stood there separated it from the next piece. */
static char *terminated(struct weir_http *ex, size_t at, size_t len)
{
    ex->text[at + len] = '\0';
    return ex->text + at;
}

char *weir_http_path(struct weir_http *ex)
{
    return terminated(ex, ex->head.path, ex->head.path_len);
}

char *weir_http_query(struct weir_http *ex)
{
    return ex->head.query ? terminated(ex, ex->head.query, ex->head.query_len) : NULL;
}

char *weir_http_authority(struct weir_http *ex)
{
    if (ex->head.authority == 0)
        return weir_http_header(ex, "Host");
    return terminated(ex, ex->head.authority, ex->head.authority_len);
}

static char *field_value(struct weir_http *ex, const struct http_field *field)
{
    return terminated(ex, field->value, field->value_len);
}

char *weir_http_header(struct weir_http *ex, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < ex->head.fields_len; i++) {
        const struct http_field *field = &ex->head.fields[i];

        if (http_name_equal(ex->text + field->name, field->name_len, name, len))
            return field_value(ex, field);
    }
    return NULL;
}

bool weir_http_header_at(struct weir_http *ex, size_t i, char **ret_name, char **ret_value)
{
    const struct http_field *field;

    if (i >= ex->head.fields_len)
        return false;
    field = &ex->head.fields[i];
    *ret_name = terminated(ex, field->name, field->name_len);
    *ret_value = field_value(ex, field);
    return true;
}

const void *weir_http_data(const struct weir_http *ex)
{
    return ex->route->data;
}

struct weir_request *weir_http_request(const struct weir_http *ex)
{
    return ex->req;
}

/* Keeps the connection's error, to know it again when the callback returns it. */
static ssize_t noted(struct weir_http *ex, ssize_t r)
{
    if (r < 0)
        ex->error = (int)r;
    return r;
}

ssize_t weir_http_read_body(struct weir_http *ex, void *buf, size_t len)
{
    return noted(ex, http_body_read(&ex->body, buf, len));
}

/* ------------------------------------------------------------------ the reply --------- */

/* The calls that reply make these themselves: a second one could be read differently elsewhere. */
static bool is_made_by_reply(const char *name)
{
    static const char *const names[] = {
        "Date", "Connection", "Content-Length", "Transfer-Encoding", "Content-Type",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

int weir_http_add_header(struct weir_http *ex, const char *name, const char *value)
{
    size_t name_len = strlen(name), value_len = strlen(value);
    char *added, *end;

    if (ex->state != REPLY_NONE)
        return -EALREADY;
    if (!http_is_token(name, name_len) || !http_is_value(value, value_len))
        return -EINVAL;
    if (is_made_by_reply(name))
        return -EINVAL;
    added = realloc(ex->added, ex->added_len + name_len + 2 + value_len + 2);
    if (!added)
        return -ENOMEM;
    end = mempcpy(added + ex->added_len, name, name_len);
    end = mempcpy(end, ": ", 2);
    end = mempcpy(end, value, value_len);
    end = mempcpy(end, "\r\n", 2);
    ex->added = added;
    ex->added_len = (size_t)(end - added);
    return 0;
}

/*
 * Settles whether the connection stays, and how to say so. The reply that says it answers a peer
 * that waits for "100 Continue", too: behind the reply's first byte that would be in its midst.
 */
static enum http_connection settle_connection(struct weir_http *ex)
{
    ex->keep = ex->keep && !weir_draining(ex->req) && http_body_skippable(&ex->body);
    ex->body.expect = false;
    if (!ex->keep)
        return HTTP_CONNECTION_CLOSE;
    return ex->head.one_one ? HTTP_CONNECTION_DEFAULT : HTTP_CONNECTION_KEEP;
}

/* What the status says of the body, whatever the callback gave. */
static void settle_body(struct weir_http *ex, struct http_reply *reply)
{
    if (reply->status == 204 || reply->status == 304) {
        reply->framing = HTTP_FRAMING_NONE;
        ex->bodiless = true;
    } else if (reply->status == 205) {
        reply->framing = HTTP_FRAMING_LENGTH;   /* its end must be told, since it has no exception */
        reply->length = 0;
        ex->bodiless = true;
    }
}

/* Begins the reply with the head and as much of its body as is at hand. */
static int begin(struct weir_http *ex, struct http_reply *reply, const void *body, size_t len)
{
    if (ex->state != REPLY_NONE)
        return -EALREADY;
    reply->type_len = reply->type ? strlen(reply->type) : 0;
    if (reply->status < 200 || reply->status > 599 ||
            !http_is_value(reply->type, reply->type_len))
        return -EINVAL;
    settle_body(ex, reply);
    if (reply->framing == HTTP_FRAMING_CLOSE)
        ex->keep = false;
    reply->connection = settle_connection(ex);
    reply->added = ex->added;
    reply->added_len = ex->added_len;
    ex->state = REPLY_DONE;
    return (int)noted(ex, http_reply_write(ex->req, reply, body, ex->bodiless ? 0 : len));
}

int weir_http_reply(struct weir_http *ex, int status, const char *type,
                    const void *body, size_t len)
{
    struct http_reply reply = {
        .status = status, .type = type, .framing = HTTP_FRAMING_LENGTH, .length = len };

    return begin(ex, &reply, body, len);
}

int weir_http_reply_file(struct weir_http *ex, int status, const char *type,
                         int file_fd, off_t offset, size_t len)
{
    struct http_reply reply = {
        .status = status, .type = type, .framing = HTTP_FRAMING_LENGTH, .length = len };
    int r = begin(ex, &reply, NULL, 0);
    ssize_t n;

    if (r < 0 || ex->bodiless)
        return r;
    n = noted(ex, weir_sendfile(ex->req, file_fd, offset, len));
    if (n >= 0 && (size_t)n == len)
        return 0;
    ex->keep = false;           /* the peer still waits for the rest */
    return n < 0 ? (int)n : -EIO;
}

int weir_http_begin(struct weir_http *ex, int status, const char *type)
{
    struct http_reply reply = {
        .status = status, .type = type,
        .framing = ex->head.one_one ? HTTP_FRAMING_CHUNKED : HTTP_FRAMING_CLOSE };
    int r = begin(ex, &reply, NULL, 0);

    if (r == 0)
        ex->state = REPLY_STREAMING;
    return r;
}

int weir_http_write(struct weir_http *ex, const void *buf, size_t len)
{
    ssize_t n;

    if (ex->state != REPLY_STREAMING)
        return -EINVAL;
    if (ex->bodiless || len == 0)
        return 0;               /* an empty chunk would be the last one */
    if (ex->head.one_one)
        n = http_reply_chunk(ex->req, buf, len);
    else
        n = weir_write(ex->req, buf, len);
    return noted(ex, n) < 0 ? (int)n : 0;
}

static int end_stream(struct weir_http *ex)
{
    ex->state = REPLY_DONE;
    if (!ex->head.one_one || ex->bodiless)
        return 0;
    return (int)noted(ex, http_reply_chunk(ex->req, NULL, 0));
}

/* The short page for a status, with a connection that stays if it can. */
static int reply_page(struct weir_http *ex, int status)
{
    struct http_reply reply = {
        .status = status, .connection = settle_connection(ex),
        .added = ex->added, .added_len = ex->added_len };

    ex->state = REPLY_DONE;
    return (int)noted(ex, http_reply_page(ex->req, &reply, ex->bodiless));
}

/* ------------------------------------------------------------------ routes ------------ */

static const struct weir_http_route *route_at(const struct weir_http_site *site, size_t i)
{
    return (const void *)((const char *)site->routes + i * site->route_size);
}

static bool path_fits(const struct weir_http_route *route, const char *path)
{
    size_t len = strlen(route->path);

    if (len >= 2 && route->path[len - 1] == '*' && route->path[len - 2] == '/')
        return strncmp(path, route->path, len - 1) == 0;
    return strcmp(path, route->path) == 0;
}

static bool method_fits(const struct weir_http *ex, const struct weir_http_route *route)
{
    return !route->method || strcmp(route->method, ex->head.method) == 0 ||
        (ex->bodiless && strcmp(route->method, "GET") == 0);
}

static bool is_listed(const char *list, const char *method)
{
    size_t len = strlen(method);

    for (const char *at = list; (at = strstr(at, method)); at += len)
        if ((at == list || at[-1] == ' ') && (at[len] == ',' || at[len] == '\0'))
            return true;
    return false;
}

/* Adds a method to the list, which ends at `end`, unless it is there. Returns where it ends. */
static char *list_method(char *list, char *end, const char *method)
{
    if (is_listed(list, method) || (size_t)(list + ALLOW_MAX - end) < strlen(method) + 3)
        return end;
    if (end > list)
        end = stpcpy(end, ", ");
    return stpcpy(end, method);
}

/*
 * Names the methods of the routes that fit the path; each has one, or it would have been taken.
 * Returns whether there are any.
 */
static bool allow_methods(struct weir_http *ex, const char *path)
{
    char allow[ALLOW_MAX] = "";
    char *end = allow;

    for (size_t i = 0; i < ex->site->routes_len; i++) {
        const struct weir_http_route *route = route_at(ex->site, i);

        if (!path_fits(route, path))
            continue;
        end = list_method(allow, end, route->method);
        if (strcmp(route->method, "GET") == 0)
            end = list_method(allow, end, "HEAD");
    }
    return end > allow && weir_http_add_header(ex, "Allow", allow) == 0;
}

/* Returns 0 with ex->route set, or 404 or 405. */
static int find_route(struct weir_http *ex)
{
    const char *path = weir_http_path(ex);

    for (size_t i = 0; i < ex->site->routes_len; i++) {
        ex->route = route_at(ex->site, i);
        if (method_fits(ex, ex->route) && path_fits(ex->route, path))
            return 0;
    }
    return allow_methods(ex, path) ? 405 : 404;
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
    int status = find_route(ex);

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

/* Gives up the connection; handle_error hears of it unless the peer is to blame. */
static int exchange_fail(struct weir_http *ex, int error)
{
    ex->keep = false;
    ex->added_len = 0;          /* meant for the reply that is not made */
    if (ex->state == REPLY_NONE)
        reply_page(ex, error_status(ex, error));
    if (error != ex->error)
        return error;
    return ex->body.fault != 0 ? 0 : quiet(error);
}

/* Makes what a callback returned a complete reply. Returns 0 or -errno. */
static int exchange_complete(struct weir_http *ex, int r)
{
    if (r == 0 && ex->state == REPLY_DONE)
        return 0;
    if (r == 0 && ex->state == REPLY_STREAMING)
        r = end_stream(ex);
    else if (r >= 400 && r <= 599 && ex->state == REPLY_NONE)
        r = reply_page(ex, r);
    else if (r >= 0)
        r = -ENOMSG;            /* no reply, or a value that means nothing: a callback's defect */
    return r < 0 ? exchange_fail(ex, r) : 0;
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
        return refuse(req, r);
    r = exchange_complete(&ex, exchange_call(&ex));
    if (ex.keep)
        ex.keep = http_body_skip(&ex.body);
    if (!ex.keep && ex.body.kind != HTTP_BODY_NONE)
        linger(req);
    exchange_fini(&ex);
    return r == 0 && ex.keep ? WEIR_KEEP : r;
}

/* ------------------------------------------------------------------ a connection ------ */

/* What to do about a head that will never be complete. */
static int give_up(struct weir_request *req, ssize_t error, size_t arrived)
{
    if (arrived == 0)
        return quiet(error);
    if (error == 0)
        return refuse(req, 400);
    return error == -ETIMEDOUT ? refuse(req, 408) : quiet(error);
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
            return give_up(req, n < 0 ? n : 0, arrived);
        arrived = (size_t)n;
        if (*data == '\r') {
            arrived = skip_empty_lines(req, &data, arrived);
            if (arrived == 0)
                return WEIR_KEEP;
            http_scan_begin(&scan);     /* it may have seen a CR whose LF was missing */
        }
        status = http_scan(&scan, data, arrived, ret_len);
    } while (status == -EAGAIN);
    return status != 0 ? refuse(req, status) : 0;
}

/* Pipelined requests are a call each, so that each has the whole of request_timeout_ms. */
int weir_http_handle(struct weir_request *req)
{
    size_t len;
    int r = await_head(req, &len);

    return len > 0 ? exchange(req, len) : r;
}
