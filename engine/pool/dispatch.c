#include "engine/pool/dispatch.h"

#include "engine/base/sys.h"
#include "engine/pool/family.h"
#include "engine/pool/worker.h"

#include <sys/epoll.h>

static void deliver_woken(struct worker *worker, struct message *message)
{
    struct connection *conn = caa_container_of(message, struct connection, woken);

    (void)worker;
    conn->drained = false;
    family_wake_all(conn);
}

/* Who waits for conn is runnable again: here, or over there. */
static void resume_task_of(struct connection *conn, struct worker *self, uint32_t events)
{
    struct task *task = conn->task;

    if (task->worker == self && WEIR_UNLIKELY(task->family)) {
        family_wake(conn, events);
        return;
    }
    if (task->worker == self) {
        conn->drained = false;
        task_unpark(task, 0);
        return;
    }
    conn->woken.deliver = deliver_woken;
    worker_tell(task->worker, &conn->woken);
}

uint64_t dispatch(struct crew *crew, struct worker *self, const struct epoll_event *events, int n)
{
    uint64_t tokens = 0;
    unsigned queued = 0;

    reclaim_enter();
    for (int i = 0; i < n; i++) {
        struct connection *conn;

        if (events[i].data.u64 <= UINT32_MAX) {
            tokens |= events[i].data.u64;
            continue;
        }
        conn = connection_of_event(&crew->table, events[i].data.u64);
        if (!conn)
            continue;
        switch (connection_ready(conn, events[i].events)) {
        case CONNECTION_RESUME:
            resume_task_of(conn, self, events[i].events);
            break;
        case CONNECTION_QUEUE:
            if (self) {
                worker_put_into_batch(self, self->batch_len++, conn);
                break;
            }
            handoff_put(&crew->handoff, conn);
            queued++;
            break;
        case CONNECTION_NOTHING:
            break;
        }
    }
    reclaim_exit();
    if (queued > 0)
        handoff_call(&crew->handoff, queued);
    return tokens;
}

unsigned dispatch_all(struct crew *crew, int epoll_fd, uint64_t *ret_tokens)
{
    struct epoll_event events[WORKER_BATCH];
    unsigned sum = 0;
    int n;

    do {
        n = sys_epoll_wait(epoll_fd, events, WORKER_BATCH, 0);
        if (n <= 0)
            break;
        *ret_tokens |= dispatch(crew, NULL, events, n);
        sum += (unsigned)n;
    } while (n == WORKER_BATCH);
    return sum;
}

unsigned dispatch_rescue(struct worker *stuck)
{
    struct crew *crew = stuck->crew;
    uint64_t tokens = 0;
    unsigned rescued = 0;

    for (unsigned i = 0; i < WORKER_SLOTS; i++) {
        struct connection *conn = worker_take_from_batch(stuck, i);

        if (!conn)
            continue;
        handoff_put(&crew->handoff, conn);
        rescued++;
    }
    handoff_call(&crew->handoff, rescued);
    rescued += dispatch_all(crew, stuck->own->fd, &tokens);
    /* This edge was meant for the worker: it may have gone to sleep meanwhile. */
    if (tokens & DISPATCH_WAKE)
        sys_eventfd_signal(crew->handoff.wake_fds[stuck->index]);
    return rescued;
}
