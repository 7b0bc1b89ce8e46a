/* accepting.c - the next client of a listener: accepted, and let in, turned away, or held. */
#include "engine/accept/acceptor_parts.h"

#include "engine/base/sys.h"
#include "engine/pool/room.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

/* Clients of each listener's backlog that a closing server lets in: net.core.somaxconn's usual. */
#define WAITING_MAX 4096

/* ------------------------------------------------------------------ who is held --------- */

bool acceptor_holds_one(const struct acceptor *acceptor)
{
    return acceptor->held.accepted.endpoint != NULL;
}

/* Nobody is held while it is tried again: a child that is forked then closes a held client. */
static struct held take_held(struct acceptor *acceptor)
{
    struct held held = acceptor->held;

    acceptor->held.accepted.endpoint = NULL;
    return held;
}

static struct accepted *held_client(struct held *held)
{
    if (!held->accepted.packet)
        held->accepted.peer = (const struct sockaddr *)&held->peer;
    return &held->accepted;
}

static void turn_away(struct acceptor *acceptor, struct accepted *accepted, int error)
{
    accepted_turn_away(accepted, &acceptor->pool->crew.table, &acceptor->config->admission, error,
                       &acceptor->tally);
}

void acceptor_refuse_held(struct acceptor *acceptor)
{
    struct held held = take_held(acceptor);

    if (held.accepted.endpoint)
        turn_away(acceptor, held_client(&held), -EAGAIN);
}

void acceptor_forget_held(struct acceptor *acceptor)
{
    acceptor->held.accepted.endpoint = NULL;
}

void acceptor_leave_held(struct acceptor *acceptor)
{
    struct accepted *accepted = &acceptor->held.accepted;

    if (acceptor_holds_one(acceptor))
        accepted_drop(accepted);
    accepted->endpoint = NULL;
}

/* ------------------------------------------------------------------ admitting ----------- */

/* Returns 0 if it may come in, or -errno of accepted_ask. */
static int ask_for(struct acceptor *acceptor, struct accepted *accepted)
{
    struct mixin *mixin = acceptor->config->mixin;
    int r = accepted_ask(accepted, &acceptor->config->admission, &acceptor->tally);

    if (r != -EUSERS || mixin->ended_fd < 0)
        return r;
    /* A child may be done with one of its address. */
    mixin->reap(mixin);
    return accepted_take_seat(accepted);
}

static void hold_client(struct acceptor *acceptor, const struct accepted *accepted)
{
    acceptor->held.accepted = *accepted;
    acceptor->held.again_ms = 0;
    if (!accepted->packet)
        memcpy(&acceptor->held.peer, accepted->peer, accepted->peer_len);
}

/*
 * r: what was said when it asked. Returns true if it is served, or about to be; else it is held, or
 * turned away.
 */
static bool serve_hold_or_refuse(struct acceptor *acceptor, struct accepted *accepted, int r)
{
    struct mixin *mixin = acceptor->config->mixin;

    if (r == 0)
        r = mixin->process(mixin, accepted);
    if (r == 0)
        return true;
    /* Outside of a run nobody would come back to it. */
    if (r == -EAGAIN && accepted->stop_fd >= 0)
        hold_client(acceptor, accepted);
    else
        turn_away(acceptor, accepted, r);
    return false;
}

static bool admit_accepted(struct acceptor *acceptor, struct accepted *accepted)
{
    tally_add(&acceptor->tally, TALLY_ACCEPTED, 1);
    return serve_hold_or_refuse(acceptor, accepted, ask_for(acceptor, accepted));
}

void acceptor_admit_held(struct acceptor *acceptor, int stop_fd)
{
    struct held held = take_held(acceptor);

    held.accepted.stop_fd = stop_fd;
    serve_hold_or_refuse(acceptor, held_client(&held), 0);
}

