/*
 * hooks.c - the places between two instructions of the engine.
 *
 * The engine is compiled as for ThreadSanitizer, whose library is not there: so the compiler calls
 * these functions before every access to memory that somebody else might see, and in place of every
 * atomic operation. Each is a point at which the CPU may be taken away (scheduler.h). A hook does
 * the operation itself, one after another, as on a machine with a single CPU: what weaker orders of
 * memory allow can't be seen here.
 *
 * tests/orders/hooks.c answers the same calls. Its explorer makes each operation instead, under the
 * order that the code asks for; so the two share the compiler's names, and nothing that they do.
 */
#include "tests/simulation/hooks.h"

#include "tests/simulation/dice.h"
#include "tests/simulation/memory.h"
#include "tests/simulation/scheduler.h"

#include <stdbool.h>
#include <stdint.h>

static uint32_t plain_weight, atomic_weight;

/* Where the linker has put the program's first byte. */
extern const char __executable_start[];

/*
 * Windows of few instructions are hit seldom by chance. So some places of the code are chosen, and
 * whoever comes by one of them is held there, before its operation: each in so many runs, but then
 * often.
 */
static struct {
    uint64_t salt;
    uint64_t in;                /* one place in so many is chosen; 0: none is */
    uint64_t held_in;           /* ... and holds once in so many times */
    uint64_t around_ns;
    struct dice dice;
} places;

void hooks_weigh(uint32_t plain, uint32_t atomic)
{
    plain_weight = plain;
    atomic_weight = atomic;
}

void hooks_choose_places(uint64_t seed)
{
    struct dice *dice = &places.dice;

    dice_init(dice, seed);
    places.salt = dice_roll(dice);
    places.in = UINT64_C(1) << dice_between(dice, 3, 7);
    places.held_in = UINT64_C(1) << dice_between(dice, 0, 4);
    places.around_ns = UINT64_C(1) << dice_between(dice, 10, 25);
}

/* The same in each process, wherever the program lies. */
static bool is_chosen(const void *place)
{
    struct dice dice;

    dice_init(&dice, places.salt ^ (uint64_t)((const char *)place - __executable_start));
    return dice_once_in(&dice, places.in);
}

static inline void point_at(const void *place)
{
    if (places.in > 0 && is_chosen(place) && dice_once_in(&places.dice, places.held_in))
        scheduler_hold(places.around_ns);
    else
        scheduler_point(atomic_weight);
}

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

#define PLAIN(name) \
    void __tsan_##name(void *address); \
    void __tsan_##name(void *address) \
    { \
        memory_look(address); \
        scheduler_point(plain_weight); \
    }

PLAIN(read1) PLAIN(read2) PLAIN(read4) PLAIN(read8) PLAIN(read16)
PLAIN(write1) PLAIN(write2) PLAIN(write4) PLAIN(write8) PLAIN(write16)
PLAIN(unaligned_read2) PLAIN(unaligned_read4) PLAIN(unaligned_read8) PLAIN(unaligned_read16)
PLAIN(unaligned_write2) PLAIN(unaligned_write4) PLAIN(unaligned_write8) PLAIN(unaligned_write16)
PLAIN(vptr_update)

void __tsan_read_range(void *address, unsigned long size)
{
    memory_look(address);
    (void)size;
    scheduler_point(plain_weight);
}

void __tsan_write_range(void *address, unsigned long size)
{
    memory_look(address);
    (void)size;
    scheduler_point(plain_weight);
}

void __tsan_init(void)
{
}

void __tsan_func_entry(void *caller)
{
    (void)caller;
}

void __tsan_func_exit(void)
{
}

#define CHANGE(bits, type, name) \
    type __tsan_atomic##bits##_##name(volatile type *at, type value, int order) \
    { \
        type before; \
        (void)order; \
        point_at(__builtin_return_address(0)); \
        memory_look(at); \
        before = __atomic_##name(at, value, __ATOMIC_SEQ_CST); \
        scheduler_point(atomic_weight); \
        return before; \
    }

#define EXCHANGE_IF(bits, type, strength) \
    int __tsan_atomic##bits##_compare_exchange_##strength(volatile type *at, type *expected, \
                                                          type value, int order, int otherwise) \
    { \
        bool done; \
        (void)order; \
        (void)otherwise; \
        point_at(__builtin_return_address(0)); \
        memory_look(at); \
        done = __atomic_compare_exchange_n(at, expected, value, false, __ATOMIC_SEQ_CST, \
                                           __ATOMIC_SEQ_CST); \
        scheduler_point(atomic_weight); \
        return done; \
    }

#define ATOMIC(bits, type) \
    type __tsan_atomic##bits##_load(const volatile type *at, int order) \
    { \
        type value; \
        (void)order; \
        point_at(__builtin_return_address(0)); \
        memory_look(at); \
        value = __atomic_load_n(at, __ATOMIC_SEQ_CST); \
        scheduler_point(atomic_weight); \
        return value; \
    } \
    void __tsan_atomic##bits##_store(volatile type *at, type value, int order) \
    { \
        (void)order; \
        point_at(__builtin_return_address(0)); \
        memory_look(at); \
        __atomic_store_n(at, value, __ATOMIC_SEQ_CST); \
        scheduler_point(atomic_weight); \
    } \
    type __tsan_atomic##bits##_exchange(volatile type *at, type value, int order) \
    { \
        type before; \
        (void)order; \
        point_at(__builtin_return_address(0)); \
        memory_look(at); \
        before = __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST); \
        scheduler_point(atomic_weight); \
        return before; \
    } \
    CHANGE(bits, type, fetch_add) CHANGE(bits, type, fetch_sub) CHANGE(bits, type, fetch_and) \
    CHANGE(bits, type, fetch_or) CHANGE(bits, type, fetch_xor) \
    EXCHANGE_IF(bits, type, strong) EXCHANGE_IF(bits, type, weak)

ATOMIC(8, uint8_t)
ATOMIC(16, uint16_t)
ATOMIC(32, uint32_t)
ATOMIC(64, uint64_t)

void __tsan_atomic_thread_fence(int order)
{
    (void)order;
    point_at(__builtin_return_address(0));
}

void __tsan_atomic_signal_fence(int order)
{
    (void)order;
}
