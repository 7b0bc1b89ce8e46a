/*
 * listener.h - a bound, listening socket, and the Unix path that belongs to it.
 *
 * Threads: one at a time; the fd may be accepted from by any (sys_accept).
 * Owns:    the descriptor, and the path of a Unix socket that it has bound itself.
 * Blocks:  listener_open and listener_bind, while a name is resolved.
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
    bool listens;
    bool keep_path;
    char uri[WEIR_ADDRESS_SIZE];   /* what is bound, a port 0 resolved */
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)]; /* to unlink; "": nothing is */
    dev_t path_dev;                /* ... while it is still the file that we made */
    ino_t path_ino;
};

/*
 * listener_bind binds: the address is known, and nobody can connect yet. A Unix path that nobody
 * listens on any more is taken over; anything else at that path is left alone. Mode and owner are
 * set here. An inherited fd:// must be listening already; what the options say about backlog,
 * reuse_address, reuse_port and Unix paths was its maker's choice then.
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
 * not ours any more: another server may take it while nobody listens.
 */
int listener_activate(struct listener *listener, uint32_t backlog, char *why, size_t why_size);

/* listener_open does both, with the backlog of the options. Returns what they do. */
int listener_open(struct listener *ret, const char *uri, const struct listener_options *options,
                  char *why, size_t why_size);

/*
 * listener_close also unlinks the Unix path, if it still is the socket that listener_bind made.
 * An inherited socket's path is its maker's. Closing a closed listener does nothing.
 */
void listener_close(struct listener *listener);

#endif
