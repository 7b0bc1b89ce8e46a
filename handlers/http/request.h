/*
 * request.h - heads of HTTP/1.x requests: what one says, once http_scan (scan.h) has found its end.
 *
 * What a lenient server would let pass is refused, because two programs that read one request
 * differently are how requests get smuggled.
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

/* The statuses that refuse a head; parse.h has 505, too. */
enum {
    HTTP_BAD_REQUEST = 400,
    HTTP_URI_TOO_LONG = 414,
    HTTP_EXPECTATION_FAILED = 417,
    HTTP_FIELDS_TOO_LARGE = 431,
    HTTP_NOT_IMPLEMENTED = 501,
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
    /*
     * Each can be terminated by a NUL in the byte behind it, and is the callback's to change. So
     * where an absolute target has none to spare, take_absolute (target.c) refers to other bytes of
     * the line, and conclude (request.c) writes there what is to be read:
     *   "GET http://host HTTP/1.1"      path is the '/' of "HTTP/1.1"
     *   "OPTIONS http://host HTTP/1.1"  that one, overwritten by '*' (asterisk)
     *   "GET http://host/path ..."      authority begins at the second '/' of "//", and is moved
     *                                   there: the '/' behind it is the path's first byte
     */
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

/*
 * http_read_head reads a head that http_scan found complete, of len bytes from its request line on.
 * Everything but `fields` of ret_head is filled in; after a failure its content means nothing.
 * Statuses: 400, 417 (an expectation other than 100-continue), 501 (method or transfer coding),
 * 505.
 *
 * An absolute target's authority is the value of the Host field, too, whatever was sent as that.
 */
int http_read_head(struct http_head *ret_head, char *data, size_t len);

/*
 * http_read_line reads one line of a head whose first line is at data: that one, or the field at
 * `at`. It ends before `end`, as http_scan has seen. Returns where the next line begins; or NULL,
 * with the status to refuse the head with in head->fault.
 */
const char *http_read_line(struct http_head *head, const char *data, const char *at,
                           const char *end);

#endif
