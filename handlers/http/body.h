/*
 * body.h - the body of a request, read as it arrives.
 *
 * Threads: the fiber of the request.
 * Owns:    the place in the stream; the stream is the request's.
 * Parks:   both reading calls; they flush what was written before they wait.
 */
#ifndef WEIR_HANDLERS_HTTP_BODY_H
#define WEIR_HANDLERS_HTTP_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <weir/weir.h>

#include "handlers/http/request.h"

struct http_body_reader {
    struct weir_request *req;
    uint64_t left;              /* of the body, or of the chunk that is being read */
    uint64_t room;              /* what may still be announced before it is too long */
    uint32_t overhead;          /* bytes of extensions and trailers skipped so far */
    enum http_body kind;        /* HTTP_BODY_NONE once it has been read to its end */
    bool first_chunk;           /* no chunk has been begun: no CRLF ends the one before */
    bool expect;                /* the peer waits for "100 Continue", or for the reply */
    int fault;                  /* the status for what is wrong with it, once it is */
};

/* http_body_init takes over from a head. Returns 0, or 413 when more than limit is announced. */
int http_body_init(struct http_body_reader *body, struct weir_request *req,
                   const struct http_head *head, uint64_t limit);

/* http_body_read: see weir_http_read_body. */
ssize_t http_body_read(struct http_body_reader *body, void *buf, size_t len);

/* http_body_skippable tells whether it is worth reading the rest to keep the connection. */
bool http_body_skippable(const struct http_body_reader *body);

/* http_body_skip reads it to its end. False: it is malformed, cut short or too long for that. */
bool http_body_skip(struct http_body_reader *body);

#endif
