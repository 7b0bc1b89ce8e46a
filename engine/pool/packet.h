/*
 * packet.h - a datagram on its way through the server, and the reply to it.
 *
 * A packet carries a connection of its own, which passes through ready queue, batch and worker as
 * an accepted one does. But its descriptor is the server's socket, and it is in no table: no
 * event is ever about it. A tray holds empty packets, into which a batch of datagrams is received.
 *
 * Threads: a packet belongs to the owner of its connection; a tray to one thread.
 * Owns:    a packet its reply; a tray its packets, until they are taken out.
 * Blocks:  never.
 */
#ifndef WEIR_PACKET_H
#define WEIR_PACKET_H

#include "engine/base/buffers.h"
#include "engine/base/compiler.h"
#include "engine/pool/connection.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* One system call receives at most PACKET_BATCH datagrams, or sends as many replies. */
#define PACKET_BATCH 32

/* Where a datagram was sent to, if the socket is bound to every address: the reply's source. */
struct packet_local {
    sa_family_t family;         /* AF_UNSPEC: not known, the kernel chooses */
    uint32_t scope;             /* the interface of a link-local address */
    struct in6_addr host;       /* AF_INET: its first four bytes */
};

struct packet {
    struct sockaddr_storage peer;
    socklen_t peer_len;
    struct packet_local local;
    bool truncated;             /* it was longer than there was room for */
    bool answered;              /* there is a reply, perhaps an empty one */
    bool knows_sender;          /* a Unix peer */
    struct ucred sender;
    char *data;                 /* what has arrived */
    size_t len;
    char *reply;                /* malloc's */
    size_t reply_len;
    size_t reply_size;          /* of the block */
    struct receiver *receiver;  /* that it came by; NULL: there is no pool */
    struct connection conn;     /* last: the handler's state follows, and then the data */
};

/* What the packets of a server have room for, whichever handler they are for. */
struct packet_format {
    size_t state_size;
    size_t data_size;
};

/* The packet whose connection it is, or NULL. */
static inline struct packet *packet_of(struct connection *conn)
{
    return WEIR_UNLIKELY(conn->kind == CONNECTION_PACKET)
        ? caa_container_of(conn, struct packet, conn) : NULL;
}

/* Whose it is, if a Unix peer has sent it; or NULL. */
static inline const struct ucred *packet_sender(const struct packet *packet)
{
    return packet->knows_sender ? &packet->sender : NULL;
}

/* A Unix sender without a name can't be answered. */
static inline bool packet_has_return_address(const struct packet *packet)
{
    return packet->peer_len > sizeof(packet->peer.ss_family);
}

/* The cache that packets come from, and go back to. */
void packet_buffers_init(struct buffers *buffers, const struct packet_format *format);

/*
 * Ends a packet whose handler is done and whose reply is sent, or is not. Its blocks go into the
 * caches, or with NULL for both back to malloc.
 */
void packet_end(struct packet *packet, struct buffers *packets, struct buffers *replies);

/* Puts the address that it was sent to into the socket's, if it is known. */
void packet_local_address(const struct packet *packet, struct sockaddr_storage *socket_address);

/* Sends the reply. 0 or -errno: -EAGAIN there is no room for it now; errors of sendto(2). */
int packet_send(struct packet *packet);

/*
 * Sends the replies of several packets of the same socket, PACKET_BATCH at most, in their order.
 * Returns how many were sent, or -errno of the first.
 */
int packet_send_all(struct packet *const *packets, unsigned len);

/* The socket that a packet came from. */
struct packet_origin {
    int fd;
    const struct endpoint *endpoint;
    struct receiver *receiver;      /* NULL: there is no pool */
};

struct packet_tray;

/* NULL: no memory. */
struct packet_tray *packet_tray_create(const struct packet_format *format,
                                       struct buffers *buffers);
void packet_tray_destroy(struct packet_tray *tray);

/*
 * Receives datagrams into the tray, max at most, and forgets those of the last time that were not
 * taken. How many, or -errno: -EAGAIN none waits, -ENOMEM.
 */
int packet_tray_receive(struct packet_tray *tray, int fd, unsigned max);

/* Were there, for want of memory, fewer places than it was asked for the last time? */
bool packet_tray_was_short(const struct packet_tray *tray);

/* The i-th of them. It is the tray's. */
struct packet *packet_tray_look(struct packet_tray *tray, unsigned i);

/* Takes it out, to be served: its connection is QUEUED. */
struct packet *packet_tray_take(struct packet_tray *tray, unsigned i,
                                const struct packet_origin *origin);

#endif
