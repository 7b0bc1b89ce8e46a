/*
 * linger_test.c - the end of a connection: what its peer sends costs it nothing of its answer.
 *
 * Over TCP, and where nobody else needs the thread that waits.
 */
#include "tests/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

/* More than a client has room for that does not read, and less than the server's socket has. */
#define HELD (MIB / 2)

static atomic_bool all_is_said;

static int answer_with_much(struct weir_request *req, int result)
{
    char *data = malloc(HELD);

    memset(data, 'a', HELD);
    weir_write(req, data, HELD);
    free(data);
    return result;
}

static int answer_what_the_socket_holds(struct weir_request *req)
{
    char *line;

    weir_readline(req, &line, 100);
    return answer_with_much(req, 0);
}

static int refuse_what_is_to_come(struct weir_request *req)
{
    char *line;

    weir_readline(req, &line, 100);
    weir_linger(req);
    return weir_write(req, "no\n", 3) < 0 ? -EIO : 0;
}

static int end_input_and_answer(struct weir_request *req)
{
    char *line;

    weir_readline(req, &line, 100);
    weir_end_input(req);
    return weir_write(req, "no\n", 3) < 0 ? -EIO : 0;
}

static int write_behind_the_end(struct weir_request *req)
{
    char *line;

    weir_readline(req, &line, 100);
    answer_with_much(req, 0);
    weir_end_output(req);
    weir_write(req, "late", 4);
    return weir_flush(req) == -EPIPE ? 0 : -EIO;
}

static int leave_behind_the_end(struct weir_request *req)
{
    char *line;

    weir_readline(req, &line, 100);
    answer_with_much(req, 0);
    weir_end_output(req);
    return weir_write(req, "late", 4) < 0 ? -EIO : WEIR_KEEP;
}

static int send_file_behind_the_end(struct weir_request *req)
{
    int file_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    char *line;
    ssize_t n;

    weir_readline(req, &line, 100);
    answer_with_much(req, 0);
    weir_end_output(req);
    n = weir_sendfile(req, file_fd, 0, MIB);
    close(file_fd);
    return n == -EPIPE ? 0 : -EIO;
}

static int refuse_at_once(struct weir_request *req)
{
    char *line;

    weir_readline(req, &line, 100);
    return weir_write(req, "no\n", 3) < 0 ? -EIO : 0;
}

/* Much, and little at the next call, which is the last. */
static int answer_twice(struct weir_request *req)
{
    char *line;

    weir_readline(req, &line, 100);
    if (*line == 'm')
        return answer_with_much(req, WEIR_KEEP);
    return weir_write(req, "x", 1) < 0 ? -EIO : 0;
}

/* Of three lines it reads two, waits for each, and knows nothing of the third. */
static int read_two_lines(struct weir_request *req)
{
    char *line;

    weir_readline(req, &line, 100);
    note("one,");
    weir_readline(req, &line, 100);
    note("two");
    /* relaxed: it is only waited for. pairs: none */
    while (!atomic_load_explicit(&all_is_said, memory_order_relaxed))
        weir_sleep(req, 1);
    /* Events have been looked at since. */
    weir_sleep(req, 1);
    return weir_write(req, "no\n", 3) < 0 ? -EIO : 0;
}

/* A client whose answer has been given, and has not reached it. */
static int client_that_is_answered(struct weir_server *server)
{
    int fd = support_ask(server, 0, "go\n");

    SUPPORT_AWAIT(server, closed, == 1);
    return fd;
}

/* It comes when the server has closed, and most of the answer is still to leave. */
static void input_that_comes_behind_the_end_costs_nothing_of_the_answer(void **state)
{
    static char answer[HELD + 1];
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(answer_what_the_socket_holds);
    fd = client_that_is_answered(server);
    support_say(fd, "x");
    assert_int_equal(support_read_all(fd, answer, sizeof(answer)), HELD);
    close(fd);
}

/* What the handler writes behind its own end fails, and nothing of what it wrote before. */
static void expect_all_before_the_end(int (*handle)(struct weir_request *req))
{
    static char answer[HELD + 1];
    struct weir_server *server = STREAM_SERVE(handle);
    int fd = client_that_is_answered(server);

    support_say(fd, "x");
    assert_int_equal(support_read_all(fd, answer, sizeof(answer)), HELD);
    assert_int_equal(support_stats(server).handle_errors, 0);
    close(fd);
}

static void nor_if_the_handler_writes_behind_its_end(void **state)
{
    (void)state;
    expect_all_before_the_end(write_behind_the_end);
}

static void nor_if_it_leaves_something_gathered_behind_its_end(void **state)
{
    (void)state;
    expect_all_before_the_end(leave_behind_the_end);
}

static void nor_if_it_sends_a_file_behind_its_end(void **state)
{
    (void)state;
    expect_all_before_the_end(send_file_behind_the_end);
}

