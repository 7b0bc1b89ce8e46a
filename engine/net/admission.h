/*
 * admission.h - who comes in: the access rules first, then verify_request; and what is told of
 * whom no request speaks for.
 *
 * Threads: any between reclaim_thread_init and _fini.
 * Owns:    nothing.
 * Blocks:  as verify_request does, which should not.
 */
#ifndef WEIR_ADMISSION_H
#define WEIR_ADMISSION_H

#include "engine/base/tally.h"
#include "engine/net/endpoint.h"
#include "engine/weir.h"

#include <stdbool.h>

struct admission {
    struct weir_server *server;
    int (*verify_request)(struct weir_server *server, const struct weir_peer *peer);
    void (*handle_error)(struct weir_server *server, const struct weir_failure *failure);
};

/*
 * May this peer come in by that endpoint? sender: whose datagram it is, NULL for a connection and where
 * that isn't known. A hook that fails is told to handle_error, with the name of the endpoint's handler,
 * and counted.
 */
bool admission_allows(const struct admission *admission, const struct endpoint *endpoint,
                      const struct weir_peer *peer, const struct ucred *sender,
                      struct tally *tally);

/* Tells handle_error of a request that has no handler yet, or none any more. */
void admission_tell(const struct admission *admission, enum weir_phase phase, int error,
                    const struct sockaddr *peer, socklen_t peer_len, const char *handler);

#endif
