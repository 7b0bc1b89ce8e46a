/*
 * connection_test.c - the state word, the table, the registration, each by itself.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/pool/connection.h"
#include "engine/sync/reclaim.h"

#define HIGH_FD 600

/* What every test has: a table with one connection, RUNNING, and the other end of its socket. */
struct house {
    struct connection_table table;
    struct connection *conn;
    int peer_fd;
};

static struct house house;
static const struct weir_handler handler = { .name = "test", .state_size = 24 };
static struct quota quota = { .max = 1000 };
static const struct endpoint endpoint = {
    .handler = &handler, .quota = &quota, .uri = "unix:@test",
};

static struct connection *enter_by(const struct endpoint *by, int *ret_peer_fd)
{
    const struct sockaddr unnamed = { .sa_family = AF_UNIX };
    struct connection *conn;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(quota_take(by->quota, 1), 1);
    conn = connection_create(&house.table, fds[0], &unnamed, sizeof(sa_family_t), &handler,
                             by);
    assert_non_null(conn);
    *ret_peer_fd = fds[1];
    return conn;
}

static struct connection *enter(int *ret_peer_fd)
{
    return enter_by(&endpoint, ret_peer_fd);
}

static int open_house(void **state)
{
    *state = &house;
    reclaim_thread_init();
    if (connection_table_init(&house.table) < 0)
        return -1;
    connection_table_add_quota(&house.table, &quota);
    house.conn = enter(&house.peer_fd);
    connection_start(house.conn);
    return 0;
}

static int close_house(void **state)
{
    (void)state;
    if (house.conn)
        connection_close(&house.table, house.conn);
    close(house.peer_fd);
    connection_table_fini(&house.table);
    reclaim_thread_fini();
    return 0;
}

static void expect_state(enum connection_state state)
{
    assert_int_equal(connection_state(house.conn), state);
}

/* ------------------------------------------------------------------ the state word ---- */

static void an_accepted_connection_is_queued_and_then_runs(void **state)
{
    struct connection *conn;
    int peer_fd;

    (void)state;
    conn = enter(&peer_fd);
    assert_int_equal(connection_state(conn), CONNECTION_QUEUED);
    connection_start(conn);
    assert_int_equal(connection_state(conn), CONNECTION_RUNNING);
    connection_close(&house.table, conn);
    close(peer_fd);
}

static void an_opened_connection_runs_from_the_beginning(void **state)
{
    struct connection *conn;
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    conn = connection_create_opened(&house.table, fds[0], AF_UNIX, &endpoint, NULL);
    assert_int_equal(connection_state(conn), CONNECTION_RUNNING);
    assert_int_equal(connection_table_count(&house.table), 1);
    connection_close(&house.table, conn);
    assert_int_equal(connection_table_count(&house.table), 1);
    close(fds[1]);
}

static void an_event_resumes_a_parked_connection_once(void **state)
{
    (void)state;
    assert_true(connection_park(house.conn));
    expect_state(CONNECTION_PARKED);
    assert_int_equal(connection_ready(house.conn, EPOLLIN), CONNECTION_RESUME);
    expect_state(CONNECTION_RUNNING);
    assert_int_equal(connection_ready(house.conn, EPOLLIN), CONNECTION_NOTHING);
}

static void an_event_queues_a_kept_connection_once(void **state)
{
    (void)state;
    assert_true(connection_keep(house.conn));
    expect_state(CONNECTION_IDLE);
    assert_int_equal(connection_ready(house.conn, EPOLLIN), CONNECTION_QUEUE);
    expect_state(CONNECTION_QUEUED);
    assert_int_equal(connection_ready(house.conn, EPOLLIN), CONNECTION_NOTHING);
    connection_start(house.conn);
}

