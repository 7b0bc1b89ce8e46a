/*
 * stack.c - segments of address space, cut into guarded stacks.
 *
 *     segment:  | guard, stack | guard, stack | ... | guard, stack |
 *
 * A segment is address space at first, without access: it costs nothing, not even where the kernel
 * lets nobody promise more memory than there is (vm.overcommit_memory=2), or a program has locked
 * all of its own. A stack is opened when it is first given out, those before it lying open already.
 *
 * The fault handler has to find the stack that an address belongs to, without a lock, while other
 * threads create and destroy arenas. So a segment's record is never freed: when its arena goes it
 * is emptied, and later used again. The list of records only ever grows, at its head.
 */
#include "engine/fiber/stack.h"

#include "engine/base/ensure.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * Linux 6.13. A guard installed so is a mark in the page table; one made by mprotect splits the
 * mapping, and a process may have some 65,000 of those: enough for half as many stacks.
 */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#define MAPPINGS_DEFAULT 65530

/* Of a program's mappings, those that are no stacks. */
#define MAPPINGS_ASIDE 1000

#define SEGMENT_STACKS ((size_t)64)
#define SEGMENT_SIZE_MAX ((size_t)1 << 30)

static_assert(STACK_SIZE_MAX + STACK_GUARD <= SEGMENT_SIZE_MAX, "a segment has room for a stack");

struct segment {
    struct segment *next_record;        /* of all records; written once */
    struct segment *next;               /* of the arena's */
    bool taken;                         /* by an arena; under records_lock */
    size_t length;
    size_t cut;                         /* bytes of it that have been made stacks */

    /* What the fault handler reads. While base is 0, the others mean nothing. */
    _Atomic uintptr_t base;
    _Atomic size_t reach;               /* = cut */
    _Atomic size_t stack_size;
    _Atomic size_t stride;
};

struct stack_arena {
    size_t stack_size;
    size_t stride;                      /* a stack and its guard */
    size_t max_stacks;

    pthread_mutex_t lock;               /* for everything below */
    struct segment *segments;           /* the newest first: stacks are cut from that one */
    size_t capacity;                    /* stacks in all segments, cut or not */
    size_t in_use;
    void **cold;                        /* tops of stacks not in use; room for capacity */
    size_t cold_len;
};

static _Atomic(struct segment *) records;
/* For their writers; held across fork. */
static pthread_mutex_t records_lock = PTHREAD_MUTEX_INITIALIZER;

/* ------------------------------------------------------------------ records ----------- */

static struct segment *record_find_locked(void)
{
    /* relaxed: writers hold the lock. pairs: none */
    struct segment *record = atomic_load_explicit(&records, memory_order_relaxed);

    while (record && record->taken)
        record = record->next_record;
    return record;
}

static struct segment *record_add_locked(void)
{
    struct segment *record = calloc(1, sizeof(*record));

    if (!record)
        return NULL;
    /* relaxed: writers hold the lock. pairs: none */
    record->next_record = atomic_load_explicit(&records, memory_order_relaxed);
    /* release: a thread that finds the record sees its link. pairs: find_stack() */
    atomic_store_explicit(&records, record, memory_order_release);
    return record;
}

static struct segment *record_take(void)
{
    struct segment *record;

    pthread_mutex_lock(&records_lock);
    record = record_find_locked();
    if (!record)
        record = record_add_locked();
    if (record)
        record->taken = true;
    pthread_mutex_unlock(&records_lock);
    return record;
}

static void record_give_back(struct segment *record)
{
    pthread_mutex_lock(&records_lock);
    record->taken = false;
    pthread_mutex_unlock(&records_lock);
}

/* Lets the fault handler know of the segment, and of each stack that is cut from it. */
static void record_publish(struct segment *record, const struct stack_arena *arena, void *base)
{
    /* relaxed: the base carries them. pairs: find_in() */
    atomic_store_explicit(&record->reach, 0, memory_order_relaxed);
    atomic_store_explicit(&record->stack_size, arena->stack_size, memory_order_relaxed);
    atomic_store_explicit(&record->stride, arena->stride, memory_order_relaxed);
    /* release: a thread that sees the base sees the three above. pairs: find_in() */
    atomic_store_explicit(&record->base, (uintptr_t)base, memory_order_release);
}

void stack_before_fork(void)
{
    pthread_mutex_lock(&records_lock);
}

void stack_after_fork(void)
{
    pthread_mutex_unlock(&records_lock);
}

/* ------------------------------------------------------------------ segments ---------- */

