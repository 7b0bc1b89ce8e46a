#include "engine/pool/worker.h"

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/sys.h"
#include "engine/fiber/crash.h"
#include "engine/fiber/stack.h"
#include "engine/pool/dispatch.h"
#include "engine/pool/errand.h"
#include "engine/pool/family.h"
#include "engine/pool/goodbye.h"
#include "engine/pool/receiver.h"
#include "engine/pool/side_door.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* Started from the ready queue per turn, so that others find some there too. */
#define QUEUE_SHARE 4

/*
 * Turned away besides, per turn: many, for while they stay in the queue nobody behind them is
 * served. But when they come faster than they can be turned away the queue has no end of them, and
 * those whom the worker serves already have their turns, too.
 */
#define GOODBYE_SHARE 64

/* Resumed per turn because others have handed them what they waited for, without a system call. */
#define HANDED_SHARE 64

/* A worker may have SHARE_SLACK connections more than another one. */
#define SHARE_SLACK 4

/*
 * Fibers that keep their stacks' memory however long they are spare. More of them keep it while
 * they are needed now and then, or each handler of hundreds that wait at once would have the kernel
 * take a page away and clear another.
 */
#define IDLE_FIBERS 64
#define TRIM_MS 100
#define TRIM_FIBERS 256     /* each time: a call of the kernel each */

static _Thread_local struct worker *self_worker;

WEIR_NOINLINE struct worker *worker_self(void)
{
    return self_worker;
}

/* What is on the thread's own stack may lie on a fiber's: of another server, in whose handler. */
struct task *worker_task_here(void)
{
    const struct worker *worker = worker_self();
    size_t size;
    void *top;

    if (!worker)
        return NULL;
    if (worker->alone || worker->on_own_stack)
        return worker->on_own_stack;
    if (worker->resumed)
        return worker->resumed;
    top = stack_holding(__builtin_frame_address(0), &size);
    return top ? (struct task *)fiber_task(fiber_on_stack(top)) : NULL;
}

/* ------------------------------------------------------------------ begin and end ----- */

void worker_init_alone(struct worker *worker, struct crew *crew, unsigned index)
{
    memset(worker, 0, sizeof(*worker));
    worker->crew = crew;
    worker->index = index;
    worker->runnable_end = &worker->runnable;
    inbox_init(&worker->inbox);
    fiber_cache_init(&worker->fibers, crew->arena, IDLE_FIBERS);
    buffers_init(&worker->rbufs, crew->rbufsize);
    buffers_init(&worker->wbufs, crew->wbufsize);
    packet_buffers_init(&worker->packets, &crew->packet_format);
    timer_wheel_init(&worker->timers, clock_ms());
}

void worker_fini_alone(struct worker *worker)
{
    packet_tray_destroy(worker->tray);
    buffers_fini(&worker->packets);
    buffers_fini(&worker->wbufs);
    buffers_fini(&worker->rbufs);
    fiber_cache_fini(&worker->fibers);
    inbox_fini(&worker->inbox);
}

int worker_init(struct worker *worker, struct crew *crew, unsigned index)
{
    int r;

    worker_init_alone(worker, crew, index);
    r = overflow_stack_map(&worker->overflow);
    if (r < 0)
        goto fail;
    worker->own = &crew->sets[index];
    *worker->own = (struct epoll_set){ .fd = sys_epoll_create() };
    r = worker->own->fd;
    if (r < 0)
        goto fail_stack;
    r = sys_epoll_ctl(worker->own->fd, EPOLL_CTL_ADD, crew->handoff.wake_fds[index],
                      EPOLLIN | EPOLLET, DISPATCH_WAKE);
    if (r < 0)
        goto fail_set;
    worker->watch = crew->common.fd >= 0 ? &crew->common : worker->own;
    return 0;

fail_set:
    sys_close(worker->own->fd);
fail_stack:
    overflow_stack_unmap(&worker->overflow);
fail:
    worker_fini_alone(worker);
    return r;
}

