/*
 * semaphore_test.c - weir_semaphore, between handlers and threads of each kind.
 */
#include "tests/actors.h"

#include <errno.h>
#include <string.h>

#include <weir/weir_sync.h>

static struct weir_semaphore semaphore;

static int act(const char *word, long number)
{
    if (strcmp(word, "acquire") == 0)
        return weir_semaphore_acquire(&semaphore);
    if (strcmp(word, "within") == 0)
        return weir_semaphore_acquire_within(&semaphore, (uint32_t)number);
    if (strcmp(word, "try") == 0)
        return weir_semaphore_try_acquire(&semaphore);
    if (strcmp(word, "release") == 0)
        return weir_semaphore_release(&semaphore, (uint32_t)number);
    return -ENOSYS;
}

static unsigned waiting(void)
{
    return actors_waiting_for(&semaphore);
}

static void begin(struct weir_options options)
{
    memset(&semaphore, 0, sizeof(semaphore));
    actors_begin(act, options);
}

#define BEGIN(...) begin((struct weir_options){ .size = sizeof(struct weir_options), __VA_ARGS__ })

/* ------------------------------------------------------------------ units ------------- */

static void a_zeroed_one_has_no_unit_and_gives_each_that_is_released_once(void **state)
{
    struct actor *one;

    (void)state;
    BEGIN(0);
    one = actor_handler();
    actor_do(one, "try", -EAGAIN);
    actor_do(one, "within 0", -ETIMEDOUT);
    actor_do(one, "release 3", 0);
    actor_do(one, "try", 0);
    actor_do(one, "acquire", 0);
    actor_do(one, "within 0", 0);
    actor_do(one, "try", -EAGAIN);
    actor_do(one, "release 0", 0);
    actor_do(one, "try", -EAGAIN);
}

static void more_than_fit_are_refused_and_none_is_lost(void **state)
{
    (void)state;
    memset(&semaphore, 0, sizeof(semaphore));
    assert_int_equal(weir_semaphore_release(&semaphore, UINT32_MAX), 0);
    assert_int_equal(weir_semaphore_release(&semaphore, 1), -EOVERFLOW);
    assert_int_equal(weir_semaphore_try_acquire(&semaphore), 0);
    assert_int_equal(weir_semaphore_release(&semaphore, 2), -EOVERFLOW);
    assert_int_equal(weir_semaphore_release(&semaphore, 1), 0);
}

/* ------------------------------------------------------------------ who gets them ----- */

#define MANY 6

static void line_up(struct actor *line[MANY])
{
    for (int i = 0; i < MANY; i++) {
        line[i] = i % 3 == 2 ? actor_thread() : actor_handler();
        actor_line_up(line[i], i % 2 ? "acquire" : "within 20000", &semaphore);
    }
}

static void they_come_in_the_order_of_asking(void **state)
{
    struct actor *line[MANY], *giver;

    (void)state;
    BEGIN(0);
    giver = actor_thread();
    line_up(line);
    for (int i = 0; i < MANY; i++) {
        for (int j = i; j < MANY; j++)
            assert_true(actor_is_silent(line[j]));
        actor_do(giver, "release 1", 0);
        actor_expect(line[i], 0);
    }
    actor_do(giver, "try", -EAGAIN);
}

static void several_at_once_wake_as_many_and_the_rest_stays(void **state)
{
    struct actor *line[MANY], *giver;

    (void)state;
    BEGIN(0);
    giver = actor_handler();
    line_up(line);
    actor_do(giver, "release 2", 0);
    actor_expect(line[0], 0);
    actor_expect(line[1], 0);
    assert_int_equal(waiting(), MANY - 2);
    actor_do(giver, "release 5", 0);
    for (int i = 2; i < MANY; i++)
        actor_expect(line[i], 0);
    actor_do(line[0], "try", 0);
    actor_do(line[0], "try", -EAGAIN);
}

static void who_leaves_is_passed_over(void **state)
{
    struct actor *leaving[2], *giver, *last;

    (void)state;
    BEGIN(0);
    giver = actor_thread();
    leaving[0] = actor_handler();
    leaving[1] = actor_thread();
    for (int i = 0; i < 2; i++)
        actor_tell(leaving[i], "within 50");
    last = actor_handler();
    actor_tell(last, "acquire");
    for (int i = 0; i < 2; i++)
        actor_expect(leaving[i], -ETIMEDOUT);
    SUPPORT_UNTIL(waiting() == 1);
    actor_do(giver, "release 1", 0);
    actor_expect(last, 0);
    actor_do(giver, "try", -EAGAIN);
}

/* ------------------------------------------------------------------ how waits end ----- */

static void a_cancel_ends_the_wait(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(0);
    actors_expect_cancel("acquire", &semaphore);
    actors_stop_server();
    assert_int_equal(weir_semaphore_release(&semaphore, 1), 0);
    assert_int_equal(weir_semaphore_try_acquire(&semaphore), 0);
}

static void the_requests_deadline_ends_it_as_well(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(.request_timeout_ms = 30);
    actors_expect_request_timeout("acquire", &semaphore);
}

static void it_waits_on_while_the_server_drains(void **state)
{
    struct actor *one;

    (void)state;
    /* A serial server can't stop before its handler has returned. */
    if (!actors_way->served || actors_way->concurrency == WEIR_SERIAL)
        skip();
    BEGIN(0);
    one = actor_handler();
    actor_line_up(one, "acquire", &semaphore);
    weir_server_shutdown(actors_server);
    assert_true(actor_is_silent(one));
    assert_int_equal(weir_semaphore_release(&semaphore, 1), 0);
    actor_expect(one, 0);
    support_half_close(one->fd);
    actors_stop_server();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ACTORS_TEST(a_zeroed_one_has_no_unit_and_gives_each_that_is_released_once),
        ACTORS_TEST(more_than_fit_are_refused_and_none_is_lost),
        ACTORS_TEST(they_come_in_the_order_of_asking),
        ACTORS_TEST(several_at_once_wake_as_many_and_the_rest_stays),
        ACTORS_TEST(who_leaves_is_passed_over),
        ACTORS_TEST(a_cancel_ends_the_wait),
        ACTORS_TEST(the_requests_deadline_ends_it_as_well),
        ACTORS_TEST(it_waits_on_while_the_server_drains),
    };

    return ACTORS_RUN(tests);
}
