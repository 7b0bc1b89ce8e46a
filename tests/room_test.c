/*
 * room_test.c - who goes when others wait for a place, of those that keep their handlers waiting.
 *
 * acceptor_test.c has those that are idle, and silent.
 */
#include "tests/support.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOUR_MS 3600000

static void ignore_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    (void)failure;
}

static int say_bye(struct weir_request *req, int status)
{
    (void)status;
    weir_printf(req, "bye\n");
    return 0;
}

/* More than anybody says here. */
#define LONGEST_LINE ((size_t)1 << 20)

static int echo_line(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, LONGEST_LINE);

    if (n > 0)
        n = weir_write(req, line, (size_t)n);
    return n > 0 ? WEIR_KEEP : (int)n;
}

static const struct weir_handler lines = {
    .name = "lines", .handle = echo_line, .finish = say_bye,
};

#define OPTIONS(handler_, ...) \
    WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &(handler_), \
                 .handle_error = ignore_error, .request_timeout_ms = HOUR_MS, __VA_ARGS__)

/* Says half a line, byte by byte, until it is sent away. */
static void trickle_until_the_end(int fd)
{
    struct support_patience patience = support_patience();
    char answer;

    while (recv(fd, &answer, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN) {
        support_be_patient(&patience, "an end of the trickle", __FILE__, __LINE__);
        send(fd, "x", 1, MSG_NOSIGNAL);
        poll(NULL, 0, 10);
    }
}

#define BODY ((size_t)1 << 20)

static int read_body(struct weir_request *req)
{
    char buf[4096];
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    weir_end_head(req);
    for (size_t len = 0; n > 0 && len < BODY; len += (size_t)n)
        n = weir_read(req, buf, sizeof(buf));
    return n < 0 ? (int)n : 0;
}

static const struct weir_handler bodies = {
    .name = "bodies", .handle = read_body, .finish = say_bye,
};

/* A byte now and then does not make a client look as if it had only begun. */
static void assert_a_trickle_makes_room(const struct weir_options *options, const char *begin)
{
    struct weir_server *server = support_start(options);
    int trickles = support_ask(server, 0, begin), next;

    SUPPORT_AWAIT(server, parked, == 1);
    next = support_ask(server, 0, "in\n");
    trickle_until_the_end(trickles);
    support_expect_last(trickles, "bye\n");
    assert_int_equal(support_stats(server).made_room, 1);
    assert_int_equal(support_stats(server).timeouts, 0);
    close(next);
    SUPPORT_AWAIT(server, active, == 0);
    weir_server_destroy(server);
}

static void trickles_make_room(void **state)
{
    (void)state;
    for (int dispatch = 0; dispatch < 2; dispatch++) {
        assert_a_trickle_makes_room(OPTIONS(lines, .max_connections = 1, .dispatch = dispatch,
                                            .head_timeout_ms = HOUR_MS), "half a li");
        assert_a_trickle_makes_room(OPTIONS(bodies, .max_connections = 1, .dispatch = dispatch,
                                            .progress_timeout_ms = 60000), "head\nsome body");
    }
}

/* False: the server was so slow that who began later may have had its second, too. */
static bool is_the_oldest_head_sent_away_alone(void)
{
    struct weir_server *server = support_start(OPTIONS(lines, .max_connections = 2,
                                                       .head_timeout_ms = HOUR_MS));
    int heads[2], next;
    bool alone;

    heads[0] = support_ask(server, 0, "half a li");
    SUPPORT_AWAIT(server, parked, == 1);
    poll(NULL, 0, 500);
    heads[1] = support_ask(server, 0, "half a li");
    SUPPORT_AWAIT(server, parked, == 2);
    /* It has spoken later than the other one, and been here for longer. */
    support_say(heads[0], "xx");
    next = support_ask(server, 0, "in\n");
    support_expect_last(heads[0], "bye\n");
    support_expect(next, "in\n");
    alone = support_stats(server).made_room == 1;
    if (alone) {
        support_say(heads[1], "ne\n");
        support_expect(heads[1], "half a line\n");
    }
    close(heads[1]);
    close(next);
    weir_server_destroy(server);
    return alone;
}

static void the_oldest_head_goes_first(void **state)
{
    struct support_patience patience = support_patience();

    (void)state;
    while (!is_the_oldest_head_sent_away_alone())
        support_be_patient(&patience, "a quick moment", __FILE__, __LINE__);
}

/* False: this machine was so slow that the one that moves may have been behind, too. */
static bool is_the_body_that_moves_kept(void)
{
    static const char piece[64 << 10];
    struct weir_server *server = support_start(OPTIONS(bodies, .max_connections = 2,
                                                       .progress_timeout_ms = 60000));
    int moves = support_ask(server, 0, "head\n"), trickles, next;
    uint64_t last_ms = support_now_ms();
    bool steady = true;

    SUPPORT_AWAIT(server, parked, == 1);
    trickles = support_ask(server, 0, "head\n");
    SUPPORT_AWAIT(server, parked, == 2);
    next = support_ask(server, 0, "head\n");
    for (size_t len = 0; len < BODY; len += sizeof(piece)) {
        send(trickles, "x", 1, MSG_NOSIGNAL);
        poll(NULL, 0, 100);
        steady = steady && support_now_ms() - last_ms < 450;
        last_ms = support_now_ms();
        send(moves, piece, sizeof(piece), MSG_NOSIGNAL);
    }
    if (steady) {
        support_expect_last(moves, "bye\n");
        support_expect_last(trickles, "bye\n");
        assert_int_equal(support_stats(server).made_room, 1);
    } else {
        close(moves);
        close(trickles);
    }
    close(next);
    weir_server_destroy(server);
    return steady;
}

static void a_body_that_moves_keeps_its_place_beside_one_that_trickles(void **state)
{
    struct support_patience patience = support_patience();

    (void)state;
    while (!is_the_body_that_moves_kept())
        support_be_patient(&patience, "a steady client", __FILE__, __LINE__);
}

static int bound_itself(struct weir_request *req)
{
    char *line;
    uint32_t timeout_ms = weir_listener_number(req) == 0 ? HOUR_MS : WEIR_FOREVER;
    ssize_t n = weir_set_timeout(req, WEIR_TIMEOUT_REQUEST, timeout_ms);

    if (n == 0)
        n = weir_readline(req, &line, 100);
    return n < 0 ? (int)n : 0;
}

/* Whether a request is bounded its handler may say, whatever its listener does. */
static void requests_that_their_handler_bounds_make_room(void **state)
{
    static const struct weir_handler bounds = { .name = "bounds", .handle = bound_itself,
                                                .finish = say_bye };
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0", .max_connections = 1 },
        { .address = "tcp://127.0.0.1:0", .max_connections = 1, .request_timeout_ms = HOUR_MS },
    };
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &bounds,
        .handle_error = ignore_error));
    int bounded = support_ask(server, 0, "half a li");
    int patient = support_ask(server, 1, "half a li"), next[2];
    uint64_t until;

    (void)state;
    SUPPORT_AWAIT(server, parked, == 2);
    next[1] = support_ask(server, 1, "in\n");
    next[0] = support_ask(server, 0, "in\n");
    support_expect_last(bounded, "bye\n");
    support_expect_last(next[0], "bye\n");
    /* A second of silence is what the others are given. */
    until = support_stats(server).full + 40;
    SUPPORT_AWAIT(server, full, >= until);
    assert_int_equal(support_stats(server).made_room, 1);
    support_say(patient, "ne\n");
    support_expect_last(patient, "bye\n");
    support_expect_last(next[1], "bye\n");
    weir_server_destroy(server);
}

