/*
 * overload_test.c - more clients than can be served: who is turned away, with which words, and who
 * is not.
 *
 * The one worker is held by its handlers, for as long as the test wants. What depends on time
 * depends on no less than some having passed.
 */
#include "tests/support.h"

#include "engine/base/clock.h"
#include "engine/pool/overload.h"
#include "handlers/http/http.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------ the rule ---------- */

#define TARGET_MS 1000

static struct ready_queue queue;
static struct overload overload;
static struct connection conns[2];

static int set_up_rule(void **state)
{
    (void)state;
    memset(conns, 0, sizeof(conns));
    overload = (struct overload){ .target_ms = TARGET_MS };
    return ready_queue_init(&queue, 4);
}

static int tear_down_rule(void **state)
{
    (void)state;
    ready_queue_fini(&queue);
    return 0;
}

/* The first connection has waited for so long, and was taken out; another one is behind it. */
static struct connection *come_after(uint64_t waited_ms)
{
    if (ready_queue_empty(&queue))
        assert_true(ready_queue_push(&queue, &conns[1]));
    connection_note_queued(&conns[0], clock_coarse_ms() - waited_ms);
    return &conns[0];
}

static void be_late_for(uint64_t ms)
{
    atomic_store(&overload.late_since_ms, clock_coarse_ms() - ms);
}

static bool sheds(uint64_t waited_ms)
{
    return overload_sheds(&overload, &queue, come_after(waited_ms));
}

static void who_has_waited_too_long_is_turned_away_once_all_do(void **state)
{
    (void)state;
    assert_false(sheds(100 * TARGET_MS));
    assert_true(overload_is_late(&overload));
    assert_false(sheds(100 * TARGET_MS));
    be_late_for(OVERLOAD_INTERVAL * TARGET_MS);
    assert_true(sheds(OVERLOAD_LIMIT * TARGET_MS));
    assert_true(sheds(100 * TARGET_MS));
    assert_true(overload_is_late(&overload));
}

static void who_is_late_but_not_too_late_is_served_and_it_goes_on(void **state)
{
    (void)state;
    be_late_for(OVERLOAD_INTERVAL * TARGET_MS);
    assert_false(sheds(OVERLOAD_LIMIT * TARGET_MS - TARGET_MS / 2));
    assert_true(overload_is_late(&overload));
    assert_true(sheds(OVERLOAD_LIMIT * TARGET_MS));
}

static void one_in_time_ends_it(void **state)
{
    (void)state;
    be_late_for(100 * TARGET_MS);
    assert_false(sheds(TARGET_MS / 2));
    assert_false(overload_is_late(&overload));
    assert_false(sheds(100 * TARGET_MS));
}

static void the_last_in_the_queue_is_served_and_ends_it(void **state)
{
    struct connection *conn = come_after(100 * TARGET_MS);

    (void)state;
    assert_ptr_equal(ready_queue_pop(&queue), &conns[1]);
    be_late_for(100 * TARGET_MS);
    assert_false(overload_sheds(&overload, &queue, conn));
    assert_false(overload_is_late(&overload));
}

static void who_found_nobody_waiting_is_in_time(void **state)
{
    (void)state;
    overload_note_queued(&overload, &queue, &conns[0]);
    assert_int_equal(connection_queued_ms(&conns[0]), 0);
    assert_true(ready_queue_push(&queue, &conns[1]));
    be_late_for(100 * TARGET_MS);
    assert_false(overload_sheds(&overload, &queue, &conns[0]));
    assert_false(overload_is_late(&overload));
    overload_note_queued(&overload, &queue, &conns[0]);
    assert_true(connection_queued_ms(&conns[0]) > 0);
}

static void turns_of_kept_connections_are_not_looked_at(void **state)
{
    (void)state;
    be_late_for(100 * TARGET_MS);
    conns[0].kept = true;
    assert_false(sheds(100 * TARGET_MS));
    conns[0].kept = false;
    conns[0].began = true;
    assert_false(sheds(100 * TARGET_MS));
    conns[0].began = false;
    conns[0].kind = CONNECTION_PACKET;
    assert_false(sheds(100 * TARGET_MS));
    conns[0].kind = CONNECTION_SOCKET;
    assert_false(sheds(100 * TARGET_MS));
    conns[0].kind = CONNECTION_ACCEPTED;
    assert_true(sheds(100 * TARGET_MS));
}

static void without_a_target_nobody_is_looked_at(void **state)
{
    (void)state;
    overload.target_ms = 0;
    be_late_for(100 * TARGET_MS);
    assert_false(sheds(100 * TARGET_MS));
    assert_true(overload_is_late(&overload));
    connection_note_queued(&conns[0], 0);
    overload_note_queued(&overload, &queue, &conns[0]);
    assert_int_equal(connection_queued_ms(&conns[0]), 0);
}