/* A thread that has told the worker something may be about to look whether it sleeps. */
static void await_tellers(const struct worker *worker)
{
    /* acquire: what they have looked at is not needed any more. pairs: worker_tell_from_afar() */
    while (atomic_load_explicit(&worker->tellers, memory_order_acquire) > 0)
        sys_poll(NULL, 0, 1);
}

void worker_fini(struct worker *worker)
{
    await_tellers(worker);
    worker_fini_alone(worker);
    overflow_stack_unmap(&worker->overflow);
    sys_close(worker->own->fd);
}

/* ------------------------------------------------------------------ what it is told --- */

void worker_tell(struct worker *worker, struct message *message)
{
    inbox_put(&worker->inbox, message);
    handoff_wake(&worker->crew->handoff, worker->index);
}

void worker_tell_from_afar(struct worker *worker, struct message *message)
{
    /* relaxed: the message, which is taken before the worker ends, brings it along.
     * pairs: await_tellers() */
    atomic_fetch_add_explicit(&worker->tellers, 1, memory_order_relaxed);
    worker_tell(worker, message);
    /* release: all that is done with the worker comes before it is freed. pairs: await_tellers() */
    atomic_fetch_sub_explicit(&worker->tellers, 1, memory_order_release);
}

static void read_inbox(struct worker *worker)
{
    struct message *message;

    while ((message = inbox_take(&worker->inbox)))
        message->deliver(worker, message);
}

struct packet_tray *worker_tray(struct worker *worker)
{
    if (!worker->tray)
        worker->tray = packet_tray_create(&worker->crew->packet_format, &worker->packets);
    return worker->tray;
}

void worker_put_into_batch(struct worker *worker, unsigned i, struct connection *conn)
{
    /* release: conn, to the thread that exchanges it out. pairs: worker_take_from_batch() */
    atomic_store_explicit(&worker->batch[i], conn, memory_order_release);
}

struct connection *worker_take_from_batch(struct worker *worker, unsigned i)
{
    /* acq_rel: of owner and rescuer exactly one gets it. pairs: worker_put_into_batch() */
    return atomic_exchange_explicit(&worker->batch[i], NULL, memory_order_acq_rel);
}

/* ------------------------------------------------------------------ running ----------- */

void worker_count_end(struct worker *worker, struct connection *conn)
{
    connection_leave_crowd(conn);
    tally_add(&worker->tally, conn->refused ? TALLY_REFUSED : TALLY_CLOSED, 1);
}

static void close_packet(struct worker *worker, struct packet *packet)
{
    struct connection *conn = &packet->conn;
    struct quota *quota = conn->endpoint->quota;

    if (packet->answered) {
        outbox_put(worker, packet);
        return;
    }
    /* First, as below. */
    worker_count_end(worker, conn);
    packet_end(packet, &worker->packets, &worker->wbufs);
    connection_table_return(&worker->crew->table, quota, 1);
}

/* What is in no table. */
static WEIR_NOINLINE void close_unlisted(struct worker *worker, struct connection *conn)
{
    if (conn->kind == CONNECTION_ERRAND)
        errand_of(conn)->end(errand_of(conn));
    else
        close_packet(worker, packet_of(conn));
}

static void close_connection(struct worker *worker, struct connection *conn)
{
    if (WEIR_UNLIKELY(conn->kind >= CONNECTION_PACKET)) {
        close_unlisted(worker, conn);
        return;
    }
    /* First, so that it's counted once weir_server_close has seen that nobody is left. */
    if (WEIR_LIKELY(!conn->ended))
        worker_count_end(worker, conn);
    connection_close(&worker->crew->table, conn);
}

/*
 * A handler has returned, and its fiber is spare: close the connection, or keep it. False when
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
    /* relaxed: for people; one writer. pairs: none */
    uint64_t steps = atomic_load_explicit(&worker->steps, memory_order_relaxed) + 1;
    atomic_store_explicit(&worker->steps, steps, memory_order_relaxed);
    atomic_store_explicit(&worker->inside, handler_name, memory_order_relaxed);
}

void worker_note(struct worker *worker, uint64_t noted)
{
    /* relaxed: for people; one writer. pairs: forks.c's forks_add_roll() */
    atomic_store_explicit(&worker->note, noted, memory_order_relaxed);
}

