/*
 * memory.h - malloc(3) for the engine: it runs out when it is told to, and forgets nothing.
 *
 * Freed memory is filled with a pattern and rests for a while before it is used again: whoever
 * writes to it meanwhile is found out then, and whoever reads it reads nonsense.
 *
 * Threads: one. Owns: all that it hands out. Blocks: never.
 */
#ifndef WEIR_SIMULATION_MEMORY_H
#define WEIR_SIMULATION_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Once in so many times there is none; 0: there always is. */
void memory_fail_once_in(uint64_t in);

/* How many blocks, and bytes in them, were taken and not given back. */
size_t memory_blocks(void);
size_t memory_bytes(void);

/* Checks all that rests, and says of each block that is left who has taken it. */
void memory_check(void);
void memory_print_left(void);

#endif
