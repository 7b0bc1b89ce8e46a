/*
 * hooks.c - what the compiler calls in code that is compiled as for ThreadSanitizer, whose library
 * is not there. Outside of the threads that are explored, an operation is done at once.
 */
#include "tests/orders/hooks.h"

#include "tests/orders/explorer.h"
#include "tests/orders/memory.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { SITES = 256, WEAKENED = 32, RECENT = 64 };

extern const char __executable_start[];

static struct site sites[SITES];
static unsigned sites_len;
static const void *recent[RECENT];  /* most operations come from sites that are noted */
static struct {
    uintptr_t offset;
    int order;
} weakened[WEAKENED];
static unsigned weakened_len;

/* For the trace. */
#define EACH_ORDER(what) { \
        "relaxed " what, "consume " what, "acquire " what, "release " what, "acq_rel " what, \
        "seq_cst " what, \
    }
static const char *const loads[] = EACH_ORDER("load of %#llx");
static const char *const stores[] = EACH_ORDER("store of %#llx");
static const char *const changes[] = EACH_ORDER("change of %#llx, with %#llx");
static const char *const swaps[] = EACH_ORDER("swap of %#llx, for %#llx");
static const char *const fences[] = EACH_ORDER("fence");

const struct site *hooks_sites(unsigned *ret_len)
{
    *ret_len = sites_len;
    return sites;
}

uintptr_t hooks_offset_of(const void *at)
{
    return (uintptr_t)at - (uintptr_t)__executable_start;
}

void hooks_weaken(uintptr_t offset, int order)
{
    if (weakened_len == WEAKENED)
        explorer_give_up("more than %d sites are to be weakened", WEAKENED);
    weakened[weakened_len].offset = offset;
    weakened[weakened_len++].order = order;
}

static void note_site(const void *at, int order, const char *kind)
{
    const void **known = &recent[(uintptr_t)at % RECENT];

    if (*known == at)
        return;
    *known = at;
    for (unsigned i = 0; i < sites_len; i++)
        if (sites[i].at == at)
            return;
    if (sites_len == SITES)
        explorer_give_up("more than %d sites", SITES);
    sites[sites_len++] = (struct site){ .at = at, .order = order, .kind = kind };
}

void hooks_forget_sites(void)
{
    sites_len = 0;
    memset(recent, 0, sizeof(recent));
}

static int order_at(const void *site, int order)
{
    for (unsigned i = 0; i < weakened_len; i++)
        if (hooks_offset_of(site) == weakened[i].offset)
            return weakened[i].order;
    return order;
}

/* ------------------------------------------------------------------ plain accesses ---- */

static void look(const volatile void *at, size_t size, bool writes)
{
    int thread = explorer_thread();

    if (thread >= 0 && !explorer_on_own_stack(at))
        memory_look((unsigned)thread, at, size, writes);
}

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

#define PLAIN(size) \
    void __tsan_read##size(void *at) { look(at, size, false); } \
    void __tsan_write##size(void *at) { look(at, size, true); } \
    void __tsan_unaligned_read##size(void *at) { look(at, size, false); } \
    void __tsan_unaligned_write##size(void *at) { look(at, size, true); }

PLAIN(1) PLAIN(2) PLAIN(4) PLAIN(8) PLAIN(16)

void __tsan_read_range(void *at, size_t size) { look(at, size, false); }
void __tsan_write_range(void *at, size_t size) { look(at, size, true); }
void __tsan_init(void) { }
void __tsan_func_entry(void *caller) { (void)caller; }
void __tsan_func_exit(void) { }

/* ------------------------------------------------------------------ atomics ----------- */

struct change {
    char how;                   /* + - & | ^, x: exchange, c: compare-exchange */
    uint64_t operand;
    uint64_t expected;
};

static bool change_by(uint64_t old, uint64_t *new_value, void *arg)
{
    const struct change *change = arg;

    switch (change->how) {
    case '+': *new_value = old + change->operand; return true;
    case '-': *new_value = old - change->operand; return true;
    case '&': *new_value = old & change->operand; return true;
    case '|': *new_value = old | change->operand; return true;
    case '^': *new_value = old ^ change->operand; return true;
    case 'x': *new_value = change->operand; return true;
    default: *new_value = change->operand; return old == change->expected;
    }
}

/* Stops before the operation, and returns under which order it goes on. */
static int begin(enum explorer_kind kind, unsigned location, int order, const void *site,
                 const char *name)
{
    note_site(site, order, name);
    order = order_at(site, order);
    explorer_stop_before(&(struct explorer_step){
        .kind = kind, .order = order, .object = location,
    });
    return order;
}

