/*
 * handoff.h - where acceptors and workers meet: the ready queue, and the workers that sleep.
 *
 * A worker that finds nothing to do announces its sleep, looks once more, and sleeps in
 * epoll_wait on a set that holds its wake descriptor. A thread that gives it something looks at the
 * announcement and writes the descriptor only if it stands. Both sides put a full fence between
 * their store and their load, so that not both can miss the other (tests/models/sleep_wake.pml).
 *
 * Threads: put, call, wake and wake_all from any; sleep and awake from the worker itself.
 * Blocks:  never.
 */
#ifndef WEIR_HANDOFF_H
#define WEIR_HANDOFF_H

#include "engine/base/compiler.h"
#include "engine/sync/epoll_set.h"
#include "engine/sync/ready_queue.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define HANDOFF_WORKERS_MAX 256
#define HANDOFF_WORDS (HANDOFF_WORKERS_MAX / 64)

struct handoff {
    struct ready_queue queue;
    const struct epoll_set *sets;                   /* the workers' */
    int wake_fds[HANDOFF_WORKERS_MAX];              /* eventfds, edge-triggered: never read */
    unsigned workers;
    int watch_fd;                                   /* the first acceptor's; see handoff_unwatch */
    bool watched;                                   /* a ticking acceptor has to know who is busy */
    _Alignas(WEIR_CACHE_LINE) _Atomic uint64_t sleeping[HANDOFF_WORDS];  /* a bit a worker */
    _Alignas(WEIR_CACHE_LINE) _Atomic bool watching;/* the acceptor ticks: no need to call it */
    _Atomic uint64_t wakeups;
};

/* sets: the workers' epoll sets, as many; they outlive the handoff. 0 or -errno. */
int handoff_init(struct handoff *handoff, const struct epoll_set *sets, unsigned workers,
                 size_t capacity, bool watched);
void handoff_fini(struct handoff *handoff);

/*
 * Gives ready connections to the pool, to whichever workers are free first: put each, then call
 * handoff_call with their number. Of those that sleep, one with few connections is woken. (Called
 * for each, a worker on the same CPU would run, and sleep again, once a connection.)
 */
void handoff_put(struct handoff *handoff, struct connection *conn);
void handoff_call(struct handoff *handoff, unsigned n);

/* Wakes worker i, after a put into its inbox, for example. Returns true if it slept. */
bool handoff_wake(struct handoff *handoff, unsigned i);

/* Wakes every worker, asleep or not. Async-signal-safe. */
void handoff_wake_all(const struct handoff *handoff);

/* Announces that worker i is about to sleep. It must look for work once more before it does. */
void handoff_sleep(struct handoff *handoff, unsigned i);

/*
 * Worker i goes on. Returns true if it was called, and owes the queue a look. Before it goes into
 * any handler, which may keep it for long, it must have popped or passed the call on.
 */
bool handoff_awake(struct handoff *handoff, unsigned i);

/* Wakes another worker if the queue is not empty. */
void handoff_pass_on(struct handoff *handoff);

/* Hints for the acceptor's tick. */
bool handoff_asleep(const struct handoff *handoff, unsigned i);
bool handoff_anyone_asleep(const struct handoff *handoff);
bool handoff_everyone_asleep(const struct handoff *handoff);

/* How many sleeping workers were woken so far. */
uint64_t handoff_wakeups(const struct handoff *handoff);

/*
 * The acceptor stops ticking when nobody has been busy for a while. handoff_unwatch says so and
 * returns true, unless a worker is awake after all; from then on, the first worker that wakes
 * writes watch_fd.
 */
bool handoff_unwatch(struct handoff *handoff);

#endif