/* The last answer is short, but one before it is still to leave. */
static void nor_of_an_answer_that_was_given_before(void **state)
{
    static char answer[HELD + 2];
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(answer_twice);
    fd = support_ask(server, 0, "much\n");
    SUPPORT_AWAIT(server, handled, == 1);
    SUPPORT_AWAIT(server, idle, == 1);
    support_say(fd, "end\n");
    SUPPORT_AWAIT(server, closed, == 1);
    support_say(fd, "x");
    assert_int_equal(support_read_all(fd, answer, sizeof(answer)), HELD + 1);
    close(fd);
}

/* What the last read left nothing of, but an event has told of since, is no reason for a reset. */
static void input_that_an_event_has_told_of_is_not_left(void **state)
{
    struct weir_server *server;
    char byte;
    int fd;

    (void)state;
    if (way->dispatch == WEIR_DISPATCH_ACCEPTOR)
        return; /* nothing tells when it has passed the event on */
    /* relaxed: no server runs yet. pairs: none */
    atomic_store_explicit(&all_is_said, false, memory_order_relaxed);
    server = STREAM_SERVE(read_two_lines);
    fd = support_ask(server, 0, "1\n");
    notes_expect("one,");
    support_say(fd, "2\n");
    notes_expect("one,two");
    support_say(fd, "3\n");
    /* relaxed: it is only waited for. pairs: none */
    atomic_store_explicit(&all_is_said, true, memory_order_relaxed);
    support_expect(fd, "no\n");
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
}

/* Who sends all first, and reads then, is told why nobody wanted it. */
static void who_sends_much_that_nobody_wants_still_gets_the_answer(void **state)
{
    static char junk[16 * MIB] = "go\n";
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(refuse_at_once);
    fd = support_connect(server, 0);
    support_send(fd, junk, sizeof(junk));
    support_expect(fd, "no\n");
    support_expect_end(fd);
    close(fd);
}

/* A client that has been told no, and has seen the end; the server waits for what it announced. */
static int client_that_was_told_no(struct weir_server *server)
{
    int fd = support_ask(server, 0, "go\n");

    support_expect(fd, "no\n");
    support_expect_end(fd);
    return fd;
}

static int refused_client(struct weir_server **ret_server)
{
    *ret_server = STREAM_SERVE(refuse_what_is_to_come);
    return client_that_was_told_no(*ret_server);
}

/* Nothing of it had come when the handler returned. What comes is no reason for a reset ... */
static void expect_that_it_is_awaited(struct weir_server *server, int fd)
{
    for (int i = 0; i < 3; i++)
        support_say(fd, "x");
    assert_int_equal(support_stats(server).closed, 1);
    close(fd);
    SUPPORT_AWAIT(server, active, == 0);
    assert_int_equal(support_stats(server).resets, 0);
}

static void what_a_handler_knows_to_be_on_the_way_is_awaited(void **state)
{
    struct weir_server *server;
    int fd = refused_client(&server);

    (void)state;
    expect_that_it_is_awaited(server, fd);
}

static void so_is_what_comes_to_an_input_that_has_ended(void **state)
{
    struct weir_server *server = STREAM_SERVE(end_input_and_answer);

    (void)state;
    expect_that_it_is_awaited(server, client_that_was_told_no(server));
}

/* ... but whoever neither sends it nor ends is not waited for for ever. */
static void who_never_sends_what_is_awaited_is_left(void **state)
{
    struct weir_server *server;
    int fd = refused_client(&server);

    (void)state;
    SUPPORT_AWAIT(server, active, == 0);
    close(fd);
}

static void who_does_not_take_the_answer_does_not_hold_the_server_up(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(answer_what_the_socket_holds);
    fd = client_that_is_answered(server);
    SUPPORT_AWAIT(server, active, == 0);
    close(fd);
}

static bool lingers(void)
{
    return way->family == AF_INET &&
           (way->stack == WEIR_STACK_FIBER || way->concurrency == WEIR_THREAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STREAM_TEST(input_that_comes_behind_the_end_costs_nothing_of_the_answer),
        STREAM_TEST(nor_if_the_handler_writes_behind_its_end),
        STREAM_TEST(nor_if_it_leaves_something_gathered_behind_its_end),
        STREAM_TEST(nor_if_it_sends_a_file_behind_its_end),
        STREAM_TEST(nor_of_an_answer_that_was_given_before),
        STREAM_TEST(input_that_an_event_has_told_of_is_not_left),
        STREAM_TEST(who_sends_much_that_nobody_wants_still_gets_the_answer),
        STREAM_TEST(what_a_handler_knows_to_be_on_the_way_is_awaited),
        STREAM_TEST(so_is_what_comes_to_an_input_that_has_ended),
        STREAM_TEST(who_never_sends_what_is_awaited_is_left),
        STREAM_TEST(who_does_not_take_the_answer_does_not_hold_the_server_up),
    };
    int failed = 0;

    for (way = ways; way < ways + WAYS; way++)
        if (lingers())
            failed += cmocka_run_group_tests_name(way->name, tests, NULL, NULL);
    return failed;
}
