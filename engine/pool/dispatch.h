/*
 * dispatch.h - passes events on to the workers that handle them.
 *
 * A parked task's worker is told, by way of its inbox if that is another thread's; a kept
 * connection goes to the dispatching worker's batch, or through the ready queue to a worker that is
 * free.
 *
 * Threads: any that reclaim_thread_init has registered.
 */
#ifndef WEIR_DISPATCH_H
#define WEIR_DISPATCH_H

#include <stdint.h>

struct crew;
struct epoll_event;
struct worker;

/* Tokens of what is not a connection: below 2^32, and each a bit, so that several may be told. */
#define DISPATCH_WAKE UINT64_C(1)       /* a worker's eventfd */
#define DISPATCH_COMMON UINT64_C(2)     /* the crew's common set has events */
#define DISPATCH_SIDE_DOOR UINT64_C(4)  /* the first of CREW_SIDE_DOORS: clients wait there */

/* Whose token that is, or the first of theirs. */
static inline unsigned dispatch_side_door(uint64_t tokens)
{
    return (unsigned)__builtin_ctzll(tokens / DISPATCH_SIDE_DOOR);
}

/* self: the worker that the calling thread is, or NULL. Returns the tokens of the others. */
uint64_t dispatch(struct crew *crew, struct worker *self, const struct epoll_event *events, int n);

/* All that is ready in an epoll set of connections, self being NULL. Returns how many events. */
unsigned dispatch_all(struct crew *crew, int epoll_fd, uint64_t *ret_tokens);

/*
 * Takes all that a stuck worker has not begun over to the ready queue: its batch, and what is
 * ready in its epoll set. Returns how many connections.
 */
unsigned dispatch_rescue(struct worker *stuck);

#endif
