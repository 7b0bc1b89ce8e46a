#include "engine/pool/pool.h"

#include "engine/base/clock.h"
#include "engine/base/misuse.h"
#include "engine/base/sys.h"
#include "engine/base/thread.h"
#include "engine/fiber/overflow.h"
#include "engine/fiber/trace.h"
#include "engine/pool/dispatch.h"
#include "engine/pool/scene.h"
#include "engine/sync/reclaim.h"

#include <errno.h>
#include <stdlib.h>

/*
 * A worker that has not looked at its epoll set for TICKS_STUCK_IDLE ticks is stuck if another one
 * sleeps; for TICKS_STUCK_BUSY ticks, if none does. After a single tick it may only have lost its
 * CPU for a moment: then it is stuck if it has had it for so long meanwhile, and another one
 * sleeps.
 */
#define TICKS_STUCK_IDLE 2
#define TICKS_STUCK_BUSY 8
#define USED_STUCK_NS 700000

/* ------------------------------------------------------------------ begin and end ----- */

static void free_pool(struct pool *pool)
{
    free(pool->threads);
    free(pool->watches);
    free(pool->workers);
    free(pool);
}

static struct pool *allocate_pool(unsigned workers)
{
    struct pool *pool = aligned_alloc(WEIR_CACHE_LINE, sizeof(*pool));

    if (!pool)
        return NULL;
    *pool = (struct pool){ 0 };
    pool->workers = aligned_alloc(WEIR_CACHE_LINE, workers * sizeof(*pool->workers));
    pool->watches = calloc(workers, sizeof(*pool->watches));
    pool->threads = calloc(workers, sizeof(*pool->threads));
    if (pool->workers && pool->watches && pool->threads)
        return pool;
    free_pool(pool);
    return NULL;
}

static void fini_workers(struct pool *pool)
{
    while (pool->workers_len > 0)
        worker_fini(&pool->workers[--pool->workers_len]);
}

int pool_create(const struct pool_config *config, struct pool **ret_pool)
{
    struct pool *pool = allocate_pool(config->crew.workers);
    struct crew_config *crew;
    int r;

    if (!pool)
        return -ENOMEM;
    pool->config = *config;
    crew = &pool->config.crew;
    crew->watched = !crew->threadless && (crew->workers > 1 || config->stall.warn_ms > 0);
    r = crew_init(&pool->crew, crew);
    if (r < 0) {
        free_pool(pool);
        return r;
    }
    while (pool->workers_len < crew->workers) {
        r = worker_init(&pool->workers[pool->workers_len], &pool->crew, pool->workers_len);
        if (r < 0)
            goto fail;
        pool->workers_len++;
    }
    if (pool->crew.common.fd >= 0)
        r = sys_epoll_ctl(pool->workers[0].own->fd, EPOLL_CTL_ADD, pool->crew.common.fd, EPOLLIN,
                          DISPATCH_COMMON);
    if (r < 0)
        goto fail;
    *ret_pool = pool;
    return 0;

fail:
    fini_workers(pool);
    crew_fini(&pool->crew);
    free_pool(pool);
    return r;
}

static int start_reclaiming(struct pool *pool)
{
    int r = 0;

    if (pool->reclaims || pool->crew.table.private)
        return 0;
    r = reclaim_start();
    pool->reclaims = r == 0;
    return r;
}

static void stop_reclaiming(struct pool *pool)
{
    if (pool->reclaims)
        reclaim_stop();
    pool->reclaims = false;
}

/* Of faults, on whichever threads. */
static int start_catching(struct pool *pool)
{
    int r;

    if (pool->catches)
        return 0;
    crash_find_scenes_by(scene_find);
    r = overflow_install();
    if (r < 0)
        return r;
    r = pool->config.stall.warn_ms > 0 ? trace_install() : 0;
    pool->catches = r == 0;
    if (r < 0)
        overflow_uninstall();
    return r;
}

static void stop_catching(struct pool *pool)
{
    if (!pool->catches)
        return;
    pool->catches = false;
    if (pool->config.stall.warn_ms > 0)
        trace_uninstall();
    overflow_uninstall();
}

