/*
 * listener.h - a bound, listening socket, and the Unix path that belongs to it.
 *
 * Threads: one at a time; the fd may be accepted from by any (sys_accept).
 * Owns:    the descriptor, and the path of a Unix socket that it has bound itself.
 * Blocks:  listener_open, while a name is resolved.
 */
#ifndef WEIR_LISTENER_H
#define WEIR_LISTENER_H

#include "engine/weir.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

struct listener_options {
    uint32_t backlog;              /* 0: SOMAXCONN */
    bool reuse_address;            /* the next three: TCP only */
    bool reuse_port;
    bool nodelay;                  /* accepted sockets inherit it */
};

struct listener {
    int fd;                        /* non-blocking, close-on-exec; -1 once closed */
    int family;                    /* AF_INET, AF_INET6, AF_UNIX */
    char uri[WEIR_ADDRESS_SIZE];   /* what is bound, a port 0 resolved */
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)]; /* to unlink; "": nothing is */
    dev_t path_dev;                /* ... while it is still the file that we made */
    ino_t path_ino;
};

/*
 * listener_open binds and listens. A Unix path that nobody listens on any more is taken over;
 * anything else at that path is left alone. An inherited fd:// must be listening already; what
 * the options say about backlog, reuse_address and reuse_port was its maker's choice then.
 * Returns 0, or -errno with the reason in why and nothing left open: what address_parse returns,
 * -EADDRINUSE, -EADDRNOTAVAIL, -EACCES and other errors of socket(2), bind(2) and listen(2),
 * -ENAMETOOLONG an abstract name whose URI doesn't fit in uri, -EINVAL an fd:// that won't do.
 */
int listener_open(struct listener *ret, const char *uri, const struct listener_options *options,
                  char *why, size_t why_size);

/*
 * listener_close also unlinks the Unix path, if it still is the socket that listener_open made.
 * An inherited socket's path is its maker's. Closing a closed listener does nothing.
 */
void listener_close(struct listener *listener);

#endif
