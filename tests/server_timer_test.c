/*
 * server_timer_test.c - timers of a server: when they call, on what, and what ends them.
 */
#include "tests/stream.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HOUR_MS (60 * 60 * 1000)

/* ------------------------------------------------------------------ what they call ---- */

static atomic_int calls;
static atomic_int other_calls;
static atomic_bool inside;
static atomic_bool overlapped;
static struct gate gate;

static int begin(void **state)
{
    calls = 0;
    other_calls = 0;
    inside = false;
    overlapped = false;
    gate_init(&gate);
    return stream_begin(state);
}

static int end(void **state)
{
    int r = stream_end(state);

    gate_fini(&gate);
    return r;
}

static void count(struct weir_request *req, void *arg)
{
    (void)req;
    atomic_fetch_add((atomic_int *)arg, 1);
}

static int pass(void *arg)
{
    (void)arg;
    gate_pass(&gate);
    return 0;
}

static int echo(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    weir_write(req, line, (size_t)n);
    return WEIR_KEEP;
}

static struct weir_timer *start_every(struct weir_server *server, uint32_t ms,
                                      void (*fn)(struct weir_request *req, void *arg), void *arg)
{
    struct weir_timer *timer;

    if (weir_timer_every(server, ms, fn, arg, &timer) < 0)
        fail_msg("%s", weir_why());
    return timer;
}

static void start_after(struct weir_server *server, uint32_t ms,
                        void (*fn)(struct weir_request *req, void *arg), void *arg)
{
    if (weir_timer_after(server, ms, fn, arg, NULL) < 0)
        fail_msg("%s", weir_why());
}

/* ------------------------------------------------------------------ when they call ---- */

struct moment {
    uint64_t due_ms;
    atomic_int early;
    atomic_int called;
};

static void look_at_clock(struct weir_request *req, void *arg)
{
    struct moment *moment = arg;

    (void)req;
    atomic_fetch_add(&moment->early, support_now_ms() < moment->due_ms);
    atomic_fetch_add(&moment->called, 1);
}

static void it_calls_once_and_never_early(void **state)
{
    static struct moment moments[20];
    struct weir_server *server = STREAM_SERVE(echo);

    (void)state;
    memset(moments, 0, sizeof(moments));
    for (uint32_t i = 0; i < 20; i++) {
        moments[i].due_ms = support_now_ms() + i;
        start_after(server, i, look_at_clock, &moments[i]);
    }
    /* Long after the last of them has been called. */
    start_every(server, 1, count, &calls);
    for (int i = 0; i < 20; i++)
        SUPPORT_UNTIL(moments[i].called == 1);
    SUPPORT_UNTIL(calls >= 30);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(moments[i].called, 1);
        assert_int_equal(moments[i].early, 0);
    }
}

static void it_calls_again_and_again_until_it_is_cancelled(void **state)
{
    struct weir_server *server = STREAM_SERVE(echo);
    struct weir_timer *timer = start_every(server, 1, count, &calls);
    int under_way;
    int before;

    (void)state;
    SUPPORT_UNTIL(calls >= 5);
    under_way = weir_timer_cancel(timer) == -EBUSY;
    before = calls;
    start_every(server, 1, count, &other_calls);
    SUPPORT_UNTIL(other_calls >= 20);
    assert_in_range(calls - before, 0, under_way);
}

static void call_slowly(struct weir_request *req, void *arg)
{
    (void)arg;
    if (atomic_exchange(&inside, true))
        overlapped = true;
    weir_sleep(req, 7);
    atomic_store(&inside, false);
    atomic_fetch_add(&calls, 1);
}

static void its_calls_never_overlap(void **state)
{
    struct weir_server *server = STREAM_SERVE(echo);

    (void)state;
    start_every(server, 1, call_slowly, NULL);
    SUPPORT_UNTIL(calls >= 5);
    assert_false(overlapped);
}

static void before_the_server_serves_and_after_it_has(void **state)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listen = stream_listen(), .handler = &(const struct weir_handler){
            .name = "echo", .handle = echo }, .workers = 2, .dispatch = way->dispatch));
    int seen;

    (void)state;
    start_every(server, 1, count, &calls);
    SUPPORT_UNTIL(calls >= 3);
    assert_int_equal(weir_server_start(server), 0);
    weir_server_shutdown(server);
    seen = calls;
    SUPPORT_UNTIL(calls >= seen + 3);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ on what ----------- */

static void wait_at_gate(struct weir_request *req, void *arg)
{
    (void)arg;
    note("in,");
    weir_offload(req, pass, NULL);
    note("%d,", weir_sleep(req, 1));
    note("out");
    atomic_fetch_add(&calls, 1);
}

static void it_parks_and_others_are_served_meanwhile(void **state)
{
    struct weir_server *server = STREAM_SERVE(echo, .workers = 1);
    int fd;

    (void)state;
    start_after(server, 0, wait_at_gate, NULL);
    notes_expect("in,");
    fd = support_ask(server, 0, "x\n");
    support_expect(fd, "x\n");
    close(fd);
    gate_open(&gate);
    notes_expect("in,0,out");
    assert_int_equal(support_stats(server).accepted, 1);
}

