/* crowd_test.c - connections of one address are counted, limited, and given back exactly once. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/net/crowd.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

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

static void who_moves_leaves_its_place(void **state)
{
    struct cidr a = host("127.0.0.1");
    struct cidr b = host("127.0.0.2");
    struct crowd_guest *mover = NULL;
    struct crowd_guest *other = NULL;
    struct crowd *crowds[2];

    (void)state;
    assert_int_equal(crowd_create(1, 10, &crowds[0]), 0);
    assert_int_equal(crowd_create_shared(1, 2, &crowds[1]), 0);
    for (int i = 0; i < 2; i++) {
        struct crowd *crowd = crowds[i];

        assert_int_equal(crowd_enter(crowd, &a, &mover), 0);
        /* To where it is already, too. */
        assert_int_equal(crowd_move(crowd, &a, &mover), 0);
        assert_int_equal(crowd_move(crowd, &b, &mover), 0);
        assert_int_equal(crowd_enter(crowd, &a, &other), 0);
        assert_int_equal(crowd_move(crowd, &b, &other), -EUSERS);
        if (other)
            crowd_leave(crowd, other);
        other = NULL;
        /* Without an address it is in nobody's way. */
        assert_int_equal(crowd_move(crowd, NULL, &mover), 0);
        assert_int_equal(crowd_enter(crowd, &b, &other), 0);
        crowd_leave(crowd, other);
        other = NULL;
        if (mover)
            crowd_leave(crowd, mover);
        mover = NULL;
        crowd_destroy(crowd);
    }
}

static void a_shared_one_has_no_more_places_than_it_was_made_with(void **state)
{
    struct cidr hosts[] = { host("127.0.0.1"), host("127.0.0.2"), host("127.0.0.3") };
    struct crowd_guest *guests[3];
    struct crowd *crowd;

    (void)state;
    assert_int_equal(crowd_create_shared(1, 2, &crowd), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(crowd_enter(crowd, &hosts[i], &guests[i]), 0);
    assert_int_equal(crowd_enter(crowd, &hosts[2], &guests[2]), -ENOMEM);
    crowd_leave(crowd, guests[0]);
    assert_int_equal(crowd_enter(crowd, &hosts[2], &guests[2]), 0);
    crowd_destroy(crowd);
}

static int end_of(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* What a child does counts for its parent, and what it leaves behind is the parent's to leave. */
static void children_share_places_with_their_parent(void **state)
{
    struct cidr a = host("127.0.0.1");
    struct cidr b = host("127.0.0.2");
    struct crowd_guest *guest;
    struct crowd_guest *other = NULL;
    struct crowd *crowd;
    pid_t pid;

    (void)state;
    assert_int_equal(crowd_create_shared(1, 2, &crowd), 0);
    assert_int_equal(crowd_enter(crowd, &a, &guest), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        crowd_leave_to_parent(crowd);
        _exit(crowd_move(crowd, &b, &guest) != 0);
    }
    assert_int_equal(end_of(pid), 0);
    /* It has died there, counted. */
    assert_int_equal(crowd_enter(crowd, &b, &other), -EUSERS);
    assert_int_equal(crowd_enter(crowd, &a, &other), 0);
    crowd_leave(crowd, other);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        crowd_leave_to_parent(crowd);
        crowd_leave(crowd, guest);
        _exit(0);
    }
    assert_int_equal(end_of(pid), 0);
    assert_int_equal(crowd_enter(crowd, &b, &other), 0);
    /* One place is the other's, and one the parent's still. */
    assert_int_equal(crowd_enter(crowd, &a, &(struct crowd_guest *){ NULL }), -ENOMEM);
    crowd_leave(crowd, guest);
    assert_int_equal(crowd_enter(crowd, &a, &guest), 0);
    crowd_destroy(crowd);
}

static void mover_in_child(struct crowd *crowd, struct crowd_guest *guest)
{
    struct cidr cidr = { .bits = 1, .len = 128, .v6 = true };

    crowd_leave_to_parent(crowd);
    for (;;) {
        cidr.bits++;
        crowd_move(crowd, &cidr, &guest);
    }
}

/* Perhaps while it has the lock, which is free for others all the same. */
static void a_child_that_is_killed_leaves_no_lock_behind(void **state)
{
    enum { KILLED = 20 };
    struct cidr a = host("127.0.0.1");
    struct crowd *crowd;

    (void)state;
    assert_int_equal(crowd_create_shared(KILLED + 1, KILLED + 1, &crowd), 0);
    for (int i = 0; i < KILLED; i++) {
        struct crowd_guest *guest;
        pid_t pid;

        assert_int_equal(crowd_enter(crowd, &a, &guest), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            mover_in_child(crowd, guest);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_true(WIFSIGNALED(end_of(pid)));
        crowd_leave(crowd, guest);
    }
    crowd_destroy(crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_more_than_the_limit_of_one_address_enter),
        cmocka_unit_test(addresses_that_share_a_bucket_are_told_apart),
        cmocka_unit_test(many_threads_leave_nothing_behind),
        cmocka_unit_test(who_moves_leaves_its_place),
        cmocka_unit_test(a_shared_one_has_no_more_places_than_it_was_made_with),
        cmocka_unit_test(children_share_places_with_their_parent),
        cmocka_unit_test(a_child_that_is_killed_leaves_no_lock_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
