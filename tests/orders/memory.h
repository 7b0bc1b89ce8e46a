/*
 * memory.h - memory as C11 allows it to look to several threads.
 *
 * Each atomic location has its stores in modification order. A thread may read any of them that is
 * not older than one it knows of; what it knows of is its view. A release store hands on its
 * writer's view, an acquire load takes it over; fences do both for the relaxed operations around
 * them, and seq_cst fences and accesses share one more view, in the order in which they run. These
 * are the rules of RC11 (Lahav, Vafeiadis, Kang, Hur and Dreyer, "Repairing sequential consistency
 * in C/C++11", 2017) told as a machine. As there, no load reads a store that comes later.
 *
 * Plain accesses run as they are; two of them that nothing orders are a fault.
 *
 * Threads: one, which plays all of those that are checked.
 */
#ifndef WEIR_TESTS_ORDERS_MEMORY_H
#define WEIR_TESTS_ORDERS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MEMORY_THREADS = 4, MEMORY_LOCATIONS = 24 };

/* What a thread knows: of each location the oldest store that it may read, of each thread how far
 * that one had come. */
struct view {
    uint32_t store[MEMORY_LOCATIONS];
    uint32_t clock[MEMORY_THREADS];
};

/* Forgets everything: an execution begins. */
void memory_reset(void);

/* How many stores there have been. */
unsigned memory_stores(void);

/* The thread's next operation reads a store that was not there among the first `old` ones. */
void memory_read_newer_than(unsigned thread, unsigned old);

/* Which location an address is: a small number that stays until the reset. */
unsigned memory_location(const volatile void *at, size_t size);

/* A name for an address, for people. Kept over resets. */
void memory_name(const volatile void *at, const char *name);
const char *memory_name_of(unsigned location);

/* The operations, each by a thread and under an order (memory_order's numbers). */
uint64_t memory_load(unsigned thread, unsigned location, int order);
void memory_store(unsigned thread, unsigned location, uint64_t value, int order);

/*
 * Reads and writes in one step: change() makes the new value of the old one, or returns false if
 * none is to be written; then it was a load, under `otherwise`. Returns the old value.
 */
uint64_t memory_change(unsigned thread, unsigned location, int order, int otherwise,
                       bool (*change)(uint64_t old, uint64_t *new_value, void *arg), void *arg);
void memory_fence(unsigned thread, int order);

/* Something of the kernel's, by which one thread's past reaches another: both ways. */
void memory_give(unsigned thread, struct view *to);
void memory_take(unsigned thread, const struct view *from);

/* A plain access: fails the execution (explorer_fail) if it races. */
void memory_look(unsigned thread, const volatile void *at, size_t size, bool writes);

#endif
