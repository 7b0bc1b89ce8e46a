/*
 * stack_test.c - the arena: guards, limits, memory that goes back, and finding a guard's stack.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/compiler.h"
#include "engine/fiber/stack.h"
#include "tests/old_kernel.h"

static struct stack_arena *create(size_t stack_size, size_t max_stacks)
{
    struct stack_arena *arena = NULL;

    assert_int_equal(stack_arena_create(stack_size, max_stacks, &arena), 0);
    return arena;
}

static unsigned char *get(struct stack_arena *arena)
{
    unsigned char *top = stack_arena_get(arena);

    assert_non_null(top);
    return top;
}

/* Whether the byte can be read, without faulting if not: the kernel is asked to read it. */
static bool readable(const void *byte)
{
    int ends[2];
    ssize_t n;

    assert_int_equal(pipe(ends), 0);
    n = write(ends[1], byte, 1);
    assert_true(n == 1 || errno == EFAULT);
    close(ends[0]);
    close(ends[1]);
    return n == 1;
}

static size_t resident_pages(unsigned char *bottom, size_t size)
{
    unsigned char pages[64];
    size_t count = 0, page = (size_t)sysconf(_SC_PAGESIZE);

    assert_true(size / page <= sizeof(pages));
    assert_int_equal(mincore(bottom, size, pages), 0);
    for (size_t i = 0; i < size / page; i++)
        count += pages[i] & 1;
    return count;
}

/* ------------------------------------------------------------------ sizes ------------- */

static void create_refuses_impossible_sizes(void **state)
{
    struct stack_arena *arena = NULL;

    (void)state;
    assert_int_equal(stack_arena_create(STACK_SIZE_MIN - 1, 0, &arena), -EINVAL);
    assert_int_equal(stack_arena_create(STACK_SIZE_MAX + 1, 0, &arena), -EINVAL);
    assert_int_equal(stack_arena_create(SIZE_MAX, 0, &arena), -EINVAL);
    assert_null(arena);
}

static void sizes_are_rounded_up_to_pages(void **state)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct stack_arena *arena = create(STACK_SIZE_DEFAULT + 1, 0);

    (void)state;
    assert_int_equal(stack_arena_size(arena), STACK_SIZE_DEFAULT + page);
    stack_arena_destroy(arena);
}

static void zero_is_the_default_size(void **state)
{
    struct stack_arena *arena = create(0, 0);

    (void)state;
    assert_int_equal(stack_arena_size(arena), STACK_SIZE_DEFAULT);
    stack_arena_destroy(arena);
}

static void the_largest_size_works(void **state)
{
    struct stack_arena *arena = create(STACK_SIZE_MAX, 2);
    unsigned char *a = get(arena);
    unsigned char *b = get(arena);

    (void)state;
    a[-1] = b[-1] = 1;
    b[-(ptrdiff_t)STACK_SIZE_MAX] = 1;
    assert_null(stack_arena_get(arena));
    stack_arena_put(arena, a);
    stack_arena_put(arena, b);
    stack_arena_destroy(arena);
}

/* ------------------------------------------------------------------ stacks ------------ */

static void every_byte_of_a_stack_is_its_own(void **state)
{
    enum { STACKS = 300 };      /* more than a segment has */
    struct stack_arena *arena = create(STACK_SIZE_MIN, 0);
    unsigned char *tops[STACKS];
    size_t size = stack_arena_size(arena);

    (void)state;
    for (int i = 0; i < STACKS; i++) {
        tops[i] = get(arena);
        memset(tops[i] - size, i % 251, size);
    }
    for (int i = 0; i < STACKS; i++) {
        assert_int_equal(tops[i][-1], i % 251);
        assert_int_equal(*(tops[i] - size), i % 251);
        stack_arena_put(arena, tops[i]);
    }
    stack_arena_destroy(arena);
}

static void below_a_stack_lies_a_guard(void **state)
{
    struct stack_arena *arena = create(0, 0);
    unsigned char *top = get(arena);

    (void)state;
    assert_true(readable(top - STACK_SIZE_DEFAULT));
    for (size_t below = 1; below <= STACK_GUARD; below += 1024)
        assert_false(readable(top - STACK_SIZE_DEFAULT - below));
    assert_false(readable(top - STACK_SIZE_DEFAULT - STACK_GUARD));
    stack_arena_put(arena, top);
    stack_arena_destroy(arena);
}