static unsigned char *segment_base(const struct segment *segment)
{
    /* relaxed: the arena wrote it itself, under its lock. pairs: none */
    return (unsigned char *)atomic_load_explicit(&segment->base, memory_order_relaxed);
}

static void *segment_map(size_t length)
{
    void *base = mmap(NULL, length, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    if (base == MAP_FAILED)
        return NULL;
    /* Or the first touch of one stack could bring in 2 MiB. Kernels without them say EINVAL. */
    (void)madvise(base, length, MADV_NOHUGEPAGE);
    return base;
}

static struct segment *segment_create(const struct stack_arena *arena, size_t stacks)
{
    struct segment *segment = record_take();
    void *base;

    if (!segment)
        return NULL;
    base = segment_map(stacks * arena->stride);
    if (!base) {
        record_give_back(segment);
        return NULL;
    }
    segment->length = stacks * arena->stride;
    segment->cut = 0;
    record_publish(segment, arena, base);
    return segment;
}

static void segment_destroy(struct segment *segment)
{
    unsigned char *base = segment_base(segment);

    /* Before it is unmapped, since afterwards the address may be anybody's.
     * relaxed: no thread may run on these stacks any more. pairs: none */
    atomic_store_explicit(&segment->base, 0, memory_order_relaxed);
    munmap(base, segment->length);
    record_give_back(segment);
}

/*
 * With a guard of marks a stack and its guard are one mapping with those before. Else the guard is
 * what stays shut: on an older kernel, in locked memory, and where opening it would be a promise of
 * memory that the kernel does not take.
 */
static bool open_stack(unsigned char *guard, size_t guard_size, size_t stack_size)
{
    bool marked = madvise(guard, guard_size, MADV_GUARD_INSTALL) == 0;

    if (marked && mprotect(guard, guard_size + stack_size, PROT_READ | PROT_WRITE) == 0)
        return true;
    return mprotect(guard + guard_size, stack_size, PROT_READ | PROT_WRITE) == 0;
}

/* The top of the segment's next stack; NULL: the kernel has no room for it. */
static void *segment_cut(struct segment *segment, const struct stack_arena *arena)
{
    unsigned char *guard = segment_base(segment) + segment->cut;

    if (!open_stack(guard, arena->stride - arena->stack_size, arena->stack_size))
        return NULL;
    segment->cut += arena->stride;
    /* relaxed: asked about by who runs on the stack, and has it from us. pairs: find_in() */
    atomic_store_explicit(&segment->reach, segment->cut, memory_order_relaxed);
    return guard + arena->stride;
}

/* ------------------------------------------------------------------ the arena --------- */

static size_t next_segment_stacks(const struct stack_arena *arena)
{
    size_t stacks = SEGMENT_SIZE_MAX / arena->stride;

    if (stacks > SEGMENT_STACKS)
        stacks = SEGMENT_STACKS;
    if (arena->max_stacks != 0 && stacks > arena->max_stacks - arena->capacity)
        stacks = arena->max_stacks - arena->capacity;
    return stacks;
}

static bool grow_locked(struct stack_arena *arena)
{
    size_t stacks = next_segment_stacks(arena);
    struct segment *segment = NULL;
    void **cold;

    if (stacks == 0)
        return false;
    /* Room for every stack there is: giving one back can't fail. */
    cold = reallocarray(arena->cold, arena->capacity + stacks, sizeof(*cold));
    if (!cold)
        return false;
    arena->cold = cold;
    /* Where address space is short (ulimit -v), a shorter one may fit. */
    for (; stacks > 0 && !segment; stacks /= 2)
        segment = segment_create(arena, stacks);
    if (!segment)
        return false;
    stacks = segment->length / arena->stride;
    segment->next = arena->segments;
    arena->segments = segment;
    arena->capacity += stacks;
    return true;
}

static void *get_locked(struct stack_arena *arena)
{
    if (arena->cold_len > 0)
        return arena->cold[--arena->cold_len];
    if (!arena->segments || arena->segments->cut == arena->segments->length)
        if (!grow_locked(arena))
            return NULL;
    return segment_cut(arena->segments, arena);
}

int stack_arena_create(size_t stack_size, size_t max_stacks, struct stack_arena **ret_arena)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct stack_arena *arena;

    if (stack_size == 0)
        stack_size = STACK_SIZE_DEFAULT;
    if (stack_size < STACK_SIZE_MIN || stack_size > STACK_SIZE_MAX)
        return -EINVAL;
    arena = malloc(sizeof(*arena));
    if (!arena)
        return -ENOMEM;
    stack_size = (stack_size + page - 1) & ~(page - 1);
    *arena = (struct stack_arena){
        .stack_size = stack_size,
        .stride = stack_size + STACK_GUARD,
        .max_stacks = max_stacks,
    };
    pthread_mutex_init(&arena->lock, NULL);
    *ret_arena = arena;
    return 0;
}

