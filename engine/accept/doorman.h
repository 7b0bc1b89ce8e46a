/*
 * doorman.h - lets clients in one by one, for a program that runs no acceptors.
 *
 * An epoll set of its own holds every listener, level-triggered: it is readable as long as a
 * client waits, so that a program can poll it, and the acceptors' edges are not touched by it. A
 * server whose user never asks for it has none.
 *
 * Threads: one at a time, while no acceptor runs; the descriptor may be polled by any.
 * Owns:    the epoll set.
 * Blocks:  serve_one.
 */
#ifndef WEIR_DOORMAN_H
#define WEIR_DOORMAN_H

#include "engine/accept/acceptor.h"

#include <stddef.h>
#include <stdint.h>

struct doorman {
    struct acceptor *acceptors;     /* the server's, all of them */
    size_t acceptors_len;
    int fd;                         /* readable while a client waits */
};

/* The acceptors have their listeners, and outlive it. 0 or -errno. */
int doorman_init(struct doorman *doorman, struct acceptor *acceptors, size_t acceptors_len);
void doorman_fini(struct doorman *doorman);

/* Before the listeners are closed: from now on the descriptor is never readable. */
void doorman_leave(struct doorman *doorman);

/*
 * Waits for a client and has it served: 1, even if verify_request refused it. 0 when none
 * came within timeout_ms (0: waits for ever); or -errno, of accept(2).
 */
int doorman_serve_one(struct doorman *doorman, uint32_t timeout_ms);

#endif
