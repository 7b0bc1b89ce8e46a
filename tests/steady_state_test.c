/*
 * steady_state_test.c - a server that has warmed up serves without malloc, and without a worker
 * that wakes another; and what it copies is in proportion to what it was sent.
 *
 * The engine's and the handlers' calls of malloc(3) and its kin, and of memcpy(3) and memmove(3),
 * are counted as they are linked (--wrap, in BUILD): what the C library and liburcu do by
 * themselves is not, nor a short copy.
 */
#include "tests/support.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handlers/echo.h"
#include "handlers/hello.h"

enum {
    CLIENTS = 32,
    ROUNDS = 20,
    DEPTH = 16,
    WINDOW = 8192,
    PIECE = 200,
};

/* ------------------------------------------------------------------ malloc and its kin  */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_memcpy(void *to, const void *from, size_t len);
void *__real_memmove(void *to, const void *from, size_t len);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_memcpy(void *to, const void *from, size_t len);
void *__wrap_memmove(void *to, const void *from, size_t len);

static _Atomic unsigned allocations;
static _Atomic size_t copied;

/* Not those of structures. */
static void note_copy(size_t len)
{
    if (len >= 1024)
        copied += len;
}

void *__wrap_memcpy(void *to, const void *from, size_t len)
{
    note_copy(len);
    return __real_memcpy(to, from, len);
}

void *__wrap_memmove(void *to, const void *from, size_t len)
{
    note_copy(len);
    return __real_memmove(to, from, len);
}

void *__wrap_malloc(size_t size)
{
    allocations++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    allocations++;
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *block, size_t size)
{
    allocations++;
    return __real_realloc(block, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    allocations++;
    return __real_aligned_alloc(alignment, size);
}

/* ------------------------------------------------------------------ a server ---------- */

static struct weir_server *server;

/* Of the acceptor's thread, between whatever else it does. */
static _Atomic unsigned looks;

static void note_look(struct weir_server *of)
{
    (void)of;
    looks++;
}

static void serve(const struct weir_handler *handler, const char *listen,
                  enum weir_dispatch dispatch)
{
    server = support_start(WEIR_OPTIONS(.listen = listen, .handler = handler, .workers = 1,
                                        .dispatch = dispatch, .service_actions = note_look,
                                        .poll_interval_ms = 1));
}

/*
 * The acceptor puts connections into the queue, and wakes a worker for them afterwards. A worker
 * that was awake may have served them all in between, and sleep when the acceptor wakes it.
 */
static void await_wakeups_for_who_has_come(void)
{
    unsigned before = looks;

    SUPPORT_UNTIL(looks != before);
}

static int end(void **state)
{
    (void)state;
    weir_server_shutdown(server);
    weir_server_destroy(server);
    return 0;
}

/* ------------------------------------------------------------------ clients ----------- */

struct cost {
    unsigned allocations;
    size_t copied;
    uint64_t wakeups;
    uint64_t handled;
};

static struct cost spent(void)
{
    struct weir_stats stats;

    await_wakeups_for_who_has_come();
    stats = support_stats(server);
    return (struct cost){ allocations, copied, stats.wakeups, stats.handled };
}

static struct cost spent_since(struct cost before)
{
    struct cost now = spent();

    now.allocations -= before.allocations;
    now.copied -= before.copied;
    now.wakeups -= before.wakeups;
    now.handled -= before.handled;
    return now;
}

static void read_bytes(int fd, size_t len)
{
    char reply[16384];

    assert_true(len <= sizeof(reply));
    assert_int_equal(support_read_all(fd, reply, len), len);
}

static size_t first_reply_len(const char *request)
{
    int fd = support_ask(server, 0, request);
    char reply[16384];
    size_t len;

    support_half_close(fd);
    len = support_read_all(fd, reply, sizeof(reply));
    close(fd);
    return len;
}

static void ask_at_once(const int *fds, const char *request, size_t reply_len)
{
    for (int i = 0; i < CLIENTS; i++)
        support_say(fds[i], request);
    for (int i = 0; i < CLIENTS; i++)
        read_bytes(fds[i], reply_len);
    SUPPORT_AWAIT(server, idle, == CLIENTS);
}

/* Of clients who have all been answered before, and ask again and again. */
static struct cost cost_when_kept(const char *request)
{
    size_t reply_len = first_reply_len(request);
    struct cost before, cost;
    int fds[CLIENTS];

    for (int i = 0; i < CLIENTS; i++)
        fds[i] = support_connect(server, 0);
    ask_at_once(fds, request, reply_len);
    before = spent();
    for (int round = 0; round < ROUNDS; round++)
        ask_at_once(fds, request, reply_len);
    cost = spent_since(before);
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    return cost;
}

/* ------------------------------------------------------------------ kept connections -- */

/* Returns how often handle() was called. */
static uint64_t assert_costs_nothing(const struct weir_handler *handler, const char *request)
{
    struct cost cost;

    serve(handler, "tcp://127.0.0.1:0", WEIR_DISPATCH_WORKER);
    cost = cost_when_kept(request);
    assert_int_equal(cost.allocations, 0);
    assert_int_equal(cost.wakeups, 0);
    return cost.handled;
}

static void lines_take_no_memory_and_wake_nobody(void **state)
{
    (void)state;
    assert_int_equal(assert_costs_nothing(&echo_handler, SUPPORT_LINE), CLIENTS * ROUNDS);
}

static void pages_take_no_memory_and_wake_nobody(void **state)
{
    (void)state;
    assert_int_equal(assert_costs_nothing(&hello_handler, SUPPORT_HELLO), CLIENTS * ROUNDS);
}

static void pipelined_pages_take_no_memory_and_wake_nobody(void **state)
{
    char requests[sizeof(SUPPORT_HELLO) * DEPTH] = "";

    (void)state;
    for (int i = 0; i < DEPTH; i++)
        strcat(requests, SUPPORT_HELLO);
    assert_costs_nothing(&hello_handler, requests);
}

static void dispatch_by_the_acceptor_takes_no_memory_and_a_wakeup_at_most(void **state)
{
    struct cost cost;

    (void)state;
    serve(&echo_handler, "tcp://127.0.0.1:0", WEIR_DISPATCH_ACCEPTOR);
    cost = cost_when_kept(SUPPORT_LINE);
    assert_int_equal(cost.handled, CLIENTS * ROUNDS);
    assert_int_equal(cost.allocations, 0);
    assert_true(cost.wakeups <= cost.handled);
}

/* ------------------------------------------------------------------ stalled clients --- */

static int answer_a_line(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n > 0)
        n = weir_write(req, line, (size_t)n);
    return n > 0 ? WEIR_KEEP : (int)n;
}

