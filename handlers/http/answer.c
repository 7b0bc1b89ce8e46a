/*
 * answer.c - how a callback replies: the public calls that write, and what a reply's status, the
 * connection and the version of the peer say of its body and of what comes behind it.
 */
#include "handlers/http/exchange.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "handlers/http/grammar.h"
#include "handlers/http/mistake.h"
#include "handlers/http/reply.h"

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
        return mistake_tell(ex, -EALREADY, "added a field after it had begun its reply: call "
                            "weir_http_add_header before");
    if (!http_is_token(name, name_len) || !http_is_value(value, value_len))
        return mistake_note(ex, -EINVAL, "added a field with a character that none may have");
    if (is_made_by_reply(name))
        return mistake_note(ex, -EINVAL, "added Date, Connection, Content-Length, "
                            "Transfer-Encoding or Content-Type: the calls that reply make these");
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
        reply->framing = HTTP_FRAMING_LENGTH;   /* its end must be told all the same */
        reply->length = 0;
        ex->bodiless = true;
    }
}

/* Begins the reply with the head and as much of its body as is at hand. */
static int begin_answer(struct weir_http *ex, struct http_reply *reply, const void *body,
                        size_t len)
{
    if (ex->state != REPLY_NONE)
        return mistake_tell(ex, -EALREADY, "began a second reply: reply once, and return");
    reply->type_len = reply->type ? strlen(reply->type) : 0;
    if (reply->status < 200 || reply->status > 599)
        return mistake_note(ex, -EINVAL, "replied with a status outside 200 to 599");
    if (!http_is_value(reply->type, reply->type_len))
        return mistake_note(ex, -EINVAL, "replied with a type that has a character that none may "
                            "have");
    settle_body(ex, reply);
    if (reply->framing == HTTP_FRAMING_CLOSE)
        ex->keep = false;
    reply->connection = settle_connection(ex);
    reply->added = ex->added;
    reply->added_len = ex->added_len;
    ex->state = REPLY_DONE;
    return (int)exchange_noted(ex, http_reply_write(ex->req, reply, body, ex->bodiless ? 0 : len));
}

int weir_http_reply(struct weir_http *ex, int status, const char *type,
                    const void *body, size_t len)
{
    struct http_reply reply = {
        .status = status, .type = type, .framing = HTTP_FRAMING_LENGTH, .length = len };

    return begin_answer(ex, &reply, body, len);
}

int weir_http_reply_file(struct weir_http *ex, int status, const char *type,
                         int file_fd, off_t offset, size_t len)
{
    struct http_reply reply = {
        .status = status, .type = type, .framing = HTTP_FRAMING_LENGTH, .length = len };
    int r = begin_answer(ex, &reply, NULL, 0);
    ssize_t n;

    if (r < 0 || ex->bodiless)
        return r;
    n = exchange_noted(ex, weir_sendfile(ex->req, file_fd, offset, len));
    if (n >= 0 && (size_t)n == len)
        return 0;
    ex->keep = false;           /* the peer still waits for the rest */
    if (n < 0)
        return (int)n;
    return mistake_tell(ex, -EIO, "replied with more of a file than there is: give "
                        "weir_http_reply_file the length that is left behind the offset");
}

int weir_http_begin(struct weir_http *ex, int status, const char *type)
{
    struct http_reply reply = {
        .status = status, .type = type,
        .framing = ex->head.one_one ? HTTP_FRAMING_CHUNKED : HTTP_FRAMING_CLOSE };
    int r = begin_answer(ex, &reply, NULL, 0);

    if (r == 0)
        ex->state = REPLY_STREAMING;
    return r;
}

int weir_http_write(struct weir_http *ex, const void *buf, size_t len)
{
    ssize_t n;

    if (ex->state == REPLY_NONE)
        return mistake_tell(ex, -EINVAL, "wrote a piece before weir_http_begin");
    if (ex->state == REPLY_DONE)
        return mistake_tell(ex, -EINVAL, "wrote a piece after a reply that was whole: for pieces "
                            "begin it by weir_http_begin");
    if (ex->bodiless || len == 0)
        return 0;               /* an empty chunk would be the last one */
    if (ex->head.one_one)
        n = http_reply_chunk(ex->req, buf, len);
    else
        n = weir_write(ex->req, buf, len);
    return exchange_noted(ex, n) < 0 ? (int)n : 0;
}

int exchange_end_stream(struct weir_http *ex)
{
    ex->state = REPLY_DONE;
    if (!ex->head.one_one || ex->bodiless)
        return 0;
    return (int)exchange_noted(ex, http_reply_chunk(ex->req, NULL, 0));
}

int exchange_reply_page(struct weir_http *ex, int status)
{
    struct http_reply reply = {
        .status = status, .connection = settle_connection(ex),
        .added = ex->added, .added_len = ex->added_len };

    ex->state = REPLY_DONE;
    return (int)exchange_noted(ex, http_reply_page(ex->req, &reply, ex->bodiless));
}
