#include "engine/net/admission.h"

#include "engine/net/address.h"

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

static bool is_verified(const struct admission *admission, const struct weir_peer *peer,
                        const char *handler, struct tally *tally)
{
    int r = admission->verify_request ? admission->verify_request(admission->server, peer) : 1;

    if (r >= 0)
        return r > 0;
    tally_add(tally, TALLY_VERIFY_ERRORS, 1);
    admission_tell(admission, WEIR_PHASE_VERIFY, r, peer->address, peer->address_len, handler);
    return false;
}

bool admission_allows(const struct admission *admission, const struct endpoint *endpoint,
                      const struct weir_peer *peer, const struct ucred *sender,
                      struct tally *tally)
{
    const struct access_peer who = {
        .address = peer->address, .address_len = peer->address_len, .fd = peer->fd,
        .sender = sender,
    };

    return access_slot_admits(endpoint->access, &who) &&
           is_verified(admission, peer, endpoint->handler->name, tally);
}
