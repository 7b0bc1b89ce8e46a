/*
 * condition_test.c - weir_condition, between handlers and threads of each kind.
 */
#include "tests/actors.h"

#include <errno.h>
#include <string.h>

#include <weir/weir_sync.h>

static struct weir_mutex mutex;
static struct weir_condition condition;
static int has_lock_on_return;      /* under the mutex */

/* What a wait returns; that it has the mutex then is seen by nobody else's having it. */
static int wait_for(uint32_t ms)
{
    int r;

    weir_mutex_lock(&mutex);
    r = weir_condition_wait_within(&condition, &mutex, ms);
    has_lock_on_return += weir_mutex_try_lock(&mutex) == -EAGAIN;
    weir_mutex_unlock(&mutex);
    return r;
}

static int act(const char *word, long number)
{
    if (strcmp(word, "wait") == 0)
        return wait_for(WEIR_FOREVER);
    if (strcmp(word, "within") == 0)
        return wait_for((uint32_t)number);
    if (strcmp(word, "signal") == 0)
        weir_condition_signal(&condition);
    else if (strcmp(word, "broadcast") == 0)
        weir_condition_broadcast(&condition);
    else
        return -ENOSYS;
    return 0;
}

static void begin(struct weir_options options)
{
    memset(&mutex, 0, sizeof(mutex));
    memset(&condition, 0, sizeof(condition));
    has_lock_on_return = 0;
    actors_begin(act, options);
}

#define BEGIN(...) begin((struct weir_options){ .size = sizeof(struct weir_options), __VA_ARGS__ })

static unsigned waiting(void)
{
    return actors_waiting_for(&condition);
}

static void expect_lock_on_return(int times)
{
    weir_mutex_lock(&mutex);
    assert_int_equal(has_lock_on_return, times);
    weir_mutex_unlock(&mutex);
}

/* ------------------------------------------------------------------ who goes on ------- */

#define MANY 6

static void line_up(struct actor *line[MANY])
{
    for (int i = 0; i < MANY; i++) {
        line[i] = i % 3 == 2 ? actor_thread() : actor_handler();
        actor_line_up(line[i], "wait", &condition);
    }
}

static void nobody_goes_on_without_a_signal_and_none_is_kept(void **state)
{
    struct actor *one, *other;

    (void)state;
    BEGIN(0);
    one = actor_handler();
    other = actor_thread();
    actor_do(one, "signal", 0);
    actor_do(one, "broadcast", 0);
    actor_line_up(other, "wait", &condition);
    assert_true(actor_is_silent(other));
    actor_do(one, "signal", 0);
    actor_expect(other, 0);
    expect_lock_on_return(1);
}

static void a_signal_is_for_the_first_who_waits(void **state)
{
    struct actor *line[MANY], *one;

    (void)state;
    BEGIN(0);
    one = actor_thread();
    line_up(line);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(waiting(), MANY - i);
        actor_do(one, "signal", 0);
        actor_expect(line[i], 0);
    }
    expect_lock_on_return(MANY);
}

static void a_broadcast_is_for_all(void **state)
{
    struct actor *line[MANY], *one;

    (void)state;
    BEGIN(0);
    one = actor_handler();
    for (int round = 1; round <= 3; round++) {
        if (round == 1)
            line_up(line);
        for (int i = 0; i < MANY && round > 1; i++)
            actor_line_up(line[i], "wait", &condition);
        actor_do(one, "broadcast", 0);
        for (int i = 0; i < MANY; i++)
            actor_expect(line[i], 0);
        assert_int_equal(waiting(), 0);
        expect_lock_on_return(round * MANY);
    }
}

static void a_broadcast_is_for_as_many_as_there_are(void **state)
{
    struct actor *line[ACTORS_MAX - 1];

    (void)state;
    if (!actors_are_fibers())
        skip();
    BEGIN(0);
    for (int i = 0; i < ACTORS_MAX - 1; i++)
        line[i] = actor_handler();
    for (int i = 0; i < ACTORS_MAX - 1; i++)
        actor_line_up(line[i], "wait", &condition);
    weir_condition_broadcast(&condition);
    for (int i = 0; i < ACTORS_MAX - 1; i++)
        actor_expect(line[i], 0);
    expect_lock_on_return(ACTORS_MAX - 1);
}

/* ------------------------------------------------------------------ how waits end ----- */

static void a_deadline_ends_the_wait_and_not_before(void **state)
{
    (void)state;
    BEGIN(0);
    actors_expect_deadline(&condition);
}

static void a_cancel_ends_it(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(0);
    actors_expect_cancel("wait", &condition);
    actors_stop_server();
}

static void the_requests_deadline_ends_it_as_well(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(.request_timeout_ms = 30);
    actors_expect_request_timeout("wait", &condition);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ACTORS_TEST(nobody_goes_on_without_a_signal_and_none_is_kept),
        ACTORS_TEST(a_signal_is_for_the_first_who_waits),
        ACTORS_TEST(a_broadcast_is_for_all),
        ACTORS_TEST(a_broadcast_is_for_as_many_as_there_are),
        ACTORS_TEST(a_deadline_ends_the_wait_and_not_before),
        ACTORS_TEST(a_cancel_ends_it),
        ACTORS_TEST(the_requests_deadline_ends_it_as_well),
    };

    return ACTORS_RUN(tests);
}
