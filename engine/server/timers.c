/*
 * timers.c - weir_timer_after, weir_timer_every and weir_timer_cancel.
 *
 * A timer is an errand: a fiber that waits until it is due, calls the program's function, and waits
 * again. So nothing looks after it but the wheel of its worker, which looks after every wait; and
 * what the function waits for costs what it costs a handler.
 *
 *   its fiber      it says                              leaves by
 *   asleep         timer->asleep is its waiter          the time: it calls, unless it is cancelled
 *                                                       a cancel or a drain, which takes the waiter
 *                                                       out and hands over: it ends
 *   calls          timer->runs                          the function returns: asleep, or it ends
 *   over           timer->over; there is no fiber
 *
 * Each step is under the lock: so a call begins before a cancel, which tells of it, or never.
 */
#include "engine/server/server.h"

#include "engine/base/clock.h"
#include "engine/pool/errand.h"
#include "engine/pool/waiter.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct weir_timer {
    struct weir_server *server;
    void (*fn)(struct weir_request *req, void *arg);
    void *arg;
    uint64_t due_ms;            /* its fiber's */
    uint32_t every_ms;          /* 0: it calls once */
    /* Under the lock: */
    bool held;                  /* the program may still cancel it */
    bool cancelled;
    bool runs;
    bool over;
    struct waiter *asleep;      /* NULL: it does not wait, or is about to hear why it shall not */
    struct weir_timer *next;
    struct weir_timer **link;   /* the pointer that points here */
    struct errand errand;       /* last */
};

static const struct weir_handler shown = { .name = "timer" };

static struct weir_timer *timer_of(struct errand *errand)
{
    return caa_container_of(errand, struct weir_timer, errand);
}

/* ------------------------------------------------------------------ its life ---------- */

static void free_locked(struct weir_timer *timer)
{
    *timer->link = timer->next;
    if (timer->next)
        timer->next->link = timer->link;
    free(timer);
}

/* Under the lock, which nobody waits with: whoever is woken takes it, too. */
static void cancel_locked(struct weir_timer *timer)
{
    struct waiter *asleep = timer->asleep;

    timer->cancelled = true;
    timer->asleep = NULL;
    if (asleep)
        waiter_hand_over(asleep, 0);
}

/* Returns false if it has been cancelled. */
static bool go_to_sleep(struct weir_timer *timer, struct waiter *waiter)
{
    pthread_mutex_t *lock = &timer->server->timers.lock;
    bool may_sleep;

    waiter_init(waiter);
    pthread_mutex_lock(lock);
    may_sleep = !timer->cancelled;
    if (may_sleep)
        timer->asleep = waiter;
    pthread_mutex_unlock(lock);
    return may_sleep;
}

/* Returns true if it is to call. Otherwise it was cancelled, or the server's handlers have been. */
static bool sleep_until_due(struct weir_timer *timer)
{
    pthread_mutex_t *lock = &timer->server->timers.lock;
    struct waiter waiter;
    bool chosen;
    int r;

    if (!go_to_sleep(timer, &waiter))
        return false;
    r = waiter_wait(&waiter, timer->due_ms);
    pthread_mutex_lock(lock);
    chosen = !timer->asleep;
    timer->asleep = NULL;
    timer->runs = !chosen && r == -ETIMEDOUT;
    pthread_mutex_unlock(lock);
    /* It is on its way, and would find another stack. */
    if (chosen && r < 0)
        waiter_await(&waiter);
    return timer->runs;
}

/* Calls that it has missed are left out: it keeps its step, and does not hurry after them. */
static void set_next(struct weir_timer *timer)
{
    uint64_t now_ms = clock_ms();

    timer->due_ms += timer->every_ms;
    if (timer->due_ms <= now_ms)
        timer->due_ms += ((now_ms - timer->due_ms) / timer->every_ms + 1) * timer->every_ms;
}

static void note_return(struct weir_timer *timer)
{
    pthread_mutex_t *lock = &timer->server->timers.lock;

    pthread_mutex_lock(lock);
    timer->runs = false;
    pthread_mutex_unlock(lock);
}

static void run_timer(struct errand *errand, struct weir_request *req)
{
    struct weir_timer *timer = timer_of(errand);

    while (sleep_until_due(timer)) {
        request_call(req, timer->fn, timer->arg);
        note_return(timer);
        if (timer->every_ms == 0)
            break;
        set_next(timer);
    }
}

/* The server may be gone once nothing is open any more. */
static void end_timer(struct errand *errand)
{
    struct weir_timer *timer = timer_of(errand);
    struct weir_server *server = timer->server;

    pthread_mutex_lock(&server->timers.lock);
    timer->over = true;
    if (!timer->held)
        free_locked(timer);
    pthread_mutex_unlock(&server->timers.lock);
    connection_table_let_go(&server->pool->crew.table);
}

/* ------------------------------------------------------------------ the server's ------ */