const char *worker_handler_here(void)
{
    const struct worker *worker = worker_self();

    /* relaxed: written by this thread. pairs: none */
    return worker ? atomic_load_explicit(&worker->inside, memory_order_relaxed) : NULL;
}

/* The connection is RUNNING and ours: the fiber that gets the task serves it. */
static void take_on(struct task *task, struct connection *conn)
{
    task->conn = conn;
    conn->task = task;
    note_inside(task->worker, conn->handler->name);
}

static void serve_on_own_stack(struct worker *worker, struct connection *conn)
{
    struct task task = { .worker = worker };

    take_on(&task, conn);
    worker->on_own_stack = &task;
    worker->crew->serve(&task);
    worker->on_own_stack = NULL;
    conn->task = NULL;
}

/* ... until it is idle or ends, or it's high time for others. */
static void finish_on_own_stack(struct worker *worker, struct connection *conn)
{
    for (unsigned i = 0; i < TASK_STREAK_MAX; i++) {
        serve_on_own_stack(worker, conn);
        if (settle(worker, conn))
            return;
    }
    connection_requeue(conn);
    handoff_put(&worker->crew->handoff, conn);
    handoff_call(&worker->crew->handoff, 1);
}

static bool wants_fiber(const struct connection *conn)
{
    return conn->kind != CONNECTION_SOCKET && conn->handler->stack != WEIR_STACK_THREAD;
}

/* The next connection of the slots that are being run, or NULL. */
static struct connection *next_in_slots(struct worker *worker)
{
    while (worker->slots.at < worker->slots.end) {
        struct connection *conn = worker_take_from_batch(worker, worker->slots.at++);

        if (conn)
            return conn;
    }
    return NULL;
}

/* The same, if it may be served by the fiber that asks. */
static struct connection *next_for_fiber(struct worker *worker)
{
    struct connection *conn = next_in_slots(worker);

    if (!conn || wants_fiber(conn))
        return conn;
    worker_put_into_batch(worker, --worker->slots.at, conn);
    return NULL;
}

struct begin {
    struct worker *worker;
    struct connection *conn;
};

static void take_on_by_fiber(struct task *task, struct connection *conn)
{
    fiber_set_label(task->fiber, conn->handler->name);
    take_on(task, conn);
}

static void serve_on_fiber(struct fiber *fiber, void *arg)
{
    const struct begin *begin = arg;
    struct task task = { .fiber = fiber, .worker = begin->worker };

    fiber_set_task(fiber, &task);
    take_on_by_fiber(&task, begin->conn);
    task.worker->crew->serve(&task);
}

bool worker_next(struct task *task)
{
    struct worker *worker = task->worker;
    struct connection *conn = task->conn;

    if (!task->fiber)
        return false;
    conn->task = NULL;
    if (settle(worker, conn)) {
        conn = next_for_fiber(worker);
        if (!conn)
            return false;
        connection_start(conn);
        task->streak = 0;
    } else if (++task->streak >= TASK_STREAK_MAX) {
        task_yield(task);
    }
    take_on_by_fiber(task, conn);
    return true;
}

static void tell_no_stack(const struct worker *worker)
{
    if (stack_arena_lacks_mappings(worker->crew->arena))
        log_line(LOG_SHORTAGE, "no stack for a handler: on this kernel each takes two mappings: "
                 "raise the sysctl vm.max_map_count, or lower max_connections");
    else
        log_line(LOG_SHORTAGE, "no memory for a handler's stack of %zu bytes",
                 stack_arena_size(worker->crew->arena));
}

void worker_start(struct worker *worker, struct connection *conn)
{
    struct fiber *fiber;

    connection_start(conn);
    if (WEIR_UNLIKELY(!wants_fiber(conn))) {
        if (conn->kind == CONNECTION_SOCKET)
            receiver_take_turn(worker, conn);
        else
            finish_on_own_stack(worker, conn);
    } else if (WEIR_LIKELY((fiber = fiber_get(&worker->fibers)))) {
        if (fiber_run(fiber, serve_on_fiber, &(struct begin){ worker, conn }))
            fiber_put(&worker->fibers, fiber);
    } else {
        tell_no_stack(worker);
        conn->starved = true;
        finish_on_own_stack(worker, conn);
    }
    note_inside(worker, NULL);
}

