/*
 * receiver.h - a datagram socket in the pool: handed on like a ready connection, received from.
 *
 * The socket is in the table as a connection that is IDLE until datagrams arrive. The worker
 * that takes it receives a batch, lets go of it at once (through the ready queue, if there may be
 * more: then another worker receives while this one serves), and serves the batch.
 *
 * Threads: create to pause, and failure, by the server or its acceptor, one call at a time;
 *          take_turn by a worker; kick and tell_unsent by any.
 * Owns:    its connection, and not the socket.
 * Blocks:  pause, for the moment that a worker is in recvmmsg(2).
 */
#ifndef WEIR_RECEIVER_H
#define WEIR_RECEIVER_H

#include "engine/base/tally.h"
#include "engine/net/admission.h"
#include "engine/pool/connection.h"
#include "engine/pool/packet.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct crew;
struct receiver;
struct worker;

struct receiver_config {
    const struct admission *admission;
    int call_fd;                /* the acceptor's eventfd: see receiver_failure */
};

/* Paused. fd is watched in the epoll set of one of the workers. 0 or -errno. */
int receiver_create(struct crew *crew, const struct receiver_config *config, int fd,
                    const struct endpoint *endpoint, struct receiver **ret);

/* Once the workers' threads have ended, or before they begin. */
void receiver_destroy(struct receiver *receiver);

/* From now on datagrams are received, those first that are waiting. */
void receiver_resume(struct receiver *receiver);

/* From now on none are: what comes waits in the socket. */
void receiver_pause(struct receiver *receiver);

/* There may be room again for what waits. */
void receiver_kick(struct receiver *receiver);

/*
 * What a receive has failed with since the last call: -errno, or 0. The edge that told the worker
 * of what waits has been used up, and a queue that is full brings no other: so it has written
 * call_fd, and the acceptor kicks after a while.
 */
int receiver_failure(struct receiver *receiver);

/* The worker has taken the socket, and it is RUNNING: receives, lets it go, serves. */
void receiver_take_turn(struct worker *worker, struct connection *socket);

/* A reply could not be sent. */
void receiver_tell_unsent(const struct packet *packet, int error, struct tally *tally);

#endif
