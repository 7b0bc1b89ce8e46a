/*
 * scheduler.h - simulated threads, actors, and virtual time.
 *
 * The engine's threads are coroutines of one thread of the system. Each has a stack and
 * thread-local memory of its own; one runs until it waits, or until a point at which the dice
 * take the CPU away from it. Points are all calls of the simulated kernel, all atomic operations,
 * and all plain reads and writes of memory (hooks.c).
 *
 * Actors are what is not the engine: clients, and things that come by themselves. An actor has no
 * stack; it is a function that does one thing, and is called between the steps of the threads.
 *
 * Time is a number. It passes by a little at each switch, or not at all, as the seed says; and when
 * nobody can do anything, it jumps to the next moment at which somebody can.
 *
 * Threads: one. Blocks: scheduler_block, the simulated thread that calls it.
 */
#ifndef WEIR_SIMULATION_SCHEDULER_H
#define WEIR_SIMULATION_SCHEDULER_H

#include "tests/simulation/dice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCHEDULER_NEVER UINT64_MAX
#define SCHEDULER_THREADS 96
#define MS_NS UINT64_C(1000000)

struct sim_thread;

/* How a run is scheduled. */
struct scheduler_options {
    uint64_t seed;
    uint32_t span;              /* weights between two points at which the CPU is taken, about */
    uint32_t plain_weight;      /* of a plain read or write; 0: it is no point */
    uint32_t atomic_weight;
    uint32_t call_weight;
    uint32_t step_ns;           /* that pass at each switch, about; 0: none */
    uint32_t stall_in;          /* once in so many switches a thread loses it for long; 0: none */
    uint64_t stall_ns;          /* ... about */
    uint32_t actor_in;          /* once in so many switches an actor comes first */
    bool by_priority;           /* the thread with the highest runs, and falls to the lowest */
};

/* Runs main(arg) as the first simulated thread until it returns. Once in a process. */
void scheduler_run(const struct scheduler_options *options, void (*main)(void *arg), void *arg);

/* Room for the thread-local memory of simulated threads; before scheduler_run and any fork. */
void scheduler_prepare(void);

/* ---- time ---- */

uint64_t scheduler_now_ns(void);

/* From now on nobody loses the CPU for long. */
void scheduler_stall_no_more(void);

/*
 * For how long threads have been held so far at most, by stalls and by the time that steps take:
 * what has been held since a moment is the difference to what had been before it, which leaves out
 * stalls that were still on.
 */
uint64_t scheduler_held_ns(void);
uint64_t scheduler_held_before_ns(void);

/* ---- threads ---- */

/* The number of the thread that runs; 0: the first. */
unsigned scheduler_self(void);

/* A new thread: its number, or -1: there are too many. */
int scheduler_start(void *(*main)(void *arg), void *arg, bool detached);
bool scheduler_has_ended(unsigned thread);
void *scheduler_join(unsigned thread);

/* Waits for scheduler_wake with the same reason, or until then. True: it was woken. */
bool scheduler_block(const void *reason, uint64_t until_ns);

/* Wakes one of those who wait for the reason, by the dice, or all. How many. */
unsigned scheduler_wake(const void *reason, bool all);

/* The CPU may be taken here. */
void scheduler_point(uint32_t weight);
void scheduler_point_call(void);

/* The thread loses the CPU for about as long, as by a stall. */
void scheduler_hold(uint64_t around_ns);

/* The CPU goes to somebody else, if there is anybody. */
void scheduler_yield(void);

/* Nobody but actors can do anything, and no thread was held up: all that is ready was seen to. */
extern void (*scheduler_on_quiet)(void);

/* Returns true if the thread waits for the reason. */
bool scheduler_waits(unsigned thread, const void *reason);

/* ---- actors ---- */

struct actor {
    void (*step)(struct actor *actor);
    uint64_t at_ns;             /* it is called then, too; SCHEDULER_NEVER: not by itself */
    bool ready;
    bool known;
};

void actor_init(struct actor *actor, void (*step)(struct actor *actor));
void actor_wake(struct actor *actor);
void actor_wake_at(struct actor *actor, uint64_t at_ns);

/* ---- the end ---- */

/* Dice for everything that is not scheduling. */
struct dice *scheduler_dice(void);

#endif
