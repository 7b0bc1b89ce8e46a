/*
 * select_test.c - weir_select, between handlers and threads of each kind.
 */
#include "tests/actors.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <weir/weir_sync.h>

#define CHANNELS 3

static int slots[CHANNELS][2];
static struct weir_channel channels[CHANNELS];

/* The number of the case in the hundreds, and the item; or what it failed with. */
static int told(int r, const struct weir_case *cases, const int *item)
{
    if (r < 0)
        return r;
    return cases[r].result < 0 ? cases[r].result * 100 - r : r * 100 + *item;
}

/* Receives from all of them. */
static int receive_from_any(uint32_t ms)
{
    struct weir_case cases[CHANNELS];
    int item = 0;

    for (int i = 0; i < CHANNELS; i++)
        cases[i] = (struct weir_case){ .channel = &channels[i], .receive = &item };
    return told(weir_select(cases, CHANNELS, ms), cases, &item);
}

/* Sends to the first, or receives from the second. */
static int send_or_receive(int number)
{
    int item = number;
    struct weir_case cases[] = { { .channel = &channels[0], .send = &number },
                                 { .channel = &channels[1], .receive = &item } };

    return told(weir_select(cases, 2, WEIR_FOREVER), cases, &item);
}

/* Both on one channel. */
static int send_and_receive(int number)
{
    int item = 0;
    struct weir_case cases[] = { { .channel = &channels[0], .send = &number },
                                 { .channel = NULL, .receive = &item },
                                 { .channel = &channels[0], .receive = &item } };

    return told(weir_select(cases, 3, WEIR_FOREVER), cases, &item);
}

static int act(const char *word, long number)
{
    int item = (int)number % 100;
    /* The numbers of words that are about no one channel say something else. */
    struct weir_channel *channel = &channels[number / 100 % CHANNELS];

    if (strcmp(word, "any") == 0)
        return receive_from_any((uint32_t)number);
    if (strcmp(word, "send_or_receive") == 0)
        return send_or_receive((int)number);
    if (strcmp(word, "both") == 0)
        return send_and_receive((int)number);
    if (strcmp(word, "send") == 0)
        return weir_channel_send(channel, &item);
    if (strcmp(word, "try_send") == 0)
        return weir_channel_try_send(channel, &item);
    if (strcmp(word, "try_receive") == 0) {
        int r = weir_channel_try_receive(channel, &item);

        return r == 0 ? item : r;
    }
    if (strcmp(word, "close") == 0)
        return weir_channel_close(channel);
    return -ENOSYS;
}

static void begin(uint32_t capacity, struct weir_options options)
{
    for (int i = 0; i < CHANNELS; i++) {
        channels[i] = (struct weir_channel)WEIR_CHANNEL(slots[i]);
        channels[i].capacity = capacity;
    }
    actors_begin(act, options);
}

#define BEGIN(capacity, ...) \
    begin(capacity, (struct weir_options){ .size = sizeof(struct weir_options), __VA_ARGS__ })

static void expect_that_nobody_waits(void)
{
    for (int i = 0; i < CHANNELS; i++)
        assert_int_equal(actors_waiting_for(&channels[i]), 0);
}

/* ------------------------------------------------------------------ without a wait ---- */

static void what_is_ready_is_done_once_and_nothing_else(void **state)
{
    struct actor *one;

    (void)state;
    BEGIN(2);
    one = actor_handler();
    actor_do(one, "any 0", -ETIMEDOUT);
    actor_do(one, "send 107", 0);
    actor_do(one, "send 108", 0);
    actor_do(one, "any 0", 107);
    actor_do(one, "any 5000", 108);
    actor_do(one, "any 0", -ETIMEDOUT);
    actor_do(one, "send_or_receive 5", 5);
    actor_do(one, "any 0", 5);
    expect_that_nobody_waits();
}

static void none_that_is_ready_is_kept_back_by_another(void **state)
{
    int seen[CHANNELS] = { 0 };

    (void)state;
    BEGIN(2);
    for (int i = 0; i < 1000; i++) {
        int r;

        for (int k = 0; k < CHANNELS; k++)
            act("try_send", k * 100 + 1);
        r = receive_from_any(0);
        assert_true(r >= 0 && r / 100 < CHANNELS);
        seen[r / 100]++;
    }
    for (int k = 0; k < CHANNELS; k++)
        assert_true(seen[k] > 100);
}

static void cases_are_checked(void **state)
{
    struct weir_case cases[WEIR_CASES_MAX + 1] = { { 0 } };

    (void)state;
    assert_int_equal(weir_select(cases, 0, WEIR_FOREVER), -EINVAL);
    assert_int_equal(weir_select(cases, WEIR_CASES_MAX + 1, WEIR_FOREVER), -EINVAL);
    assert_int_equal(weir_select(cases, WEIR_CASES_MAX, 0), -ETIMEDOUT);
    assert_int_equal(weir_select(cases, WEIR_CASES_MAX, 1), -ETIMEDOUT);
}

static void as_many_cases_as_are_promised_work(void **state)
{
    struct weir_channel many[WEIR_CASES_MAX] = { { { 0 }, NULL, 0, 0 } };
    struct weir_case cases[WEIR_CASES_MAX];

    (void)state;
    for (int i = 0; i < WEIR_CASES_MAX; i++) {
        many[i].capacity = 1;
        cases[i] = (struct weir_case){ .channel = &many[i] };
    }
    assert_int_equal(weir_select(cases, WEIR_CASES_MAX, 1), -ETIMEDOUT);
    for (int i = 0; i < WEIR_CASES_MAX; i++) {
        assert_int_equal(weir_channel_send(&many[i], NULL), 0);
        assert_int_equal(weir_select(cases, WEIR_CASES_MAX, WEIR_FOREVER), i);
        assert_int_equal(actors_waiting_for(&many[i]), 0);
    }
}

