#include "tests/simulation/memory.h"

#include "tests/simulation/dice.h"
#include "tests/simulation/report.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/trace.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SMALLEST 6              /* log2 */
#define CLASSES 22
#define RESTING 32              /* of each class, before a block is used again */
#define MAGIC UINT32_C(0x57454952)
#define PATTERN 0xdb

/* Before each block, and as far before it as blocks are aligned. */
struct block {
    _Alignas(64) uint32_t magic;
    uint32_t class;
    size_t size;
    bool taken;
    bool aligned;
    const void *taker;
    uint64_t number;
    struct block *next, *before;
};

void *__real_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);

unsigned char *memory_arena, *memory_freed;
static unsigned char *fresh;
static struct block taken = { .next = &taken, .before = &taken };
static struct block *rests[CLASSES], **rests_end[CLASSES];
static unsigned rests_len[CLASSES];
static size_t blocks, aligned_blocks, bytes;
static uint64_t fail_in, numbers;

void memory_fail_once_in(uint64_t in)
{
    fail_in = in;
}

size_t memory_blocks(void)
{
    return blocks;
}

size_t memory_aligned_blocks(void)
{
    return aligned_blocks;
}

size_t memory_bytes(void)
{
    return bytes;
}

static unsigned class_for(size_t size)
{
    unsigned bits = size > 1 ? 64 - (unsigned)__builtin_clzll(size - 1) : 0;

    return bits > SMALLEST ? bits - SMALLEST : 0;
}

static size_t size_of(unsigned class)
{
    return (size_t)1 << (class + SMALLEST);
}

static void *memory_of(struct block *block)
{
    return block + 1;
}

static struct block *block_of(void *memory)
{
    struct block *block = (struct block *)memory - 1;

    if (block->magic != MAGIC || !block->taken)
        report_failure("free of what is not taken");
    return block;
}

static bool is_ours(const void *memory)
{
    return memory_arena && (size_t)((const unsigned char *)memory - memory_arena) < MEMORY_ARENA;
}

/* At its ends: a whole buffer would take longer than what it is used for. */
#define EDGE 256

static size_t edge_of(const struct block *block)
{
    return block->size < EDGE ? block->size : EDGE;
}

static void check_resting(struct block *block)
{
    const unsigned char *memory = memory_of(block);
    size_t edge = edge_of(block);

    for (size_t i = 0; i < edge; i++)
        if (memory[i] != PATTERN || memory[block->size - 1 - i] != PATTERN)
            report_failure("memory was written after it had been freed: %zu bytes, the %llu-th "
                           "block, taken by %p", block->size, (unsigned long long)block->number,
                           block->taker);
}

static void spoil(struct block *block)
{
    memset(memory_of(block), PATTERN, edge_of(block));
    memset((unsigned char *)memory_of(block) + block->size - edge_of(block), PATTERN,
           edge_of(block));
}

