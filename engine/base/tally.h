/*
 * tally.h - one thread's counters, read by any.
 *
 * Threads: tally_add by the one thread that the tally belongs to; tally_read by any.
 * Order:   none. Each count is right by itself; together they are a snapshot that moved a bit.
 */
#ifndef WEIR_TALLY_H
#define WEIR_TALLY_H

#include "engine/base/compiler.h"
#include "engine/base/statistics.h"

#include <stdatomic.h>
#include <stdint.h>

#define TALLY_KIND(kind, member, meaning) TALLY_##kind,
enum tally_kind {
    STATISTICS(TALLY_KIND, STATISTICS_NONE, STATISTICS_NONE)
    TALLY_KINDS,
};
#undef TALLY_KIND

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
