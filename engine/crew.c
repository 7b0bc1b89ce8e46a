#include "engine/crew.h"

#include "engine/stack.h"
#include "engine/sys.h"

int crew_init(struct crew *crew, const struct crew_config *config)
{
    int r;

    *crew = (struct crew){ 0 };
    crew->rbufsize = config->rbufsize;
    crew->wbufsize = config->wbufsize;
    crew->shared_fd = -1;
    crew->serve = config->serve;
    crew->service = config->service;
    r = connection_table_init(&crew->table);
    if (r < 0)
        return r;
    r = stack_arena_create(config->stack_size, 0, &crew->arena);
    if (r < 0)
        goto fail_arena;
    r = handoff_init(&crew->handoff, config->workers, crew->table.size,
                     config->watched);
    if (r < 0)
        goto fail_handoff;
    if (!config->shared_set)
        return 0;
    crew->shared_fd = sys_epoll_create();
    if (crew->shared_fd >= 0)
        return 0;
    r = crew->shared_fd;
    handoff_fini(&crew->handoff);
fail_handoff:
    stack_arena_destroy(crew->arena);
fail_arena:
    connection_table_fini(&crew->table);
    return r;
}

void crew_fini(struct crew *crew)
{
    if (crew->shared_fd >= 0)
        sys_close(crew->shared_fd);
    handoff_fini(&crew->handoff);
    stack_arena_destroy(crew->arena);
    connection_table_fini(&crew->table);
}

struct queueing {
    struct crew *crew;
    bool (*pick)(struct connection *conn, void *arg);
    void *arg;
    unsigned queued;
};

static void queue_if_idle(struct connection *conn, void *arg)
{
    struct queueing *queueing = arg;

    if (queueing->pick && !queueing->pick(conn, queueing->arg))
        return;
    if (!connection_claim(conn))
        return;
    /* If it has served in between, and is idle anew, it only looks whether there is input. */
    conn->expired = queueing->pick && queueing->pick(conn, queueing->arg);
    handoff_put(&queueing->crew->handoff, conn);
    queueing->queued++;
}

void crew_queue_idle(struct crew *crew, bool (*pick)(struct connection *conn, void *arg),
                     void *arg)
{
    struct queueing queueing = { .crew = crew, .pick = pick, .arg = arg };

    connection_table_each(&crew->table, queue_if_idle, &queueing);
    handoff_call(&crew->handoff, queueing.queued);
}