/* Of a pool that has served: at its end everybody has left. */
static void check_rest(struct pool *pool)
{
    size_t open = connection_table_count(&pool->crew.table);
    size_t lent = connection_table_lent(&pool->crew.table);

    if (open > 0 || lent > 0)
        misuse_die("a server is freed while %zu places are taken and %zu connections are lent: "
                   "this is a fault of weir's own: please report it", open, lent);
    for (unsigned i = 0; i < pool->workers_len; i++)
        if (pool->workers[i].parked || pool->workers[i].runnable ||
            !inbox_empty(&pool->workers[i].inbox))
            misuse_die("a server is freed while worker %u has handlers or messages: this is a "
                       "fault of weir's own: please report it", i);
}

void pool_destroy(struct pool *pool)
{
    if (!pool)
        return;
    if (misuse_is_thorough())
        check_rest(pool);
    stop_catching(pool);
    stop_reclaiming(pool);
    fini_workers(pool);
    crew_fini(&pool->crew);
    free_pool(pool);
}

/* ------------------------------------------------------------------ threads ----------- */

static int start_worker(struct pool *pool, unsigned i)
{
    const struct pool_config *config = &pool->config;
    int cpu = config->cpus_len > 0 ? config->cpus[i % config->cpus_len] : -1;

    int r = thread_start(&pool->threads[i], cpu, worker_main, &pool->workers[i]);

    if (r == 0)
        pthread_getcpuclockid(pool->threads[i], &pool->watches[i].clock);
    return r;
}

static void end_threads(struct pool *pool)
{
    /* release: what was done before; a worker that misses it is woken. pairs: crew_stopping() */
    atomic_store_explicit(&pool->crew.stopping, true, memory_order_release);
    handoff_wake_all(&pool->crew.handoff);
    for (unsigned i = 0; i < pool->workers_len; i++)
        stall_note_sleep(&pool->watches[i].stall, 0);
    while (pool->threads_len > 0)
        pthread_join(pool->threads[--pool->threads_len], NULL);
    atomic_store_explicit(&pool->crew.stopping, false, memory_order_relaxed); /* pairs: none */
}

static int start_workers(struct pool *pool)
{
    int r = 0;

    while (r == 0 && pool->threads_len < pool->workers_len) {
        r = start_worker(pool, pool->threads_len);
        if (r == 0)
            pool->threads_len++;
        else
            end_threads(pool);
    }
    return r;
}

int pool_start(struct pool *pool)
{
    int r;

    if (pool->threads_len > 0)
        return 0;
    r = start_reclaiming(pool);
    if (r == 0)
        r = start_catching(pool);
    if (r == 0 && !pool->config.crew.threadless)
        r = start_workers(pool);
    if (r < 0) {
        stop_catching(pool);
        stop_reclaiming(pool);
    }
    return r;
}

void pool_stop(struct pool *pool)
{
    if (pool->threads_len > 0)
        end_threads(pool);
    stop_catching(pool);
}

/* ------------------------------------------------------------------ the common set ---- */

static void let_first_worker_look(struct pool *pool, uint32_t events)
{
    sys_epoll_ctl(pool->workers[0].own->fd, EPOLL_CTL_MOD, pool->crew.common.fd, events,
                  DISPATCH_COMMON);
}

int pool_lend_common_set(struct pool *pool, int epoll_fd, uint64_t token)
{
    int common_fd = pool->crew.common.fd;
    int r = common_fd < 0 ? 0 : sys_epoll_ctl(epoll_fd, EPOLL_CTL_ADD, common_fd, EPOLLIN, token);

    if (r == 0 && common_fd >= 0)
        let_first_worker_look(pool, 0);
    return r;
}

void pool_return_common_set(struct pool *pool, int epoll_fd)
{
    int common_fd = pool->crew.common.fd;

    if (common_fd < 0)
        return;
    let_first_worker_look(pool, EPOLLIN);
    sys_epoll_ctl(epoll_fd, EPOLL_CTL_DEL, common_fd, 0, 0);
}

void pool_dispatch_common_set(struct pool *pool)
{
    uint64_t tokens = 0;

    dispatch_all(&pool->crew, pool->crew.common.fd, &tokens);
}

/* ------------------------------------------------------------------ the tick ---------- */

