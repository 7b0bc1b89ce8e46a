/*
 * side_door_test.c - workers that accept by themselves: at a door of the test's own, that is open
 * when the test says so, and at a server's in a rush.
 */
#include "tests/support.h"

#include "engine/pool/lending.h"
#include "engine/pool/side_door.h"
#include "engine/server/server.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static struct gate gate;

/* "hold" keeps its worker until the gate opens; all words come back. */
static int answer_word(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    if (line[0] == 'h')
        gate_pass(&gate);
    weir_printf(req, "%.*s", (int)n, line);
    return 0;
}

static const struct weir_handler words = { .name = "words", .handle = answer_word };

/* ------------------------------------------------------------------ a door ------------ */

struct door {
    struct weir_server *server;
    struct side_door *door;
    int listen_fd;
    int call_fd;
    struct sockaddr_in address;
    bool shared;
};

static int make_door(struct door *door)
{
    const struct side_door_config config = {
        .admission = &door->server->acceptor_config.admission,
        .fd = door->listen_fd, .endpoint = door->server->endpoints[0],
        .call_fd = door->call_fd, .shared = door->shared,
    };

    return side_door_create(&door->server->pool->crew, &config, &door->door);
}

static struct door open_door_of(const struct weir_options *options, bool shared)
{
    struct door door = { .server = support_start(options), .shared = shared };
    socklen_t len = sizeof(door.address);

    gate_init(&gate);
    door.call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    door.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    door.address = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    assert_int_equal(bind(door.listen_fd, (struct sockaddr *)&door.address, len), 0);
    assert_int_equal(listen(door.listen_fd, 100), 0);
    assert_int_equal(getsockname(door.listen_fd, (struct sockaddr *)&door.address, &len), 0);
    assert_int_equal(make_door(&door), 0);
    assert_int_equal(side_door_open(door.door), 0);
    return door;
}

static struct door open_door(const struct weir_options *options)
{
    return open_door_of(options, false);
}

/* Its workers' threads have ended when it returns. */
static void close_server(struct door *door)
{
    side_door_shut(door->door);
    close(door->listen_fd);
    weir_server_shutdown(door->server);
    assert_int_equal(weir_server_close(door->server), 0);
}

static void destroy_server(struct door *door)
{
    side_door_destroy(door->door);
    weir_server_destroy(door->server);
    close(door->call_fd);
    gate_fini(&gate);
}

static void close_door(struct door *door)
{
    gate_open(&gate);
    close_server(door);
    destroy_server(door);
}

static int come_in(const struct door *door, const char *say)
{
    struct timeval plenty = { .tv_sec = PLENTY_MS / 1000 };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &plenty, sizeof(plenty)), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&door->address, sizeof(door->address)),
                     0);
    support_say(fd, say);
    return fd;
}

static bool was_called(const struct door *door)
{
    struct pollfd pollfd = { .fd = door->call_fd, .events = POLLIN };

    return poll(&pollfd, 1, 0) == 1;
}

static _Atomic bool barred;

/* Who comes may have to wait for the gate before anybody looks at them. */
static int wait_at_gate(struct weir_server *server, const struct weir_peer *peer)
{
    (void)server;
    (void)peer;
    if (barred)
        gate_pass(&gate);
    return 1;
}

static int refuse_all(struct weir_server *server, const struct weir_peer *peer)
{
    (void)server;
    (void)peer;
    return 0;
}

#define OPTIONS(...) WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &words, __VA_ARGS__)

/* ------------------------------------------------------------------ at that door ------ */

static void workers_accept_and_serve(void **state)
{
    struct door door = open_door(OPTIONS(.workers = 2));
    int clients[50];

    (void)state;
    for (int i = 0; i < 50; i++)
        clients[i] = come_in(&door, "word\n");
    for (int i = 0; i < 50; i++)
        support_expect_last(clients[i], "word\n");
    SUPPORT_AWAIT(door.server, closed, == 50);
    assert_int_equal(side_door_taken(door.door), 50);
    assert_int_equal(support_stats(door.server).accepted, 50);
    assert_int_equal(tally_read(&door.server->acceptors[0].tally, TALLY_ACCEPTED), 0);
    assert_false(was_called(&door));
    close_door(&door);
}

static void nobody_comes_in_once_it_is_shut(void **state)
{
    struct door door = open_door(OPTIONS(.workers = 2));
    int client;

    (void)state;
    support_expect_last(come_in(&door, "word\n"), "word\n");
    side_door_shut(door.door);
    client = come_in(&door, "later\n");
    /* The workers turn, and look for what is ready. */
    support_talk(door.server, 0, "word\n", "word\n");
    assert_true(support_is_silent(client));
    assert_int_equal(side_door_taken(door.door), 1);
    assert_int_equal(side_door_open(door.door), 0);
    support_expect_last(client, "later\n");
    close_door(&door);
}