void worker_run_slots(struct worker *worker, unsigned from, unsigned len)
{
    struct worker_slots outer = worker->slots;
    struct connection *conn;

    worker->slots = (struct worker_slots){ .at = from, .end = from + len };
    while ((conn = next_in_slots(worker)))
        worker_start(worker, conn);
    worker->slots = outer;
}

static void resume(struct worker *worker, struct task *task)
{
    /* The task is gone when its fiber has ended. */
    struct fiber *fiber = task->fiber;

    note_inside(worker, task->conn->handler->name);
    worker->resumed = task;
    if (fiber_resume(fiber))
        fiber_put(&worker->fibers, fiber);
    worker->resumed = NULL;
    note_inside(worker, NULL);
}

/*
 * Each of these gets what another fiber hands over, and may hand it on to the next: from fiber to
 * fiber without a look at the events between. One that yields is to come after such a look.
 */
static void run_handed(struct worker *worker)
{
    struct task *task;

    for (unsigned i = 0; i < HANDED_SHARE && (task = worker->runnable) && !task->yields; i++) {
        worker->runnable = task->next;
        if (!worker->runnable)
            worker->runnable_end = &worker->runnable;
        resume(worker, task);
    }
}

/* Those that are runnable now, and what they hand over to. */
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
    run_handed(worker);
}

static void run_batch(struct worker *worker)
{
    worker_run_slots(worker, 0, worker->batch_len);
    worker->batch_len = 0;
}

/* Before going into a handler: somebody was woken for the queue, and it was us. */
static void pass_call_on(struct worker *worker)
{
    if (worker->called)
        handoff_pass_on(&worker->crew->handoff);
    worker->called = false;
}

/*
 * New connections stay with the worker that takes them. One that has more than its share leaves
 * them to another that sleeps, and would sleep on: a wake-up now for two CPUs' work later.
 */
static bool leave_to_another(struct worker *worker)
{
    struct crew *crew = worker->crew;
    uint32_t mine = epoll_set_members(worker->own);

    if (mine <= SHARE_SLACK || !handoff_anyone_asleep(&crew->handoff))
        return false;
    for (unsigned i = 0; i < crew->handoff.workers; i++) {
        uint32_t theirs = epoll_set_members(&crew->sets[i]);

        if (theirs + theirs / 8 + SHARE_SLACK < mine && handoff_wake(&crew->handoff, i)) {
            worker->called = false;
            return true;
        }
    }
    return false;
}

/* One of those that come in is ours, if no handler comes before it: that one may hold us. */
static void enter_side_doors(struct worker *worker)
{
    unsigned ours = !worker->runnable && worker->batch_len == 0;
    unsigned queued = 0;

    do {
        unsigned i = dispatch_side_door(worker->at_side_doors);

        worker->at_side_doors &= worker->at_side_doors - 1;
        queued += side_door_enter(worker, crew_side_door(worker->crew, i));
    } while (worker->at_side_doors != 0);
    if (queued > ours)
        handoff_call(&worker->crew->handoff, queued - ours);
}

/* Of a client that has waited too long. Returns true if it was still there, and is done with. */
static __attribute__((cold, noinline))
bool say_goodbye(struct worker *worker, struct connection *conn)
{
    const struct overload *overload = &worker->crew->overload;

    if (!goodbye_say_if_asked(conn->fd, conn->handler))
        return false;
    log_line(LOG_OVERLOAD, "%s: overloaded: clients wait for a worker for more than %u ms, and "
             "those that have waited for %u ms are turned away", conn->endpoint->uri,
             overload->target_ms, OVERLOAD_LIMIT * overload->target_ms);
    tally_add(&worker->tally, TALLY_SHED, 1);
    connection_start(conn);
    conn->refused = true;
    close_connection(worker, conn);
    return true;
}

