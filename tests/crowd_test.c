/* crowd_test.c - connections of one address are counted, limited, and given back exactly once. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/net/crowd.h"

#include <errno.h>
#include <pthread.h>

static struct cidr host(const char *text)
{
    struct cidr cidr;

    assert_int_equal(cidr_parse(text, &cidr, NULL, 0), 0);
    return cidr;
}

static void no_more_than_the_limit_of_one_address_enter(void **state)
{
    struct cidr a = host("127.0.0.1");
    struct cidr b = host("127.0.0.2");
    struct crowd *crowd;
    struct crowd_guest *guests[3];
    struct crowd_guest *none = NULL;

    (void)state;
    assert_int_equal(crowd_create(2, 10, &crowd), 0);
    assert_int_equal(crowd_enter(crowd, &a, &guests[0]), 0);
    assert_int_equal(crowd_enter(crowd, &a, &guests[1]), 0);
    assert_int_equal(crowd_enter(crowd, &a, &none), -EUSERS);
    assert_null(none);
    assert_int_equal(crowd_enter(crowd, &b, &guests[2]), 0);
    crowd_leave(crowd, guests[0]);
    assert_int_equal(crowd_enter(crowd, &a, &guests[0]), 0);
    assert_int_equal(crowd_enter(crowd, &a, &none), -EUSERS);
    for (int i = 0; i < 3; i++)
        crowd_leave(crowd, guests[i]);
    crowd_destroy(crowd);
}

/* More addresses than buckets, so that they share some. */
static void addresses_that_share_a_bucket_are_told_apart(void **state)
{
    enum { HOSTS = 2000 };
    static struct crowd_guest *guests[HOSTS];
    struct crowd_guest *none;
    struct crowd *crowd;

    (void)state;
    assert_int_equal(crowd_create(1, 1, &crowd), 0);
    for (int twice = 0; twice < 2; twice++) {
        for (unsigned i = 0; i < HOSTS; i++) {
            struct cidr cidr = { .bits = (unsigned __int128)i << 96, .len = 32, .v6 = i % 2 };

            assert_int_equal(crowd_enter(crowd, &cidr, &guests[i]), 0);
            assert_int_equal(crowd_enter(crowd, &cidr, &none), -EUSERS);
        }
        for (unsigned i = 0; i < HOSTS; i++)
            crowd_leave(crowd, guests[i]);
    }
    crowd_destroy(crowd);
}

enum { THREADS = 4, TURNS = 20000, LIMIT = 3 };

struct visitor {
    struct crowd *crowd;
    unsigned entered;
    unsigned refused;
};

static void *come_and_go(void *arg)
{
    struct visitor *visitor = arg;
    struct cidr cidr = { .bits = 1, .len = 128, .v6 = true };

    for (int i = 0; i < TURNS; i++) {
        struct crowd_guest *guest;

        if (crowd_enter(visitor->crowd, &cidr, &guest) == 0) {
            visitor->entered++;
            crowd_leave(visitor->crowd, guest);
        } else {
            visitor->refused++;
        }
    }
    return NULL;
}

static void many_threads_leave_nothing_behind(void **state)
{
    struct visitor visitors[THREADS] = { { .crowd = NULL } };
    struct cidr cidr = { .bits = 1, .len = 128, .v6 = true };
    struct crowd_guest *guests[LIMIT];
    struct crowd_guest *none;
    pthread_t threads[THREADS];
    struct crowd *crowd;

    (void)state;
    assert_int_equal(crowd_create(LIMIT, 10, &crowd), 0);
    for (int i = 0; i < THREADS; i++) {
        visitors[i].crowd = crowd;
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &visitors[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(visitors[i].entered + visitors[i].refused, TURNS);
    }
    for (int i = 0; i < LIMIT; i++)
        assert_int_equal(crowd_enter(crowd, &cidr, &guests[i]), 0);
    assert_int_equal(crowd_enter(crowd, &cidr, &none), -EUSERS);
    for (int i = 0; i < LIMIT; i++)
        crowd_leave(crowd, guests[i]);
    crowd_destroy(crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_more_than_the_limit_of_one_address_enter),
        cmocka_unit_test(addresses_that_share_a_bucket_are_told_apart),
        cmocka_unit_test(many_threads_leave_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
