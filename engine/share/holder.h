/*
 * holder.h - who has a lock, as far as it takes to see that a wait for it can't end.
 *
 * A fiber is known by an address on its stack, any other thread of execution by its thread. Two
 * words, each written by who has the lock and by nobody else, and cleared before the lock is let
 * go: whoever finds itself there has it, whatever else is read. A word that is read late or beside
 * another's says too little, never too much.
 *
 * Threads: any; holder_set and holder_clear who has the lock.
 * Owns:    nothing.
 * Blocks:  never.
 */
#ifndef WEIR_HOLDER_H
#define WEIR_HOLDER_H

#include "engine/fiber/fiber.h"
#include "engine/pool/waiter.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct holder {
    _Atomic uintptr_t frame;    /* on the stack of who has the lock; 0: nobody, or not known yet */
    _Atomic uintptr_t thread;   /* pthread_self() of the same */
} __attribute__((may_alias));

static inline void holder_write(struct holder *holder, uintptr_t frame, uintptr_t thread)
{
    /* relaxed: for who finds itself there, and for people. pairs: holder_is_me() */
    atomic_store_explicit(&holder->frame, frame, memory_order_relaxed);
    atomic_store_explicit(&holder->thread, thread, memory_order_relaxed);
}

static inline void holder_set(struct holder *holder)
{
    holder_write(holder, (uintptr_t)__builtin_frame_address(0), (uintptr_t)pthread_self());
}

static inline void holder_clear(struct holder *holder)
{
    holder_write(holder, 0, 0);
}

/*
 * Returns true if the caller, whose waiter it is, waits for itself: it has the lock; or, where it
 * would block its thread, another handler on the same thread has, which could not go on meanwhile.
 */
bool holder_is_me(const struct holder *holder, const struct waiter *me);

#endif
