/*
 * accepted.h - what has come in: a connection or a datagram, on its way to whoever serves it.
 *
 * Threads: one at a time.
 * Owns:    nothing: its descriptor or datagram belongs to who accepted it, then to who serves it.
 */
#ifndef WEIR_ACCEPTED_H
#define WEIR_ACCEPTED_H

#include "engine/connection.h"
#include "engine/packet.h"
#include "engine/weir.h"

#include <sys/socket.h>

struct accepted {
    int fd;
    const struct sockaddr *peer;
    socklen_t peer_len;
    const struct weir_handler *handler;
    const char *listen;
    struct crowd_guest *guest;  /* its place in the server's crowd; NULL: it is not counted */
    struct packet *packet;      /* a datagram: fd is the server's socket; NULL: a connection */
    int stop_fd;                /* readable once the acceptor is told to stop; -1: none is */
};

/* A connection for it, QUEUED, to which its guest passes; or NULL: no memory. */
struct connection *accepted_connect(const struct accepted *accepted,
                                    struct connection_table *table);

/* Takes that back: it is the caller's again. */
void accepted_disconnect(const struct accepted *accepted, struct connection_table *table,
                         struct connection *conn);

/* Lets go of it: of the descriptor, or of the datagram. */
void accepted_drop(const struct accepted *accepted);

#endif
