/*
 * crew.h - what the workers of a pool share, and the orders that all of them obey.
 *
 * Threads: init and fini by the pool; crew_queue_idle and the questions from any.
 * Owns:    the ready queue, the table of connections, the stacks, the epoll sets.
 */
#ifndef WEIR_CREW_H
#define WEIR_CREW_H

#include "engine/pool/connection.h"
#include "engine/pool/overload.h"
#include "engine/pool/packet.h"
#include "engine/sync/handoff.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct side_door;
struct stack_arena;
struct task;

/* Listeners that may be lent to the workers at a time: as many as there are tokens for. */
#define CREW_SIDE_DOORS 30

/* What becomes of connections between two calls of handle(). It only grows. */
enum crew_order {
    CREW_KEEPS,         /* they are kept */
    CREW_TAKES_LEAVE,   /* ... and handlers say goodbye: others serve who comes from now on */
    CREW_DRAINS,        /* nothing is kept any more */
};

struct crew {
    struct handoff handoff;
    struct overload overload;
    struct connection_table table;
    struct stack_arena *arena;
    size_t rbufsize;
    size_t wbufsize;
    struct packet_format packet_format;
    struct epoll_set *sets; /* a worker each */
    struct epoll_set common;/* the set of every connection; fd -1: each worker's own is used */
    /* setup, handle, finish; sets conn->kept, and goes on with what worker_next gives. */
    void (*serve)(struct task *task);
    void *service;          /* serve's own */
    _Atomic(struct side_door *) side_doors[CREW_SIDE_DOORS];
    /*
     * Without workers' threads (WEIR_SERIAL and the like) these eventfds say what the flags below
     * say, to threads that block, and across fork(2). Never read. -1: there are workers.
     */
    int drain_fd;
    int cancel_fd;
    struct quota_want want; /* others wait for what no quota counts: descriptors, memory */
    _Atomic bool sweeps;    /* a connection has an idle timeout of its own */
    _Atomic enum crew_order order;
    _Atomic bool cancelled; /* nobody waits any more */
    _Atomic bool stopping;  /* the workers' threads end */
};

struct crew_config {
    unsigned workers;
    size_t stack_size;
    size_t rbufsize;
    size_t wbufsize;
    struct packet_format packet_format;
    uint32_t queue_target_ms;   /* these three: see struct overload */
    uint32_t max_queued;
    bool refuses;
    size_t sockets;         /* from which datagrams may be received */
    bool common_set;        /* one epoll set for all connections */
    bool watched;           /* the acceptor ticks: see handoff_init */
    bool threadless;        /* the workers' threads will never run */
    bool private;           /* nor any other but one, in each process: see connection_table */
    void (*serve)(struct task *task);
    void *service;
};

/* 0 or -errno; -EINVAL: stack_size. */
int crew_init(struct crew *crew, const struct crew_config *config);
void crew_fini(struct crew *crew);

/* Of an idle connection: whether it is to end, and its mark in struct connection then. */
enum crew_pick { CREW_STAYS, CREW_ENDS, CREW_EXPIRED, CREW_UNPLACED };

/*
 * Puts idle connections into the ready queue, to be ended: those that pick chooses, or all of them
 * (NULL: CREW_ENDS). Any thread. pick looks at a connection that it does not own. Without workers'
 * threads it does nothing: the thread that keeps a connection looks after it.
 */
void crew_queue_idle(struct crew *crew,
                     enum crew_pick (*pick)(struct connection *conn, void *arg), void *arg);

/*
 * A connection has an idle timeout of its own: from now on the first acceptor sweeps, whatever the
 * endpoints say. Any thread.
 */
void crew_want_sweeps(struct crew *crew);

static inline bool crew_sweeps(const struct crew *crew)
{
    /* relaxed: an acceptor that misses it is called, and looks again. pairs: crew_want_sweeps() */
    return atomic_load_explicit(&crew->sweeps, memory_order_relaxed);
}

static inline struct side_door *crew_side_door(struct crew *crew, unsigned i)
{
    /* acquire: the door as it was made. pairs: side_door.c's take_token() */
    return atomic_load_explicit(&crew->side_doors[i], memory_order_acquire);
}

static inline enum crew_order crew_order(const struct crew *crew)
{
    /* seq_cst: after a connection was let go IDLE; store buffering. pairs: pool_drain() */
    return atomic_load_explicit(&crew->order, memory_order_seq_cst);
}

static inline bool crew_draining(const struct crew *crew)
{
    return crew_order(crew) == CREW_DRAINS;
}

static inline bool crew_cancelled(const struct crew *crew)
{
    /* relaxed: a worker that misses it is woken, and looks again. pairs: pool_cancel() */
    return atomic_load_explicit(&crew->cancelled, memory_order_relaxed);
}

static inline bool crew_stopping(const struct crew *crew)
{
    /* acquire: what was done before the pool was told to stop. pairs: pool_stop() */
    return atomic_load_explicit(&crew->stopping, memory_order_acquire);
}

#endif