static void run_queue(struct worker *worker)
{
    struct ready_queue *queue = &worker->crew->handoff.queue;
    unsigned started = 0, goodbyes = 0;

    if (!ready_queue_empty(queue) && leave_to_another(worker))
        return;
    while (started < QUEUE_SHARE && goodbyes < GOODBYE_SHARE) {
        /* The only pop there is, and so a part of this function. */
        struct connection *conn = ready_queue_pop(queue);

        pass_call_on(worker);
        if (!conn)
            return;
        if (WEIR_UNLIKELY(overload_sheds(&worker->crew->overload, queue, conn)) &&
            say_goodbye(worker, conn)) {
            goodbyes++;
            continue;
        }
        worker_start(worker, conn);
        started++;
    }
}

/* Its wait is to end. False: what it waits for is ready after all, and a message says so. */
static bool leave_wait(struct task *task)
{
    if (!task->waits_for)
        return true;
    return WEIR_UNLIKELY(task->family) ? family_leave(task) : connection_unpark(task->waits_for);
}

static void expire_timers(struct worker *worker, uint64_t now_ms)
{
    struct timer *timer;

    while ((timer = timer_wheel_expire(&worker->timers, now_ms))) {
        struct task *task = caa_container_of(timer, struct task, timer);

        if (leave_wait(task))
            task_unpark(task, -ETIMEDOUT);
    }
}

static void cancel_parked(struct worker *worker)
{
    struct task *next;

    worker->cancel_done = true;
    for (struct task *task = worker->parked; task; task = next) {
        next = task->parked_next;
        if (!task->patient && leave_wait(task))
            task_unpark(task, -ECANCELED);
    }
}

static void trim_fibers(struct worker *worker, uint64_t now_ms)
{
    if (now_ms < worker->trim_ms)
        return;
    fiber_cache_trim(&worker->fibers, TRIM_FIBERS);
    worker->trim_ms = now_ms + TRIM_MS;
}

/* ------------------------------------------------------------------ the thread -------- */

/* Looked at between the announcement of sleep and sleep itself. */
static bool something_to_do(struct worker *worker)
{
    return !ready_queue_empty(&worker->crew->handoff.queue) || !inbox_empty(&worker->inbox) ||
           (crew_cancelled(worker->crew) && !worker->cancel_done) || crew_stopping(worker->crew);
}

static void take_events(struct worker *worker, int timeout_ms)
{
    struct epoll_event events[WORKER_BATCH];
    struct crew *crew = worker->crew;
    int n = sys_epoll_wait(worker->own->fd, events, WORKER_BATCH, timeout_ms);
    uint64_t tokens;

    if (n <= 0)
        return;
    tokens = dispatch(crew, worker, events, n);
    if (WEIR_UNLIKELY(tokens & DISPATCH_COMMON))
        dispatch_all(crew, crew->common.fd, &tokens);
    worker->at_side_doors = tokens & ~(DISPATCH_WAKE | DISPATCH_COMMON);
}

/* When something is to be done, whatever happens. */
static uint64_t next_ms(const struct worker *worker)
{
    uint64_t timer_ms = timer_wheel_next_ms(&worker->timers);

    if (WEIR_LIKELY(!fiber_cache_trimmable(&worker->fibers)) || timer_ms < worker->trim_ms)
        return timer_ms;
    return worker->trim_ms;
}

/* Takes events, asleep until there is something to do. Returns the time, clock_ns's. */
static uint64_t sleep_or_take_events(struct worker *worker)
{
    struct handoff *handoff = &worker->crew->handoff;
    uint64_t now_ns = clock_ns();
    int timeout_ms = 0;

    if (worker->runnable) {
        take_events(worker, 0);
        return now_ns;
    }
    tally_add(&worker->tally, TALLY_BUSY_NS, clock_since(worker->busy_since_ns, now_ns));
    handoff_sleep(handoff, worker->index);
    if (!something_to_do(worker))
        timeout_ms = clock_timeout_ms(next_ms(worker), now_ns / 1000000);
    take_events(worker, timeout_ms);
    worker->called = handoff_awake(handoff, worker->index);
    worker->busy_since_ns = clock_ns();
    return worker->busy_since_ns;
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
    /* A worker that was called looks into the queue before it goes into any handler. Otherwise the
     * queue comes last: the requests of the clients that it accepts now arrive while it serves
     * others. */
    if (worker->called)
        run_queue(worker);
    if (worker->at_side_doors != 0)
        enter_side_doors(worker);
    if (worker->runnable)
        run_runnable(worker);
    run_batch(worker);
    run_queue(worker);
    if (WEIR_UNLIKELY(worker->outbox.len > 0))
        outbox_flush(worker);
    if (WEIR_UNLIKELY(fiber_cache_trimmable(&worker->fibers)))
        trim_fibers(worker, now_ns / 1000000);
}