static uint64_t load(const volatile void *at, size_t size, int order, const void *site)
{
    unsigned location = memory_location(at, size);
    uint64_t value;

    order = begin(EXPLORER_LOAD, location, order, site, "load");
    value = memory_load((unsigned)explorer_thread(), location, order);
    explorer_note(location, loads[order], value, 0);
    return value;
}

static void store(const volatile void *at, size_t size, uint64_t value, int order,
                  const void *site)
{
    unsigned location = memory_location(at, size);

    order = begin(EXPLORER_STORE, location, order, site, "store");
    memory_store((unsigned)explorer_thread(), location, value, order);
    explorer_note(location, stores[order], value, 0);
}

/* An order that only says what a load may: of a compare-exchange that fails. */
static int without_release(int order)
{
    if (order == memory_order_acq_rel)
        return memory_order_acquire;
    return order == memory_order_release ? memory_order_relaxed : order;
}

static uint64_t change(const volatile void *at, size_t size, struct change how, int order,
                       int otherwise, const void *site)
{
    unsigned location = memory_location(at, size);
    uint64_t mask = size == 8 ? UINT64_MAX : (UINT64_C(1) << size * 8) - 1;
    uint64_t old;
    int given;

    given = begin(EXPLORER_CHANGE, location, order, site, how.how == 'c' ? "swap" : "change");
    if (given != order)
        otherwise = without_release(given);
    how.operand &= mask;
    how.expected &= mask;
    old = memory_change((unsigned)explorer_thread(), location, given, otherwise, change_by, &how);
    if (how.how != 'c')
        explorer_note(location, changes[given], old, how.operand);
    else if (old == how.expected)
        explorer_note(location, swaps[given], old, how.operand);
    else
        explorer_note(location, "swap fails, for it is %#llx", old, 0);
    return old;
}

#define HERE __builtin_return_address(0)

#define CHANGE(bits, type, name, sign) \
    type __tsan_atomic##bits##_##name(volatile type *at, type value, int order) \
    { \
        if (explorer_thread() < 0) \
            return __atomic_##name(at, value, __ATOMIC_SEQ_CST); \
        return (type)change(at, sizeof(type), (struct change){ sign, value, 0 }, order, 0, HERE); \
    }

#define EXCHANGE_IF(bits, type, strength) \
    int __tsan_atomic##bits##_compare_exchange_##strength(volatile type *at, type *expected, \
                                                          type value, int order, int otherwise) \
    { \
        type old; \
        if (explorer_thread() < 0) \
            return __atomic_compare_exchange_n(at, expected, value, false, __ATOMIC_SEQ_CST, \
                                               __ATOMIC_SEQ_CST); \
        old = (type)change(at, sizeof(type), (struct change){ 'c', value, *expected }, order, \
                           otherwise, HERE); \
        if (old == *expected) \
            return true; \
        *expected = old; \
        return false; \
    }

#define ATOMIC(bits, type) \
    type __tsan_atomic##bits##_load(const volatile type *at, int order) \
    { \
        if (explorer_thread() < 0) \
            return __atomic_load_n(at, __ATOMIC_SEQ_CST); \
        return (type)load(at, sizeof(type), order, HERE); \
    } \
    void __tsan_atomic##bits##_store(volatile type *at, type value, int order) \
    { \
        if (explorer_thread() < 0) \
            __atomic_store_n(at, value, __ATOMIC_SEQ_CST); \
        else \
            store(at, sizeof(type), value, order, HERE); \
    } \
    type __tsan_atomic##bits##_exchange(volatile type *at, type value, int order) \
    { \
        if (explorer_thread() < 0) \
            return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST); \
        return (type)change(at, sizeof(type), (struct change){ 'x', value, 0 }, order, 0, HERE); \
    } \
    CHANGE(bits, type, fetch_add, '+') CHANGE(bits, type, fetch_sub, '-') \
    CHANGE(bits, type, fetch_and, '&') CHANGE(bits, type, fetch_or, '|') \
    CHANGE(bits, type, fetch_xor, '^') \
    EXCHANGE_IF(bits, type, strong) EXCHANGE_IF(bits, type, weak)

ATOMIC(8, uint8_t)
ATOMIC(16, uint16_t)
ATOMIC(32, uint32_t)
ATOMIC(64, uint64_t)

void __tsan_atomic_thread_fence(int order)
{
    if (explorer_thread() < 0)
        return;
    order = begin(EXPLORER_FENCE, 0, order, HERE, "fence");
    memory_fence((unsigned)explorer_thread(), order);
    explorer_note(EXPLORER_NOWHERE, fences[order], 0, 0);
}

void __tsan_atomic_signal_fence(int order)
{
    (void)order;
}