void stack_arena_destroy(struct stack_arena *arena)
{
    if (!arena)
        return;
    WEIR_ENSURE(arena->in_use == 0);
    while (arena->segments) {
        struct segment *segment = arena->segments;

        arena->segments = segment->next;
        segment_destroy(segment);
    }
    pthread_mutex_destroy(&arena->lock);
    free(arena->cold);
    free(arena);
}

/* At the limit no page may be had for a try. */
static bool guards_are_mappings(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *guard = segment_map(page);
    bool are;

    if (!guard)
        return madvise(NULL, 0, MADV_GUARD_INSTALL) < 0;
    are = madvise(guard, page, MADV_GUARD_INSTALL) < 0;
    munmap(guard, page);
    return are;
}

/* Else as the kernel has it from the start. */
static size_t mappings_max(void)
{
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    size_t max = MAPPINGS_DEFAULT;

    if (!file)
        return max;
    if (fscanf(file, "%zu", &max) != 1)
        max = MAPPINGS_DEFAULT;
    fclose(file);
    return max;
}

size_t stack_count_max(void)
{
    size_t mappings;

    if (!guards_are_mappings())
        return SIZE_MAX;
    mappings = mappings_max();
    return mappings > (size_t)2 * MAPPINGS_ASIDE ? (mappings - MAPPINGS_ASIDE) / 2
                                                 : MAPPINGS_ASIDE / 2;
}

bool stack_arena_lacks_mappings(struct stack_arena *arena)
{
    size_t in_use;

    if (!guards_are_mappings())
        return false;
    pthread_mutex_lock(&arena->lock);
    in_use = arena->in_use;
    pthread_mutex_unlock(&arena->lock);
    return in_use >= stack_count_max() / 2;
}

size_t stack_arena_size(const struct stack_arena *arena)
{
    return arena->stack_size;
}

void *stack_arena_get(struct stack_arena *arena)
{
    void *top;

    pthread_mutex_lock(&arena->lock);
    top = get_locked(arena);
    arena->in_use += top != NULL;
    pthread_mutex_unlock(&arena->lock);
    return top;
}

void stack_arena_put(struct stack_arena *arena, void *top)
{
    /* Fails for locked memory, which then stays. The guard is below, and stays too. */
    (void)madvise((unsigned char *)top - arena->stack_size, arena->stack_size, MADV_DONTNEED);

    pthread_mutex_lock(&arena->lock);
    WEIR_ENSURE(arena->in_use > 0);
    arena->in_use--;
    arena->cold[arena->cold_len++] = top;
    pthread_mutex_unlock(&arena->lock);
}

/* ------------------------------------------------------------------ the handler's ----- */

/*
 * A record that is emptied and refilled meanwhile may give a mixed answer, but never about a
 * stack that somebody runs on: that one's arena is alive, and its record stands still.
 */
static void *find_in(const struct segment *record, uintptr_t address, bool in_guard,
                     size_t *ret_size)
{
    /* acquire: the base brings its sizes with it. pairs: record_publish() */
    uintptr_t base = atomic_load_explicit(&record->base, memory_order_acquire);
    size_t reach = atomic_load_explicit(&record->reach, memory_order_relaxed);
    size_t stack_size = atomic_load_explicit(&record->stack_size, memory_order_relaxed);
    size_t stride = atomic_load_explicit(&record->stride, memory_order_relaxed);
    size_t in_stride;

    if (base == 0 || address < base || address - base >= reach)
        return NULL;
    in_stride = (address - base) % stride;
    if ((in_stride < stride - stack_size) != in_guard)
        return NULL;
    *ret_size = stack_size;
    return (void *)(address - in_stride + stride);
}

static void *find_stack(const void *address, bool in_guard, size_t *ret_size)
{
    /* acquire: the records' links. pairs: record_add_locked() */
    const struct segment *record = atomic_load_explicit(&records, memory_order_acquire);
    void *top = NULL;

    for (; record && !top; record = record->next_record)
        top = find_in(record, (uintptr_t)address, in_guard, ret_size);
    return top;
}

void *stack_guarded_by(const void *address, size_t *ret_size)
{
    return find_stack(address, true, ret_size);
}

void *stack_holding(const void *address, size_t *ret_size)
{
    return find_stack(address, false, ret_size);
}
