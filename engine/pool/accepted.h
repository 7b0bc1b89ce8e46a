/*
 * accepted.h - what has come in: a connection or a datagram, on its way to the mixin.
 *
 * Threads: one at a time.
 * Owns:    a place of its endpoint's quota, until that passes on or it is turned away. Its
 *          descriptor or datagram belongs to the thread that accepts it, then to the mixin.
 */
#ifndef WEIR_ACCEPTED_H
#define WEIR_ACCEPTED_H

#include "engine/base/tally.h"
#include "engine/net/admission.h"
#include "engine/net/endpoint.h"
#include "engine/pool/connection.h"
#include "engine/pool/crew.h"
#include "engine/pool/packet.h"
#include "engine/weir.h"

#include <stdbool.h>
#include <sys/socket.h>

struct accepted {
    int fd;
    const struct sockaddr *peer;
    socklen_t peer_len;
    const struct endpoint *endpoint;
    const struct weir_handler *handler; /* the endpoint's, or weir_submit's */
    void *arg;                  /* weir_submit's, for the handler; else NULL */
    struct crowd_guest *guest;  /* its seat in the endpoint's crowd; NULL: it is not counted */
    struct packet *packet;      /* a datagram: fd is the server's socket; NULL: a connection */
    int stop_fd;                /* readable while an acceptor is told to stop; -1: none is */
};

/* Asks for it: see admission_ask. Then it is served, or turned away with what this returns. */
int accepted_ask(struct accepted *accepted, const struct admission *admission,
                 struct tally *tally);

/* Once more for its seat alone, after -EUSERS: somebody may have left. 0, -EUSERS or -ENOMEM. */
int accepted_take_seat(struct accepted *accepted);

/*
 * Turns it away, counted, for this -errno, and gives its place back. handle_error is told that it
 * could not be served, unless the program wants it to be kept out (-EACCES, -EUSERS, -ENOBUFS). It
 * is told its handler's goodbye, unless it has no business here (-EACCES).
 */
void accepted_turn_away(struct accepted *accepted, struct connection_table *table,
                        const struct admission *admission, int error, struct tally *tally);

/*
 * Into the ready queue; handoff_call is the caller's. 0; -ENOMEM, or -ENOBUFS: as many wait there
 * as may, and it is still the caller's.
 */
int accepted_queue(const struct accepted *accepted, struct crew *crew);

/* A connection for it, QUEUED, to which its guest and its place pass; or NULL: no memory. */
struct connection *accepted_to_connection(const struct accepted *accepted,
                                          struct connection_table *table);

/* Takes that back: it is the caller's again. */
void accepted_disconnect(const struct accepted *accepted, struct connection_table *table,
                         struct connection *conn);

/* Lets go of it: of the descriptor, or of the datagram. */
void accepted_drop(const struct accepted *accepted);

#endif
