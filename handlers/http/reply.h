/*
 * reply.h - writes the head of a reply, and with it the body that is at hand.
 *
 * Threads: the fiber of the request.
 * Owns:    nothing.
 * Parks:   http_reply_write, when the buffer is full.
 */
#ifndef WEIR_HANDLERS_HTTP_REPLY_H
#define WEIR_HANDLERS_HTTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <weir/weir.h>

enum http_framing {
    HTTP_FRAMING_NONE,          /* the status says that there is no body */
    HTTP_FRAMING_LENGTH,
    HTTP_FRAMING_CHUNKED,
    HTTP_FRAMING_CLOSE,         /* until the connection ends */
};

enum http_connection {
    HTTP_CONNECTION_DEFAULT,    /* of the peer's version: nothing need be said */
    HTTP_CONNECTION_KEEP,
    HTTP_CONNECTION_CLOSE,
};

struct http_reply {
    int status;                 /* 200 to 599 */
    enum http_framing framing;
    enum http_connection connection;
    uint64_t length;            /* with HTTP_FRAMING_LENGTH */
    const char *type;           /* NULL: none */
    size_t type_len;
    const char *added;          /* more fields, each with its CRLF */
    size_t added_len;
};

/* http_reply_write writes the head and len bytes of body. Returns 0 or an error of weir_writev. */
int http_reply_write(struct weir_request *req, const struct http_reply *reply,
                     const void *body, size_t len);

/* http_reply_page writes the short page for a status: "404 Not Found". head: leave the page out. */
int http_reply_page(struct weir_request *req, struct http_reply *reply, bool head);

/* http_reply_chunk writes a chunk of len bytes; of 0 bytes it is the body's end. */
int http_reply_chunk(struct weir_request *req, const void *buf, size_t len);

#endif
