/*
 * buffers_test.c - the cache of buffers: the warm ones first, not too many.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "engine/base/buffers.h"

static void the_buffer_put_last_is_given_first(void **state)
{
    struct buffers buffers;
    char *first;
    char *second;

    (void)state;
    buffers_init(&buffers, 100);
    first = buffers_get(&buffers);
    second = buffers_get(&buffers);
    assert_ptr_not_equal(first, second);
    memset(first, 'x', 100);
    memset(second, 'x', 100);
    buffers_put(&buffers, second);
    buffers_put(&buffers, first);
    assert_ptr_equal(buffers_get(&buffers), first);
    assert_ptr_equal(buffers_get(&buffers), second);
    buffers_put(&buffers, first);
    buffers_put(&buffers, second);
    buffers_fini(&buffers);
}

static void a_size_of_1_is_still_enough_to_rest(void **state)
{
    struct buffers buffers;
    char *two[2];

    (void)state;
    buffers_init(&buffers, 1);
    assert_true(buffers.size >= sizeof(void *));
    two[0] = buffers_get(&buffers);
    two[1] = buffers_get(&buffers);
    buffers_put(&buffers, two[0]);
    buffers_put(&buffers, two[1]);
    buffers_fini(&buffers);
}

#define MANY 1000

static void few_of_many_stay(void **state)
{
    struct buffers buffers;
    char *many[MANY];

    (void)state;
    buffers_init(&buffers, 64);
    for (size_t i = 0; i < MANY; i++)
        many[i] = buffers_get(&buffers);
    for (size_t i = 0; i < MANY; i++)
        buffers_put(&buffers, many[i]);
    assert_true(buffers.spare_len > 0);
    assert_true(buffers.spare_len <= 64);
    buffers_fini(&buffers);
    assert_int_equal(buffers.spare_len, 0);
}

static void aligned_ones_are_aligned(void **state)
{
    struct buffers buffers;
    char *two[2];

    (void)state;
    buffers_init_aligned(&buffers, 65, 64);
    assert_int_equal(buffers.size, 128);
    for (int i = 0; i < 2; i++) {
        two[i] = buffers_get(&buffers);
        assert_int_equal((uintptr_t)two[i] % 64, 0);
    }
    buffers_put(&buffers, two[0]);
    buffers_put(&buffers, two[1]);
    buffers_fini(&buffers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_buffer_put_last_is_given_first),
        cmocka_unit_test(a_size_of_1_is_still_enough_to_rest),
        cmocka_unit_test(few_of_many_stay),
        cmocka_unit_test(aligned_ones_are_aligned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
