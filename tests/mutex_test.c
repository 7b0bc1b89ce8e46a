/*
 * mutex_test.c - weir_mutex, between handlers and threads of each kind.
 */
#include "tests/actors.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include <weir/weir_sync.h>

static struct weir_mutex mutex;
static struct weir_semaphore never;    /* what only an order ends the wait for */

static int act(const char *word, long number)
{
    if (strcmp(word, "lock") == 0)
        return weir_mutex_lock(&mutex);
    if (strcmp(word, "within") == 0)
        return weir_mutex_lock_within(&mutex, (uint32_t)number);
    if (strcmp(word, "forever") == 0)
        return weir_mutex_lock_within(&mutex, WEIR_FOREVER);
    if (strcmp(word, "never") == 0)
        return weir_semaphore_acquire(&never);
    if (strcmp(word, "try") == 0)
        return weir_mutex_try_lock(&mutex);
    if (strcmp(word, "unlock") != 0)
        return -ENOSYS;
    weir_mutex_unlock(&mutex);
    return 0;
}

static unsigned waiting(void)
{
    return actors_waiting_for(&mutex);
}

static bool is_free(void)
{
    return __atomic_load_n(&mutex.opaque[0], __ATOMIC_ACQUIRE) == 0;
}

static void begin(struct weir_options options)
{
    memset(&mutex, 0, sizeof(mutex));
    actors_begin(act, options);
}

#define BEGIN(...) begin((struct weir_options){ .size = sizeof(struct weir_options), __VA_ARGS__ })

/* ------------------------------------------------------------------ one alone --------- */

static void a_zeroed_one_is_free_and_can_be_taken_again_and_again(void **state)
{
    struct actor *one;

    (void)state;
    BEGIN(0);
    one = actor_handler();
    actor_do(one, "lock", 0);
    actor_do(one, "unlock", 0);
    actor_do(one, "within 0", 0);
    actor_do(one, "unlock", 0);
    actor_do(one, "try", 0);
    actor_do(one, "unlock", 0);
    actor_do(one, "forever", 0);
    actor_do(one, "unlock", 0);
    assert_true(is_free());
}

static void who_has_it_is_told_so(void **state)
{
    struct actor *one;

    (void)state;
    BEGIN(0);
    one = actor_handler();
    actor_do(one, "lock", 0);
    actor_do(one, "lock", -EDEADLK);
    actor_do(one, "within 0", -EDEADLK);
    actor_do(one, "forever", -EDEADLK);
    actor_do(one, "try", -EAGAIN);
    actor_do(one, "unlock", 0);
    actor_do(one, "lock", 0);
    actor_do(one, "unlock", 0);
    assert_true(is_free());
}

/* ------------------------------------------------------------------ two --------------- */

static void pass(struct actor *from, struct actor *to, const char *how)
{
    actor_do(from, "lock", 0);
    actor_line_up(to, how, &mutex);
    assert_true(actor_is_silent(to));
    actor_do(from, "unlock", 0);
    actor_expect(to, 0);
    actor_do(from, "try", -EAGAIN);
    actor_do(to, "unlock", 0);
    assert_true(is_free());
}

static void who_waits_gets_it_from_who_unlocks(void **state)
{
    struct actor *handlers[2], *threads[2];

    (void)state;
    BEGIN(0);
    for (int i = 0; i < 2; i++) {
        handlers[i] = actor_handler();
        threads[i] = actor_thread();
    }
    for (int i = 0; i < 3; i++) {
        pass(handlers[0], handlers[1], "lock");
        pass(handlers[1], handlers[0], "forever");
        pass(handlers[0], threads[0], "within 20000");
        pass(threads[0], handlers[0], "within 20000");
        pass(threads[0], threads[1], "lock");
    }
}

static void a_free_one_is_not_held_for_who_had_it(void **state)
{
    struct actor *one, *other;

    (void)state;
    BEGIN(0);
    one = actor_handler();
    other = actor_handler();
    actor_do(one, "lock", 0);
    actor_do(other, "try", -EAGAIN);
    actor_do(other, "within 0", -ETIMEDOUT);
    actor_do(one, "unlock", 0);
    actor_do(other, "try", 0);
    actor_do(one, "try", -EAGAIN);
    actor_do(other, "unlock", 0);
}

/* ------------------------------------------------------------------ several ----------- */

#define MANY 6

static void line_up(struct actor *line[MANY], const char *const how[MANY])
{
    for (int i = 0; i < MANY; i++) {
        line[i] = i % 3 == 2 ? actor_thread() : actor_handler();
        actor_line_up(line[i], how[i], &mutex);
    }
}

static void they_get_it_in_the_order_of_coming(void **state)
{
    static const char *const how[MANY] = { "lock", "forever", "lock", "lock", "forever", "lock" };
    struct actor *line[MANY], *first;

    (void)state;
    BEGIN(0);
    first = actor_thread();
    actor_do(first, "lock", 0);
    line_up(line, how);
    actor_do(first, "unlock", 0);
    for (int i = 0; i < MANY; i++) {
        actor_expect(line[i], 0);
        for (int j = i + 1; j < MANY; j++)
            assert_true(actor_is_silent(line[j]));
        actor_do(line[i], "unlock", 0);
    }
    assert_true(is_free());
}

