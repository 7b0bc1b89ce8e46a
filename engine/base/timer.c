/*
 * timer.c - the hierarchical timing wheel.
 *
 * Think of times as numbers of eleven digits, of 6 bits each. A timer sits at the level of the
 * highest digit in which its deadline differs from now, in the slot of its own digit there:
 *
 *     now        0 .. 0  17  40
 *     deadline   0 .. 0  17  45     level 0, slot 45: due in that very millisecond
 *     deadline   0 .. 0  20   3     level 1, slot 20: looked at again at 0 .. 0  20   0
 *
 * A deadline is later than now, so its digit is larger, and
 *   - everything on a lower level is earlier than anything on a higher one;
 *   - the next thing to happen is the lowest bit of the lowest occupied level;
 *   - now may jump to any time before that without moving a timer: the digits that placed them
 *     stay as they are. So nothing is ever done for the empty milliseconds in between.
 *
 * When now reaches a slot, its timers are placed anew. They share one more digit with now than
 * before, so they come to lie lower, or are due.
 */
#include "engine/base/timer.h"

#include <assert.h>

#define DIGIT_BITS 6
#define DIGIT_MASK ((uint64_t)TIMER_SLOTS - 1)

static_assert(1 << DIGIT_BITS == TIMER_SLOTS, "a digit is the number of a slot");
static_assert(TIMER_LEVELS * DIGIT_BITS >= 64, "every deadline has its level");

struct place {
    unsigned level;
    unsigned slot;
};

/* For deadlines later than now only. */
static struct place place_in_wheel(const struct timer_wheel *wheel, uint64_t deadline_ms)
{
    unsigned highest_bit = 63 - (unsigned)__builtin_clzll(wheel->now_ms ^ deadline_ms);
    unsigned level = highest_bit / DIGIT_BITS;

    return (struct place){ level, (deadline_ms >> level * DIGIT_BITS) & DIGIT_MASK };
}

/* Where the next slot to be looked at begins. There must be one. */
static uint64_t next_slot(const struct timer_wheel *wheel, struct place *ret_place)
{
    unsigned level = (unsigned)__builtin_ctz(wheel->levels);
    unsigned slot = (unsigned)__builtin_ctzll(wheel->occupied[level]);
    unsigned shift = level * DIGIT_BITS;
    uint64_t above = shift + DIGIT_BITS < 64 ? UINT64_MAX << (shift + DIGIT_BITS) : 0;

    *ret_place = (struct place){ level, slot };
    return (wheel->now_ms & above) | (uint64_t)slot << shift;
}

static void push(struct timer **list, struct timer *timer)
{
    timer->next = *list;
    timer->link = list;
    if (timer->next)
        timer->next->link = &timer->next;
    *list = timer;
}

static void unlink_timer(struct timer *timer)
{
    *timer->link = timer->next;
    if (timer->next)
        timer->next->link = timer->link;
    timer->link = NULL;
}

static void put_in_place(struct timer_wheel *wheel, struct timer *timer)
{
    struct place at;

    if (timer->deadline_ms <= wheel->now_ms) {
        push(&wheel->due, timer);
        return;
    }
    at = place_in_wheel(wheel, timer->deadline_ms);
    push(&wheel->slots[at.level][at.slot], timer);
    wheel->occupied[at.level] |= UINT64_C(1) << at.slot;
    wheel->levels |= 1u << at.level;
}

static void clear_slot(struct timer_wheel *wheel, struct place at)
{
    wheel->occupied[at.level] &= ~(UINT64_C(1) << at.slot);
    if (wheel->occupied[at.level] == 0)
        wheel->levels &= ~(1u << at.level);
}

/* Now has reached the slot: all that it holds goes to lower levels, or is due. */
static void open_slot(struct timer_wheel *wheel, struct place at)
{
    struct timer *timer = wheel->slots[at.level][at.slot];

    wheel->slots[at.level][at.slot] = NULL;
    clear_slot(wheel, at);
    while (timer) {
        struct timer *next = timer->next;

        put_in_place(wheel, timer);
        timer = next;
    }
}

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ms)
{
    *wheel = (struct timer_wheel){ .now_ms = now_ms };
}

void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_ms)
{
    timer_disarm(wheel, timer);
    timer->deadline_ms = deadline_ms;
    put_in_place(wheel, timer);
}

void timer_disarm(struct timer_wheel *wheel, struct timer *timer)
{
    struct place at;

    if (!timer_armed(timer))
        return;
    unlink_timer(timer);
    if (timer->deadline_ms <= wheel->now_ms)
        return;     /* it was in due */
    at = place_in_wheel(wheel, timer->deadline_ms);
    if (!wheel->slots[at.level][at.slot])
        clear_slot(wheel, at);
}

struct timer *timer_wheel_expire(struct timer_wheel *wheel, uint64_t now_ms)
{
    struct timer *timer;
    struct place at;

    while (!wheel->due && wheel->levels != 0) {
        uint64_t start_ms = next_slot(wheel, &at);

        if (start_ms > now_ms)
            break;
        wheel->now_ms = start_ms;
        open_slot(wheel, at);
    }
    timer = wheel->due;
    if (timer)
        unlink_timer(timer);
    else if (wheel->now_ms < now_ms)
        wheel->now_ms = now_ms;
    return timer;
}

uint64_t timer_wheel_next_ms(const struct timer_wheel *wheel)
{
    struct place at;

    if (wheel->due)
        return 0;
    return wheel->levels != 0 ? next_slot(wheel, &at) : UINT64_MAX;
}