static void the_queue_has_room_or_refuses(void **state)
{
    (void)state;
    assert_int_equal(overload_room(&overload, &queue, 16), 16);
    assert_false(overload_refuses(&overload, &queue));
    overload.max_queued = 2;
    assert_int_equal(overload_room(&overload, &queue, 16), 2);
    assert_int_equal(overload_room(&overload, &queue, 1), 1);
    assert_true(ready_queue_push(&queue, &conns[0]));
    assert_int_equal(overload_room(&overload, &queue, 16), 1);
    assert_true(ready_queue_push(&queue, &conns[1]));
    assert_int_equal(overload_room(&overload, &queue, 16), 0);
    assert_false(overload_refuses(&overload, &queue));
    overload.refuses = true;
    assert_int_equal(overload_room(&overload, &queue, 16), 16);
    assert_true(overload_refuses(&overload, &queue));
    assert_ptr_equal(ready_queue_pop(&queue), &conns[0]);
    assert_false(overload_refuses(&overload, &queue));
}

/* ------------------------------------------------------------------ a server ---------- */

#define SERVER_TARGET_MS 20

/* By the coarse clock, too, longer than all have to be late. */
#define SLOW_MS (OVERLOAD_INTERVAL * SERVER_TARGET_MS + 3 * CLOCK_COARSE_LAG_MS)

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define GOODBYE "busy\n"

static struct gate gate;
static struct weir_server *server;

/* Each holds the worker: until the gate is open, and then for a while. */
static int hold(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    gate_pass(&gate);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ .tv_nsec = SLOW_MS * 1000000L }, NULL);
    weir_write(req, line, (size_t)n);
    return 0;
}

static const struct weir_handler lines = {
    .name = "lines", .handle = hold, .client_first = true,
    .goodbye = GOODBYE, .goodbye_len = sizeof(GOODBYE) - 1,
};

static int hold_http(struct weir_http *ex)
{
    gate_pass(&gate);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ .tv_nsec = SLOW_MS * 1000000L }, NULL);
    return weir_http_reply(ex, 200, "text/plain", "ok\n", 3);
}

static const struct weir_http_route routes[] = { { "GET", "/", hold_http, NULL } };
static const struct weir_http_site site = { WEIR_HTTP_ROUTES(routes) };
static const struct weir_handler pages = WEIR_HTTP_HANDLER("pages", &site);

#define START(handler_, ...) \
    support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = (handler_), \
                               .workers = 1, __VA_ARGS__))

static int set_up(void **state)
{
    (void)state;
    gate_init(&gate);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    gate_open(&gate);
    weir_server_destroy(server);
    server = NULL;
    gate_fini(&gate);
    return 0;
}

/* The worker is held by the first one; the i-th of the others is the i-th in the queue. */
static int come_first(const char *say)
{
    int fd = support_ask(server, 0, say);

    SUPPORT_AWAIT(server, running, == 1);
    return fd;
}

static int stand_in_line(const char *say, unsigned place)
{
    int fd = say ? support_ask(server, 0, say) : support_connect(server, 0);

    SUPPORT_AWAIT(server, queued, == place);
    return fd;
}

/*
 * Of those in line the first has found nobody there, the second is the first that is late, and the
 * last is the last. In between all have waited too long, of whom one has not asked for anything.
 */
static void who_has_waited_too_long_is_told_goodbye(void **state)
{
    int first, fds[6];

    (void)state;
    server = START(&lines, .queue_target_ms = SERVER_TARGET_MS);
    first = come_first("0\n");
    fds[0] = stand_in_line("1\n", 1);
    fds[1] = stand_in_line("2\n", 2);
    fds[2] = stand_in_line("3\n", 3);
    fds[3] = stand_in_line(NULL, 4);
    fds[4] = stand_in_line("5\n", 5);
    fds[5] = stand_in_line("6\n", 6);
    gate_open(&gate);
    support_expect_last(first, "0\n");
    support_expect_last(fds[0], "1\n");
    support_expect_last(fds[1], "2\n");
    support_expect_last(fds[2], GOODBYE);
    support_expect_last(fds[4], GOODBYE);
    support_expect_last(fds[5], "6\n");
    support_say(fds[3], "4\n");
    support_expect_last(fds[3], "4\n");
    SUPPORT_AWAIT(server, closed, == 5);
    assert_int_equal(support_stats(server).shed, 2);
    assert_int_equal(support_stats(server).refused, 2);
    assert_int_equal(support_stats(server).handled, 5);
    assert_int_equal(support_stats(server).accepted, 7);
}

/* Asked for two lines, it holds as well, unless the first one says that it is to be parked. */
static int count_shed(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n > 0 && line[0] != 'p')
        return hold(req);
    if (n > 0)
        n = weir_readline(req, &line, 100);
    if (n <= 0)
        return (int)n;
    return weir_printf(req, "%d\n", (int)support_stats(server).shed) < 0 ? -EIO : 0;
}

