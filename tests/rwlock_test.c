/*
 * rwlock_test.c - weir_rwlock, between handlers and threads of each kind.
 */
#include "tests/actors.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include <weir/weir_sync.h>

static struct weir_rwlock lock;
static struct weir_semaphore never;    /* what only an order ends the wait for */

static int act(const char *word, long number)
{
    if (strcmp(word, "never") == 0)
        return weir_semaphore_acquire(&never);
    if (strcmp(word, "read") == 0)
        return weir_rwlock_read_lock(&lock);
    if (strcmp(word, "read_within") == 0)
        return weir_rwlock_read_lock_within(&lock, (uint32_t)number);
    if (strcmp(word, "try_read") == 0)
        return weir_rwlock_try_read_lock(&lock);
    if (strcmp(word, "write") == 0)
        return weir_rwlock_write_lock(&lock);
    if (strcmp(word, "within") == 0)
        return weir_rwlock_write_lock_within(&lock, (uint32_t)number);
    if (strcmp(word, "forever") == 0)
        return weir_rwlock_write_lock_within(&lock, WEIR_FOREVER);
    if (strcmp(word, "try_write") == 0)
        return weir_rwlock_try_write_lock(&lock);
    if (strcmp(word, "read_unlock") == 0)
        weir_rwlock_read_unlock(&lock);
    else if (strcmp(word, "write_unlock") == 0)
        weir_rwlock_write_unlock(&lock);
    else
        return -ENOSYS;
    return 0;
}

static void begin(struct weir_options options)
{
    memset(&lock, 0, sizeof(lock));
    actors_begin(act, options);
}

#define BEGIN(...) begin((struct weir_options){ .size = sizeof(struct weir_options), __VA_ARGS__ })

static unsigned waiting(void)
{
    return actors_waiting_for(&lock);
}

static void expect_free(struct actor *one)
{
    actor_do(one, "try_write", 0);
    actor_do(one, "write_unlock", 0);
}

/* ------------------------------------------------------------------ who is in --------- */

static void many_read_or_one_writes(void **state)
{
    struct actor *one, *other;

    (void)state;
    BEGIN(0);
    one = actor_handler();
    other = actor_handler();
    actor_do(one, "read", 0);
    actor_do(other, "read_within 0", 0);
    actor_do(one, "try_write", -EAGAIN);
    actor_do(one, "within 0", -ETIMEDOUT);
    actor_do(one, "read_unlock", 0);
    actor_do(other, "read_unlock", 0);
    actor_do(one, "write", 0);
    actor_do(other, "try_read", -EAGAIN);
    actor_do(other, "try_write", -EAGAIN);
    actor_do(one, "write", -EDEADLK);
    actor_do(one, "read", -EDEADLK);
    actor_do(one, "write_unlock", 0);
    actor_do(other, "try_read", 0);
    actor_do(one, "try_read", 0);
    actor_do(other, "read_unlock", 0);
    actor_do(one, "read_unlock", 0);
    expect_free(other);
}

/* ------------------------------------------------------------------ who is next ------- */

static void who_waits_to_write_is_not_passed_by_readers(void **state)
{
    struct actor *reader, *writer, *late[2];

    (void)state;
    BEGIN(0);
    reader = actor_thread();
    writer = actor_handler();
    late[0] = actor_handler();
    late[1] = actor_thread();
    actor_do(reader, "read", 0);
    actor_line_up(writer, "write", &lock);
    actor_line_up(late[0], "read", &lock);
    actor_line_up(late[1], "read", &lock);
    actor_do(reader, "try_read", -EAGAIN);
    actor_do(reader, "read_unlock", 0);
    actor_expect(writer, 0);
    assert_int_equal(waiting(), 2);
    actor_do(writer, "write_unlock", 0);
    for (int i = 0; i < 2; i++)
        actor_expect(late[i], 0);
    for (int i = 0; i < 2; i++)
        actor_do(late[i], "read_unlock", 0);
    expect_free(reader);
}

static void readers_come_in_together_and_no_further_than_the_next_writer(void **state)
{
    static const char *const how[] = { "read", "read", "read", "write", "read", "write" };
    struct actor *line[6], *first;

    (void)state;
    BEGIN(0);
    first = actor_thread();
    actor_do(first, "write", 0);
    for (int i = 0; i < 6; i++) {
        line[i] = i % 3 == 2 ? actor_thread() : actor_handler();
        actor_line_up(line[i], how[i], &lock);
    }
    actor_do(first, "write_unlock", 0);
    for (int i = 0; i < 3; i++)
        actor_expect(line[i], 0);
    assert_int_equal(waiting(), 3);
    for (int i = 0; i < 3; i++)
        actor_do(line[i], "read_unlock", 0);
    for (int i = 3; i < 6; i++) {
        actor_expect(line[i], 0);
        assert_int_equal(waiting(), 5 - i);
        actor_do(line[i], i == 4 ? "read_unlock" : "write_unlock", 0);
    }
    expect_free(first);
}

