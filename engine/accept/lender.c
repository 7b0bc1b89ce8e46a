/* lender.c - which listeners are lent to the workers, and taken back: see lending.h. */
#include "engine/accept/acceptor_parts.h"

#include "engine/base/sys.h"

static void listen_to(struct acceptor *acceptor, size_t i, uint32_t events)
{
    sys_epoll_ctl(acceptor->epoll_fd, EPOLL_CTL_MOD, acceptor->listening[i].listener.fd, events,
                  ACCEPTOR_TOKEN_LISTENER + i);
}

/* Who dispatches for all accepts for all; and between processes clients are shared another way. */
static bool may_lend(const struct acceptor *acceptor, const struct listening *listening)
{
    return listening->listener.type == SOCK_STREAM && !acceptor->config->mixin &&
           !acceptor->config->shared && acceptor->pool->crew.shared.fd < 0;
}

static void lend(struct acceptor *acceptor, size_t i, uint64_t now_ms)
{
    struct listening *listening = &acceptor->listening[i];
    const struct side_door_config config = {
        .admission = &acceptor->config->admission,
        .fd = listening->listener.fd, .endpoint = listening->endpoint,
        .call_fd = acceptor->call_fd,
    };

    if (lending_begin(&listening->lending, &acceptor->pool->crew, &config, now_ms) < 0)
        return;
    listening->ready = false;
    listen_to(acceptor, i, 0);
}

void acceptor_lend_if_due(struct acceptor *acceptor, size_t i, unsigned admitted, uint64_t now_ms)
{
    struct listening *listening = &acceptor->listening[i];

    if (may_lend(acceptor, listening) &&
        lending_is_due(&listening->lending, admitted, acceptor->pool, now_ms))
        lend(acceptor, i, now_ms);
}

/* The kernel tells us at once if somebody waits there. */
static void take_back(struct acceptor *acceptor, size_t i)
{
    lending_end(&acceptor->listening[i].lending);
    listen_to(acceptor, i, EPOLLIN | EPOLLET);
}

void acceptor_take_all_back(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        if (acceptor->listening[i].lending.lent)
            take_back(acceptor, i);
}

void acceptor_look_after_lent(struct acceptor *acceptor, uint64_t now_ms)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        struct lending *lending = &acceptor->listening[i].lending;

        if (lending->lent && !lending_goes_on(lending, now_ms))
            take_back(acceptor, i);
    }
}
