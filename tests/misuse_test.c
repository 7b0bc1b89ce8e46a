/*
 * misuse_test.c - calls on requests that are somebody else's. Each happens in a child process,
 * whose last words and whose end tell: with the look for it, and without.
 */
#include "tests/support.h"

#include "engine/base/compiler.h"
#include "engine/base/misuse.h"

#include <weir/http.h>

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define LATER 100

static _Atomic(struct weir_request *) others;   /* another handler's request */
static _Atomic unsigned later;
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

static int return_at_once(struct weir_request *req, void *arg)
{
    (void)req;
    (void)arg;
    return 0;
}

static int spawn_on(void *req)
{
    return weir_spawn(req, return_at_once, NULL);
}

static int join_on(void *req)
{
    return weir_join(req, WEIR_ALL_CHILDREN);
}

static int cancel_others_on(void *req)
{
    weir_cancel_others(req);
    return 0;
}

static int yield_on(void *req)
{
    return weir_yield(req);
}

static int hang_up(void *req)
{
    weir_hangup(req);
    return 0;
}

static int read_line_on(void *req)
{
    char *line;

    return (int)weir_readline(req, &line, 10);
}

static int read_exact_on(void *req)
{
    char byte;

    return (int)weir_read_exact(req, &byte, 1);
}

static int peek_on(void *req)
{
    char *data;

    return (int)weir_peek(req, &data, 0);
}

static int consume_on(void *req)
{
    weir_consume(req, 0);
    return 0;
}

static int writev_on(void *req)
{
    struct iovec iov = { .iov_base = (char[]){ 'x' }, .iov_len = 1 };

    return (int)weir_writev(req, &iov, 1);
}

static int printf_on(void *req)
{
    return (int)weir_printf(req, "x");
}

static __attribute__((format(printf, 2, 3))) int vprintf_with(void *req, const char *format, ...)
{
    va_list args;
    ssize_t n;

    va_start(args, format);
    n = weir_vprintf(req, format, args);
    va_end(args);
    return (int)n;
}

static int vprintf_on(void *req)
{
    return vprintf_with(req, "x");
}

static int flush_on(void *req)
{
    return weir_flush(req);
}

static int sendfile_on(void *req)
{
    return (int)weir_sendfile(req, -1, 0, 1);
}

static int end_output_on(void *req)
{
    return weir_end_output(req);
}

static int try_write_on(void *req)
{
    return (int)weir_try_write(req, "x", 1);
}

static int end_input_on(void *req)
{
    return weir_end_input(req);
}

static int linger_on(void *req)
{
    weir_linger(req);
    return 0;
}

static int end_head_on(void *req)
{
    weir_end_head(req);
    return 0;
}

static int set_timeout_on(void *req)
{
    return weir_set_timeout(req, WEIR_TIMEOUT_READ, 1);
}

static int peer_address_on(void *req)
{
    struct sockaddr_storage address;
    socklen_t len;

    return weir_peer_address(req, &address, &len);
}

static int local_address_on(void *req)
{
    struct sockaddr_storage address;
    socklen_t len;

    return weir_local_address(req, &address, &len);
}

static int peer_text_on(void *req)
{
    char text[10];

    return weir_peer_text(req, text, sizeof(text)) == NULL;
}

static int truncated_on(void *req)
{
    return weir_truncated(req);
}

static int report_on(void *req)
{
    weir_report(req, -EPROTO, NULL);
    return 0;
}

static int fail_on(void *req)
{
    weir_fail(req, -EPROTO, NULL);
    return 0;
}

static int draining_on(void *req)
{
    return weir_draining(req);
}

static int connect_on(void *req)
{
    struct weir_request *peer;

    return weir_connect(req, "unix:@nobody", 0, &peer);
}

static int fd_on(void *req)
{
    return weir_request_fd(req);
}

static int state_on(void *req)
{
    return weir_state(req) != NULL;
}

static int data_on(void *req)
{
    return weir_handler_data(req) != NULL;
}

static int user_on(void *req)
{
    return weir_user(req) != NULL;
}

static int server_on(void *req)
{
    return weir_request_server(req) == NULL;
}

static int arg_on(void *req)
{
    return weir_arg(req) != NULL;
}

static int number_on(void *req)
{
    return (int)weir_worker_number(req);
}

static int listener_number_on(void *req)
{
    return (int)weir_listener_number(req);
}

static int listener_user_on(void *req)
{
    return weir_listener_user(req) != NULL;
}

/* Every call that takes a request. */
struct call {
    const char *name;
    int (*make)(void *req);
    bool may_be_offloaded;
};

