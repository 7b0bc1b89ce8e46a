/*
 * stress_test.c - everything at once: clients that talk, pipeline, stall, vanish and reset, against
 * handlers that keep, loop, sleep, yield, offload, block and fail. What must hold at the end is
 * that every answer was right and that the counts add up.
 */
#include "tests/support.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DURATION_MS 1000
#define THREADS 16
#define SLOTS 16                /* connections of a thread at a time */
#define LINE_MAX_LEN 3000
#define PIPELINED_MAX 5
#define LISTENERS 4

/* ------------------------------------------------------------------ the handler ------- */

static _Atomic uint64_t set_up;
static _Atomic uint64_t finished;

static int count_setup(struct weir_request *req)
{
    (void)req;
    set_up++;
    return 0;
}

static int count_finish(struct weir_request *req, int status)
{
    (void)req;
    (void)status;
    finished++;
    return 0;
}

static int nap(void *arg)
{
    (void)arg;
    usleep(200);
    return 0;
}

/* The first letter of a line says how it is dealt with before it is sent back. */
static int deal_with(struct weir_request *req, char letter)
{
    switch (letter) {
    case 's':
        return weir_sleep(req, 1);
    case 'y':
        return weir_yield(req);
    case 'o':
        return weir_offload(req, nap, NULL);
    case 'b':
        usleep(500);
        return 0;
    default:
        return 0;
    }
}

/* WEIR_KEEP, 0 for the end, or what went wrong. */
static int answer_line(struct weir_request *req)
{
    char copy[LINE_MAX_LEN];
    char *line;
    ssize_t n = weir_readline(req, &line, sizeof(copy));
    int r;

    if (n <= 0)
        return (int)n;
    memcpy(copy, line, (size_t)n);
    r = deal_with(req, copy[0]);
    if (r < 0)
        return r;
    n = weir_write(req, copy, (size_t)n);
    if (n < 0)
        return (int)n;
    return copy[0] == 'x' ? 0 : copy[0] == 'f' ? -EBADMSG : WEIR_KEEP;
}

static int answer_lines(struct weir_request *req)
{
    int r;

    do
        r = answer_line(req);
    while (r == WEIR_KEEP);
    return r;
}

/* ------------------------------------------------------------------ ... with children -- */

struct answer {
    char line[LINE_MAX_LEN];
    size_t len;
};

static int wait_as_told(struct weir_request *req, void *letter)
{
    return deal_with(req, *(const char *)letter);
}

/* The line's own wait is one of three, of children of the one that answers. */
static int answer_in_child(struct weir_request *req, void *arg)
{
    static char others[] = "sy";
    struct answer *answer = arg;
    ssize_t n;
    int r;

    for (int i = 0; i < 2; i++)
        weir_spawn(req, wait_as_told, &others[i]);
    weir_spawn(req, wait_as_told, answer->line);
    r = weir_join(req, WEIR_ALL_CHILDREN);
    if (r < 0)
        return r;
    n = weir_write(req, answer->line, answer->len);
    return n < 0 ? (int)n : weir_flush(req);
}

/* Answers one line while it reads the next one. */
static int answer_while_reading(struct weir_request *req)
{
    struct answer answers[2];
    char *line;
    int child = 0;
    ssize_t n;
    int r = 0;

    for (unsigned i = 0; r == 0; i++) {
        struct answer *answer = &answers[i % 2];

        n = weir_readline(req, &line, sizeof(answer->line));
        if (n > 0)
            memcpy(answer->line, line, (size_t)n);
        r = child > 0 ? weir_join(req, child) : 0;
        if (n <= 0 || r < 0)
            return n < 0 ? (int)n : r;
        answer->len = (size_t)n;
        child = weir_spawn(req, answer_in_child, answer);
        if (child < 0)
            return child;
        if (answer->line[0] == 'x' || answer->line[0] == 'f')
            break;
    }
    r = weir_join(req, child);
    return r < 0 ? r : answers[0].line[0] == 'f' || answers[1].line[0] == 'f' ? -EBADMSG : 0;
}

static void ignore_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    (void)failure;
}

static const struct weir_handler keeping = {
    .name = "keeping", .setup = count_setup, .handle = answer_line, .finish = count_finish,
};
static const struct weir_handler looping = {
    .name = "looping", .setup = count_setup, .handle = answer_lines, .finish = count_finish,
};
static const struct weir_handler duplex = {
    .name = "duplex", .setup = count_setup, .handle = answer_while_reading,
    .finish = count_finish,
};

/* ------------------------------------------------------------------ the clients ------- */

struct client {
    struct sockaddr_storage addresses[LISTENERS];
    socklen_t lens[LISTENERS];
    bool torn;                  /* the server is going to end in the middle of it */
    unsigned seed;
    int slots[SLOTS];
    uint64_t until_ms;
    uint64_t connected;
    uint64_t wrong;
};

