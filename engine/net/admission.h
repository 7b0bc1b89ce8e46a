/*
 * admission.h - who comes in: the access rules first, then verify_request, then a seat among the
 * connections of its address; and the call of handle_error for a client that has no request.
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
 * Asks whether this peer may come in by that endpoint. Every caller that admits clients asks here,
 * and has a place of the endpoint's quota before that. Returns 0; -EACCES: the rules or
 * verify_request refuse it; -EUSERS or -ENOMEM, as admission_take_seat. A hook that fails is told
 * to handle_error, with the name of the endpoint's handler, and counted.
 *
 * seat: as admission_take_seat; NULL for a datagram, which needs none. A connection that has a seat
 * already, under another address, has left it when this returns.
 */
int admission_ask(const struct admission *admission, const struct endpoint *endpoint,
                  const struct access_peer *peer, struct crowd_guest **seat, struct tally *tally);

/*
 * Counts a connection among those of its peer's address, in the crowd that the endpoint must have:
 * 0, -EUSERS: there are as many as may be, or -ENOMEM. *seat is what it leaves the crowd by, or
 * NULL: the peer has no such address. Before, it is NULL or a seat under another address, which it
 * leaves.
 * leave: NULL is fine, and left behind.
 */
int admission_take_seat(const struct endpoint *endpoint, const struct access_peer *peer,
                        struct crowd_guest **seat);
void admission_leave_seat(const struct endpoint *endpoint, struct crowd_guest **seat);

/* Tells handle_error of a request that has no handler yet, or none any more. */
void admission_tell(const struct admission *admission, enum weir_phase phase, int error,
                    const struct sockaddr *peer, socklen_t peer_len, const char *handler);

#endif
