/* statistics_test.c - the list of statistics: that it is whole, and how sums are made by it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/statistics.h"
#include "engine/base/tally.h"

#include <ctype.h>
#include <string.h>
#include <weir/weir.h>

static size_t fields_len(void)
{
    size_t n = 0;

    while (weir_stats_field(n))
        n++;
    return n;
}

#define INDEX(member) (offsetof(struct weir_stats, member) / sizeof(uint64_t))

static uint64_t *value_at(struct weir_stats *stats, size_t i)
{
    return (uint64_t *)((char *)stats + weir_stats_field(i)->offset);
}

static const struct weir_stat *find(const char *name)
{
    for (size_t i = 0; weir_stats_field(i); i++)
        if (strcmp(weir_stats_field(i)->name, name) == 0)
            return weir_stats_field(i);
    return NULL;
}

static void every_member_is_in_the_list_once(void **state)
{
    (void)state;
    assert_int_equal(fields_len() * sizeof(uint64_t), sizeof(struct weir_stats));
    for (size_t i = 0; i < fields_len(); i++) {
        const struct weir_stat *field = weir_stats_field(i);

        assert_int_equal(field->offset, i * sizeof(uint64_t));
        assert_ptr_equal(find(field->name), field);
    }
    assert_null(weir_stats_field(fields_len()));
    assert_null(weir_stats_field(SIZE_MAX));
}

/* A metrics page makes a line of each: its name and meaning are fit for one. */
static void names_and_meanings_fit_into_a_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < fields_len(); i++) {
        const struct weir_stat *field = weir_stats_field(i);

        assert_true(strlen(field->name) > 0 && strlen(field->meaning) > 0);
        for (const char *c = field->name; *c; c++)
            assert_true(islower((unsigned char)*c) || *c == '_');
        assert_null(strchr(field->meaning, '\n'));
        assert_null(strchr(field->meaning, '\\'));
        assert_true(field->meaning[strlen(field->meaning) - 1] != '.');
    }
}

static void a_name_leads_to_its_member(void **state)
{
    (void)state;
    assert_int_equal(find("bytes_out")->offset, offsetof(struct weir_stats, bytes_out));
    assert_int_equal(find("bytes_out")->kind, WEIR_STAT_COUNTER);
    assert_int_equal(find("wakeups")->kind, WEIR_STAT_COUNTER);
    assert_int_equal(find("parked")->kind, WEIR_STAT_GAUGE);
    assert_int_equal(find("workers")->kind, WEIR_STAT_GAUGE);
}

/* What threads count is all that is counted, but for the wakeups. */
static void every_tally_has_a_counter(void **state)
{
    size_t counters = 0;

    (void)state;
    for (size_t i = 0; i < fields_len(); i++)
        counters += weir_stats_field(i)->kind == WEIR_STAT_COUNTER;
    assert_int_equal(counters, TALLY_KINDS + 1);
}

static void a_sum_has_all_of_both(void **state)
{
    struct weir_stats sum, more;

    (void)state;
    for (size_t i = 0; i < fields_len(); i++) {
        *value_at(&sum, i) = i;
        *value_at(&more, i) = 1000;
    }
    statistics_add(&sum, &more);
    for (size_t i = 0; i < fields_len(); i++)
        assert_int_equal(*value_at(&sum, i), 1000 + i);
}

static void what_a_process_had_open_is_closed_when_it_has_ended(void **state)
{
    struct weir_stats stats;

    (void)state;
    for (size_t i = 0; i < fields_len(); i++)
        *value_at(&stats, i) = 10 + i;
    stats.accepted = 9;
    stats.refused = 2;
    stats.active = 3;
    stats.closed = 4;
    statistics_end(&stats);
    assert_int_equal(stats.closed, 7);
    for (size_t i = 0; i < fields_len(); i++)
        if (weir_stats_field(i)->kind == WEIR_STAT_GAUGE)
            assert_int_equal(*value_at(&stats, i), 0);
        else if (i != INDEX(accepted) && i != INDEX(refused) && i != INDEX(closed))
            assert_int_equal(*value_at(&stats, i), 10 + i);
}

/* It is counted among the closed while its socket is still open. */
static void one_that_lingers_is_closed_once(void **state)
{
    struct weir_stats stats = { .accepted = 5, .refused = 1, .closed = 3, .active = 2 };

    (void)state;
    statistics_end(&stats);
    assert_int_equal(stats.closed, 4);
    statistics_end(&stats);
    assert_int_equal(stats.closed, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_member_is_in_the_list_once),
        cmocka_unit_test(names_and_meanings_fit_into_a_line),
        cmocka_unit_test(a_name_leads_to_its_member),
        cmocka_unit_test(every_tally_has_a_counter),
        cmocka_unit_test(a_sum_has_all_of_both),
        cmocka_unit_test(what_a_process_had_open_is_closed_when_it_has_ended),
        cmocka_unit_test(one_that_lingers_is_closed_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
