/*
 * xorshift.h - numbers that look random, and are the same on every machine: Marsaglia's xorshift64.
 *
 * Threads: whose state it is.
 */
#ifndef WEIR_TESTS_XORSHIFT_H
#define WEIR_TESTS_XORSHIFT_H

#include <stdint.h>

/* The next number behind *state, which is never 0. */
static inline uint64_t xorshift(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
