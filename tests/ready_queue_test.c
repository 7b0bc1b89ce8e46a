/*
 * ready_queue_test.c - what ready_queue.h promises: order, both ends of the capacity, many laps,
 * and that many threads neither lose nor double a connection.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/sync/ready_queue.h"

/* The queue knows connections by address only, so the tests may say what one is. */
struct connection {
    _Alignas(READY_QUEUE_ALIGNMENT) uint32_t producer;
    uint32_t number;
    uint32_t pops;
};

enum { PRODUCERS = 2, CONSUMERS = 2, PER_PRODUCER = 20000 };

static struct connection *connections_new(size_t count)
{
    struct connection *conns = aligned_alloc(READY_QUEUE_ALIGNMENT, count * sizeof(*conns));

    assert_non_null(conns);
    for (size_t i = 0; i < count; i++)
        conns[i] = (struct connection){ .number = (uint32_t)i };
    return conns;
}

static void init_refuses_impossible_capacities(void **unused)
{
    struct ready_queue queue;

    (void)unused;
    assert_int_equal(ready_queue_init(&queue, 0), -EINVAL);
    assert_int_equal(ready_queue_init(&queue, SIZE_MAX), -EINVAL);
}

static void init_rounds_the_capacity_up_to_a_power_of_two(void **unused)
{
    struct connection *conns = connections_new(9);
    struct ready_queue queue;

    (void)unused;
    assert_int_equal(ready_queue_init(&queue, 5), 0);
    for (size_t i = 0; i < 8; i++)
        assert_true(ready_queue_push(&queue, &conns[i]));
    assert_false(ready_queue_push(&queue, &conns[8]));
    ready_queue_fini(&queue);
    free(conns);
}

static void a_large_queue_costs_nothing_until_it_is_used(void **unused)
{
    struct connection *conn = connections_new(1);
    struct ready_queue queue;

    (void)unused;
    assert_int_equal(ready_queue_init(&queue, (size_t)1 << 30), 0);   /* 8 GiB of addresses */
    assert_true(ready_queue_push(&queue, conn));
    assert_ptr_equal(ready_queue_pop(&queue), conn);
    ready_queue_fini(&queue);
    free(conn);
}

static void pop_returns_null_when_nothing_was_pushed(void **unused)
{
    struct ready_queue queue;

    (void)unused;
    assert_int_equal(ready_queue_init(&queue, 4), 0);
    assert_null(ready_queue_pop(&queue));
    assert_true(ready_queue_empty(&queue));
    assert_int_equal(ready_queue_len(&queue), 0);
    ready_queue_fini(&queue);
}

static void connections_leave_in_the_order_they_came_through_many_laps(void **unused)
{
    struct connection *conns = connections_new(3);
    struct ready_queue queue;

    (void)unused;
    assert_int_equal(ready_queue_init(&queue, 4), 0);
    for (int lap = 0; lap < 1000; lap++) {
        for (size_t i = 0; i < 3; i++) {
            assert_true(ready_queue_push(&queue, &conns[i]));
            assert_int_equal(ready_queue_len(&queue), i + 1);
            assert_false(ready_queue_empty(&queue));
        }
        for (size_t i = 0; i < 3; i++)
            assert_ptr_equal(ready_queue_pop(&queue), &conns[i]);
        assert_null(ready_queue_pop(&queue));
        assert_true(ready_queue_empty(&queue));
    }
    ready_queue_fini(&queue);
    free(conns);
}

static void a_full_queue_refuses_and_takes_again_after_a_pop(void **unused)
{
    struct connection *conns = connections_new(3);
    struct ready_queue queue;

    (void)unused;
    assert_int_equal(ready_queue_init(&queue, 2), 0);
    for (int lap = 0; lap < 10; lap++) {
        assert_true(ready_queue_push(&queue, &conns[0]));
        assert_true(ready_queue_push(&queue, &conns[1]));
        assert_false(ready_queue_push(&queue, &conns[2]));
        assert_int_equal(ready_queue_len(&queue), 2);
        assert_ptr_equal(ready_queue_pop(&queue), &conns[0]);
        assert_true(ready_queue_push(&queue, &conns[2]));
        assert_ptr_equal(ready_queue_pop(&queue), &conns[1]);
        assert_ptr_equal(ready_queue_pop(&queue), &conns[2]);
    }
    ready_queue_fini(&queue);
    free(conns);
}

static void one_slot_is_a_queue_too(void **unused)
{
    struct connection *conns = connections_new(2);
    struct ready_queue queue;

    (void)unused;
    assert_int_equal(ready_queue_init(&queue, 1), 0);
    for (int lap = 0; lap < 10; lap++) {
        assert_true(ready_queue_push(&queue, &conns[0]));
        assert_false(ready_queue_push(&queue, &conns[1]));
        assert_ptr_equal(ready_queue_pop(&queue), &conns[0]);
        assert_null(ready_queue_pop(&queue));
    }
    ready_queue_fini(&queue);
    free(conns);
}

