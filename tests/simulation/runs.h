/*
 * runs.h - runs of seeds, each in a process of its own: nothing is left of one in the next.
 *
 * Threads: the one of main. Blocks: until runs are over.
 */
#ifndef WEIR_SIMULATION_RUNS_H
#define WEIR_SIMULATION_RUNS_H

#include "tests/simulation/world.h"

#include <stdbool.h>
#include <stdint.h>

#define RUNS_JOBS 64

/* One run, as it is wanted. */
struct run {
    uint64_t seed;
    uint32_t with, without;     /* features, bit by bit */
    uint32_t clients;           /* at most; 0: as the seed says */
    uint32_t drop_in;           /* the kernel drops an edge once in so many; 0: never */
    uint32_t events;            /* printed before a failure */
    bool aloud;                 /* every event is printed */
};

/* Once, before any run. */
void runs_prepare(void);

/* Runs it, and waits. Returns true if all was as it should be. */
bool runs_one(const struct run *run, struct world_result *ret);

/* The same for many, side by side: until next says that there are no more (false). */
struct runs_many {
    unsigned jobs;
    bool (*next)(void *arg, struct run *ret);
    void (*over)(void *arg, const struct run *run, bool passed, const struct world_result *result);
    void *arg;
};

void runs_many(const struct runs_many *many);

#endif
