/*
 * line.c - the shared listeners of a child of WEIR_PREFORK: when it stands in line for their
 * clients. A child without room leaves the line, and one that could accept nobody stays out of it.
 * What a child lacks it may only notice when it has been called: then it has the parent tell the
 * others to look (rest_those_of). A child that is told to stop is followed by one that looks. In a
 * rush the child's workers stand in line in the acceptor's stead (side_door.h).
 */
#include "engine/accept/acceptor_parts.h"

#include "engine/base/clock.h"
#include "engine/base/sys.h"

/* 0, or -errno. It asks for descriptors only when it has lacked something since its last client. */
static int stand_in_line(const struct acceptor *acceptor, struct listening *listening)
{
    int r = acceptor->complained ? sys_check_descriptors() : 0;

    return r < 0 ? r : listening_stand_in_line(listening);
}

/* Idle connections make room for a client that waits, not for one that may come. */
static void stay_out_of_line(struct acceptor *acceptor, struct listening *listening, int error)
{
    if (listening_count_waiting(listening) > 0)
        acceptor_rest_for_shortage(acceptor, listening->endpoint, error);
    else
        listening_rest(listening, clock_ms() + ACCEPTOR_REST_MS);
}

void acceptor_stand_in_lines(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        struct listening *listening = &acceptor->listening[i];
        int r = listening->state == LISTENING_ASIDE ? stand_in_line(acceptor, listening) : 0;

        if (r < 0)
            stay_out_of_line(acceptor, listening, r);
    }
}

void acceptor_leave_lines(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        if (acceptor->listening[i].state == LISTENING_IN_LINE)
            listening_leave_line(&acceptor->listening[i]);
}

/* Of the listeners that share a quota one where somebody waits, or NULL. */
static const struct listening *find_waiting_in_line(const struct acceptor *acceptor,
                                            const struct quota *quota)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        const struct listening *listening = &acceptor->listening[i];

        if (listening->shared && listening->endpoint->quota == quota &&
            listening_count_waiting(listening) > 0)
            return listening;
    }
    return NULL;
}

static void rest_out_of_line(struct acceptor *acceptor, struct quota *quota)
{
    const struct listening *waiting = find_waiting_in_line(acceptor, quota);

    if (waiting)
        acceptor_rest_while_full(acceptor, waiting->endpoint);
    else
        acceptor_rest_for_room(acceptor, quota, clock_ms() + ACCEPTOR_REST_MS);
}

void acceptor_leave_full_lines(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        struct listening *listening = &acceptor->listening[i];
        struct quota *quota = listening->endpoint->quota;

        if (!listening->shared || listening->state == LISTENING_RESTING || !quota_is_used_up(quota))
            continue;
        if (listening->state == LISTENING_LENT)
            listening_take_back(listening);
        rest_out_of_line(acceptor, quota);
    }
}
