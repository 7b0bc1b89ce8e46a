#include "engine/pool/crew.h"

#include "engine/base/sys.h"
#include "engine/fiber/stack.h"

#include <errno.h>
#include <stdlib.h>

/*
 * All that may be ready at once. Each connection has a descriptor; datagrams are counted with
 * them, but for a batch that each worker has just received; and there are their sockets.
 */
static size_t queue_capacity(const struct crew *crew, const struct crew_config *config)
{
    return crew->table.size + (size_t)config->workers * PACKET_BATCH + config->sockets;
}

static int open_common_set(struct crew *crew, bool wanted)
{
    crew->common.fd = wanted ? sys_epoll_create() : -1;
    return wanted && crew->common.fd < 0 ? crew->common.fd : 0;
}

static void close_orders(struct crew *crew)
{
    sys_close(crew->drain_fd);
    sys_close(crew->cancel_fd);
}

static int open_orders(struct crew *crew, bool wanted)
{
    crew->drain_fd = -1;
    crew->cancel_fd = -1;
    if (!wanted)
        return 0;
    crew->drain_fd = sys_eventfd();
    if (crew->drain_fd >= 0)
        crew->cancel_fd = sys_eventfd();
    if (crew->drain_fd >= 0 && crew->cancel_fd >= 0)
        return 0;
    close_orders(crew);
    return crew->drain_fd < 0 ? crew->drain_fd : crew->cancel_fd;
}

int crew_init(struct crew *crew, const struct crew_config *config)
{
    int r;

    *crew = (struct crew){
        .rbufsize = config->rbufsize,
        .wbufsize = config->wbufsize,
        .packet_format = config->packet_format,
        .overload = {
            .target_ms = config->queue_target_ms, .max_queued = config->max_queued,
            .refuses = config->refuses,
        },
        .serve = config->serve,
        .service = config->service,
    };
    r = connection_table_init(&crew->table);
    if (r < 0)
        return r;
    crew->table.private = config->private;
    r = stack_arena_create(config->stack_size, 0, &crew->arena);
    if (r < 0)
        goto fail_arena;
    crew->sets = aligned_alloc(_Alignof(struct epoll_set), config->workers * sizeof(*crew->sets));
    r = crew->sets ? open_common_set(crew, config->common_set) : -ENOMEM;
    if (r < 0)
        goto fail_sets;
    r = open_orders(crew, config->threadless);
    if (r < 0)
        goto fail_orders;
    r = handoff_init(&crew->handoff, crew->sets, config->workers,
                     queue_capacity(crew, config), config->watched);
    if (r < 0)
        goto fail_handoff;
    return 0;

fail_handoff:
    close_orders(crew);
fail_orders:
    sys_close(crew->common.fd);
fail_sets:
    free(crew->sets);
    stack_arena_destroy(crew->arena);
fail_arena:
    connection_table_fini(&crew->table);
    return r;
}

void crew_fini(struct crew *crew)
{
    handoff_fini(&crew->handoff);
    close_orders(crew);
    sys_close(crew->common.fd);
    free(crew->sets);
    stack_arena_destroy(crew->arena);
    connection_table_fini(&crew->table);
}

struct queueing {
    struct crew *crew;
    enum crew_pick (*pick)(struct connection *conn, void *arg);
    void *arg;
    unsigned queued;
};

static enum crew_pick pick_all(struct connection *conn, void *arg)
{
    (void)conn;
    (void)arg;
    return CREW_ENDS;
}

static void queue_if_idle(struct connection *conn, void *arg)
{
    struct queueing *queueing = arg;
    enum crew_pick pick;

    /* A socket is IDLE because nothing has arrived. */
    if (conn->kind == CONNECTION_SOCKET || queueing->pick(conn, queueing->arg) == CREW_STAYS ||
        !connection_claim(conn))
        return;
    /* If it has served in between, and is idle anew, it only looks whether there is input. */
    pick = queueing->pick(conn, queueing->arg);
    conn->expired = pick == CREW_EXPIRED;
    conn->unplaced = pick == CREW_UNPLACED;
    handoff_put(&queueing->crew->handoff, conn);
    queueing->queued++;
}

void crew_queue_idle(struct crew *crew,
                     enum crew_pick (*pick)(struct connection *conn, void *arg), void *arg)
{
    struct queueing queueing = { .crew = crew, .pick = pick ? pick : pick_all, .arg = arg };

    if (crew->drain_fd >= 0)
        return;
    connection_table_each(&crew->table, queue_if_idle, &queueing);
    handoff_call(&crew->handoff, queueing.queued);
}

void crew_want_sweeps(struct crew *crew)
{
    /* Without workers' threads the thread that keeps a connection looks after it. */
    if (crew->drain_fd >= 0 || crew_sweeps(crew))
        return;
    /* relaxed: the acceptor is called behind it, and sees it then. pairs: crew_sweeps() */
    atomic_store_explicit(&crew->sweeps, true, memory_order_relaxed);
    sys_eventfd_signal(crew->handoff.watch_fd);
}
