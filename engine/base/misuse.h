/*
 * misuse.h - what a program does with a request that is not its handler's.
 *
 * A request belongs to one handler, on one fiber, until that has ended. Whoever else makes a call
 * on it may seem to get away with it until the call has to wait: it would park a fiber that isn't
 * running. That is found out in any case (task.c). The rest is looked for in builds with
 * assertions, and where the environment says WEIR_CHECK=1.
 *
 * Threads: any.
 * Owns:    the set of requests that may be used, known by their addresses.
 * Blocks:  never, but to write the last line.
 */
#ifndef WEIR_MISUSE_H
#define WEIR_MISUSE_H

#include <stdbool.h>

/* Is it looked for? Written before anything is served. */
extern bool misuse_is_looked_for;

/* Reads the environment. Returns whether it says WEIR_CHECK=1. */
bool misuse_read_environment(void);

/* While it is looked for: from when, and until when, a request may be used. */
void misuse_note_begin(const void *req);
void misuse_note_end(const void *req);
bool misuse_has_ended(const void *req);

/* Says so, in a line that begins with "weir: ", and aborts. */
_Noreturn void misuse_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
