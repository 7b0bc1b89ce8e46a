#include "engine/worker.h"

#include "engine/clock.h"
#include "engine/overflow.h"
#include "engine/sys.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>

/* Started from the ready queue per turn, so that others find some there too. */
#define QUEUE_SHARE 4

/* Fibers that keep their stacks' memory while they rest. */
#define WARM_FIBERS 64

/* A task on the worker's own stack looks this often whether it was cancelled. */
#define BLOCKING_SLICE_MS 100

static _Thread_local struct worker *self_worker;

WEIR_NOINLINE struct worker *worker_self(void)
{
    return self_worker;
}

/* ------------------------------------------------------------------ begin and end ----- */

int worker_init(struct worker *worker, struct crew *crew, unsigned index)
{
    int r;

    memset(worker, 0, sizeof(*worker));
    worker->crew = crew;
    worker->index = index;
    worker->runnable_end = &worker->runnable;
    worker->epoll_fd = sys_epoll_create();
    if (worker->epoll_fd < 0)
        return worker->epoll_fd;
    r = sys_epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, crew->handoff.wake_fds[index],
                      EPOLLIN | EPOLLET, WORKER_WAKE);
    if (r < 0) {
        sys_close(worker->epoll_fd);
        return r;
    }
    worker->watch_fd = crew->shared_fd >= 0 ? crew->shared_fd : worker->epoll_fd;
    inbox_init(&worker->inbox);
    fiber_cache_init(&worker->fibers, crew->arena, WARM_FIBERS);
    buffers_init(&worker->rbufs, crew->rbufsize);
    buffers_init(&worker->wbufs, crew->wbufsize);
    timer_wheel_init(&worker->timers, clock_ms());
    return 0;
}

void worker_fini(struct worker *worker)
{
    buffers_fini(&worker->wbufs);
    buffers_fini(&worker->rbufs);
    fiber_cache_fini(&worker->fibers);
    inbox_fini(&worker->inbox);
    sys_close(worker->epoll_fd);
}

/* ------------------------------------------------------------------ tasks ------------- */

static void make_runnable(struct task *task, int outcome)
{
    struct worker *worker = task->worker;

    task->outcome = outcome;
    task->next = NULL;
    *worker->runnable_end = task;
    worker->runnable_end = &task->next;
}

static void unpark(struct task *task, int outcome)
{
    timer_disarm(&task->worker->timers, &task->timer);
    *task->parked_link = task->parked_next;
    if (task->parked_next)
        task->parked_next->parked_link = task->parked_link;
    task->parked_link = NULL;
    make_runnable(task, outcome);
}

/* Off the stack until somebody has called unpark(). */
static int park(struct task *task, uint64_t deadline_ms)
{
    struct worker *worker = task->worker;

    task->parked_next = worker->parked;
    task->parked_link = &worker->parked;
    if (worker->parked)
        worker->parked->parked_link = &task->parked_next;
    worker->parked = task;
    if (deadline_ms != 0)
        timer_arm(&worker->timers, &task->timer, deadline_ms);
    fiber_park(task->fiber);
    return task->outcome;
}

/* On the worker's own stack nobody parks: the worker waits, with all that it has. */
static int wait_blocking(struct task *task, int fd, short events, uint64_t deadline_ms)
{
    for (;;) {
        uint64_t now_ms = clock_ms();
        uint64_t left_ms = deadline_ms != 0 ? deadline_ms - now_ms : BLOCKING_SLICE_MS;
        int r;

        if (crew_cancelled(task->worker->crew))
            return -ECANCELED;
        if (deadline_ms != 0 && deadline_ms <= now_ms)
            return -ETIMEDOUT;
        if (left_ms > BLOCKING_SLICE_MS)
            left_ms = BLOCKING_SLICE_MS;
        r = sys_poll_one(fd, events, (int)left_ms);
        if (r != 0)
            return r < 0 ? r : 0;
    }
}

int worker_wait(struct task *task, struct connection *conn, uint32_t events, uint64_t deadline_ms)
{
    int r;

    if (crew_cancelled(task->worker->crew))
        return -ECANCELED;
    if (!task->fiber) {
        conn->drained = false;
        return wait_blocking(task, conn->fd, events & EPOLLIN ? POLLIN : POLLOUT, deadline_ms);
    }
    r = connection_watch(conn, task->worker->watch_fd, events);
    if (r < 0)
        return r;
    if (!connection_park(conn))
        return 0;
    task->waits_for = conn;
    r = park(task, deadline_ms);
    task->waits_for = NULL;
    return r;
}

