/*
 * pace.c - see pace.h.
 */
#include "tools/load/pace.h"

/* In 128 bits: the product of nanoseconds and a rate does not fit into 64 after some hours. */
uint64_t pace_scale(uint64_t value, uint64_t times, uint64_t by)
{
    return (uint64_t)((unsigned __int128)value * times / by);
}

uint64_t pace_next_ns(const struct pace *pace)
{
    return pace->count > 0 ? pace->start_ns + pace_scale(pace->done, pace->per_ns, pace->count)
                           : PACE_NEVER;
}

uint64_t pace_due(const struct pace *pace, uint64_t now_ns)
{
    uint64_t due;

    if (pace->count == 0 || now_ns < pace->start_ns)
        return 0;
    due = pace_scale(now_ns - pace->start_ns, pace->count, pace->per_ns) + 1;
    return due > pace->done ? due - pace->done : 0;
}
