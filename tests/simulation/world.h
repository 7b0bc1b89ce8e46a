/*
 * world.h - one run: a server, its clients, and what goes wrong, all from one seed.
 *
 * Each run has some of the features only, so that what one of them hides another run shows (swarm
 * testing: Groce and others, 2012). Each feature draws its numbers from the seed and its own name
 * alone: a run without one of them is otherwise the same, which the shrinker counts on.
 *
 * Threads: one. Blocks: until the run is over. Once in a process.
 */
#ifndef WEIR_SIMULATION_WORLD_H
#define WEIR_SIMULATION_WORLD_H

#include <stdint.h>

enum feature {
    FEATURE_PREEMPTION,     /* threads lose the CPU between two instructions */
    FEATURE_PRIORITIES,     /* ... to one with a higher priority */
    FEATURE_STALLS,         /* threads lose it for long */
    FEATURE_TIME,           /* each step takes some */
    FEATURE_WAITS,          /* handlers sleep, poll and offload */
    FEATURE_BIG,            /* long replies */
    FEATURE_PIPELINING,
    FEATURE_PAUSES,         /* clients stop for long */
    FEATURE_DEPARTURES,     /* clients leave, reset, and say their end early */
    FEATURE_TIMEOUTS,
    FEATURE_LIMITS,         /* max_connections, and descriptors that run out */
    FEATURE_INTERRUPTS,     /* EINTR, spurious wake-ups, false alarms, short sends */
    FEATURE_CALLS,          /* calls fail */
    FEATURE_MEMORY,         /* memory runs out */
    FEATURE_STOP,           /* the server is stopped in the midst of it */
    FEATURE_CANCEL,
    FEATURE_RULES,          /* somebody changes the access rules now and then */
    FEATURE_OPTIONS,        /* unusual buffers, stacks, dispatch */
    FEATURE_DATAGRAMS,
    FEATURE_MODES,          /* WEIR_THREAD and WEIR_SERIAL */
    FEATURE_RUSH,           /* many clients connect at the same moment */
    FEATURE_ACCEPTORS,      /* more than one */
    FEATURE_AGAIN,          /* the server stops serving and begins again */
    FEATURE_HTTP,           /* clients speak HTTP, and the handler is handlers/http */
    FEATURE_FILES,          /* handlers send files */
    FEATURE_UPSTREAM,       /* ... and ask another server */
    FEATURE_UNIX,           /* a Unix socket in the place of TCP */
    FEATURE_SUBMIT,         /* every second client is accepted by a program that hands it on */
    FEATURE_PLACES,         /* threads lose the CPU at places of the code that the seed chooses */
    FEATURE_SHARE,          /* handlers and a thread share locks and the like */
    FEATURE_CHILDREN,       /* handlers spawn fibers, which read while they write */
    FEATURES,
};

extern const char *const feature_names[FEATURES];

/* What a run was; written as it goes, so that it is there if it ends by a failure. */
struct world_result {
    uint64_t requests, events, hash;
    uint32_t features;
    char why[512];              /* what is wrong */
};

/* Features, bit by bit, that it has in any case, or not. clients: at most so many; 0: all. */
void world_run(uint64_t seed, uint32_t with, uint32_t without, uint32_t clients,
               struct world_result *ret);

#endif
