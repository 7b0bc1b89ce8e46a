/* lending_test.c - when a rush begins, and when it is over. Time is what the test says it is. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/pool/lending.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Of a pool only its workers' turns are looked at, and of its crew the sets. */
static struct worker workers[2];
static struct epoll_set sets[2];
static struct pool pool;
static struct lending lending;
static struct side_door_config config;

static int set_up(void **state)
{
    (void)state;
    memset(workers, 0, sizeof(workers));
    memset(&pool, 0, sizeof(pool));
    memset(&lending, 0, sizeof(lending));
    for (int i = 0; i < 2; i++)
        sets[i].fd = epoll_create1(EPOLL_CLOEXEC);
    pool.workers = workers;
    pool.workers_len = 2;
    pool.crew.sets = sets;
    pool.crew.handoff.workers = 2;
    config = (struct side_door_config){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    side_door_destroy(lending.door);
    close(config.fd);
    for (int i = 0; i < 2; i++)
        close(sets[i].fd);
    return 0;
}

static void turn(int worker)
{
    atomic_fetch_add(&workers[worker].turns, 1);
}

static void begin_at(uint64_t now_ms)
{
    assert_int_equal(lending_begin(&lending, &pool.crew, &config, now_ms), 0);
    assert_true(side_door_is_open(lending.door));
}

static void many_at_once_are_a_rush(void **state)
{
    (void)state;
    assert_false(lending_is_due(&lending, 1, &pool, 1000));
    turn(1);
    assert_false(lending_is_due(&lending, LENDING_RUSH - 2, &pool, 1000 + LENDING_RUSH_MS - 1));
    assert_true(lending_is_due(&lending, 1, &pool, 1000 + LENDING_RUSH_MS - 1));
}

static void the_same_over_a_longer_time_are_none(void **state)
{
    (void)state;
    for (uint64_t ms = 1000; ms < 5000; ms += LENDING_RUSH_MS) {
        turn(0);
        assert_false(lending_is_due(&lending, LENDING_RUSH - 1, &pool, ms));
    }
}

static void workers_that_do_not_turn_are_lent_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        assert_false(lending_is_due(&lending, LENDING_RUSH, &pool, 1000));
    turn(0);
    assert_true(lending_is_due(&lending, LENDING_RUSH, &pool, 1000));
}

static void what_is_lent_is_watched_by_all_workers_and_no_longer(void **state)
{
    const struct epoll_event none = { 0 };
    struct epoll_event event;
    uint64_t one = 1;

    (void)state;
    begin_at(1000);
    assert_int_equal(write(config.fd, &one, sizeof(one)), sizeof(one));
    for (int i = 0; i < 2; i++)
        assert_int_equal(epoll_wait(sets[i].fd, &event, 1, 0), 1);
    lending_end(&lending);
    assert_false(side_door_is_open(lending.door));
    for (int i = 0; i < 2; i++) {
        event = none;
        assert_int_equal(epoll_wait(sets[i].fd, &event, 1, 0), 0);
        assert_int_equal(epoll_ctl(sets[i].fd, EPOLL_CTL_DEL, config.fd, &event), -1);
    }
}

static void it_is_over_when_few_come(void **state)
{
    (void)state;
    begin_at(1000);
    assert_int_equal(lending_look_at_ms(&lending), 1000 + LENDING_CALM_MS);
    assert_true(lending_goes_on(&lending, 1000 + LENDING_CALM_MS - 1));
    assert_false(lending_goes_on(&lending, 1000 + LENDING_CALM_MS));
}

static void it_is_over_when_a_worker_has_shut_it(void **state)
{
    (void)state;
    begin_at(1000);
    side_door_shut(lending.door);
    assert_false(lending_goes_on(&lending, 1000));
}

static void a_new_rush_counts_from_nothing(void **state)
{
    (void)state;
    turn(0);
    lending_is_due(&lending, LENDING_RUSH - 1, &pool, 1000);
    begin_at(1001);
    lending_end(&lending);
    turn(0);
    assert_false(lending_is_due(&lending, LENDING_RUSH - 1, &pool, 1002));
}

static void what_cannot_be_watched_is_not_lent(void **state)
{
    int fd = config.fd;

    (void)state;
    config.fd = -1;
    assert_int_equal(lending_begin(&lending, &pool.crew, &config, 1000), -EBADF);
    assert_false(side_door_is_open(lending.door));
    config.fd = fd;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(many_at_once_are_a_rush, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_same_over_a_longer_time_are_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(workers_that_do_not_turn_are_lent_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_lent_is_watched_by_all_workers_and_no_longer,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_is_over_when_few_come, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_is_over_when_a_worker_has_shut_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_rush_counts_from_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_watched_is_not_lent, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
