/*
 * misuse.h - calls on a request by somebody else than its handler, or after that has ended.
 *
 * A request belongs to one handler, on one fiber, until that handler has ended. Such a call may
 * seem to work until it has to wait: then it would park a fiber that isn't running. task.c finds
 * that in any case. request.c looks at every call in builds with assertions, and where the
 * environment says WEIR_CHECK=1: a call from another fiber or thread, and a request that is over,
 * for which this module keeps the set of those that are not. The address of one that is over would
 * soon be that of a new one, on the same stack or of the same size: so with WEIR_CHECK=1 requests
 * are in the heap, and the memory of the last MISUSE_KEPT that have ended is not freed.
 *
 * Threads: any.
 * Owns:    the set of requests that may be used, known by their addresses; the memory of those that
 *          have ended.
 * Blocks:  never, except to write the last line.
 */
#ifndef WEIR_MISUSE_H
#define WEIR_MISUSE_H

#include <stdbool.h>
#include <stddef.h>

/* True while calls are looked at. Written before anything is served. */
extern bool misuse_is_looked_for;

/* Has calls looked at if the environment says WEIR_CHECK=1. Returns true if it says so. */
bool misuse_read_environment(void);

/* Returns true if it said so: whatever is looked at may cost time and memory. */
bool misuse_is_thorough(void);

/*
 * A request may be used from misuse_note_begin until misuse_note_end; both are called only while
 * calls are looked at. misuse_has_ended returns true if it may not be used: also false if there
 * were more requests at once than the set has room for.
 */
void misuse_note_begin(const void *req);
void misuse_note_end(const void *req);
bool misuse_has_ended(const void *req);

/*
 * Returns memory for a request; NULL: there is none, or WEIR_CHECK is not 1 and any will do.
 * misuse_free takes what is malloc(3)'s, from here or not, of a request that has ended. With
 * WEIR_CHECK=1 it is freed only when MISUSE_KEPT others have ended since.
 */
#define MISUSE_KEPT ((size_t)1 << 16)
void *misuse_allocate(size_t size);
void misuse_free(void *req);

/* Writes a line that begins with "weir: " to standard error, and aborts. */
_Noreturn void misuse_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* This thread has written a line that explains the abort to come. Signal handlers, too. */
void misuse_note_told(void);
bool misuse_is_told(void);

#endif
