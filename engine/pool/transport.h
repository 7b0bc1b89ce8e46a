/*
 * transport.h - how the bytes of a connection come and go: one small table a kind.
 *
 * A handler's reads, writes and files, and the end of a connection, go by its transport and by no
 * call of the kernel's. The two calls of every request, of a plain connection, stand where they are
 * needed, behind one test that the CPU predicts (syscall.h says why); all else, and all that other
 * transports do, is called by the table. So a further transport costs the plain one nothing.
 *
 *   plain   the kernel's own streams: TCP, or whatever else somebody has accepted
 *   unix    ... between processes: descriptors may come along, and no end is ever a reset
 *   none    nothing comes or goes by it: a packet, whose reply is gathered whole and then sent by
 *           packet.h; a datagram socket; and what is only waited for
 *
 * Threads: the connection's owner.
 * Owns:    nothing.
 * Blocks:  never: -EAGAIN.
 */
#ifndef WEIR_TRANSPORT_H
#define WEIR_TRANSPORT_H

#include "engine/base/compiler.h"
#include "engine/base/sys.h"
#include "engine/pool/connection.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

enum transport_kind { TRANSPORT_PLAIN, TRANSPORT_UNIX, TRANSPORT_NONE };

/*
 * What it is, and its calls, each as the one of sys.h that has its name. One that is never called
 * for what the transport is may be NULL.
 */
struct transport {
    bool sends;             /* what is written is sent; else it is gathered, and send to push and
                               end_input are NULL */
    bool resets;            /* unread input turns an end into a reset; else discard is NULL */
    /* *ret_more: there may be more at once, although less came than there is room for. */
    ssize_t (*recv)(struct connection *conn, void *buf, size_t len, bool *ret_more);
    ssize_t (*send)(struct connection *conn, const void *buf, size_t len, int flags);
    ssize_t (*sendv)(struct connection *conn, const struct iovec *iov, size_t iov_len, int flags);
    /* An error that is not the connection's: the file is read, and sent piece by piece. */
    ssize_t (*sendfile)(struct connection *conn, int file_fd, off_t offset, size_t len);
    bool (*cork)(struct connection *conn);
    void (*push)(struct connection *conn);
    /* Tells the peer that no more will come. 0 or -errno. */
    int (*end_output)(struct connection *conn);
    /* Nothing more is read; tells the peer so, where it can be told. */
    void (*end_input)(struct connection *conn);
    ssize_t (*discard)(struct connection *conn, size_t len);
    size_t (*unsent)(struct connection *conn);
};

extern const struct transport transports[];

static inline const struct transport *transport_of(const struct connection *conn)
{
    return &transports[conn->transport];
}

/* Returns true if it is the transport whose recv and send stand inline. */
static WEIR_ALWAYS_INLINE bool transport_is_plain(const struct connection *conn)
{
    return WEIR_LIKELY(conn->transport == TRANSPORT_PLAIN);
}

/* Returns true if what is written is sent, rather than gathered as the reply to a datagram. */
static inline bool transport_sends(const struct connection *conn)
{
    return conn->transport != TRANSPORT_NONE;
}

#endif