static void readers_behind_a_writer_that_gives_up_come_in(void **state)
{
    struct actor *reader, *writer, *late[2];

    (void)state;
    BEGIN(0);
    reader = actor_thread();
    actor_do(reader, "read", 0);
    writer = actor_handler();
    actor_tell(writer, "within 50");
    late[0] = actor_handler();
    late[1] = actor_thread();
    for (int i = 0; i < 2; i++)
        actor_tell(late[i], "read");
    for (int i = 0; i < 2; i++)
        actor_expect(late[i], 0);
    actor_expect(writer, -ETIMEDOUT);
    for (int i = 0; i < 2; i++)
        actor_do(late[i], "read_unlock", 0);
    actor_do(reader, "read_unlock", 0);
    expect_free(writer);
}

/* ------------------------------------------------------------------ how waits end ----- */

static void a_deadline_ends_the_wait_and_not_before(void **state)
{
    (void)state;
    BEGIN(0);
    assert_int_equal(weir_rwlock_read_lock(&lock), 0);
    actors_expect_deadline(&lock);
}

static void a_cancel_ends_it(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(0);
    assert_int_equal(weir_rwlock_read_lock(&lock), 0);
    actors_expect_cancel("forever", &lock);
    actors_stop_server();
}

static void the_requests_deadline_ends_it_as_well(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(.request_timeout_ms = 30);
    assert_int_equal(weir_rwlock_read_lock(&lock), 0);
    actors_expect_request_timeout("forever", &lock);
}

static void a_plain_lock_is_waited_for_through_a_cancel(void **state)
{
    (void)state;
    if (!actors_way->served || actors_way->concurrency == WEIR_SERIAL)
        skip();
    BEGIN(0);
    assert_int_equal(weir_rwlock_read_lock(&lock), 0);
    actor_line_up(actor_handler(), "write", &lock);
    actor_line_up(actor_handler(), "never", &never);
    weir_server_cancel(actors_server);
    SUPPORT_UNTIL(actors_waiting_for(&never) == 0);
    assert_int_equal(waiting(), 1);
    weir_rwlock_read_unlock(&lock);
    SUPPORT_UNTIL(waiting() == 0);
    /* It has got it, and its next wait, for its client, was cancelled. Nobody unlocks it. */
    assert_int_equal(weir_rwlock_try_read_lock(&lock), -EAGAIN);
    actors_stop_server();
}

static void unlock_to_read(void)
{
    weir_rwlock_read_unlock(&lock);
}

static void unlock_to_write(void)
{
    weir_rwlock_write_unlock(&lock);
}

/* Nor what is locked the other way. */
static void what_is_not_locked_is_not_unlocked(void **state)
{
    struct support_end end;

    (void)state;
    if (actors_way->served)
        skip();
    BEGIN(0);
    assert_int_equal(weir_rwlock_write_lock(&lock), 0);
    end = support_run_in_child(unlock_to_read);
    assert_int_equal(end.status, -SIGABRT);
    assert_string_equal(end.said, "weir: weir_rwlock_read_unlock on a lock that nobody reads "
                                  "under\n");
    weir_rwlock_write_unlock(&lock);
    assert_int_equal(weir_rwlock_read_lock(&lock), 0);
    end = support_run_in_child(unlock_to_write);
    assert_int_equal(end.status, -SIGABRT);
    assert_string_equal(end.said, "weir: weir_rwlock_write_unlock on a lock that nobody writes "
                                  "under\n");
    weir_rwlock_read_unlock(&lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ACTORS_TEST(many_read_or_one_writes),
        ACTORS_TEST(who_waits_to_write_is_not_passed_by_readers),
        ACTORS_TEST(readers_come_in_together_and_no_further_than_the_next_writer),
        ACTORS_TEST(readers_behind_a_writer_that_gives_up_come_in),
        ACTORS_TEST(a_deadline_ends_the_wait_and_not_before),
        ACTORS_TEST(a_cancel_ends_it),
        ACTORS_TEST(the_requests_deadline_ends_it_as_well),
        ACTORS_TEST(a_plain_lock_is_waited_for_through_a_cancel),
        ACTORS_TEST(what_is_not_locked_is_not_unlocked),
    };

    return ACTORS_RUN(tests);
}
