/*
 * ensure_test.c - what ends the program in every build, with a line, before it writes over memory
 * or forgets a client. Each happens in a child process. (An assert would say it in words of its
 * own.)
 */
#include "tests/support.h"

#include "engine/base/ensure.h"
#include "engine/fiber/fiber.h"
#include "engine/fiber/stack.h"
#include "engine/sync/handoff.h"
#include "engine/sync/ready_queue.h"

#include <signal.h>
#include <string.h>

enum { CAPACITY = 1024, STACK_SIZE = 64 * 1024 };

static _Alignas(64) char things[2 * CAPACITY][64];
static struct epoll_set sets[1];
static _Alignas(64) struct handoff handoff;
static struct ready_queue queue;
static struct stack_arena *arena;
static struct fiber_cache cache;

static struct connection *thing(unsigned i)
{
    return (struct connection *)things[i];
}

/* It is aborted, and says in one line which condition does not hold. */
static void assert_ends(void (*body)(void), const char *condition)
{
    struct support_end end = support_run_in_child(body);

    assert_int_equal(end.status, -SIGABRT);
    assert_ptr_equal(strstr(end.said, "weir: a fault of weir's"), end.said);
    assert_non_null(strstr(end.said, condition));
    assert_ptr_equal(strchr(end.said, '\n'), end.said + strlen(end.said) - 1);
}

/* ------------------------------------------------------------------ what ends it ------ */

static void look_at_a_condition(void)
{
    int one = 1;

    WEIR_ENSURE(one == 1);
    WEIR_ENSURE(one == 2);
}

static void a_condition_that_does_not_hold_ends_the_program(void **state)
{
    (void)state;
    assert_ends(look_at_a_condition, "'one == 2' does not hold");
}

/* The queue would have to forget one. */
static void hand_over_more_than_there_are(void)
{
    handoff_init(&handoff, sets, 1, CAPACITY, false);
    for (unsigned i = 0; i < 2 * CAPACITY; i++)
        handoff_put(&handoff, thing(i));
    handoff_put(&handoff, thing(0));
}

static void a_connection_that_has_no_room_in_the_queue_is_not_forgotten(void **state)
{
    (void)state;
    assert_ends(hand_over_more_than_there_are, "'pushed'");
}

static void push_nothing(void)
{
    ready_queue_init(&queue, CAPACITY);
    ready_queue_push(&queue, NULL);
}

static void push_what_is_not_aligned(void)
{
    ready_queue_init(&queue, CAPACITY);
    ready_queue_push(&queue, (struct connection *)(things[0] + 8));
}

static void push_an_address_with_too_many_bits(void)
{
    ready_queue_init(&queue, CAPACITY);
    ready_queue_push(&queue, (struct connection *)(UINT64_C(1) << 52));
}

static void no_address_goes_into_the_queue_that_would_not_come_out_again(void **state)
{
    (void)state;
    assert_ends(push_nothing, "'conn ");
    assert_ends(push_what_is_not_aligned, "'conn ");
    assert_ends(push_an_address_with_too_many_bits, "'conn ");
}

static void give_a_stack_back_twice(void)
{
    void *top;

    stack_arena_create(STACK_SIZE, 4, &arena);
    top = stack_arena_get(arena);
    stack_arena_put(arena, top);
    stack_arena_put(arena, top);
}

static void unmap_a_stack_that_is_in_use(void)
{
    stack_arena_create(STACK_SIZE, 4, &arena);
    stack_arena_get(arena);
    stack_arena_destroy(arena);
}

static void no_stack_is_in_two_places(void **state)
{
    (void)state;
    assert_ends(give_a_stack_back_twice, "'arena->in_use > 0'");
    assert_ends(unmap_a_stack_that_is_in_use, "'arena->in_use == 0'");
}

static void park(struct fiber *fiber, void *arg)
{
    (void)arg;
    fiber_park(fiber);
}

static struct fiber *parked_fiber(void)
{
    struct fiber *fiber;

    stack_arena_create(STACK_SIZE, 4, &arena);
    fiber_cache_init(&cache, arena, 4);
    fiber = fiber_get(&cache);
    fiber_run(fiber, park, NULL);
    return fiber;
}

static void rest_a_fiber_that_has_not_ended(void)
{
    fiber_put(&cache, parked_fiber());
}

static void run_a_fiber_that_has_not_ended(void)
{
    fiber_run(parked_fiber(), park, NULL);
}

static void resume_a_fiber_that_has_ended(void)
{
    struct fiber *fiber = parked_fiber();

    fiber_resume(fiber);
    fiber_resume(fiber);
}

static void park_a_fiber_that_does_not_run(void)
{
    fiber_park(parked_fiber());
}

static void no_stack_is_run_that_is_another_calls(void **state)
{
    (void)state;
    assert_ends(rest_a_fiber_that_has_not_ended, "'!fiber->entry'");
    assert_ends(run_a_fiber_that_has_not_ended, "'!fiber->entry'");
    assert_ends(resume_a_fiber_that_has_ended, "'fiber->entry && !fiber->scheduler'");
    assert_ends(park_a_fiber_that_does_not_run, "'fiber->scheduler'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_condition_that_does_not_hold_ends_the_program),
        cmocka_unit_test(a_connection_that_has_no_room_in_the_queue_is_not_forgotten),
        cmocka_unit_test(no_address_goes_into_the_queue_that_would_not_come_out_again),
        cmocka_unit_test(no_stack_is_in_two_places),
        cmocka_unit_test(no_stack_is_run_that_is_another_calls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