static const struct call calls[] = {
    { "weir_readline", read_line_on, false },
    { "weir_read", read_on, false },
    { "weir_read_exact", read_exact_on, false },
    { "weir_peek", peek_on, false },
    { "weir_consume", consume_on, false },
    { "weir_write", write_on, false },
    { "weir_writev", writev_on, false },
    { "weir_printf", printf_on, false },
    { "weir_vprintf", vprintf_on, false },
    { "weir_flush", flush_on, false },
    { "weir_sendfile", sendfile_on, false },
    { "weir_end_output", end_output_on, false },
    { "weir_try_write", try_write_on, false },
    { "weir_end_input", end_input_on, false },
    { "weir_linger", linger_on, false },
    { "weir_end_head", end_head_on, false },
    { "weir_set_timeout", set_timeout_on, false },
    { "weir_peer_address", peer_address_on, false },
    { "weir_local_address", local_address_on, false },
    { "weir_peer_text", peer_text_on, false },
    { "weir_truncated", truncated_on, false },
    { "weir_draining", draining_on, false },
    { "weir_report", report_on, false },
    { "weir_fail", fail_on, false },
    { "weir_sleep", sleep_on, false },
    { "weir_yield", yield_on, false },
    { "weir_poll", poll_on, false },
    { "weir_offload", offload_on, false },
    { "weir_spawn", spawn_on, false },
    { "weir_join", join_on, false },
    { "weir_cancel_others", cancel_others_on, false },
    { "weir_connect", connect_on, false },
    { "weir_hangup", hang_up, false },
    { "weir_request_fd", fd_on, true },
    { "weir_state", state_on, true },
    { "weir_handler_data", data_on, true },
    { "weir_arg", arg_on, true },
    { "weir_user", user_on, true },
    { "weir_request_server", server_on, true },
    { "weir_worker_number", number_on, true },
    { "weir_listener_number", listener_number_on, true },
    { "weir_listener_user", listener_user_on, true },
};

enum { CALLS = sizeof(calls) / sizeof(calls[0]) };

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

static int call_on_own(struct weir_request *req)
{
    return call(req);
}

static int call_on_null(struct weir_request *req)
{
    (void)req;
    return call(NULL);
}

/* What the first one has offloaded asks for its own; then the next one's asks the same of it. */
static int offload_on_another(struct weir_request *req)
{
    struct weir_request *first = NULL;

    if (!atomic_compare_exchange_strong(&others, &first, req))
        return weir_offload(req, call, first);
    weir_offload(req, call, req);
    weir_hangup(NULL);
    gate_open(&gate);
    return weir_sleep(req, UINT32_MAX);
}

/* It leaves its request behind, for whoever finds it. */
static int leave_behind(struct weir_request *req)
{
    atomic_store(&others, req);
    return 0;
}

/*
 * Leaves it behind, too; the hundredth of its kind makes its call on the first one's, which was
 * over before the others began, on the same stack.
 */
static int call_on_an_earlier_one(struct weir_request *req)
{
    struct weir_request *first = NULL;

    if (atomic_compare_exchange_strong(&others, &first, req) || ++later < LATER)
        return 0;
    return call(first);
}

