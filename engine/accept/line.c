/*
 * line.c - where several processes wait for a shared listener: in line, or not.
 *
 * Of several processes that wait for a shared listener one is called for each client: the first in
 * line of those that wait now. Who accepts goes to the end of the line, so that they take turns.
 * Who has no room leaves it before it is called, for it can't pass the call on.
 */
#include "engine/accept/acceptor_parts.h"

#include "engine/base/clock.h"
#include "engine/base/sys.h"

void acceptor_leave_line(struct acceptor *acceptor, struct listening *listening)
{
    if (listening->in_line)
        sys_epoll_ctl(acceptor->epoll_fd, EPOLL_CTL_DEL, listening->listener.fd, 0, 0);
    listening->in_line = false;
}

void acceptor_leave_lines(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        acceptor_leave_line(acceptor, &acceptor->listening[i]);
}

static int stand_in_line(struct acceptor *acceptor, size_t i)
{
    struct listening *listening = &acceptor->listening[i];
    int r;

    if (listening->in_line || listening->listener.type != SOCK_STREAM)
        return 0;
    r = acceptor_watch(acceptor, listening->listener.fd, EPOLLIN | EPOLLET | EPOLLEXCLUSIVE,
              ACCEPTOR_TOKEN_LISTENER + i);
    listening->in_line = r == 0;
    return r;
}

void acceptor_stand_in_lines(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        int r = stand_in_line(acceptor, i);

        if (r < 0)
            acceptor_rest_for_shortage(acceptor, &acceptor->listening[i], r);
    }
}

void acceptor_rest_out_of_line(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        const struct listening *listening = &acceptor->listening[i];

        if (listening->listener.type != SOCK_STREAM || !acceptor_has_waiting(listening))
            continue;
        acceptor_rest_while_full(acceptor, listening);
        return;
    }
    acceptor_rest_for_room(acceptor, clock_ms() + ACCEPTOR_REST_MS);
}