void server_end_timers(struct weir_server *server)
{
    struct server_timers *timers = &server->timers;

    pthread_mutex_lock(&timers->lock);
    timers->ended = true;
    for (struct weir_timer *timer = timers->first; timer; timer = timer->next)
        cancel_locked(timer);
    pthread_mutex_unlock(&timers->lock);
}

void server_free_timers(struct weir_server *server)
{
    while (server->timers.first)
        free_locked(server->timers.first);
}

/* ------------------------------------------------------------------ the calls --------- */

static struct weir_timer *create_timer(struct weir_server *server, uint32_t ms)
{
    size_t align = _Alignof(struct weir_timer);
    size_t size = (sizeof(struct weir_timer) + align - 1) & ~(align - 1);
    struct weir_timer *timer = aligned_alloc(align, size);

    if (!timer)
        return NULL;
    memset(timer, 0, size);
    timer->server = server;
    /* clock_ms rounds down: one more, so that it is never early. */
    timer->due_ms = clock_ms() + ms + 1;
    errand_init(&timer->errand, &shown, &server->submission);
    timer->errand.run = run_timer;
    timer->errand.end = end_timer;
    return timer;
}

static void put_into_list_locked(struct server_timers *timers, struct weir_timer *timer)
{
    timer->next = timers->first;
    timer->link = &timers->first;
    if (timer->next)
        timer->next->link = &timer->next;
    timers->first = timer;
}

/*
 * 0: it is the server's, whose end waits for it; or -errno. Its function may be called at once, and
 * knows *ret_timer by then.
 */
static int enter_timer(struct weir_timer *timer, struct weir_timer **ret_timer)
{
    struct server_timers *timers = &timer->server->timers;
    struct pool *pool = timer->server->pool;
    int r = -ESHUTDOWN;

    pthread_mutex_lock(&timers->lock);
    if (!timers->ended) {
        r = 0;
        connection_table_hold(&pool->crew.table);
        put_into_list_locked(timers, timer);
        timer->held = ret_timer != NULL;
        if (ret_timer)
            *ret_timer = timer;
        errand_begin(&timer->errand, &pool->workers[timers->begun++ % pool->workers_len]);
    }
    pthread_mutex_unlock(&timers->lock);
    return r;
}

static int start_pool(struct weir_server *server)
{
    int r;

    pthread_mutex_lock(&server->lock);
    r = server_claim_locked(server);
    if (r == 0 && (server->closing || server_state(server) == CLOSED))
        r = -ESHUTDOWN;
    if (r == 0)
        r = pool_start(server->pool);
    pthread_mutex_unlock(&server->lock);
    return r;
}

static int could_not_start(int r)
{
    return SERVER_REFUSE(r, "a timer can't be started: %s",
                         r == -ESHUTDOWN ? "the server was closed" :
                         r == -EINVAL ? "it has no function, or no time between its calls" :
                         r == -EOPNOTSUPP ? "only a pool has fibers that it could call on: "
                                            "WEIR_POOL, or a child of WEIR_PREFORK" :
                         r == -ESRCH ? "the server is another process's" : why_error(r));
}

static int start_timer(struct weir_timer *timer, struct weir_timer **ret_timer)
{
    int r = start_pool(timer->server);

    if (r == 0)
        r = enter_timer(timer, ret_timer);
    if (r < 0)
        free(timer);
    return r;
}

static int create_and_start(struct weir_server *server, uint32_t ms, uint32_t every_ms,
                            void (*fn)(struct weir_request *req, void *arg), void *arg,
                            struct weir_timer **ret_timer)
{
    struct weir_timer *timer;

    if (!fn)
        return -EINVAL;
    if (!server->mixin->has_workers)
        return -EOPNOTSUPP;
    timer = create_timer(server, ms);
    if (!timer)
        return -ENOMEM;
    timer->every_ms = every_ms;
    timer->fn = fn;
    timer->arg = arg;
    return start_timer(timer, ret_timer);
}

int weir_timer_after(struct weir_server *server, uint32_t ms,
                     void (*fn)(struct weir_request *req, void *arg), void *arg,
                     struct weir_timer **ret_timer)
{
    int r = create_and_start(server, ms, 0, fn, arg, ret_timer);

    return r < 0 ? could_not_start(r) : 0;
}

int weir_timer_every(struct weir_server *server, uint32_t ms,
                     void (*fn)(struct weir_request *req, void *arg), void *arg,
                     struct weir_timer **ret_timer)
{
    int r = ms > 0 ? create_and_start(server, ms, ms, fn, arg, ret_timer) : -EINVAL;

    return r < 0 ? could_not_start(r) : 0;
}

int weir_timer_cancel(struct weir_timer *timer)
{
    pthread_mutex_t *lock = &timer->server->timers.lock;
    bool runs;

    /* Its fiber is in the other process, whose worker the wake-up would reach. */
    if (server_is_copy(timer->server))
        return 0;
    pthread_mutex_lock(lock);
    cancel_locked(timer);
    timer->held = false;
    runs = timer->runs;
    if (timer->over)
        free_locked(timer);
    pthread_mutex_unlock(lock);
    return runs ? -EBUSY : 0;
}
