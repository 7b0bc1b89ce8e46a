/*
 * once_test.c - weir_once, between handlers and threads of each kind.
 */
#include "tests/actors.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include <weir/weir_sync.h>

static struct weir_once_flag once;
static struct weir_semaphore leave;     /* to return from it, with what is said here */
static _Atomic int result;
static _Atomic int calls;

static int do_it(void *arg)
{
    int r = result;

    (void)arg;
    calls++;
    weir_semaphore_acquire(&leave);
    return r;
}

static int do_it_again(void *arg)
{
    return weir_once(&once, do_it_again, arg);
}

static int act(const char *word, long number)
{
    if (strcmp(word, "once") == 0)
        return weir_once(&once, do_it, NULL);
    if (strcmp(word, "within") == 0)
        return weir_once_within(&once, do_it, NULL, (uint32_t)number);
    if (strcmp(word, "again") == 0)
        return weir_once(&once, do_it_again, NULL);
    return -ENOSYS;
}

static void begin(struct weir_options options)
{
    memset(&once, 0, sizeof(once));
    memset(&leave, 0, sizeof(leave));
    result = 0;
    calls = 0;
    actors_begin(act, options);
}

#define BEGIN(...) begin((struct weir_options){ .size = sizeof(struct weir_options), __VA_ARGS__ })

/* Somebody is at it, who leaves when told. */
static struct actor *begin_it(void)
{
    struct actor *one = actor_thread();

    actor_tell(one, "once");
    SUPPORT_UNTIL(actors_waiting_for(&leave) == 1);
    return one;
}

static void return_from_it(void)
{
    assert_int_equal(weir_semaphore_release(&leave, 1), 0);
}

#define MANY 6

static void it_is_done_once_and_all_wait_for_that(void **state)
{
    struct actor *line[MANY], *one;

    (void)state;
    BEGIN(0);
    one = begin_it();
    for (int i = 0; i < MANY; i++) {
        line[i] = i % 3 == 2 ? actor_thread() : actor_handler();
        actor_line_up(line[i], i % 2 ? "once" : "within 20000", &once);
    }
    return_from_it();
    actor_expect(one, 0);
    for (int i = 0; i < MANY; i++)
        actor_expect(line[i], 0);
    actor_do(one, "once", 0);
    actor_do(line[0], "within 0", 0);
    assert_int_equal(calls, 1);
}

static void who_waits_first_tries_anew_what_has_failed(void **state)
{
    struct actor *line[MANY], *one;

    (void)state;
    BEGIN(0);
    result = -EIO;
    one = begin_it();
    for (int i = 0; i < MANY; i++) {
        line[i] = i % 3 == 2 ? actor_thread() : actor_handler();
        actor_line_up(line[i], "once", &once);
    }
    return_from_it();
    actor_expect(one, -EIO);
    SUPPORT_UNTIL(actors_waiting_for(&leave) == 1);
    return_from_it();
    actor_expect(line[0], -EIO);
    SUPPORT_UNTIL(actors_waiting_for(&leave) == 1);
    return_from_it();
    actor_expect(line[1], -EIO);
    for (int i = 2; i < MANY; i++) {
        SUPPORT_UNTIL(actors_waiting_for(&leave) == 1);
        return_from_it();
        actor_expect(line[i], -EIO);
    }
    assert_int_equal(calls, MANY + 1);
    result = 0;
    return_from_it();
    actor_do(one, "once", 0);
    actor_do(line[0], "once", 0);
    assert_int_equal(calls, MANY + 2);
}

static void who_is_at_it_is_told_so(void **state)
{
    struct actor *one;

    (void)state;
    BEGIN(0);
    one = actor_handler();
    actor_do(one, "again", -EDEADLK);
    return_from_it();
    actor_do(one, "once", 0);
}

/* ------------------------------------------------------------------ how waits end ----- */

static void a_deadline_ends_the_wait_and_not_before(void **state)
{
    (void)state;
    BEGIN(0);
    begin_it();
    actors_expect_deadline(&once);
    return_from_it();
}

static void a_cancel_ends_it(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(0);
    begin_it();
    actors_expect_cancel("once", &once);
    return_from_it();
    actors_stop_server();
}

static void the_requests_deadline_ends_it_as_well(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(.request_timeout_ms = 30);
    begin_it();
    actors_expect_request_timeout("once", &once);
    return_from_it();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ACTORS_TEST(it_is_done_once_and_all_wait_for_that),
        ACTORS_TEST(who_waits_first_tries_anew_what_has_failed),
        ACTORS_TEST(who_is_at_it_is_told_so),
        ACTORS_TEST(a_deadline_ends_the_wait_and_not_before),
        ACTORS_TEST(a_cancel_ends_it),
        ACTORS_TEST(the_requests_deadline_ends_it_as_well),
    };

    return ACTORS_RUN(tests);
}
