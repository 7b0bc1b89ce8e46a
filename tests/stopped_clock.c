/*
 * stopped_clock.c - see stopped_clock.h.
 */
#include "tests/stopped_clock.h"

#include "engine/base/clock.h"

uint64_t stopped_clock_ms = 1000;

uint64_t clock_ms(void)
{
    return stopped_clock_ms;
}

uint64_t clock_ns(void)
{
    return stopped_clock_ms * 1000000;
}

uint64_t clock_coarse_ms(void)
{
    return stopped_clock_ms;
}

int clock_timeout_ms(uint64_t until_ms, uint64_t now_ms)
{
    if (until_ms == CLOCK_NEVER)
        return -1;
    return until_ms <= now_ms ? 0 : (int)(until_ms - now_ms);
}
