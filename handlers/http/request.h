/*
 * request.h - heads of HTTP/1.x requests: where one ends, and what it says.
 *
 * Two passes over a head, each linear: http_scan finds its end while it arrives; http_read_head then
 * reads the complete head. Whoever sends slowly is told of a bad line when that line is complete,
 * and by the same functions, so that the verdict does not depend on how the head was cut. What a
 * lenient server would let pass is refused, because two programs that read one request differently
 * are how requests get smuggled.
 *
 * Threads: any; no state but the arguments.
 * Owns:    nothing. A head refers to the caller's bytes by offsets, so these may be moved.
 * Blocks:  never.
 * Returns: 0, or the HTTP status to refuse the request with.
 */
#ifndef WEIR_HANDLERS_HTTP_REQUEST_H
#define WEIR_HANDLERS_HTTP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP_LINE_MAX = 8192,           /* bytes of a request line, its CRLF included: else 414 */
    HTTP_FIELDS_MAX = 100,          /* header fields of a request: else 431 */
    HTTP_FIELDS_SIZE_MAX = 32768,   /* bytes of all of them and the empty line: else 431 */
    HTTP_HEAD_MAX = HTTP_LINE_MAX + HTTP_FIELDS_SIZE_MAX,
};

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
    uint16_t authority, authority_len;  /* of an absolute target; authority 0: none */
    uint16_t fault;                 /* the status for the line that could not be read */
    bool one_one;                   /* HTTP/1.1 or a later 1.x */
    bool keep;                      /* the peer would like the connection to stay */
    bool expect;                    /* it waits for "100 Continue" */
    bool asterisk;                  /* OPTIONS of a whole URI that is a host alone */
    bool host, length, coding;      /* these fields have been seen */
    bool says_close, says_keep;     /* Connection does */
};

/* How far a head has arrived. */
struct http_scan {
    uint32_t fields;                /* where the header fields begin */
    uint32_t line;                  /* where the line that is still incomplete began */
    uint32_t seen;                  /* bytes searched for its end */
    uint32_t lines;                 /* complete ones */
    uint32_t judged_lines;          /* up to here lines were read, since more had to be awaited */
    uint32_t judged_bytes;          /* and of the incomplete one up to here the bytes looked at */
    struct http_head so_far;        /* what the former said */
};

/*
 * http_scan_begin is the start. Field by field: gcc clears so large a struct by an instruction that is
 * slow to start. so_far waits for the first line, if one has to be read before the head is complete.
 */
static inline void http_scan_begin(struct http_scan *scan)
{
    scan->fields = 0;
    scan->line = 0;
    scan->seen = 0;
    scan->lines = 0;
    scan->judged_lines = 0;
    scan->judged_bytes = 0;
}

/*
 * http_scan looks at the bytes that came since the last call; data is the head from its first
 * byte, behind the empty lines that may come before it. Returns 0 when it is complete, in ret_len bytes; -EAGAIN when more must come; or a status:
 * 414 and 431 for the limits, 400 for a bare CR or LF or a line that begins with a space, and what
 * http_read_head would say to a line that came before the head's last bytes did.
 */
int http_scan(struct http_scan *scan, const char *data, size_t len, size_t *ret_len);

/*
 * http_read_head reads a head that http_scan found complete, of len bytes from its request line on.
 * Everything but `fields` of ret_head is filled in; after a failure its content means nothing.
 * Statuses: 400, 417 (an expectation other than 100-continue), 501 (method or transfer coding), 505.
 *
 * An absolute target's authority is the value of the Host field, too, whatever was sent as that. In
 * data it is moved by a byte, so that it can be terminated without a loss to the path behind it.
 */
int http_read_head(struct http_head *ret_head, char *data, size_t len);

#endif
