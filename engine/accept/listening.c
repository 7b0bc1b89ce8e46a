#include "engine/accept/listening.h"

#include "engine/base/clock.h"
#include "engine/base/sys.h"

#include <poll.h>

/* A socket that is deafened so soon after the last time has been deaf all along. */
#define QUIET_MS 1000

#define EDGES (EPOLLIN | EPOLLET)

static int change_set(const struct listening *listening, int op, uint32_t events)
{
    return sys_epoll_ctl(listening->epoll_fd, op, listening->listener.fd, events,
                         listening->token);
}

/* ------------------------------------------------------------------ begin and end ----- */

void listening_init(struct listening *listening, const struct listener *listener,
                    const struct endpoint *endpoint, int epoll_fd, uint64_t token)
{
    *listening = (struct listening){
        .listener = *listener, .endpoint = endpoint, .epoll_fd = epoll_fd, .token = token,
        .state = LISTENING_CHILDRENS,
    };
}

int listening_watch(struct listening *listening)
{
    int r = change_set(listening, EPOLL_CTL_ADD, EDGES);

    if (r == 0)
        listening->state = LISTENING_WATCHED;
    return r;
}

void listening_share(struct listening *listening)
{
    listening->shared = true;
    listening->state = LISTENING_ASIDE;
}

int listening_give_to_pool(struct listening *listening, struct crew *crew,
                           const struct receiver_config *config)
{
    int r = receiver_create(crew, config, listening->listener.fd, listening->endpoint,
                            &listening->receiver);

    if (r == 0)
        listening->state = LISTENING_POOLS;
    return r;
}

void listening_close(struct listening *listening)
{
    if (listening->receiver)
        receiver_destroy(listening->receiver);
    listening->receiver = NULL;
    listening->state = LISTENING_CLOSED;
    listener_close(&listening->listener);
}

void listening_fini(struct listening *listening)
{
    side_door_destroy(listening->lending.door);
}

/* ------------------------------------------------------------------ accepting --------- */

void listening_call(struct listening *listening)
{
    switch (listening->state) {
    case LISTENING_IN_LINE:
        listening_leave_line(listening);
        listening->state = LISTENING_READY;
        listening->unheeded = true;
        break;
    case LISTENING_WATCHED:
    case LISTENING_ASIDE:
        listening->state = LISTENING_READY;
        break;
    case LISTENING_LENT:
        /* Its own set tells of nobody now, so this is the parent of a child, who says: look. */
        if (listening->shared)
            listening_take_back(listening);
        break;
    default:
        break;
    }
}

void listening_note_client(struct listening *listening)
{
    listening->unheeded = false;
    listening->paused = false;
}

void listening_run_dry(struct listening *listening)
{
    listening->unheeded = false;
    listening->paused = false;
    listening->state = listening->shared ? LISTENING_ASIDE : LISTENING_WATCHED;
}

int listening_count_waiting(const struct listening *listening)
{
    int events = sys_poll_one(listening->listener.fd, POLLIN, 0);

    return events > 0 ? 1 : events;
}

/* ------------------------------------------------------------------ resting ----------- */

void listening_rest(struct listening *listening, uint64_t until_ms)
{
    switch (listening->state) {
    case LISTENING_IN_LINE:
        listening_leave_line(listening);
        break;
    case LISTENING_WATCHED:
    case LISTENING_READY:
    case LISTENING_ASIDE:
    case LISTENING_RESTING:
        break;
    default:
        return;
    }
    listening->state = LISTENING_RESTING;
    listening->unheeded = false;
    listening->until_ms = until_ms;
}

void listening_wake(struct listening *listening)
{
    listening->state = listening->shared ? LISTENING_ASIDE : LISTENING_READY;
}

bool listening_deafen(struct listening *listening, uint64_t until_ms, uint64_t now_ms)
{
    bool anew = listening->deaf_ms == 0 || now_ms - listening->deaf_ms > QUIET_MS;

    listening->state = LISTENING_DEAF;
    listening->until_ms = until_ms;
    listening->deaf_ms = now_ms;
    return anew;
}

void listening_hear(struct listening *listening)
{
    listening->state = LISTENING_POOLS;
    receiver_kick(listening->receiver);
}

uint64_t listening_due_ms(const struct listening *listening)
{
    switch (listening->state) {
    case LISTENING_RESTING:
    case LISTENING_DEAF:
        return listening->until_ms;
    case LISTENING_LENT:
        return lending_look_at_ms(&listening->lending);
    default:
        return CLOCK_NEVER;
    }
}

/* ------------------------------------------------------------------ lending ----------- */

int listening_lend(struct listening *listening, struct crew *crew,
                   const struct side_door_config *config, uint64_t now_ms)
{
    int r = lending_begin(&listening->lending, crew, config, now_ms);

    if (r < 0)
        return r;
    listening->state = LISTENING_LENT;
    /* A shared one has left the set when it was called. */
    if (!listening->shared)
        change_set(listening, EPOLL_CTL_MOD, 0);
    return 0;
}

void listening_take_back(struct listening *listening)
{
    lending_end(&listening->lending);
    if (listening->shared) {
        /* A worker may have been called, and no other process, for a client who still waits. */
        listening->state = LISTENING_READY;
        listening->unheeded = true;
        return;
    }
    /* The kernel tells at once if somebody waits there. */
    if (change_set(listening, EPOLL_CTL_MOD, EDGES) == 0)
        listening->state = LISTENING_WATCHED;
}

/* ------------------------------------------------------------------ the line ---------- */

/*
 * Of several processes that wait for a shared listener the kernel calls one for each client: the
 * first of those that are in line. A process that accepts goes to its end, so they take turns.
 */
int listening_stand_in_line(struct listening *listening)
{
    int r = change_set(listening, EPOLL_CTL_ADD, EDGES | EPOLLEXCLUSIVE);

    if (r == 0)
        listening->state = LISTENING_IN_LINE;
    return r;
}

void listening_leave_line(struct listening *listening)
{
    change_set(listening, EPOLL_CTL_DEL, 0);
    listening->state = LISTENING_ASIDE;
}

bool listening_may_be_called(const struct listening *listening)
{
    return listening->state == LISTENING_IN_LINE || listening->unheeded;
}
