/*
 * overload.h - clients that have waited too long for a worker are turned away, after CoDel.
 *
 * What is measured is how long a connection stands in the ready queue before its first turn. If all
 * of them have stood there longer than the target, for OVERLOAD_INTERVAL targets, then the queue is
 * no burst that passes: more come than can be served. From then on those that have stood there for
 * OVERLOAD_LIMIT targets are told goodbye (goodbye.h) instead of being served, until one has had
 * its turn in time. So whoever is served has waited for OVERLOAD_LIMIT targets at most, and the
 * oldest of those that are served for longer than one, which is why it goes on as long as it has
 * to.
 *
 * The last one in the queue is never turned away: a worker that could serve it would have nothing
 * else to do. And one that found the queue empty has no time noted, and is in time: without a queue
 * the clock isn't asked.
 *
 * Turns of connections that are kept are not looked at. Each client has one at a time, and it has
 * come in; what it asks costs less than to make it connect again.
 *
 * Threads: those that put connections into the queue, and the workers.
 * Owns:    nothing.
 * Blocks:  never.
 */
#ifndef WEIR_OVERLOAD_H
#define WEIR_OVERLOAD_H

#include "engine/pool/connection.h"
#include "engine/sync/ready_queue.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In targets: see above. RFC 8289 has 20 of its interval, for paths that are longer than queues. */
#define OVERLOAD_INTERVAL 3
#define OVERLOAD_LIMIT 2

struct overload {
    uint32_t target_ms;             /* 0: nobody is turned away for having waited */
    uint32_t max_queued;            /* ready connections that wait; 0: as many as may be open */
    bool refuses;                   /* those beyond are told goodbye; else accepting pauses */
    _Atomic uint64_t late_since_ms; /* all first turns since then came late; 0: the last didn't */
};

/* conn is about to be put into the queue, for its first turn. Its owner. */
void overload_note_queued(const struct overload *overload, const struct ready_queue *queue,
                          struct connection *conn);

/*
 * conn was taken out of the queue. Returns true if it has waited too long, and is to be turned away
 * if its client has asked for something. Its owner, a worker.
 */
bool overload_sheds(struct overload *overload, const struct ready_queue *queue,
                    const struct connection *conn);

/* Returns true if clients have waited longer than the target lately. A hint. */
static inline bool overload_is_late(const struct overload *overload)
{
    /* relaxed: a hint. pairs: overload_sheds() */
    return atomic_load_explicit(&overload->late_since_ms, memory_order_relaxed) != 0;
}

/*
 * Where accepting pauses while max_queued wait: how many more may be put into the queue now, n at
 * most. Several threads that ask at a time may put in as many each.
 */
size_t overload_room(const struct overload *overload, const struct ready_queue *queue, size_t n);

/* Where it does not pause: returns true if max_queued wait, and the next one is told goodbye. */
bool overload_refuses(const struct overload *overload, const struct ready_queue *queue);

#endif
