/*
 * pool.h - the fixed set of workers, from the first thread to the last.
 *
 * Threads: create to destroy by the server, one call at a time; tick by the first acceptor;
 *          drain and cancel from any.
 * Owns:    the crew (queue, table, stacks), the workers and their threads.
 * Blocks:  stop, until every worker's thread has ended.
 */
#ifndef WEIR_POOL_H
#define WEIR_POOL_H

#include "engine/pool/stall.h"
#include "engine/pool/worker.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct pool_config {
    struct crew_config crew;    /* watched is the pool's to say */
    struct stall_config stall;  /* who is warned of handlers that hold on */
    const int *cpus;            /* worker i is bound to cpus[i mod cpus_len]; kept, not copied */
    size_t cpus_len;            /* 0: to none */
};

/* What the tick remembers of a worker. */
struct pool_watch {
    clockid_t clock;            /* of its thread's CPU time */
    uint64_t used_ns;           /* by that clock, at the tick at which turns was new */
    uint64_t turns;
    unsigned ticks;             /* that turns has not moved */
    struct stall_watch stall;
};

struct pool {
    struct crew crew;
    struct pool_config config;
    unsigned workers_len;
    struct worker *workers;
    struct pool_watch *watches;
    pthread_t *threads;
    unsigned threads_len;
    bool reclaims;              /* a user of reclaim.c's thread */
    bool catches;               /* ... and of overflow.c's and trace.c's handlers */
    struct tally tally;         /* the tick's */
};

/* No thread yet. 0 or -errno. */
int pool_create(const struct pool_config *config, struct pool **ret_pool);

/* Starts the threads. Started already: 0. Or -errno, none runs then. */
int pool_start(struct pool *pool);

/*
 * The common set, if there is one, is read by an acceptor while it serves, which polls the set's
 * descriptor in its own set; else by the first worker. lend returns 0 or -errno; the return can't
 * fail, since the first worker has the set registered all the time.
 */
int pool_lend_common_set(struct pool *pool, int epoll_fd, uint64_t token);
void pool_return_common_set(struct pool *pool, int epoll_fd);

/* Puts what is ready there where a worker finds it. The acceptor that it is lent to. */
void pool_dispatch_common_set(struct pool *pool);

/* Ends the threads when they get round to it, and waits for them. No connection may be left. */
void pool_stop(struct pool *pool);
void pool_destroy(struct pool *pool);   /* after pool_stop; NULL is fine */

/*
 * Work conservation and the stall watchdog, every millisecond or so while a worker is busy:
 * moves what is ready behind a stuck worker to others, and warns of handlers that hold on. True if
 * a worker is stuck that others might do the work of.
 */
bool pool_tick(struct pool *pool, uint64_t now_ms);

/* How often the workers have looked for events, all of them together. */
uint64_t pool_turns(const struct pool *pool);

/*
 * What acceptors and the server ask of what the workers share. call: n connections have been put
 * into the ready queue. want_room: room_fd is to be readable once a connection has been closed, of
 * which open_count are left; a caller must look once more whether there is room.
 */
static inline void pool_call_workers(struct pool *pool, unsigned n)
{
    handoff_call(&pool->crew.handoff, n);
}

static inline size_t pool_open_count(const struct pool *pool)
{
    return connection_table_count(&pool->crew.table);
}

static inline void pool_want_room(struct pool *pool)
{
    connection_table_want_room(&pool->crew.table, SIZE_MAX);
}

static inline int pool_room_fd(const struct pool *pool)
{
    return pool->crew.table.room_fd;
}

/* Readable once a worker is busy: see handoff_unwatch. The first acceptor's. */
static inline int pool_watch_fd(const struct pool *pool)
{
    return pool->crew.handoff.watch_fd;
}

/* This process's copy of it: the kernel's sets are another process's, too. */
static inline void pool_is_a_copy(struct pool *pool)
{
    pool->crew.table.copied = true;
}

/* Returns true if all connections are in one set, which the acceptor reads while it serves. */
static inline bool pool_has_common_set(const struct pool *pool)
{
    return pool->crew.common.fd >= 0;
}

/*
 * Others serve who comes from now on. Handlers learn that they had better say goodbye, and what has
 * been idle for POOL_LEAVE_MS ends. A client that has come, or was answered, later than that may
 * have a request under way, and is heard. To drain once POOL_LEAVE_MS are over is the caller's.
 */
#define POOL_LEAVE_MS 1000
void pool_take_leave(struct pool *pool);

/* From now on nothing is kept: idle connections end, the others after their last answer. */
void pool_drain(struct pool *pool);

/* From now on every wait of a handler returns -ECANCELED. Async-signal-safe. */
void pool_cancel(struct pool *pool);

#endif