static void laps_that_wrap_are_told_apart(void **unused)
{
    enum { LAPS = 1 << 22 };
    struct connection *conns = connections_new(2);
    struct ready_queue queue;

    (void)unused;
    assert_int_equal(ready_queue_init(&queue, 1), 0);
    for (uint32_t lap = 0; lap < LAPS - 1; lap++)
        if (!ready_queue_push(&queue, &conns[0]) || ready_queue_pop(&queue) != &conns[0])
            fail_msg("lap %u", lap);
    for (int lap = 0; lap < 3; lap++) {                     /* the last, the first, the second */
        assert_true(ready_queue_push(&queue, &conns[0]));
        assert_false(ready_queue_push(&queue, &conns[1]));
        assert_ptr_equal(ready_queue_pop(&queue), &conns[0]);
        assert_null(ready_queue_pop(&queue));
        assert_true(ready_queue_empty(&queue));
    }
    ready_queue_fini(&queue);
    free(conns);
}

/*
 * A thread stopped between its two steps has changed the slot and not the counter. From outside
 * that is a counter that is one too low, so the tests put it back.
 */
static void push_completes_a_push_that_was_stopped_half_way(void **unused)
{
    struct connection *conns = connections_new(2);
    struct ready_queue queue;

    (void)unused;
    assert_int_equal(ready_queue_init(&queue, 4), 0);
    assert_true(ready_queue_push(&queue, &conns[0]));
    atomic_store_explicit(&queue.tail, 0, memory_order_relaxed);
    assert_true(ready_queue_push(&queue, &conns[1]));
    assert_int_equal(ready_queue_len(&queue), 2);
    assert_ptr_equal(ready_queue_pop(&queue), &conns[0]);
    assert_ptr_equal(ready_queue_pop(&queue), &conns[1]);
    ready_queue_fini(&queue);
    free(conns);
}

static void pop_takes_what_a_push_stopped_half_way_has_put_in(void **unused)
{
    struct connection *conns = connections_new(2);
    struct ready_queue queue;

    (void)unused;
    assert_int_equal(ready_queue_init(&queue, 4), 0);
    assert_true(ready_queue_push(&queue, &conns[0]));
    atomic_store_explicit(&queue.tail, 0, memory_order_relaxed);
    assert_false(ready_queue_empty(&queue));
    assert_ptr_equal(ready_queue_pop(&queue), &conns[0]);
    assert_null(ready_queue_pop(&queue));
    assert_int_equal(ready_queue_len(&queue), 0);
    assert_true(ready_queue_push(&queue, &conns[1]));
    assert_ptr_equal(ready_queue_pop(&queue), &conns[1]);
    ready_queue_fini(&queue);
    free(conns);
}

static void pop_completes_a_pop_that_was_stopped_half_way(void **unused)
{
    struct connection *conns = connections_new(2);
    struct ready_queue queue;

    (void)unused;
    assert_int_equal(ready_queue_init(&queue, 4), 0);
    assert_true(ready_queue_push(&queue, &conns[0]));
    assert_true(ready_queue_push(&queue, &conns[1]));
    assert_ptr_equal(ready_queue_pop(&queue), &conns[0]);
    atomic_store_explicit(&queue.head, 0, memory_order_relaxed);
    assert_false(ready_queue_empty(&queue));
    assert_ptr_equal(ready_queue_pop(&queue), &conns[1]);
    atomic_store_explicit(&queue.head, 1, memory_order_relaxed);
    assert_true(ready_queue_empty(&queue));
    assert_null(ready_queue_pop(&queue));
    ready_queue_fini(&queue);
    free(conns);
}

/* ------------------------------------------------------------------ many threads ------ */

struct race {
    struct ready_queue queue;
    struct connection *conns;
    _Atomic uint32_t left;                /* connections that no consumer has popped yet */
    uint32_t out_of_order[CONSUMERS];
};

struct racer {
    struct race *race;
    uint32_t number;
};

static void *produce(void *arg)
{
    struct racer *self = arg;
    struct race *race = self->race;

    for (uint32_t i = 0; i < PER_PRODUCER; i++) {
        struct connection *conn = &race->conns[self->number * PER_PRODUCER + i];

        conn->producer = self->number;
        conn->number = i;
        while (!ready_queue_push(&race->queue, conn))
            sched_yield();
    }
    return NULL;
}