bool acceptor_admit_held_one(struct acceptor *acceptor)
{
    if (!acceptor_holds_one(acceptor))
        return false;
    acceptor_admit_held(acceptor, -1);
    return true;
}

/* The next datagram of a socket, where no worker of a pool receives it. */
static int receive_one(struct acceptor *acceptor, const struct listening *listening, int stop_fd)
{
    const struct packet_origin origin = {
        .fd = listening->listener.fd, .endpoint = listening->endpoint,
        .receiver = listening->receiver,
    };
    struct accepted accepted = {
        .fd = origin.fd, .endpoint = origin.endpoint, .handler = origin.endpoint->handler,
        .stop_fd = stop_fd,
    };
    int n;

    if (!acceptor->tray)
        acceptor->tray = packet_tray_create(&acceptor->pool->crew.packet_format,
                                            &acceptor->packets);
    if (!acceptor->tray)
        return -ENOMEM;
    n = packet_tray_receive(acceptor->tray, origin.fd, 1);
    if (n < 0)
        return n;
    accepted.packet = packet_tray_take(acceptor->tray, 0, &origin);
    accepted.peer = (const struct sockaddr *)&accepted.packet->peer;
    accepted.peer_len = accepted.packet->peer_len;
    tally_add(&acceptor->tally, TALLY_BYTES_IN, accepted.packet->len);
    tally_add(&acceptor->tally, TALLY_TRUNCATED, accepted.packet->truncated);
    return admit_accepted(acceptor, &accepted);
}

/* The next client of a stream's listener, whose address is left in *peer. 0, or -errno. */
static int accept_client(const struct listening *listening, int stop_fd,
                         struct sockaddr_storage *peer, struct accepted *ret)
{
    *ret = (struct accepted){
        .peer = (const struct sockaddr *)peer, .endpoint = listening->endpoint,
        .handler = listening->endpoint->handler, .stop_fd = stop_fd,
    };
    ret->fd = sys_accept(listening->listener.fd, peer, &ret->peer_len);
    return ret->fd < 0 ? ret->fd : 0;
}

/*
 * The next client of a listener, for whom the caller has a place: 1 it was admitted, 0 refused or
 * held, and the place is gone in either case; or -errno of accept(2), or what it would take to
 * serve it can't be had, and the place is still the caller's.
 */
static int accept_one(struct acceptor *acceptor, const struct listening *listening, int stop_fd)
{
    struct mixin *mixin = acceptor->config->mixin;
    int r = mixin->prepare(mixin);
    struct sockaddr_storage peer;
    struct accepted accepted;

    if (r < 0)
        return r;
    if (listening->listener.type == SOCK_DGRAM)
        return receive_one(acceptor, listening, stop_fd);
    r = accept_client(listening, stop_fd, &peer, &accepted);
    return r < 0 ? r : admit_accepted(acceptor, &accepted);
}

/* ------------------------------------------------------------------ accepting ----------- */

static void give_places_back(struct acceptor *acceptor, const struct listening *listening,
                             size_t places)
{
    if (places > 0)
        connection_table_give_back(&acceptor->pool->crew.table, listening->endpoint->quota,
                                   places);
}

/* Nothing more from this listener: there is no more, or for the time being it can't be had. */
static void break_off(struct acceptor *acceptor, struct listening *listening, int error)
{
    if (error == -EAGAIN || listening_count_waiting(listening) == 0) {
        listening_run_dry(listening);
    } else if (error == -EUSERS) {
        acceptor_rest_while_full(acceptor, listening->endpoint);
    } else {
        acceptor_rest_for_shortage(acceptor, listening->endpoint, error);
    }
}

/*
 * As many clients as there are places, which are the caller's. What is left of them is given back
 * before anybody rests, who would take them for connections. Returns 0, or -errno: see break_off.
 */