void *worker_main(void *arg)
{
    struct worker *worker = arg;

    self_worker = worker;
    worker->stack_base = __builtin_frame_address(0);
    pthread_sigmask(SIG_BLOCK, NULL, &worker->mask);
    crash_set_role("a worker, outside of handlers");
    /* release: stack_base, to whoever reads that stack. pairs: stall.c's awaits_answer() */
    atomic_store_explicit(&worker->tid, gettid(), memory_order_release);
    worker->busy_since_ns = clock_ns();
    reclaim_thread_init();
    overflow_thread_init(&worker->overflow);
    while (!crew_stopping(worker->crew))
        turn(worker, sleep_or_take_events(worker));
    overflow_thread_fini(&worker->overflow);
    reclaim_thread_fini();
    return NULL;
}

/* ------------------------------------------------------------------ without a pool ---- */

void worker_take_leave(struct worker *worker)
{
    enum crew_order keeps = CREW_KEEPS;

    /* relaxed: a drain that has begun is not taken back. pairs: worker_order() */
    atomic_compare_exchange_strong_explicit(&worker->order, &keeps, CREW_TAKES_LEAVE,
                                            memory_order_relaxed, memory_order_relaxed);
}

/* Nothing is kept any more. */
static void begin_drain(struct worker *worker)
{
    /* relaxed: for this thread; to others it is a number. pairs: worker_order() */
    atomic_store_explicit(&worker->order, CREW_DRAINS, memory_order_relaxed);
}

static bool others_follow(const struct worker_alone *alone)
{
    /* relaxed: the stop came behind it. pairs: server_note_followed_locked() */
    return atomic_load_explicit(alone->followed, memory_order_relaxed);
}

/* Of a stop a thread that serves alone must end the drain by itself, and taking leave before it. */
static void obey_stop(struct worker *worker)
{
    const struct worker_alone *alone = worker->alone;
    uint64_t now_ms = clock_ms();

    if (alone->drain_timeout_ms > 0)
        worker->cancel_at_ms = now_ms + alone->drain_timeout_ms + 1;
    if (alone->leave_ms > 0 && others_follow(alone)) {
        worker_take_leave(worker);
        worker->drain_at_ms = now_ms + alone->leave_ms;
    } else {
        begin_drain(worker);
    }
}

static bool has_taken_leave(const struct worker *worker)
{
    return worker->drain_at_ms != 0 && clock_ms() >= worker->drain_at_ms;
}

static bool is_cancelled(const struct worker *worker, uint64_t now_ms)
{
    return worker->cancel_at_ms != 0 && now_ms >= worker->cancel_at_ms;
}

static int poll_once(struct worker *worker, int fd, short events, uint64_t until_ms)
{
    enum crew_order order = worker->alone ? worker_order(worker) : CREW_DRAINS;
    uint64_t now_ms = clock_ms();
    struct pollfd fds[] = {
        { .fd = fd, .events = events },
        { .fd = worker->crew->cancel_fd, .events = POLLIN },
        { .fd = order != CREW_DRAINS ? worker->crew->drain_fd : -1, .events = POLLIN },
        { .fd = order == CREW_KEEPS ? worker->alone->stop_fd : -1, .events = POLLIN },
    };
    int r;

    if (is_cancelled(worker, now_ms))
        return -ECANCELED;
    if (worker->cancel_at_ms != 0)
        until_ms = clock_earlier(until_ms, worker->cancel_at_ms);
    if (worker->drain_at_ms != 0 && order != CREW_DRAINS)
        until_ms = clock_earlier(until_ms, worker->drain_at_ms);
    r = sys_poll(fds, sizeof(fds) / sizeof(fds[0]), clock_timeout_ms(until_ms, now_ms));
    if (r < 0)
        return r;
    if (fds[3].revents)
        obey_stop(worker);
    if (fds[2].revents || has_taken_leave(worker))
        begin_drain(worker);
    if (fds[1].revents)
        return -ECANCELED;
    return fds[0].revents != 0;
}