static void *consume(void *arg)
{
    struct racer *self = arg;
    struct race *race = self->race;
    int64_t last[PRODUCERS] = { -1, -1 };

    while (atomic_load_explicit(&race->left, memory_order_relaxed) > 0) {
        struct connection *conn = ready_queue_pop(&race->queue);

        if (!conn) {
            sched_yield();
            continue;
        }
        conn->pops++;                     /* no atomic: the queue gave it to us alone */
        if (conn->number <= last[conn->producer])
            race->out_of_order[self->number]++;
        last[conn->producer] = conn->number;
        atomic_fetch_sub_explicit(&race->left, 1, memory_order_relaxed);
    }
    return NULL;
}

static void race_run(size_t capacity)
{
    struct race race = { .conns = connections_new(PRODUCERS * PER_PRODUCER) };
    struct racer racers[PRODUCERS + CONSUMERS];
    pthread_t threads[PRODUCERS + CONSUMERS];

    assert_int_equal(ready_queue_init(&race.queue, capacity), 0);
    atomic_init(&race.left, PRODUCERS * PER_PRODUCER);
    for (uint32_t i = 0; i < PRODUCERS + CONSUMERS; i++) {
        bool producer = i < PRODUCERS;

        racers[i] = (struct racer){ &race, producer ? i : i - PRODUCERS };
        assert_int_equal(pthread_create(&threads[i], NULL, producer ? produce : consume,
                                        &racers[i]), 0);
    }
    for (uint32_t i = 0; i < PRODUCERS + CONSUMERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);

    assert_true(ready_queue_empty(&race.queue));
    assert_int_equal(ready_queue_len(&race.queue), 0);
    for (uint32_t i = 0; i < PRODUCERS * PER_PRODUCER; i++)
        assert_int_equal(race.conns[i].pops, 1);
    for (uint32_t i = 0; i < CONSUMERS; i++)
        assert_int_equal(race.out_of_order[i], 0);
    ready_queue_fini(&race.queue);
    free(race.conns);
}

static void each_connection_is_popped_once_and_in_its_producers_order(void **unused)
{
    (void)unused;
    race_run(1024);
}

static void the_same_holds_when_the_queue_is_full_nearly_always(void **unused)
{
    (void)unused;
    race_run(2);
}

struct carousel {
    struct ready_queue queue;
    _Atomic uint32_t refused;
};

enum { RIDERS = 4, RIDES = 20000 };

/* Pops and pushes back, as a worker does with a connection that it hands on. */
static void *ride(void *arg)
{
    struct carousel *carousel = arg;

    for (int i = 0; i < RIDES; i++) {
        struct connection *conn = ready_queue_pop(&carousel->queue);

        if (!conn) {
            sched_yield();
            continue;
        }
        conn->pops++;
        if (!ready_queue_push(&carousel->queue, conn))
            atomic_fetch_add_explicit(&carousel->refused, 1, memory_order_relaxed);
    }
    return NULL;
}

static void push_never_fails_while_connections_are_not_more_than_slots(void **unused)
{
    enum { SLOTS = 4 };
    struct connection *conns = connections_new(SLOTS);
    struct carousel carousel = { .refused = 0 };
    pthread_t threads[RIDERS];

    (void)unused;
    assert_int_equal(ready_queue_init(&carousel.queue, SLOTS), 0);
    for (size_t i = 0; i < SLOTS; i++)
        assert_true(ready_queue_push(&carousel.queue, &conns[i]));
    for (size_t i = 0; i < RIDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ride, &carousel), 0);
    for (size_t i = 0; i < RIDERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);

    assert_int_equal(carousel.refused, 0);
    assert_int_equal(ready_queue_len(&carousel.queue), SLOTS);
    for (size_t i = 0; i < SLOTS; i++)
        assert_non_null(ready_queue_pop(&carousel.queue));
    assert_null(ready_queue_pop(&carousel.queue));
    ready_queue_fini(&carousel.queue);
    free(conns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_refuses_impossible_capacities),
        cmocka_unit_test(init_rounds_the_capacity_up_to_a_power_of_two),
        cmocka_unit_test(a_large_queue_costs_nothing_until_it_is_used),
        cmocka_unit_test(pop_returns_null_when_nothing_was_pushed),
        cmocka_unit_test(connections_leave_in_the_order_they_came_through_many_laps),
        cmocka_unit_test(a_full_queue_refuses_and_takes_again_after_a_pop),
        cmocka_unit_test(one_slot_is_a_queue_too),
        cmocka_unit_test(laps_that_wrap_are_told_apart),
        cmocka_unit_test(push_completes_a_push_that_was_stopped_half_way),
        cmocka_unit_test(pop_takes_what_a_push_stopped_half_way_has_put_in),
        cmocka_unit_test(pop_completes_a_pop_that_was_stopped_half_way),
        cmocka_unit_test(each_connection_is_popped_once_and_in_its_producers_order),
        cmocka_unit_test(the_same_holds_when_the_queue_is_full_nearly_always),
        cmocka_unit_test(push_never_fails_while_connections_are_not_more_than_slots),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
