/*
 * timer_test.c - the wheel by example, and against a model that looks at every timer each time.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/timer.h"
#include "tests/xorshift.h"

#define DAY_MS UINT64_C(86400000)

static struct timer_wheel wheel;

static int start_wheel(void **state)
{
    *state = &wheel;
    timer_wheel_init(&wheel, 1000);
    return 0;
}

/* ------------------------------------------------------------------ examples ---------- */

static void an_empty_wheel_asks_never_to_be_looked_at(void **state)
{
    (void)state;
    assert_true(timer_wheel_next_ms(&wheel) == UINT64_MAX);
    assert_null(timer_wheel_expire(&wheel, 5000));
    assert_true(timer_wheel_next_ms(&wheel) == UINT64_MAX);
}

static void a_timer_expires_at_its_deadline_and_not_before(void **state)
{
    struct timer timer = { 0 };

    (void)state;
    timer_arm(&wheel, &timer, 1007);
    assert_true(timer_armed(&timer));
    assert_null(timer_wheel_expire(&wheel, 1006));
    assert_ptr_equal(timer_wheel_expire(&wheel, 1007), &timer);
    assert_false(timer_armed(&timer));
    assert_null(timer_wheel_expire(&wheel, 1007));
}

static void a_past_deadline_is_due_at_once(void **state)
{
    struct timer timer = { 0 };

    (void)state;
    timer_arm(&wheel, &timer, 3);
    assert_true(timer_wheel_next_ms(&wheel) == 0);
    assert_ptr_equal(timer_wheel_expire(&wheel, 1000), &timer);
    assert_null(timer_wheel_expire(&wheel, 1000));
}

static void a_disarmed_timer_never_comes(void **state)
{
    struct timer timer = { 0 };

    (void)state;
    timer_arm(&wheel, &timer, 1500);
    timer_disarm(&wheel, &timer);
    assert_false(timer_armed(&timer));
    assert_true(timer_wheel_next_ms(&wheel) == UINT64_MAX);
    timer_disarm(&wheel, &timer);
    assert_null(timer_wheel_expire(&wheel, 2000));
}

static void arming_again_moves_a_timer(void **state)
{
    struct timer timer = { 0 };

    (void)state;
    timer_arm(&wheel, &timer, 1500);
    timer_arm(&wheel, &timer, 90000);
    assert_null(timer_wheel_expire(&wheel, 89999));
    timer_arm(&wheel, &timer, 90010);
    assert_ptr_equal(timer_wheel_expire(&wheel, 90010), &timer);
    assert_null(timer_wheel_expire(&wheel, 200000));
}

static void one_of_many_that_are_due_can_still_be_disarmed(void **state)
{
    struct timer timers[3] = { 0 };
    struct timer *first, *second;

    (void)state;
    for (int i = 0; i < 3; i++)
        timer_arm(&wheel, &timers[i], 1100);
    first = timer_wheel_expire(&wheel, 1100);
    second = first == &timers[0] ? &timers[1] : &timers[0];
    timer_disarm(&wheel, second);
    assert_non_null(timer_wheel_expire(&wheel, 1100));
    assert_null(timer_wheel_expire(&wheel, 1100));
    assert_false(timer_armed(&timers[0]) || timer_armed(&timers[1]) || timer_armed(&timers[2]));
}

static void timers_come_in_the_order_of_their_deadlines(void **state)
{
    static struct timer timers[5000];
    uint64_t last = 0;

    (void)state;
    for (uint64_t i = 0; i < 5000; i++)
        timer_arm(&wheel, &timers[i], 1001 + i * 7919 % 100003);
    for (int i = 0; i < 5000; i++) {
        struct timer *timer = timer_wheel_expire(&wheel, 1000 + 200000);

        assert_non_null(timer);
        assert_true(timer->deadline_ms >= last);
        last = timer->deadline_ms;
    }
    assert_true(timer_wheel_next_ms(&wheel) == UINT64_MAX);
}

static void a_timer_a_year_away_costs_a_few_looks(void **state)
{
    struct timer timer = { 0 };
    uint64_t now = 1000;
    int looks = 0;

    (void)state;
    timer_arm(&wheel, &timer, 1000 + 365 * DAY_MS + 12345);
    while (!timer_wheel_expire(&wheel, now)) {
        assert_true(timer_wheel_next_ms(&wheel) > now);
        now = timer_wheel_next_ms(&wheel);
        looks++;
    }
    assert_true(now == 1000 + 365 * DAY_MS + 12345);
    assert_in_range(looks, 1, TIMER_LEVELS);
}

static void a_long_sleep_is_one_step(void **state)
{
    struct timer near = { 0 }, far = { 0 };

    (void)state;
    timer_arm(&wheel, &near, 1001);
    timer_arm(&wheel, &far, 1000 + 1000 * DAY_MS);
    assert_ptr_equal(timer_wheel_expire(&wheel, 1000 + 999 * DAY_MS), &near);
    assert_null(timer_wheel_expire(&wheel, 1000 + 999 * DAY_MS));
    assert_ptr_equal(timer_wheel_expire(&wheel, UINT64_MAX), &far);
}

