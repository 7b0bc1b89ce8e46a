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

#include "engine/pool/worker.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct pool_config {
    struct crew_config crew;    /* watched is the pool's to say */
    uint32_t stall_warn_ms;     /* 0: nobody is warned of stuck handlers */
    bool explain_stalls;        /* says of one that waits in futex(2) that it does */
    const int *cpus;            /* worker i is bound to cpus[i mod cpus_len]; kept, not copied */
    size_t cpus_len;            /* 0: to none */
};

/* What the tick remembers of a worker. */
struct pool_watch {
    clockid_t clock;            /* of its thread's CPU time */
    uint64_t used_ns;           /* by that clock, at the tick at which turns was new */
    uint64_t turns;
    uint64_t steps;
    uint64_t steps_since_ms;
    unsigned ticks;             /* that turns has not moved */
    bool warned;
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
    struct tally tally;         /* the tick's */
};

/* No thread yet. 0 or -errno. */
int pool_create(const struct pool_config *config, struct pool **ret_pool);

/* Starts the threads. Started already: 0. Or -errno, none runs then. */
int pool_start(struct pool *pool);

/*
 * Who reads the shared set, if there is one: an acceptor, while it serves, which polls the set's
 * descriptor in its own; else the first worker. lend returns 0 or -errno; the return can't fail,
 * since the first worker has it registered all the time.
 */
int pool_lend_shared_set(struct pool *pool, int epoll_fd, uint64_t token);
void pool_return_shared_set(struct pool *pool, int epoll_fd);

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

/* From now on nothing is kept: idle connections end, the others after their last answer. */
void pool_drain(struct pool *pool);

/* From now on every wait of a handler returns -ECANCELED. Async-signal-safe. */
void pool_cancel(struct pool *pool);

#endif
