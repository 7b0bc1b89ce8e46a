/*
 * http_parse.h - the grammar of HTTP/1.x requests, and the one place that knows the parser library.
 *
 * Two passes over a head, each linear: http_scan finds its end while it arrives and settles what
 * lines are; http_parse_head then reads the complete head, with the library unless it is of the
 * plainest kind, and settles what they mean. What the library lets through in the name
 * of old peers is refused here, because two programs that read one request differently are how
 * requests get smuggled.
 *
 * Threads: any; no state but the arguments.
 * Owns:    nothing. A head refers to the caller's bytes by offsets, so these may be moved.
 * Blocks:  never.
 * Returns: 0, or the HTTP status to refuse the request with.
 */
#ifndef WEIR_HANDLERS_HTTP_PARSE_H
#define WEIR_HANDLERS_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP_LINE_MAX = 8192,           /* bytes of a request line, its CRLF included: else 414 */
    HTTP_FIELDS_MAX = 100,          /* header fields of a request: else 431 */
    HTTP_FIELDS_SIZE_MAX = 32768,   /* bytes of all of them and the empty line: else 431 */
    HTTP_HEAD_MAX = 2 + HTTP_LINE_MAX + HTTP_FIELDS_SIZE_MAX,
};

/* How far a head has arrived. Zero is the start. */
struct http_scan {
    uint32_t start;                 /* of the request line: one empty line before it is skipped */
    uint32_t fields;                /* where the header fields begin */
    uint32_t line;                  /* where the line that is still incomplete began */
    uint32_t seen;                  /* bytes searched for its end */
    uint32_t lines;                 /* complete ones */
};

/*
 * http_scan looks at the bytes that came since the last call; data is the head from its first
 * byte. Returns 0 when it is complete, in ret_len bytes; -EAGAIN when more must come; or a status:
 * 400 for a bare CR or LF or a line that begins with a space, 414 and 431 for the limits.
 */
int http_scan(struct http_scan *scan, const char *data, size_t len, size_t *ret_len);

struct http_field {
    uint16_t name, name_len;
    uint16_t value, value_len;      /* without the white space around it; an empty one is the ':' */
};

enum http_body { HTTP_BODY_NONE, HTTP_BODY_LENGTH, HTTP_BODY_CHUNKED };

struct http_head {
    struct http_field *fields;      /* the caller's: HTTP_FIELDS_MAX of them */
    const char *method;             /* static */
    uint64_t body_len;              /* with HTTP_BODY_LENGTH */
    enum http_body body;
    uint32_t fields_len;
    uint16_t path, path_len;        /* never empty */
    uint16_t query, query_len;      /* query 0: none */
    bool one_one;                   /* HTTP/1.1 or a later 1.x */
    bool keep;                      /* the peer would like the connection to stay */
    bool expect;                    /* it waits for "100 Continue" */
};

/*
 * http_parse_head reads a complete head of len bytes, beginning at its request line. Everything
 * but `fields` of ret_head is filled in; after a failure its content means nothing. Statuses: 400,
 * 417 (an expectation other than 100-continue), 501 (method or transfer coding), 505.
 */
int http_parse_head(struct http_head *ret_head, const char *data, size_t len);

#endif
