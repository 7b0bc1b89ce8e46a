/* handoff_test.c - who is woken when something is handed over; that nobody sleeps through it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/sync/handoff.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PLENTY_MS 20000
#define WORKERS 70      /* more than a word of the sleepers' bits */

/* The queue never looks inside of what it carries. */
static _Alignas(64) char things[1024][64];

static struct connection *thing(unsigned i)
{
    return (struct connection *)things[i % 1024];
}

/* How many connections each worker has. */
static struct epoll_set sets[WORKERS];

static struct handoff *created(unsigned workers, bool watched)
{
    struct handoff *handoff = aligned_alloc(_Alignof(struct handoff), sizeof(*handoff));

    assert_non_null(handoff);
    assert_int_equal(handoff_init(handoff, sets, workers, 1024, watched), 0);
    return handoff;
}

static void destroy(struct handoff *handoff)
{
    handoff_fini(handoff);
    free(handoff);
}

/* Takes the signal away. */
static bool was_signalled(int fd)
{
    uint64_t count;

    return read(fd, &count, sizeof(count)) == sizeof(count);
}

static void give(struct handoff *handoff, struct connection *conn)
{
    handoff_put(handoff, conn);
    handoff_call(handoff, 1);
}

static void a_push_wakes_one_sleeper(void **state)
{
    struct handoff *handoff = created(WORKERS, false);

    (void)state;
    handoff_sleep(handoff, 3);
    handoff_sleep(handoff, 65);
    give(handoff, thing(0));
    assert_int_equal(handoff_wakeups(handoff), 1);
    give(handoff, thing(1));
    assert_int_equal(handoff_wakeups(handoff), 2);
    assert_true(was_signalled(handoff->wake_fds[3]));
    assert_true(was_signalled(handoff->wake_fds[65]));
    assert_ptr_equal(ready_queue_pop(&handoff->queue), thing(0));
    assert_ptr_equal(ready_queue_pop(&handoff->queue), thing(1));
    destroy(handoff);
}

static void the_sleeper_with_the_fewest_connections_is_woken(void **state)
{
    struct handoff *handoff = created(WORKERS, false);

    (void)state;
    sets[3].members = 7;
    sets[5].members = 2;
    sets[65].members = 6;
    handoff_sleep(handoff, 3);
    handoff_sleep(handoff, 65);
    give(handoff, thing(0));
    assert_true(was_signalled(handoff->wake_fds[65]));
    assert_false(was_signalled(handoff->wake_fds[3]));
    memset(sets, 0, sizeof(sets));
    destroy(handoff);
}

static void a_push_among_the_wakeful_wakes_nobody(void **state)
{
    struct handoff *handoff = created(WORKERS, false);

    (void)state;
    handoff_sleep(handoff, 1);
    handoff_awake(handoff, 1);
    give(handoff, thing(0));
    assert_int_equal(handoff_wakeups(handoff), 0);
    assert_false(was_signalled(handoff->wake_fds[1]));
    destroy(handoff);
}

static void a_certain_worker_is_woken_once_and_only_if_it_sleeps(void **state)
{
    struct handoff *handoff = created(WORKERS, false);

    (void)state;
    handoff_wake(handoff, 64);
    assert_false(was_signalled(handoff->wake_fds[64]));
    handoff_sleep(handoff, 63);
    handoff_sleep(handoff, 64);
    handoff_wake(handoff, 64);
    handoff_wake(handoff, 64);
    assert_int_equal(handoff_wakeups(handoff), 1);
    assert_true(was_signalled(handoff->wake_fds[64]));
    assert_true(handoff_asleep(handoff, 63));
    assert_false(handoff_asleep(handoff, 64));
    destroy(handoff);
}

static void waking_all_reaches_those_who_are_awake_too(void **state)
{
    struct handoff *handoff = created(WORKERS, false);

    (void)state;
    handoff_sleep(handoff, 5);
    handoff_wake_all(handoff);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_true(was_signalled(handoff->wake_fds[i]));
    destroy(handoff);
}

