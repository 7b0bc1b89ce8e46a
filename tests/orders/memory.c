#include "tests/orders/memory.h"

#include "tests/orders/explorer.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/*
 * A store's place in its modification order is a stamp: later ones are greater, and between two of
 * them there is room for others (a store may come before one that another thread has made already).
 */
enum { STORES = 64, STAMP_STEP = 1 << 20, NAMES = 64, BYTES = 4096 };

struct store {
    uint64_t value;
    uint32_t stamp;
    unsigned number;            /* in the order of execution; the first value is 0 */
    bool changed;               /* a read-modify-write has read it: nothing comes between the two */
    struct view released;       /* what a thread knows that acquires it */
};

struct location {
    const volatile void *at;
    size_t size;
    unsigned stores_len;
    struct store stores[STORES];    /* in modification order */
};

struct thread_memory {
    struct view now;
    struct view read;           /* ... with what relaxed loads have met: for an acquire fence */
    struct view released;       /* at the last release fence: for relaxed stores */
    unsigned newer_than;        /* see memory_read_newer_than */
};

/* A byte that is accessed plainly: when each thread did so last, by its own clock. */
struct byte {
    const volatile unsigned char *at;
    uint64_t execution;
    unsigned writer;
    uint32_t written;           /* 0: never */
    uint32_t read[MEMORY_THREADS];
};

static struct location locations[MEMORY_LOCATIONS];
static unsigned locations_len;
static struct thread_memory threads[MEMORY_THREADS];
static struct view sequential;
static unsigned stores_len;
static struct byte bytes[BYTES];
static uint64_t execution;

static struct {
    const volatile void *at;
    const char *name;
} names[NAMES];
static unsigned names_len;

void memory_reset(void)
{
    locations_len = 0;
    stores_len = 0;
    execution++;
    memset(threads, 0, sizeof(threads));
    memset(&sequential, 0, sizeof(sequential));
    for (unsigned i = 0; i < MEMORY_THREADS; i++)
        threads[i].now.clock[i] = 1;
}

unsigned memory_stores(void)
{
    return stores_len;
}

void memory_read_newer_than(unsigned thread, unsigned old)
{
    threads[thread].newer_than = old;
}

/* ------------------------------------------------------------------ locations --------- */

static uint64_t read_real(const volatile void *at, size_t size)
{
    switch (size) {
    case 1: return *(const volatile uint8_t *)at;
    case 2: return *(const volatile uint16_t *)at;
    case 4: return *(const volatile uint32_t *)at;
    default: return *(const volatile uint64_t *)at;
    }
}

static void write_real(const volatile void *at, size_t size, uint64_t value)
{
    switch (size) {
    case 1: *(volatile uint8_t *)(uintptr_t)at = (uint8_t)value; break;
    case 2: *(volatile uint16_t *)(uintptr_t)at = (uint16_t)value; break;
    case 4: *(volatile uint32_t *)(uintptr_t)at = (uint32_t)value; break;
    default: *(volatile uint64_t *)(uintptr_t)at = value;
    }
}

unsigned memory_location(const volatile void *at, size_t size)
{
    struct location *location;

    for (unsigned i = 0; i < locations_len; i++)
        if (locations[i].at == at)
            return i;
    if (locations_len == MEMORY_LOCATIONS)
        explorer_give_up("more than %u atomic locations", MEMORY_LOCATIONS);
    location = &locations[locations_len];
    location->at = at;
    location->size = size;
    location->stores_len = 1;
    location->stores[0] = (struct store){ .value = read_real(at, size), .stamp = STAMP_STEP };
    return locations_len++;
}

void memory_name(const volatile void *at, const char *name)
{
    for (unsigned i = 0; i < names_len; i++)
        if (names[i].at == at) {
            names[i].name = name;
            return;
        }
    if (names_len < NAMES) {
        names[names_len].at = at;
        names[names_len++].name = name;
    }
}

const char *memory_name_of(unsigned location)
{
    for (unsigned i = 0; i < names_len; i++)
        if (names[i].at == locations[location].at)
            return names[i].name;
    return "a word without a name";
}

/* ------------------------------------------------------------------ views ------------- */

static bool acquires(int order)
{
    return order == memory_order_acquire || order == memory_order_acq_rel ||
           order == memory_order_seq_cst;
}

