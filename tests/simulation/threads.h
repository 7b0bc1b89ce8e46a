/*
 * threads.h - what goes wrong with threads.
 *
 * Threads: one. Blocks: never.
 */
#ifndef WEIR_SIMULATION_THREADS_H
#define WEIR_SIMULATION_THREADS_H

#include <stdint.h>

/* Once in so many times; 0: never. */
struct threads_faults {
    uint64_t create_in;         /* no thread can be had */
    uint64_t spurious_in;       /* a condition variable's wait ends by itself */
    uint64_t interrupt_in;      /* a semaphore's wait says EINTR */
};

void threads_inject(const struct threads_faults *faults);

#endif
