/*
 * worker.h - one thread of the pool: what it waits for, and what it runs.
 *
 * A worker takes connections from the ready queue, runs their handlers as tasks on fibers, waits
 * in an epoll set of its own for the further readiness of those, and goes on with its own parked
 * tasks. A started task never moves to another worker; a connection without one may.
 *
 * Threads: the task calls from that task's fiber; worker_dispatch and worker_deliver_ready from
 *          any thread; the rest as said.
 * Blocks:  in epoll_wait, when there is nothing to do; and in handlers that block.
 */
#ifndef WEIR_WORKER_H
#define WEIR_WORKER_H

#include "engine/buffers.h"
#include "engine/compiler.h"
#include "engine/connection.h"
#include "engine/fiber.h"
#include "engine/handoff.h"
#include "engine/inbox.h"
#include "engine/tally.h"
#include "engine/timer.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

/*
 * Events taken from the kernel at a time. Small: what was taken and not begun waits for a handler
 * that is stuck, until the acceptor's tick has rescued it. Large: fewer system calls.
 */
#define WORKER_BATCH 32

/* Tokens of what is not a connection: below 2^32, and each a bit, so that several may be told. */
#define WORKER_WAKE UINT64_C(1)     /* its eventfd */
#define WORKER_SHARED UINT64_C(2)   /* the crew's shared set has events */

/* A handler at work. It lives on its fiber's stack, from serve()'s call to its return. */
struct task {
    struct fiber *fiber;            /* NULL: it runs on the worker's own stack */
    struct worker *worker;
    struct connection *conn;        /* whose handler it is */
    struct connection *waits_for;   /* while parked: the connection that has to get ready */
    struct task *next;              /* in its worker's list of runnable ones */
    struct task *parked_next;       /* in its worker's list of parked ones */
    struct task **parked_link;      /* the pointer that points here; NULL: not parked */
    struct timer timer;             /* ends the wait */
    int outcome;                    /* of the wait: 0, -ETIMEDOUT, -ECANCELED */
    bool patient;                   /* this wait can't be cancelled */
};

/* What all workers of a pool share. */
struct crew {
    struct handoff handoff;
    struct connection_table table;
    struct stack_arena *arena;
    size_t rbufsize;
    size_t wbufsize;
    int shared_fd;          /* the epoll set of every connection; -1: each worker has its own */
    void (*serve)(struct task *task);   /* setup, handle, finish; sets conn->kept */
    void *service;          /* serve's own */
    _Atomic bool draining;  /* nothing is kept any more */
    _Atomic bool cancelled; /* nobody parks any more */
    _Atomic bool stopping;  /* the workers' threads end */
};

struct worker {
    struct crew *crew;
    unsigned index;
    int epoll_fd;
    int watch_fd;           /* where it registers connections: epoll_fd, or the shared set */
    struct inbox inbox;
    struct timer_wheel timers;
    struct fiber_cache fibers;
    struct buffers rbufs;
    struct buffers wbufs;
    struct task *runnable;
    struct task **runnable_end;
    struct task *parked;
    bool cancel_done;
    unsigned batch_len;
    _Atomic(struct connection *) batch[WORKER_BATCH];   /* QUEUED, ours to start or to be rescued */
    /* What the acceptor's tick looks at. One writer each: this worker. */
    _Alignas(WEIR_CACHE_LINE) _Atomic uint64_t turns;   /* looked at its epoll set */
    _Atomic uint64_t steps;                             /* went into a handler */
    _Atomic(const char *) inside;                       /* the handler's name; NULL: in none */
    struct tally tally;
};

/* Before and after the thread. init returns 0 or -errno. */
int worker_init(struct worker *worker, struct crew *crew, unsigned index);
void worker_fini(struct worker *worker);

/* The thread: runs until the crew is stopping. The argument is the worker. */
void *worker_main(void *worker);

/* The worker that the calling thread is, or NULL. */
struct worker *worker_self(void);

/*
 * The waits of a task. Each parks. deadline_ms is absolute, on clock_ms; 0: none. They return
 * -ECANCELED once the crew is cancelled.
 */

/*
 * Until conn is ready (0; it may be a false alarm: try the I/O again and wait again) or the
 * deadline has passed (-ETIMEDOUT). events: EPOLLIN, EPOLLOUT. Also errors of epoll_ctl(2).
 */
int worker_wait(struct task *task, struct connection *conn, uint32_t events, uint64_t deadline_ms);

int worker_sleep(struct task *task, uint64_t deadline_ms);  /* 0: it has passed */
int worker_yield(struct task *task);

/* Until worker_resume(task), which a message to its worker calls; can't be cancelled. */
void worker_await(struct task *task);
void worker_resume(struct task *task);

/* Puts a message into a worker's inbox and wakes it. Any thread. */
void worker_tell(struct worker *worker, struct message *message);

/* Registers the task's connection so that it can be kept. 0, or an error of epoll_ctl(2). */
int worker_watch(struct task *task);

/*
 * Brings events to those whom they concern: a parked task to its worker, a kept connection to
 * self's batch, or to the ready queue if self is NULL. Any thread. Returns the tokens of those
 * that are not about connections.
 */
uint64_t worker_dispatch(struct crew *crew, struct worker *self, const struct epoll_event *events,
                     int n);

/* The same for all that is ready in an epoll set of connections. Returns how many events. */
unsigned worker_dispatch_all(struct crew *crew, int epoll_fd, uint64_t *ret_tokens);

/*
 * Takes everything that a stuck worker has not begun over to the ready queue: its batch, and what
 * is ready in its epoll set. Any thread. Returns how many connections.
 */
unsigned worker_rescue(struct worker *stuck);

/*
 * Puts idle connections into the ready queue, to be ended: those that pick chooses, as expired,
 * or all of them (NULL). Any thread. pick looks at a connection that it does not own.
 */
void crew_queue_idle(struct crew *crew, bool (*pick)(struct connection *conn, void *arg),
                     void *arg);

static inline bool crew_draining(const struct crew *crew)
{
    /* seq_cst: after a connection was let go IDLE; store buffering. pairs: pool_drain() */
    return atomic_load_explicit(&crew->draining, memory_order_seq_cst);
}

static inline bool crew_cancelled(const struct crew *crew)
{
    /* relaxed: a worker that misses it is woken, and looks again. pairs: pool_cancel() */
    return atomic_load_explicit(&crew->cancelled, memory_order_relaxed);
}

#endif
