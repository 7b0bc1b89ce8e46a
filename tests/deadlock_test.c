/*
 * deadlock_test.c - WEIR_CHECK=1: who waits for whom waits for it ends the program, with a line.
 */
#include "tests/support.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir_sync.h>

#define MOST 3

static struct weir_mutex mutexes[MOST];
static struct weir_wait_group coming;
static unsigned locks;              /* of whom each waits for the next one's */
static uint32_t workers, request_ms;
static int (*last_wait)(struct weir_mutex *mutex);

/* Whoever comes last closes the circle. */
static int take_two(unsigned own)
{
    int r = weir_mutex_lock(&mutexes[own]);

    weir_wait_group_done(&coming);
    if (r == 0)
        r = weir_wait_group_wait(&coming);
    return r == 0 ? last_wait(&mutexes[(own + 1) % locks]) : r;
}

static int cross(struct weir_request *req)
{
    char own;

    return weir_read(req, &own, 1) == 1 ? take_two((unsigned)(own - '0')) : 0;
}

static void *cross_as_a_thread(void *own)
{
    take_two(*(unsigned *)own);
    return NULL;
}

static const struct weir_handler crossing = { .name = "crossing", .handle = cross };

static struct weir_server *begin(void)
{
    signal(SIGABRT, SIG_DFL);
    setenv("WEIR_CHECK", "1", 1);
    return support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &crossing,
                                      .workers = workers, .request_timeout_ms = request_ms));
}

static void meet_as_handlers(void)
{
    struct weir_server *server = begin();

    for (unsigned i = 0; i < locks; i++)
        support_say(support_connect(server, 0), (const char[]){ (char)('0' + (int)i), '\0' });
    SUPPORT_AWAIT(server, closed, == locks);
}

static void meet_a_thread(void)
{
    struct weir_server *server = begin();
    unsigned own = 1;
    pthread_t thread;

    support_say(support_connect(server, 0), "0");
    pthread_create(&thread, NULL, cross_as_a_thread, &own);
    SUPPORT_AWAIT(server, closed, == 2);
}

static int lock(struct weir_mutex *mutex)
{
    return weir_mutex_lock(mutex);
}

static int lock_within_for_ever(struct weir_mutex *mutex)
{
    return weir_mutex_lock_within(mutex, WEIR_FOREVER);
}

static void expect_line(void (*scene)(void), const char *const *words)
{
    struct support_end end;

    memset(mutexes, 0, sizeof(mutexes));
    memset(&coming, 0, sizeof(coming));
    assert_int_equal(weir_wait_group_add(&coming, locks), 0);
    end = support_run_in_child(scene);
    assert_int_equal(end.status, -SIGABRT);
    assert_non_null(strstr(end.said, "weir: a deadlock: "));
    for (; *words; words++)
        if (!strstr(end.said, *words))
            fail_msg("no '%s' in '%s'", *words, end.said);
}

static const char *named(unsigned i)
{
    static char texts[MOST][64];

    snprintf(texts[i], sizeof(texts[i]), " waits for mutex %p, which ", (void *)&mutexes[i]);
    return texts[i];
}

static void two_handlers_that_want_each_others_locks_are_named(void **state)
{
    const char *const words[] = {
        "handler 'crossing' waits for ", " which handler 'crossing' has", named(0), named(1), NULL,
    };

    (void)state;
    locks = 2;
    for (workers = 1; workers <= 2; workers++) {
        last_wait = lock;
        expect_line(meet_as_handlers, words);
        last_wait = lock_within_for_ever;
        expect_line(meet_as_handlers, words);
    }
}

static void so_are_three(void **state)
{
    const char *const words[] = { named(0), named(1), named(2), NULL };

    (void)state;
    locks = 3;
    workers = 2;
    last_wait = lock;
    expect_line(meet_as_handlers, words);
}

static void so_are_a_handler_and_a_thread(void **state)
{
    const char *const words[] = {
        "handler 'crossing' waits for mutex ", "a thread waits for mutex ", named(0), named(1),
        NULL,
    };

    (void)state;
    locks = 2;
    workers = 1;
    last_wait = lock;
    expect_line(meet_a_thread, words);
}

/* What ends by itself is no deadlock. */
static int lock_for_a_while(struct weir_mutex *mutex)
{
    weir_mutex_lock_within(mutex, 50);
    return 0;
}

static void meet_for_a_while(void)
{
    struct weir_server *server;

    last_wait = request_ms > 0 ? lock_within_for_ever : lock_for_a_while;
    server = begin();
    for (unsigned i = 0; i < locks; i++)
        support_say(support_connect(server, 0), (const char[]){ (char)('0' + (int)i), '\0' });
    SUPPORT_AWAIT(server, closed, == locks);
    exit(0);
}

static void who_gives_up_in_time_is_not(void **state)
{
    (void)state;
    locks = 2;
    workers = 2;
    memset(mutexes, 0, sizeof(mutexes));
    memset(&coming, 0, sizeof(coming));
    assert_int_equal(weir_wait_group_add(&coming, locks), 0);
    assert_int_equal(support_run_in_child(meet_for_a_while).status, 0);
    request_ms = 50;
    assert_int_equal(support_run_in_child(meet_for_a_while).status, 0);
    request_ms = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_handlers_that_want_each_others_locks_are_named),
        cmocka_unit_test(so_are_three),
        cmocka_unit_test(so_are_a_handler_and_a_thread),
        cmocka_unit_test(who_gives_up_in_time_is_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
