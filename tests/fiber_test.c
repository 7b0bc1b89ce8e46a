/*
 * fiber_test.c - running, parking and resuming; the cache of resting fibers.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "engine/fiber/fiber.h"
#include "engine/fiber/stack.h"

/* What every test has: an arena, and a cache in which four may idle. */
struct house {
    struct stack_arena *arena;
    struct fiber_cache cache;
};

static struct house house;

static int open_house(void **state)
{
    *state = &house;
    if (stack_arena_create(0, 0, &house.arena) < 0)
        return -1;
    fiber_cache_init(&house.cache, house.arena, 4);
    return 0;
}

static int close_house(void **state)
{
    (void)state;
    fiber_cache_fini(&house.cache);
    stack_arena_destroy(house.arena);
    return 0;
}

static struct fiber *get(void)
{
    struct fiber *fiber = fiber_get(&house.cache);

    assert_non_null(fiber);
    return fiber;
}

/* ------------------------------------------------------------------ switching --------- */

static void add_one(struct fiber *self, void *arg)
{
    int *count = arg;

    (void)self;
    ++*count;
}

static void an_entry_that_returns_leaves_the_fiber_resting(void **state)
{
    struct fiber *fiber = get();
    int count = 0;

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_true(fiber_run(fiber, add_one, &count));
    assert_int_equal(count, 1000);
    fiber_put(&house.cache, fiber);
}

static void count_to_three(struct fiber *self, void *arg)
{
    int *count = arg;

    for (int i = 1; i <= 3; i++) {
        *count = i;
        fiber_park(self);
    }
}

static void a_parked_fiber_goes_on_where_it_stopped(void **state)
{
    struct fiber *fiber = get();
    int count = 0;

    (void)state;
    assert_false(fiber_run(fiber, count_to_three, &count));
    assert_int_equal(count, 1);
    assert_false(fiber_resume(fiber));
    assert_int_equal(count, 2);
    assert_false(fiber_resume(fiber));
    assert_int_equal(count, 3);
    assert_true(fiber_resume(fiber));
    fiber_put(&house.cache, fiber);
}

static void count_down(struct fiber *self, int depth, int *sum)
{
    volatile char frame[64];

    memset((char *)frame, depth, sizeof(frame));
    if (depth > 0)
        count_down(self, depth - 1, sum);
    else
        fiber_park(self);
    for (size_t i = 0; i < sizeof(frame); i++)
        *sum += frame[i] == depth;
}

static void keep_frames(struct fiber *self, void *arg)
{
    count_down(self, 20, arg);
}

static void frames_survive_while_other_fibers_run(void **state)
{
    struct fiber *fibers[8];
    int sums[8] = { 0 };

    (void)state;
    for (size_t i = 0; i < 8; i++) {
        fibers[i] = get();
        assert_false(fiber_run(fibers[i], keep_frames, &sums[i]));
    }
    for (size_t i = 0; i < 8; i++) {
        assert_true(fiber_resume(fibers[i]));
        assert_int_equal(sums[i], 21 * 64);
        fiber_put(&house.cache, fibers[i]);
    }
}

struct nested {
    struct fiber *inner;
    int count;
    bool inner_ended;
};

static void run_another(struct fiber *self, void *arg)
{
    struct nested *nested = arg;

    nested->inner_ended = fiber_run(nested->inner, count_to_three, &nested->count);
    fiber_park(self);
    while (!nested->inner_ended)
        nested->inner_ended = fiber_resume(nested->inner);
}

static void a_fiber_may_be_another_ones_scheduler(void **state)
{
    struct fiber *outer = get();
    struct nested nested = { .inner = get() };

    (void)state;
    assert_false(fiber_run(outer, run_another, &nested));
    assert_int_equal(nested.count, 1);
    assert_false(nested.inner_ended);
    assert_true(fiber_resume(outer));
    assert_int_equal(nested.count, 3);
    assert_true(nested.inner_ended);
    fiber_put(&house.cache, nested.inner);
    fiber_put(&house.cache, outer);
}

static void divide(struct fiber *self, void *arg)
{
    volatile double *number = arg;
    double kept = *number / 3.0;

    fiber_park(self);
    *number = kept * 3.0;
}

static void floating_point_values_survive_a_park(void **state)
{
    struct fiber *fibers[4];
    double numbers[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        numbers[i] = 3.0 * (i + 1);
        fibers[i] = get();
        assert_false(fiber_run(fibers[i], divide, &numbers[i]));
    }
    for (int i = 0; i < 4; i++) {
        assert_true(fiber_resume(fibers[i]));
        assert_true(numbers[i] > 3.0 * (i + 1) - 1e-9 && numbers[i] < 3.0 * (i + 1) + 1e-9);
        fiber_put(&house.cache, fibers[i]);
    }
}

/* ------------------------------------------------------------------ the stack --------- */

static void note_own_frame(struct fiber *self, void *arg)
{
    uintptr_t *ret_frame = arg;

    (void)self;
    *ret_frame = (uintptr_t)__builtin_frame_address(0);
}

static void an_entry_runs_just_below_its_fiber(void **state)
{
    struct fiber *fiber = get();
    uintptr_t frame = 0;

    (void)state;
    assert_true(fiber_run(fiber, note_own_frame, &frame));
    assert_true(frame < (uintptr_t)fiber);
    assert_true((uintptr_t)fiber - frame < 2048);
    fiber_put(&house.cache, fiber);
}

static void use_half_of_it(struct fiber *self, void *arg)
{
    unsigned char *sum = arg;
    volatile unsigned char data[STACK_SIZE_DEFAULT / 2];

    (void)self;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)i;
    for (size_t i = 0; i < sizeof(data); i++)
        *sum = (unsigned char)(*sum + data[i]);
}

