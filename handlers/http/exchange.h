/*
 * exchange.h - a request and its reply: what the files of the public calls share of it.
 *
 * Threads: the fiber of the request.
 * Owns:    the copy of a head, and the fields that the callback has added: http.c frees them.
 * Parks:   what writes, when the buffer is full.
 */
#ifndef WEIR_HANDLERS_HTTP_EXCHANGE_H
#define WEIR_HANDLERS_HTTP_EXCHANGE_H

#include "handlers/http/body.h"
#include "handlers/http/http.h"
#include "handlers/http/request.h"

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
    int error;                  /* the last that was not the callback's doing */
    const char *mistake;        /* what was wrong with a call that was refused; NULL: none was */
    int mistake_error;          /* what that call returned */
    bool told;                  /* ... and handle_error was told */
    bool bodiless;              /* HEAD, or a status that says so: a reply's body is left out */
    bool keep;                  /* the connection, after this exchange */
};

/* Keeps the connection's error, to know it again when the callback returns it. */
static inline ssize_t exchange_noted(struct weir_http *ex, ssize_t r)
{
    if (r < 0)
        ex->error = (int)r;
    return r;
}

/* exchange_find_route returns 0 with ex->route set, or 404, 405 or -ENOMEM. */
int exchange_find_route(struct weir_http *ex);

/* exchange_end_stream ends a body that weir_http_begin began. Returns 0 or -errno. */
int exchange_end_stream(struct weir_http *ex);

/*
 * exchange_reply_page replies with the short page for a status, and a connection that stays if it
 * can. Returns 0 or -errno.
 */
int exchange_reply_page(struct weir_http *ex, int status);

#endif