static const struct weir_handler counting = {
    .name = "counting", .handle = count_shed, .client_first = true,
};

#define MANY 300

static void who_is_being_served_does_not_wait_for_all_goodbyes(void **state)
{
    int parked, first, fds[MANY], shed;
    char reply[32] = "";

    (void)state;
    server = START(&counting, .queue_target_ms = SERVER_TARGET_MS);
    parked = support_ask(server, 0, "parked\n");
    SUPPORT_AWAIT(server, parked, == 1);
    first = come_first("0\n0\n");
    for (unsigned i = 0; i < MANY; i++)
        fds[i] = stand_in_line("1\n1\n", i + 1);
    support_say(parked, "how many?\n");
    gate_open(&gate);
    support_read_all(parked, reply, sizeof(reply) - 1);
    shed = (int)strtol(reply, NULL, 10);
    if (shed > MANY / 2)
        fail_msg("%d of %d were turned away before", shed, MANY);
    support_expect_last(first, "0\n");
    SUPPORT_AWAIT(server, active, == 0);
    assert_true(support_stats(server).shed > MANY / 2);
    for (unsigned i = 0; i < MANY; i++)
        close(fds[i]);
    close(parked);
}

static void without_a_target_all_are_served(void **state)
{
    int fds[7];

    (void)state;
    server = START(&lines);
    fds[0] = come_first("0\n");
    for (unsigned i = 1; i < 7; i++)
        fds[i] = stand_in_line("1\n", i);
    gate_open(&gate);
    support_expect_last(fds[0], "0\n");
    for (unsigned i = 1; i < 7; i++)
        support_expect_last(fds[i], "1\n");
    assert_int_equal(support_stats(server).shed, 0);
}

static void of_http_goodbye_is_503_with_retry_after(void **state)
{
    char reply[1000];
    int fds[5];

    (void)state;
    server = START(&pages, .queue_target_ms = SERVER_TARGET_MS);
    fds[0] = come_first(GET);
    for (unsigned i = 1; i < 5; i++)
        fds[i] = stand_in_line(GET, i);
    gate_open(&gate);
    support_expect(fds[3], "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
                           "Retry-After: 1\r\nContent-Length: 0\r\n\r\n");
    support_expect_end(fds[3]);
    close(fds[3]);
    support_expect(fds[4], "HTTP/1.1 200 OK\r\n");
    for (unsigned i = 0; i < 5; i++)
        if (i != 3) {
            support_half_close(fds[i]);
            assert_true(support_read_all(fds[i], reply, sizeof(reply)) > 0);
            close(fds[i]);
        }
    assert_int_equal(support_stats(server).shed, 1);
}

/* ------------------------------------------------------------------ max_queued -------- */

static void while_as_many_wait_as_may_accepting_pauses(void **state)
{
    int fds[6];

    (void)state;
    server = START(&lines, .max_queued = 2);
    fds[0] = come_first("0\n");
    for (unsigned i = 1; i < 6; i++)
        fds[i] = support_ask(server, 0, "1\n");
    SUPPORT_AWAIT(server, queued, == 2);
    SUPPORT_AWAIT(server, full, == 1);
    /* It looks again and again, and that is one pause. */
    poll(NULL, 0, 30);
    assert_int_equal(support_stats(server).full, 1);
    assert_int_equal(support_stats(server).accepted, 3);
    gate_open(&gate);
    support_expect_last(fds[0], "0\n");
    for (unsigned i = 1; i < 6; i++)
        support_expect_last(fds[i], "1\n");
    assert_int_equal(support_stats(server).accepted, 6);
    assert_int_equal(support_stats(server).refused, 0);
}

/* That the queue is full is nothing by itself. */
static void where_nobody_waits_accepting_does_not_pause(void **state)
{
    int fds[3];

    (void)state;
    server = START(&lines, .max_queued = 2);
    fds[0] = come_first("0\n");
    for (unsigned i = 1; i < 3; i++)
        fds[i] = stand_in_line("1\n", i);
    poll(NULL, 0, 30);
    assert_int_equal(support_stats(server).full, 0);
    gate_open(&gate);
    support_expect_last(fds[0], "0\n");
    for (unsigned i = 1; i < 3; i++)
        support_expect_last(fds[i], "1\n");
    assert_int_equal(support_stats(server).full, 0);
}

