/*
 * greeting_test.c - what comes between accept and setup(), in every concurrency.
 *
 * No option gives an endpoint a greeting yet, so the tests do, before anybody can come. Theirs
 * reads a line of the client's and does what that says.
 */
#include "tests/support.h"

#include "engine/pool/transport.h"
#include "engine/server/server.h"
#include "engine/stream/request.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOVED_PORT 4711

/* What children write, too. */
static struct board {
    _Atomic int greeting;       /* have begun */
    _Atomic int greeted;        /* have ended well */
    _Atomic int set_up;
    _Atomic int finished;
    _Atomic int verified;
    _Atomic int told;           /* handle_error's calls */
    _Atomic int told_phase;
    _Atomic int told_error;
} *board;

static enum weir_concurrency how;

static int begin(void **state)
{
    (void)state;
    memset(board, 0, sizeof(*board));
    return 0;
}

/* ------------------------------------------------------------------ the greeting ------ */

static int move_to(struct weir_request *req, const char *host)
{
    struct sockaddr_in peer = { .sin_family = AF_INET, .sin_port = htons(MOVED_PORT) };

    if (inet_pton(AF_INET, host, &peer.sin_addr) != 1)
        return -EPROTO;
    connection_set_peer(req->conn, (const struct sockaddr *)&peer, sizeof(peer));
    return 0;
}

static int wait_for_drain(struct weir_request *req)
{
    int r = 0;

    while (r == 0 && !weir_draining(req))
        r = weir_sleep(req, 1);
    return r;
}

static int do_as_told(struct weir_request *req, const char *word)
{
    if (strncmp(word, "from ", 5) == 0)
        return move_to(req, word + 5);
    if (strcmp(word, "refuse") == 0)
        return weir_write(req, "no\n", 3) < 0 ? -EIO : -EPROTO;
    if (strcmp(word, "welcome") == 0)
        return weir_write(req, "welcome\n", 8) < 0 ? -EIO : 0;
    if (strcmp(word, "by table") == 0)
        req->conn->transport = TRANSPORT_UNIX;
    if (strcmp(word, "drain") == 0)
        return wait_for_drain(req);
    return 0;
}

static int greet(struct weir_request *req)
{
    char word[64];
    char *line;
    ssize_t n;
    int r;

    board->greeting++;
    n = weir_readline(req, &line, sizeof(word));
    if (n < 0)
        return (int)n;
    /* The peer has gone in the midst of it. */
    if (n == 0 || line[n - 1] != '\n')
        return -EPIPE;
    snprintf(word, sizeof(word), "%.*s", (int)n - 1, line);
    r = do_as_told(req, word);
    if (r == 0)
        board->greeted++;
    return r;
}

/* ------------------------------------------------------------------ the handler ------- */

static int set_up(struct weir_request *req)
{
    (void)req;
    board->set_up++;
    return 0;
}

/* A line comes back, and "who" as the client's address. */
static int answer(struct weir_request *req)
{
    char peer[WEIR_ADDRESS_SIZE];
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    if (n == 4 && memcmp(line, "who\n", 4) == 0)
        weir_printf(req, "%s\n", weir_peer_text(req, peer, sizeof(peer)));
    else
        weir_write(req, line, (size_t)n);
    return WEIR_KEEP;
}

static int note_finish(struct weir_request *req, int status)
{
    (void)req;
    (void)status;
    board->finished++;
    return 0;
}

static const struct weir_handler lines = {
    .name = "lines", .setup = set_up, .handle = answer, .finish = note_finish,
};
static const struct weir_handler lines_of_who_speaks_first = {
    .name = "lines", .setup = set_up, .handle = answer, .finish = note_finish,
    .client_first = true,
};

/* ------------------------------------------------------------------ the server -------- */

static void note_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    board->told_phase = (int)failure->phase;
    board->told_error = failure->error;
    board->told++;
}

static int verify(struct weir_server *server, const struct weir_peer *peer)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)peer->address;

    (void)server;
    board->verified++;
    return peer->address->sa_family != AF_INET || in->sin_addr.s_addr != inet_addr("12.12.12.12");
}

static struct weir_server *start_greeting(const struct weir_options *options, uint32_t timeout_ms)
{
    struct weir_options given = *options;
    struct weir_server *server;

    given.concurrency = how;
    given.handle_error = note_error;
    /* Those of one process share a crowd. */
    given.processes = how == WEIR_PREFORK ? 1 : 0;
    given.workers = how == WEIR_POOL || how == WEIR_PREFORK ? 2 : 0;
    if (!given.handler)
        given.handler = &lines;
    if (!given.listen)
        given.listen = "tcp://127.0.0.1:0";
    server = support_create(&given);
    server->endpoints[0]->greet = greet;
    server->endpoints[0]->head_timeout_ms = timeout_ms;
    assert_int_equal(weir_server_start(server), 0);
    return server;
}

