/*
 * timer.h - deadlines, a great many of them, most of which never come.
 *
 * A hierarchical timing wheel of 1 ms ticks. Arming and disarming take constant time and no
 * memory; a timer lives inside of what it times out. Any uint64_t is a fine deadline.
 *
 * Threads: one; a wheel belongs to its thread.
 * Owns:    nothing. An armed timer must stay where it is in memory.
 * Order:   earliest deadline first; among the same millisecond, any.
 * Blocks:  never.
 */
#ifndef WEIR_TIMER_H
#define WEIR_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed, it is disarmed. */
struct timer {
    struct timer *next;
    struct timer **link;        /* the pointer that points here; NULL: disarmed */
    uint64_t deadline_ms;
};

#define TIMER_LEVELS 11         /* of 6 bits: enough for 64 */
#define TIMER_SLOTS 64

struct timer_wheel {
    uint64_t now_ms;            /* every armed timer that is not in due has its deadline later */
    struct timer *due;
    uint32_t levels;            /* bit n: occupied[n] is not 0 */
    uint64_t occupied[TIMER_LEVELS];            /* bit n: slots[level][n] is not NULL */
    struct timer *slots[TIMER_LEVELS][TIMER_SLOTS];
};

/* Times are milliseconds of one clock that never goes back: CLOCK_MONOTONIC. */
void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ms);

/* timer_arm arms a timer, or moves one that is armed. The deadline may be past. */
void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_ms);

/* timer_disarm disarms a timer if it is armed. */
void timer_disarm(struct timer_wheel *wheel, struct timer *timer);

static inline bool timer_armed(const struct timer *timer)
{
    return timer->link != NULL;
}

/*
 * timer_wheel_expire gives a timer whose deadline_ms <= now_ms, disarmed, or NULL when there is
 * none left. Call it until then. What was armed with a past deadline comes first.
 */
struct timer *timer_wheel_expire(struct timer_wheel *wheel, uint64_t now_ms);

/*
 * timer_wheel_next_ms is when to call timer_wheel_expire next: never later than the earliest
 * deadline, a few times earlier if that is far away; 0 when one has passed already, UINT64_MAX
 * when nothing is armed.
 */
uint64_t timer_wheel_next_ms(const struct timer_wheel *wheel);

#endif
