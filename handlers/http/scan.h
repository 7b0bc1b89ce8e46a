/*
 * scan.h - heads of HTTP/1.x requests while they arrive: where one ends.
 *
 * The first of two passes over a head, each linear; http_read_head (request.h) is the second, when
 * all of it is there. A client that sends slowly is told of a bad line when that line is complete,
 * and by the same functions, so that the verdict does not depend on how the head was cut.
 *
 * Threads: any; no state but the arguments.
 * Owns:    nothing.
 * Blocks:  never.
 */
#ifndef WEIR_HANDLERS_HTTP_SCAN_H
#define WEIR_HANDLERS_HTTP_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "handlers/http/request.h"

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
 * http_scan_begin is the start. Field by field: gcc clears so large a struct by an instruction that
 * is slow to start. so_far waits for the first line, if one has to be read before the head is
 * complete.
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
 * byte, behind the empty lines that may come before it. Returns 0 when it is complete, in ret_len
 * bytes; -EAGAIN when more must come; or a status: 414 and 431 for the limits, 400 for a bare CR or
 * LF or a line that begins with a space, and what http_read_head would say to a line that came
 * before the head's last bytes did.
 */
int http_scan(struct http_scan *scan, const char *data, size_t len, size_t *ret_len);

#endif
