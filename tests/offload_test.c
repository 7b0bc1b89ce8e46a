/*
 * offload_test.c - calls that block, on threads that may: results, bounds, cancelling.
 */
#include "tests/stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define THREADS_MAX 64      /* the default of offload_threads */

static int double_it(void *arg)
{
    return 2 * *(const int *)arg;
}

static int note_results(struct weir_request *req)
{
    int number = 21;

    note("%d,", weir_offload(req, double_it, &number));
    number = -EAGAIN;
    note("%d", weir_offload(req, double_it, &number));
    return 0;
}

static void an_offload_returns_what_the_function_returned(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(note_results);
    support_talk(server, 0, "", "");
    notes_expect("42,-22");
}

static int note_self(void *arg)
{
    *(pthread_t *)arg = pthread_self();
    return 0;
}

static int compare_threads(struct weir_request *req)
{
    pthread_t before = pthread_self();
    pthread_t there;

    weir_offload(req, note_self, &there);
    note(pthread_equal(before, there) ? "the same," : "another,");
    note(pthread_equal(before, pthread_self()) ? "back" : "lost");
    return 0;
}

static void it_runs_on_another_thread_and_the_handler_stays_on_its_own(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(compare_threads);
    support_talk(server, 0, "", "");
    notes_expect(way->stack == WEIR_STACK_THREAD ? "the same,back" : "another,back");
}

#define MANY 200

static struct {
    atomic_uint now;
    atomic_uint most;
    atomic_uint begun;
    struct gate gate;
} office;

static int work_at_the_office(void *arg)
{
    unsigned now = atomic_fetch_add_explicit(&office.now, 1, memory_order_relaxed) + 1;
    unsigned most = atomic_load_explicit(&office.most, memory_order_relaxed);

    while (most < now && !atomic_compare_exchange_weak_explicit(
               &office.most, &most, now, memory_order_relaxed, memory_order_relaxed))
        ;
    atomic_fetch_add_explicit(&office.begun, 1, memory_order_relaxed);
    gate_pass(&office.gate);
    atomic_fetch_sub_explicit(&office.now, 1, memory_order_relaxed);
    return *(const int *)arg;
}

static int go_to_the_office(struct weir_request *req)
{
    int number = weir_request_fd(req);

    weir_printf(req, "%d", weir_offload(req, work_at_the_office, &number) == number);
    return 0;
}

static unsigned begun(void)
{
    return atomic_load_explicit(&office.begun, memory_order_relaxed);
}

static void open_office(void)
{
    atomic_store_explicit(&office.now, 0, memory_order_relaxed);
    atomic_store_explicit(&office.most, 0, memory_order_relaxed);
    atomic_store_explicit(&office.begun, 0, memory_order_relaxed);
    gate_init(&office.gate);
}

static void two_hundred_at_once_share_the_threads_and_none_is_lost(void **state)
{
    struct weir_server *server;
    int fds[MANY];

    (void)state;
    if (way->stack == WEIR_STACK_THREAD)
        skip();
    open_office();
    server = STREAM_SERVE(go_to_the_office);
    for (size_t i = 0; i < MANY; i++)
        fds[i] = support_connect(server, 0);
    SUPPORT_UNTIL(begun() == THREADS_MAX);
    gate_open(&office.gate);
    for (size_t i = 0; i < MANY; i++) {
        support_expect(fds[i], "1");
        support_expect_end(fds[i]);
        close(fds[i]);
    }
    assert_int_equal(begun(), MANY);
    assert_int_equal(atomic_load_explicit(&office.most, memory_order_relaxed), THREADS_MAX);
    gate_fini(&office.gate);
}

#define FEW 3
#define VISITORS 10

static void no_more_threads_than_the_option_says_and_the_others_are_counted(void **state)
{
    struct weir_server *server;
    int fds[VISITORS];

    (void)state;
    if (way->stack == WEIR_STACK_THREAD)
        skip();
    open_office();
    server = STREAM_SERVE(go_to_the_office, .offload_threads = FEW);
    assert_int_equal(support_stats(server).offload_threads, 0);
    for (size_t i = 0; i < VISITORS; i++)
        fds[i] = support_connect(server, 0);
    SUPPORT_AWAIT(server, offload_queued, == VISITORS - FEW);
    SUPPORT_UNTIL(begun() == FEW);
    assert_int_equal(support_stats(server).offload_threads, FEW);
    gate_open(&office.gate);
    for (size_t i = 0; i < VISITORS; i++) {
        support_expect(fds[i], "1");
        support_expect_end(fds[i]);
        close(fds[i]);
    }
    assert_int_equal(begun(), VISITORS);
    assert_int_equal(atomic_load_explicit(&office.most, memory_order_relaxed), FEW);
    assert_int_equal(support_stats(server).offload_queued, 0);
    gate_fini(&office.gate);
}

