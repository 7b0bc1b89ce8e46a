#include "engine/net/admission.h"

#include "engine/net/address.h"
#include "engine/net/cidr.h"

#include <errno.h>

void admission_tell(const struct admission *admission, enum weir_phase phase, int error,
                    const struct sockaddr *peer, socklen_t peer_len, const char *handler)
{
    char text[WEIR_ADDRESS_SIZE];

    admission->handle_error(admission->server, &(const struct weir_failure){
        .phase = phase,
        .error = error,
        .peer = address_text(peer, peer_len, text, sizeof(text)),
        .handler = handler,
    });
}

/* Returns true if the program's verify_request, which is there, lets the peer in. */
static bool is_verified(const struct admission *admission, const struct endpoint *endpoint,
                        const struct access_peer *peer, struct tally *tally)
{
    const struct weir_peer who = {
        .address = peer->address, .address_len = peer->address_len, .fd = peer->fd,
        .listen = endpoint->uri, .listener_user = endpoint->user,
        .listener_number = endpoint->number,
    };
    int r = admission->verify_request(admission->server, &who);

    if (r >= 0)
        return r > 0;
    tally_add(tally, TALLY_VERIFY_ERRORS, 1);
    admission_tell(admission, WEIR_PHASE_VERIFY, r, peer->address, peer->address_len,
                   endpoint->handler->name);
    return false;
}

int admission_take_seat(const struct endpoint *endpoint, const struct access_peer *peer,
                        struct crowd_guest **seat)
{
    struct cidr host;
    bool is_counted = cidr_of_address(peer->address, peer->address_len, &host) &&
                      !(endpoint->spares_loopback && cidr_is_loopback(&host));

    /*
     * A greeting may give an address to a client that is not counted, but can't take a seat for a
     * child.
     */
    if (!is_counted && !*seat && !endpoint->greet)
        return 0;
    return crowd_move(endpoint->crowd, is_counted ? &host : NULL, seat);
}

void admission_leave_seat(const struct endpoint *endpoint, struct crowd_guest **seat)
{
    if (*seat)
        crowd_leave(endpoint->crowd, *seat);
    *seat = NULL;
}

/* Returns true if neither the endpoint's rules nor the program keep the peer out. */
static bool may_come_in(const struct admission *admission, const struct endpoint *endpoint,
                        const struct access_peer *peer, struct tally *tally)
{
    return access_slot_admits(endpoint->access, peer) &&
           (!admission->verify_request || is_verified(admission, endpoint, peer, tally));
}

int admission_ask(const struct admission *admission, const struct endpoint *endpoint,
                  const struct access_peer *peer, struct crowd_guest **seat, struct tally *tally)
{
    int r = -EACCES;

    if (may_come_in(admission, endpoint, peer, tally))
        r = seat && endpoint->crowd ? admission_take_seat(endpoint, peer, seat) : 0;
    if (r < 0 && seat)
        admission_leave_seat(endpoint, seat);
    return r;
}
