/*
 * clock.h - the monotonic clock, in the two units that weir counts in.
 *
 * Threads: any, signal handlers too. Blocks: never.
 */
#ifndef WEIR_CLOCK_H
#define WEIR_CLOCK_H

#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC; clock_ms rounds down, so a deadline that is reached in it has really passed. */
uint64_t clock_ms(void);
uint64_t clock_ns(void);

/* The same clock as of the kernel's last tick: some milliseconds behind, and cheaper to ask. */
uint64_t clock_coarse_ms(void);

/* How far it may be behind: a tick of the slowest kernels, and what clock_..._ms rounds off. */
#define CLOCK_COARSE_LAG_MS 11

/* What has passed by the clock of a thread's CPU time (pthread_getcpuclockid), while it lives. */
uint64_t clock_of_thread_ns(clockid_t clock);

/* A moment in milliseconds that never comes. */
#define CLOCK_NEVER UINT64_MAX

static inline uint64_t clock_earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The shorter of two timeouts, of which 0 means for ever. */
static inline uint32_t clock_shorter_ms(uint32_t a_ms, uint32_t b_ms)
{
    return b_ms > 0 && (a_ms == 0 || b_ms < a_ms) ? b_ms : a_ms;
}

/*
 * What has passed since then; 0 if that is later than now. Of two moments that were not read one
 * after the other either may be the earlier one: a turn's time is older than what began in the
 * turn.
 */
static inline uint64_t clock_since(uint64_t then, uint64_t now)
{
    return now > then ? now - then : 0;
}

/* A moment, or a span, as calls take it that count in seconds and nanoseconds. */
static inline struct timespec clock_timespec(uint64_t ms)
{
    return (struct timespec){
        .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000,
    };
}

/* From now until then as epoll_wait(2) and poll(2) take it: 0 if it has passed, -1 for never. */
int clock_timeout_ms(uint64_t until_ms, uint64_t now_ms);

#endif
