/* child.c - a forked child: what it leaves to its parent, and how it becomes a pool. */
#include "engine/server/server.h"

#include "engine/base/clock.h"
#include "engine/base/sys.h"
#include "engine/modes/process.h"
#include "engine/sync/reclaim.h"

#include <pthread.h>
#include <string.h>
#include <urcu/compiler.h>

/*
 * In whatever a program forks: other threads may have held the locks, and none of them is in a call
 * here.
 */
void server_begin_in_child(struct process_heir *heir)
{
    struct weir_server *server = caa_container_of(heir, struct weir_server, heir);

    pthread_mutex_init(&server->lock, NULL);
    pthread_mutex_init(&server->timers.lock, NULL);
    pthread_cond_init(&server->changed, NULL);
    server->handling = false;
    server->closing = false;
    server->mixin->free_locks(server->mixin);
}

/* What a child of ours does first. */
static void begin_as_child(struct weir_server *server)
{
    /* relaxed: there is one thread. pairs: none */
    atomic_store_explicit(&server->served_by, process_self(), memory_order_relaxed);
    if (server->has_doorman)
        doorman_fini(&server->doorman);
    server->has_doorman = false;
}

void server_leave_to_parent(struct weir_server *server)
{
    begin_as_child(server);
    for (size_t i = 0; i < server->acceptors_len; i++)
        acceptor_leave_to_parent(&server->acceptors[i]);
}

/* Each child's workers are bound to the CPUs that come after those of the one before. */
static void turn_cpus(struct weir_server *server, unsigned number)
{
    int cpus[WEIR_MAX_WORKERS];
    size_t len = server->cpus_len;

    memcpy(cpus, server->cpus, sizeof(cpus));
    for (size_t i = 0; i < len; i++)
        server->cpus[i] = cpus[(i + (size_t)number * server->options.workers) % len];
}

/* The parent's listeners, whose paths stay the parent's. */
static int inherit_listeners(struct weir_server *server)
{
    const struct acceptor *parent = &server->parents[0];
    int r = 0;

    for (size_t i = 0; i < parent->listening_len && r == 0; i++) {
        struct listener listener = parent->listening[i].listener;

        listener.path[0] = '\0';
        r = acceptor_add(&server->acceptors[0], &listener, parent->listening[i].endpoint);
    }
    return r;
}

/*
 * From here on it is a server of a pool. What it was stays as it is, for it holds the descriptors
 * that stop and cancel the parent. Rules and addresses are as they were in the parent.
 */
static int become_pool(struct weir_server *server, unsigned number, int others_fd)
{
    int r;

    begin_as_child(server);
    turn_cpus(server, number);
    server->parents_pool = server->pool;
    server->parents = server->acceptors;
    sys_close(server->parents[0].epoll_fd);
    server->acceptors = NULL;
    server->acceptors_len = 0;
    server->options.concurrency = WEIR_POOL;
    server->options.service_actions = NULL;
    server_enter_locked(server, FRESH);
    r = server_create_pool(server);
    if (r < 0)
        return r;
    server_fill_in_alike(server);
    server->acceptor_config.shared = true;
    server->acceptor_config.others_fd = others_fd;
    r = server_create_mixin(server);
    if (r == 0)
        r = server_create_acceptors(server);
    return r == 0 ? inherit_listeners(server) : r;
}

/* By another child, or by whoever keeps the sockets, too. */
static bool is_followed(const struct weir_server *server, bool by_child)
{
    return by_child || server_is_followed(server);
}

static void accept_last(struct weir_server *server, bool followed)
{
    if (!is_followed(server, followed))
        return;
    reclaim_thread_init();
    acceptor_admit_called(&server->acceptors[0]);
    reclaim_thread_fini();
}

/* When to cancel is for the parent to say. */
static void drain_and_close(struct weir_server *server, bool followed)
{
    struct acceptor *acceptor = &server->acceptors[0];

    server_end_timers(server);
    if (is_followed(server, followed)) {
        pool_take_leave(server->pool);
        acceptor_close_listeners(acceptor);
        server_take_leave(server);
    } else {
        acceptor_close_listeners(acceptor);
    }
    pool_drain(server->pool);
    server_wait_until_empty(server, CLOCK_NEVER);
    server_close_sockets(server);
}

static void stop_accepting(struct weir_server *server)
{
    acceptor_stop(&server->acceptors[0]);
}

static void look_for_clients(struct weir_server *server)
{
    acceptor_look(&server->acceptors[0]);
}

static void cancel_pool(struct weir_server *server)
{
    pool_cancel(server->pool);
}

static void read_stats(struct weir_server *server, struct weir_stats *ret_stats)
{
    weir_server_stats(server, ret_stats, sizeof(*ret_stats));
}

const struct child_calls server_child_calls = {
    .become = become_pool, .begin = server_begin_serving, .accept = server_serve,
    .accept_last = accept_last, .drain = drain_and_close, .stop = stop_accepting,
    .look = look_for_clients, .cancel = cancel_pool, .stats = read_stats,
    .roll = server_call_roll,
};
