#include "engine/pool/task.h"

#include "engine/base/clock.h"
#include "engine/base/misuse.h"
#include "engine/base/sys.h"
#include "engine/pool/family.h"
#include "engine/pool/packet.h"
#include "engine/pool/worker.h"

#include <errno.h>
#include <poll.h>

static void make_runnable(struct task *task, int outcome)
{
    struct worker *worker = task->worker;

    task->outcome = (int16_t)outcome;
    task->next = NULL;
    *worker->runnable_end = task;
    worker->runnable_end = &task->next;
}

void task_unpark(struct task *task, int outcome)
{
    timer_disarm(&task->worker->timers, &task->timer);
    *task->parked_link = task->parked_next;
    if (task->parked_next)
        task->parked_next->parked_link = task->parked_link;
    task->parked_link = NULL;
    make_runnable(task, outcome);
}

void task_die_of_misuse(const struct task *task, const char *call)
{
    const char *inside = worker_handler_here();

    misuse_die("%s on a request of handler '%s' was made by %s%s%s: a request is for its own "
               "handler alone (see weir.h: what parks)", call, task->conn->handler->name,
               inside ? "handler '" : "another thread", inside ? inside : "", inside ? "'" : "");
}

void task_require_here(const struct task *task)
{
    if (WEIR_UNLIKELY(!fiber_is_here(task->fiber)))
        task_die_of_misuse(task, "a waiting call");
}

/* ------------------------------------------------------------------ what it waits for - */

static enum connection_wait wait_of_own(const struct connection *conn, uint32_t events)
{
    if (conn->greets)
        return CONNECTION_WAITS_GREETING;
    if (conn->ended && !conn->said_end)
        return CONNECTION_WAITS_LINGER;
    return events & EPOLLIN ? CONNECTION_WAITS_READ : CONNECTION_WAITS_WRITE;
}

static enum connection_wait wait_of(const struct task *task, const struct connection *conn,
                                     uint32_t events)
{
    if (task->connects)
        return CONNECTION_WAITS_CONNECT;
    if (conn == task->conn)
        return wait_of_own(conn, events);
    /* What weir_poll waits in is no socket. */
    if (conn->family == AF_UNSPEC)
        return CONNECTION_WAITS_POLL;
    return events & EPOLLIN ? CONNECTION_WAITS_OPENED_READ : CONNECTION_WAITS_OPENED_WRITE;
}

/*
 * since: as for task_wait. In a family the main task alone notes what it waits for; and since its
 * request does not wait for the client alone, it makes no room.
 */
static void note(struct task *task, enum connection_wait wait, uint64_t since)
{
    uint64_t now_ms;
    uint64_t noted;

    if (WEIR_UNLIKELY(task->family)) {
        if (task->child)
            return;
        since &= ~CONNECTION_IS_BOUNDED;
    }
    now_ms = connection_since_ms(since) == 0 ? clock_coarse_ms() : 0;
    noted = connection_note_wait(task->conn, wait, since | now_ms);
    if (WEIR_UNLIKELY(task->worker->alone))
        worker_note(task->worker, noted);
}

/* ------------------------------------------------------------------ waiting ----------- */

static bool is_to_wait_no_more(const struct task *task)
{
    return crew_cancelled(task->worker->crew) || task->cancelled;
}

/* A task of a family runs again: what its siblings have found at once counts no more. */
static void come_back(struct task *task)
{
    task->family->here = task;
    task->family->main->streak = 0;
}

/* Off the stack until somebody has called task_unpark(). */
static int park_unnoted(struct task *task, uint64_t deadline_ms)
{
    struct worker *worker = task->worker;

    task->parked_next = worker->parked;
    task->parked_link = &worker->parked;
    if (worker->parked)
        worker->parked->parked_link = &task->parked_next;
    worker->parked = task;
    if (deadline_ms != 0)
        timer_arm(&worker->timers, &task->timer, deadline_ms);
    task->streak = 0;
    fiber_park(task->fiber);
    if (WEIR_UNLIKELY(task->family))
        come_back(task);
    return task->outcome;
}

int task_park(struct task *task, uint64_t deadline_ms, enum connection_wait wait, uint64_t since)
{
    int r;

    note(task, wait, since);
    r = park_unnoted(task, deadline_ms);
    note(task, CONNECTION_WAITS_NOTHING, 0);
    return r;
}

/*
 * On a thread's own stack nobody parks: the thread waits, with all that it has, and with an ear for
 * orders. Where these don't come as descriptors it looks for one now and then.
 */