static void a_stack_given_back_is_given_out_again_with_its_guard(void **state)
{
    struct stack_arena *arena = create(0, 0);
    unsigned char *top = get(arena);

    (void)state;
    stack_arena_put(arena, top);
    assert_ptr_equal(get(arena), top);
    assert_true(readable(top - STACK_SIZE_DEFAULT));
    assert_false(readable(top - STACK_SIZE_DEFAULT - 1));
    stack_arena_put(arena, top);
    stack_arena_destroy(arena);
}

static void a_stack_given_back_keeps_no_memory(void **state)
{
    struct stack_arena *arena = create(0, 0);
    unsigned char *top = get(arena);
    unsigned char *bottom = top - STACK_SIZE_DEFAULT;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    (void)state;
    assert_int_equal(resident_pages(bottom, STACK_SIZE_DEFAULT), 0);
    memset(bottom, 1, STACK_SIZE_DEFAULT);
    assert_int_equal(resident_pages(bottom, STACK_SIZE_DEFAULT), STACK_SIZE_DEFAULT / page);
    stack_arena_put(arena, top);
    assert_int_equal(resident_pages(bottom, STACK_SIZE_DEFAULT), 0);
    stack_arena_destroy(arena);
}

static void touching_one_page_makes_one_page_resident(void **state)
{
    struct stack_arena *arena = create(0, 0);
    unsigned char *top = get(arena);

    (void)state;
    top[-1] = 1;
    assert_int_equal(resident_pages(top - STACK_SIZE_DEFAULT, STACK_SIZE_DEFAULT), 1);
    stack_arena_put(arena, top);
    stack_arena_destroy(arena);
}

/* ------------------------------------------------------------------ limits ------------ */

static void no_more_than_the_limit_are_given_out(void **state)
{
    enum { LIMIT = 257 };       /* one more than a segment has */
    struct stack_arena *arena = create(STACK_SIZE_MIN, LIMIT);
    unsigned char *tops[LIMIT];

    (void)state;
    for (int i = 0; i < LIMIT; i++)
        tops[i] = get(arena);
    assert_null(stack_arena_get(arena));
    stack_arena_put(arena, tops[7]);
    assert_ptr_equal(get(arena), tops[7]);
    assert_null(stack_arena_get(arena));
    for (int i = 0; i < LIMIT; i++)
        stack_arena_put(arena, tops[i]);
    stack_arena_destroy(arena);
}

/* In a process of its own, which may lose its address space. */
static bool get_fails_and_then_works_again(void)
{
    struct rlimit none = { .rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY };
    struct rlimit all = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };
    struct stack_arena *arena;

    if (stack_arena_create(0, 0, &arena) < 0)
        return false;
    if (setrlimit(RLIMIT_AS, &none) < 0 || stack_arena_get(arena))
        return false;
    return setrlimit(RLIMIT_AS, &all) == 0 && stack_arena_get(arena);
}