static void who_parks_behind_an_event_goes_back_once(void **state)
{
    (void)state;
    house.conn->drained = true;
    assert_int_equal(connection_ready(house.conn, EPOLLIN), CONNECTION_NOTHING);
    assert_false(connection_park(house.conn));
    expect_state(CONNECTION_RUNNING);
    assert_false(house.conn->drained);
    assert_true(connection_park(house.conn));
    assert_true(connection_unpark(house.conn));
}

static void who_keeps_behind_an_event_goes_back_once(void **state)
{
    (void)state;
    assert_int_equal(connection_ready(house.conn, EPOLLIN), CONNECTION_NOTHING);
    assert_false(connection_keep(house.conn));
    expect_state(CONNECTION_RUNNING);
    assert_true(connection_keep(house.conn));
    assert_true(connection_claim(house.conn));
    connection_start(house.conn);
}

static void an_event_while_queued_is_remembered_when_it_runs(void **state)
{
    (void)state;
    assert_true(connection_keep(house.conn));
    assert_true(connection_claim(house.conn));
    expect_state(CONNECTION_QUEUED);
    assert_int_equal(connection_ready(house.conn, EPOLLIN), CONNECTION_NOTHING);
    connection_start(house.conn);
    assert_false(connection_park(house.conn));
}

static void only_what_is_parked_is_unparked_and_only_what_is_idle_is_claimed(void **state)
{
    (void)state;
    assert_false(connection_unpark(house.conn));
    assert_false(connection_claim(house.conn));
    assert_true(connection_park(house.conn));
    assert_false(connection_claim(house.conn));
    assert_true(connection_unpark(house.conn));
    assert_true(connection_keep(house.conn));
    assert_false(connection_unpark(house.conn));
    assert_true(connection_claim(house.conn));
    assert_false(connection_claim(house.conn));
    connection_start(house.conn);
}

static void a_hang_up_and_urgent_data_alert_for_good(void **state)
{
    (void)state;
    assert_int_equal(connection_ready(house.conn, EPOLLIN | EPOLLOUT), CONNECTION_NOTHING);
    assert_false(connection_alerted(house.conn));
    assert_int_equal(connection_ready(house.conn, EPOLLIN | EPOLLRDHUP), CONNECTION_NOTHING);
    assert_true(connection_alerted(house.conn));
    assert_false(connection_park(house.conn));
    assert_true(connection_park(house.conn));
    assert_int_equal(connection_ready(house.conn, EPOLLIN), CONNECTION_RESUME);
    assert_true(connection_alerted(house.conn));
}

/* Two see each event: exactly one of them must have to act. */
#define ROUNDS 20000

struct witness {
    pthread_barrier_t *barrier;
    unsigned resumes;
};

static void *see_events(void *arg)
{
    struct witness *witness = arg;

    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(witness->barrier);
        witness->resumes += connection_ready(house.conn, EPOLLIN) == CONNECTION_RESUME;
        pthread_barrier_wait(witness->barrier);
    }
    return NULL;
}

