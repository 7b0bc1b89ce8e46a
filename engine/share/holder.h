/*
 * holder.h - who has a lock, as far as it takes to see that a wait for it can't end.
 *
 * The word of a lock that somebody has holds an address on that one's stack, which costs nothing:
 * something has to stand there. Inside of the guard it tells who has it, for that one can't let go
 * meanwhile: what is found on the way to it stays.
 *
 * Threads: any.
 * Owns:    nothing.
 * Blocks:  never.
 */
#ifndef WEIR_HOLDER_H
#define WEIR_HOLDER_H

#include "engine/base/compiler.h"
#include "engine/pool/waiter.h"

#include <stdbool.h>
#include <stdint.h>

/* Frames are aligned to as much, so that the bits below are free for marks. */
#define HOLDER_MASK (~UINT64_C(15))

/* The caller, for a word. */
static WEIR_ALWAYS_INLINE uint64_t holder_here(void)
{
    return (uintptr_t)__builtin_frame_address(0) & HOLDER_MASK;
}

/* Who waits, for a word: the lock is to be its own. */
static inline uint64_t holder_of(const struct waiter *waiter)
{
    return waiter->frame & HOLDER_MASK;
}

/*
 * Returns true if the caller would hold up a worker's fibers by blocking: it is on that one's
 * thread, be it in a handler that is served within another one's.
 */
bool holder_blocks(const struct worker *worker);

/*
 * Returns true if the waiter, the caller's, waits for itself: it has the lock; or, where it would
 * block its thread, another handler on the same thread has, which could not go on meanwhile.
 * Inside, with the lock's word.
 */
bool holder_is_me(uint64_t word, const struct waiter *me);

#endif
