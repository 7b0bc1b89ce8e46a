/*
 * outbox.h - a worker's replies to datagrams: gathered, and sent many at a time.
 *
 * They leave when the batch that they answer has been served, when there are PACKET_BATCH, at the
 * end of the worker's turn; and if its worker is stuck in a handler, by way of the rescuer. One
 * that its peer has no room for goes back to the ready queue: a fiber sees to it (see serve.c).
 *
 * Threads: put and flush by the worker; rescue by any.
 * Blocks:  never.
 */
#ifndef WEIR_OUTBOX_H
#define WEIR_OUTBOX_H

#include "engine/base/tally.h"
#include "engine/pool/packet.h"

struct worker;

struct outbox {
    unsigned len;
    _Atomic(struct packet *) slots[PACKET_BATCH];   /* the worker's to send, or to be rescued */
};

/* The packet's handler has returned, and there is a reply. */
void outbox_put(struct worker *worker, struct packet *packet);
void outbox_flush(struct worker *worker);

/* Sends what lies in a stuck worker's outbox; counts into tally. */
void outbox_rescue(struct worker *stuck, struct tally *tally);

#endif
