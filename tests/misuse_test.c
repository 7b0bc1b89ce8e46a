/*
 * misuse_test.c - calls on requests that are somebody else's. Each happens in a child process, whose
 * last words and whose end tell: with the look for it, and without.
 */
#include "tests/support.h"

#include "engine/base/compiler.h"
#include "engine/base/misuse.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static _Atomic(struct weir_request *) others;   /* another handler's request */
static struct gate gate;

/* ------------------------------------------------------------------ calls ------------- */

static int sleep_on(void *req)
{
    return weir_sleep(req, 10);
}

static int read_on(void *req)
{
    char byte;

    return (int)weir_read(req, &byte, 1);
}

static int write_on(void *req)
{
    return (int)weir_write(req, "x", 1);
}

static int poll_on(void *req)
{
    return weir_poll(req, NULL, 0, 10);
}

static int offload_on(void *req)
{
    return weir_offload(req, write_on, req);
}

static int yield_on(void *req)
{
    return weir_yield(req);
}

static int (*call)(void *req);

static void *call_on_thread(void *req)
{
    call(req);
    return NULL;
}

/* ------------------------------------------------------------------ handlers ---------- */

static int call_by_offload(struct weir_request *req)
{
    return weir_offload(req, call, req);
}

static int call_by_thread(struct weir_request *req)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, call_on_thread, req) != 0)
        return -EAGAIN;
    weir_sleep(req, UINT32_MAX);
    return 0;
}

/* The first one waits, and the next makes its call on the first one's request. */
static int call_on_another(struct weir_request *req)
{
    struct weir_request *first = NULL;

    if (!atomic_compare_exchange_strong(&others, &first, req))
        return call(first);
    gate_open(&gate);
    return weir_sleep(req, UINT32_MAX);
}

/* It leaves its request behind, for whoever finds it. */
static int leave_behind(struct weir_request *req)
{
    atomic_store(&others, req);
    return 0;
}

static int call_after_hangup(struct weir_request *req)
{
    struct weir_request *first = NULL;
    struct weir_request *peer;
    char address[WEIR_ADDRESS_SIZE];
    int r;

    /* It connects to itself: the others have nothing to say. */
    if (!atomic_compare_exchange_strong(&others, &first, req))
        return 0;
    weir_server_address(weir_request_server(req), 1, address, sizeof(address));
    r = weir_connect(req, address, 0, &peer);
    if (r < 0)
        return r;
    weir_hangup(peer);
    return call(peer);
}

/* ------------------------------------------------------------------ scenes ------------ */

static int (*handle)(struct weir_request *req);
static enum weir_concurrency how;
static unsigned workers;
static bool looked_for;

/* Two clients, of which the second comes once the first has had its say. */
static void serve(void)
{
    const struct weir_handler handler = { .name = "naive", .handle = handle };
    const struct weir_listen listens[] = {
        { .address = "tcp://127.0.0.1:0" }, { .address = "tcp://127.0.0.1:0" },
    };
    struct weir_server *server;

    misuse_is_looked_for = looked_for;
    server = support_start(WEIR_OPTIONS(.listeners = listens, .listeners_len = 2,
                                        .handler = &handler, .workers = workers,
                                        .concurrency = how));
    if (handle == call_on_another) {
        support_connect(server, 0);
        gate_pass(&gate);
    } else if (handle == leave_behind) {
        support_expect_end(support_connect(server, 0));
        /* Its peer has seen the end before it is over. */
        SUPPORT_UNTIL(others && misuse_has_ended(others));
        call(others);
    }
    support_read_all(support_connect(server, 0), (char[1]){ 0 }, 1);
}

/* What a child says, and that it aborts. */
static void expect_last_words(int (*scene)(struct weir_request *req), int (*made)(void *req),
                              const char *words)
{
    const struct rlimit no_core = { 0 };
    char said[1024] = "";
    size_t len = 0;
    int status;
    int ends[2];
    ssize_t n;
    pid_t child;

    handle = scene;
    call = made;
    gate_init(&gate);
    assert_int_equal(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[1]);
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        serve();
        _exit(0);
    }
    close(ends[1]);
    while (len < sizeof(said) - 1 && (n = read(ends[0], said + len, sizeof(said) - 1 - len)) > 0)
        len += (size_t)n;
    close(ends[0]);
    gate_fini(&gate);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_string_equal(said, words);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

#define ALONE ": a request is for its own handler alone (see weir.h: what parks)\n"
#define OVER " on a request that is over: a request is its handler's until that returns, and one of " \
             "weir_connect's until weir_hangup (see weir.h: what parks)\n"

static int look(void **state)
{
    (void)state;
    how = WEIR_POOL;
    workers = 1;
    looked_for = true;
    return 0;
}

static int look_away(void **state)
{
    look(state);
    looked_for = false;
    return 0;
}

static void a_call_of_an_offloaded_function_is_told(void **state)
{
    (void)state;
    expect_last_words(call_by_offload, write_on,
                      "weir: weir_write on a request of handler 'naive' was made by another thread"
                      ALONE);
    expect_last_words(call_by_offload, sleep_on,
                      "weir: weir_sleep on a request of handler 'naive' was made by another thread"
                      ALONE);
    expect_last_words(call_by_offload, offload_on,
                      "weir: weir_offload on a request of handler 'naive' was made by another "
                      "thread" ALONE);
}

