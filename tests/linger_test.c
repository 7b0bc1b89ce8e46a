/*
 * linger_test.c - the end of a connection: what its peer sends costs it nothing of its answer.
 *
 * Over TCP, and where nobody else needs the thread that waits.
 */
#include "tests/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

/* More than a client has room for that does not read, and less than the server's socket has. */
#define HELD (MIB / 2)

static int answer_what_the_socket_holds(struct weir_request *req)
{
    char *line, *data = malloc(HELD);

    memset(data, 'a', HELD);
    weir_readline(req, &line, 100);
    weir_write(req, data, HELD);
    free(data);
    return 0;
}

static int refuse_at_once(struct weir_request *req)
{
    char *line;

    weir_readline(req, &line, 100);
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
        STREAM_TEST(who_sends_much_that_nobody_wants_still_gets_the_answer),
        STREAM_TEST(who_does_not_take_the_answer_does_not_hold_the_server_up),
    };
    int failed = 0;

    for (way = ways; way < ways + WAYS; way++)
        if (lingers())
            failed += cmocka_run_group_tests_name(way->name, tests, NULL, NULL);
    return failed;
}
