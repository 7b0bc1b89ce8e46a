#include "engine/admission.h"

#include "engine/address.h"

static bool is_verified(const struct admission *admission, const struct weir_peer *peer,
                        const char *handler, struct tally *tally)
{
    char text[WEIR_ADDRESS_SIZE];
    int r = admission->verify_request ? admission->verify_request(admission->server, peer) : 1;

    if (r >= 0)
        return r > 0;
    tally_add(tally, TALLY_VERIFY_ERRORS, 1);
    admission->handle_error(admission->server, &(const struct weir_failure){
        .phase = WEIR_PHASE_VERIFY,
        .error = r,
        .peer = address_text(peer->address, peer->address_len, text, sizeof(text)),
        .handler = handler,
    });
    return false;
}

bool admission_allows(const struct admission *admission, const struct weir_peer *peer,
                      const struct ucred *sender, const char *handler, struct tally *tally)
{
    const struct access_peer who = {
        .address = peer->address, .address_len = peer->address_len, .fd = peer->fd,
        .sender = sender,
    };

    return access_slot_admits(admission->access, &who) &&
           is_verified(admission, peer, handler, tally);
}
