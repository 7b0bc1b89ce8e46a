/*
 * worker.h - one thread of the pool: what it waits for, and what it runs.
 *
 * A worker takes connections from the ready queue, runs their handlers as tasks on fibers, waits
 * in an epoll set of its own for the further readiness of those, and goes on with its own parked
 * tasks. A started task never moves to another worker; a connection without one may.
 *
 * Threads: as said.
 * Blocks:  in epoll_wait, when there is nothing to do; and in handlers that block.
 */
#ifndef WEIR_WORKER_H
#define WEIR_WORKER_H

#include "engine/base/buffers.h"
#include "engine/base/compiler.h"
#include "engine/base/tally.h"
#include "engine/base/timer.h"
#include "engine/fiber/fiber.h"
#include "engine/fiber/overflow.h"
#include "engine/pool/crew.h"
#include "engine/pool/outbox.h"
#include "engine/pool/packet.h"
#include "engine/pool/task.h"
#include "engine/sync/inbox.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Events taken from the kernel at a time. Small: what was taken and not begun waits for a handler
 * that is stuck, until the acceptor's tick has rescued it. Large: fewer system calls.
 */
#define WORKER_BATCH 32

/* Where no descriptor tells a thread that waits of an order, it looks for one this often. */
#define WORKER_SLICE_MS 100

/* Connections that had events, and behind them the packets of a datagram socket. */
#define WORKER_SLOTS (WORKER_BATCH + PACKET_BATCH)

/* Of its batch, those that are still to be run. */
struct worker_slots {
    unsigned at, end;
};

struct worker {
    struct crew *crew;
    unsigned index;
    struct worker *outer;   /* in whose handler it serves alone, on the same thread; a forked child
                               has a copy of its parent's; or NULL */
    struct epoll_set *own;  /* what it sleeps in; NULL: it serves alone */
    struct epoll_set *watch;/* where it registers connections: its own set, or the common one */
    struct inbox inbox;
    struct timer_wheel timers;
    struct fiber_cache fibers;
    struct overflow_stack overflow;
    uint64_t trim_ms;       /* not before then are fibers given back */
    struct buffers rbufs;
    struct buffers wbufs;
    struct task *runnable;
    struct task **runnable_end;
    struct task *parked;
    struct task *resumed;   /* that runs now, if it has been resumed; NULL: another one, or none */
    uint64_t busy_since_ns;
    uint64_t at_side_doors; /* the tokens of those where clients wait */
    bool called;            /* woken for the ready queue, and has not looked there yet */
    bool cancel_done;
    _Atomic unsigned tellers;   /* threads in worker_tell_from_afar */
    sigset_t mask;          /* its thread's */
    const void *stack_base; /* of its thread: where its own stack begins to be used */
    struct task *on_own_stack;           /* that it runs on no fiber; NULL: none */
    const struct worker_alone *alone;    /* serves alone; NULL: a thread of the pool */
    uint64_t cancel_at_ms;  /* alone: what waits then is cancelled; 0: nothing is */
    uint64_t drain_at_ms;   /* alone: it has taken leave then; 0: the crew says when */
    _Atomic enum crew_order order;  /* alone: the later of this and the crew's holds */
    unsigned batch_len;
    struct worker_slots slots;
    _Atomic(struct connection *) batch[WORKER_SLOTS];   /* QUEUED, ours to start or to be rescued */
    struct packet_tray *tray;                           /* NULL: it has not received anything yet */
    struct buffers packets;
    struct outbox outbox;
    /* What the acceptor's tick looks at. One writer each: this worker. */
    _Alignas(WEIR_CACHE_LINE) _Atomic uint64_t turns;   /* looked at its epoll set */
    _Atomic uint64_t steps;                             /* went into a handler */
    _Atomic(const char *) inside;                       /* the handler's name; NULL: in none */
    _Atomic pid_t tid;                                  /* its thread's, once it runs */
    _Atomic uint64_t note;  /* alone: its connection's, for the parent of a forked child */
    struct tally tally;
};

/* Before and after the thread. init returns 0 or -errno. */
int worker_init(struct worker *worker, struct crew *crew, unsigned index);
void worker_fini(struct worker *worker);

/*
 * A worker that is no thread of the pool and has no epoll set. It serves one connection, QUEUED, to
 * its end, on the caller's own stack: waiting blocks the caller.
 */
void worker_init_alone(struct worker *worker, struct crew *crew, unsigned index);
void worker_fini_alone(struct worker *worker);

