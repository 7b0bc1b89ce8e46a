/*
 * pace.h - things that are due at constant intervals.
 *
 * Threads: any; a pace is its owner's.
 */
#ifndef WEIR_LOAD_PACE_H
#define WEIR_LOAD_PACE_H

#include <stdint.h>

#define PACE_NEVER UINT64_MAX

/* Things due at constant intervals: count of them each per_ns, the first at start_ns. */
struct pace {
    uint64_t start_ns, per_ns;
    uint64_t count;             /* 0: none is ever due */
    uint64_t done;              /* of them, those dealt with */
};

/* When the first that is not done yet is due, and how many of those are by now. */
uint64_t pace_next_ns(const struct pace *pace);
uint64_t pace_due(const struct pace *pace, uint64_t now_ns);

/* value * times / by, of which the product does not have to fit into 64 bits. */
uint64_t pace_scale(uint64_t value, uint64_t times, uint64_t by);

#endif