/* False: this machine was so slow that nothing can be told of an order. */
static bool do_they_go_sooner_where_others_have_waited(void)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0", .max_connections = 1 },
        { .address = "tcp://127.0.0.1:0", .max_connections = 1 },
    };
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &lines,
        .handle_error = ignore_error, .request_timeout_ms = HOUR_MS, .head_timeout_ms = HOUR_MS));
    int first = support_ask(server, 0, "half a li"), second, last, other, next;
    bool told;

    SUPPORT_AWAIT(server, parked, == 1);
    second = support_ask(server, 0, "half a li");
    last = support_ask(server, 0, "in\n");
    poll(NULL, 0, 700);
    other = support_ask(server, 1, "half a li");
    SUPPORT_AWAIT(server, parked, == 2);
    told = support_is_silent(first);
    next = support_ask(server, 1, "in\n");
    support_expect_last(first, "bye\n");
    support_expect_last(second, "bye\n");
    told = told && support_is_silent(other);
    support_expect_last(other, "bye\n");
    close(last);
    close(next);
    weir_server_destroy(server);
    return told;
}

/* The second one of a full listener has come later than the other's, and has less time. */
static void where_others_have_waited_for_long_clients_go_sooner(void **state)
{
    struct support_patience patience = support_patience();

    (void)state;
    while (!do_they_go_sooner_where_others_have_waited())
        support_be_patient(&patience, "a quick moment", __FILE__, __LINE__);
}