/* What it connects to says nothing. The last one of many is where the first one was. */
static int call_on_an_earlier_hangup(struct weir_request *req)
{
    struct weir_request *first = NULL;
    struct weir_request *peer;
    char address[WEIR_ADDRESS_SIZE];

    if (!atomic_compare_exchange_strong(&others, &first, req))
        return 0;
    weir_server_address(weir_request_server(req), 1, address, sizeof(address));
    for (later = 0; later < LATER; later++) {
        int r = weir_connect(req, address, 0, &peer);

        if (r < 0)
            return r;
        if (!first)
            first = peer;
        if (later + 1 < LATER)
            weir_hangup(peer);
    }
    return call(first);
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

/* ------------------------------------------------------------------ HTTP -------------- */

static int reply_to(void *ex)
{
    return weir_http_reply(ex, 200, NULL, "x", 1);
}

static int stream_to(void *ex)
{
    return weir_http_begin(ex, 200, NULL);
}

static int read_body_of(void *ex)
{
    char byte;

    return (int)weir_http_read_body(ex, &byte, 1);
}

static int write_to(void *ex)
{
    return weir_http_write(ex, "x", 1);
}

static int offload_of(struct weir_http *ex)
{
    if (call == write_to && weir_http_begin(ex, 200, NULL) < 0)
        return -EIO;
    return weir_offload(weir_http_request(ex), call, ex);
}

static const struct weir_http_route routes[] = { { .path = "/", .call = offload_of } };
static const struct weir_http_site site = { WEIR_HTTP_ROUTES(routes) };
static const struct weir_handler http_handler = WEIR_HTTP_HANDLER("site", &site);

static int handle_http(struct weir_request *req)
{
    return weir_http_handle(req);
}

/* ------------------------------------------------------------------ scenes ------------ */

#define REQUEST "POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\n"

static int (*handle)(struct weir_request *req);
static enum weir_concurrency how;
static unsigned workers;
static bool looked_for;

/* As WEIR_CHECK=1 does, but for the lines about handlers that hold their workers. */
static void keep_memory(void)
{
    setenv("WEIR_CHECK", "1", 1);
    assert_true(misuse_read_environment());
    unsetenv("WEIR_CHECK");
}

/* Two clients, of which the second comes once the first has had its say. */
static void serve(void)
{
    const struct weir_handler naive = { .name = "naive", .handle = handle };
    const struct weir_handler handler = handle == handle_http ? http_handler : naive;
    const struct weir_listen listens[] = {
        { .address = "tcp://127.0.0.1:0" }, { .address = "tcp://127.0.0.1:0" },
    };
    struct weir_server *server;

    if (handle == call_on_an_earlier_one || handle == call_on_an_earlier_hangup)
        keep_memory();
    misuse_is_looked_for = looked_for;
    server = support_start(WEIR_OPTIONS(.listeners = listens, .listeners_len = 2,
                                        .handler = &handler, .workers = workers,
                                        .concurrency = how));
    if (handle == call_on_another || handle == offload_on_another) {
        support_connect(server, 0);
        gate_pass(&gate);
    } else if (handle == leave_behind) {
        support_expect_end(support_connect(server, 0));
        /* Its peer has seen the end before it is over. */
        SUPPORT_UNTIL(others && misuse_has_ended(others));
        call(others);
    } else if (handle == call_on_an_earlier_one) {
        support_expect_end(support_connect(server, 0));
        SUPPORT_UNTIL(others && misuse_has_ended(others));
        for (unsigned i = 0; i < LATER; i++)
            support_expect_end(support_connect(server, 0));
    }
    support_read_all(support_ask(server, 0, handle == handle_http ? REQUEST : ""),
                     (char[1]){ 0 }, 1);
}

/* What a child says, and that it aborts. */
static void expect_last_words(int (*scene)(struct weir_request *req), int (*made)(void *req),
                              const char *words)
{
    struct support_end end;

    handle = scene;
    call = made;
    gate_init(&gate);
    end = support_run_in_child(serve);
    gate_fini(&gate);
    assert_string_equal(end.said, words);
    assert_int_equal(end.status, -SIGABRT);
}

#define ALONE ": a request is for its own handler alone (see weir.h: what parks)\n"
#define OVER " on a request that is over: a request is its handler's until that returns, and one " \
             "of weir_connect's until weir_hangup (see weir.h: what parks)\n"

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

static void a_call_on_one_that_was_over_before_others_began_is_told(void **state)
{
    (void)state;
    expect_last_words(call_on_an_earlier_one, write_on, "weir: weir_write" OVER);
    expect_last_words(call_on_an_earlier_hangup, write_on, "weir: weir_write" OVER);
    how = WEIR_THREAD;
    workers = 0;
    expect_last_words(call_on_an_earlier_one, read_on, "weir: weir_read" OVER);
    expect_last_words(call_on_an_earlier_hangup, read_on, "weir: weir_read" OVER);
}

/* Memory that was kept is given back by and by. */
static void the_memory_of_ended_requests_has_a_limit(void **state)
{
    struct mallinfo2 before;
    size_t most = (MISUSE_KEPT + 1) * 256;

    (void)state;
    keep_memory();
    before = mallinfo2();
    for (size_t i = 0; i < 4 * MISUSE_KEPT; i++)
        misuse_free(misuse_allocate(200));
    if (!WEIR_ASAN && !WEIR_TSAN)
        assert_in_range(mallinfo2().uordblks - before.uordblks, MISUSE_KEPT * 200, most);
}

static void each_call_on_anothers_request_is_told(void **state)
{
    char words[200];

    (void)state;
    for (size_t i = 0; i < CALLS; i++) {
        snprintf(words, sizeof(words), "weir: %s on a request of handler 'naive' was made by "
                 "handler 'naive'" ALONE, calls[i].name);
        expect_last_words(call_on_another, calls[i].make, words);
    }
}

static void each_call_on_a_request_that_is_over_is_told(void **state)
{
    char words[300];

    (void)state;
    for (size_t i = 0; i < CALLS; i++) {
        snprintf(words, sizeof(words), "weir: %s" OVER, calls[i].name);
        expect_last_words(leave_behind, calls[i].make, words);
    }
}

static void a_call_on_null_is_told(void **state)
{
    (void)state;
    expect_last_words(call_on_null, write_on, "weir: weir_write on a request that is NULL\n");
    expect_last_words(call_on_null, state_on, "weir: weir_state on a request that is NULL\n");
}

/* By the names of weir.h's calls that they make. */
static void a_call_on_anothers_exchange_is_told(void **state)
{
    static const struct call replies[] = {
        { "weir_draining", reply_to, false }, { "weir_draining", stream_to, false },
        { "weir_writev", write_to, false }, { "weir_end_head", read_body_of, false },
    };
    char words[200];

    (void)state;
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        snprintf(words, sizeof(words), "weir: %s on a request of handler 'site' was made by "
                 "another thread" ALONE, replies[i].name);
        expect_last_words(handle_http, replies[i].make, words);
    }
}

