/*
 * mistake.h - what a callback did that it should not have: one line that names its route.
 *
 * Threads: the fiber of the request.
 * Owns:    nothing. Sentences are literals: the exchange keeps a pointer to one.
 * Parks:   never, unless handle_error does.
 */
#ifndef WEIR_HANDLERS_HTTP_MISTAKE_H
#define WEIR_HANDLERS_HTTP_MISTAKE_H

#include "handlers/http/exchange.h"

/*
 * mistake_note remembers what is wrong with a call that is refused, for it depends on the callback
 * whether that matters: it may well have tried what its peer gave it. Returns error.
 */
int mistake_note(struct weir_http *ex, int error, const char *sentence);

/*
 * mistake_tell is for a call that no callback means, such as a second reply: handle_error is told
 * at once, in case the callback does not look at what the call returns. Of an exchange it is told
 * one mistake, the first. Returns error.
 */
int mistake_tell(struct weir_http *ex, int error, const char *sentence);

/* mistake_tell_return tells handle_error that the callback returned r, which error stands for. */
void mistake_tell_return(struct weir_http *ex, int r, int error);

#endif