int worker_sleep(struct task *task, uint64_t deadline_ms)
{
    int r;

    if (crew_cancelled(task->worker->crew))
        return -ECANCELED;
    r = task->fiber ? park(task, deadline_ms) : wait_blocking(task, -1, 0, deadline_ms);
    return r == -ETIMEDOUT ? 0 : r;
}

int worker_yield(struct task *task)
{
    if (crew_cancelled(task->worker->crew))
        return -ECANCELED;
    if (!task->fiber)
        return 0;
    make_runnable(task, 0);
    fiber_park(task->fiber);
    return 0;
}

void worker_await(struct task *task)
{
    task->patient = true;
    park(task, 0);
    task->patient = false;
}

void worker_resume(struct task *task)
{
    unpark(task, 0);
}

int worker_watch(struct task *task)
{
    return connection_watch(task->conn, task->worker->watch_fd, EPOLLIN);
}

/* ------------------------------------------------------------------ messages ---------- */

void worker_tell(struct worker *worker, struct message *message)
{
    inbox_put(&worker->inbox, message);
    handoff_wake(&worker->crew->handoff, worker->index);
}

static void deliver_woken(struct worker *worker, struct message *message)
{
    struct connection *conn = caa_container_of(message, struct connection, woken);

    (void)worker;
    conn->drained = false;
    unpark(conn->task, 0);
}

static void read_inbox(struct worker *worker)
{
    struct message *message;

    while ((message = inbox_take(&worker->inbox)))
        message->deliver(worker, message);
}

/* ------------------------------------------------------------------ events ------------ */

/* A task that waits for conn is runnable again: here, or over there. */
static void resume_task_of(struct connection *conn, struct worker *self)
{
    struct task *task = conn->task;

    if (task->worker == self) {
        conn->drained = false;
        unpark(task, 0);
        return;
    }
    conn->woken.deliver = deliver_woken;
    worker_tell(task->worker, &conn->woken);
}

/* release: conn, to whoever exchanges it out. pairs: take_from_batch() */
static void put_into_batch(struct worker *self, struct connection *conn)
{
    atomic_store_explicit(&self->batch[self->batch_len++], conn, memory_order_release);
}

/* acq_rel: of owner and rescuer exactly one gets it. pairs: put_into_batch() */
static struct connection *take_from_batch(struct worker *worker, unsigned i)
{
    return atomic_exchange_explicit(&worker->batch[i], NULL, memory_order_acq_rel);
}

uint64_t worker_dispatch(struct crew *crew, struct worker *self, const struct epoll_event *events,
                         int n)
{
    uint64_t tokens = 0;

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
            resume_task_of(conn, self);
            break;
        case CONNECTION_QUEUE:
            if (self)
                put_into_batch(self, conn);
            else
                handoff_push(&crew->handoff, conn);
            break;
        case CONNECTION_NOTHING:
            break;
        }
    }
    reclaim_exit();
    return tokens;
}

unsigned worker_dispatch_all(struct crew *crew, int epoll_fd, uint64_t *ret_tokens)
{
    struct epoll_event events[WORKER_BATCH];
    unsigned sum = 0;
    int n;

    do {
        n = sys_epoll_wait(epoll_fd, events, WORKER_BATCH, 0);
        if (n <= 0)
            break;
        *ret_tokens |= worker_dispatch(crew, NULL, events, n);
        sum += (unsigned)n;
    } while (n == WORKER_BATCH);
    return sum;
}

unsigned worker_rescue(struct worker *stuck)
{
    struct crew *crew = stuck->crew;
    uint64_t tokens = 0;
    unsigned rescued = 0;

    for (unsigned i = 0; i < WORKER_BATCH; i++) {
        struct connection *conn = take_from_batch(stuck, i);

        if (!conn)
            continue;
        handoff_push(&crew->handoff, conn);
        rescued++;
    }
    rescued += worker_dispatch_all(crew, stuck->epoll_fd, &tokens);
    /* This edge was meant for the worker: it may have gone to sleep meanwhile. */
    if (tokens & WORKER_WAKE)
        sys_eventfd_signal(crew->handoff.wake_fds[stuck->index]);
    return rescued;
}

/* ------------------------------------------------------------------ running ----------- */

struct begin {
    struct worker *worker;
    struct connection *conn;
    struct fiber *fiber;
};

