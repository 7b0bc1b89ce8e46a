/* histogram_test.c - tools/load/histogram.h: bounds, percentiles of known data, merging. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tools/load/histogram.h"

#include <stdlib.h>
#include <string.h>

/* Large: not for the stack of each test. */
static struct histogram one, other;

static int empty_both(void **state)
{
    (void)state;
    memset(&one, 0, sizeof(one));
    memset(&other, 0, sizeof(other));
    return 0;
}

/* The bucket that counted the only value. */
static size_t bucket_with_one(const struct histogram *it)
{
    size_t found = HISTOGRAM_BUCKETS;

    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (it->buckets[i] == 0)
            continue;
        assert_int_equal(found, HISTOGRAM_BUCKETS);
        assert_int_equal(it->buckets[i], 1);
        found = i;
    }
    assert_in_range(found, 0, HISTOGRAM_BUCKETS - 1);
    return found;
}

static void assert_well_placed(uint64_t value)
{
    size_t bucket;
    uint64_t low, high;

    memset(&one, 0, sizeof(one));
    histogram_add(&one, value);
    bucket = bucket_with_one(&one);
    low = histogram_bucket_low(bucket);
    high = histogram_bucket_high(bucket);
    assert_true(low <= value && value <= high);
    assert_true(high - low <= low / 128);
    assert_true(histogram_percentile(&one, 0.5) == value);
}

static void every_value_is_in_a_bucket_no_wider_than_a_128th_of_it(void **state)
{
    (void)state;
    for (uint64_t value = 0; value < 2000; value++)
        assert_well_placed(value);
    for (unsigned bit = 8; bit < 64; bit++) {
        assert_well_placed((uint64_t)1 << bit);
        assert_well_placed(((uint64_t)1 << bit) - 1);
        assert_well_placed(((uint64_t)1 << bit) + ((uint64_t)1 << (bit - 1)) + 1);
    }
    assert_well_placed(UINT64_MAX);
}

static void buckets_follow_each_other_without_a_gap(void **state)
{
    (void)state;
    assert_int_equal(histogram_bucket_low(0), 0);
    for (size_t i = 1; i < HISTOGRAM_BUCKETS; i++)
        assert_true(histogram_bucket_low(i) == histogram_bucket_high(i - 1) + 1);
    assert_true(histogram_bucket_high(HISTOGRAM_BUCKETS - 1) == UINT64_MAX);
}

static void an_empty_one_says_0(void **state)
{
    (void)state;
    assert_int_equal(histogram_percentile(&one, 0), 0);
    assert_int_equal(histogram_percentile(&one, 0.5), 0);
    assert_int_equal(histogram_percentile(&one, 1), 0);
    assert_true(histogram_mean(&one) == 0);
}

static void percentiles_of_small_numbers_are_exact(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 100; i++)
        histogram_add(&one, i);
    assert_int_equal(histogram_percentile(&one, 0), 1);
    assert_int_equal(histogram_percentile(&one, 0.01), 1);
    assert_int_equal(histogram_percentile(&one, 0.5), 50);
    assert_int_equal(histogram_percentile(&one, 0.505), 51);
    assert_int_equal(histogram_percentile(&one, 0.9), 90);
    assert_int_equal(histogram_percentile(&one, 0.999), 100);
    assert_int_equal(histogram_percentile(&one, 1), 100);
    assert_true(histogram_mean(&one) == 50.5);
}

static void percentiles_of_large_numbers_are_at_most_a_128th_above(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 10000; i++)
        histogram_add(&one, i * 1000003);
    for (unsigned percent = 1; percent <= 100; percent++) {
        uint64_t exact = percent * 100 * (uint64_t)1000003;
        uint64_t told = histogram_percentile(&one, percent / 100.0);

        assert_true(told >= exact && told - exact <= exact / 128 + 1000003 / 64);
    }
    assert_int_equal(histogram_percentile(&one, 1), 10000 * (uint64_t)1000003);
}

static void no_percentile_is_beyond_the_extremes(void **state)
{
    (void)state;
    histogram_add(&one, 1000001);
    histogram_add(&one, 1000002);
    assert_int_equal(histogram_percentile(&one, 0), 1000001);
    assert_int_equal(histogram_percentile(&one, 0.99), 1000002);
    assert_int_equal(histogram_percentile(&one, 1), 1000002);
}

static void one_in_a_thousand_shows_in_its_percentile_alone(void **state)
{
    (void)state;
    for (int i = 0; i < 9990; i++)
        histogram_add(&one, 100);
    for (int i = 0; i < 10; i++)
        histogram_add(&one, 100000000);
    assert_int_equal(histogram_percentile(&one, 0.999), 100);
    assert_int_equal(histogram_percentile(&one, 0.9991), 100000000);
}

static void merging_is_as_if_all_had_been_added_to_one(void **state)
{
    static struct histogram all;

    (void)state;
    memset(&all, 0, sizeof(all));
    srand(1);
    for (int i = 0; i < 10000; i++) {
        uint64_t value = (uint64_t)rand() << (rand() % 20);

        histogram_add(i % 3 ? &one : &other, value);
        histogram_add(&all, value);
    }
    histogram_merge(&one, &other);
    assert_memory_equal(&one, &all, sizeof(all));
}

static void an_empty_one_merges_without_a_trace(void **state)
{
    (void)state;
    histogram_add(&one, 7);
    histogram_merge(&one, &other);
    assert_int_equal(one.min, 7);
    histogram_merge(&other, &one);
    assert_memory_equal(&one, &other, sizeof(one));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_value_is_in_a_bucket_no_wider_than_a_128th_of_it, empty_both),
        cmocka_unit_test_setup(buckets_follow_each_other_without_a_gap, empty_both),
        cmocka_unit_test_setup(an_empty_one_says_0, empty_both),
        cmocka_unit_test_setup(percentiles_of_small_numbers_are_exact, empty_both),
        cmocka_unit_test_setup(percentiles_of_large_numbers_are_at_most_a_128th_above, empty_both),
        cmocka_unit_test_setup(no_percentile_is_beyond_the_extremes, empty_both),
        cmocka_unit_test_setup(one_in_a_thousand_shows_in_its_percentile_alone, empty_both),
        cmocka_unit_test_setup(merging_is_as_if_all_had_been_added_to_one, empty_both),
        cmocka_unit_test_setup(an_empty_one_merges_without_a_trace, empty_both),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
