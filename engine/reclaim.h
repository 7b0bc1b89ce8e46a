/*
 * reclaim.h - memory that other threads may still be looking at: freed after a grace period.
 *
 * A thin naming of liburcu's memb flavour, which needs no quiescent states: a handler that runs
 * for a minute stalls no grace period. It adds what ThreadSanitizer can't see for itself, since
 * liburcu's fences are inline assembly and a membarrier(2).
 *
 * Threads: reclaim_enter to reclaim_exit by a thread between reclaim_thread_init and _fini.
 * Blocks:  reclaim_start, while a thread is made; reclaim_before_fork, while memory is freed; _init
 *          and _fini, while another thread is in one of these. The others never.
 * Never:   park inside a section. Read-side nesting belongs to a pthread, not to a fiber.
 */
#ifndef WEIR_RECLAIM_H
#define WEIR_RECLAIM_H

#include <urcu/urcu-memb.h>

#define reclaim_head rcu_head

/*
 * Around a fork(2) whose child goes on to use all this. before returns 0, or -EPERM: other threads
 * are registered, and a child could free nothing any more. Then neither of the others is called.
 */
int reclaim_before_fork(void);
void reclaim_after_fork(void);
void reclaim_after_fork_in_child(void);

/*
 * Before anything is deferred: makes liburcu's thread, unless the process has it. 0, or -EAGAIN: no
 * thread could be had. liburcu alone would make it when it is first needed, and abort.
 */
int reclaim_start(void);

/* Nest freely: the outermost pair registers the thread. */
void reclaim_thread_init(void);
void reclaim_thread_fini(void);

/* What is reached between the two stays allocated until reclaim_exit. */
void reclaim_enter(void);
void reclaim_exit(void);

/* Calls fn(head) on liburcu's own thread when every section that has begun by now has ended. */
void reclaim_defer(struct reclaim_head *head, void (*fn)(struct reclaim_head *head));

/* To be called first in such an fn: everything that readers did comes before this. */
void reclaim_settle(void);

#endif