static void of_two_that_see_an_event_one_resumes(void **state)
{
    struct witness witnesses[2] = { 0 };
    pthread_t threads[2];
    pthread_barrier_t barrier;
    unsigned parked = 0;

    (void)state;
    pthread_barrier_init(&barrier, NULL, 3);
    for (int i = 0; i < 2; i++) {
        witnesses[i].barrier = &barrier;
        pthread_create(&threads[i], NULL, see_events, &witnesses[i]);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        bool early = i % 2;

        if (early)
            while (!connection_park(house.conn))
                ;
        pthread_barrier_wait(&barrier);
        parked += early || connection_park(house.conn);
        pthread_barrier_wait(&barrier);
        /* Whoever parked behind both events must be taken out here, or was resumed. */
        if (connection_unpark(house.conn))
            parked--;
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
    assert_int_equal(witnesses[0].resumes + witnesses[1].resumes, parked);
}

/* ------------------------------------------------------------------ the table --------- */

static void count(struct connection *conn, void *arg)
{
    (void)conn;
    ++*(size_t *)arg;
}

static size_t counted(void)
{
    size_t n = 0;

    connection_table_each(&house.table, count, &n);
    return n;
}

static void the_table_has_a_connection_until_it_is_closed(void **state)
{
    struct connection *more[10];
    int peer_fds[10];

    (void)state;
    for (size_t i = 0; i < 10; i++) {
        more[i] = enter(&peer_fds[i]);
        assert_int_equal(counted(), i + 2);
        assert_int_equal(connection_table_count(&house.table), i + 2);
    }
    for (size_t i = 0; i < 10; i++) {
        connection_start(more[i]);
        connection_close(&house.table, more[i]);
        close(peer_fds[i]);
        assert_int_equal(counted(), 10 - i);
    }
    assert_int_equal(connection_table_count(&house.table), 1);
}

static void a_state_is_zeroed_and_aligned(void **state)
{
    (void)state;
    assert_int_equal((uintptr_t)house.conn->user_state % _Alignof(max_align_t), 0);
    for (size_t i = 0; i < handler.state_size; i++)
        assert_int_equal(house.conn->user_state[i], 0);
}

/* A connection by a listener has no room for an argument; one that was submitted has. */
static void only_what_was_submitted_has_an_argument(void **state)
{
    static const struct endpoint submission = {
        .handler = &handler, .quota = &quota, .number = WEIR_NO_LISTENER, .uri = "submitted",
    };
    struct connection *conn;
    int peer_fd;

    (void)state;
    conn = enter_by(&submission, &peer_fd);
    assert_null(connection_arg(conn));
    connection_set_arg(conn, &house);
    memset(conn->user_state, 0xff, handler.state_size);
    assert_ptr_equal(connection_arg(conn), &house);
    assert_true(connection_state_is_whole(conn));
    connection_set_arg(house.conn, &house);
    assert_null(connection_arg(house.conn));
    connection_start(conn);
    connection_close(&house.table, conn);
    close(peer_fd);
}

static void a_descriptor_that_the_table_has_no_slot_for_is_refused(void **state)
{
    const struct sockaddr unnamed = { .sa_family = AF_UNIX };

    (void)state;
    assert_null(connection_create(&house.table, (int)house.table.size, &unnamed,
                                  sizeof(sa_family_t), &handler, &endpoint));
    assert_int_equal(connection_table_count(&house.table), 1);
}

static bool room_is_told(void)
{
    struct pollfd room = { .fd = house.table.room_fd, .events = POLLIN };
    uint64_t n;

    return poll(&room, 1, 0) == 1 && read(room.fd, &n, sizeof(n)) == sizeof(n);
}

static void who_wants_room_is_told_once_when_few_enough_are_left(void **state)
{
    struct connection *more[3];
    int peer_fds[3];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        more[i] = enter(&peer_fds[i]);
        connection_start(more[i]);
    }
    connection_table_want_room(&house.table, 3);
    connection_close(&house.table, more[0]);
    assert_false(room_is_told());
    connection_close(&house.table, more[1]);
    assert_true(room_is_told());
    connection_close(&house.table, more[2]);
    assert_false(room_is_told());
    for (size_t i = 0; i < 3; i++)
        close(peer_fds[i]);
}

static void places_are_taken_up_to_the_last_and_no_further(void **state)
{
    static struct quota few = { .max = 20 };

    (void)state;
    connection_table_add_quota(&house.table, &few);
    assert_int_equal(quota_take(&few, 1), 1);
    /* Who wants many gets one, and an eighth of those that are free. */
    assert_int_equal(quota_take(&few, 16), 3);
    assert_int_equal(quota_take(&few, 2), 2);
    for (size_t left = 14; left > 0; left--)
        assert_int_equal(quota_take(&few, 1), 1);
    assert_int_equal(quota_count(&few), 20);
    assert_int_equal(quota_take(&few, 1), 0);
    assert_int_equal(quota_take(&few, 16), 0);
    assert_int_equal(quota_count(&few), 20);
    connection_table_give_back(&house.table, &few, 20);
    assert_int_equal(quota_count(&few), 0);
}