static bool releases(int order)
{
    return order == memory_order_release || order == memory_order_acq_rel ||
           order == memory_order_seq_cst;
}

static void learn(struct view *view, const struct view *more)
{
    for (unsigned i = 0; i < locations_len; i++)
        if (view->store[i] < more->store[i])
            view->store[i] = more->store[i];
    for (unsigned i = 0; i < MEMORY_THREADS; i++)
        if (view->clock[i] < more->clock[i])
            view->clock[i] = more->clock[i];
}

/* As learn(), but only of atomic locations: seq_cst orders them, and synchronizes with nobody. */
static void learn_stores(struct view *view, const struct view *more)
{
    for (unsigned i = 0; i < locations_len; i++)
        if (view->store[i] < more->store[i])
            view->store[i] = more->store[i];
}

static void know_store(struct view *view, unsigned location, uint32_t stamp)
{
    if (view->store[location] < stamp)
        view->store[location] = stamp;
}

/* What a thread does from here on is not handed on by what it has released. */
static void step_clock(unsigned thread)
{
    threads[thread].now.clock[thread]++;
}

/* The oldest store that it may read, or that its own may follow. */
static uint32_t oldest_for(unsigned thread, unsigned location, int order)
{
    uint32_t oldest = threads[thread].now.store[location];

    if (order == memory_order_seq_cst && oldest < sequential.store[location])
        oldest = sequential.store[location];
    return oldest;
}

static void note_read(unsigned thread, unsigned location, const struct store *store, int order)
{
    struct thread_memory *mine = &threads[thread];

    know_store(&mine->now, location, store->stamp);
    know_store(&mine->read, location, store->stamp);
    learn(&mine->read, &store->released);
    if (acquires(order))
        learn(&mine->now, &store->released);
    if (order == memory_order_seq_cst)
        know_store(&sequential, location, store->stamp);
}

/* ------------------------------------------------------------------ operations -------- */

/* Choices go from the newest store to the oldest one: most executions are ordinary. */
static unsigned first_readable(unsigned thread, unsigned location, int order)
{
    const struct location *where = &locations[location];
    uint32_t oldest = oldest_for(thread, location, order);
    unsigned first = where->stores_len - 1;

    while (first > 0 && where->stores[first - 1].stamp >= oldest)
        first--;
    return first;
}

/* Of those that a thread may read, which were collected, one; it was the last restriction. */
static unsigned choose(unsigned thread, const unsigned *readable, unsigned readable_len)
{
    threads[thread].newer_than = 0;
    if (readable_len == 0)
        explorer_prune();
    return readable[explorer_choose(readable_len)];
}

uint64_t memory_load(unsigned thread, unsigned location, int order)
{
    struct location *where = &locations[location];
    unsigned first = first_readable(thread, location, order);
    unsigned readable[STORES];
    unsigned readable_len = 0;
    const struct store *chosen;

    for (unsigned i = where->stores_len; i-- > first;)
        if (where->stores[i].number >= threads[thread].newer_than)
            readable[readable_len++] = i;
    chosen = &where->stores[choose(thread, readable, readable_len)];
    note_read(thread, location, chosen, order);
    return chosen->value;
}

/* Puts a store behind the i-th one. */
static struct store *insert_store(unsigned location, unsigned i, uint64_t value)
{
    struct location *where = &locations[location];
    uint32_t stamp = where->stores[i].stamp;
    bool is_last = i + 1 == where->stores_len;

    if (where->stores_len == STORES)
        explorer_give_up("more than %u stores to %s", STORES, memory_name_of(location));
    if (is_last) {
        stamp += STAMP_STEP;
        write_real(where->at, where->size, value);
    } else {
        stamp += (where->stores[i + 1].stamp - stamp) / 2;
        memmove(&where->stores[i + 2], &where->stores[i + 1],
                (where->stores_len - i - 1) * sizeof(where->stores[0]));
    }
    where->stores_len++;
    where->stores[i + 1] = (struct store){ .value = value, .stamp = stamp, .number = ++stores_len };
    return &where->stores[i + 1];
}

static void note_write(unsigned thread, unsigned location, struct store *store, int order)
{
    struct thread_memory *mine = &threads[thread];

    know_store(&mine->now, location, store->stamp);
    know_store(&mine->read, location, store->stamp);
    learn(&store->released, releases(order) ? &mine->now : &mine->released);
    know_store(&store->released, location, store->stamp);
    if (order == memory_order_seq_cst)
        know_store(&sequential, location, store->stamp);
    step_clock(thread);
}

