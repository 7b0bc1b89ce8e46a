/*
 * plain.h - request lines as nearly all clients send them, read without the parser's library.
 *
 * Threads: any; no state but the arguments.
 * Owns:    nothing.
 * Blocks:  never.
 */
#ifndef WEIR_HANDLERS_HTTP_PLAIN_H
#define WEIR_HANDLERS_HTTP_PLAIN_H

#include "handlers/http/request.h"

/*
 * http_take_plain_line reads the request line at data into the head, if it is a plain one. `end` is
 * behind the bytes that have arrived, and a whole line is among them. Returns where the next line
 * begins, or NULL: the line is not plain, and the head is as it was.
 */
const char *http_take_plain_line(struct http_head *head, const char *data, const char *end);

#endif