#define START(...) start_greeting(WEIR_OPTIONS(__VA_ARGS__), 0)

static void finish(struct weir_server *server)
{
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_destroy(server), 0);
}

/* A conversation to its end. */
static void talk(struct weir_server *server, const char *say, const char *expect)
{
    int fd = support_ask(server, 0, say);

    support_half_close(fd);
    support_expect_last(fd, expect);
}

static void expect_refused(struct weir_server *server, unsigned count)
{
    SUPPORT_AWAIT(server, refused, == count);
}

static void expect_told(int phase, int error)
{
    SUPPORT_UNTIL(board->told == 1);
    assert_int_equal(board->told_phase, phase);
    assert_int_equal(board->told_error, error);
}

/* ------------------------------------------------------------------ that succeed ------ */

static void it_comes_before_setup(void **state)
{
    struct weir_server *server = START(.idle_timeout_ms = 0);
    int fd = support_connect(server, 0);

    (void)state;
    SUPPORT_UNTIL(board->greeting == 1);
    assert_int_equal(board->set_up, 0);
    support_say(fd, "welcome\n");
    support_expect(fd, "welcome\n");
    support_say(fd, "a\n");
    support_expect(fd, "a\n");
    assert_int_equal(board->set_up, 1);
    /* Once a connection. */
    support_say(fd, "b\n");
    support_expect(fd, "b\n");
    assert_int_equal(board->greeting, 1);
    support_half_close(fd);
    support_expect_last(fd, "");
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(support_stats(server).refused, 0);
    finish(server);
}

static void what_it_has_read_too_much_is_the_handlers(void **state)
{
    struct weir_server *server = START(.rbufsize = 256);

    (void)state;
    talk(server, "welcome\na\nb\n", "welcome\na\nb\n");
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(board->finished, 1);
    finish(server);
}

static void it_may_give_another_transport(void **state)
{
    struct weir_server *server = START(.rbufsize = 256);
    int fd = support_ask(server, 0, "by table\n");

    (void)state;
    support_say(fd, "a\n");
    support_expect(fd, "a\n");
    support_say(fd, "b\nc\n");
    support_expect(fd, "b\nc\n");
    support_half_close(fd);
    support_expect_last(fd, "");
    finish(server);
}

/* ------------------------------------------------------------------ that fail --------- */

static void one_that_fails_refuses_and_may_say_why(void **state)
{
    struct weir_server *server = START(.idle_timeout_ms = 0);
    int fd = support_ask(server, 0, "refuse\n");

    (void)state;
    support_expect_last(fd, "no\n");
    expect_refused(server, 1);
    expect_told(WEIR_PHASE_VERIFY, -EPROTO);
    SUPPORT_AWAIT(server, verify_errors, == 1);
    assert_int_equal(board->set_up, 0);
    assert_int_equal(support_stats(server).closed, 0);
    /* Others come in. */
    talk(server, "\na\n", "a\n");
    SUPPORT_AWAIT(server, closed, == 1);
    finish(server);
}

static void one_that_stalls_ends_in_time(void **state)
{
    struct weir_server *server = start_greeting(WEIR_OPTIONS(.backlog = 0), 50);
    int fd = support_ask(server, 0, "half a li");

    (void)state;
    support_expect_last(fd, "");
    expect_refused(server, 1);
    expect_told(WEIR_PHASE_VERIFY, -ETIMEDOUT);
    SUPPORT_AWAIT(server, timeouts, == 1);
    assert_int_equal(board->set_up, 0);
    finish(server);
}

static int answer_patiently(struct weir_request *req)
{
    weir_set_timeout(req, WEIR_TIMEOUT_HEAD, WEIR_FOREVER);
    return answer(req);
}

/* What follows has a time of its own, which this handler does without. */
static void its_deadline_ends_with_it(void **state)
{
    static const struct weir_handler patient = {
        .name = "patient", .setup = set_up, .handle = answer_patiently, .finish = note_finish,
    };
    struct weir_server *server = start_greeting(WEIR_OPTIONS(.handler = &patient), 1000);
    int fd = support_ask(server, 0, "welcome\n");
    uint64_t since_ms = support_now_ms();

    (void)state;
    support_expect(fd, "welcome\n");
    SUPPORT_UNTIL(support_now_ms() > since_ms + 1100);
    support_say(fd, "a\n");
    support_expect(fd, "a\n");
    assert_int_equal(board->told, 0);
    support_half_close(fd);
    support_expect_last(fd, "");
    finish(server);
}

