/*
 * http_head.h - what a client has to know of a response's head: how it ended, and where the next
 * one begins.
 *
 * Threads: any. Owns: nothing.
 */
#ifndef WEIR_LOAD_HTTP_HEAD_H
#define WEIR_LOAD_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_head {
    size_t len;                 /* with the empty line at its end */
    int status;
    bool closes;                /* the connection ends behind this response */
    bool until_end;             /* the body has no length: it ends with the connection */
    uint64_t body_len;
};

/*
 * http_head_read looks at the beginning of a response. Returns 1, 0: there is more to come,
 * -EBADMSG: that is no response, or -EOPNOTSUPP: its body comes in chunks.
 */
int http_head_read(const char *text, size_t len, struct http_head *ret_head);

#endif
