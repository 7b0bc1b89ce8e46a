/* reclaim_test.c - grace periods, in a child process too. */
#include "engine/sync/reclaim.h"

#include "engine/base/clock.h"
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
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORKS 30
#define STARTS 50
#define PLENTY_MS 20000

/* What is deferred within BATCH_MS shares a grace period: the reclaimer wakes at its begin and at
 * its end. A sanitizer may have a thread that wakes as often. */
#define BATCH_MS 100
#define WAKES_A_BATCH 4

/* Behind a batch of so many the next one is shorter. */
#define MANY 100

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
    for (int i = 0; i < STARTS; i++) {
        struct note notes[3] = { { .reclaimed = false } };

        assert_int_equal(reclaim_start(), 0);
        for (int n = 0; n < 3; n++)
            reclaim_defer(&notes[n].head, note_reclaimed);
        reclaim_stop();
        for (int n = 0; n < 3; n++)
            assert_true(notes[n].reclaimed);
    }
}

static long sleeps_of_others(void)
{
    struct rusage all, own;

    assert_int_equal(getrusage(RUSAGE_SELF, &all), 0);
    assert_int_equal(getrusage(RUSAGE_THREAD, &own), 0);
    return all.ru_nvcsw - own.ru_nvcsw;
}

/* On a CPU that is short each wake-up takes a turn from a worker. */
static void the_thread_wakes_for_a_batch_and_not_for_each(void **state)
{
    struct note notes[5 * BATCH_MS] = { { .reclaimed = false } };
    uint64_t began_ms, batches;
    long before;

    (void)state;
    assert_int_equal(reclaim_start(), 0);
    before = sleeps_of_others();
    began_ms = clock_ms();
    for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
        reclaim_defer(&notes[i].head, note_reclaimed);
        poll(NULL, 0, 1);
    }
    batches = (clock_ms() - began_ms) / BATCH_MS + 1;
    assert_in_range(sleeps_of_others() - before, 0, (batches + 1) * WAKES_A_BATCH);
    reclaim_stop();
}

static void defer_many_and_wait(struct note *notes)
{
    for (size_t i = 0; i < MANY; i++)
        notes[i] = (struct note){ .reclaimed = false };
    for (size_t i = 0; i < MANY; i++)
        reclaim_defer(&notes[i].head, note_reclaimed);
    for (size_t i = 0; i < MANY; i++)
        for (int waited_ms = 0; !notes[i].reclaimed && waited_ms < PLENTY_MS; waited_ms++)
            poll(NULL, 0, 1);
}

/* Not each: it may be cut in two, of which one is small, or have waited for a CPU. */
static void behind_a_batch_of_many_the_next_is_short(void **state)
{
    struct note notes[MANY];
    unsigned shorter = 0;

    (void)state;
    assert_int_equal(reclaim_start(), 0);
    for (int i = 0; i < STARTS; i++) {
        uint64_t began_ms = clock_ms();

        defer_many_and_wait(notes);
        shorter += clock_ms() - began_ms < BATCH_MS / 2;
    }
    reclaim_stop();
    assert_true(shorter > STARTS / 4);
}

/* Many of the ends are at once: others may have waited for a CPU, or found no batch begun. */
static void the_end_waits_for_no_batch_to_fill(void **state)
{
    unsigned at_once = 0;

    (void)state;
    for (int i = 0; i < STARTS; i++) {
        struct note note = { .reclaimed = false };
        uint64_t began_ms;

        assert_int_equal(reclaim_start(), 0);
        reclaim_defer(&note.head, note_reclaimed);
        poll(NULL, 0, BATCH_MS / 10);   /* so that a batch has begun to fill, mostly */
        began_ms = clock_ms();
        reclaim_stop();
        at_once += clock_ms() - began_ms < BATCH_MS / 2;
    }
    assert_true(at_once > STARTS / 4);
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
        cmocka_unit_test(the_thread_wakes_for_a_batch_and_not_for_each),
        cmocka_unit_test(behind_a_batch_of_many_the_next_is_short),
        cmocka_unit_test(the_end_waits_for_no_batch_to_fill),
        cmocka_unit_test(what_is_deferred_in_a_child_is_reclaimed_too),
        cmocka_unit_test(a_child_waits_for_no_reader_of_its_parent),
    };

    return process_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