static void get_returns_null_when_the_kernel_has_no_memory(void **state)
{
    int status;
    pid_t child;

    (void)state;
    if (WEIR_ASAN || WEIR_TSAN)
        skip();     /* they need the address space themselves */
    child = fork();
    if (child == 0)
        _exit(get_fails_and_then_works_again() ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* As much as a process may have, and little more than that of address space. */
static bool short_segments_fit(void)
{
    struct rlimit little = { .rlim_max = RLIM_INFINITY };
    struct stack_arena *arena;
    unsigned long pages;
    FILE *file = fopen("/proc/self/statm", "r");
    bool read_it = file && fscanf(file, "%lu", &pages) == 1;

    if (!read_it || stack_arena_create(0, 0, &arena) < 0)
        return false;
    little.rlim_cur = pages * (size_t)sysconf(_SC_PAGESIZE) + ((size_t)2 << 20);
    if (setrlimit(RLIMIT_AS, &little) < 0)
        return false;
    for (int i = 0; i < 4; i++) {
        unsigned char *top = stack_arena_get(arena);

        if (!top)
            return false;
        memset(top - STACK_SIZE_DEFAULT, 1, STACK_SIZE_DEFAULT);
    }
    return true;
}

static void a_segment_is_shorter_where_address_space_is_short(void **state)
{
    int status;
    pid_t child;

    (void)state;
    if (WEIR_ASAN || WEIR_TSAN)
        skip();     /* they need the address space themselves */
    child = fork();
    if (child == 0)
        _exit(short_segments_fit() ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* In a process of its own. Who may lock nothing at all has no such stacks either. */
static bool locked_stacks_bring_in_themselves_alone(void)
{
    const struct rlimit some = { .rlim_cur = (size_t)32 << 20, .rlim_max = (size_t)32 << 20 };
    struct stack_arena *arena;
    unsigned char *tops[3];

    setrlimit(RLIMIT_MEMLOCK, &some);
    if (mlockall(MCL_FUTURE) < 0)
        return true;
    if (stack_arena_create(0, 0, &arena) < 0)
        return false;
    for (int i = 0; i < 3; i++) {
        tops[i] = stack_arena_get(arena);
        if (!tops[i] || readable(tops[i] - STACK_SIZE_DEFAULT - 1) ||
            readable(tops[i] - STACK_SIZE_DEFAULT - STACK_GUARD))
            return false;
        memset(tops[i] - STACK_SIZE_DEFAULT, 1, STACK_SIZE_DEFAULT);
    }
    return true;
}

static void stacks_of_locked_memory_are_guarded_too(void **state)
{
    int status;
    pid_t child;

    (void)state;
    if (WEIR_ASAN || WEIR_TSAN)
        skip();     /* what they map would be locked, too */
    child = fork();
    if (child == 0)
        _exit(locked_stacks_bring_in_themselves_alone() ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static size_t mappings(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    size_t lines = 0;
    int c;

    assert_non_null(file);
    while ((c = getc(file)) != EOF)
        lines += c == '\n';
    fclose(file);
    return lines;
}

static bool kernel_has_light_guards(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *probe = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool has;

    assert_true(probe != MAP_FAILED);
    has = madvise(probe, page, 102 /* MADV_GUARD_INSTALL */) == 0;
    munmap(probe, page);
    return has;
}

static void many_stacks_need_few_mappings(void **state)
{
    enum { STACKS = 5000 };
    static unsigned char *tops[STACKS];
    struct stack_arena *arena;
    size_t before;

    (void)state;
    if (!kernel_has_light_guards())
        skip();
    arena = create(0, 0);
    before = mappings();
    for (int i = 0; i < STACKS; i++)
        tops[i] = get(arena);
    /* Two a segment at most, where it lies beside nothing that it can be one with. */
    assert_true(mappings() - before < STACKS / 20);
    for (int i = 0; i < STACKS; i++)
        stack_arena_put(arena, tops[i]);
    stack_arena_destroy(arena);
}

/* ------------------------------------------------------------------ guards ------------ */

/* Those that the arena has above the number that is promised. */
static size_t get_the_others(struct stack_arena *arena)
{
    size_t count = 0;

    while (stack_arena_get(arena))
        count++;
    return count;
}

/* In a process of its own, which has no mapping left in the end. Returns what was wrong, or 0. */
static int mappings_run_out(void)
{
    struct stack_arena *arena;
    size_t promised;
    void **tops;
    size_t others;

    old_kernel = true;
    promised = stack_count_max();
    tops = malloc(promised * sizeof(*tops));
    if (!tops || stack_arena_create(STACK_SIZE_MIN, 0, &arena) < 0)
        return 1;
    for (size_t i = 0; i < promised; i++) {
        tops[i] = stack_arena_get(arena);
        if (!tops[i])
            return 2;
        if (stack_arena_lacks_mappings(arena) != (i + 1 >= promised / 2))
            return 3;
    }
    others = get_the_others(arena);
    if (others > promised / 20 || !stack_arena_lacks_mappings(arena))
        return 4;
    for (size_t i = 0; i < promised; i++)
        stack_arena_put(arena, tops[i]);
    if (stack_arena_lacks_mappings(arena))
        return 5;
    return stack_arena_get(arena) == tops[promised - 1] ? 0 : 6;
}

static void where_guards_are_mappings_their_limit_is_told(void **state)
{
    int status;
    pid_t child;

    (void)state;
    if (WEIR_ASAN || WEIR_TSAN || !mappings_have_an_end())
        skip();     /* sanitizers need mappings themselves */
    child = fork();
    if (child == 0)
        _exit(mappings_run_out());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void an_address_in_a_guard_tells_its_stack(void **state)
{
    struct stack_arena *small = create(STACK_SIZE_MIN, 0);
    struct stack_arena *large = create(STACK_SIZE_MIN * 8, 0);
    size_t small_size = stack_arena_size(small);    /* pages may be larger than the least size */
    size_t large_size = stack_arena_size(large);
    size_t size = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        unsigned char *top = get(small);
        unsigned char *bottom = top - small_size;

        assert_ptr_equal(stack_guarded_by(bottom - 1, &size), top);
        assert_int_equal(size, small_size);
        assert_ptr_equal(stack_guarded_by(bottom - STACK_GUARD, &size), top);
        assert_null(stack_guarded_by(bottom, &size));
        assert_null(stack_guarded_by(top - 1, &size));
        assert_null(stack_holding(bottom - 1, &size));
        assert_ptr_equal(stack_holding(bottom, &size), top);
        assert_ptr_equal(stack_holding(top - 1, &size), top);
        assert_int_equal(size, small_size);
        stack_arena_put(small, top);

        top = get(large);
        assert_ptr_equal(stack_guarded_by(top - large_size - 1, &size), top);
        assert_int_equal(size, large_size);
        stack_arena_put(large, top);
    }
    stack_arena_destroy(large);
    stack_arena_destroy(small);
}

static void other_addresses_have_no_stack(void **state)
{
    struct stack_arena *arena = create(0, 2);
    unsigned char *top = get(arena);
    size_t size = 77;

    (void)state;
    assert_null(stack_guarded_by(NULL, &size));
    assert_null(stack_guarded_by(&size, &size));
    assert_null(stack_guarded_by(top, &size));      /* the guard of one that nobody has yet */
    assert_null(stack_guarded_by((void *)UINTPTR_MAX, &size));
    assert_int_equal(size, 77);
    stack_arena_put(arena, top);
    stack_arena_destroy(arena);
}

static void a_destroyed_arena_is_forgotten(void **state)
{
    struct stack_arena *arena = create(0, 0);
    unsigned char *top = get(arena);
    size_t size;

    (void)state;
    stack_arena_put(arena, top);
    stack_arena_destroy(arena);
    assert_null(stack_guarded_by(top - STACK_SIZE_DEFAULT - 1, &size));
    stack_arena_destroy(NULL);
}

/* ------------------------------------------------------------------ threads ----------- */

enum { THREADS = 4, HELD = 20, ROUNDS = 200 };

/* Returns its argument if nobody else wrote to the stacks that it held. */
static void *take_and_give(void *shared)
{
    unsigned char *tops[HELD] = { 0 };
    void *result = shared;

    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < HELD; i++) {
            tops[i] = stack_arena_get(shared);
            memcpy(tops[i] - sizeof(tops), tops, sizeof(tops));
        }
        for (int i = 0; i < HELD; i++) {
            if (memcmp(tops[i] - sizeof(tops), tops, (size_t)(i + 1) * sizeof(*tops)) != 0)
                result = NULL;
            stack_arena_put(shared, tops[i]);
        }
    }
    return result;
}

static void threads_take_and_give_at_the_same_time(void **state)
{
    struct stack_arena *arena = create(STACK_SIZE_MIN, 0);
    pthread_t threads[THREADS];
    void *result;

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, arena), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, arena);
    }
    stack_arena_destroy(arena);
}

static void *come_and_go(void *unused)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct stack_arena *arena;
        size_t size;
        void *top;

        if (stack_arena_create(0, 1, &arena) < 0)
            return NULL;
        top = stack_arena_get(arena);
        if (stack_guarded_by((unsigned char *)top - STACK_SIZE_DEFAULT - 1, &size) != top)
            return NULL;
        stack_arena_put(arena, top);
        stack_arena_destroy(arena);
    }
    return unused;
}

