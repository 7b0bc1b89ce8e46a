/*
 * channel_test.c - weir_channel, between handlers and threads of each kind.
 */
#include "tests/actors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir_sync.h>

static int slots[3];
static struct weir_channel channel;

#define SOON_MS 50      /* the time of who does not wait for ever */

/* An item, 0 or more, or what it failed with. */
static int received(int r, const int *item)
{
    return r == 0 ? *item : r;
}

static int act(const char *word, long number)
{
    int item = (int)number;

    if (strcmp(word, "send") == 0)
        return weir_channel_send(&channel, &item);
    if (strcmp(word, "send_soon") == 0)
        return weir_channel_send_within(&channel, &item, SOON_MS);
    if (strcmp(word, "send_now") == 0)
        return weir_channel_send_within(&channel, &item, 0);
    if (strcmp(word, "try_send") == 0)
        return weir_channel_try_send(&channel, &item);
    if (strcmp(word, "receive") == 0)
        return received(weir_channel_receive(&channel, &item), &item);
    if (strcmp(word, "receive_within") == 0)
        return received(weir_channel_receive_within(&channel, &item, (uint32_t)number), &item);
    if (strcmp(word, "try_receive") == 0)
        return received(weir_channel_try_receive(&channel, &item), &item);
    if (strcmp(word, "close") == 0)
        return weir_channel_close(&channel);
    return -ENOSYS;
}

static unsigned waiting(void)
{
    return actors_waiting_for(&channel);
}

static void begin(uint32_t capacity, struct weir_options options)
{
    channel = (struct weir_channel)WEIR_CHANNEL(slots);
    channel.capacity = capacity;
    actors_begin(act, options);
}

#define BEGIN(capacity, ...) \
    begin(capacity, (struct weir_options){ .size = sizeof(struct weir_options), __VA_ARGS__ })

static void line_up(struct actor *actor, const char *word, int number)
{
    char order[32];

    snprintf(order, sizeof(order), "%s %d", word, number);
    actor_line_up(actor, order, &channel);
}

/* ------------------------------------------------------------------ items ------------- */

static void what_is_sent_comes_out_in_its_order_and_once(void **state)
{
    struct actor *one;

    (void)state;
    BEGIN(3);
    one = actor_handler();
    actor_do(one, "try_receive", -EAGAIN);
    actor_do(one, "receive_within 0", -ETIMEDOUT);
    for (int round = 0; round < 4; round++) {
        actor_do(one, "send 5", 0);
        actor_do(one, "try_send 0", 0);
        actor_do(one, "receive", 5);
        actor_do(one, "send_now 7", 0);
        actor_do(one, "send_soon 8", 0);
        actor_do(one, "try_send 9", -EAGAIN);
        actor_do(one, "send_now 9", -ETIMEDOUT);
        actor_do(one, "try_receive", 0);
        actor_do(one, "receive_within 0", 7);
        actor_do(one, "receive", 8);
        actor_do(one, "try_receive", -EAGAIN);
    }
}

#define MANY 6

static struct actor *some_actor(int number)
{
    return number % 3 == 2 ? actor_thread() : actor_handler();
}

static void receivers_are_served_in_the_order_of_asking(void **state)
{
    struct actor *line[MANY], *sender;
    char order[32];

    (void)state;
    BEGIN(3);
    sender = actor_thread();
    for (int i = 0; i < MANY; i++) {
        line[i] = some_actor(i);
        line_up(line[i], i % 2 ? "receive" : "receive_within", 20000);
    }
    for (int i = 0; i < MANY; i++) {
        for (int j = i; j < MANY; j++)
            assert_true(actor_is_silent(line[j]));
        snprintf(order, sizeof(order), "send %d", i);
        actor_do(sender, order, 0);
        actor_expect(line[i], i);
    }
    actor_do(sender, "try_receive", -EAGAIN);
}

