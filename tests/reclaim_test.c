/* reclaim_test.c - grace periods, in a child process too. */
#include "engine/reclaim.h"

#include "engine/compiler.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORKS 30
#define PLENTY_MS 20000

struct note {
    struct reclaim_head head;
    _Atomic bool reclaimed;
};

static void note_reclaimed(struct reclaim_head *head)
{
    reclaim_settle();
    caa_container_of(head, struct note, head)->reclaimed = true;
}

/* False: the grace period does not end. */
static bool is_reclaimed(struct note *note)
{
    reclaim_thread_init();
    reclaim_defer(&note->head, note_reclaimed);
    reclaim_thread_fini();
    for (int waited_ms = 0; !note->reclaimed && waited_ms < PLENTY_MS; waited_ms++)
        poll(NULL, 0, 1);
    return note->reclaimed;
}

static void what_is_deferred_is_reclaimed(void **state)
{
    struct note note = { .reclaimed = false };

    (void)state;
    assert_int_equal(reclaim_start(), 0);
    assert_int_equal(reclaim_start(), 0);
    assert_true(is_reclaimed(&note));
}

static int status_of_child(void)
{
    struct note note = { .reclaimed = false };
    int status = -1;
    pid_t pid;

    assert_int_equal(reclaim_before_fork(), 0);
    pid = fork();
    if (pid == 0) {
        reclaim_after_fork_in_child();
        _exit(is_reclaimed(&note) ? 0 : 1);
    }
    reclaim_after_fork();
    waitpid(pid, &status, 0);
    return status;
}

static void what_is_deferred_in_a_child_is_reclaimed_too(void **state)
{
    struct note note = { .reclaimed = false };

    (void)state;
    /* It can't follow a process with threads into a child that starts one. */
    if (WEIR_TSAN)
        skip();
    assert_int_equal(reclaim_start(), 0);
    for (int i = 0; i < FORKS; i++) {
        /* Whether the thread that forks is registered, or not. */
        if (i % 2)
            reclaim_thread_init();
        assert_int_equal(status_of_child(), 0);
        if (i % 2)
            reclaim_thread_fini();
    }
    assert_true(is_reclaimed(&note));
}

static void *register_and_unregister(void *arg)
{
    pthread_barrier_t *barrier = arg;

    reclaim_thread_init();
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier);
    reclaim_thread_fini();
    return NULL;
}

static void who_has_other_readers_may_not_fork(void **state)
{
    pthread_barrier_t barrier;
    pthread_t reader;

    (void)state;
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&reader, NULL, register_and_unregister, &barrier);
    pthread_barrier_wait(&barrier);
    assert_int_equal(reclaim_before_fork(), -EPERM);
    pthread_barrier_wait(&barrier);
    pthread_join(reader, NULL);
    assert_int_equal(reclaim_before_fork(), 0);
    reclaim_after_fork();
    pthread_barrier_destroy(&barrier);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_deferred_is_reclaimed),
        cmocka_unit_test(what_is_deferred_in_a_child_is_reclaimed_too),
        cmocka_unit_test(who_has_other_readers_may_not_fork),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