static void who_leaves_is_passed_over(void **state)
{
    struct actor *leaving[4], *first, *last;

    (void)state;
    BEGIN(0);
    first = actor_thread();
    actor_do(first, "lock", 0);
    for (int i = 0; i < 4; i++) {
        leaving[i] = i % 2 ? actor_thread() : actor_handler();
        actor_tell(leaving[i], "within 50");
    }
    last = actor_handler();
    actor_tell(last, "lock");
    for (int i = 0; i < 4; i++)
        actor_expect(leaving[i], -ETIMEDOUT);
    SUPPORT_UNTIL(waiting() == 1);
    actor_do(first, "unlock", 0);
    actor_expect(last, 0);
    actor_do(last, "unlock", 0);
    assert_true(is_free());
}

/* ------------------------------------------------------------------ how waits end ----- */

static void a_deadline_ends_the_wait_and_not_before(void **state)
{
    struct actor *one, *late[2];
    uint64_t began_ms = support_now_ms();

    (void)state;
    BEGIN(0);
    one = actor_thread();
    late[0] = actor_handler();
    late[1] = actor_thread();
    actor_do(one, "lock", 0);
    for (int i = 0; i < 2; i++)
        actor_tell(late[i], "within 50");
    for (int i = 0; i < 2; i++)
        actor_expect(late[i], -ETIMEDOUT);
    assert_true(support_now_ms() - began_ms >= 50);
    assert_int_equal(waiting(), 0);
    actor_do(one, "unlock", 0);
    actor_do(late[0], "try", 0);
    actor_do(late[0], "unlock", 0);
}

static void the_requests_deadline_ends_it_as_well(void **state)
{
    struct actor *one;

    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(.request_timeout_ms = 30);
    one = actor_thread();
    actor_do(one, "lock", 0);
    actors_expect_request_timeout("forever", &mutex);
    actor_do(one, "unlock", 0);
    assert_true(is_free());
}

static void a_cancel_ends_it(void **state)
{
    struct actor *one;

    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(0);
    one = actor_thread();
    actor_do(one, "lock", 0);
    actors_expect_cancel("forever", &mutex);
    actor_do(one, "unlock", 0);
    assert_true(is_free());
    actors_stop_server();
}

/* That an order has come is seen by another handler, whose wait it ends. */
static void a_plain_lock_is_waited_for_through_a_cancel(void **state)
{
    struct actor *one, *other;

    (void)state;
    if (!actors_way->served || actors_way->concurrency == WEIR_SERIAL)
        skip();
    BEGIN(0);
    one = actor_thread();
    actor_do(one, "lock", 0);
    other = actor_handler();
    actor_line_up(other, "lock", &mutex);
    actor_line_up(actor_handler(), "never", &never);
    weir_server_cancel(actors_server);
    SUPPORT_UNTIL(actors_waiting_for(&never) == 0);
    assert_int_equal(waiting(), 1);
    actor_do(one, "unlock", 0);
    /* It has got it, and its next wait, for its client, was cancelled. Nobody unlocks it. */
    SUPPORT_UNTIL(waiting() == 0);
    assert_false(is_free());
    actors_stop_server();
}

static void so_it_is_past_the_requests_deadline(void **state)
{
    struct actor *one, *other;

    (void)state;
    if (!actors_way->served || actors_way->concurrency == WEIR_SERIAL)
        skip();
    BEGIN(.request_timeout_ms = 50);
    one = actor_thread();
    actor_do(one, "lock", 0);
    other = actor_handler();
    actor_tell(other, "lock");
    actor_tell(actor_handler(), "never");
    SUPPORT_AWAIT(actors_server, timeouts, >= 1);
    SUPPORT_UNTIL(waiting() == 1);
    actor_do(one, "unlock", 0);
    SUPPORT_UNTIL(waiting() == 0);
    actors_stop_server();
}

static void a_drain_lets_it_wait(void **state)
{
    struct actor *one, *other;

    (void)state;
    /* A serial server can't stop before its handler has returned. */
    if (!actors_way->served || actors_way->concurrency == WEIR_SERIAL)
        skip();
    BEGIN(0);
    one = actor_thread();
    actor_do(one, "lock", 0);
    other = actor_handler();
    actor_line_up(other, "lock", &mutex);
    weir_server_shutdown(actors_server);
    assert_true(waiting() > 0);
    actor_do(one, "unlock", 0);
    actor_expect(other, 0);
    actor_do(other, "unlock", 0);
    support_half_close(other->fd);
    actors_stop_server();
}

static void undo_what_was_not_done(void)
{
    weir_mutex_unlock(&mutex);
}

static void what_was_not_done_is_not_undone(void **state)
{
    struct support_end end;

    (void)state;
    if (actors_way->served)
        skip();
    BEGIN(0);
    end = support_run_in_child(undo_what_was_not_done);
    assert_int_equal(end.status, -SIGABRT);
    assert_string_equal(end.said, "weir: weir_mutex_unlock on a mutex that is not locked\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ACTORS_TEST(a_zeroed_one_is_free_and_can_be_taken_again_and_again),
        ACTORS_TEST(who_has_it_is_told_so),
        ACTORS_TEST(who_waits_gets_it_from_who_unlocks),
        ACTORS_TEST(a_free_one_is_not_held_for_who_had_it),
        ACTORS_TEST(they_get_it_in_the_order_of_coming),
        ACTORS_TEST(who_leaves_is_passed_over),
        ACTORS_TEST(a_deadline_ends_the_wait_and_not_before),
        ACTORS_TEST(the_requests_deadline_ends_it_as_well),
        ACTORS_TEST(a_cancel_ends_it),
        ACTORS_TEST(a_plain_lock_is_waited_for_through_a_cancel),
        ACTORS_TEST(so_it_is_past_the_requests_deadline),
        ACTORS_TEST(a_drain_lets_it_wait),
        ACTORS_TEST(what_was_not_done_is_not_undone),
    };

    return ACTORS_RUN(tests);
}
