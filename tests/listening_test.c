/*
 * listening_test.c - each state of a listener, and how it is left. Time is what the test says it
 * is.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/accept/listening.h"
#include "engine/base/clock.h"
#include "engine/sync/reclaim.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TOKEN 77

static const struct weir_handler handler = { .name = "test" };
static struct quota quota = { .max = 10 };
static const struct endpoint endpoint = {
    .handler = &handler, .quota = &quota, .uri = "unix:@test",
};

static struct listening listening;
static struct sockaddr_un address;
static socklen_t address_len;
static int set;
/* Of a crew that lends only the workers' sets are looked at. */
static struct epoll_set worker_set;
static struct crew crew;

static int set_up_of_type(int type)
{
    struct listener listener = { .type = type };

    listener.fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* Bound to nothing: the kernel chooses a name. */
    address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    address_len = sizeof(address);
    if (bind(listener.fd, (struct sockaddr *)&address, sizeof(sa_family_t)) < 0 ||
        getsockname(listener.fd, (struct sockaddr *)&address, &address_len) < 0 ||
        (type == SOCK_STREAM && listen(listener.fd, 10) < 0))
        return -1;
    set = epoll_create1(EPOLL_CLOEXEC);
    worker_set.fd = epoll_create1(EPOLL_CLOEXEC);
    memset(&crew, 0, sizeof(crew));
    crew.sets = &worker_set;
    crew.common.fd = -1;
    crew.handoff.workers = 1;
    listening_init(&listening, &listener, &endpoint, set, TOKEN);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    return set_up_of_type(SOCK_STREAM);
}

static int tear_down(void **state)
{
    (void)state;
    if (listening.state == LISTENING_LENT)
        listening_take_back(&listening);
    listening_close(&listening);
    assert_int_equal(listening.state, LISTENING_CLOSED);
    listening_fini(&listening);
    close(set);
    close(worker_set.fd);
    return 0;
}

static int come(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&address, address_len), 0);
    return fd;
}

/* How many events the acceptor would get now. */
static int events(void)
{
    struct epoll_event event;
    int n = epoll_wait(set, &event, 1, 0);

    if (n > 0)
        assert_int_equal(event.data.u64, TOKEN);
    return n;
}

/* Takes who waits out of the backlog. */
static void let_go(int client)
{
    int fd = accept(listening.listener.fd, NULL, NULL);

    assert_true(fd >= 0);
    close(fd);
    close(client);
}

static int lend(uint64_t now_ms)
{
    return listening_lend(&listening, &crew, &(const struct side_door_config){
        .fd = listening.listener.fd, .endpoint = &endpoint,
    }, now_ms);
}

/* ------------------------------------------------------------------ one's own --------- */

static void what_is_the_childrens_is_never_looked_at(void **state)
{
    int client = come();

    (void)state;
    assert_int_equal(listening.state, LISTENING_CHILDRENS);
    assert_int_equal(events(), 0);
    listening_call(&listening);
    listening_rest(&listening, 5);
    assert_int_equal(listening.state, LISTENING_CHILDRENS);
    assert_int_equal(listening_due_ms(&listening), CLOCK_NEVER);
    let_go(client);
}

static void an_edge_makes_it_ready_until_it_runs_dry(void **state)
{
    int client;

    (void)state;
    assert_int_equal(listening_watch(&listening), 0);
    assert_int_equal(listening.state, LISTENING_WATCHED);
    assert_int_equal(listening_count_waiting(&listening), 0);
    assert_int_equal(events(), 0);
    client = come();
    assert_int_equal(listening_count_waiting(&listening), 1);
    assert_int_equal(events(), 1);
    /* Edge-triggered: it is told once. */
    assert_int_equal(events(), 0);
    listening_call(&listening);
    assert_int_equal(listening.state, LISTENING_READY);
    let_go(client);
    listening_run_dry(&listening);
    assert_int_equal(listening.state, LISTENING_WATCHED);
    client = come();
    assert_int_equal(events(), 1);
    let_go(client);
}

static void what_cannot_be_watched_is_as_it_was(void **state)
{
    (void)state;
    listening.epoll_fd = -1;
    assert_true(listening_watch(&listening) < 0);
    assert_int_equal(listening.state, LISTENING_CHILDRENS);
}