static void a_full_server_shuts_it_and_calls(void **state)
{
    struct door door = open_door(OPTIONS(.workers = 1, .max_connections = 2));
    int clients[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        clients[i] = come_in(&door, "");
    SUPPORT_UNTIL(was_called(&door));
    assert_false(side_door_is_open(door.door));
    assert_int_equal(support_stats(door.server).accepted, 2);
    support_say(clients[0], "out\n");
    support_expect_last(clients[0], "out\n");
    SUPPORT_AWAIT(door.server, closed, == 1);
    assert_int_equal(side_door_open(door.door), 0);
    for (int i = 1; i < 3; i++) {
        support_say(clients[i], "out\n");
        support_expect_last(clients[i], "out\n");
    }
    close_door(&door);
}

static void without_descriptors_it_is_shut_and_nobody_is_lost(void **state)
{
    struct door door = open_door(OPTIONS(.workers = 1));
    struct rlimit limit;
    int client;

    (void)state;
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    limit = support_leave_descriptors(0);
    assert_int_equal(connect(client, (struct sockaddr *)&door.address, sizeof(door.address)), 0);
    SUPPORT_UNTIL(was_called(&door));
    assert_false(side_door_is_open(door.door));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(side_door_open(door.door), 0);
    support_say(client, "word\n");
    support_expect_last(client, "word\n");
    close_door(&door);
}

static void who_is_not_welcome_is_refused(void **state)
{
    struct door door = open_door(OPTIONS(.workers = 1, .verify_request = refuse_all));
    int client = come_in(&door, "");

    (void)state;
    support_expect_end(client);
    close(client);
    assert_int_equal(support_stats(door.server).refused, 1);
    close_door(&door);
}

static void an_address_has_no_more_than_its_limit(void **state)
{
    struct door door = open_door(OPTIONS(.workers = 1, .max_per_address = 1));
    int first = come_in(&door, "");
    int second;

    (void)state;
    SUPPORT_AWAIT(door.server, active, == 1);
    second = come_in(&door, "");
    support_expect_end(second);
    support_say(first, "word\n");
    support_expect_last(first, "word\n");
    support_expect_last(come_in(&door, "word\n"), "word\n");
    close(second);
    close_door(&door);
}

static void *close_the_server(void *door)
{
    close_server(door);
    return NULL;
}

/* They are accepted, and no connections yet: a close waits for them all the same. */
static void a_close_forgets_nobody_who_was_accepted(void **state)
{
    struct door door = open_door(OPTIONS(.workers = 1, .verify_request = wait_at_gate));
    int clients[28];
    pthread_t closer;

    (void)state;
    /* So many have come that eight are accepted at a time. */
    barred = false;
    side_door_shut(door.door);
    for (int i = 0; i < 28; i++)
        clients[i] = come_in(&door, "word\n");
    assert_int_equal(side_door_open(door.door), 0);
    for (int i = 0; i < 28; i++)
        support_expect_last(clients[i], "word\n");
    side_door_shut(door.door);
    barred = true;
    for (int i = 0; i < 8; i++)
        clients[i] = come_in(&door, "word\n");
    assert_int_equal(side_door_open(door.door), 0);
    SUPPORT_UNTIL(side_door_taken(door.door) == 28 + 8);
    assert_int_equal(weir_server_shutdown(door.server), 0);
    assert_int_equal(pthread_create(&closer, NULL, close_the_server, &door), 0);
    SUPPORT_UNTIL(crew_draining(&door.server->pool->crew));
    gate_open(&gate);
    for (int i = 0; i < 8; i++)
        support_expect_last(clients[i], "word\n");
    pthread_join(closer, NULL);
    destroy_server(&door);
}

static void a_stuck_worker_keeps_nobody_out(void **state)
{
    struct door door = open_door(OPTIONS(.workers = 2));
    int stuck = come_in(&door, "hold\n");

    (void)state;
    SUPPORT_AWAIT(door.server, running, == 1);
    for (int i = 0; i < 40; i++)
        support_expect_last(come_in(&door, "word\n"), "word\n");
    gate_open(&gate);
    support_expect_last(stuck, "hold\n");
    close_door(&door);
}

static void only_so_many_are_had(void **state)
{
    struct door doors[CREW_SIDE_DOORS];

    (void)state;
    doors[0] = open_door(OPTIONS(.workers = 1));
    for (int i = 1; i < CREW_SIDE_DOORS; i++) {
        doors[i] = doors[0];
        assert_int_equal(make_door(&doors[i]), 0);
    }
    assert_int_equal(make_door(&(struct door){ .server = doors[0].server }), -ENOSPC);
    side_door_shut(doors[0].door);
    assert_int_equal(side_door_open(doors[CREW_SIDE_DOORS - 1].door), 0);
    support_expect_last(come_in(&doors[0], "word\n"), "word\n");
    assert_int_equal(side_door_taken(doors[CREW_SIDE_DOORS - 1].door), 1);
    side_door_shut(doors[CREW_SIDE_DOORS - 1].door);
    gate_open(&gate);
    close_server(&doors[0]);
    for (int i = 1; i < CREW_SIDE_DOORS; i++)
        side_door_destroy(doors[i].door);
    destroy_server(&doors[0]);
}

/* ------------------------------------------------------------------ a shared door ----- */

/* Of the threads of this process. */
static bool is_asleep(pid_t tid)
{
    char path[64], state = '?';
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
    file = fopen(path, "re");
    if (!file)
        return false;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = '?';
    fclose(file);
    return state == 'S';
}

static void let_worker_fall_asleep(const struct door *door)
{
    struct pool *pool = door->server->pool;

    SUPPORT_UNTIL(handoff_everyone_asleep(&pool->crew.handoff) && is_asleep(pool->workers[0].tid));
}

/* It stands in line for the door's clients as another process would, and turns one of them away. */
struct other {
    pthread_t thread;
    int listen_fd;
    int set;
    _Atomic pid_t tid;
    _Atomic bool called;
};

static void *wait_for_a_client(void *arg)
{
    struct other *other = arg;
    struct epoll_event event;

    other->tid = gettid();
    if (epoll_wait(other->set, &event, 1, PLENTY_MS) == 1) {
        other->called = true;
        close(accept(other->listen_fd, NULL, NULL));
    }
    return NULL;
}

static void stand_behind(const struct door *door, struct other *other)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLEXCLUSIVE };

    *other = (struct other){ .listen_fd = door->listen_fd, .set = epoll_create1(EPOLL_CLOEXEC) };
    assert_int_equal(epoll_ctl(other->set, EPOLL_CTL_ADD, other->listen_fd, &event), 0);
    assert_int_equal(pthread_create(&other->thread, NULL, wait_for_a_client, other), 0);
    SUPPORT_UNTIL(other->tid != 0 && is_asleep(other->tid));
}

