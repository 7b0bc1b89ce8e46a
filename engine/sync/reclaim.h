/*
 * reclaim.h - memory that other threads may still be looking at: freed after a grace period.
 *
 * Read-side sections and grace periods are liburcu's memb flavour, which needs no quiescent states:
 * a handler that runs for a minute stalls no grace period. Not its call_rcu: that ends the program
 * where its thread can't be had. Ours is made before it is needed, or else the thread that defers
 * something waits for the grace period by itself. This adds what ThreadSanitizer can't see, since
 * liburcu's fences are inline assembly and a membarrier(2).
 *
 * Threads: reclaim_enter to reclaim_exit by a thread between reclaim_thread_init and _fini; the
 *          others any.
 * Blocks:  reclaim_start, while a thread is made; reclaim_stop until it has ended, and all is
 *          freed; reclaim_before_fork, while memory is freed; _init and _fini, while another thread
 *          is in one of these; reclaim_defer, where no thread was started, for a grace period.
 * Never:   park inside a section, or defer there. Read-side nesting belongs to a pthread, not to a
 *          fiber.
 */
#ifndef WEIR_RECLAIM_H
#define WEIR_RECLAIM_H

#include <urcu/urcu-memb.h>

struct reclaim_head {
    struct reclaim_head *next;
    void (*fn)(struct reclaim_head *head);
};

/*
 * Around any fork(2): see process.h. The child can register, defer and start anew, whichever
 * threads were registered in the parent; what was deferred in the parent stays there.
 */
void reclaim_before_fork(void);
void reclaim_after_fork(void);
void reclaim_after_fork_in_child(void);

/*
 * Makes the thread that frees, unless another user has it: 0 or -errno. stop gives it back; the
 * last one ends it, with nothing left to be freed.
 */
int reclaim_start(void);
void reclaim_stop(void);

/* Nest freely: the outermost pair registers the thread. */
void reclaim_thread_init(void);
void reclaim_thread_fini(void);

/* What is reached between the two stays allocated until reclaim_exit. */
void reclaim_enter(void);
void reclaim_exit(void);

/* Calls fn(head) when every section that has begun by now has ended, mostly on the thread. */
void reclaim_defer(struct reclaim_head *head, void (*fn)(struct reclaim_head *head));

/* To be called first in such an fn: everything that readers did comes before this. */
void reclaim_settle(void);

#endif