/* Returns true if another worker should look after what is ready behind this one. */
static bool is_stuck(struct pool *pool, struct worker *worker, struct pool_watch *watch)
{
    /* relaxed: a hint, looked at again in a millisecond. pairs: none */
    uint64_t turns = atomic_load_explicit(&worker->turns, memory_order_relaxed);

    if (turns != watch->turns) {
        watch->turns = turns;
        watch->used_ns = clock_of_thread_ns(watch->clock);
        watch->ticks = 0;
        return false;
    }
    watch->ticks++;
    if (!handoff_anyone_asleep(&pool->crew.handoff))
        return watch->ticks >= TICKS_STUCK_BUSY;
    return watch->ticks >= TICKS_STUCK_IDLE ||
           clock_since(watch->used_ns, clock_of_thread_ns(watch->clock)) >= USED_STUCK_NS;
}

static void rescue(struct pool *pool, struct worker *stuck)
{
    tally_add(&pool->tally, TALLY_RESCUED, dispatch_rescue(stuck));
    outbox_rescue(stuck, &pool->tally);
    /* It may have put into the queue what it meant to serve itself. */
    handoff_pass_on(&pool->crew.handoff);
}

uint64_t pool_turns(const struct pool *pool)
{
    uint64_t turns = 0;

    for (unsigned i = 0; i < pool->workers_len; i++)
        /* relaxed: whether it moves. pairs: none */
        turns += atomic_load_explicit(&pool->workers[i].turns, memory_order_relaxed);
    return turns;
}

bool pool_tick(struct pool *pool, uint64_t now_ms)
{
    bool stuck = false;

    for (unsigned i = 0; i < pool->workers_len; i++) {
        struct worker *worker = &pool->workers[i];
        struct pool_watch *watch = &pool->watches[i];

        if (handoff_asleep(&pool->crew.handoff, i)) {
            watch->ticks = 0;
            stall_note_sleep(&watch->stall, now_ms);
            continue;
        }
        if (pool->workers_len > 1 && is_stuck(pool, worker, watch)) {
            rescue(pool, worker);
            stuck = true;
        }
        if (pool->config.stall.warn_ms > 0 &&
            stall_look(&watch->stall, &pool->config.stall, worker, now_ms))
            tally_add(&pool->tally, TALLY_STALLS, 1);
    }
    return stuck;
}

/* ------------------------------------------------------------------ the end ----------- */

static enum crew_pick idle_since(struct connection *conn, void *arg)
{
    const uint64_t *since_ms = arg;
    bool is_silent;

    return connection_idle_since_ms(conn, &is_silent) <= *since_ms ? CREW_UNPLACED : CREW_STAYS;
}

void pool_take_leave(struct pool *pool)
{
    uint64_t since_ms = clock_ms() - POOL_LEAVE_MS;

    /* relaxed: a handler that misses it keeps its client once more. pairs: crew_order() */
    atomic_store_explicit(&pool->crew.order, CREW_TAKES_LEAVE, memory_order_relaxed);
    crew_queue_idle(&pool->crew, idle_since, &since_ms);
}

void pool_drain(struct pool *pool)
{
    /* seq_cst, then a fence, then the walk: who keeps a connection that we walked past sees this.
     * Store buffering; the walk's own loads may be weaker. The slots themselves were written before
     * accepting ended, which the server's lock orders. pairs: worker.c's settle() */
    atomic_store_explicit(&pool->crew.order, CREW_DRAINS, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
    if (pool->crew.drain_fd >= 0)
        sys_eventfd_signal(pool->crew.drain_fd);
    crew_queue_idle(&pool->crew, NULL, NULL);
}

void pool_cancel(struct pool *pool)
{
    /* release: before the wake-ups below. pairs: crew_cancelled() */
    atomic_store_explicit(&pool->crew.cancelled, true, memory_order_release);
    if (pool->crew.cancel_fd >= 0)
        sys_eventfd_signal(pool->crew.cancel_fd);
    /* Who waits until nothing is open any more may have been waiting for what may end now. */
    sys_eventfd_signal(pool->crew.table.room_fd);
    handoff_wake_all(&pool->crew.handoff);
}