static void task_main(struct fiber *fiber, void *arg)
{
    const struct begin *begin = arg;
    struct task task = { .fiber = fiber, .worker = begin->worker, .conn = begin->conn };

    task.conn->task = &task;
    task.worker->crew->serve(&task);
    task.conn->task = NULL;
}

static void close_connection(struct worker *worker, struct connection *conn)
{
    connection_close(&worker->crew->table, conn);
    tally_add(&worker->tally, TALLY_CLOSED, 1);
}

/*
 * A handler has returned, and its fiber is at rest: close the connection, or keep it. False when
 * there is more input already: it is still ours, and its handler's turn again.
 */
static bool settle(struct worker *worker, struct connection *conn)
{
    if (!conn->kept) {
        close_connection(worker, conn);
        return true;
    }
    if (!connection_keep(conn))
        return false;
    /* Nothing of conn is ours from here on. A drain that began just now has passed it by. */
    if (WEIR_UNLIKELY(crew_draining(worker->crew)))
        crew_queue_idle(worker->crew, NULL, NULL);
    return true;
}

/* The acceptor's watchdog looks at these now and then. */
static void note_inside(struct worker *worker, const char *handler_name)
{
    uint64_t steps = atomic_load_explicit(&worker->steps, memory_order_relaxed) + 1;

    /* relaxed: for people; one writer. pairs: none */
    atomic_store_explicit(&worker->steps, steps, memory_order_relaxed);
    atomic_store_explicit(&worker->inside, handler_name, memory_order_relaxed);
}

static void run_on_own_stack(struct worker *worker, struct connection *conn)
{
    task_main(NULL, &(struct begin){ .worker = worker, .conn = conn });
}

/* True when the handler has returned, false when it has parked. */
static bool run_once(struct worker *worker, struct connection *conn)
{
    struct fiber *fiber;
    bool ended;

    if (conn->handler->stack == WEIR_STACK_THREAD) {
        run_on_own_stack(worker, conn);
        return true;
    }
    fiber = fiber_get(&worker->fibers);
    if (WEIR_UNLIKELY(!fiber)) {
        /* No memory for a fiber: refuse what has not begun, end what has. */
        tally_add(&worker->tally, TALLY_REFUSED, 1);
        conn->expired = true;
        run_on_own_stack(worker, conn);
        return true;
    }
    fiber_set_label(fiber, conn->handler->name);
    ended = fiber_run(fiber, task_main, &(struct begin){ .worker = worker, .conn = conn });
    if (ended)
        fiber_put(&worker->fibers, fiber);
    return ended;
}

/* The connection is RUNNING and ours. */
static void run_handler(struct worker *worker, struct connection *conn)
{
    note_inside(worker, conn->handler->name);
    while (run_once(worker, conn) && !settle(worker, conn))
        ;
    note_inside(worker, NULL);
}

static void start(struct worker *worker, struct connection *conn)
{
    connection_start(conn);
    run_handler(worker, conn);
}

static void resume(struct worker *worker, struct task *task)
{
    /* The task is gone when its fiber has ended. */
    struct connection *conn = task->conn;
    struct fiber *fiber = task->fiber;

    note_inside(worker, conn->handler->name);
    if (fiber_resume(fiber)) {
        fiber_put(&worker->fibers, fiber);
        if (!settle(worker, conn))
            run_handler(worker, conn);
    }
    note_inside(worker, NULL);
}

/* Those that are runnable now; who yields meanwhile comes in the next turn. */
static void run_runnable(struct worker *worker)
{
    struct task *task = worker->runnable;

    worker->runnable = NULL;
    worker->runnable_end = &worker->runnable;
    while (task) {
        struct task *next = task->next;

        resume(worker, task);
        task = next;
    }
}

static void run_batch(struct worker *worker)
{
    unsigned len = worker->batch_len;

    for (unsigned i = 0; i < len; i++) {
        struct connection *conn = take_from_batch(worker, i);

        if (conn)
            start(worker, conn);
    }
    worker->batch_len = 0;
}

static void run_queue(struct worker *worker)
{
    for (unsigned i = 0; i < QUEUE_SHARE; i++) {
        struct connection *conn = ready_queue_pop(&worker->crew->handoff.queue);

        if (!conn)
            return;
        start(worker, conn);
    }
}

static void expire_timers(struct worker *worker, uint64_t now_ms)
{
    struct timer *timer;

    while ((timer = timer_wheel_expire(&worker->timers, now_ms))) {
        struct task *task = caa_container_of(timer, struct task, timer);

        /* No: it is ready after all, and the message that says so is on its way. */
        if (task->waits_for && !connection_unpark(task->waits_for))
            continue;
        unpark(task, -ETIMEDOUT);
    }
}

