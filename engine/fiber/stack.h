/*
 * stack.h - the memory that fibers run on.
 *
 * An arena hands out stacks of one size. A stack is named by its top, its highest address; below
 * its lowest byte lies a guard, which faults:
 *
 *      low address                                              top
 *     +-------------+--------------------------------------------+
 *     |    guard    |  size bytes                    <- in use    |
 *     +-------------+--------------------------------------------+
 *
 * A function that has large variables, and touches only the lowest of them, steps over as much of
 * a guard as they take, unless its compiler looks for that (-fstack-clash-protection). So a guard
 * is larger than what is usual on a thread's stack. It is address space, and 8 bytes a page in the
 * kernel's tables: half a KiB a stack.
 *
 * Address space is taken from the kernel in segments of many stacks and kept until the arena is
 * destroyed; memory is what was touched, and goes back to the kernel with stack_arena_put.
 *
 * Threads: any; a lock is held for a few instructions, and while a new segment is mapped.
 * Owns:    the address space. A stack's contents are its user's, from stack_arena_get to _put.
 * Blocks:  on that lock only.
 */
#ifndef WEIR_STACK_H
#define WEIR_STACK_H

#include <stdbool.h>
#include <stddef.h>

#define STACK_SIZE_DEFAULT ((size_t)64 << 10)
#define STACK_SIZE_MIN ((size_t)16 << 10)
#define STACK_SIZE_MAX ((size_t)256 << 20)
#define STACK_GUARD ((size_t)256 << 10)

struct stack_arena;

/*
 * stack_arena_create makes an arena of stacks of stack_size bytes, rounded up to pages (0:
 * STACK_SIZE_DEFAULT), at most max_stacks at a time (0: as many as the kernel gives). It maps
 * nothing yet. Returns 0, -EINVAL for a size outside of min and max, or -ENOMEM.
 */
int stack_arena_create(size_t stack_size, size_t max_stacks, struct stack_arena **ret_arena);

/* stack_arena_destroy unmaps everything: no stack may be in use. NULL is fine. */
void stack_arena_destroy(struct stack_arena *arena);

/* stack_arena_size is the number of usable bytes of each stack. */
size_t stack_arena_size(const struct stack_arena *arena);

/* stack_arena_get gives the top of a stack, or NULL: no memory, or max_stacks in use. */
void *stack_arena_get(struct stack_arena *arena);

/* stack_arena_put takes a stack back and returns its memory to the kernel. */
void stack_arena_put(struct stack_arena *arena, void *top);

/*
 * stack_count_max tells how many stacks vm.max_map_count leaves room for where each guard splits a
 * mapping, as before Linux 6.13; SIZE_MAX elsewhere. Threads: any.
 */
size_t stack_count_max(void);

/*
 * stack_arena_lacks_mappings returns true if the stacks in use are so many that mappings, rather
 * than memory, may be what was missing for another one. Threads: any.
 */
bool stack_arena_lacks_mappings(struct stack_arena *arena);

/* Around any fork(2), in both processes: arenas that the child makes find their lock free. */
void stack_before_fork(void);
void stack_after_fork(void);

/*
 * stack_guarded_by finds the stack, of any arena alive, whose guard address lies in. Returns
 * its top, and its size in *ret_size, or NULL when the address is something else.
 * Threads: any, signal handlers.
 */
void *stack_guarded_by(const void *address, size_t *ret_size);

/* stack_holding finds the stack that address lies in, its guard left out. As stack_guarded_by. */
void *stack_holding(const void *address, size_t *ret_size);

#endif
