/*
 * memory.h - malloc(3) for the engine: it runs out when it is told to, and forgets nothing.
 *
 * Freed memory is filled with a pattern and rests for a while before it is used again. Whoever
 * accesses it meanwhile is found out: at once if it is the engine, whose accesses hooks.c sees, and
 * later if another library has written to it.
 *
 * Threads: one. Owns: all that it hands out. Blocks: never.
 */
#ifndef WEIR_SIMULATION_MEMORY_H
#define WEIR_SIMULATION_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMORY_ARENA ((size_t)256 << 20)
#define MEMORY_UNIT 64

/* Once in so many times there is none; 0: there always is. */
void memory_fail_once_in(uint64_t in);

/* How many blocks, and bytes in them, were taken and not given back. */
size_t memory_blocks(void);
size_t memory_bytes(void);

/* ... of those that aligned_alloc(3) has made: connections are among them. */
size_t memory_aligned_blocks(void);

/* Checks all that rests, and says of each block that is left who has taken it. */
void memory_check(void);
void memory_print_left(void);

/* For hooks.c: the memory that there is, and a byte for each of its units, true if it is freed. */
extern unsigned char *memory_arena, *memory_freed;
_Noreturn void memory_accuse(const void *address);

static inline void memory_look(const volatile void *address)
{
    size_t at = (size_t)((const volatile unsigned char *)address - memory_arena);

    if (at < MEMORY_ARENA && memory_arena && memory_freed[at / MEMORY_UNIT])
        memory_accuse((const void *)address);
}

#endif