/* Else a listener that rests for want of descriptors would be woken by each attempt of its own. */
static void of_a_place_taken_in_vain_hears_who_has_found_none(void **state)
{
    static struct quota one = { .max = 1 };

    (void)state;
    connection_table_add_quota(&house.table, &one);
    connection_table_want_room(&house.table, SIZE_MAX);
    assert_int_equal(quota_take(&one, 1), 1);
    connection_table_give_back(&house.table, &one, 1);
    assert_false(room_is_told());
    assert_int_equal(quota_take(&one, 1), 1);
    assert_int_equal(quota_take(&one, 1), 0);
    connection_table_give_back(&house.table, &one, 1);
    assert_true(room_is_told());
    assert_int_equal(quota_take(&one, 1), 1);
    connection_table_give_back(&house.table, &one, 1);
    assert_false(room_is_told());
}

/* Whoever is held is waited for, in nobody's place. */
static void what_is_held_takes_no_place(void **state)
{
    (void)state;
    connection_table_hold(&house.table);
    assert_int_equal(connection_table_count(&house.table), 2);
    assert_int_equal(quota_count(&quota), 1);
    connection_table_want_room(&house.table, 1);
    connection_table_let_go(&house.table);
    assert_true(room_is_told());
    assert_int_equal(connection_table_count(&house.table), 1);
}

#define TAKERS 4
#define TAKES 20000

static struct quota contested = { .max = 2 };
static _Atomic size_t owners;
static _Atomic bool exceeded;

static void *take_and_give(void *arg)
{
    (void)arg;
    for (int i = 0; i < TAKES; i++) {
        size_t n = quota_take(&contested, 1 + (size_t)(i % 3));

        if (n == 0)
            continue;
        if (atomic_fetch_add(&owners, n) + n > contested.max)
            exceeded = true;
        atomic_fetch_sub(&owners, n);
        if (i % 2)
            connection_table_release(&house.table, &contested, n);
        else
            connection_table_give_back(&house.table, &contested, n);
    }
    return NULL;
}

static void no_two_have_the_same_place(void **state)
{
    pthread_t threads[TAKERS];

    (void)state;
    connection_table_add_quota(&house.table, &contested);
    for (size_t i = 0; i < TAKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, NULL), 0);
    for (size_t i = 0; i < TAKERS; i++)
        pthread_join(threads[i], NULL);
    assert_false(exceeded);
    assert_int_equal(quota_count(&contested), 0);
}

static void each_quota_counts_its_own(void **state)
{
    static struct quota few = { .max = 1 };
    static const struct endpoint narrow = {
        .handler = &handler, .quota = &few, .uri = "unix:@few",
    };
    struct connection *conn;
    int peer_fd;

    (void)state;
    connection_table_add_quota(&house.table, &few);
    assert_false(quota_is_used_up(&few));
    conn = enter_by(&narrow, &peer_fd);
    assert_true(quota_is_used_up(&few));
    assert_int_equal(quota_count(&quota), 1);
    assert_int_equal(connection_table_count(&house.table), 2);
    connection_table_want_room(&house.table, 1);
    connection_start(conn);
    connection_close(&house.table, conn);
    assert_true(room_is_told());
    assert_false(quota_is_used_up(&few));
    assert_int_equal(connection_table_count(&house.table), 1);
    close(peer_fd);
}

static void closing_says_fin_even_if_a_duplicate_is_open(void **state)
{
    struct connection *conn;
    int peer_fd;
    int duplicate;
    char byte;

    (void)state;
    conn = enter(&peer_fd);
    duplicate = dup(conn->fd);
    connection_start(conn);
    connection_close(&house.table, conn);
    assert_int_equal(recv(peer_fd, &byte, 1, 0), 0);
    close(duplicate);
    close(peer_fd);
}

