/*
 * sync_stress_test.c - what weir_sync.h shares out, among many who take it, wait for it with short
 * deadlines, and give up. What must hold at the end is that nothing was lost or given twice: the
 * counts add up, whoever waited has gone on, and nobody is left in a list.
 *
 * sync_stress_test ROUNDS: of each of them; without it as many as take a second.
 */
#include "tests/actors.h"
#include "tests/xorshift.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <weir/weir_sync.h>

#define HANDLERS 10
#define THREADS 4
#define UNITS 2         /* fewer than there are who want one */

static long rounds = 2000;

static struct weir_mutex mutex;
static uint64_t locked;             /* under the mutex */
static struct weir_semaphore semaphore;
static struct weir_rwlock rwlock;
static uint64_t written, written_too;   /* under it: always the same */
static struct weir_mutex shelf;
static struct weir_condition filled;
static uint64_t on_shelf;               /* under the shelf's lock */

/* What they say that they have got. */
static _Atomic uint64_t locks_told, writes_told, put_told, got_told, gave_up;
static _Atomic int units_out;
static _Atomic bool broken;

/* Most have so short a time that it passes as the grant comes. */
static uint32_t some_ms(uint64_t *random)
{
    return xorshift(random) % 4 ? (uint32_t)(xorshift(random) % 3) : WEIR_FOREVER;
}

/* ------------------------------------------------------------------ each -------------- */

/* Sometimes for long enough that others come to wait. */
static void have_unit(uint64_t *random)
{
    int out = ++units_out;

    if (out > UNITS)
        broken = true;
    if (xorshift(random) % 32 == 0)
        usleep(100);
    units_out--;
    weir_semaphore_release(&semaphore, 1);
}

static int use_semaphore(uint64_t *random)
{
    int r = weir_semaphore_acquire_within(&semaphore, some_ms(random));

    if (r == 0)
        have_unit(random);
    return r;
}

/* Now and then it waits for something else with the lock. */
static int use_mutex(uint64_t *random)
{
    int r = xorshift(random) % 2 ? weir_mutex_lock_within(&mutex, some_ms(random))
                                    : weir_mutex_lock(&mutex);

    if (r < 0)
        return r;
    locked++;
    locks_told++;
    if (xorshift(random) % 64 == 0)
        usleep(1500);
    if (xorshift(random) % 8 == 0)
        use_semaphore(random);
    weir_mutex_unlock(&mutex);
    return 0;
}

static int use_rwlock(uint64_t *random)
{
    bool writes = xorshift(random) % 4 == 0;
    uint32_t ms = some_ms(random);
    int r = writes ? weir_rwlock_write_lock_within(&rwlock, ms)
                   : weir_rwlock_read_lock_within(&rwlock, ms);

    if (r < 0)
        return r;
    if (written != written_too)
        broken = true;
    if (writes) {
        written++;
        writes_told++;
    }
    if (xorshift(random) % 16 == 0)
        use_semaphore(random);
    if (!writes) {
        weir_rwlock_read_unlock(&rwlock);
        return 0;
    }
    written_too++;
    weir_rwlock_write_unlock(&rwlock);
    return 0;
}

static int put(uint64_t *random)
{
    weir_mutex_lock(&shelf);
    on_shelf++;
    put_told++;
    if (xorshift(random) % 4 == 0)
        weir_condition_broadcast(&filled);
    else
        weir_condition_signal(&filled);
    weir_mutex_unlock(&shelf);
    return 0;
}

/* None may ever come, so it waits for ever for none. */
static int get(uint64_t *random)
{
    uint32_t ms = (uint32_t)(xorshift(random) % 3);
    int r = 0;

    weir_mutex_lock(&shelf);
    while (on_shelf == 0 && r == 0)
        r = weir_condition_wait_within(&filled, &shelf, ms);
    if (on_shelf > 0) {
        on_shelf--;
        got_told++;
        r = 0;
    }
    weir_mutex_unlock(&shelf);
    return r;
}