static void a_call_of_a_thread_of_ones_own_is_told(void **state)
{
    (void)state;
    expect_last_words(call_by_thread, write_on,
                      "weir: weir_write on a request of handler 'naive' was made by another thread"
                      ALONE);
    how = WEIR_THREAD;
    expect_last_words(call_by_thread, read_on,
                      "weir: weir_read on a request of handler 'naive' was made by another thread"
                      ALONE);
}

static void a_call_on_another_handlers_request_is_told(void **state)
{
    (void)state;
    for (workers = 1; workers <= 2; workers++)
        expect_last_words(call_on_another, write_on,
                          "weir: weir_write on a request of handler 'naive' was made by handler "
                          "'naive'" ALONE);
    how = WEIR_THREAD;
    workers = 0;
    expect_last_words(call_on_another, poll_on,
                      "weir: weir_poll on a request of handler 'naive' was made by handler 'naive'"
                      ALONE);
}

static void a_call_on_a_request_that_is_over_is_told(void **state)
{
    (void)state;
    expect_last_words(leave_behind, write_on, "weir: weir_write" OVER);
    expect_last_words(leave_behind, poll_on, "weir: weir_poll" OVER);
    how = WEIR_THREAD;
    workers = 0;
    expect_last_words(call_after_hangup, write_on, "weir: weir_write" OVER);
    how = WEIR_POOL;
    workers = 1;
    expect_last_words(call_after_hangup, read_on, "weir: weir_read" OVER);
}

/* ------------------------------------------------------------------ not looked for ---- */

static void what_would_park_another_handler_is_told_all_the_same(void **state)
{
    static int (*const calls[])(void *req) = { sleep_on, read_on, poll_on, offload_on, yield_on };

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(calls) / sizeof(calls[0]); i++) {
        /* On two it is a race besides, as ThreadSanitizer would say first. */
        workers = WEIR_TSAN ? 1 : i % 2 + 1;
        expect_last_words(call_on_another, calls[i / 2],
                          "weir: a call that has to wait, on a request of handler 'naive' was made "
                          "by handler 'naive'" ALONE);
    }
}

static void what_would_park_from_another_thread_too(void **state)
{
    (void)state;
    expect_last_words(call_by_offload, sleep_on,
                      "weir: a call that has to wait, on a request of handler 'naive' was made by "
                      "another thread" ALONE);
    expect_last_words(call_by_thread, sleep_on,
                      "weir: a call that has to wait, on a request of handler 'naive' was made by "
                      "another thread" ALONE);
}

/* ------------------------------------------------------------------ the environment --- */

static void the_environment_has_it_looked_for(void **state)
{
    (void)state;
    misuse_is_looked_for = false;
    setenv("WEIR_CHECK", "0", 1);
    assert_false(misuse_read_environment());
    assert_false(misuse_is_looked_for);
    setenv("WEIR_CHECK", "1", 1);
    assert_true(misuse_read_environment());
    assert_true(misuse_is_looked_for);
    unsetenv("WEIR_CHECK");
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int hold_over_a_wait(struct weir_request *req)
{
    pthread_mutex_lock(&lock);
    gate_open(&gate);
    weir_sleep(req, UINT32_MAX);
    pthread_mutex_unlock(&lock);
    return 0;
}

static const struct weir_handler holding = { .name = "holding", .handle = hold_over_a_wait };

static _Noreturn void hold_and_wait(int standard_error)
{
    struct weir_server *server;

    dup2(standard_error, STDERR_FILENO);
    close(standard_error);
    setenv("WEIR_CHECK", "1", 1);
    server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &holding,
                                        .workers = 1));
    support_connect(server, 0);
    gate_pass(&gate);
    support_connect(server, 0);
    pause();
    _exit(0);
}

static void a_worker_that_waits_for_a_lock_is_told_of(void **state)
{
    static const char begin[] = "weir: handler 'holding' has held worker 0 for ";
    static const char end[] = " ms without waiting: it waits for a lock, which a handler may have "
                              "held across a call that parks\n";
    char said[512] = "";
    int ends[2];
    FILE *lines;
    pid_t child;

    (void)state;
    gate_init(&gate);
    assert_int_equal(pipe(ends), 0);
    child = fork();
    if (child == 0)
        hold_and_wait(ends[1]);
    close(ends[1]);
    lines = fdopen(ends[0], "r");
    assert_non_null(fgets(said, sizeof(said), lines));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    fclose(lines);
    gate_fini(&gate);
    if (strncmp(said, begin, strlen(begin)) != 0 || !strstr(said, end))
        fail_msg("%s", said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_call_of_an_offloaded_function_is_told, look),
        cmocka_unit_test_setup(a_call_of_a_thread_of_ones_own_is_told, look),
        cmocka_unit_test_setup(a_call_on_another_handlers_request_is_told, look),
        cmocka_unit_test_setup(a_call_on_a_request_that_is_over_is_told, look),
        cmocka_unit_test_setup(what_would_park_another_handler_is_told_all_the_same, look_away),
        cmocka_unit_test_setup(what_would_park_from_another_thread_too, look_away),
        cmocka_unit_test(the_environment_has_it_looked_for),
        cmocka_unit_test(a_worker_that_waits_for_a_lock_is_told_of),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
