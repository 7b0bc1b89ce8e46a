/*
 * parse.h - the adapter of the parser's library: request lines.
 *
 * Threads: any; no state but the arguments.
 * Owns:    nothing; the target is a piece of the caller's line.
 * Blocks:  never.
 */
#ifndef WEIR_HANDLERS_HTTP_PARSE_H
#define WEIR_HANDLERS_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>

struct http_request_line {
    const char *method;             /* static */
    const char *target;
    size_t target_len;              /* at least 1 */
    bool one_one;                   /* HTTP/1.1 or a later 1.x */
};

/*
 * http_parse_request_line reads a line of len bytes, its CRLF included. Returns 0, or the status to
 * refuse it with: 400, 501 (a method that the library does not know), 505.
 */
int http_parse_request_line(const char *line, size_t len, struct http_request_line *ret);

#endif