static void stall(int fd)
{
    support_say(fd, "half a line, ");
    SUPPORT_AWAIT(server, parked, == 1);
    support_say(fd, "and its rest\n");
    support_expect(fd, "half a line, and its rest\n");
    SUPPORT_AWAIT(server, idle, == 1);
}

static void a_line_that_comes_in_halves_takes_a_block_for_the_first(void **state)
{
    static const struct weir_handler handler = { .name = "line", .handle = answer_a_line };
    struct cost before;
    int fd;

    (void)state;
    serve(&handler, "tcp://127.0.0.1:0", WEIR_DISPATCH_WORKER);
    fd = support_connect(server, 0);
    stall(fd);
    before = spent();
    for (int i = 0; i < ROUNDS; i++)
        stall(fd);
    assert_int_equal(spent_since(before).allocations, ROUNDS);
    assert_int_equal(spent_since(before).wakeups, 0);
    close(fd);
}

/* ------------------------------------------------------------------ long messages ----- */

/* Always wants as much as its buffer holds, and takes a byte of it. */
static int peek_through_a_window(struct weir_request *req)
{
    char *data;

    for (size_t i = 0; i < SUPPORT_LONG - WINDOW; i++) {
        if (weir_peek(req, &data, WINDOW) < WINDOW)
            return 0;
        weir_consume(req, 1);
    }
    return support_answer_long(req, WINDOW);
}

static int read_a_long_line(struct weir_request *req)
{
    char *line;

    return weir_readline(req, &line, SIZE_MAX) < SUPPORT_LONG ? 0 : support_answer_long(req, 0);
}

static const struct weir_handler readers[] = {
    { .name = "all", .handle = support_peek_at_all },
    { .name = "one more", .handle = support_peek_for_one_more },
    { .name = "window", .handle = peek_through_a_window },
    { .name = "line", .handle = read_a_long_line },
};

#define READERS (sizeof(readers) / sizeof(readers[0]))

static void exchange_long(int fd)
{
    support_send(fd, support_long_line(), SUPPORT_LONG);
    support_expect(fd, "!");
    SUPPORT_AWAIT(server, idle, == 1);
}

