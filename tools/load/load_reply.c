/*
 * load_reply.c - see load_reply.h.
 */
#include "tools/load/load_reply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/load/load_line.h"

enum {
    HEAD_MAX = 8 * 1024,        /* a longer head is an error */
    HTTP_SWITCHING = 101,
    HTTP_OK = 200,
};

int replies_init(struct replies *replies, const struct lane *lane)
{
    const struct load_options *options = lane->options;

    *replies = (struct replies){ .mode = options->mode };
    if (options->mode == LOAD_HTTP) {
        replies->body_len = options->size;
        replies->have_body_len = options->size > 0;
        return 0;
    }
    replies->line_len = line_len(lane);
    replies->line = malloc(replies->line_len);
    if (!replies->line)
        return -ENOMEM;
    line_init(replies->line, replies->line_len);
    line_answer(replies->line, replies->line_len, options->mode);
    return 0;
}

void replies_fini(struct replies *replies)
{
    free(replies->line);
}

void reply_begin(struct reply *reply)
{
    reply->in_body = reply->until_end = reply->closes = false;
    reply->got = 0;
    reply->head_len = 0;
}

void reply_fini(struct reply *reply)
{
    free(reply->head);
}

static ssize_t take_line(struct replies *replies, struct reply *reply, uint32_t number,
                         size_t gone_out, const char *text, size_t len,
                         enum load_error *ret_error)
{
    size_t left = gone_out - reply->got;
    size_t n = len < left ? len : left;

    line_stamp(replies->line, number);
    if (memcmp(text, replies->line + reply->got, n) != 0) {
        *ret_error = LOAD_WRONG_REPLY;
        return -1;
    }
    reply->got += n;
    replies->last_len = replies->line_len;
    return (ssize_t)n;
}

static int head_error(struct replies *replies, const struct http_head *head,
                      enum load_error *ret_error)
{
    if (head->status != HTTP_OK) {
        *ret_error = LOAD_WRONG_STATUS;
        return -1;
    }
    if (head->until_end)
        return 0;
    if (!replies->have_body_len) {
        replies->have_body_len = true;
        replies->body_len = head->body_len;
    }
    if (head->body_len != replies->body_len) {
        *ret_error = LOAD_WRONG_LENGTH;
        return -1;
    }
    return 0;
}

/* The same head as the last time, as servers mostly send, needs no second reading. */
static int read_head(struct replies *replies, const char *text, size_t len,
                     struct http_head *ret_head)
{
    size_t known_len = replies->known_head.len;
    int r;

    if (known_len > 0 && len >= known_len && memcmp(text, replies->known, known_len) == 0) {
        *ret_head = replies->known_head;
        return 1;
    }
    r = http_head_read(text, len, ret_head);
    if (r == 1 && ret_head->len <= REPLY_KNOWN_MAX) {
        replies->known_head = *ret_head;
        memcpy(replies->known, text, ret_head->len);
    }
    return r;
}

/* A head that came in pieces is put together in a buffer of the connection's own. */
static ssize_t gather_head(struct reply *reply, const char *text, size_t len)
{
    size_t n = HEAD_MAX - reply->head_len;

    if (n > len)
        n = len;
    if (!reply->head)
        reply->head = malloc(HEAD_MAX);
    if (!reply->head || n == 0)
        return -1;
    memcpy(reply->head + reply->head_len, text, n);
    reply->head_len += n;
    return (ssize_t)n;
}

/* The answer is still to come: RFC 9110, 15.2. Only 101 is the last of HTTP. */
static bool is_interim(const struct http_head *head)
{
    return head->status >= 100 && head->status < HTTP_OK && head->status != HTTP_SWITCHING;
}

static ssize_t take_head(struct replies *replies, struct reply *reply, const char *text,
                         size_t len, enum load_error *ret_error)
{
    size_t before = reply->head_len;
    struct http_head head;
    int r;

    *ret_error = LOAD_UNREADABLE;
    if (before > 0) {
        if (gather_head(reply, text, len) < 0)
            return -1;
        r = read_head(replies, reply->head, reply->head_len, &head);
    } else {
        r = read_head(replies, text, len, &head);
    }
    if (r < 0 || (r == 1 && head.len > HEAD_MAX))
        return -1;
    if (r == 0)
        return before > 0 ? (ssize_t)(reply->head_len - before) : gather_head(reply, text, len);
    reply->head_len = 0;
    if (is_interim(&head))
        return (ssize_t)(head.len - before);
    if (head_error(replies, &head, ret_error) < 0)
        return -1;
    reply->in_body = true;
    reply->got = 0;
    reply->body_len = head.body_len;
    reply->until_end = head.until_end;
    reply->closes = head.closes;
    replies->last_len = head.len + head.body_len;
    return (ssize_t)(head.len - before);
}

static ssize_t take_body(struct reply *reply, size_t len)
{
    uint64_t left = reply->until_end ? len : reply->body_len - reply->got;

    if (left > len)
        left = len;
    reply->got += left;
    return (ssize_t)left;
}

ssize_t reply_take(struct replies *replies, struct reply *reply, uint32_t number, size_t gone_out,
                   const char *text, size_t len, enum load_error *ret_error)
{
    if (replies->mode != LOAD_HTTP)
        return take_line(replies, reply, number, gone_out, text, len, ret_error);
    if (!reply->in_body)
        return take_head(replies, reply, text, len, ret_error);
    return take_body(reply, len);
}

bool reply_complete(const struct replies *replies, const struct reply *reply)
{
    if (replies->mode == LOAD_HTTP)
        return reply->in_body && !reply->until_end && reply->got == reply->body_len;
    return reply->got == replies->line_len;
}

int reply_ends(struct replies *replies, const struct reply *reply, enum load_error *ret_error)
{
    if (!reply->in_body || !reply->until_end) {
        *ret_error = LOAD_CLOSED;
        return -1;
    }
    if (!replies->have_body_len) {
        replies->have_body_len = true;
        replies->body_len = reply->got;
    }
    if (reply->got != replies->body_len) {
        *ret_error = LOAD_WRONG_LENGTH;
        return -1;
    }
    return 0;
}
