/*
 * multicast.h - the group that a server's UDP sockets join, and how they send to groups.
 *
 * A group is heard by a socket that is bound to the group's address or to every address, on the
 * interfaces where it has joined it. Linux gives a datagram to each such socket of a port, even
 * if they share it by SO_REUSEPORT: of a server with several acceptors only one may join.
 *
 * Threads: any. Owns: nothing. Blocks: never.
 */
#ifndef WEIR_MULTICAST_H
#define WEIR_MULTICAST_H

#include "engine/net/listener.h"
#include "engine/weir.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

struct multicast {
    int family;                    /* of the group: AF_INET, AF_INET6; AF_UNSPEC: there is none */
    unsigned interface;            /* its index; 0: the kernel chooses by its routes */
    union {
        struct in_addr in;
        struct in6_addr in6;
    } group;
    uint32_t ttl;                  /* 0: as the kernel has it */
    enum weir_choice loop;         /* WEIR_DEFAULT: as the kernel has it */
    char text[64];                 /* the option, for sentences */
};

/*
 * multicast_read takes the options multicast, multicast_ttl and multicast_loop. Returns 0, or the
 * reason in why and -EINVAL: it is no group, or -ENODEV: this machine has no such interface.
 */
int multicast_read(const struct weir_options *options, struct multicast *ret, char *why,
                   size_t why_size);

/*
 * multicast_prepare tells a listener's socket how to send to groups: hops, loop, interface. If
 * there is a group, it will also hear none that only others on this machine have joined, as
 * Linux has it otherwise. Of other sockets than UDP's it changes nothing.
 * Returns 0, or the error of setsockopt(2).
 */
int multicast_prepare(const struct multicast *multicast, const struct listener *listener);

/*
 * multicast_join joins the group. Returns 1; 0: this listener could not hear it (it is not UDP, of
 * the other family, or bound to another address), or there is none; or the error of setsockopt(2)
 * with the reason in why, -ENODEV: no route says on which interface.
 */
int multicast_join(const struct multicast *multicast, const struct listener *listener, char *why,
                   size_t why_size);

/* What to say when no listener could hear the group. Returns -EINVAL. */
int multicast_refuse(const struct multicast *multicast, char *why, size_t why_size);

#endif