static void guards_are_found_while_other_arenas_come_and_go(void **state)
{
    pthread_t threads[THREADS];
    void *result;

    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, state), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, state);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create_refuses_impossible_sizes),
        cmocka_unit_test(sizes_are_rounded_up_to_pages),
        cmocka_unit_test(zero_is_the_default_size),
        cmocka_unit_test(the_largest_size_works),
        cmocka_unit_test(every_byte_of_a_stack_is_its_own),
        cmocka_unit_test(below_a_stack_lies_a_guard),
        cmocka_unit_test(a_stack_given_back_is_given_out_again_with_its_guard),
        cmocka_unit_test(a_stack_given_back_keeps_no_memory),
        cmocka_unit_test(touching_one_page_makes_one_page_resident),
        cmocka_unit_test(no_more_than_the_limit_are_given_out),
        cmocka_unit_test(get_returns_null_when_the_kernel_has_no_memory),
        cmocka_unit_test(a_segment_is_shorter_where_address_space_is_short),
        cmocka_unit_test(stacks_of_locked_memory_are_guarded_too),
        cmocka_unit_test(many_stacks_need_few_mappings),
        cmocka_unit_test(where_guards_are_mappings_their_limit_is_told),
        cmocka_unit_test(an_address_in_a_guard_tells_its_stack),
        cmocka_unit_test(other_addresses_have_no_stack),
        cmocka_unit_test(a_destroyed_arena_is_forgotten),
        cmocka_unit_test(threads_take_and_give_at_the_same_time),
        cmocka_unit_test(guards_are_found_while_other_arenas_come_and_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
