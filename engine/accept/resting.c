/*
 * resting.c - listeners rest: those that share a quota that is used up, or all of them for want of
 * descriptors, memory, threads or children. Nobody is accepted meanwhile; they wait in the backlog.
 */
#include "engine/accept/acceptor_parts.h"

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/sys.h"
#include "engine/base/why.h"
#include "engine/pool/room.h"

#include <string.h>

/*
 * Returns true if a client is left there for whom this process alone may have been called. Whether
 * one waits is asked when the listener is in no line any more: the next client calls another one.
 */
static bool leaves_client(struct listening *listening, uint64_t until_ms)
{
    bool may_be_called = listening_may_be_called(listening);

    listening_rest(listening, until_ms);
    return may_be_called && listening_count_waiting(listening) > 0;
}

/* Those of this quota, or all (NULL): until a connection is closed, or that moment has come. */
static void rest_those_of(struct acceptor *acceptor, const struct quota *quota, uint64_t until_ms)
{
    bool left = false;

    for (size_t i = 0; i < acceptor->listening_len; i++) {
        struct listening *listening = &acceptor->listening[i];

        if (!quota || listening->endpoint->quota == quota)
            left |= leaves_client(listening, until_ms);
    }
    if (left)
        sys_eventfd_signal(acceptor->config->others_fd);
    pool_want_room(acceptor->pool);
}

/* Returns true if nobody rests any more. */
static bool wake_those_with_room(struct acceptor *acceptor)
{
    bool all = true;

    for (size_t i = 0; i < acceptor->listening_len; i++) {
        struct listening *listening = &acceptor->listening[i];

        if (listening->state != LISTENING_RESTING)
            continue;
        if (quota_lacks(listening->endpoint->quota))
            all = false;
        else
            listening_wake(listening);
    }
    return all;
}

void acceptor_note_room(struct acceptor *acceptor)
{
    /* The held client is the next, at a moment of its own. */
    if (acceptor_holds_one(acceptor) || wake_those_with_room(acceptor))
        return;
    pool_want_room(acceptor->pool);
    /* One that was closed just before we asked told nobody. */
    wake_those_with_room(acceptor);
}

void acceptor_wake_in_time(struct acceptor *acceptor, uint64_t now_ms)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        struct listening *listening = &acceptor->listening[i];

        if (now_ms < listening_due_ms(listening))
            continue;
        if (listening->state == LISTENING_RESTING)
            listening_wake(listening);
        else if (listening->state == LISTENING_DEAF)
            listening_hear(listening);
    }
}

/* ------------------------------------------------------------------ full -------------- */

void acceptor_rest_for_room(struct acceptor *acceptor, struct quota *quota, uint64_t until_ms)
{
    rest_those_of(acceptor, quota, until_ms);
    /* One that was closed just before we asked told nobody. */
    if (!quota_lacks(quota))
        wake_those_with_room(acceptor);
}

/* A connection that is kept may make room, and tells nobody when it is; only a pool's does. */
static uint64_t next_try_ms(const struct acceptor *acceptor, const struct quota *quota)
{
    if (!acceptor->config->mixin->has_workers)
        return CLOCK_NEVER;
    return clock_earlier(clock_ms() + ACCEPTOR_REST_MS, room_next_ms(quota));
}

void acceptor_rest_while_full(struct acceptor *acceptor, const struct endpoint *endpoint)
{
    tally_add(&acceptor->tally, TALLY_FULL, 1);
    log_line(LOG_FULL, "%s: full: %zu connections are open, as many as %s allows, and others wait",
             endpoint->uri, quota_count(endpoint->quota), endpoint->quota->limit);
    room_make(&acceptor->pool->crew, endpoint->quota);
    acceptor_rest_for_room(acceptor, endpoint->quota, next_try_ms(acceptor, endpoint->quota));
}

/* ------------------------------------------------------------------ the queue --------- */

/*
 * The workers tell nobody how long their queue is: that would cost something at each connection,
 * and a look QUEUE_LOOK_MS later costs little beside what they do meanwhile.
 */
#define QUEUE_LOOK_MS 1

void acceptor_rest_for_queue(struct acceptor *acceptor, struct listening *listening)
{
    if (listening_count_waiting(listening) == 0) {
        listening_run_dry(listening);
        return;
    }
    /* However many looks it takes, that is one pause. */
    if (!listening->paused)
        tally_add(&acceptor->tally, TALLY_FULL, 1);
    listening->paused = true;
    if (leaves_client(listening, clock_ms() + QUEUE_LOOK_MS))
        sys_eventfd_signal(acceptor->config->others_fd);
}

/* ------------------------------------------------------------------ want -------------- */

static void rest_for_want_of(struct acceptor *acceptor, const char *listen, const char *what,
                             uint64_t until_ms)
{
    tally_add(&acceptor->tally, TALLY_ACCEPT_ERRORS, 1);
    if (!acceptor->complained)
        log_line(LOG_SHORTAGE, "%s: accepting pauses: %s", listen, what);
    acceptor->complained = true;
    room_make(&acceptor->pool->crew, NULL);
    rest_those_of(acceptor, NULL, until_ms);
}

void acceptor_rest_for_shortage(struct acceptor *acceptor, const struct endpoint *endpoint,
                                int error)
{
    rest_for_want_of(acceptor, endpoint->uri, why_error(error), clock_ms() + ACCEPTOR_REST_MS);
}

void acceptor_rest_for_held(struct acceptor *acceptor)
{
    struct held *held = &acceptor->held;

    held->again_ms = clock_ms() + ACCEPTOR_REST_MS;
    rest_for_want_of(acceptor, held->accepted.endpoint->uri,
                     acceptor->config->mixin->shortage, held->again_ms);
}

/* ------------------------------------------------------------------ deaf sockets ------ */

void acceptor_note_failures(struct acceptor *acceptor, uint64_t now_ms)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        struct listening *listening = &acceptor->listening[i];
        int error = listening->receiver ? receiver_failure(listening->receiver) : 0;

        if (error < 0 && listening_deafen(listening, now_ms + ACCEPTOR_REST_MS, now_ms))
            log_line(LOG_SHORTAGE, "%s: receiving pauses: %s", listening->endpoint->uri,
                     why_error(error));
    }
}
