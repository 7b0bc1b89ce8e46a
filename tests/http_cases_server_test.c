/*
 * http_cases_server_test.c - the tables of tests/http_cases asked of servers: all of a pool, and
 * some of each of the others, which have the same handler below the same calls.
 */
#include "tests/support.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/http_cases.h"
#include "tests/http_site.h"

enum { SAID_MAX = 256 * 1024, REPLIES_MAX = 256 * 1024 };

static int tables_len;
static char **tables;

/* handle_error hears of the routes that are meant to fail. */
static void ignore_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    (void)failure;
}

static bool ask(struct weir_server *server, const struct http_case *c)
{
    static char said[SAID_MAX], replies[REPLIES_MAX + 1];
    int fd = support_connect(server, 0);
    size_t len = c->len;

    assert_true(len + strlen(http_cases_last) < SAID_MAX);
    memcpy(said, c->bytes, len);
    if (!c->ends)
        len = (size_t)(stpcpy(said + len, http_cases_last) - said);
    support_send(fd, said, len);
    /* The server may have closed already. */
    shutdown(fd, SHUT_WR);
    len = support_read_all(fd, replies, REPLIES_MAX);
    replies[len] = '\0';
    close(fd);
    return http_cases_judge(c, "of a server", !c->ends, replies, len);
}

/* Asks every n-th case, n being the stride. */
static void ask_each(enum weir_concurrency concurrency, unsigned stride)
{
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &http_site_handler,
        .concurrency = concurrency, .handle_error = ignore_error));
    static struct http_case c;
    unsigned wrong = 0;

    http_cases_open(tables_len, tables);
    for (unsigned i = 0; http_cases_next(&c); i++)
        if (i % stride == 0)
            wrong += !ask(server, &c);
    weir_server_destroy(server);
    assert_int_equal(wrong, 0);
}

static void a_pool_answers_each_case(void **state)
{
    (void)state;
    ask_each(WEIR_POOL, 1);
}

static void a_serial_server_answers_them_alike(void **state)
{
    (void)state;
    ask_each(WEIR_SERIAL, 7);
}

static void threads_answer_them_alike(void **state)
{
    (void)state;
    ask_each(WEIR_THREAD, 7);
}

static void children_answer_them_alike(void **state)
{
    (void)state;
    ask_each(WEIR_FORK, 11);
}

static void children_that_accept_answer_them_alike(void **state)
{
    (void)state;
    ask_each(WEIR_PREFORK, 7);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_answers_each_case),
        cmocka_unit_test(a_serial_server_answers_them_alike),
        cmocka_unit_test(threads_answer_them_alike),
        cmocka_unit_test(children_answer_them_alike),
        cmocka_unit_test(children_that_accept_answer_them_alike),
    };

    tables_len = argc - 1;
    tables = argv + 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
