/* clock_test.c - moments as the system calls that wait take them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/clock.h"

#include <limits.h>

static void a_moment_to_come_is_so_far_away(void **state)
{
    (void)state;
    assert_int_equal(clock_timeout_ms(1250, 1000), 250);
}

static void a_moment_that_has_passed_is_now(void **state)
{
    (void)state;
    assert_int_equal(clock_timeout_ms(1000, 1000), 0);
    assert_int_equal(clock_timeout_ms(0, 1000), 0);
}

static void a_moment_that_never_comes_is_waited_for_without_end(void **state)
{
    (void)state;
    assert_int_equal(clock_timeout_ms(CLOCK_NEVER, 1000), -1);
}

static void a_moment_that_is_years_away_is_waited_for_as_long_as_can_be(void **state)
{
    (void)state;
    assert_int_equal(clock_timeout_ms(CLOCK_NEVER - 1, 1000), INT_MAX);
}

static void what_is_still_to_come_has_not_lasted_any_time(void **state)
{
    (void)state;
    assert_int_equal(clock_since(1000, 1250), 250);
    assert_int_equal(clock_since(1000, 1000), 0);
    assert_int_equal(clock_since(1001, 1000), 0);
    assert_int_equal(clock_since(CLOCK_NEVER, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_moment_to_come_is_so_far_away),
        cmocka_unit_test(a_moment_that_has_passed_is_now),
        cmocka_unit_test(a_moment_that_never_comes_is_waited_for_without_end),
        cmocka_unit_test(a_moment_that_is_years_away_is_waited_for_as_long_as_can_be),
        cmocka_unit_test(what_is_still_to_come_has_not_lasted_any_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