/* All that would need a client. */
static void look_for_client(struct weir_request *req, void *arg)
{
    char *data;

    note("%d,", weir_readline(req, &data, 10) == -ENOTCONN);
    note("%d,", weir_write(req, "x", 1) == -ENOTCONN);
    note("%d,", weir_try_write(req, "x", 1) == -ENOTCONN);
    note("%d,", weir_flush(req) == -ENOTCONN);
    note("%d,", weir_end_input(req) == -EOPNOTSUPP);
    note("%d,", weir_request_fd(req));
    note("%d,", weir_state(req) == NULL && weir_arg(req) == NULL);
    note("%d,", weir_listener_number(req) == WEIR_NO_LISTENER);
    note("%d", weir_request_server(req) == arg);
}

static void it_has_no_client(void **state)
{
    struct weir_server *server = STREAM_SERVE(echo);

    (void)state;
    start_after(server, 0, look_for_client, server);
    notes_expect("1,1,1,1,1,-1,1,1,1");
    assert_int_equal(support_stats(server).active, 0);
}

/* What it does not hang up is hung up when it returns. */
static void ask_the_server(struct weir_request *req, void *arg)
{
    struct weir_request *peer;
    char *line;
    int r = weir_connect(req, arg, 0, &peer);

    if (r < 0 || weir_write(peer, "hello\n", 6) < 0 || weir_readline(peer, &line, 10) != 6)
        weir_report(req, r, "the server did not answer");
    else
        atomic_fetch_add(&calls, 1);
}

static void it_connects_like_a_handler(void **state)
{
    static char address[WEIR_ADDRESS_SIZE];
    struct weir_server *server = STREAM_SERVE(echo);
    struct weir_timer *timer;

    (void)state;
    weir_server_address(server, 0, address, sizeof(address));
    timer = start_every(server, 1, ask_the_server, address);
    SUPPORT_UNTIL(calls >= 3);
    weir_timer_cancel(timer);
    SUPPORT_UNTIL(support_stats(server).active == 0 &&
                  support_stats(server).closed == (uint64_t)calls);
    assert_int_equal(support_stats(server).handle_errors, 0);
}

/* ------------------------------------------------------------------ what ends them ---- */

static void a_cancel_tells_of_a_call_that_is_under_way(void **state)
{
    struct weir_server *server = STREAM_SERVE(echo);
    struct weir_timer *timer = start_every(server, 1, wait_at_gate, NULL);

    (void)state;
    notes_expect("in,");
    assert_int_equal(weir_timer_cancel(timer), -EBUSY);
    gate_open(&gate);
    notes_expect("in,0,out");
    start_every(server, 1, count, &other_calls);
    SUPPORT_UNTIL(other_calls >= 10);
    assert_int_equal(calls, 1);
}

static void cancel_own(struct weir_request *req, void *arg)
{
    struct weir_timer *const *own = arg;

    (void)req;
    note("%d", weir_timer_cancel(*own));
    atomic_fetch_add(&calls, 1);
}

static void a_timer_may_cancel_itself(void **state)
{
    struct weir_server *server = STREAM_SERVE(echo);
    struct weir_timer *own;
    char expected[16];

    (void)state;
    assert_int_equal(weir_timer_every(server, 1, cancel_own, &own, &own), 0);
    snprintf(expected, sizeof(expected), "%d", -EBUSY);
    notes_expect(expected);
    start_every(server, 1, count, &other_calls);
    SUPPORT_UNTIL(other_calls >= 10);
    assert_int_equal(calls, 1);
}

static void one_that_is_over_may_be_cancelled(void **state)
{
    struct weir_server *server = STREAM_SERVE(echo);
    struct weir_timer *timer;

    (void)state;
    assert_int_equal(weir_timer_after(server, 0, count, &calls, &timer), 0);
    SUPPORT_UNTIL(calls == 1);
    weir_timer_cancel(timer);
    /* And another is left to the server. */
    assert_int_equal(weir_timer_after(server, 0, count, &calls, &timer), 0);
    SUPPORT_UNTIL(calls == 2);
}

/* Whatever a child of the program does with its copy, the timer is this process's. */
static void a_cancel_in_a_copy_of_the_server_is_none(void **state)
{
    struct weir_server *server = STREAM_SERVE(echo);
    struct weir_timer *timer = start_every(server, 1, count, &calls);
    pid_t child;
    int seen;

    (void)state;
    SUPPORT_UNTIL(calls > 0);
    child = fork();
    if (child == 0)
        _exit(weir_timer_cancel(timer) == 0 &&
              weir_timer_after(server, 0, count, &calls, NULL) == -ESRCH ? 0 : 1);
    assert_int_equal(support_status_of(child), 0);
    seen = calls;
    SUPPORT_UNTIL(calls >= seen + 3);
}

static void *close_server(void *server)
{
    weir_server_shutdown(server);
    weir_server_close(server);
    return NULL;
}