/* Its service has to be looked up, which takes no network, and is not found. */
static int look_up(struct weir_request *req)
{
    struct weir_request *peer;
    int r = weir_connect(req, "tcp://127.0.0.1:no-such-service", 0, &peer);

    return (int)weir_printf(req, r < 0 ? "looked up" : "connected");
}

static int work_or_answer(struct weir_request *req)
{
    char kind = '?';

    weir_read_exact(req, &kind, 1);
    if (kind == 'w')
        return go_to_the_office(req);
    if (kind == 'n')
        return look_up(req) < 0 ? -EIO : 0;
    weir_write(req, "here", 4);
    return 0;
}

static void others_are_served_meanwhile(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    if (way->stack == WEIR_STACK_THREAD)
        skip();
    open_office();
    server = STREAM_SERVE(work_or_answer, .workers = 1);
    fd = support_connect(server, 0);
    support_say(fd, "w");
    SUPPORT_UNTIL(begun() == 1);
    for (int i = 0; i < 20; i++)
        support_talk(server, 0, "?", "here");
    gate_open(&office.gate);
    support_expect(fd, "1");
    close(fd);
    gate_fini(&office.gate);
}

static void names_are_looked_up_beside_what_keeps_all_threads(void **state)
{
    struct weir_server *server;
    int working;
    int waiting;

    (void)state;
    if (way->stack == WEIR_STACK_THREAD)
        skip();
    open_office();
    server = STREAM_SERVE(work_or_answer, .workers = 1, .offload_threads = 1);
    working = support_connect(server, 0);
    support_say(working, "w");
    SUPPORT_UNTIL(begun() == 1);
    waiting = support_connect(server, 0);
    support_say(waiting, "w");
    SUPPORT_AWAIT(server, offload_queued, == 1);
    for (int i = 0; i < 3; i++)
        support_talk(server, 0, "n", "looked up");
    assert_int_equal(support_stats(server).offload_queued, 1);
    gate_open(&office.gate);
    support_expect(working, "1");
    support_expect(waiting, "1");
    close(working);
    close(waiting);
    gate_fini(&office.gate);
}

/* Nothing cuts an offload short: its argument lives on the handler's stack. */
static int note_offload_and_sleep(struct weir_request *req)
{
    int number = 42;

    note("%d,", weir_offload(req, work_at_the_office, &number));
    note("%d,", weir_sleep(req, 1));
    number = 43;
    note("%d", weir_offload(req, work_at_the_office, &number));
    return 0;
}

static void a_cancel_waits_for_the_result_and_ends_what_comes_next(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    open_office();
    server = STREAM_SERVE(note_offload_and_sleep);
    fd = support_connect(server, 0);
    SUPPORT_UNTIL(begun() == 1);
    weir_server_cancel(server);
    assert_int_equal(notes_len(), 0);
    gate_open(&office.gate);
    notes_expect("42,-125,43");
    support_expect_end(fd);
    close(fd);
    gate_fini(&office.gate);
}

static int offload_in_finish(struct weir_request *req, int status)
{
    int number = 4 - status;

    note("%d", weir_offload(req, double_it, &number));
    return 0;
}

static int fail_with_17(struct weir_request *req)
{
    (void)req;
    return -17;
}

static void finish_may_offload_too(void **state)
{
    struct weir_server *server;

    (void)state;
    server = stream_serve(&(const struct weir_handler){
        .name = "late", .handle = fail_with_17, .finish = offload_in_finish,
    }, WEIR_OPTIONS(.workers = 1));
    support_talk(server, 0, "", "");
    notes_expect("42");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STREAM_TEST(an_offload_returns_what_the_function_returned),
        STREAM_TEST(it_runs_on_another_thread_and_the_handler_stays_on_its_own),
        STREAM_TEST(two_hundred_at_once_share_the_threads_and_none_is_lost),
        STREAM_TEST(no_more_threads_than_the_option_says_and_the_others_are_counted),
        STREAM_TEST(others_are_served_meanwhile),
        STREAM_TEST(names_are_looked_up_beside_what_keeps_all_threads),
        STREAM_TEST(a_cancel_waits_for_the_result_and_ends_what_comes_next),
        STREAM_TEST(finish_may_offload_too),
    };

    return STREAM_RUN(tests, WAYS);
}