/* ------------------------------------------------------------------ events ------------ */

/* They outlive the connection, which leaves the one that it is in. */
static struct epoll_set sets[2];

static void open_sets(void)
{
    for (int i = 0; i < 2; i++)
        sets[i] = (struct epoll_set){ .fd = epoll_create1(EPOLL_CLOEXEC) };
}

static void close_sets(void)
{
    for (int i = 0; i < 2; i++)
        close(sets[i].fd);
}

static void an_event_finds_its_connection_until_that_is_closed(void **state)
{
    struct epoll_set *set = &sets[0];
    struct epoll_event event;
    uint64_t old_token;

    (void)state;
    open_sets();
    assert_int_equal(connection_watch(house.conn, set, EPOLLIN), 0);
    assert_int_equal(epoll_wait(set->fd, &event, 1, 0), 0);
    assert_int_equal(send(house.peer_fd, "x", 1, 0), 1);
    assert_int_equal(epoll_wait(set->fd, &event, 1, 0), 1);
    assert_true(event.data.u64 > UINT32_MAX);
    reclaim_enter();
    assert_ptr_equal(connection_of_event(&house.table, event.data.u64), house.conn);
    reclaim_exit();

    /* The next one has the same descriptor; the late event is not about that. */
    old_token = event.data.u64;
    connection_close(&house.table, house.conn);
    close(house.peer_fd);
    house.conn = enter(&house.peer_fd);
    connection_start(house.conn);
    assert_int_equal(house.conn->fd, (uint32_t)old_token);
    reclaim_enter();
    assert_null(connection_of_event(&house.table, old_token));
    reclaim_exit();
    close_sets();
}

static void a_connection_is_told_of_room_to_write_only_when_it_has_asked(void **state)
{
    struct epoll_set *set = &sets[0];
    struct epoll_event event;

    (void)state;
    open_sets();
    assert_int_equal(connection_watch(house.conn, set, EPOLLIN), 0);
    assert_int_equal(epoll_wait(set->fd, &event, 1, 0), 0);
    assert_int_equal(connection_watch(house.conn, set, EPOLLOUT), 0);
    assert_int_equal(epoll_wait(set->fd, &event, 1, 0), 1);
    assert_true(event.events & EPOLLOUT);
    /* An edge: once. And who asks for less keeps what it has. */
    assert_int_equal(connection_watch(house.conn, set, EPOLLIN), 0);
    assert_int_equal(epoll_wait(set->fd, &event, 1, 0), 0);
    assert_int_equal(send(house.peer_fd, "x", 1, 0), 1);
    assert_int_equal(epoll_wait(set->fd, &event, 1, 0), 1);
    close_sets();
}

static void a_connection_is_in_one_set_at_a_time(void **state)
{
    struct epoll_set *first = &sets[0];
    struct epoll_set *second = &sets[1];
    struct epoll_event event;

    (void)state;
    open_sets();
    assert_int_equal(connection_watch(house.conn, first, EPOLLIN), 0);
    assert_int_equal(connection_watch(house.conn, second, EPOLLIN), 0);
    assert_int_equal(send(house.peer_fd, "x", 1, 0), 1);
    assert_int_equal(epoll_wait(first->fd, &event, 1, 0), 0);
    assert_int_equal(epoll_wait(second->fd, &event, 1, 0), 1);
    assert_int_equal(epoll_set_members(first), 0);
    assert_int_equal(epoll_set_members(second), 1);
    close_sets();
}

/* ------------------------------------------------------------------ the peer ---------- */

static void expect_peer(const struct sockaddr *peer, socklen_t peer_len, socklen_t expect_len)
{
    struct sockaddr_storage got;
    struct connection *conn;
    socklen_t len = 0;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(quota_take(&quota, 1), 1);
    conn = connection_create(&house.table, fds[0], peer, peer_len, &handler, &endpoint);
    connection_start(conn);
    connection_peer(conn, &got, &len);
    assert_int_equal(len, expect_len);
    assert_memory_equal(&got, peer, len);
    connection_close(&house.table, conn);
    close(fds[1]);
}