struct worker_alone {
    int stop_fd;                /* once readable, nothing is kept any more; -1: there is none */
    const _Atomic bool *followed;   /* others accept after such a stop: leave is taken */
    uint32_t leave_ms;          /* for that; 0: it is not taken */
    uint32_t drain_timeout_ms;  /* after that, what waits is cancelled; 0: never */
    bool lingers;               /* nobody else needs the thread: see linger.c */
    bool inside;                /* a handler that the thread is in waits until it has served */
};

void worker_serve_alone(struct worker *worker, struct connection *conn,
                        const struct worker_alone *how);

/*
 * Of a worker that has no epoll set to sleep in: until fd (-1: none) is ready or until_ms. 1: it
 * is; 0: it is not, but an order may have come; -ECANCELED; or an error of poll(2). Where there are
 * no workers orders come as descriptors, to a child process too, whose flags nobody else sets.
 * Orders to a server whose handler waits for the worker (inside) are for it, too.
 */
int worker_poll(struct worker *worker, int fd, short events, uint64_t until_ms);

/* Looks for orders without waiting: 0 or -ECANCELED. */
int worker_hear_orders(struct worker *worker);

static inline enum crew_order worker_order(const struct worker *worker)
{
    /* relaxed: who misses it keeps its client once more. pairs: worker_take_leave() */
    return atomic_load_explicit(&worker->order, memory_order_relaxed);
}

/*
 * It serves alone, and its handlers say goodbye from now on: an order to a forked child, which has
 * the worker in memory that it shares with its parent. Any thread, of either process.
 */
void worker_take_leave(struct worker *worker);

/* Returns true if no connection is to be kept any more. The worker's own thread. */
static inline bool worker_draining(const struct worker *worker)
{
    return worker_order(worker) == CREW_DRAINS || crew_draining(worker->crew);
}

/* What its only connection waits for: of a worker that serves alone, for others to see. */
void worker_note(struct worker *worker, uint64_t noted);

/* Returns true if its handlers had better say goodbye. The worker's own thread. */
static inline bool worker_takes_leave(const struct worker *worker)
{
    return worker_order(worker) != CREW_KEEPS || crew_order(worker->crew) != CREW_KEEPS;
}

/* The thread: runs until the crew is stopping. The argument is the worker. */
void *worker_main(void *worker);

/* The worker that the calling thread is, the innermost of several, or NULL. */
struct worker *worker_self(void);

/* The name of the handler that the calling thread is in; NULL: in none of a worker's. */
const char *worker_handler_here(void);

/*
 * The task that the calling thread runs, on its fiber or on the thread's own stack; NULL: none of a
 * worker's. Any thread.
 */
struct task *worker_task_here(void);

/*
 * Puts a message into a worker's inbox and wakes it. Any thread that ends before the worker is
 * freed, which may be as soon as the worker has the message: as those of its pool do, and those for
 * what its handlers offload.
 */
void worker_tell(struct worker *worker, struct message *message);

/* The same for every other thread: the worker is freed when it has returned, and not before. */
void worker_tell_from_afar(struct worker *worker, struct message *message);

/* Where its worker receives datagrams. NULL: no memory. */
struct packet_tray *worker_tray(struct worker *worker);

/*
 * Counts a connection as closed or refused. Before that it leaves the crowd: the parent of a
 * WEIR_FORK child gives its place to another client as soon as it is counted. The owner, once.
 */
void worker_count_end(struct worker *worker, struct connection *conn);

/* Runs the handler of a QUEUED connection that the worker has taken, or receives from a socket. */
void worker_start(struct worker *worker, struct connection *conn);

/* Starts what is in `len` slots of its batch; what parks does not hold up the others. */
void worker_run_slots(struct worker *worker, unsigned from, unsigned len);

/*
 * The task is done with its connection, which is kept or closed. Returns true if it has another, or
 * the same one once more, to serve: so its fiber goes on with the next of the batch, without two
 * switches and, above all, without the returns, of which a CPU predicts none any more once the
 * kernel has been at work. False: the task ends.
 */
bool worker_next(struct task *task);

/* A QUEUED connection into the i-th slot of its batch. The worker's thread. */
void worker_put_into_batch(struct worker *worker, unsigned i, struct connection *conn);

/* The i-th connection of its batch, or NULL: begun or rescued already. Any thread; the caller's. */
struct connection *worker_take_from_batch(struct worker *worker, unsigned i);

#endif
