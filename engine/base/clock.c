#include "engine/base/clock.h"

#include <limits.h>

static uint64_t read_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now); /* cannot fail: the clock exists, the pointer is good */
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t clock_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t clock_ms(void)
{
    return clock_ns() / 1000000;
}

uint64_t clock_coarse_ms(void)
{
    return read_ns(CLOCK_MONOTONIC_COARSE) / 1000000;
}

uint64_t clock_of_thread_ns(clockid_t clock)
{
    return read_ns(clock);
}

int clock_timeout_ms(uint64_t until_ms, uint64_t now_ms)
{
    if (until_ms == CLOCK_NEVER)
        return -1;
    return (int)clock_earlier(clock_since(now_ms, until_ms), INT_MAX);
}