/* Copied once or twice, however it is asked for, in a buffer that was there already. */
static void long_messages_take_no_memory_and_few_copies(void **state)
{
    (void)state;
    for (size_t i = 0; i < READERS; i++) {
        struct cost before;
        int fd;

        serve(&readers[i], "tcp://127.0.0.1:0", WEIR_DISPATCH_WORKER);
        fd = support_connect(server, 0);
        exchange_long(fd);
        exchange_long(fd);
        before = spent();
        for (int round = 0; round < ROUNDS; round++)
            exchange_long(fd);
        assert_true(spent_since(before).copied <= (size_t)2 * ROUNDS * SUPPORT_LONG);
        assert_true(spent_since(before).allocations <= ROUNDS);
        close(fd);
        end(state);
    }
    serve(&readers[0], "tcp://127.0.0.1:0", WEIR_DISPATCH_WORKER);
}

/* Each time it waits it holds little more than what has come; still nothing is copied often. */
static void a_long_message_that_comes_in_pieces_takes_few_copies(void **state)
{
    struct cost before;
    int fd;

    (void)state;
    serve(&readers[0], "tcp://127.0.0.1:0", WEIR_DISPATCH_WORKER);
    fd = support_connect(server, 0);
    before = spent();
    for (size_t sent = 0; sent < SUPPORT_LONG; sent += PIECE) {
        support_send(fd, support_long_line() + sent, PIECE);
        SUPPORT_AWAIT(server, bytes_in, == sent + PIECE);
    }
    support_expect(fd, "!");
    assert_true(spent_since(before).copied <= (size_t)6 * SUPPORT_LONG);
    close(fd);
}

/* ------------------------------------------------------------------ new connections --- */

static void a_connection_takes_one_block_and_a_wakeup_at_most(void **state)
{
    struct cost before;

    (void)state;
    serve(&echo_handler, "tcp://127.0.0.1:0", WEIR_DISPATCH_WORKER);
    support_talk(server, 0, SUPPORT_LINE, SUPPORT_LINE);
    SUPPORT_AWAIT(server, active, == 0);
    before = spent();
    for (int i = 0; i < ROUNDS; i++)
        support_talk(server, 0, SUPPORT_LINE, SUPPORT_LINE);
    /* One more where they came fast enough for a rush: the first of them makes a side door. */
    assert_in_range(spent_since(before).allocations, ROUNDS, ROUNDS + 1);
    assert_true(spent_since(before).wakeups <= ROUNDS);
}

/* ------------------------------------------------------------------ datagrams --------- */

static void exchange_datagrams(int fd, int count)
{
    char reply[sizeof(SUPPORT_LINE)];

    for (int i = 0; i < count; i++)
        support_say(fd, SUPPORT_LINE);
    for (int i = 0; i < count; i++)
        assert_int_equal(recv(fd, reply, sizeof(reply), 0), strlen(SUPPORT_LINE));
}

static void datagrams_take_no_memory_and_wake_nobody(void **state)
{
    struct cost before;
    int fd;

    (void)state;
    serve(&echo_handler, "udp://127.0.0.1:0", WEIR_DISPATCH_WORKER);
    fd = support_connect(server, 0);
    exchange_datagrams(fd, 1);
    before = spent();
    for (int i = 0; i < ROUNDS; i++)
        exchange_datagrams(fd, 1);
    assert_int_equal(spent_since(before).allocations, 0);
    assert_int_equal(spent_since(before).wakeups, 0);
    close(fd);
}

#define SERVED_TEST(test) cmocka_unit_test_teardown(test, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVED_TEST(lines_take_no_memory_and_wake_nobody),
        SERVED_TEST(pages_take_no_memory_and_wake_nobody),
        SERVED_TEST(pipelined_pages_take_no_memory_and_wake_nobody),
        SERVED_TEST(dispatch_by_the_acceptor_takes_no_memory_and_a_wakeup_at_most),
        SERVED_TEST(a_line_that_comes_in_halves_takes_a_block_for_the_first),
        SERVED_TEST(long_messages_take_no_memory_and_few_copies),
        SERVED_TEST(a_long_message_that_comes_in_pieces_takes_few_copies),
        SERVED_TEST(a_connection_takes_one_block_and_a_wakeup_at_most),
        SERVED_TEST(datagrams_take_no_memory_and_wake_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