/*
 * A handler that has a connection served by another server, there and then, waits for its end: so
 * an order to the handler's server is one for that connection. 0 or -ECANCELED.
 */
static int hear_outer(struct worker *worker)
{
    struct worker *outer = worker->outer;

    if (crew_cancelled(outer->crew) || worker_hear_orders(outer) < 0)
        return -ECANCELED;
    if (worker_draining(outer))
        begin_drain(worker);
    return 0;
}

/* Orders to the outer server, which may be a pool's, come as no descriptor: it looks for them. */
static int poll_inside(struct worker *worker, int fd, short events, uint64_t until_ms)
{
    for (;;) {
        bool was_draining = worker_order(worker) == CREW_DRAINS;
        int r = hear_outer(worker);
        uint64_t now_ms = clock_ms();
        uint64_t slice_ms = clock_earlier(until_ms, now_ms + WORKER_SLICE_MS);
        bool drains = worker_order(worker) == CREW_DRAINS;

        if (r == 0)
            r = poll_once(worker, fd, events, drains == was_draining ? slice_ms : now_ms);
        if (r != 0 || worker_order(worker) == CREW_DRAINS || until_ms <= now_ms)
            return r;
    }
}

int worker_poll(struct worker *worker, int fd, short events, uint64_t until_ms)
{
    /* In a forked child the outer handler has gone on in the parent. */
    return worker->outer && worker->alone->inside ? poll_inside(worker, fd, events, until_ms)
                                                  : poll_once(worker, fd, events, until_ms);
}

int worker_hear_orders(struct worker *worker)
{
    return worker->alone ? worker_poll(worker, -1, 0, 0) : 0;
}

/* A kept connection waits for input, for its timeout, or for an order to keep nothing. */
static void wait_idle(struct worker *worker, struct connection *conn)
{
    uint32_t timeout_ms = connection_idle_limit_ms(conn, !conn->began);
    uint64_t until_ms = timeout_ms > 0 ? clock_ms() + timeout_ms + 1 : CLOCK_NEVER;
    int r;

    worker_note(worker, connection_noted(conn));
    do
        r = worker_poll(worker, conn->fd, POLLIN, until_ms);
    while (r == 0 && worker_order(worker) != CREW_DRAINS && clock_ms() < until_ms);
    worker_note(worker, connection_note_wait(conn, CONNECTION_WAITS_NOTHING, clock_coarse_ms()));
    if (r == -ECANCELED)
        begin_drain(worker);
    conn->expired = r <= 0 && worker_order(worker) != CREW_DRAINS;
}

void worker_serve_alone(struct worker *worker, struct connection *conn,
                        const struct worker_alone *how)
{
    const char *role = crash_set_role("a thread that serves, outside of its handler");

    /* Embedded in a handler of another server, say. */
    worker->outer = self_worker;
    self_worker = worker;
    worker->alone = how;
    worker->cancel_at_ms = 0;
    worker->drain_at_ms = 0;
    /* It is in no set: the thread that keeps it waits for it. */
    conn->watched = EPOLLIN;
    connection_start(conn);
    serve_on_own_stack(worker, conn);
    while (conn->kept) {
        /* Nobody marks or claims it: it is in no set, and crew_queue_idle leaves it alone. */
        connection_keep(conn);
        wait_idle(worker, conn);
        connection_claim(conn);
        connection_start(conn);
        serve_on_own_stack(worker, conn);
    }
    close_connection(worker, conn);
    worker->alone = NULL;
    /* Behind the connection: a parent may have ordered before its child has come here.
     * relaxed: for the next one that this thread serves. pairs: worker_order() */
    atomic_store_explicit(&worker->order, CREW_KEEPS, memory_order_relaxed);
    self_worker = worker->outer;
    crash_set_role(role);
}