static int accept_into_places(struct acceptor *acceptor, struct listening *listening, size_t places,
                              unsigned *admitted)
{
    while (places > 0) {
        int r = accept_one(acceptor, listening, acceptor->stop_fd);

        if (r < 0) {
            give_places_back(acceptor, listening, places);
            return r;
        }
        listening_note_client(listening);
        places--;
        if (acceptor_holds_one(acceptor)) {
            give_places_back(acceptor, listening, places);
            acceptor_rest_for_held(acceptor);
            return 0;
        }
        acceptor->complained = false;
        *admitted += (unsigned)r;
    }
    return 0;
}

unsigned acceptor_accept_batch(struct acceptor *acceptor, struct listening *listening)
{
    struct crew *crew = &acceptor->pool->crew;
    size_t batch = overload_room(&crew->overload, &crew->handoff.queue,
                                 acceptor->config->mixin->batch);
    unsigned admitted = 0;
    size_t places;
    int r;

    if (WEIR_UNLIKELY(batch == 0)) {
        acceptor_rest_for_queue(acceptor, listening);
        return 0;
    }
    places = quota_take(listening->endpoint->quota, batch);
    r = places > 0 ? accept_into_places(acceptor, listening, places, &admitted) : -EUSERS;
    if (r < 0)
        break_off(acceptor, listening, r);
    return admitted;
}

int acceptor_admit_one(struct acceptor *acceptor, size_t i)
{
    const struct listening *listening = &acceptor->listening[i];
    int r;

    if (quota_take(listening->endpoint->quota, 1) == 0)
        return -EUSERS;
    r = accept_one(acceptor, listening, -1);
    if (r < 0) {
        give_places_back(acceptor, listening, 1);
        if (r != -EAGAIN) {
            tally_add(&acceptor->tally, TALLY_ACCEPT_ERRORS, 1);
            room_make(&acceptor->pool->crew, NULL);
        }
        return r;
    }
    if (r > 0)
        pool_call_workers(acceptor->pool, 1);
    return 1;
}

/*
 * The next client of a listener that closes, into the caller's place: 1 it was admitted, 0 refused,
 * or -errno and the place is still the caller's: -ENODATA it has said nothing yet, and is let go.
 */
static int accept_if_asked(struct acceptor *acceptor, const struct listening *listening)
{
    struct sockaddr_storage peer;
    struct accepted accepted;
    int r = accept_client(listening, -1, &peer, &accepted);

    if (r < 0)
        return r;
    if (sys_poll_one(accepted.fd, POLLIN, 0) > 0)
        return admit_accepted(acceptor, &accepted);
    sys_close(accepted.fd);
    return -ENODATA;
}

static unsigned admit_waiting(struct acceptor *acceptor, const struct listening *listening)
{
    struct quota *quota = listening->endpoint->quota;
    unsigned admitted = 0;

    for (unsigned i = 0; i < WAITING_MAX && quota_take(quota, 1) > 0; i++) {
        int r = accept_if_asked(acceptor, listening);

        if (r < 0)
            give_places_back(acceptor, listening, 1);
        if (r < 0 && r != -ENODATA)
            break;
        admitted += r > 0;
    }
    return admitted;
}

/* Who waits where others have the socket, too, is left to them: they serve him without haste. */
static bool may_admit_waiting(const struct listener *listener)
{
    return listener->type == SOCK_STREAM && !listener_is_kept_elsewhere(listener);
}

void acceptor_admit_waiting(struct acceptor *acceptor)
{
    unsigned admitted = 0;

    acceptor_admit_held_one(acceptor);
    for (size_t i = 0; i < acceptor->listening_len; i++)
        if (may_admit_waiting(&acceptor->listening[i].listener))
            admitted += admit_waiting(acceptor, &acceptor->listening[i]);
    if (admitted > 0)
        pool_call_workers(acceptor->pool, admitted);
}

void acceptor_admit_called(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        if (acceptor->listening[i].shared)
            acceptor_admit_one(acceptor, i);
}
