/*
 * room_test.c - who goes when others wait for a place, of those that keep their handlers waiting.
 *
 * acceptor_test.c has those that are idle, and silent.
 *
 * What can only be judged on a machine that is quick enough measures whether it was, and is done
 * again if not: on a clock that goes at half the speed.
 */
#include "tests/support.h"

#include "engine/base/clock.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOUR_MS 3600000

/* As room.c has it. */
#define SILENT_MS 1000

/* ------------------------------------------------------------------ the clock --------- */

/* The engine's, and this test's. It is ahead of the kernel's, where log.c sleeps until a moment. */
static struct {
    pthread_mutex_t lock;
    unsigned slowness;
    uint64_t real_ns, shown_ns;     /* when it began to go so slowly */
} slow = { .lock = PTHREAD_MUTEX_INITIALIZER, .slowness = 1, .shown_ns = HOUR_MS * 1000000ull };

/* The slowest: what takes some seconds still comes before support.h gives it up. */
#define SLOWEST 8
#define TRIES 10

uint64_t __real_clock_ns(void);
uint64_t __wrap_clock_ns(void);
uint64_t __wrap_clock_ms(void);
uint64_t __wrap_clock_coarse_ms(void);

static uint64_t shown_ns_locked(void)
{
    return slow.shown_ns + (__real_clock_ns() - slow.real_ns) / slow.slowness;
}

uint64_t __wrap_clock_ns(void)
{
    uint64_t now_ns;

    pthread_mutex_lock(&slow.lock);
    now_ns = shown_ns_locked();
    pthread_mutex_unlock(&slow.lock);
    return now_ns;
}

uint64_t __wrap_clock_ms(void)
{
    return __wrap_clock_ns() / 1000000;
}

uint64_t __wrap_clock_coarse_ms(void)
{
    return __wrap_clock_ms();
}

static void let_clock_go(unsigned slowness)
{
    pthread_mutex_lock(&slow.lock);
    slow.shown_ns = shown_ns_locked();
    slow.real_ns = __real_clock_ns();
    slow.slowness = slowness;
    pthread_mutex_unlock(&slow.lock);
}

/* By that clock. */
static void pause_ms(unsigned ms)
{
    poll(NULL, 0, (int)(ms * slow.slowness));
}

/*
 * Pauses between two steps of a client. Returns false if the machine was so slow that most_ms have
 * passed since the last step, *last_ms, which is now then.
 */
static bool pause_in_time(uint64_t *last_ms, unsigned ms, unsigned most_ms)
{
    uint64_t before_ms = *last_ms;

    pause_ms(ms);
    *last_ms = clock_ms();
    return *last_ms - before_ms < most_ms;
}

/* Until it could be judged. What is wrong fails at once, however slow the machine is. */
static void until_judged(bool (*try)(void))
{
    for (unsigned tries = 1; !try(); tries++) {
        assert_true(tries < TRIES);
        if (slow.slowness < SLOWEST)
            let_clock_go(2 * slow.slowness);
    }
    let_clock_go(1);
}

/* ------------------------------------------------------------------ who goes ---------- */

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
static bool the_oldest_head_is_sent_away_alone(void)
{
    struct weir_server *server = support_start(OPTIONS(lines, .max_connections = 2,
                                                       .head_timeout_ms = HOUR_MS));
    uint64_t began_ms, made_room;
    int heads[2], next;
    bool is_judged;

    heads[0] = support_ask(server, 0, "half a li");
    SUPPORT_AWAIT(server, parked, == 1);
    pause_ms(500);
    began_ms = clock_ms();
    heads[1] = support_ask(server, 0, "half a li");
    SUPPORT_AWAIT(server, parked, == 2);
    /* It has spoken later than the other one, and been here for longer. */
    support_say(heads[0], "xx");
    next = support_ask(server, 0, "in\n");
    support_expect_last(heads[0], "bye\n");
    support_expect(next, "in\n");
    made_room = support_stats(server).made_room;
    is_judged = clock_ms() < began_ms + SILENT_MS;
    if (is_judged) {
        assert_int_equal(made_room, 1);
        support_say(heads[1], "ne\n");
        support_expect(heads[1], "half a line\n");
    }
    close(heads[1]);
    close(next);
    weir_server_destroy(server);
    return is_judged;
}

static void the_oldest_head_goes_first(void **state)
{
    (void)state;
    until_judged(the_oldest_head_is_sent_away_alone);
}