static void who_has_accepted_goes_behind_the_other_processes(void **state)
{
    struct door door = open_door_of(OPTIONS(.workers = 1), true);
    struct other other;

    (void)state;
    stand_behind(&door, &other);
    let_worker_fall_asleep(&door);
    support_expect_last(come_in(&door, "word\n"), "word\n");
    assert_false(other.called);
    let_worker_fall_asleep(&door);
    support_expect_last(come_in(&door, "word\n"), "");
    assert_true(other.called);
    assert_int_equal(side_door_taken(door.door), 1);
    pthread_join(other.thread, NULL);
    close(other.set);
    close_door(&door);
}

/* The next client would call a process that can't take anybody. */
static void who_takes_the_last_place_leaves_the_line(void **state)
{
    struct door door = open_door_of(OPTIONS(.workers = 1, .max_connections = 2), true);
    int clients[2];

    (void)state;
    clients[0] = come_in(&door, "");
    SUPPORT_AWAIT(door.server, accepted, == 1);
    assert_true(side_door_is_open(door.door));
    assert_false(was_called(&door));
    clients[1] = come_in(&door, "");
    SUPPORT_UNTIL(was_called(&door));
    assert_false(side_door_is_open(door.door));
    for (int i = 0; i < 2; i++) {
        support_say(clients[i], "out\n");
        support_expect_last(clients[i], "out\n");
    }
    close_door(&door);
}

/* ------------------------------------------------------------------ in a rush --------- */

static uint64_t accepted_by_workers(struct weir_server *server)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < server->pool->workers_len; i++)
        sum += tally_read(&server->pool->workers[i].tally, TALLY_ACCEPTED);
    return sum;
}

enum { CROWD = 100 };

static _Atomic bool holding;
static _Atomic unsigned held, let_in;

/* Whoever accepts stays at the gate until the crowd is there. */
static int hold_at_gate(struct weir_server *server, const struct weir_peer *peer)
{
    (void)server;
    (void)peer;
    if (holding) {
        held++;
        gate_pass(&gate);
        let_in++;
    }
    return 1;
}