void memory_store(unsigned thread, unsigned location, uint64_t value, int order)
{
    struct location *where = &locations[location];
    unsigned first = first_readable(thread, location, order);
    unsigned places[STORES];
    unsigned places_len = 0;

    for (unsigned i = where->stores_len; i-- > first;)
        if (!where->stores[i].changed)
            places[places_len++] = i;
    note_write(thread, location,
               insert_store(location, places[explorer_choose(places_len)], value), order);
}

uint64_t memory_change(unsigned thread, unsigned location, int order, int otherwise,
                       bool (*change)(uint64_t old, uint64_t *new_value, void *arg), void *arg)
{
    struct location *where = &locations[location];
    unsigned first = first_readable(thread, location, order);
    unsigned readable[STORES];
    unsigned readable_len = 0;
    unsigned chosen;
    uint64_t new_value;
    struct view released;

    for (unsigned i = where->stores_len; i-- > first;)
        if (where->stores[i].number >= threads[thread].newer_than &&
            (!where->stores[i].changed || !change(where->stores[i].value, &new_value, arg)))
            readable[readable_len++] = i;
    chosen = choose(thread, readable, readable_len);
    if (!change(where->stores[chosen].value, &new_value, arg)) {
        note_read(thread, location, &where->stores[chosen], otherwise);
        return where->stores[chosen].value;
    }
    note_read(thread, location, &where->stores[chosen], order);
    where->stores[chosen].changed = true;
    released = where->stores[chosen].released;
    /* A read-modify-write goes on with the release sequence of what it has read. */
    learn(&insert_store(location, chosen, new_value)->released, &released);
    note_write(thread, location, &where->stores[chosen + 1], order);
    return where->stores[chosen].value;
}

void memory_fence(unsigned thread, int order)
{
    struct thread_memory *mine = &threads[thread];

    if (acquires(order))
        learn(&mine->now, &mine->read);
    if (order == memory_order_seq_cst) {
        learn_stores(&mine->now, &sequential);
        learn_stores(&sequential, &mine->now);
    }
    if (releases(order)) {
        mine->released = mine->now;
        step_clock(thread);
    }
    learn(&mine->read, &mine->now);
}

void memory_give(unsigned thread, struct view *to)
{
    learn(to, &threads[thread].now);
    step_clock(thread);
}

void memory_take(unsigned thread, const struct view *from)
{
    learn(&threads[thread].now, from);
    learn(&threads[thread].read, from);
}

/* ------------------------------------------------------------------ plain accesses ---- */

static struct byte *find_byte(const volatile unsigned char *at)
{
    size_t i = ((uintptr_t)at * UINT64_C(0x9e3779b97f4a7c15)) >> 52;

    for (unsigned tries = 0; tries < BYTES; tries++, i = (i + 1) % BYTES) {
        struct byte *byte = &bytes[i];

        if (byte->execution != execution)
            *byte = (struct byte){ .at = at, .execution = execution };
        if (byte->at == at)
            return byte;
    }
    explorer_give_up("more than %u bytes are accessed plainly", BYTES);
    return NULL;
}

static void look_at_byte(unsigned thread, struct byte *byte, bool writes)
{
    const struct view *now = &threads[thread].now;

    if (byte->written > now->clock[byte->writer])
        explorer_fail("a race: thread %u %s %p, which thread %u has written", thread,
                      writes ? "writes" : "reads", (const void *)(uintptr_t)byte->at,
                      byte->writer);
    for (unsigned i = 0; writes && i < MEMORY_THREADS; i++)
        if (byte->read[i] > now->clock[i])
            explorer_fail("a race: thread %u writes %p, which thread %u has read", thread,
                          (const void *)(uintptr_t)byte->at, i);
    if (writes) {
        byte->writer = thread;
        byte->written = now->clock[thread];
    } else {
        byte->read[thread] = now->clock[thread];
    }
}

void memory_look(unsigned thread, const volatile void *at, size_t size, bool writes)
{
    const volatile unsigned char *first = at;

    for (size_t i = 0; i < size; i++)
        look_at_byte(thread, find_byte(first + i), writes);
}
