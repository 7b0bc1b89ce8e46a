/* cpulist_test.c - lists of CPUs: what they mean, and what is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/cpulist.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define UNTOUCHED (-7)

static char why[200];

/* The n-th CPU that this process may run on, -1 if it has fewer. */
static int allowed_cpu(int n)
{
    cpu_set_t set;

    assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &set) && n-- == 0)
            return cpu;
    return -1;
}

static int forbidden_cpu(void)
{
    cpu_set_t set;

    assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (!CPU_ISSET(cpu, &set))
            return cpu;
    return -1;
}

static void assert_refused(const char *text, size_t max, const char *sentence)
{
    int cpus[4] = { UNTOUCHED, UNTOUCHED, UNTOUCHED, UNTOUCHED };

    assert_int_equal(cpulist_parse(text, cpus, max, why, sizeof(why)), -EINVAL);
    assert_string_equal(why, sentence);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(cpus[i], UNTOUCHED);
}

static void one_number_is_a_list(void **state)
{
    char text[16];
    int cpu = UNTOUCHED;

    (void)state;
    snprintf(text, sizeof(text), "%d", allowed_cpu(0));
    assert_int_equal(cpulist_parse(text, &cpu, 1, why, sizeof(why)), 1);
    assert_int_equal(cpu, allowed_cpu(0));
}

static void the_order_given_is_kept_and_a_cpu_may_come_twice(void **state)
{
    int a = allowed_cpu(0), b = allowed_cpu(1);
    char text[64];
    int cpus[4];

    (void)state;
    if (b < 0)
        skip();
    snprintf(text, sizeof(text), "%d,%d,%d", b, a, b);
    assert_int_equal(cpulist_parse(text, cpus, 4, why, sizeof(why)), 3);
    assert_int_equal(cpus[0], b);
    assert_int_equal(cpus[1], a);
    assert_int_equal(cpus[2], b);
}

static void a_range_contains_both_its_ends(void **state)
{
    int a = allowed_cpu(0), b = allowed_cpu(1);
    char text[64];
    int cpus[4];

    (void)state;
    if (b != a + 1)
        skip();
    snprintf(text, sizeof(text), "%d-%d,%d-%d", a, b, a, a);
    assert_int_equal(cpulist_parse(text, cpus, 4, why, sizeof(why)), 3);
    assert_int_equal(cpus[0], a);
    assert_int_equal(cpus[1], b);
    assert_int_equal(cpus[2], a);
}

static void what_is_not_a_list_is_refused(void **state)
{
    static const char *const wrong[] = {
        ",", "0,", ",0", "0,,0", "-", "-0", "0-", "0-0-0", "1-0", " 0", "0 ", "0x1", "a", "+0",
        "0;0", "65536", "99999999999999999999", "0-99999999999999999999",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        char sentence[100];
        snprintf(sentence, sizeof(sentence), "%s: not a list of CPUs such as 0,2-3", wrong[i]);
        assert_refused(wrong[i], 4, sentence);
    }
    assert_refused("", 4, "\"\": not a list of CPUs such as 0,2-3");
}

static void a_cpu_outside_the_affinity_mask_is_refused(void **state)
{
    int cpu = forbidden_cpu();
    char text[16], sentence[100];

    (void)state;
    if (cpu < 0)
        skip();
    snprintf(text, sizeof(text), "%d", cpu);
    snprintf(sentence, sizeof(sentence), "%d: this process may not run on CPU %d", cpu, cpu);
    assert_refused(text, 4, sentence);
}

static void more_cpus_than_there_is_room_for_are_refused(void **state)
{
    int cpu = allowed_cpu(0);
    char text[64], sentence[100];

    (void)state;
    snprintf(text, sizeof(text), "%d,%d,%d", cpu, cpu, cpu);
    snprintf(sentence, sizeof(sentence), "%s: more than 2 CPUs", text);
    assert_refused(text, 2, sentence);
}

static void the_sentence_may_be_unwanted(void **state)
{
    int cpu = UNTOUCHED;

    (void)state;
    assert_int_equal(cpulist_parse("x", &cpu, 1, NULL, 0), -EINVAL);
    assert_int_equal(cpu, UNTOUCHED);
}

/* A kernel that counts more CPUs than cpu_set_t holds, of which we may use 0 and 1500. */
static bool large;

int __real_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);

int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    if (!large)
        return __real_sched_getaffinity(pid, size, set);
    if (size < CPU_ALLOC_SIZE(2048)) {
        errno = EINVAL;
        return -1;
    }
    CPU_ZERO_S(size, set);
    CPU_SET_S(0, size, set);
    CPU_SET_S(1500, size, set);
    return 0;
}

static void a_large_machine_has_all_of_its_cpus(void **state)
{
    int cpus[2];

    (void)state;
    large = true;
    assert_int_equal(cpulist_count_allowed(), 2);
    assert_int_equal(cpulist_parse("1500,0", cpus, 2, why, sizeof(why)), 2);
    assert_int_equal(cpus[0], 1500);
    assert_int_equal(cpus[1], 0);
    assert_refused("1501", 4, "1501: this process may not run on CPU 1501");
    large = false;
    assert_refused("1500", 4, "1500: this process may not run on CPU 1500");
}

static void a_set_holds_its_cpu_alone_however_high(void **state)
{
    (void)state;
    for (int cpu = 0; cpu < 5000; cpu += 999) {
        size_t size;
        cpu_set_t *set = cpulist_set_of(cpu, &size);

        assert_non_null(set);
        assert_true(CPU_ISSET_S((size_t)cpu, size, set));
        assert_int_equal(CPU_COUNT_S(size, set), 1);
        CPU_FREE(set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_number_is_a_list),
        cmocka_unit_test(the_order_given_is_kept_and_a_cpu_may_come_twice),
        cmocka_unit_test(a_range_contains_both_its_ends),
        cmocka_unit_test(what_is_not_a_list_is_refused),
        cmocka_unit_test(a_cpu_outside_the_affinity_mask_is_refused),
        cmocka_unit_test(more_cpus_than_there_is_room_for_are_refused),
        cmocka_unit_test(the_sentence_may_be_unwanted),
        cmocka_unit_test(a_large_machine_has_all_of_its_cpus),
        cmocka_unit_test(a_set_holds_its_cpu_alone_however_high),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
