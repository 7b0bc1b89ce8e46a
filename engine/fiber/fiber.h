/*
 * fiber.h - functions that can stop in the middle and go on later.
 *
 * A fiber is a struct at the top of its own stack, so a parked fiber costs the pages that it has
 * touched and nothing else:
 *
 *      low address                                                    top
 *     +-------+-------------------------------------------+--------------+
 *     | guard |                      <- frames of entry() | struct fiber |
 *     +-------+-------------------------------------------+--------------+
 *
 * It is in one of three states, and only these calls move it:
 *
 *      spare   --fiber_run--> running --fiber_park--> parked
 *         ^                   |     ^                   |
 *         +--entry returns----+     +---fiber_resume----+
 *
 * The scheduler is the caller of fiber_run, fiber_run_from or fiber_resume: it waits in that call,
 * on its own stack, until the fiber parks or ends.
 *
 * Threads: a cache and its spare fibers belong to one thread. From fiber_run until it ends, a
 *          fiber is resumed by the thread that ran it and by no other: compilers keep addresses
 *          of thread-local variables (errno's too) across the switch.
 * Owns:    a cache owns its spare fibers; fiber_get gives one away, fiber_put takes it back.
 * Parks:   fiber_park, alone. Never with a mutex held or inside an RCU read-side section.
 */
#ifndef WEIR_FIBER_H
#define WEIR_FIBER_H

#include <stdbool.h>

struct exceptions;
struct fiber;
struct stack_arena;

/*
 * A thread's spare fibers, the most recently used first, since its stack is still in the CPU's
 * caches. They keep their memory: fiber_cache_trim gives back what nobody needs.
 */
struct fiber_cache {
    struct stack_arena *arena;
    struct fiber *warm;
    unsigned warm_len;
    unsigned least_len;         /* of warm_len since the last trim: this many were never needed */
    unsigned max_idle;
    bool looked_for_exceptions;
    struct exceptions *exceptions;      /* C++'s, of the thread; NULL: there is no C++ */
};

/* The arena must outlive the cache; several threads' caches may share it. */
void fiber_cache_init(struct fiber_cache *cache, struct stack_arena *arena, unsigned max_idle);

/* fiber_cache_fini gives every spare fiber back to the arena. */
void fiber_cache_fini(struct fiber_cache *cache);

/*
 * fiber_cache_trim gives fibers back to the arena, and their memory to the kernel: at most count of
 * those that were spare all the time since the last trim, as long as more than max_idle are.
 */
void fiber_cache_trim(struct fiber_cache *cache, unsigned count);

/* Whether it would be of use: now, or later if nobody needs them. */
static inline bool fiber_cache_trimmable(const struct fiber_cache *cache)
{
    return cache->warm_len > cache->max_idle;
}

/* fiber_get gives a spare fiber without a label, or NULL when there is no memory for one. */
struct fiber *fiber_get(struct fiber_cache *cache);

/* fiber_put takes a spare fiber back. */
void fiber_put(struct fiber_cache *cache, struct fiber *fiber);

/*
 * fiber_run calls entry(fiber, arg) on a spare fiber's stack. Returns true when entry has
 * returned and the fiber is spare again, false when it has parked.
 */
bool fiber_run(struct fiber *fiber, void (*entry)(struct fiber *fiber, void *arg), void *arg);

/*
 * fiber_run_from is fiber_run where the scheduler is a fiber itself, the one that the caller runs
 * on: until the new one parks or ends. Later another scheduler may resume the new one. What the
 * caller has thrown and caught, in C++, stays with the caller.
 */
bool fiber_run_from(struct fiber *caller, struct fiber *fiber,
                    void (*entry)(struct fiber *fiber, void *arg), void *arg);

/* fiber_resume goes on behind a parked fiber's fiber_park. The same return. */
bool fiber_resume(struct fiber *fiber);

/*
 * fiber_park, called on the fiber itself, returns to the scheduler until it is resumed. What the
 * fiber has thrown and caught, in C++, stays with it; the scheduler has nothing of the kind.
 */
void fiber_park(struct fiber *fiber);

/* Returns true if the caller runs on this fiber, which must not be spare. Any thread. */
bool fiber_is_here(const struct fiber *fiber);

/* Returns true if the address is on this fiber's stack. It must not be spare. Any thread. */
bool fiber_holds(const struct fiber *fiber, const void *address);

/* Returns true if nothing has been written beyond the beginning of its stack. Any thread. */
bool fiber_is_sound(const struct fiber *fiber);

/*
 * The label names what runs on the fiber, for the message about a stack overflow and the like.
 * It is kept by reference; it may be read from any thread, and from signal handlers.
 */
void fiber_set_label(struct fiber *fiber, const char *label);
const char *fiber_label(const struct fiber *fiber);

/*
 * The task is whatever the label's setter knows more by: see crash.h. NULL: never set. Set on the
 * fiber itself; asked for by any thread, signal handlers included.
 */
void fiber_set_task(struct fiber *fiber, const void *task);
const void *fiber_task(const struct fiber *fiber);

/* fiber_on_stack is the fiber whose stack has this top. */
struct fiber *fiber_on_stack(void *top);

#endif