/* ------------------------------------------------------------------ with one ---------- */

#define MANY 4

static void one_that_waits_is_chosen_once_by_whichever_comes_first(void **state)
{
    struct actor *one, *other;

    (void)state;
    for (uint32_t capacity = 0; capacity < 2; capacity++) {
        BEGIN(capacity);
        one = actor_handler();
        other = actor_thread();
        for (int i = 0; i < MANY; i++) {
            actor_line_up(one, "any 20000", &channels[2]);
            actor_do(other, "try_send 105", 0);
            actor_expect(one, 105);
            expect_that_nobody_waits();
            actor_do(other, "try_receive 100", -EAGAIN);
        }
        actors_end(NULL);
    }
}

static void they_come_in_the_order_of_asking(void **state)
{
    struct actor *line[MANY], *other;
    char order[32];

    (void)state;
    BEGIN(0);
    other = actor_handler();
    for (int i = 0; i < MANY; i++) {
        line[i] = i % 2 ? actor_thread() : actor_handler();
        actor_line_up(line[i], "any 20000", &channels[2]);
    }
    for (int i = 0; i < MANY; i++) {
        for (int j = i; j < MANY; j++)
            assert_true(actor_is_silent(line[j]));
        snprintf(order, sizeof(order), "send %d", i % CHANNELS * 100 + i);
        actor_do(other, order, 0);
        actor_expect(line[i], i % CHANNELS * 100 + i);
    }
    expect_that_nobody_waits();
}

/* Each of two wants to send where the other receives. */
static void two_that_select_find_each_other(void **state)
{
    struct actor *one, *other;

    (void)state;
    BEGIN(0);
    one = actor_handler();
    other = actor_handler();
    actor_line_up(one, "send_or_receive 7", &channels[0]);
    actor_do(other, "any 20000", 7);
    actor_expect(one, 7);
    actor_line_up(one, "any 20000", &channels[0]);
    actor_do(other, "send_or_receive 8", 8);
    actor_expect(one, 8);
    expect_that_nobody_waits();
}

static void nobody_meets_itself(void **state)
{
    struct actor *one, *other;

    (void)state;
    BEGIN(0);
    one = actor_handler();
    other = actor_thread();
    actor_line_up(one, "both 7", &channels[0]);
    assert_int_equal(actors_waiting_for(&channels[0]), 2);
    assert_true(actor_is_silent(one));
    actor_do(other, "try_send 9", 0);
    actor_expect(one, 209);
    expect_that_nobody_waits();
    actor_line_up(one, "both 7", &channels[0]);
    actor_do(other, "try_receive 0", 7);
    actor_expect(one, 0);
    expect_that_nobody_waits();
}

/* Either of them may send. */
static void two_that_do_both_find_each_other(void **state)
{
    struct actor *one;
    int r;

    (void)state;
    BEGIN(0);
    one = actor_handler();
    for (int i = 0; i < 20; i++) {
        actor_line_up(one, "both 7", &channels[0]);
        r = send_and_receive(8);
        assert_true(r == 0 || r == 207);
        actor_expect(one, r == 0 ? 208 : 0);
        expect_that_nobody_waits();
    }
}

static void a_closed_channel_is_ready(void **state)
{
    struct actor *one, *other;

    (void)state;
    BEGIN(2);
    one = actor_handler();
    other = actor_thread();
    actor_line_up(one, "any 20000", &channels[2]);
    actor_do(other, "close 100", 0);
    actor_expect(one, -EPIPE * 100 - 1);
    expect_that_nobody_waits();
    actor_do(one, "any 0", -EPIPE * 100 - 1);
    actor_do(one, "close 0", 0);
    actor_do(one, "close 200", 0);
    assert_int_equal(send_or_receive(3) / 100, -EPIPE);
}

/* ------------------------------------------------------------------ how waits end ----- */

static void a_deadline_leaves_no_trace(void **state)
{
    struct actor *one, *other;

    (void)state;
    BEGIN(0);
    one = actor_handler();
    other = actor_thread();
    actor_do(one, "any 20", -ETIMEDOUT);
    actor_do(other, "any 20", -ETIMEDOUT);
    expect_that_nobody_waits();
    actor_do(other, "try_send 5", -EAGAIN);
}

static void a_cancel_ends_the_wait(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(1);
    actor_line_up(actor_handler(), "any 20000", &channels[2]);
    weir_server_cancel(actors_server);
    actors_stop_server();
    expect_that_nobody_waits();
    assert_int_equal(act("try_send", 1), 0);
}

static void the_requests_deadline_ends_it_as_well(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(1, .request_timeout_ms = 30);
    actors_expect_request_timeout("any 20000", &channels[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ACTORS_TEST(what_is_ready_is_done_once_and_nothing_else),
        ACTORS_TEST(none_that_is_ready_is_kept_back_by_another),
        ACTORS_TEST(cases_are_checked),
        ACTORS_TEST(as_many_cases_as_are_promised_work),
        ACTORS_TEST(one_that_waits_is_chosen_once_by_whichever_comes_first),
        ACTORS_TEST(they_come_in_the_order_of_asking),
        ACTORS_TEST(two_that_select_find_each_other),
        ACTORS_TEST(nobody_meets_itself),
        ACTORS_TEST(two_that_do_both_find_each_other),
        ACTORS_TEST(a_closed_channel_is_ready),
        ACTORS_TEST(a_deadline_leaves_no_trace),
        ACTORS_TEST(a_cancel_ends_the_wait),
        ACTORS_TEST(the_requests_deadline_ends_it_as_well),
    };

    return ACTORS_RUN(tests);
}