static void who_comes_while_it_rests_is_looked_for_when_it_wakes(void **state)
{
    int client;

    (void)state;
    assert_int_equal(listening_watch(&listening), 0);
    listening_rest(&listening, 1000);
    assert_int_equal(listening.state, LISTENING_RESTING);
    assert_int_equal(listening_due_ms(&listening), 1000);
    client = come();
    assert_int_equal(events(), 1);
    listening_call(&listening);
    assert_int_equal(listening.state, LISTENING_RESTING);
    listening_rest(&listening, 2000);
    assert_int_equal(listening_due_ms(&listening), 2000);
    listening_wake(&listening);
    assert_int_equal(listening.state, LISTENING_READY);
    assert_int_equal(listening_due_ms(&listening), CLOCK_NEVER);
    listening_rest(&listening, 3000);
    assert_int_equal(listening.state, LISTENING_RESTING);
    let_go(client);
}

/* ------------------------------------------------------------------ lent -------------- */

static void what_is_lent_is_the_workers_until_it_is_taken_back(void **state)
{
    struct epoll_event event;
    int client;

    (void)state;
    assert_int_equal(listening_watch(&listening), 0);
    listening_call(&listening);
    assert_int_equal(lend(1000), 0);
    assert_int_equal(listening.state, LISTENING_LENT);
    assert_int_equal(listening_due_ms(&listening), 1000 + LENDING_CALM_MS);
    client = come();
    assert_int_equal(events(), 0);
    assert_int_equal(epoll_wait(worker_set.fd, &event, 1, 0), 1);
    listening_call(&listening);
    listening_rest(&listening, 5);
    assert_int_equal(listening.state, LISTENING_LENT);
    listening_take_back(&listening);
    assert_int_equal(listening.state, LISTENING_WATCHED);
    /* Who waits already is told of. */
    assert_int_equal(events(), 1);
    assert_int_equal(epoll_wait(worker_set.fd, &event, 1, 0), 0);
    let_go(client);
}

static void what_cannot_be_watched_again_is_taken_back_later(void **state)
{
    int client;

    (void)state;
    assert_int_equal(listening_watch(&listening), 0);
    listening_call(&listening);
    assert_int_equal(lend(1000), 0);
    client = come();
    listening.epoll_fd = -1;
    listening_take_back(&listening);
    assert_int_equal(listening.state, LISTENING_LENT);
    assert_false(lending_goes_on(&listening.lending, 1000));
    listening.epoll_fd = set;
    listening_take_back(&listening);
    assert_int_equal(listening.state, LISTENING_WATCHED);
    assert_int_equal(events(), 1);
    let_go(client);
}

static void what_the_workers_cannot_watch_stays_ready(void **state)
{
    int fd = worker_set.fd;

    (void)state;
    assert_int_equal(listening_watch(&listening), 0);
    listening_call(&listening);
    worker_set.fd = -1;
    assert_true(lend(1000) < 0);
    worker_set.fd = fd;
    assert_int_equal(listening.state, LISTENING_READY);
}

/* ------------------------------------------------------------------ shared ------------ */

static void out_of_line_it_hears_of_nobody_but_by_a_call(void **state)
{
    int client = come();

    (void)state;
    listening_share(&listening);
    assert_int_equal(listening.state, LISTENING_ASIDE);
    assert_int_equal(events(), 0);
    listening_call(&listening);
    assert_int_equal(listening.state, LISTENING_READY);
    let_go(client);
    listening_run_dry(&listening);
    assert_int_equal(listening.state, LISTENING_ASIDE);
}

static void who_is_called_has_left_the_line(void **state)
{
    int clients[2];

    (void)state;
    listening_share(&listening);
    assert_int_equal(listening_stand_in_line(&listening), 0);
    assert_int_equal(listening.state, LISTENING_IN_LINE);
    clients[0] = come();
    assert_int_equal(events(), 1);
    listening_call(&listening);
    assert_int_equal(listening.state, LISTENING_READY);
    clients[1] = come();
    assert_int_equal(events(), 0);
    let_go(clients[0]);
    listening_run_dry(&listening);
    /* Who waits is told of in line, too. */
    assert_int_equal(listening_stand_in_line(&listening), 0);
    assert_int_equal(events(), 1);
    let_go(clients[1]);
}

