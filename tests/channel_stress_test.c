/*
 * channel_stress_test.c - channels among many who send, receive, select, wait with short deadlines
 * and give up. What must hold at the end is that each item that was sent was received once, and
 * nothing else; and that whoever receives gets one sender's items in the order of their sending.
 *
 * channel_stress_test ROUNDS: of each of them; without it as many as take a second.
 */
#include "tests/actors.h"
#include "tests/xorshift.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir_sync.h>

#define HANDLERS 10
#define THREADS 4
#define ALL (HANDLERS + THREADS)

static long rounds = 2000;

struct item {
    uint32_t sender, number;
};

/* One without room, one that is full at once, one that rarely is. */
#define CHANNELS 3
static struct item one_slot[1], many_slots[8];
static struct weir_channel channels[CHANNELS];
static const struct weir_channel fresh[CHANNELS] = {
    { .size = sizeof(struct item) }, WEIR_CHANNEL(one_slot), WEIR_CHANNEL(many_slots)
};

/* What they say that they have done. */
static _Atomic uint64_t sent, received, sent_sum, received_sum, gave_up;
static _Atomic bool broken;

struct life {
    uint64_t random;
    uint32_t me;
    uint32_t number;            /* of the next item */
    uint32_t seen[CHANNELS][ALL + 1];   /* the last number of each sender's */
};

static uint64_t worth(struct item item)
{
    return ((uint64_t)item.sender << 32 | item.number) * UINT64_C(0x9e3779b97f4a7c15) >> 8;
}

/* ------------------------------------------------------------------ each -------------- */

/* All of them have an end: two who send to each other would wait for ever. */
static uint32_t some_ms(struct life *life)
{
    return xorshift(&life->random) % 16 ? (uint32_t)(xorshift(&life->random) % 3) : 20;
}

static int note(int r, struct item item, _Atomic uint64_t *count, _Atomic uint64_t *sum)
{
    if (r == 0) {
        ++*count;
        *sum += worth(item);
    } else if (r == -ETIMEDOUT || r == -EAGAIN) {
        gave_up++;
    } else {
        return r;
    }
    return 0;
}

static void note_order(struct life *life, unsigned from, struct item item)
{
    if (item.sender == 0 || item.sender > ALL || item.number <= life->seen[from][item.sender])
        broken = true;
    else
        life->seen[from][item.sender] = item.number;
}

static int send_one(struct life *life, unsigned to)
{
    struct item item = { .sender = life->me, .number = life->number++ };
    int r = xorshift(&life->random) % 4
                ? weir_channel_send_within(&channels[to], &item, some_ms(life))
                : weir_channel_try_send(&channels[to], &item);

    return note(r, item, &sent, &sent_sum);
}

static int receive_one(struct life *life, unsigned from)
{
    struct item item = { 0 };
    int r = xorshift(&life->random) % 4
                ? weir_channel_receive_within(&channels[from], &item, some_ms(life))
                : weir_channel_try_receive(&channels[from], &item);

    if (r == 0)
        note_order(life, from, item);
    return note(r, item, &received, &received_sum);
}

#define MOST_CASES 4

/* On any of the channels, also on one of them twice. */
static int select_one(struct life *life)
{
    struct weir_case cases[MOST_CASES];
    struct item items[MOST_CASES] = { 0 };
    unsigned of[MOST_CASES];
    uint32_t len = 1 + (uint32_t)(xorshift(&life->random) % MOST_CASES);
    int r;

    for (uint32_t i = 0; i < len; i++) {
        of[i] = (unsigned)(xorshift(&life->random) % CHANNELS);
        cases[i] = (struct weir_case){ .channel = &channels[of[i]], .receive = &items[i] };
        if (xorshift(&life->random) % 2) {
            items[i] = (struct item){ .sender = life->me, .number = life->number++ };
            cases[i].send = &items[i];
        }
    }
    r = weir_select(cases, len, xorshift(&life->random) % 4 ? some_ms(life) : 0);
    if (r < 0)
        return note(r, items[0], &sent, &sent_sum);
    if (cases[r].send)
        return note(cases[r].result, items[r], &sent, &sent_sum);
    note_order(life, of[r], items[r]);
    return note(cases[r].result, items[r], &received, &received_sum);
}

static int act(const char *word, long number)
{
    struct life life = { .random = (uint64_t)number * UINT64_C(0x9e3779b97f4a7c15) + 1,
                         .me = (uint32_t)number, .number = 1 };

    (void)word;
    for (long i = 0; i < rounds; i++) {
        unsigned one = (unsigned)(xorshift(&life.random) % CHANNELS);
        uint64_t what = xorshift(&life.random) % 4;
        int r = what == 0 ? send_one(&life, one) : what == 1 ? receive_one(&life, one)
                                                             : select_one(&life);

        if (r < 0)
            return r;
    }
    return 0;
}

/* ------------------------------------------------------------------ all --------------- */

static void begin(struct actor *all[ALL])
{
    char order[32];

    memcpy(channels, fresh, sizeof(channels));
    sent = received = sent_sum = received_sum = gave_up = 0;
    broken = false;
    actors_begin(act, (struct weir_options){ .size = sizeof(struct weir_options) });
    for (int i = 0; i < ALL; i++) {
        all[i] = i < HANDLERS ? actor_handler() : actor_thread();
        snprintf(order, sizeof(order), "go %d", i + 1);
        actor_tell(all[i], order);
    }
}

static void expect_that_nothing_is_missing(void)
{
    struct item item;

    for (unsigned i = 0; i < CHANNELS; i++) {
        assert_int_equal(actors_waiting_for(&channels[i]), 0);
        assert_int_equal(weir_channel_close(&channels[i]), 0);
        while (weir_channel_receive(&channels[i], &item) == 0)
            note(0, item, &received, &received_sum);
    }
    assert_false(broken);
    assert_int_equal(sent, received);
    assert_int_equal(sent_sum, received_sum);
    assert_int_not_equal(sent, 0);
}

static void each_item_is_received_once(void **state)
{
    struct actor *all[ALL];

    (void)state;
    begin(all);
    for (int i = 0; i < ALL; i++)
        actor_expect(all[i], 0);
    expect_that_nothing_is_missing();
    assert_int_not_equal(gave_up, 0);
}

/* Whoever is cancelled has neither sent nor received. */
static void also_when_the_handlers_are_cancelled(void **state)
{
    struct actor *all[ALL];

    (void)state;
    if (!actors_way->served)
        skip();
    begin(all);
    SUPPORT_UNTIL(received > (uint64_t)rounds);
    weir_server_cancel(actors_server);
    actors_stop_server();
    for (int i = 0; i < ALL; i++)
        if (all[i]->is_thread)
            actor_expect(all[i], 0);
    expect_that_nothing_is_missing();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        ACTORS_TEST(each_item_is_received_once),
        ACTORS_TEST(also_when_the_handlers_are_cancelled),
    };

    if (argc > 1)
        rounds = strtol(argv[1], NULL, 10);
    return ACTORS_RUN(tests);
}
