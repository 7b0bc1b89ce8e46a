/*
 * clock.h - the monotonic clock, in the two units that weir counts in.
 *
 * Threads: any, signal handlers too. Blocks: never.
 */
#ifndef WEIR_CLOCK_H
#define WEIR_CLOCK_H

#include <stdint.h>

/* CLOCK_MONOTONIC; clock_ms rounds down, so a deadline that is reached in it has really passed. */
uint64_t clock_ms(void);
uint64_t clock_ns(void);

/* The same clock as of the kernel's last tick: some milliseconds behind, and cheaper to ask. */
uint64_t clock_coarse_ms(void);

#endif