static int act(const char *word, long seed)
{
    static int (*const ways[])(uint64_t *random) = {
        use_mutex, use_semaphore, use_rwlock, put, get,
    };
    uint64_t random = (uint64_t)seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

    (void)word;
    for (long i = 0; i < rounds; i++) {
        int r = ways[xorshift(&random) % (sizeof(ways) / sizeof(ways[0]))](&random);

        if (r == -ETIMEDOUT)
            gave_up++;
        else if (r < 0)
            return r;
    }
    return 0;
}

/* ------------------------------------------------------------------ all --------------- */

static void begin(void)
{
    memset(&mutex, 0, sizeof(mutex));
    memset(&semaphore, 0, sizeof(semaphore));
    memset(&rwlock, 0, sizeof(rwlock));
    memset(&shelf, 0, sizeof(shelf));
    memset(&filled, 0, sizeof(filled));
    locked = locks_told = gave_up = 0;
    written = written_too = writes_told = on_shelf = put_told = got_told = 0;
    broken = false;
    assert_int_equal(weir_semaphore_release(&semaphore, UNITS), 0);
    actors_begin(act, (struct weir_options){ .size = sizeof(struct weir_options) });
}

static void expect_that_nothing_is_missing(void)
{
    assert_false(broken);
    assert_int_equal(actors_waiting_for(&rwlock), 0);
    assert_int_equal(actors_waiting_for(&shelf), 0);
    assert_int_equal(actors_waiting_for(&filled), 0);
    assert_int_equal(weir_rwlock_try_write_lock(&rwlock), 0);
    assert_int_equal(weir_mutex_try_lock(&shelf), 0);
    assert_int_equal(actors_waiting_for(&mutex), 0);
    assert_int_equal(actors_waiting_for(&semaphore), 0);
    assert_int_equal(weir_mutex_try_lock(&mutex), 0);
    for (int i = 0; i < UNITS; i++)
        assert_int_equal(weir_semaphore_try_acquire(&semaphore), 0);
    assert_int_equal(weir_semaphore_try_acquire(&semaphore), -EAGAIN);
    /* With the locks, which were had after the last change. */
    assert_int_equal(locked, locks_told);
    assert_int_equal(written, writes_told);
    assert_int_equal(written_too, writes_told);
    assert_int_equal(put_told, got_told + on_shelf);
}

static void set_out(struct actor *all[HANDLERS + THREADS])
{
    char order[32];

    for (int i = 0; i < HANDLERS + THREADS; i++) {
        all[i] = i < HANDLERS ? actor_handler() : actor_thread();
        snprintf(order, sizeof(order), "go %d", i + 1);
        actor_tell(all[i], order);
    }
}

static void nothing_is_lost_and_nothing_comes_twice(void **state)
{
    struct actor *all[HANDLERS + THREADS];

    (void)state;
    begin();
    set_out(all);
    for (int i = 0; i < HANDLERS + THREADS; i++)
        actor_expect(all[i], 0);
    expect_that_nothing_is_missing();
    assert_int_not_equal(gave_up, 0);
}

/* Whoever is cancelled has not got what it waited for. */
static void nor_when_the_handlers_are_cancelled(void **state)
{
    struct actor *all[HANDLERS + THREADS];

    (void)state;
    if (!actors_way->served)
        skip();
    begin();
    set_out(all);
    SUPPORT_UNTIL(locks_told > (uint64_t)rounds / 4);
    weir_server_cancel(actors_server);
    actors_stop_server();
    for (int i = 0; i < HANDLERS + THREADS; i++)
        if (all[i]->is_thread)
            actor_expect(all[i], 0);
    expect_that_nothing_is_missing();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        ACTORS_TEST(nothing_is_lost_and_nothing_comes_twice),
        ACTORS_TEST(nor_when_the_handlers_are_cancelled),
    };

    if (argc > 1)
        rounds = strtol(argv[1], NULL, 10);
    return ACTORS_RUN(tests);
}