static void who_waits_when_a_shared_one_is_taken_back_is_looked_for(void **state)
{
    struct epoll_event event;
    int client;

    (void)state;
    listening_share(&listening);
    listening_call(&listening);
    listening_run_dry(&listening);
    assert_int_equal(lend(1000), 0);
    assert_int_equal(listening.state, LISTENING_LENT);
    client = come();
    assert_int_equal(epoll_wait(worker_set.fd, &event, 1, 0), 1);
    listening_take_back(&listening);
    assert_int_equal(listening.state, LISTENING_READY);
    assert_int_equal(epoll_wait(worker_set.fd, &event, 1, 0), 0);
    /* The worker has been called for that client, and no other process. */
    assert_true(listening_may_be_called(&listening));
    let_go(client);
    listening_note_client(&listening);
    assert_false(listening_may_be_called(&listening));
    listening_run_dry(&listening);
    assert_int_equal(listening.state, LISTENING_ASIDE);
}

static void a_call_takes_back_a_shared_one(void **state)
{
    struct epoll_event event;
    int client;

    (void)state;
    listening_share(&listening);
    assert_int_equal(lend(1000), 0);
    listening_call(&listening);
    assert_int_equal(listening.state, LISTENING_READY);
    client = come();
    assert_int_equal(epoll_wait(worker_set.fd, &event, 1, 0), 0);
    let_go(client);
}

static void a_shared_one_rests_out_of_line(void **state)
{
    int client;

    (void)state;
    listening_share(&listening);
    assert_int_equal(listening_stand_in_line(&listening), 0);
    listening_rest(&listening, 1000);
    assert_int_equal(listening.state, LISTENING_RESTING);
    client = come();
    assert_int_equal(events(), 0);
    /* Not even the parent's call ends its rest. */
    listening_call(&listening);
    assert_int_equal(listening.state, LISTENING_RESTING);
    listening_wake(&listening);
    assert_int_equal(listening.state, LISTENING_ASIDE);
    assert_int_equal(listening_stand_in_line(&listening), 0);
    assert_int_equal(events(), 1);
    listening_leave_line(&listening);
    assert_int_equal(listening.state, LISTENING_ASIDE);
    let_go(client);
}

/* ------------------------------------------------------------------ datagrams --------- */

static int set_up_socket(void **state)
{
    (void)state;
    reclaim_thread_init();
    if (set_up_of_type(SOCK_DGRAM) < 0 || connection_table_init(&crew.table) < 0)
        return -1;
    connection_table_add_quota(&crew.table, &quota);
    return 0;
}

static int tear_down_socket(void **state)
{
    tear_down(state);
    connection_table_fini(&crew.table);
    reclaim_thread_fini();
    return 0;
}

static void a_socket_of_the_pool_is_deaf_for_a_while(void **state)
{
    (void)state;
    assert_int_equal(listening_give_to_pool(&listening, &crew, &(const struct receiver_config){
        .call_fd = -1,
    }), 0);
    assert_int_equal(listening.state, LISTENING_POOLS);
    listening_call(&listening);
    listening_rest(&listening, 5);
    assert_int_equal(listening.state, LISTENING_POOLS);
    assert_true(listening_deafen(&listening, 1050, 1000));
    assert_int_equal(listening.state, LISTENING_DEAF);
    assert_int_equal(listening_due_ms(&listening), 1050);
    /* It is said once, and again when it has heard for a second. */
    assert_false(listening_deafen(&listening, 1150, 1100));
    assert_false(listening_deafen(&listening, 2150, 2100));
    assert_true(listening_deafen(&listening, 3151, 3101));
    assert_int_equal(listening_due_ms(&listening), 3151);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_the_childrens_is_never_looked_at),
        TEST(an_edge_makes_it_ready_until_it_runs_dry),
        TEST(what_cannot_be_watched_is_as_it_was),
        TEST(who_comes_while_it_rests_is_looked_for_when_it_wakes),
        TEST(what_is_lent_is_the_workers_until_it_is_taken_back),
        TEST(what_cannot_be_watched_again_is_taken_back_later),
        TEST(what_the_workers_cannot_watch_stays_ready),
        TEST(out_of_line_it_hears_of_nobody_but_by_a_call),
        TEST(who_is_called_has_left_the_line),
        TEST(who_waits_when_a_shared_one_is_taken_back_is_looked_for),
        TEST(a_call_takes_back_a_shared_one),
        TEST(a_shared_one_rests_out_of_line),
        cmocka_unit_test_setup_teardown(a_socket_of_the_pool_is_deaf_for_a_while, set_up_socket,
                                        tear_down_socket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
