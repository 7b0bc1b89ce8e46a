/*
 * stopped_clock.h - in the place of engine/base/clock.c: time passes where a test says so.
 *
 * Threads: the one there is.
 */
#ifndef WEIR_TESTS_STOPPED_CLOCK_H
#define WEIR_TESTS_STOPPED_CLOCK_H

#include <stdint.h>

/* What all three clocks say. It may be set forward. */
extern uint64_t stopped_clock_ms;

#endif
