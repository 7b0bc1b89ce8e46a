/*
 * burn.h - what the benches' slow requests do: keep a CPU busy, as computing would.
 */
#ifndef WEIR_BENCH_BURN_H
#define WEIR_BENCH_BURN_H

#include <stdint.h>
#include <time.h>

enum { BURN_SLOW_MS = 10 };     /* of a slow request */

/* By the thread's own clock: whoever shares its CPU does not shorten the work. */
static inline int64_t burn_used_ns(void)
{
    struct timespec used;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
}

static inline void burn_ms(int ms)
{
    const int64_t until_ns = burn_used_ns() + (int64_t)ms * 1000000;

    while (burn_used_ns() < until_ns)
        ;
}

#endif