static int poll_until(struct task *task, int fd, short events, uint64_t deadline_ms)
{
    struct worker *worker = task->worker;
    struct crew *crew = worker->crew;

    task->streak = 0;
    for (;;) {
        uint64_t now_ms = clock_ms();
        uint64_t until_ms = deadline_ms != 0 ? deadline_ms : CLOCK_NEVER;
        int r;

        if (crew_cancelled(crew))
            return -ECANCELED;
        if (until_ms <= now_ms)
            return -ETIMEDOUT;
        if (crew->cancel_fd < 0)
            until_ms = clock_earlier(until_ms, now_ms + WORKER_SLICE_MS);
        r = worker_poll(worker, fd, events, until_ms);
        if (r != 0)
            return r < 0 ? r : 0;
    }
}

static int wait_blocking(struct task *task, int fd, short events, uint64_t deadline_ms,
                         enum connection_wait wait, uint64_t since)
{
    int r;

    note(task, wait, since);
    r = poll_until(task, fd, events, deadline_ms);
    note(task, CONNECTION_WAITS_NOTHING, 0);
    return r;
}

int task_wait(struct task *task, struct connection *conn, uint32_t events, uint64_t deadline_ms,
              uint64_t since)
{
    int r;

    if (is_to_wait_no_more(task))
        return -ECANCELED;
    if (!task->fiber) {
        conn->drained = false;
        return wait_blocking(task, conn->fd, events & EPOLLIN ? POLLIN : POLLOUT, deadline_ms,
                             wait_of(task, conn, events), since);
    }
    task_require_here(task);
    r = connection_watch(conn, task->worker->watch, events);
    if (r < 0)
        return r;
    if (WEIR_UNLIKELY(task->family))
        return family_wait(task, conn, events, deadline_ms, wait_of(task, conn, events), since);
    if (!connection_park(conn))
        return 0;
    task->waits_for = conn;
    r = task_park(task, deadline_ms, wait_of(task, conn, events), since);
    task->waits_for = NULL;
    return r;
}

int task_sleep(struct task *task, uint64_t deadline_ms)
{
    enum connection_wait wait = task->connects ? CONNECTION_WAITS_CONNECT : CONNECTION_WAITS_SLEEP;
    int r;

    if (is_to_wait_no_more(task))
        return -ECANCELED;
    if (task->fiber) {
        task_require_here(task);
        r = task_park(task, deadline_ms, wait, 0);
    } else {
        r = wait_blocking(task, -1, 0, deadline_ms, wait, 0);
    }
    return r == -ETIMEDOUT ? 0 : r;
}

int task_yield(struct task *task)
{
    if (is_to_wait_no_more(task))
        return -ECANCELED;
    task->streak = 0;
    if (!task->fiber)
        return worker_hear_orders(task->worker);
    task_require_here(task);
    task->yields = true;
    make_runnable(task, 0);
    fiber_park(task->fiber);
    task->yields = false;
    if (WEIR_UNLIKELY(task->family))
        come_back(task);
    return 0;
}

void task_begin_awaiting(struct task *task)
{
    task_require_here(task);
}

void task_await(struct task *task)
{
    task->patient = true;
    task_park(task, 0, task->connects ? CONNECTION_WAITS_CONNECT : CONNECTION_WAITS_OFFLOAD, 0);
    task->patient = false;
}

void task_await_child(struct task *task)
{
    task->patient = true;
    task_park(task, 0, CONNECTION_WAITS_CHILDREN, 0);
    task->patient = false;
}

/* Who is handed something waits for nanoseconds: so the time is that of the worker's turn. */
int task_wait_for_others(struct task *task, uint64_t deadline_ms, bool patient)
{
    const struct timer_wheel *timers = &task->worker->timers;
    int r;

    if (!patient && is_to_wait_no_more(task))
        return -ECANCELED;
    task_require_here(task);
    task->patient = patient;
    note(task, CONNECTION_WAITS_LOCK, timers->now_ms);
    r = park_unnoted(task, deadline_ms);
    note(task, CONNECTION_WAITS_NOTHING, timers->now_ms);
    task->patient = false;
    return r;
}

void task_note_block(struct task *task, bool begins)
{
    note(task, begins ? CONNECTION_WAITS_LOCK : CONNECTION_WAITS_NOTHING, 0);
}

void task_peer(const struct task *task, struct sockaddr_storage *ret, socklen_t *ret_len)
{
    const struct packet *packet = packet_of(task->conn);

    if (!packet) {
        connection_peer(task->conn, ret, ret_len);
        return;
    }
    *ret = packet->peer;
    *ret_len = packet->peer_len;
}

int task_watch(struct task *task)
{
    return connection_watch(task->conn, task->worker->watch, EPOLLIN);
}