static void the_peer_s_address_comes_back_as_it_was_noted(void **state)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(1234) };
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(4321), .sin6_scope_id = 7,
    };
    struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/name" };

    (void)state;
    inet_pton(AF_INET, "192.0.2.1", &in.sin_addr);
    inet_pton(AF_INET6, "fe80::1", &in6.sin6_addr);
    expect_peer((const struct sockaddr *)&in, sizeof(in), sizeof(in));
    expect_peer((const struct sockaddr *)&in6, sizeof(in6), sizeof(in6));
    expect_peer((const struct sockaddr *)&un, sizeof(un), sizeof(sa_family_t));
    /* accept(2) gives an unnamed peer's address as no bytes at all. */
    un.sun_path[0] = '\0';
    expect_peer((const struct sockaddr *)&un, 0, sizeof(sa_family_t));
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, open_house, close_house)

/* It was opened before the limit was lowered, or the limit was raised after the table was made. */
static bool keeps_a_descriptor_above_the_limit(void)
{
    const struct rlimit limit = { .rlim_cur = HIGH_FD / 2, .rlim_max = HIGH_FD / 2 };
    const struct sockaddr unnamed = { .sa_family = AF_UNIX };
    struct connection_table table;
    struct connection *conn;
    bool kept;

    if (dup2(house.peer_fd, HIGH_FD) < 0 || setrlimit(RLIMIT_NOFILE, &limit) < 0 ||
        connection_table_init(&table) < 0)
        return false;
    quota_take(&quota, 1);
    conn = connection_create(&table, HIGH_FD, &unnamed, sizeof(sa_family_t), &handler,
                             &endpoint);
    kept = conn && connection_table_has(&table, HIGH_FD);
    if (conn)
        connection_close(&table, conn);
    connection_table_fini(&table);
    return kept;
}

/* In a child, since a hard limit that is lowered stays so. */
static void a_descriptor_above_the_limit_is_kept(void **state)
{
    int status;
    pid_t child;

    (void)state;
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(keeps_a_descriptor_above_the_limit() ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_accepted_connection_is_queued_and_then_runs),
        TEST(an_opened_connection_runs_from_the_beginning),
        TEST(an_event_resumes_a_parked_connection_once),
        TEST(an_event_queues_a_kept_connection_once),
        TEST(who_parks_behind_an_event_goes_back_once),
        TEST(who_keeps_behind_an_event_goes_back_once),
        TEST(an_event_while_queued_is_remembered_when_it_runs),
        TEST(only_what_is_parked_is_unparked_and_only_what_is_idle_is_claimed),
        TEST(a_hang_up_and_urgent_data_alert_for_good),
        TEST(of_two_that_see_an_event_one_resumes),
        TEST(the_table_has_a_connection_until_it_is_closed),
        TEST(a_state_is_zeroed_and_aligned),
        TEST(only_what_was_submitted_has_an_argument),
        TEST(a_descriptor_that_the_table_has_no_slot_for_is_refused),
        TEST(a_descriptor_above_the_limit_is_kept),
        TEST(who_wants_room_is_told_once_when_few_enough_are_left),
        TEST(places_are_taken_up_to_the_last_and_no_further),
        TEST(of_a_place_taken_in_vain_hears_who_has_found_none),
        TEST(what_is_held_takes_no_place),
        TEST(no_two_have_the_same_place),
        TEST(each_quota_counts_its_own),
        TEST(closing_says_fin_even_if_a_duplicate_is_open),
        TEST(an_event_finds_its_connection_until_that_is_closed),
        TEST(a_connection_is_told_of_room_to_write_only_when_it_has_asked),
        TEST(a_connection_is_in_one_set_at_a_time),
        TEST(the_peer_s_address_comes_back_as_it_was_noted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
