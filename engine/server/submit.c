/* submit.c - weir_submit and weir_submit_fd: connections that somebody else has accepted. */
#include "engine/server/server.h"

#include "engine/base/sys.h"
#include "engine/pool/accepted.h"
#include "engine/sync/reclaim.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

static int check_open_locked(struct weir_server *server, int fd)
{
    const struct connection_table *table = &server->pool->crew.table;

    if (server_state(server) == CLOSED || server->closing)
        return -ESHUTDOWN;
    return connection_table_has(table, fd) ? -EBUSY : 0;
}

/* 0, and accepted has a place; or -errno. */
static int begin_submitting_locked(struct weir_server *server, const struct accepted *accepted)
{
    int r = server_claim_locked(server);

    if (r == 0)
        r = check_open_locked(server, accepted->fd);
    if (r == 0)
        r = pool_start(server->pool);
    if (r == 0)
        r = sys_set_nonblocking(accepted->fd);
    if (r == 0 && server->submission.nodelay && accepted->peer->sa_family != AF_UNIX)
        sys_set_nodelay(accepted->fd);
    if (r < 0)
        return r;
    return quota_take(accepted->endpoint->quota, 1) > 0 ? 0 : -EAGAIN;
}

static void give_back_place(struct weir_server *server, const struct accepted *accepted)
{
    connection_table_give_back(&server->pool->crew.table, accepted->endpoint->quota, 1);
}

static void note_submitted(struct weir_server *server)
{
    /* relaxed: a count. pairs: weir_server_stats() */
    atomic_fetch_add_explicit(&server->submitted, 1, memory_order_relaxed);
}

static int submit_to_pool_locked(struct weir_server *server, const struct accepted *accepted)
{
    int r = server->mixin->process(server->mixin, accepted);

    if (r < 0) {
        give_back_place(server, accepted);
        return r;
    }
    pool_call_workers(server->pool, 1);
    note_submitted(server);
    return 0;
}

/*
 * The table is held: the place goes with the connection, which may be closed before this thread has
 * left the mixin, and nobody shall take the server apart so long.
 */
static int submit_to_mixin(struct weir_server *server, const struct accepted *accepted)
{
    int r;

    reclaim_thread_init();
    r = server->mixin->process(server->mixin, accepted);
    reclaim_thread_fini();
    if (r == 0)
        note_submitted(server);
    else
        give_back_place(server, accepted);
    connection_table_let_go(&server->pool->crew.table);
    return r;
}

/* What is begun under the lock is served; a closer sees it, or has it refused. */
static int submit_accepted(struct weir_server *server, const struct accepted *accepted)
{
    bool held = false;
    int r;

    pthread_mutex_lock(&server->lock);
    r = begin_submitting_locked(server, accepted);
    if (r == 0 && !server->mixin->has_workers) {
        connection_table_hold(&server->pool->crew.table);
        held = true;
    } else if (r == 0) {
        r = submit_to_pool_locked(server, accepted);
    }
    /* The server may be gone behind it, unless it is held. */
    pthread_mutex_unlock(&server->lock);
    return held ? submit_to_mixin(server, accepted) : r;
}

/* Only one thread serves there, or a process that has left all the others to its parent. */
static bool submits_from_own_handler(const struct weir_server *server)
{
    return !server->mixin->hands_on && server_called_from_handler(server);
}

/*
 * In a child of WEIR_FORK, which ends with its one connection: what is served there and then can be
 * submitted, but no thread or child would be waited for.
 */
static bool would_end_with_handler(const struct weir_server *server)
{
    const struct worker *worker = worker_self();

    if (server->mixin->serves_at_once)
        return false;
    for (; worker; worker = worker->outer) {
        const struct service *service = worker->crew->service;

        if (service->server->mixin->ends_with_handler)
            return true;
    }
    return false;
}

static int could_not_submit(int fd, int r)
{
    return SERVER_REFUSE(r, "descriptor %d can't be served: %s", fd,
                         r == -ESHUTDOWN ? "the server was closed" :
                         r == -EAGAIN ? "max_connections are open, or no thread or child "
                                        "could be had" :
                         r == -ENOBUFS ? "max_queued connections wait for a worker" :
                         r == -EBUSY ? "the server has it already" :
                         r == -EOPNOTSUPP ? "the server is WEIR_PREFORK: its children serve" :
                         r == -EDEADLK ? "a handler of a server that is WEIR_SERIAL or WEIR_FORK "
                                         "can't submit to it, nor to one that waits for it" :
                         r == -ESRCH ? "the server is another process's, or would not outlive this "
                                       "child of WEIR_FORK" :
                         r == -EPROTOTYPE ? "it is no stream socket" : why_error(r));
}

/* call: the public one, for a handler that is wrong. */
static int submit(struct weir_server *server, int fd, const struct weir_handler *handler,
                  void *arg, const char *call)
{
    struct sockaddr_storage peer;
    struct accepted accepted = {
        .fd = fd, .peer = (const struct sockaddr *)&peer,
        /* Of a serial server, whose acceptor may wait for its turn behind this one meanwhile. */
        .stop_fd = server->acceptors[0].stop_fd,
        .endpoint = &server->submission,
        .handler = handler ? handler : server->submission.handler,
        .arg = arg,
    };
    int r = options_check_handler(accepted.handler, call, why_last, sizeof(why_last));

    if (r < 0)
        return r;
    r = submits_from_own_handler(server) ? -EDEADLK : server_check_accepts(server);
    if (r == 0 && would_end_with_handler(server))
        r = -ESRCH;
    if (r == 0)
        r = sys_stream_peer(fd, &peer, &accepted.peer_len);
    if (r == 0)
        r = submit_accepted(server, &accepted);
    return r < 0 ? could_not_submit(fd, r) : 0;
}

int weir_submit_fd(struct weir_server *server, int fd, const struct weir_handler *handler)
{
    return submit(server, fd, handler, NULL, "weir_submit_fd");
}

int weir_submit(struct weir_server *server, int fd, const struct weir_handler *handler, void *arg)
{
    return submit(server, fd, handler, arg, "weir_submit");
}