static void a_peer_that_goes_is_refused_and_nobody_is_told(void **state)
{
    struct weir_server *server = START(.idle_timeout_ms = 0);
    int fd = support_ask(server, 0, "half a li");

    (void)state;
    SUPPORT_UNTIL(board->greeting == 1);
    support_half_close(fd);
    support_expect_last(fd, "");
    expect_refused(server, 1);
    /* A child has this program's end, too, so that to close it would say nothing. */
    if (how != WEIR_FORK) {
        fd = support_connect(server, 0);
        SUPPORT_UNTIL(board->greeting == 2);
        support_reset(fd);
        expect_refused(server, 2);
    }
    assert_int_equal(board->told, 0);
    assert_int_equal(board->set_up, 0);
    finish(server);
}

/* ------------------------------------------------------------------ another peer ------ */

static void another_peer_is_asked_for_by_the_rules(void **state)
{
    struct weir_server *server = START(.access = "default allow\ndeny 10.0.0.0/8",
                                       .verify_request = verify);

    (void)state;
    talk(server, "from 11.1.2.3\nwho\n", "11.1.2.3:4711\n");
    talk(server, "from 10.1.2.3\nwho\n", "");
    expect_refused(server, 1);
    talk(server, "from 12.12.12.12\nwho\n", "");
    expect_refused(server, 2);
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(board->set_up, 1);
    assert_int_equal(board->told, 0);
    /* Each was asked for as it was accepted; that the rules refuse the hook is not asked. */
    if (how != WEIR_FORK && how != WEIR_PREFORK)
        assert_int_equal(board->verified, 3 + 2);
    finish(server);
}

static int connect_as(struct weir_server *server, const char *host)
{
    char say[64];
    int fd;

    snprintf(say, sizeof(say), "from %s\na\n", host);
    fd = support_ask(server, 0, say);
    support_expect(fd, "a\n");
    return fd;
}

static void expect_crowded(struct weir_server *server, const char *host, unsigned refused)
{
    char say[64];

    snprintf(say, sizeof(say), "from %s\na\n", host);
    talk(server, say, "");
    expect_refused(server, refused);
}

static void leave(int fd)
{
    support_half_close(fd);
    support_expect_last(fd, "");
}

static void talk_in_a_crowd(struct weir_server *server)
{
    int first = connect_as(server, "11.1.1.1");
    int second;

    if (how != WEIR_SERIAL) {
        second = connect_as(server, "11.1.1.2");
        expect_crowded(server, "11.1.1.1", 1);
        expect_crowded(server, "11.1.1.2", 2);
        leave(second);
        second = connect_as(server, "11.1.1.2");
        leave(second);
    }
    leave(first);
    /* Who sees the end has room at once. */
    for (int i = 0; i < 10; i++)
        leave(connect_as(server, "11.1.1.1"));
    assert_int_equal(board->told, 0);
    finish(server);
}

/* All of them come from one address, where only one of them may be at a time. */
static void another_peer_has_a_place_of_its_own(void **state)
{
    (void)state;
    talk_in_a_crowd(START(.max_per_address = 1));
}

static void so_it_has_where_the_first_has_no_address(void **state)
{
    (void)state;
    talk_in_a_crowd(START(.max_per_address = 1, .listen = support_abstract("greeting")));
}

/* ------------------------------------------------------------------ drain and cancel -- */

static void *close_server(void *server)
{
    intptr_t r = weir_server_shutdown(server);

    if (r == 0)
        r = weir_server_close(server);
    return (void *)r;
}

static void a_drain_waits_for_it_and_for_the_request_behind_it(void **state)
{
    struct weir_server *server = START(.idle_timeout_ms = 0);
    int fd = support_ask(server, 0, "drain\na\n");
    pthread_t closer;
    void *result;

    (void)state;
    SUPPORT_UNTIL(board->greeting == 1);
    assert_int_equal(pthread_create(&closer, NULL, close_server, server), 0);
    support_expect_last(fd, "a\n");
    assert_int_equal(pthread_join(closer, &result), 0);
    assert_int_equal((intptr_t)result, 0);
    assert_int_equal(board->greeted, 1);
    assert_int_equal(board->finished, 1);
    assert_int_equal(weir_server_destroy(server), 0);
}

