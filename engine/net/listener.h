/*
 * listener.h - a bound socket that clients come to, and the Unix path that belongs to it.
 *
 * A stream socket listens, and its connections are accepted. A datagram socket has neither: it
 * receives from the moment that it is bound, and to activate it only notes that.
 *
 * Threads: one at a time; the fd may be accepted or received from by any (sys_accept).
 * Owns:    the descriptor, and the path of a Unix socket that it has bound itself.
 * Blocks:  listener_open and listener_bind, while a name is resolved.
 */
#ifndef WEIR_LISTENER_H
#define WEIR_LISTENER_H

#include "engine/weir.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

struct listener_options {
    uint32_t backlog;              /* 0: SOMAXCONN; datagrams have none */
    bool reuse_address;            /* TCP, and UDP: where another socket that set it, too, may */
    bool reuse_port;               /* ... be bound to the same port. TCP and UDP */
    bool nodelay;                  /* TCP only: accepted sockets inherit it */
    bool taken_over;               /* an inherited fd:// only: its path becomes ours */
    bool keep_path;                /* from here on: Unix paths only. Closing leaves it there */
    bool set_uid;
    bool set_gid;
    uid_t uid;
    gid_t gid;
    mode_t mode;                   /* 0: what the umask leaves of 0777 */
};

struct listener {
    int fd;                        /* non-blocking, close-on-exec; -1 once closed */
    int family;                    /* AF_INET, AF_INET6, AF_UNIX */
    int type;                      /* SOCK_STREAM, SOCK_DGRAM: a Unix one has SO_PASSCRED set, one
                                      of every address IP_PKTINFO or IPV6_RECVPKTINFO */
    bool listens;                  /* ... or, of datagrams, is to be received from */
    bool keep_path;
    _Atomic bool kept_elsewhere;   /* other processes have the socket, and serve it: who waits is
                                      theirs, and so is the path. At first each inherited one is;
                                      later that is for the owner to say, by any thread */
    char uri[WEIR_ADDRESS_SIZE];   /* what is bound, a port 0 resolved */
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)]; /* to unlink; "": nothing is */
    dev_t path_dev;                /* ... while it is still the file that we made */
    ino_t path_ino;
};

static inline bool listener_is_kept_elsewhere(const struct listener *listener)
{
    /* relaxed: whoever ends the serving was told before, or is too early for that.
     * pairs: listener_keep_elsewhere() */
    return atomic_load_explicit(&listener->kept_elsewhere, memory_order_relaxed);
}

static inline void listener_keep_elsewhere(struct listener *listener, bool is_kept)
{
    /* relaxed: nothing else is told by it. pairs: listener_is_kept_elsewhere() */
    atomic_store_explicit(&listener->kept_elsewhere, is_kept, memory_order_relaxed);
}

/*
 * listener_bind binds: the address is known, and nobody can connect yet; datagrams are gathered by
 * the kernel from here on. A Unix path where nobody listens any more (of a datagram socket: where
 * nobody is bound any more) is taken over; anything else at that path is left alone. Mode and
 * owner are set here. An inherited fd:// must be listening already, or a UDP or Unix datagram
 * socket that is bound; what the options say about backlog, reuse_address, reuse_port and Unix
 * paths was its maker's choice then.
 * Returns 0, or -errno with the reason in why and nothing left open: what address_parse returns,
 * -EADDRINUSE, -EADDRNOTAVAIL, -EACCES and other errors of socket(2), bind(2), chmod(2) and
 * chown(2), -ENAMETOOLONG an abstract name whose URI doesn't fit in uri, -EINVAL an fd:// that
 * won't do.
 */
int listener_bind(struct listener *ret, const char *uri, const struct listener_options *options,
                  char *why, size_t why_size);

/*
 * listener_activate listens, unless it does already; backlog 0: SOMAXCONN. Returns 0, or the error
 * of listen(2) with the reason in why, and it is still bound; -EADDRINUSE also if the Unix path is
 * not ours any more: another server may take it while nobody listens. A datagram socket has been
 * receiving since it was bound, and nothing can fail.
 */
int listener_activate(struct listener *listener, uint32_t backlog, char *why, size_t why_size);

/* listener_open does both, with the backlog of the options. Returns what they do. */
int listener_open(struct listener *ret, const char *uri, const struct listener_options *options,
                  char *why, size_t why_size);

/*
 * listener_close also unlinks the Unix path, if it still is the socket that listener_bind made, or
 * found when it took the socket over. The path of any other inherited socket is its maker's, and so
 * is that of a listener that is kept elsewhere. Closing a closed listener does nothing.
 */
void listener_close(struct listener *listener);

#endif
