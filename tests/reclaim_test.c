/* reclaim_test.c - grace periods, in a child process too. */
#include "engine/sync/reclaim.h"

#include "engine/base/compiler.h"
#include "engine/modes/process.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
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

static size_t threads(void)
{
    DIR *folder = opendir("/proc/self/task");
    size_t count = 0;

    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count - 2;   /* "." and ".." */
}

/* The kernel may list a thread for a moment after it was joined. */
static bool threads_become(size_t count)
{
    for (int waited_ms = 0; threads() != count && waited_ms < PLENTY_MS; waited_ms++)
        poll(NULL, 0, 1);
    return threads() == count;
}

static void what_is_deferred_is_reclaimed(void **state)
{
    struct note note = { .reclaimed = false };
    size_t with;        /* a sanitizer may have one of its own */

    (void)state;
    assert_int_equal(reclaim_start(), 0);
    with = threads();
    assert_int_equal(reclaim_start(), 0);
    assert_true(is_reclaimed(&note));
    reclaim_stop();
    assert_int_equal(threads(), with);
    reclaim_stop();
    assert_true(threads_become(with - 1));
}

static void without_a_thread_it_is_reclaimed_at_once(void **state)
{
    struct note note = { .reclaimed = false };
    size_t before = threads();

    (void)state;
    reclaim_defer(&note.head, note_reclaimed);
    assert_true(note.reclaimed);
    assert_int_equal(threads(), before);
}

static void the_end_of_the_thread_leaves_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct note notes[3] = { { .reclaimed = false } };

        assert_int_equal(reclaim_start(), 0);
        for (int n = 0; n < 3; n++)
            reclaim_defer(&notes[n].head, note_reclaimed);
        reclaim_stop();
        for (int n = 0; n < 3; n++)
            assert_true(notes[n].reclaimed);
    }
}

static int status_of_child(void)
{
    struct note note = { .reclaimed = false };
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        if (reclaim_start() < 0)
            _exit(2);
        _exit(is_reclaimed(&note) ? 0 : 1);
    }
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
    reclaim_stop();
}

static void *stay_in_a_section(void *arg)
{
    pthread_barrier_t *barrier = arg;

    reclaim_thread_init();
    reclaim_enter();
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier);
    reclaim_exit();
    reclaim_thread_fini();
    return NULL;
}

/* Nobody is in a section in the child: the parent's readers are not there. */
static void a_child_waits_for_no_reader_of_its_parent(void **state)
{
    pthread_barrier_t barrier;
    pthread_t readers[3];

    (void)state;
    if (WEIR_TSAN)
        skip();
    pthread_barrier_init(&barrier, NULL, 4);
    for (int i = 0; i < 3; i++)
        pthread_create(&readers[i], NULL, stay_in_a_section, &barrier);
    pthread_barrier_wait(&barrier);
    assert_int_equal(status_of_child(), 0);
    reclaim_thread_init();
    assert_int_equal(status_of_child(), 0);
    reclaim_thread_fini();
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 3; i++)
        pthread_join(readers[i], NULL);
    pthread_barrier_destroy(&barrier);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_deferred_is_reclaimed),
        cmocka_unit_test(without_a_thread_it_is_reclaimed_at_once),
        cmocka_unit_test(the_end_of_the_thread_leaves_nothing),
        cmocka_unit_test(what_is_deferred_in_a_child_is_reclaimed_too),
        cmocka_unit_test(a_child_waits_for_no_reader_of_its_parent),
    };

    return process_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