static void the_last_millisecond_of_all_is_a_deadline_too(void **state)
{
    struct timer last = { 0 }, but_one = { 0 };

    (void)state;
    timer_arm(&wheel, &last, UINT64_MAX);
    timer_arm(&wheel, &but_one, UINT64_MAX - 1);
    assert_null(timer_wheel_expire(&wheel, UINT64_MAX - 2));
    assert_ptr_equal(timer_wheel_expire(&wheel, UINT64_MAX - 1), &but_one);
    assert_null(timer_wheel_expire(&wheel, UINT64_MAX - 1));
    assert_ptr_equal(timer_wheel_expire(&wheel, UINT64_MAX), &last);
}

static void a_clock_that_steps_back_does_no_harm(void **state)
{
    struct timer timer = { 0 };

    (void)state;
    assert_null(timer_wheel_expire(&wheel, 5000));
    assert_null(timer_wheel_expire(&wheel, 4000));
    timer_arm(&wheel, &timer, 5001);
    assert_null(timer_wheel_expire(&wheel, 4500));
    assert_null(timer_wheel_expire(&wheel, 5000));
    assert_ptr_equal(timer_wheel_expire(&wheel, 5001), &timer);
}

/* ------------------------------------------------------------------ the model --------- */

enum { TIMERS = 40, STEPS = 3000000 };

struct model {
    struct timer timers[TIMERS];
    uint64_t deadline_ms[TIMERS];
    bool armed[TIMERS];
    uint64_t now_ms;
    uint64_t random;
};

static uint64_t draw(struct model *model)
{
    return xorshift(&model->random);
}

/* Up to 2^bits, small numbers as likely as large ones. */
static uint64_t draw_span(struct model *model, unsigned bits)
{
    unsigned shift = 64 - 1 - (unsigned)(draw(model) % bits);

    return draw(model) >> shift;
}

static uint64_t model_earliest(const struct model *model)
{
    uint64_t earliest = UINT64_MAX;

    for (int i = 0; i < TIMERS; i++)
        if (model->armed[i] && model->deadline_ms[i] < earliest)
            earliest = model->deadline_ms[i];
    return earliest;
}

static void model_arm(struct model *model, uint64_t deadline_ms)
{
    uint64_t i = draw(model) % TIMERS;

    timer_arm(&wheel, &model->timers[i], deadline_ms);
    model->armed[i] = true;
    model->deadline_ms[i] = deadline_ms;
}

static void model_disarm(struct model *model)
{
    uint64_t i = draw(model) % TIMERS;

    timer_disarm(&wheel, &model->timers[i]);
    model->armed[i] = false;
}

/* Everything due comes out, once each, and nothing else. */
static void model_expire(struct model *model, uint64_t now_ms)
{
    struct timer *timer;

    model->now_ms = now_ms;
    while ((timer = timer_wheel_expire(&wheel, now_ms)) != NULL) {
        ptrdiff_t i = timer - model->timers;

        assert_true(model->armed[i]);
        assert_true(model->deadline_ms[i] == timer->deadline_ms);
        assert_true(timer->deadline_ms <= now_ms);
        assert_false(timer_armed(timer));
        model->armed[i] = false;
    }
    assert_true(model_earliest(model) > now_ms || model_earliest(model) == UINT64_MAX);
}

static void model_check_next(const struct model *model)
{
    uint64_t next_ms = timer_wheel_next_ms(&wheel);

    assert_true(next_ms <= model_earliest(model));
    if (model_earliest(model) > model->now_ms)
        assert_true(next_ms > model->now_ms);   /* or its worker would spin */
}

static void three_million_random_steps_agree_with_the_model(void **state)
{
    static struct model model = { .now_ms = 1000, .random = 20240229 };

    (void)state;
    for (int step = 0; step < STEPS; step++) {
        switch (draw(&model) % 8) {
        case 0:
        case 1:
            model_arm(&model, model.now_ms + draw_span(&model, 20));
            break;
        case 2:
            model_arm(&model, model.now_ms + draw_span(&model, 60));
            break;
        case 3:
            model_arm(&model, model.now_ms - draw(&model) % 1000);
            break;
        case 4:
        case 5:
            model_disarm(&model);
            break;
        case 6:
            model_expire(&model, model.now_ms + draw_span(&model, 24));
            break;
        case 7:
            if (model_earliest(&model) - model.now_ms - 1 < 1u << 30)
                model_expire(&model, timer_wheel_next_ms(&wheel) - draw(&model) % 2);
            break;
        }
        model_check_next(&model);
    }
}

#define on_a_new_wheel(test) cmocka_unit_test_setup(test, start_wheel)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_a_new_wheel(an_empty_wheel_asks_never_to_be_looked_at),
        on_a_new_wheel(a_timer_expires_at_its_deadline_and_not_before),
        on_a_new_wheel(a_past_deadline_is_due_at_once),
        on_a_new_wheel(a_disarmed_timer_never_comes),
        on_a_new_wheel(arming_again_moves_a_timer),
        on_a_new_wheel(one_of_many_that_are_due_can_still_be_disarmed),
        on_a_new_wheel(timers_come_in_the_order_of_their_deadlines),
        on_a_new_wheel(a_timer_a_year_away_costs_a_few_looks),
        on_a_new_wheel(a_long_sleep_is_one_step),
        on_a_new_wheel(the_last_millisecond_of_all_is_a_deadline_too),
        on_a_new_wheel(a_clock_that_steps_back_does_no_harm),
        on_a_new_wheel(three_million_random_steps_agree_with_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
