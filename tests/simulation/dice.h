/*
 * dice.h - where every choice of a run comes from: one 64-bit seed.
 *
 * Threads: one; all of a simulation runs on one thread of the system. Blocks: never.
 */
#ifndef WEIR_SIMULATION_DICE_H
#define WEIR_SIMULATION_DICE_H

#include <stdbool.h>
#include <stdint.h>

/* A stream of numbers. Two with different seeds have nothing to do with one another. */
struct dice {
    uint64_t state;
};

void dice_init(struct dice *dice, uint64_t seed);

uint64_t dice_roll(struct dice *dice);

/* 0 to below `below`, which is at least 1. */
uint64_t dice_below(struct dice *dice, uint64_t below);

/* From the least to the most, both included. */
uint64_t dice_between(struct dice *dice, uint64_t least, uint64_t most);

/* True once in `in` times; never, if that is 0. */
bool dice_once_in(struct dice *dice, uint64_t in);

/* At least 1; as often below `middle` as above: small ones often, now and then a large one. */
uint64_t dice_around(struct dice *dice, uint64_t middle);

#endif