static void it_is_known_who_sleeps(void **state)
{
    struct handoff *handoff = created(WORKERS, false);

    (void)state;
    assert_false(handoff_anyone_asleep(handoff));
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_false(handoff_everyone_asleep(handoff));
        handoff_sleep(handoff, i);
        assert_true(handoff_anyone_asleep(handoff));
    }
    assert_true(handoff_everyone_asleep(handoff));
    handoff_awake(handoff, 69);
    assert_false(handoff_everyone_asleep(handoff));
    destroy(handoff);
}

static void the_first_to_wake_calls_the_watcher(void **state)
{
    struct handoff *handoff = created(2, true);

    (void)state;
    handoff_sleep(handoff, 0);
    assert_false(handoff_unwatch(handoff));
    handoff_sleep(handoff, 1);
    assert_true(handoff_unwatch(handoff));
    was_signalled(handoff->watch_fd);
    handoff_awake(handoff, 1);
    assert_true(was_signalled(handoff->watch_fd));
    handoff_awake(handoff, 0);
    assert_false(was_signalled(handoff->watch_fd));
    destroy(handoff);
}

static void nobody_calls_a_watcher_that_is_not_wanted(void **state)
{
    struct handoff *handoff = created(1, false);

    (void)state;
    handoff_sleep(handoff, 0);
    handoff_awake(handoff, 0);
    assert_false(was_signalled(handoff->watch_fd));
    destroy(handoff);
}

#define THINGS 20000
#define SLEEPERS 3

struct sleeper {
    struct handoff *handoff;
    unsigned index;
    _Atomic unsigned *taken;
};

/* What a worker does, without the work. A wake-up that got lost costs PLENTY, and is counted. */
static void *sleep_and_take(void *arg)
{
    const struct sleeper *sleeper = arg;
    struct handoff *handoff = sleeper->handoff;
    uintptr_t overslept = 0;

    while (*sleeper->taken < THINGS) {
        struct pollfd wake = { .fd = handoff->wake_fds[sleeper->index], .events = POLLIN };

        handoff_sleep(handoff, sleeper->index);
        if (ready_queue_empty(&handoff->queue) && *sleeper->taken < THINGS)
            overslept += poll(&wake, 1, PLENTY_MS) == 0;
        handoff_awake(handoff, sleeper->index);
        was_signalled(wake.fd);
        while (ready_queue_pop(&handoff->queue))
            ++*sleeper->taken;
    }
    handoff_wake_all(handoff);
    return (void *)overslept;
}

static void nobody_sleeps_through_a_push(void **state)
{
    struct handoff *handoff = created(SLEEPERS, true);
    _Atomic unsigned taken = 0;
    struct sleeper sleepers[SLEEPERS];
    pthread_t threads[SLEEPERS];

    (void)state;
    for (unsigned i = 0; i < SLEEPERS; i++) {
        sleepers[i] = (struct sleeper){ .handoff = handoff, .index = i, .taken = &taken };
        assert_int_equal(pthread_create(&threads[i], NULL, sleep_and_take, &sleepers[i]), 0);
    }
    for (unsigned i = 0; i < THINGS; i++) {
        /* Now and then everything has been taken, and all go to sleep in the face of a push. */
        while (i - taken > (i % 16 ? 500u : 0u))
            sched_yield();
        give(handoff, thing(i));
    }
    for (unsigned i = 0; i < SLEEPERS; i++) {
        void *overslept;

        pthread_join(threads[i], &overslept);
        assert_null(overslept);
    }
    assert_int_equal(taken, THINGS);
    destroy(handoff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_push_wakes_one_sleeper),
        cmocka_unit_test(the_sleeper_with_the_fewest_connections_is_woken),
        cmocka_unit_test(a_push_among_the_wakeful_wakes_nobody),
        cmocka_unit_test(a_certain_worker_is_woken_once_and_only_if_it_sleeps),
        cmocka_unit_test(waking_all_reaches_those_who_are_awake_too),
        cmocka_unit_test(it_is_known_who_sleeps),
        cmocka_unit_test(the_first_to_wake_calls_the_watcher),
        cmocka_unit_test(nobody_calls_a_watcher_that_is_not_wanted),
        cmocka_unit_test(nobody_sleeps_through_a_push),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