static int write_without_end(struct weir_request *req)
{
    static const char text[1 << 16];
    int size = 400 << 10;
    ssize_t n;

    setsockopt(weir_request_fd(req), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    do
        n = weir_write(req, text, sizeof(text));
    while (n > 0);
    return (int)n;
}

static const struct weir_handler endless = { .name = "endless", .handle = write_without_end };

/* False: this machine was so slow that the client has paused for too long. */
static bool is_who_takes_a_reply_kept(uint32_t progress_timeout_ms)
{
    static char taken[32 << 10];
    struct weir_server *server = support_start(OPTIONS(
        endless, .max_connections = 1, .progress_timeout_ms = progress_timeout_ms));
    int takes = support_connect(server, 0), next, size = sizeof(taken);
    uint64_t last_ms = support_now_ms(), now_ms;
    bool steady = true;

    setsockopt(takes, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    SUPPORT_AWAIT(server, parked, == 1);
    next = support_connect(server, 0);
    while (steady && support_stats(server).full < 80) {
        assert_int_equal(recv(takes, taken, sizeof(taken), MSG_WAITALL), sizeof(taken));
        poll(NULL, 0, 200);
        now_ms = support_now_ms();
        steady = now_ms - last_ms < 450;
        last_ms = now_ms;
    }
    if (steady)
        assert_int_equal(support_stats(server).made_room, 0);
    weir_server_cancel(server);
    close(takes);
    close(next);
    weir_server_destroy(server);
    return steady;
}

/* Room is told of in lumps, of which this client takes for more than a second. */
static void a_reply_that_is_taken_keeps_its_place(void **state)
{
    struct support_patience patience = support_patience();

    (void)state;
    while (!is_who_takes_a_reply_kept(60000) || !is_who_takes_a_reply_kept(0))
        support_be_patient(&patience, "a steady client", __FILE__, __LINE__);
}

/* More than the first window, and than a client takes that does not read; the socket holds it. */
#define TAIL (512 << 10)

static int answer_much_if_asked(struct weir_request *req)
{
    static const char text[TAIL];
    int size = 2 * TAIL;
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0 || line[0] != 'm')
        return (int)n;
    setsockopt(weir_request_fd(req), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    return weir_write(req, text, sizeof(text)) < 0 ? -EIO : 0;
}

/* Of looks for room, each 50 ms: well behind a second, and before linger.c ends it by itself. */
#define LOOKS_ENOUGH 30

/* False: nobody has looked for so long that its end came by itself. */
static bool does_who_never_takes_the_end_make_room(void)
{
    static const struct weir_handler ends = { .name = "ends", .handle = answer_much_if_asked,
                                              .finish = say_bye };
    struct weir_server *server = support_start(OPTIONS(ends, .max_connections = 1,
                                                       .head_timeout_ms = HOUR_MS));
    int takes_nothing = support_connect(server, 0), next, size = 4096;
    struct weir_stats stats;

    setsockopt(takes_nothing, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    support_say(takes_nothing, "much\n");
    SUPPORT_AWAIT(server, closed, == 1);
    next = support_ask(server, 0, "in\n");
    support_expect_last(next, "bye\n");
    stats = support_stats(server);
    if (stats.full >= LOOKS_ENOUGH)
        assert_int_equal(stats.made_room, 1);
    close(takes_nothing);
    weir_server_destroy(server);
    return stats.made_room == 1;
}

/* Its handler has ended, and its answer is here still: that it is looked at does not begin anew. */
static void who_never_takes_the_end_makes_room(void **state)
{
    struct support_patience patience = support_patience();

    (void)state;
    while (!does_who_never_takes_the_end_make_room())
        support_be_patient(&patience, "a quick moment", __FILE__, __LINE__);
}

static struct gate gate;

static int hold_worker_if_asked(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n > 0 && line[0] == 'h')
        gate_pass(&gate);
    return n < 0 ? (int)n : 0;
}

/*
 * One is to go while its worker is held, and says something before it hears of that. It is waited
 * for once more, then it has to go: that is one connection.
 */
static void who_is_to_go_twice_has_made_room_once(void **state)
{
    static const struct weir_handler holds = { .name = "holds", .handle = hold_worker_if_asked,
                                               .finish = say_bye };
    struct weir_server *server = support_start(OPTIONS(holds, .max_connections = 2, .workers = 1,
                                                       .head_timeout_ms = HOUR_MS));
    int goes, holder, next[2];

    (void)state;
    gate_init(&gate);
    goes = support_ask(server, 0, "line in pa");
    SUPPORT_AWAIT(server, parked, == 1);
    holder = support_ask(server, 0, "hold\n");
    SUPPORT_AWAIT(server, running, == 1);
    next[0] = support_ask(server, 0, "line in pa");
    SUPPORT_AWAIT(server, parked, == 0);
    support_say(goes, "rt");
    gate_open(&gate);
    support_expect_last(holder, "bye\n");
    next[1] = support_ask(server, 0, "in\n");
    support_expect_last(goes, "bye\n");
    support_expect_last(next[1], "bye\n");
    assert_int_equal(support_stats(server).made_room, 1);
    close(next[0]);
    weir_server_destroy(server);
    gate_fini(&gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trickles_make_room),
        cmocka_unit_test(the_oldest_head_goes_first),
        cmocka_unit_test(a_body_that_moves_keeps_its_place_beside_one_that_trickles),
        cmocka_unit_test(requests_that_their_handler_bounds_make_room),
        cmocka_unit_test(where_others_have_waited_for_long_clients_go_sooner),
        cmocka_unit_test(a_reply_that_is_taken_keeps_its_place),
        cmocka_unit_test(who_never_takes_the_end_makes_room),
        cmocka_unit_test(who_is_to_go_twice_has_made_room_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