/* Their items go behind those in the ring, one as each leaves it. */
static void senders_to_a_full_one_wait_in_their_order(void **state)
{
    struct actor *line[MANY], *receiver;

    (void)state;
    BEGIN(2);
    receiver = actor_handler();
    actor_do(receiver, "send 0", 0);
    actor_do(receiver, "send 1", 0);
    for (int i = 0; i < MANY; i++) {
        line[i] = some_actor(i);
        line_up(line[i], "send", i + 2);
    }
    for (int i = 0; i < MANY + 2; i++) {
        for (int j = i; j < MANY; j++)
            assert_true(actor_is_silent(line[j]));
        actor_do(receiver, "receive", i);
        if (i < MANY)
            actor_expect(line[i], 0);
    }
    actor_do(receiver, "try_receive", -EAGAIN);
}

static void without_room_each_item_goes_from_hand_to_hand(void **state)
{
    struct actor *sender, *receiver;

    (void)state;
    BEGIN(0);
    sender = actor_handler();
    receiver = actor_handler();
    for (int i = 0; i < 3; i++) {
        actor_do(sender, "try_send 1", -EAGAIN);
        actor_do(receiver, "try_receive", -EAGAIN);
        line_up(sender, "send", 2);
        actor_do(receiver, "receive", 2);
        actor_expect(sender, 0);
        line_up(receiver, "receive", 0);
        actor_do(sender, "try_send 3", 0);
        actor_expect(receiver, 3);
    }
}

/* Of items that are larger than a word, and of none at all: those are signals. */
static void items_have_whatever_size(void **state)
{
    struct large {
        char text[100];
    } array[2], item = { "first" }, got;
    struct weir_channel large = WEIR_CHANNEL(array);
    struct weir_channel signals = { .capacity = 2 };

    (void)state;
    assert_int_equal(weir_channel_send(&large, &item), 0);
    strcpy(item.text, "second");
    assert_int_equal(weir_channel_send(&large, &item), 0);
    assert_int_equal(weir_channel_receive(&large, &got), 0);
    assert_string_equal(got.text, "first");
    assert_int_equal(weir_channel_receive(&large, &got), 0);
    assert_string_equal(got.text, "second");
    assert_int_equal(weir_channel_send(&signals, NULL), 0);
    assert_int_equal(weir_channel_send(&signals, NULL), 0);
    assert_int_equal(weir_channel_try_send(&signals, NULL), -EAGAIN);
    assert_int_equal(weir_channel_receive(&signals, NULL), 0);
    assert_int_equal(weir_channel_receive(&signals, NULL), 0);
    assert_int_equal(weir_channel_try_receive(&signals, NULL), -EAGAIN);
}

/* ------------------------------------------------------------------ close ------------- */

static void a_closed_one_gives_what_is_left_and_takes_nothing(void **state)
{
    struct actor *one;

    (void)state;
    BEGIN(3);
    one = actor_handler();
    actor_do(one, "send 1", 0);
    actor_do(one, "send 2", 0);
    actor_do(one, "close", 0);
    actor_do(one, "send 3", -EPIPE);
    actor_do(one, "send_soon 3", -EPIPE);
    actor_do(one, "send_now 3", -EPIPE);
    actor_do(one, "try_send 3", -EPIPE);
    actor_do(one, "receive", 1);
    actor_do(one, "try_receive", 2);
    actor_do(one, "receive", -EPIPE);
    actor_do(one, "receive_within 20000", -EPIPE);
    actor_do(one, "receive_within 0", -EPIPE);
    actor_do(one, "try_receive", -EPIPE);
    actor_do(one, "close", -EALREADY);
}

static void close_wakes_all_who_wait(void **state)
{
    static const char *const orders[] = { "send", "receive" };
    struct actor *line[MANY];

    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        BEGIN(0);
        for (int i = 0; i < MANY; i++) {
            line[i] = some_actor(i);
            line_up(line[i], orders[k], 4);
        }
        actor_do(actor_thread(), "close", 0);
        for (int i = 0; i < MANY; i++)
            actor_expect(line[i], -EPIPE);
        assert_int_equal(waiting(), 0);
        actors_end(NULL);
    }
}