#define RUSHED OPTIONS(.workers = 2, .verify_request = hold_at_gate)

/* All of them have connected and asked when the first is let in: so many are found at once. */
static void come_in_a_crowd(struct weir_server *server)
{
    int clients[CROWD];

    gate_init(&gate);
    held = let_in = 0;
    holding = true;
    clients[0] = support_ask(server, 0, "word\n");
    SUPPORT_UNTIL(held > 0);
    for (int i = 1; i < CROWD; i++)
        clients[i] = support_ask(server, 0, "word\n");
    holding = false;
    gate_open(&gate);
    for (int i = 0; i < CROWD; i++)
        support_expect_last(clients[i], "word\n");
    SUPPORT_UNTIL(let_in == held);
    gate_fini(&gate);
}

/* Whether a crowd is a rush is also a matter of who else has the CPU. */
static unsigned rush(struct weir_server *server)
{
    struct support_patience patience = support_patience();
    uint64_t before = accepted_by_workers(server);
    unsigned crowds = 0;

    do {
        support_be_patient(&patience, "a rush", __FILE__, __LINE__);
        come_in_a_crowd(server);
        crowds++;
    } while (accepted_by_workers(server) == before);
    return crowds;
}

static void in_a_rush_workers_accept_and_all_are_counted(void **state)
{
    struct weir_server *server = support_start(RUSHED);
    unsigned crowds = rush(server);
    struct weir_stats stats;

    (void)state;
    SUPPORT_AWAIT(server, closed, == crowds * CROWD);
    stats = support_stats(server);
    assert_int_equal(stats.accepted, crowds * CROWD);
    assert_int_equal(stats.handled, crowds * CROWD);
    assert_int_equal(stats.refused, 0);
    assert_int_equal(stats.accept_errors, 0);
    weir_server_destroy(server);
}

static void at_rest_the_acceptor_accepts_again(void **state)
{
    struct weir_server *server = support_start(RUSHED);
    const struct tally *tally = &server->acceptors[0].tally;
    uint64_t before;

    (void)state;
    rush(server);
    before = tally_read(tally, TALLY_ACCEPTED);
    /* Each of them comes when nobody has for as long as makes a rest. */
    SUPPORT_UNTIL((usleep(LENDING_CALM_MS * 1000), support_talk(server, 0, "word\n", "word\n"),
                   tally_read(tally, TALLY_ACCEPTED) > before));
    weir_server_destroy(server);
}

static void after_a_shutdown_nobody_accepts_until_it_serves_again(void **state)
{
    struct weir_server *server = support_start(RUSHED);
    uint64_t before;
    int client;

    (void)state;
    for (int i = 0; i < 5; i++) {
        rush(server);
        assert_int_equal(weir_server_shutdown(server), 0);
        before = support_stats(server).accepted;
        client = support_ask(server, 0, "later\n");
        assert_true(support_is_silent(client));
        assert_int_equal(support_stats(server).accepted, before);
        assert_int_equal(weir_server_start(server), 0);
        support_expect_last(client, "later\n");
    }
    weir_server_destroy(server);
}

static void a_close_in_a_rush_refuses_who_comes_later(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct weir_server *server = support_start(RUSHED);
        size_t before;

        rush(server);
        assert_int_equal(weir_server_shutdown(server), 0);
        before = support_open_descriptors();
        assert_int_equal(weir_server_close(server), 0);
        assert_in_range(support_open_descriptors(), 0, before - 1);
        weir_server_destroy(server);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workers_accept_and_serve),
        cmocka_unit_test(nobody_comes_in_once_it_is_shut),
        cmocka_unit_test(a_full_server_shuts_it_and_calls),
        cmocka_unit_test(without_descriptors_it_is_shut_and_nobody_is_lost),
        cmocka_unit_test(who_is_not_welcome_is_refused),
        cmocka_unit_test(an_address_has_no_more_than_its_limit),
        cmocka_unit_test(a_close_forgets_nobody_who_was_accepted),
        cmocka_unit_test(a_stuck_worker_keeps_nobody_out),
        cmocka_unit_test(only_so_many_are_had),
        cmocka_unit_test(who_has_accepted_goes_behind_the_other_processes),
        cmocka_unit_test(who_takes_the_last_place_leaves_the_line),
        cmocka_unit_test(in_a_rush_workers_accept_and_all_are_counted),
        cmocka_unit_test(at_rest_the_acceptor_accepts_again),
        cmocka_unit_test(after_a_shutdown_nobody_accepts_until_it_serves_again),
        cmocka_unit_test(a_close_in_a_rush_refuses_who_comes_later),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