static void a_cancel_ends_it(void **state)
{
    struct weir_server *server = START(.idle_timeout_ms = 0);
    int fd = support_ask(server, 0, "half a li");

    (void)state;
    SUPPORT_UNTIL(board->greeting == 1);
    weir_server_cancel(server);
    support_expect_last(fd, "");
    expect_told(WEIR_PHASE_VERIFY, -ECANCELED);
    assert_int_equal(board->set_up, 0);
    if (how != WEIR_PREFORK) {
        expect_refused(server, 1);
        SUPPORT_AWAIT(server, cancelled, == 1);
    }
    finish(server);
}

/* ------------------------------------------------------------------ client_first ------ */

static void with_client_first_it_waits_for_the_first_byte(void **state)
{
    struct weir_server *server = START(.handler = &lines_of_who_speaks_first);
    int fd = support_connect(server, 0);

    (void)state;
    if (how == WEIR_POOL)
        SUPPORT_AWAIT(server, idle, == 1);
    assert_int_equal(board->greeting, 0);
    support_say(fd, "welcome\n");
    support_expect(fd, "welcome\n");
    if (how == WEIR_POOL)
        SUPPORT_AWAIT(server, idle, == 1);
    /* The client has been greeted, and has not spoken to the handler. */
    assert_int_equal(board->set_up, 0);
    support_say(fd, "a\n");
    support_expect(fd, "a\n");
    assert_int_equal(board->greeting, 1);
    assert_int_equal(board->set_up, 1);
    leave(fd);
    finish(server);
}

static void with_client_first_the_first_bytes_may_be_both(void **state)
{
    struct weir_server *server = START(.handler = &lines_of_who_speaks_first);

    (void)state;
    talk(server, "welcome\na\n", "welcome\na\n");
    assert_int_equal(board->greeting, 1);
    assert_int_equal(board->set_up, 1);
    finish(server);
}

static void with_client_first_who_leaves_after_it_is_nobodys_client(void **state)
{
    struct weir_server *server = START(.handler = &lines_of_who_speaks_first);

    (void)state;
    talk(server, "welcome\n", "welcome\n");
    SUPPORT_AWAIT(server, closed, == 1);
    talk(server, "", "");
    SUPPORT_AWAIT(server, closed, == 2);
    assert_int_equal(board->greeting, 1);
    assert_int_equal(board->set_up, 0);
    assert_int_equal(board->told, 0);
    assert_int_equal(support_stats(server).refused, 0);
    finish(server);
}

static void with_client_first_a_greeted_client_rests_no_longer_than_a_silent_one(void **state)
{
    struct weir_server *server = START(.handler = &lines_of_who_speaks_first,
                                       .idle_timeout_ms = 100);
    int fd = support_ask(server, 0, "welcome\n");

    (void)state;
    support_expect_last(fd, "welcome\n");
    SUPPORT_AWAIT(server, timeouts, == 1);
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(board->set_up, 0);
    finish(server);
}

/* ------------------------------------------------------------------ datagrams --------- */

static void datagrams_have_none(void **state)
{
    struct weir_server *server = START(.listen = "udp://127.0.0.1:0");
    char uri[WEIR_ADDRESS_SIZE];
    int fd;

    (void)state;
    assert_true(weir_server_address(server, 0, uri, sizeof(uri)) > 0);
    fd = support_connect_to(uri);
    support_say(fd, "a\n");
    support_expect(fd, "a\n");
    assert_int_equal(board->greeting, 0);
    close(fd);
    finish(server);
}

#define TEST(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
    static const char *const names[] = { "pool", "serial", "thread", "fork", "prefork" };
    const struct CMUnitTest tests[] = {
        TEST(it_comes_before_setup),
        TEST(what_it_has_read_too_much_is_the_handlers),
        TEST(it_may_give_another_transport),
        TEST(one_that_fails_refuses_and_may_say_why),
        TEST(one_that_stalls_ends_in_time),
        TEST(its_deadline_ends_with_it),
        TEST(a_peer_that_goes_is_refused_and_nobody_is_told),
        TEST(another_peer_is_asked_for_by_the_rules),
        TEST(another_peer_has_a_place_of_its_own),
        TEST(so_it_has_where_the_first_has_no_address),
        TEST(a_drain_waits_for_it_and_for_the_request_behind_it),
        TEST(a_cancel_ends_it),
        TEST(with_client_first_it_waits_for_the_first_byte),
        TEST(with_client_first_the_first_bytes_may_be_both),
        TEST(with_client_first_who_leaves_after_it_is_nobodys_client),
        TEST(with_client_first_a_greeted_client_rests_no_longer_than_a_silent_one),
        TEST(datagrams_have_none),
    };
    int failed = 0;

    board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (how = WEIR_POOL; how <= WEIR_PREFORK; how++)
        failed += cmocka_run_group_tests_name(names[how], tests, NULL, NULL);
    return failed;
}