/* False: this machine was so slow that the one that moves may have been behind, too. */
static bool the_body_that_moves_is_kept(void)
{
    static const char piece[64 << 10];
    struct weir_server *server = support_start(OPTIONS(bodies, .max_connections = 2,
                                                       .progress_timeout_ms = 60000));
    int moves = support_ask(server, 0, "head\n"), trickles, next;
    uint64_t last_ms = clock_ms();
    bool steady = true;

    SUPPORT_AWAIT(server, parked, == 1);
    trickles = support_ask(server, 0, "head\n");
    SUPPORT_AWAIT(server, parked, == 2);
    next = support_ask(server, 0, "head\n");
    for (size_t len = 0; len < BODY; len += sizeof(piece)) {
        send(trickles, "x", 1, MSG_NOSIGNAL);
        steady = pause_in_time(&last_ms, 100, 450) && steady;
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
    (void)state;
    until_judged(the_body_that_moves_is_kept);
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

/*
 * Of looks, one each 50 ms for each of two full listeners: half a second has 20 of them, and a
 * second 40. A machine that is slow has fewer.
 */
#define LOOKS_MAX 32

/* False: this machine was so slow that what ends now may have ended long ago. */
static bool is_end_seen_at_once(int fd)
{
    uint64_t last_ms = clock_ms();
    bool at_once = true;

    while (support_is_silent(fd))
        at_once = pause_in_time(&last_ms, 10, 100);
    support_expect_last(fd, "bye\n");
    return at_once;
}

/* False: this machine was so slow that nothing can be told of an order. */
static bool they_go_sooner_where_others_have_waited(void)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0", .max_connections = 1 },
        { .address = "tcp://127.0.0.1:0", .max_connections = 1 },
    };
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &lines,
        .handle_error = ignore_error, .request_timeout_ms = HOUR_MS, .head_timeout_ms = HOUR_MS));
    int first = support_ask(server, 0, "half a li"), second, last, other, next;
    uint64_t began_ms, looks;
    bool is_silent, at_once, is_judged;

    SUPPORT_AWAIT(server, parked, == 1);
    second = support_ask(server, 0, "half a li");
    last = support_ask(server, 0, "in\n");
    pause_ms(700);
    began_ms = clock_ms();
    other = support_ask(server, 1, "half a li");
    next = support_ask(server, 1, "in\n");
    support_expect_last(first, "bye\n");
    looks = support_stats(server).full;
    at_once = is_end_seen_at_once(second);
    looks = support_stats(server).full - looks;
    is_silent = support_is_silent(other);
    is_judged = clock_ms() < began_ms + SILENT_MS;
    if (is_judged)
        assert_true(is_silent);
    if (at_once)
        assert_in_range(looks, 0, LOOKS_MAX);
    support_expect_last(other, "bye\n");
    close(last);
    close(next);
    weir_server_destroy(server);
    return is_judged;
}

/* The second one of a full listener has come later than the other's, and has less time. */
static void where_others_have_waited_for_long_clients_go_sooner(void **state)
{
    (void)state;
    until_judged(they_go_sooner_where_others_have_waited);
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
static bool who_takes_a_reply_is_kept(uint32_t progress_timeout_ms)
{
    static char taken[32 << 10];
    struct weir_server *server = support_start(OPTIONS(
        endless, .max_connections = 1, .progress_timeout_ms = progress_timeout_ms));
    int takes = support_connect(server, 0), next, size = sizeof(taken);
    uint64_t last_ms = clock_ms();
    bool steady = true;

    setsockopt(takes, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    SUPPORT_AWAIT(server, parked, == 1);
    next = support_connect(server, 0);
    while (steady && support_stats(server).full < 80) {
        assert_int_equal(recv(takes, taken, sizeof(taken), MSG_WAITALL), sizeof(taken));
        steady = pause_in_time(&last_ms, 200, 450);
    }
    if (steady)
        assert_int_equal(support_stats(server).made_room, 0);
    weir_server_cancel(server);
    close(takes);
    close(next);
    weir_server_destroy(server);
    return steady;
}

static bool in_time_it_is_kept(void)
{
    return who_takes_a_reply_is_kept(60000);
}

static bool without_a_time_it_is_kept(void)
{
    return who_takes_a_reply_is_kept(0);
}

/* Room is told of in lumps, of which this client takes for more than a second. */
static void a_reply_that_is_taken_keeps_its_place(void **state)
{
    (void)state;
    until_judged(in_time_it_is_kept);
    until_judged(without_a_time_it_is_kept);
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
static bool who_never_takes_the_end_is_sent_away(void)
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
    (void)state;
    until_judged(who_never_takes_the_end_is_sent_away);
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