/* What it may ask, an offloaded function asks of the handler that waits for it, and of no other. */
static void what_an_offloaded_function_may_ask_it_asks_of_its_own_request(void **state)
{
    char words[200];

    (void)state;
    for (size_t i = 0; i < CALLS; i++) {
        snprintf(words, sizeof(words), "weir: %s on a request of handler 'naive' was made by "
                 "another thread" ALONE, calls[i].name);
        if (calls[i].may_be_offloaded)
            expect_last_words(offload_on_another, calls[i].make, words);
        else
            expect_last_words(call_by_offload, calls[i].make, words);
    }
}

/* ------------------------------------------------------------------ not looked for ---- */

static void a_hangup_on_the_clients_connection_is_told_in_any_case(void **state)
{
    (void)state;
    expect_last_words(call_on_own, hang_up,
                      "weir: weir_hangup on a request of handler 'naive' that weir_connect did not "
                      "open: its connection ends when the handler returns\n");
}

static void what_would_park_another_handler_is_told_all_the_same(void **state)
{
    static int (*const waits[])(void *req) = { sleep_on, read_on, poll_on, offload_on, yield_on };

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(waits) / sizeof(waits[0]); i++) {
        /* On two it is a race besides, as ThreadSanitizer would say first. */
        workers = WEIR_TSAN ? 1 : i % 2 + 1;
        expect_last_words(call_on_another, waits[i / 2],
                          "weir: a waiting call on a request of handler 'naive' was made "
                          "by handler 'naive'" ALONE);
    }
}

static void what_would_park_from_another_thread_too(void **state)
{
    (void)state;
    expect_last_words(call_by_offload, sleep_on,
                      "weir: a waiting call on a request of handler 'naive' was made by another "
                      "thread" ALONE);
    expect_last_words(call_by_thread, sleep_on,
                      "weir: a waiting call on a request of handler 'naive' was made by another "
                      "thread" ALONE);
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
    static const char end[] = " ms without waiting: it waits in futex(2), as for a lock: a handler "
                              "may have held one across a call that parks\n";
    char said[512] = "";
    int ends[2];
    FILE *lines;
    pid_t child;

    (void)state;
    gate_init(&gate);
    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
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
        cmocka_unit_test_setup(a_call_on_one_that_was_over_before_others_began_is_told, look),
        cmocka_unit_test_setup(each_call_on_anothers_request_is_told, look),
        cmocka_unit_test_setup(each_call_on_a_request_that_is_over_is_told, look),
        cmocka_unit_test_setup(a_call_on_null_is_told, look),
        cmocka_unit_test_setup(a_call_on_anothers_exchange_is_told, look),
        cmocka_unit_test_setup(what_an_offloaded_function_may_ask_it_asks_of_its_own_request, look),
        cmocka_unit_test_setup(a_hangup_on_the_clients_connection_is_told_in_any_case, look_away),
        cmocka_unit_test_setup(what_would_park_another_handler_is_told_all_the_same, look_away),
        cmocka_unit_test_setup(what_would_park_from_another_thread_too, look_away),
        cmocka_unit_test(the_memory_of_ended_requests_has_a_limit),
        cmocka_unit_test(the_environment_has_it_looked_for),
        cmocka_unit_test(a_worker_that_waits_for_a_lock_is_told_of),
    };

    /* What is found without it, and with it, is each test's own to say. */
    unsetenv("WEIR_CHECK");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
