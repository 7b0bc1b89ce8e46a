/* tick_test.c - the pool's tick, made by hand: after how many of them a worker counts as stuck. */
#include "tests/support.h"

#include "engine/base/clock.h"
#include "engine/pool/pool.h"
#include "engine/sync/handoff.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

/* Two of them have the same of two workers. */
enum { CLIENTS = 3 };

struct client {
    int fd;
    char home;          /* the worker that answered last */
};

struct bout {
    struct pool *pool;
    struct client clients[CLIENTS];
    struct client *holder;
    struct client *behind;      /* waits for the same worker */
};

static struct gate gate;
static atomic_bool computes;

/*
 * Answers a byte with the number of its worker, and rests:
 *   t    at once
 *   c    at once, and then computes until the test has had enough
 *   b    at once, and then blocks until the test opens the gate
 */
static void answer(struct task *task)
{
    const int fd = task->conn->fd;
    const char home = (char)('0' + task->worker->index);
    char what;

    task->conn->kept = read(fd, &what, 1) == 1 && task_watch(task) == 0 &&
                       write(fd, &home, 1) == 1;
    if (!task->conn->kept)
        return;
    while (what == 'c' && atomic_load(&computes))
        ;
    if (what == 'b')
        gate_pass(&gate);
}

static void serve(struct task *task)
{
    do
        answer(task);
    while (worker_next(task));
}

static const struct weir_handler handler = { .name = "serve" };
static struct quota quota = { .max = CLIENTS };
static const struct endpoint endpoint = {
    .handler = &handler, .quota = &quota, .uri = "unix:@tick",
};

static void connect_client(struct pool *pool, struct client *client)
{
    const struct sockaddr peer = { .sa_family = AF_UNIX };
    struct connection *conn;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    client->fd = fds[0];
    assert_int_equal(quota_take(&quota, 1), 1);
    conn = connection_create(&pool->crew.table, fds[1], &peer, sizeof(peer.sa_family), &handler,
                             &endpoint);
    assert_non_null(conn);
    assert_int_equal(write(fds[0], "t", 1), 1);
    handoff_put(&pool->crew.handoff, conn);
    handoff_call(&pool->crew.handoff, 1);
}

static void hear(struct client *client)
{
    assert_int_equal(read(client->fd, &client->home, 1), 1);
}

static void say(const struct client *client, const char *what)
{
    assert_int_equal(write(client->fd, what, 1), 1);
}

static void await_sleep(const struct bout *bout)
{
    while (!handoff_everyone_asleep(&bout->pool->crew.handoff))
        sched_yield();
}

static void choose_pair(struct bout *bout)
{
    struct client *all = bout->clients;

    bout->holder = all[0].home == all[1].home || all[0].home == all[2].home ? &all[0] : &all[1];
    bout->behind = bout->holder == &all[0] && all[0].home == all[1].home ? &all[1] : &all[2];
}

static int begin(void **state)
{
    static struct bout bout;

    gate_init(&gate);
    atomic_store(&computes, true);
    reclaim_thread_init();      /* a tick dispatches */
    assert_int_equal(pool_create(&(const struct pool_config){ .crew = {
        .workers = 2, .stack_size = 65536, .rbufsize = 4096, .wbufsize = 4096, .serve = serve,
    } }, &bout.pool), 0);
    connection_table_add_quota(&bout.pool->crew.table, &quota);
    assert_int_equal(pool_start(bout.pool), 0);
    for (size_t i = 0; i < CLIENTS; i++) {
        connect_client(bout.pool, &bout.clients[i]);
        hear(&bout.clients[i]);
        await_sleep(&bout);
    }
    choose_pair(&bout);
    *state = &bout;
    return 0;
}

static int end(void **state)
{
    struct bout *bout = *state;

    for (size_t i = 0; i < CLIENTS; i++)
        close(bout->clients[i].fd);
    while (connection_table_count(&bout->pool->crew.table) > 0)
        sched_yield();
    pool_stop(bout->pool);
    pool_destroy(bout->pool);
    reclaim_thread_fini();
    gate_fini(&gate);
    return 0;
}

/* A tick in which the holder's worker has used so much CPU time; what was rescued up to then. */
static uint64_t tick(const struct bout *bout, unsigned used_ms)
{
    const struct pool_watch *watch = &bout->pool->watches[bout->holder->home - '0'];

    while (clock_of_thread_ns(watch->clock) < watch->used_ns + used_ms * UINT64_C(1000000))
        sched_yield();
    pool_tick(bout->pool, clock_ms());
    return tally_read(&bout->pool->tally, TALLY_RESCUED);
}

static void assert_served_elsewhere(struct bout *bout)
{
    hear(bout->behind);
    assert_int_not_equal(bout->behind->home, bout->holder->home);
}

static void who_has_computed_for_a_tick_is_stuck(void **state)
{
    struct bout *bout = *state;

    say(bout->holder, "c");
    hear(bout->holder);
    say(bout->behind, "t");
    assert_int_equal(tick(bout, 0), 0);
    assert_int_equal(tick(bout, 1), 1);
    assert_served_elsewhere(bout);
    atomic_store(&computes, false);
    await_sleep(bout);
}

static void who_has_not_had_its_cpu_is_stuck_after_two_ticks(void **state)
{
    struct bout *bout = *state;

    say(bout->holder, "b");
    hear(bout->holder);
    say(bout->behind, "t");
    assert_int_equal(tick(bout, 0), 0);
    assert_int_equal(tick(bout, 0), 0);
    assert_int_equal(tick(bout, 0), 1);
    assert_served_elsewhere(bout);
    gate_open(&gate);
    await_sleep(bout);
}

static void who_sleeps_is_not_stuck(void **state)
{
    struct bout *bout = *state;

    for (int i = 0; i < 20; i++)
        assert_int_equal(tick(bout, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_has_computed_for_a_tick_is_stuck, begin, end),
        cmocka_unit_test_setup_teardown(who_has_not_had_its_cpu_is_stuck_after_two_ticks, begin,
                                        end),
        cmocka_unit_test_setup_teardown(who_sleeps_is_not_stuck, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
