/*
 * side_door.h - a listener that is lent to the workers: they accept from it themselves.
 *
 * Handed on by the acceptor, a connection costs two changes of thread, which is much of what a
 * short one costs. Through an open side door whichever worker is about accepts a batch, and puts it
 * into the ready queue as the acceptor would. All workers' epoll sets watch the listener then,
 * level-triggered and exclusively: the kernel wakes one of the sleeping workers, and a worker that
 * leaves clients behind, or is stuck, costs the others nothing but time (see lending.h).
 *
 * The children of WEIR_PREFORK share a listener, and each may have a side door to it. The kernel
 * calls the first that sleeps of all their workers, in the order in which they began to watch. So
 * when a worker has accepted a batch all workers of its child begin to watch anew, behind those of
 * the other children; and when the child has no room for more the door shuts behind the batch.
 *
 * Threads: create to shut, and taken, by the listener's acceptor; enter by workers.
 * Owns:    nothing; the listener is the acceptor's.
 * Blocks:  enter and shut, while another worker is in accept(2).
 */
#ifndef WEIR_SIDE_DOOR_H
#define WEIR_SIDE_DOOR_H

#include "engine/net/admission.h"
#include "engine/net/endpoint.h"
#include "engine/weir.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct crew;
struct side_door;
struct worker;

struct side_door_config {
    const struct admission *admission;
    int fd;                             /* the listener */
    const struct endpoint *endpoint;    /* what comes by it */
    int call_fd;                        /* the acceptor's eventfd: see side_door_is_open */
    bool shared;                        /* other processes accept from it, too */
};

/* Shut. 0 or -errno; -ENOSPC: there are too many already. */
int side_door_create(struct crew *crew, const struct side_door_config *config,
                     struct side_door **ret);

/* Once the workers' threads have ended, or if it was never open. NULL is fine. */
void side_door_destroy(struct side_door *door);

/* From now on workers accept. 0 or -errno: then it is shut. */
int side_door_open(struct side_door *door);

/* When it returns none does any more: the listener may be closed. */
void side_door_shut(struct side_door *door);

/*
 * A worker that finds the server full, or lacks descriptors or memory, shuts it and writes call_fd:
 * when to go on is the acceptor's to say.
 */
bool side_door_is_open(struct side_door *door);

/* How many have come in by it, ever. */
uint64_t side_door_taken(const struct side_door *door);

/* Accepts a batch of those that wait. Returns how many are in the ready queue: to be called for. */
unsigned side_door_enter(struct worker *worker, struct side_door *door);

#endif