static void or_further_ones_are_told_goodbye_at_once(void **state)
{
    int fds[5];

    (void)state;
    server = START(&lines, .max_queued = 2, .when_queued = WEIR_REFUSE);
    fds[0] = come_first("0\n");
    fds[1] = stand_in_line("1\n", 1);
    fds[2] = stand_in_line("2\n", 2);
    fds[3] = support_connect(server, 0);
    support_expect_last(fds[3], GOODBYE);
    fds[4] = support_connect(server, 0);
    support_expect_last(fds[4], GOODBYE);
    assert_int_equal(support_stats(server).shed, 2);
    assert_int_equal(support_stats(server).refused, 2);
    gate_open(&gate);
    support_expect_last(fds[0], "0\n");
    support_expect_last(fds[1], "1\n");
    support_expect_last(fds[2], "2\n");
}

static void what_is_submitted_is_refused_then(void **state)
{
    int fds[2], pair[2];

    (void)state;
    server = START(&lines, .max_queued = 1, .when_queued = WEIR_REFUSE);
    fds[0] = come_first("0\n");
    fds[1] = stand_in_line("1\n", 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(weir_submit_fd(server, pair[0], NULL), -ENOBUFS);
    assert_non_null(strstr(weir_why(), "max_queued"));
    support_say(pair[1], "2\n");
    assert_true(support_is_silent(pair[1]));
    close(pair[0]);
    close(pair[1]);
    gate_open(&gate);
    support_expect_last(fds[0], "0\n");
    support_expect_last(fds[1], "1\n");
}

static void beyond_max_per_address_goodbye_is_said(void **state)
{
    int first;

    (void)state;
    server = START(&lines, .max_per_address = 1);
    gate_open(&gate);
    first = support_connect(server, 0);
    SUPPORT_AWAIT(server, accepted, == 1);
    support_expect_last(support_connect(server, 0), GOODBYE);
    support_say(first, "1\n");
    support_expect_last(first, "1\n");
    assert_int_equal(support_stats(server).refused, 1);
    assert_int_equal(support_stats(server).shed, 0);
}

static void half_of_the_places_are_not_counted_on_this_machine(void **state)
{
    int fds[3];

    (void)state;
    server = START(&lines, .max_per_address = WEIR_HALF, .max_connections = 4);
    for (int i = 0; i < 3; i++)
        fds[i] = support_connect(server, 0);
    SUPPORT_AWAIT(server, idle, == 3);
    gate_open(&gate);
    for (int i = 0; i < 3; i++) {
        support_say(fds[i], "1\n");
        support_expect_last(fds[i], "1\n");
    }
    assert_int_equal(support_stats(server).refused, 0);
}

/* ------------------------------------------------------------------ writing ----------- */

#define MUCH ((size_t)64 << 20)

static atomic_bool has_written;

static int write_much(struct weir_request *req)
{
    static const char piece[64 << 10];
    ssize_t n = 1;

    for (size_t sent = 0; sent < MUCH && n > 0; sent += (size_t)n)
        n = weir_write(req, piece, sizeof(piece));
    atomic_store(&has_written, true);
    return n < 0 ? (int)n : 0;
}

static const struct weir_handler much = { .name = "much", .handle = write_much };

/* What a client does not take waits in its handler, which waits: no buffer of ours grows. */
static void writes_to_a_client_that_does_not_read_wait(void **state)
{
    int fd;

    (void)state;
    atomic_store(&has_written, false);
    server = START(&much);
    fd = support_connect(server, 0);
    SUPPORT_AWAIT(server, parked, == 1);
    assert_true(support_stats(server).bytes_out < MUCH / 2);
    assert_false(atomic_load(&has_written));
    support_reset(fd);
    SUPPORT_AWAIT(server, closed, == 1);
    assert_true(atomic_load(&has_written));
}

int main(void)
{
#define RULE(test) cmocka_unit_test_setup_teardown(test, set_up_rule, tear_down_rule)
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        RULE(who_has_waited_too_long_is_turned_away_once_all_do),
        RULE(who_is_late_but_not_too_late_is_served_and_it_goes_on),
        RULE(one_in_time_ends_it),
        RULE(the_last_in_the_queue_is_served_and_ends_it),
        RULE(who_found_nobody_waiting_is_in_time),
        RULE(turns_of_kept_connections_are_not_looked_at),
        RULE(without_a_target_nobody_is_looked_at),
        RULE(the_queue_has_room_or_refuses),
        TEST(who_has_waited_too_long_is_told_goodbye),
        TEST(who_is_being_served_does_not_wait_for_all_goodbyes),
        TEST(without_a_target_all_are_served),
        TEST(of_http_goodbye_is_503_with_retry_after),
        TEST(while_as_many_wait_as_may_accepting_pauses),
        TEST(where_nobody_waits_accepting_does_not_pause),
        TEST(or_further_ones_are_told_goodbye_at_once),
        TEST(what_is_submitted_is_refused_then),
        TEST(beyond_max_per_address_goodbye_is_said),
        TEST(half_of_the_places_are_not_counted_on_this_machine),
        TEST(writes_to_a_client_that_does_not_read_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
