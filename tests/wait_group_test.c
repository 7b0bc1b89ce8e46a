/*
 * wait_group_test.c - weir_wait_group, between handlers and threads of each kind.
 */
#include "tests/actors.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include <weir/weir_sync.h>

static struct weir_wait_group group;

static int act(const char *word, long number)
{
    if (strcmp(word, "add") == 0)
        return weir_wait_group_add(&group, (uint32_t)number);
    if (strcmp(word, "wait") == 0)
        return weir_wait_group_wait(&group);
    if (strcmp(word, "within") == 0)
        return weir_wait_group_wait_within(&group, (uint32_t)number);
    if (strcmp(word, "done") != 0)
        return -ENOSYS;
    weir_wait_group_done(&group);
    return 0;
}

static void begin(struct weir_options options)
{
    memset(&group, 0, sizeof(group));
    actors_begin(act, options);
}

#define BEGIN(...) begin((struct weir_options){ .size = sizeof(struct weir_options), __VA_ARGS__ })

#define MANY 6

static void nothing_is_waited_for_where_nothing_is_under_way(void **state)
{
    struct actor *one;

    (void)state;
    BEGIN(0);
    one = actor_handler();
    actor_do(one, "wait", 0);
    actor_do(one, "within 0", 0);
    actor_do(one, "add 2", 0);
    actor_do(one, "within 0", -ETIMEDOUT);
    actor_do(one, "done", 0);
    actor_do(one, "within 0", -ETIMEDOUT);
    actor_do(one, "done", 0);
    actor_do(one, "wait", 0);
}

static void all_who_wait_go_on_with_the_last(void **state)
{
    struct actor *line[MANY], *one;

    (void)state;
    BEGIN(0);
    one = actor_thread();
    for (int i = 0; i < MANY; i++)
        line[i] = i % 3 == 2 ? actor_thread() : actor_handler();
    for (int round = 0; round < 3; round++) {
        actor_do(one, "add 2", 0);
        for (int i = 0; i < MANY; i++)
            actor_line_up(line[i], "wait", &group);
        actor_do(one, "done", 0);
        actor_do(one, "add 1", 0);
        actor_do(one, "done", 0);
        assert_int_equal(actors_waiting_for(&group), MANY);
        actor_do(one, "done", 0);
        for (int i = 0; i < MANY; i++)
            actor_expect(line[i], 0);
    }
}

static void more_than_fit_are_refused(void **state)
{
    (void)state;
    memset(&group, 0, sizeof(group));
    assert_int_equal(weir_wait_group_add(&group, UINT32_MAX), 0);
    assert_int_equal(weir_wait_group_add(&group, 1), -EOVERFLOW);
    weir_wait_group_done(&group);
    assert_int_equal(weir_wait_group_add(&group, 1), 0);
}

/* ------------------------------------------------------------------ how waits end ----- */

static void a_deadline_ends_the_wait_and_not_before(void **state)
{
    (void)state;
    BEGIN(0);
    assert_int_equal(weir_wait_group_add(&group, 1), 0);
    actors_expect_deadline(&group);
}

static void a_cancel_ends_it(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(0);
    assert_int_equal(weir_wait_group_add(&group, 1), 0);
    actors_expect_cancel("wait", &group);
    actors_stop_server();
}

static void the_requests_deadline_ends_it_as_well(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(.request_timeout_ms = 30);
    assert_int_equal(weir_wait_group_add(&group, 1), 0);
    actors_expect_request_timeout("wait", &group);
}

static void undo_what_was_not_done(void)
{
    weir_wait_group_done(&group);
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
    assert_string_equal(end.said,
                        "weir: weir_wait_group_done has been called more often than was added\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ACTORS_TEST(nothing_is_waited_for_where_nothing_is_under_way),
        ACTORS_TEST(all_who_wait_go_on_with_the_last),
        ACTORS_TEST(more_than_fit_are_refused),
        ACTORS_TEST(a_deadline_ends_the_wait_and_not_before),
        ACTORS_TEST(a_cancel_ends_it),
        ACTORS_TEST(the_requests_deadline_ends_it_as_well),
        ACTORS_TEST(what_was_not_done_is_not_undone),
    };

    return ACTORS_RUN(tests);
}
