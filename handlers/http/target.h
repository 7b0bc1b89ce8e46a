/*
 * target.h - what a request line asks for: the forms of a target.
 *
 * Threads: any; no state but the arguments.
 * Owns:    nothing; the head refers to the caller's bytes by offsets.
 * Blocks:  never.
 */
#ifndef WEIR_HANDLERS_HTTP_TARGET_H
#define WEIR_HANDLERS_HTTP_TARGET_H

#include <string.h>

#include "handlers/http/parse.h"
#include "handlers/http/request.h"

/* http_take_path splits "/path?query", which ends at `end`. */
static inline void http_take_path(struct http_head *head, const char *data, const char *path,
                                  const char *end)
{
    const char *mark = memchr(path, '?', (size_t)(end - path));

    head->path = (uint16_t)(path - data);
    head->path_len = (uint16_t)((mark ? mark : end) - path);
    if (mark) {
        head->query = (uint16_t)(mark + 1 - data);
        head->query_len = (uint16_t)(end - mark - 1);
    }
}

/*
 * http_take_target reads the target of a line that begins at data, in each of its forms, into the
 * head. Returns 0, or the status to refuse it with: 400, 501 (CONNECT).
 */
int http_take_target(struct http_head *head, const char *data,
                     const struct http_request_line *line);

#endif