static unsigned roll(struct client *client, unsigned n)
{
    return (unsigned)rand_r(&client->seed) % n;
}

static void hang_up(int *slot)
{
    close(*slot);
    *slot = -1;
}

static void went_wrong(struct client *client, int *slot)
{
    client->wrong++;
    hang_up(slot);
}

static void call(struct client *client, int *slot)
{
    const struct timeval plenty = { .tv_sec = PLENTY_MS / 1000 };
    const int yes = 1;
    unsigned which = roll(client, LISTENERS);

    *slot = socket(client->addresses[which].ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(*slot, SOL_SOCKET, SO_RCVTIMEO, &plenty, sizeof(plenty));
    setsockopt(*slot, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    if (connect(*slot, (struct sockaddr *)&client->addresses[which], client->lens[which]) == 0)
        client->connected++;
    else
        went_wrong(client, slot);
}

/* A line of any length, to be dealt with in any way. Returns its length. */
static size_t make_line(struct client *client, char *line, char letter)
{
    size_t len = 2 + (roll(client, 4) ? roll(client, 40) : roll(client, LINE_MAX_LEN - 2));

    memset(line, 'a' + (int)roll(client, 26), len);
    line[0] = letter;
    line[len - 1] = '\n';
    return len;
}

static char any_letter(struct client *client)
{
    static const char letters[] = "eeeeeeeeeeeeeeeeeeeessyyyyoob";

    return letters[roll(client, sizeof(letters) - 1)];
}

/* In pieces now and then. */
static bool send_line(struct client *client, int fd, const char *line, size_t len)
{
    size_t piece = roll(client, 3) ? len : 1 + roll(client, (unsigned)len);

    return send(fd, line, piece, MSG_NOSIGNAL) == (ssize_t)piece &&
           (piece == len ||
            send(fd, line + piece, len - piece, MSG_NOSIGNAL) == (ssize_t)(len - piece));
}

static bool comes_back(int fd, const char *line, size_t len)
{
    char answer[LINE_MAX_LEN * PIPELINED_MAX];

    return recv(fd, answer, len, MSG_WAITALL) == (ssize_t)len && memcmp(answer, line, len) == 0;
}

static bool ends(int fd)
{
    char byte;

    return recv(fd, &byte, 1, 0) <= 0 && errno != EAGAIN;
}

static bool talk(struct client *client, int fd)
{
    char line[LINE_MAX_LEN];
    size_t len = make_line(client, line, any_letter(client));

    return send_line(client, fd, line, len) && comes_back(fd, line, len);
}

static bool pipeline(struct client *client, int fd)
{
    char lines[LINE_MAX_LEN * PIPELINED_MAX];
    unsigned count = 2 + roll(client, PIPELINED_MAX - 1);
    size_t len = 0;

    while (count-- > 0)
        len += make_line(client, lines + len, any_letter(client));
    return send_line(client, fd, lines, len) && comes_back(fd, lines, len);
}

/* A last line, and the server's end after the answer: it was asked to, or sees ours. */
static bool say_good_bye(struct client *client, int fd, char letter)
{
    char line[LINE_MAX_LEN];
    size_t len = make_line(client, line, letter);

    if (!send_line(client, fd, line, len))
        return false;
    if (letter == 'e')
        shutdown(fd, SHUT_WR);
    errno = 0;
    return comes_back(fd, line, len) && ends(fd);
}

static void vanish(struct client *client, int *slot)
{
    char line[LINE_MAX_LEN];
    size_t len = make_line(client, line, any_letter(client));

    /* In the middle of a line, or with its answer on the way. */
    send_line(client, *slot, line, roll(client, 2) ? len : len / 2);
    if (roll(client, 2))
        support_reset(*slot);
    else
        close(*slot);
    *slot = -1;
}

static void step(struct client *client, int *slot)
{
    unsigned what = roll(client, 100);
    bool right = true;

    if (*slot < 0) {
        call(client, slot);
        return;
    }
    if (what < 75) {
        right = talk(client, *slot);
    } else if (what < 85) {
        right = pipeline(client, *slot);
    } else if (what < 92) {
        vanish(client, slot);
        return;
    } else {
        right = say_good_bye(client, *slot, "exf"[roll(client, 3)]);
        if (right)
            hang_up(slot);
    }
    if (!right)
        went_wrong(client, slot);
}

static void *be_a_client(void *arg)
{
    struct client *client = arg;

    for (int i = 0; i < SLOTS; i++)
        client->slots[i] = -1;
    while (support_now_ms() < client->until_ms) {
        /* Of a server that has ended, nobody can ask for more. */
        if (client->torn && client->wrong > SLOTS)
            break;
        step(client, &client->slots[roll(client, SLOTS)]);
    }
    for (int i = 0; i < SLOTS; i++)
        if (client->slots[i] >= 0)
            close(client->slots[i]);
    return NULL;
}

/* ------------------------------------------------------------------ the tests --------- */

struct crowd {
    struct client clients[THREADS];
    pthread_t threads[THREADS];
};

/* What a client in a thread of its own, which can't fail the test, needs to know beforehand. */
static void look_up(struct weir_server *server, struct client *client)
{
    for (size_t i = 0; i < LISTENERS; i++) {
        int fd = support_connect(server, i);

        client->lens[i] = sizeof(client->addresses[i]);
        assert_int_equal(getpeername(fd, (struct sockaddr *)&client->addresses[i],
                                     &client->lens[i]), 0);
        close(fd);
        client->connected++;
    }
}

static void let_in(struct crowd *crowd, struct weir_server *server, bool torn)
{
    uint64_t until_ms = support_now_ms() + DURATION_MS;

    for (unsigned i = 0; i < THREADS; i++) {
        crowd->clients[i] = (struct client){ .seed = i + 1, .until_ms = until_ms, .torn = torn };
        look_up(server, &crowd->clients[i]);
        assert_int_equal(pthread_create(&crowd->threads[i], NULL, be_a_client,
                                        &crowd->clients[i]), 0);
    }
}

static void see_out(struct crowd *crowd, uint64_t *ret_connected, uint64_t *ret_wrong)
{
    *ret_connected = 0;
    *ret_wrong = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(crowd->threads[i], NULL);
        *ret_connected += crowd->clients[i].connected;
        *ret_wrong += crowd->clients[i].wrong;
    }
}

static struct weir_server *started(enum weir_dispatch dispatch)
{
    const struct weir_listen listeners[LISTENERS] = {
        { .address = "tcp://127.0.0.1:0", .handler = &keeping },
        { .address = "tcp://127.0.0.1:0", .handler = &looping },
        { .address = support_abstract("stress"), .handler = &looping },
        { .address = "tcp://127.0.0.1:0", .handler = &duplex },
    };

    set_up = 0;
    finished = 0;
    return support_start(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = LISTENERS, .handle_error = ignore_error,
        .workers = 4, .dispatch = dispatch, .read_timeout_ms = PLENTY_MS,
        .write_timeout_ms = PLENTY_MS, .idle_timeout_ms = PLENTY_MS, .drain_timeout_ms = 20));
}

