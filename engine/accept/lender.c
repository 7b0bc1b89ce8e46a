/* lender.c - which listeners are lent to the workers, and taken back: see lending.h. */
#include "engine/accept/acceptor_parts.h"

/* How long clients wait is known from when they were accepted: so the acceptor does it, at once. */
static bool is_overloaded(const struct acceptor *acceptor)
{
    return overload_is_late(&acceptor->pool->crew.overload);
}

/*
 * A child that shares its listener with others has all its workers leave the line after each batch,
 * and stand in it again. For one worker that is less than the two changes of thread that it
 * spares; for several it is more.
 */
static bool is_worth_its_line(const struct acceptor *acceptor, const struct listening *listening)
{
    return !listening->shared || acceptor->pool->crew.handoff.workers == 1;
}

/* An acceptor that dispatches for all accepts for all. */
static bool may_lend(const struct acceptor *acceptor, const struct listening *listening)
{
    return !is_overloaded(acceptor) && listening->listener.type == SOCK_STREAM &&
           acceptor->config->mixin->has_workers && !pool_has_common_set(acceptor->pool) &&
           is_worth_its_line(acceptor, listening);
}

void acceptor_lend_if_due(struct acceptor *acceptor, struct listening *listening,
                          unsigned admitted, uint64_t now_ms)
{
    const struct side_door_config config = {
        .admission = &acceptor->config->admission,
        .fd = listening->listener.fd, .endpoint = listening->endpoint,
        .call_fd = acceptor->call_fd, .shared = listening->shared,
    };

    if (may_lend(acceptor, listening) &&
        lending_is_due(&listening->lending, admitted, acceptor->pool, now_ms) &&
        listening->state != LISTENING_RESTING)
        /* Where that fails the acceptor goes on accepting. */
        listening_lend(listening, &acceptor->pool->crew, &config, now_ms);
}

void acceptor_take_all_back(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        if (acceptor->listening[i].state == LISTENING_LENT)
            listening_take_back(&acceptor->listening[i]);
}

void acceptor_look_after_lent(struct acceptor *acceptor, uint64_t now_ms)
{
    bool is_over = is_overloaded(acceptor);

    for (size_t i = 0; i < acceptor->listening_len; i++) {
        struct listening *listening = &acceptor->listening[i];

        if (listening->state == LISTENING_LENT &&
            (is_over || !lending_goes_on(&listening->lending, now_ms)))
            listening_take_back(listening);
    }
}