static void a_close_waits_for_the_call_and_not_for_the_time(void **state)
{
    struct weir_server *server = STREAM_SERVE(echo);
    struct weir_timer *timer;
    pthread_t closer;

    (void)state;
    start_every(server, HOUR_MS, count, &other_calls);
    start_every(server, 1, wait_at_gate, NULL);
    notes_expect("in,");
    assert_int_equal(pthread_create(&closer, NULL, close_server, server), 0);
    SUPPORT_UNTIL(weir_timer_after(server, HOUR_MS, count, &other_calls, NULL) == -ESHUTDOWN);
    assert_non_null(strstr(weir_why(), "the server was closed"));
    assert_int_equal(calls, 0);
    gate_open(&gate);
    pthread_join(closer, NULL);
    notes_expect("in,0,out");
    assert_int_equal(calls, 1);
    assert_int_equal(other_calls, 0);
    assert_int_equal(weir_timer_every(server, 1, count, &calls, &timer), -ESHUTDOWN);
}

static void sleep_long(struct weir_request *req, void *arg)
{
    (void)arg;
    note("in,");
    note("%d", weir_sleep(req, HOUR_MS));
}

static void a_close_cancels_a_call_when_its_patience_is_over(void **state)
{
    struct weir_server *server = STREAM_SERVE(echo, .drain_timeout_ms = 20);

    (void)state;
    start_after(server, 0, sleep_long, NULL);
    notes_expect("in,");
    close_server(server);
    notes_expect("in,-125");
}

static void a_cancel_of_the_server_ends_them(void **state)
{
    struct weir_server *server = STREAM_SERVE(echo);

    (void)state;
    start_after(server, 0, sleep_long, NULL);
    start_after(server, HOUR_MS, count, &calls);
    notes_expect("in,");
    weir_server_cancel(server);
    notes_expect("in,-125");
    close_server(server);
    assert_int_equal(calls, 0);
}

/* ------------------------------------------------------------------ refused ----------- */

static void expect_refused(int r, int error, const char *why)
{
    assert_int_equal(r, error);
    if (!strstr(weir_why(), why))
        fail_msg("\"%s\" does not say \"%s\"", weir_why(), why);
}

static void where_there_are_no_fibers_there_are_no_timers(void **state)
{
    static const struct weir_handler handler = { .name = "echo", .handle = echo };

    (void)state;
    for (enum weir_concurrency how = WEIR_SERIAL; how <= WEIR_PREFORK; how++) {
        struct weir_server *server = support_create(WEIR_OPTIONS(
            .listen = stream_listen(), .handler = &handler, .concurrency = how));

        expect_refused(weir_timer_after(server, 0, count, &calls, NULL), -EOPNOTSUPP,
                       "only a pool has fibers");
        weir_server_destroy(server);
    }
    assert_int_equal(calls, 0);
}

static void what_makes_no_sense_is_refused(void **state)
{
    struct weir_server *server = STREAM_SERVE(echo);

    (void)state;
    expect_refused(weir_timer_after(server, 1, NULL, NULL, NULL), -EINVAL, "no function");
    expect_refused(weir_timer_every(server, 0, count, &calls, NULL), -EINVAL, "no time between");
}

/* ------------------------------------------------------------------ many of them ------ */

#define THREADS 4
#define EACH 200

static void *start_and_cancel(void *server)
{
    for (int i = 0; i < EACH; i++) {
        struct weir_timer *timer;

        if (weir_timer_every(server, 1, count, &calls, &timer) < 0 ||
            weir_timer_after(server, (uint32_t)i % 3, count, &other_calls, NULL) < 0) {
            note("failed;");
            return NULL;
        }
        if (i % 2)
            sched_yield();
        weir_timer_cancel(timer);
    }
    return NULL;
}

static void many_are_started_and_cancelled_by_many_threads(void **state)
{
    struct weir_server *server = STREAM_SERVE(echo);
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, start_and_cancel, server), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    SUPPORT_UNTIL(other_calls == THREADS * EACH);
    close_server(server);
    assert_int_equal(other_calls, THREADS * EACH);
    assert_int_equal(notes_len(), 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_calls_once_and_never_early),
        TEST(it_calls_again_and_again_until_it_is_cancelled),
        TEST(its_calls_never_overlap),
        TEST(before_the_server_serves_and_after_it_has),
        TEST(it_parks_and_others_are_served_meanwhile),
        TEST(it_has_no_client),
        TEST(it_connects_like_a_handler),
        TEST(a_cancel_tells_of_a_call_that_is_under_way),
        TEST(a_timer_may_cancel_itself),
        TEST(one_that_is_over_may_be_cancelled),
        TEST(a_cancel_in_a_copy_of_the_server_is_none),
        TEST(a_close_waits_for_the_call_and_not_for_the_time),
        TEST(a_close_cancels_a_call_when_its_patience_is_over),
        TEST(a_cancel_of_the_server_ends_them),
        TEST(where_there_are_no_fibers_there_are_no_timers),
        TEST(what_makes_no_sense_is_refused),
        TEST(many_are_started_and_cancelled_by_many_threads),
    };

    return STREAM_RUN(tests, FIBER_WAYS);
}