static unsigned char *map(size_t len)
{
    unsigned char *memory = __real_mmap(NULL, len, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        abort();
    return memory;
}

/* For who looks whether he accesses what was freed. */
static void mark(struct block *block, bool freed)
{
    size_t at = (size_t)((unsigned char *)memory_of(block) - memory_arena) / MEMORY_UNIT;

    memset(memory_freed + at, freed, (block->size + MEMORY_UNIT - 1) / MEMORY_UNIT);
}

void memory_accuse(const void *address)
{
    report_failure("memory is accessed that was freed: %p", address);
}

static struct block *cut_block(unsigned class)
{
    size_t span = sizeof(struct block) + size_of(class);
    struct block *block;

    if (!memory_arena) {
        memory_freed = map(MEMORY_ARENA / MEMORY_UNIT);
        memory_arena = map(MEMORY_ARENA);
        fresh = memory_arena;
    }
    if (span > (size_t)(memory_arena + MEMORY_ARENA - fresh))
        return NULL;
    block = (struct block *)(void *)fresh;
    fresh += span;
    *block = (struct block){ .magic = MAGIC, .class = class };
    return block;
}

static struct block *take_rested(unsigned class)
{
    struct block *block = rests[class];

    rests[class] = block->next;
    if (!rests[class])
        rests_end[class] = NULL;
    rests_len[class]--;
    check_resting(block);
    return block;
}

static void *take(size_t size, const void *taker)
{
    unsigned class = class_for(size);
    struct block *block;

    scheduler_point_call();
    if (dice_once_in(scheduler_dice(), fail_in)) {
        trace_note("memory", 0, "none of %ld bytes", (long)size, 0, 0);
        errno = ENOMEM;
        return NULL;
    }
    if (class >= CLASSES)
        return NULL;
    block = rests_len[class] > RESTING ? take_rested(class) : cut_block(class);
    if (!block)
        return NULL;
    block->taken = true;
    block->aligned = false;
    block->size = size;
    mark(block, false);
    block->taker = taker;
    block->number = numbers++;
    block->next = taken.next;
    block->before = &taken;
    taken.next->before = block;
    taken.next = block;
    blocks++;
    bytes += size;
    return memory_of(block);
}

static void put_to_rest(struct block *block)
{
    unsigned class = block->class;

    spoil(block);
    mark(block, true);
    block->next = NULL;
    if (rests_end[class])
        *rests_end[class] = block;
    else
        rests[class] = block;
    rests_end[class] = &block->next;
    rests_len[class]++;
}

static void give_back(void *memory)
{
    struct block *block = block_of(memory);

    block->taken = false;
    block->next->before = block->before;
    block->before->next = block->next;
    blocks--;
    aligned_blocks -= block->aligned;
    bytes -= block->size;
    put_to_rest(block);
    scheduler_point_call();
}

void memory_check(void)
{
    for (unsigned class = 0; class < CLASSES; class++)
        for (struct block *block = rests[class]; block; block = block->next)
            check_resting(block);
}

void memory_print_left(void)
{
    for (const struct block *block = taken.next; block != &taken; block = block->next)
        printf("left: %zu bytes, the %llu-th block, taken by %p\n", block->size,
               (unsigned long long)block->number, block->taker);
}

/* ------------------------------------------------------------------ the calls --------- */

void __real_free(void *memory);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_reallocarray(void *memory, size_t n, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t size)
{
    void *memory = take(size, __builtin_return_address(0));

    /* Whoever believes it to be zeroed is wrong. */
    if (memory)
        memset(memory, PATTERN, size < EDGE ? size : EDGE);
    return memory;
}

void *__wrap_calloc(size_t n, size_t size)
{
    void *memory = take(n * size, __builtin_return_address(0));

    if (memory)
        memset(memory, 0, n * size);
    return memory;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    void *memory = take(size, __builtin_return_address(0));

    if (alignment > 64)
        abort();
    if (!memory)
        return NULL;
    block_of(memory)->aligned = true;
    aligned_blocks++;
    memset(memory, PATTERN, size < EDGE ? size : EDGE);
    return memory;
}

void *__wrap_realloc(void *memory, size_t size)
{
    void *other;

    if (memory && !is_ours(memory))
        return __real_realloc(memory, size);
    other = take(size, __builtin_return_address(0));
    if (!other || !memory)
        return other;
    memcpy(other, memory, block_of(memory)->size < size ? block_of(memory)->size : size);
    give_back(memory);
    return other;
}

void *__wrap_reallocarray(void *memory, size_t n, size_t size)
{
    return __wrap_realloc(memory, n * size);
}

char *__wrap_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = take(size, __builtin_return_address(0));

    return copy ? memcpy(copy, text, size) : NULL;
}

void __wrap_free(void *memory)
{
    if (!memory)
        return;
    if (is_ours(memory))
        give_back(memory);
    else
        __real_free(memory);
}
