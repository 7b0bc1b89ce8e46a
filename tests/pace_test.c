/* pace_test.c - tools/load/pace.h: when things are due, and how many are. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tools/load/pace.h"

#define SECOND_NS 1000000000ull

static void the_first_is_due_at_the_start_and_the_others_evenly(void **state)
{
    struct pace pace = { .start_ns = 1000, .per_ns = 100, .count = 4 };

    (void)state;
    assert_int_equal(pace_due(&pace, 999), 0);
    assert_int_equal(pace_due(&pace, 1000), 1);
    assert_int_equal(pace_due(&pace, 1024), 1);
    assert_int_equal(pace_due(&pace, 1025), 2);
    assert_int_equal(pace_due(&pace, 1100), 5);
    assert_int_equal(pace_next_ns(&pace), 1000);
    pace.done = 5;
    assert_int_equal(pace_due(&pace, 1100), 0);
    assert_int_equal(pace_next_ns(&pace), 1125);
    pace.done = 7;
    assert_int_equal(pace_due(&pace, 1100), 0);
}

static void nothing_is_ever_due_without_a_count(void **state)
{
    const struct pace none = { .per_ns = 1 };

    (void)state;
    assert_int_equal(pace_due(&none, UINT64_MAX), 0);
    assert_true(pace_next_ns(&none) == PACE_NEVER);
}

/* Of a year at the highest rate, the product of both does not fit into 64 bits. */
static void a_long_time_at_a_high_rate_is_counted_exactly(void **state)
{
    const uint64_t seconds = 365ull * 24 * 3600;
    struct pace pace = { .per_ns = SECOND_NS, .count = 100000000 };

    (void)state;
    assert_true(pace_due(&pace, seconds * SECOND_NS) == seconds * pace.count + 1);
    pace.done = seconds * pace.count;
    assert_true(pace_next_ns(&pace) == seconds * SECOND_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_is_due_at_the_start_and_the_others_evenly),
        cmocka_unit_test(nothing_is_ever_due_without_a_count),
        cmocka_unit_test(a_long_time_at_a_high_rate_is_counted_exactly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