static void senders_that_waited_for_a_close_have_sent_nothing(void **state)
{
    struct actor *sender, *receiver;

    (void)state;
    BEGIN(1);
    sender = actor_handler();
    receiver = actor_thread();
    actor_do(receiver, "send 1", 0);
    line_up(sender, "send", 2);
    actor_do(receiver, "close", 0);
    actor_expect(sender, -EPIPE);
    actor_do(receiver, "receive", 1);
    actor_do(receiver, "receive", -EPIPE);
}

/* ------------------------------------------------------------------ how waits end ----- */

static void who_leaves_is_passed_over(void **state)
{
    struct actor *leaving[2], *last, *other;

    (void)state;
    BEGIN(0);
    other = actor_thread();
    leaving[0] = actor_handler();
    leaving[1] = actor_thread();
    last = actor_handler();
    for (int i = 0; i < 2; i++)
        actor_tell(leaving[i], "receive_within 50");
    actor_tell(last, "receive");
    for (int i = 0; i < 2; i++)
        actor_expect(leaving[i], -ETIMEDOUT);
    SUPPORT_UNTIL(waiting() == 1);
    actor_do(other, "send 1", 0);
    actor_expect(last, 1);
    for (int i = 0; i < 2; i++)
        actor_tell(leaving[i], "send_soon 2");
    actor_tell(last, "send 3");
    for (int i = 0; i < 2; i++)
        actor_expect(leaving[i], -ETIMEDOUT);
    SUPPORT_UNTIL(waiting() == 1);
    actor_do(other, "receive", 3);
    actor_expect(last, 0);
    actor_do(other, "try_receive", -EAGAIN);
}

static void a_cancel_ends_the_wait_and_takes_no_item(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(1);
    actors_expect_cancel("receive", &channel);
    actors_stop_server();
    assert_int_equal(act("try_send", 1), 0);
    assert_int_equal(act("try_receive", 0), 1);
}

static void nor_does_a_send_that_was_cancelled_send(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(1);
    assert_int_equal(act("send", 1), 0);
    line_up(actor_handler(), "send", 2);
    weir_server_cancel(actors_server);
    SUPPORT_UNTIL(waiting() == 0);
    actors_stop_server();
    assert_int_equal(act("receive", 0), 1);
    assert_int_equal(act("try_receive", 0), -EAGAIN);
}

static void the_requests_deadline_ends_it_as_well(void **state)
{
    (void)state;
    if (!actors_way->served)
        skip();
    BEGIN(1, .request_timeout_ms = 30);
    actors_expect_request_timeout("receive", &channel);
}

static void it_waits_on_while_the_server_drains(void **state)
{
    struct actor *one;

    (void)state;
    /* A serial server can't stop before its handler has returned. */
    if (!actors_way->served || actors_way->concurrency == WEIR_SERIAL)
        skip();
    BEGIN(1);
    one = actor_handler();
    actor_line_up(one, "receive", &channel);
    weir_server_shutdown(actors_server);
    assert_true(actor_is_silent(one));
    assert_int_equal(act("close", 0), 0);
    actor_expect(one, -EPIPE);
    support_half_close(one->fd);
    actors_stop_server();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ACTORS_TEST(what_is_sent_comes_out_in_its_order_and_once),
        ACTORS_TEST(receivers_are_served_in_the_order_of_asking),
        ACTORS_TEST(senders_to_a_full_one_wait_in_their_order),
        ACTORS_TEST(without_room_each_item_goes_from_hand_to_hand),
        ACTORS_TEST(items_have_whatever_size),
        ACTORS_TEST(a_closed_one_gives_what_is_left_and_takes_nothing),
        ACTORS_TEST(close_wakes_all_who_wait),
        ACTORS_TEST(senders_that_waited_for_a_close_have_sent_nothing),
        ACTORS_TEST(who_leaves_is_passed_over),
        ACTORS_TEST(a_cancel_ends_the_wait_and_takes_no_item),
        ACTORS_TEST(nor_does_a_send_that_was_cancelled_send),
        ACTORS_TEST(the_requests_deadline_ends_it_as_well),
        ACTORS_TEST(it_waits_on_while_the_server_drains),
    };

    return ACTORS_RUN(tests);
}