static void cancel_parked(struct worker *worker)
{
    struct task *next;

    worker->cancel_done = true;
    for (struct task *task = worker->parked; task; task = next) {
        next = task->parked_next;
        if (task->patient || (task->waits_for && !connection_unpark(task->waits_for)))
            continue;
        unpark(task, -ECANCELED);
    }
}

/* ------------------------------------------------------------------ the thread -------- */

static bool stopping(const struct worker *worker)
{
    /* acquire: what was done before the pool was told to stop. pairs: pool_stop() */
    return atomic_load_explicit(&worker->crew->stopping, memory_order_acquire);
}

/* Looked at between the announcement of sleep and sleep itself. */
static bool something_to_do(struct worker *worker)
{
    return !ready_queue_empty(&worker->crew->handoff.queue) || !inbox_empty(&worker->inbox) ||
           (crew_cancelled(worker->crew) && !worker->cancel_done) || stopping(worker);
}

static int until_next_timer_ms(const struct worker *worker, uint64_t now_ms)
{
    uint64_t next_ms = timer_wheel_next_ms(&worker->timers);

    if (next_ms == UINT64_MAX)
        return -1;
    if (next_ms <= now_ms)
        return 0;
    return next_ms - now_ms > INT_MAX ? INT_MAX : (int)(next_ms - now_ms);
}

static void take_events(struct worker *worker, int timeout_ms)
{
    struct epoll_event events[WORKER_BATCH];
    struct crew *crew = worker->crew;
    int n = sys_epoll_wait(worker->epoll_fd, events, WORKER_BATCH, timeout_ms);
    uint64_t tokens;

    if (n <= 0)
        return;
    tokens = worker_dispatch(crew, worker, events, n);
    if (WEIR_UNLIKELY(tokens & WORKER_SHARED))
        worker_dispatch_all(crew, crew->shared_fd, &tokens);
}

/* Takes events, asleep until there is something to do. Returns the time, clock_ns's. */
static uint64_t sleep_or_take_events(struct worker *worker, uint64_t began_ns)
{
    struct handoff *handoff = &worker->crew->handoff;
    uint64_t now_ns;
    int timeout_ms = 0;

    if (worker->runnable) {
        take_events(worker, 0);
        return clock_ns();
    }
    now_ns = clock_ns();
    tally_add(&worker->tally, TALLY_BUSY_NS, now_ns - began_ns);
    handoff_sleep(handoff, worker->index);
    if (!something_to_do(worker))
        timeout_ms = until_next_timer_ms(worker, now_ns / 1000000);
    take_events(worker, timeout_ms);
    handoff_awake(handoff, worker->index);
    return clock_ns();
}

static void turn(struct worker *worker, uint64_t now_ns)
{
    /* relaxed: the tick looks at it now and then; one writer. pairs: none */
    atomic_store_explicit(&worker->turns,
                          atomic_load_explicit(&worker->turns, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    read_inbox(worker);
    expire_timers(worker, now_ns / 1000000);
    if (WEIR_UNLIKELY(crew_cancelled(worker->crew)) && !worker->cancel_done)
        cancel_parked(worker);
    run_runnable(worker);
    run_batch(worker);
    run_queue(worker);
}

void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct overflow_thread overflow;
    uint64_t now_ns = clock_ns();

    self_worker = worker;
    reclaim_thread_init();
    overflow_thread_init(&overflow);
    while (!stopping(worker)) {
        now_ns = sleep_or_take_events(worker, now_ns);
        turn(worker, now_ns);
    }
    overflow_thread_fini(&overflow);
    reclaim_thread_fini();
    return NULL;
}

/* ------------------------------------------------------------------ the crew ---------- */

struct queueing {
    struct crew *crew;
    bool (*pick)(struct connection *conn, void *arg);
    void *arg;
};

static void queue_if_idle(struct connection *conn, void *arg)
{
    const struct queueing *queueing = arg;

    if (queueing->pick && !queueing->pick(conn, queueing->arg))
        return;
    if (!connection_claim(conn))
        return;
    conn->expired = queueing->pick != NULL;
    handoff_push(&queueing->crew->handoff, conn);
}

void crew_queue_idle(struct crew *crew, bool (*pick)(struct connection *conn, void *arg),
                     void *arg)
{
    connection_table_each(&crew->table, queue_if_idle,
                          &(struct queueing){ .crew = crew, .pick = pick, .arg = arg });
}
