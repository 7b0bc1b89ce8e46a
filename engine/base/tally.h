/*
 * tally.h - one thread's counters, read by any.
 *
 * Threads: tally_add by the one thread that the tally belongs to; tally_read by any.
 * Order:   none. Each count is right by itself; together they are a snapshot that moved a bit.
 */
#ifndef WEIR_TALLY_H
#define WEIR_TALLY_H

#include "engine/base/compiler.h"

#include <stdatomic.h>
#include <stdint.h>

enum tally_kind {
    TALLY_ACCEPTED, TALLY_REFUSED, TALLY_HANDLED, TALLY_CLOSED,
    TALLY_VERIFY_ERRORS, TALLY_SETUP_ERRORS, TALLY_HANDLE_ERRORS, TALLY_FINISH_ERRORS,
    TALLY_ACCEPT_ERRORS, TALLY_TIMEOUTS, TALLY_CANCELLED, TALLY_RESCUED, TALLY_STALLS,
    TALLY_RESETS, TALLY_NO_MEMORY, TALLY_FULL, TALLY_MADE_ROOM, TALLY_TRUNCATED,
    TALLY_BYTES_IN, TALLY_BYTES_OUT, TALLY_BUSY_NS,
    TALLY_KINDS,
};

struct tally {
    _Alignas(WEIR_CACHE_LINE) _Atomic uint64_t counts[TALLY_KINDS];
};

static inline uint64_t tally_read(const struct tally *tally, enum tally_kind kind)
{
    /* relaxed: see Order above. pairs: none */
    return atomic_load_explicit(&tally->counts[kind], memory_order_relaxed);
}

static inline void tally_add(struct tally *tally, enum tally_kind kind, uint64_t n)
{
    /* relaxed, and no read-modify-write: there is one writer. pairs: none */
    atomic_store_explicit(&tally->counts[kind], tally_read(tally, kind) + n,
                          memory_order_relaxed);
}

/* Adds what another has counted, which nobody adds to any more. */
static inline void tally_merge(struct tally *tally, const struct tally *ended)
{
    for (int kind = 0; kind < TALLY_KINDS; kind++)
        tally_add(tally, (enum tally_kind)kind, tally_read(ended, (enum tally_kind)kind));
}

#endif