static void assert_everybody_is_served(enum weir_dispatch dispatch)
{
    struct weir_server *server = started(dispatch);
    struct crowd *crowd = test_calloc(1, sizeof(*crowd));
    struct weir_stats stats;
    uint64_t connected;
    uint64_t wrong;

    let_in(crowd, server, false);
    see_out(crowd, &connected, &wrong);
    test_free(crowd);
    assert_int_equal(wrong, 0);
    SUPPORT_AWAIT(server, accepted, == connected);
    SUPPORT_AWAIT(server, closed, == connected);
    stats = support_stats(server);
    assert_int_equal(stats.active, 0);
    assert_int_equal(stats.refused, 0);
    assert_int_equal(stats.setup_errors + stats.finish_errors, 0);
    assert_int_equal(stats.timeouts + stats.cancelled, 0);
    assert_int_equal(set_up, connected);
    assert_int_equal(finished, connected);
    weir_server_destroy(server);
}

static void everybody_is_served_by_workers_that_wait_themselves(void **state)
{
    (void)state;
    assert_everybody_is_served(WEIR_DISPATCH_WORKER);
}

static void everybody_is_served_by_workers_that_the_acceptor_waits_for(void **state)
{
    (void)state;
    assert_everybody_is_served(WEIR_DISPATCH_ACCEPTOR);
}

/* Drained for a moment, then cancelled, with everything under way. */
static void assert_nobody_is_forgotten(enum weir_dispatch dispatch)
{
    struct weir_server *server = started(dispatch);
    struct crowd *crowd = test_calloc(1, sizeof(*crowd));
    struct weir_stats stats;
    uint64_t connected;
    uint64_t wrong;

    let_in(crowd, server, true);
    SUPPORT_AWAIT(server, closed, > 20);
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_close(server), 0);
    stats = support_stats(server);
    assert_int_equal(stats.active, 0);
    assert_int_equal(stats.refused, 0);
    assert_int_equal(stats.closed, stats.accepted);
    assert_int_equal(set_up, stats.accepted);
    assert_int_equal(finished, stats.accepted);
    weir_server_destroy(server);
    see_out(crowd, &connected, &wrong);
    test_free(crowd);
    assert_true(connected >= stats.accepted);
}

static void nobody_is_forgotten_when_it_ends_in_the_middle(void **state)
{
    (void)state;
    assert_nobody_is_forgotten(WEIR_DISPATCH_WORKER);
    assert_nobody_is_forgotten(WEIR_DISPATCH_ACCEPTOR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_is_served_by_workers_that_wait_themselves),
        cmocka_unit_test(everybody_is_served_by_workers_that_the_acceptor_waits_for),
        cmocka_unit_test(nobody_is_forgotten_when_it_ends_in_the_middle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
