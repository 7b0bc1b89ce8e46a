/*
 * waiter.h - who waits for something that another fiber or thread hands over.
 *
 * A waiter lives on the stack of who waits. On a fiber of a pool it parks; on any other thread, be
 * it the program's own, one of weir_offload, or a handler's on its thread's own stack, it blocks in
 * a futex. Who hands over need not know which.
 *
 * Whoever has an object that waiters wait for decides under that object's own lock who gets it, and
 * hands it over once the lock is free: exactly once for each waiter that was chosen. A waiter whose
 * wait has ended otherwise takes itself out under that lock; if it was chosen meanwhile it awaits
 * what is on its way. So nothing is lost and nothing comes twice (tests/models/wait_list.pml).
 *
 * The hand-over is the last that is done with a waiter: it and its stack may be gone at once.
 *
 * Threads: waiter_hand_over any; the others whose waiter it is.
 * Owns:    nothing.
 * Parks:   waiter_wait and waiter_await.
 */
#ifndef WEIR_WAITER_H
#define WEIR_WAITER_H

#include "engine/pool/task.h"
#include "engine/sync/inbox.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct waiter {
    struct task *task;          /* whose fiber or thread it is; NULL: a thread without one */
    struct message told;        /* by another thread, to the task's worker: it has arrived */
    _Atomic uint32_t stage;     /* enum waiter_stage; the futex of one that blocks */
    int value;                  /* that was handed over with it */
    uintptr_t frame;            /* on the stack of who waits */
    uintptr_t stack_begin;      /* of one that blocks: its thread's */
    size_t stack_size;
};

/* The caller's. */
void waiter_init(struct waiter *waiter);

/* Returns true if it parks, and false if it blocks. */
static inline bool waiter_parks(const struct waiter *waiter)
{
    return waiter->task && waiter->task->fiber;
}

/*
 * 0: it has been handed over, and waiter->value came with it. -ETIMEDOUT: deadline_ms (0: none) has
 * passed, -ECANCELED: the server has cancelled its handlers; then it may yet be handed over.
 */
int waiter_wait(struct waiter *waiter, uint64_t deadline_ms);

/* Until it has been handed over, whatever else happens. Returns waiter->value. */
int waiter_await(struct waiter *waiter);

void waiter_hand_over(struct waiter *waiter, int value);

#endif