static void large_locals_have_room(void **state)
{
    struct fiber *fiber = get();
    unsigned char sum = 1;

    (void)state;
    assert_true(fiber_run(fiber, use_half_of_it, &sum));
    assert_int_equal(sum, 1);   /* 128 times the sum of all bytes, which is a multiple of 128 */
    fiber_put(&house.cache, fiber);
}

/* ------------------------------------------------------------------ the cache --------- */

static void the_warmest_fiber_is_given_first(void **state)
{
    struct fiber *a = get();
    struct fiber *b = get();

    (void)state;
    fiber_put(&house.cache, a);
    fiber_put(&house.cache, b);
    assert_ptr_equal(get(), b);
    assert_ptr_equal(get(), a);
    fiber_put(&house.cache, b);
    fiber_put(&house.cache, a);
}

/* Takes so many at once, and puts them back. */
static void need(size_t count)
{
    struct fiber *fibers[10];
    int ran = 0;

    for (size_t i = 0; i < count; i++) {
        fibers[i] = get();
        assert_true(fiber_run(fibers[i], add_one, &ran));
    }
    assert_int_equal(ran, count);
    for (size_t i = 0; i < count; i++)
        fiber_put(&house.cache, fibers[i]);
}

static void what_nobody_has_needed_goes_back_to_the_arena(void **state)
{
    (void)state;
    need(10);
    assert_true(fiber_cache_trimmable(&house.cache));
    fiber_cache_trim(&house.cache, 10);
    assert_int_equal(house.cache.warm_len, 10);     /* all were needed a moment ago */
    need(7);
    fiber_cache_trim(&house.cache, 10);
    assert_int_equal(house.cache.warm_len, 7);
    fiber_cache_trim(&house.cache, 2);
    assert_int_equal(house.cache.warm_len, 5);      /* no more than asked for */
    fiber_cache_trim(&house.cache, 10);
    assert_int_equal(house.cache.warm_len, 4);      /* as many may idle */
    assert_false(fiber_cache_trimmable(&house.cache));
    need(10);
    assert_int_equal(house.cache.warm_len, 10);
}

static void a_new_life_begins_without_a_label(void **state)
{
    struct fiber *fiber = get();

    (void)state;
    assert_null(fiber_label(fiber));
    fiber_set_label(fiber, "upper");
    assert_string_equal(fiber_label(fiber), "upper");
    fiber_put(&house.cache, fiber);
    assert_null(fiber_label(get()));
    fiber_put(&house.cache, fiber);
}

static void get_returns_null_when_no_stack_is_left(void **state)
{
    struct stack_arena *arena;
    struct fiber_cache cache;
    struct fiber *a, *b;

    (void)state;
    assert_int_equal(stack_arena_create(0, 2, &arena), 0);
    fiber_cache_init(&cache, arena, 0);
    a = fiber_get(&cache);
    b = fiber_get(&cache);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(fiber_get(&cache));
    fiber_put(&cache, a);
    a = fiber_get(&cache);
    assert_non_null(a);
    fiber_put(&cache, a);
    fiber_put(&cache, b);
    fiber_cache_fini(&cache);
    stack_arena_destroy(arena);
}

/* ------------------------------------------------------------------ threads ----------- */

enum { THREADS = 4, FIBERS = 32, ROUNDS = 500 };

static void park_many_times(struct fiber *self, void *arg)
{
    int *count = arg;

    for (int i = 0; i < ROUNDS; i++) {
        ++*count;
        fiber_park(self);
    }
}

/* Returns its argument if all fibers ran to their end. */
static void *run_a_scheduler(void *arena)
{
    struct fiber_cache cache;
    struct fiber *fibers[FIBERS];
    int counts[FIBERS] = { 0 };
    int ended = 0, correct = 0;

    fiber_cache_init(&cache, arena, FIBERS / 2);
    for (int life = 0; life < 3; life++) {
        for (int i = 0; i < FIBERS; i++) {
            fibers[i] = fiber_get(&cache);
            ended += fiber_run(fibers[i], park_many_times, &counts[i]);
        }
        for (int round = 0; round < ROUNDS; round++)
            for (int i = 0; i < FIBERS; i++)
                ended += fiber_resume(fibers[i]);
        for (int i = 0; i < FIBERS; i++)
            fiber_put(&cache, fibers[i]);
    }
    for (int i = 0; i < FIBERS; i++)
        correct += counts[i] == 3 * ROUNDS;
    fiber_cache_fini(&cache);
    return ended == 3 * FIBERS && correct == FIBERS ? arena : NULL;
}

static void threads_share_an_arena_through_caches_of_their_own(void **state)
{
    pthread_t threads[THREADS];
    void *result;

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_a_scheduler, house.arena), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, house.arena);
    }
}

#define with_house(test) cmocka_unit_test_setup_teardown(test, open_house, close_house)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_house(an_entry_that_returns_leaves_the_fiber_resting),
        with_house(a_parked_fiber_goes_on_where_it_stopped),
        with_house(frames_survive_while_other_fibers_run),
        with_house(a_fiber_may_be_another_ones_scheduler),
        with_house(floating_point_values_survive_a_park),
        with_house(an_entry_runs_just_below_its_fiber),
        with_house(large_locals_have_room),
        with_house(the_warmest_fiber_is_given_first),
        with_house(what_nobody_has_needed_goes_back_to_the_arena),
        with_house(a_new_life_begins_without_a_label),
        with_house(get_returns_null_when_no_stack_is_left),
        with_house(threads_share_an_arena_through_caches_of_their_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
