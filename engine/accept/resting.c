/* resting.c - when nothing is accepted for a while, or received: said, and for how long. */
#include "engine/accept/acceptor_parts.h"

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/sys.h"
#include "engine/base/why.h"
#include "engine/pool/room.h"

#include <poll.h>
#include <string.h>

/* A socket that could not be received from is spoken of again if it could for so long. */
#define QUIET_MS 1000

/* Nothing more now: until a connection is closed, or in a moment. */
static void rest(struct acceptor *acceptor, uint64_t until_ms)
{
    acceptor->rest_until_ms = until_ms;
    connection_table_want_room(&acceptor->pool->crew.table, SIZE_MAX);
}

void acceptor_rest_for_room(struct acceptor *acceptor, uint64_t until_ms)
{
    rest(acceptor, until_ms);
    /* One that was closed just before we asked told nobody. */
    if (!acceptor_is_full(acceptor))
        acceptor->rest_until_ms = 0;
}

bool acceptor_has_waiting(const struct listening *listening)
{
    return sys_poll_one(listening->listener.fd, POLLIN, 0) != 0;
}

/* A connection that begins to rest may make room, and tells nobody; a mixin's doesn't. */
static uint64_t next_try_ms(const struct acceptor *acceptor)
{
    if (acceptor->config->mixin)
        return CLOCK_NEVER;
    return clock_earlier(clock_ms() + ACCEPTOR_REST_MS, room_next_ms(&acceptor->pool->crew));
}

void acceptor_rest_while_full(struct acceptor *acceptor, const struct listening *listening)
{
    struct crew *crew = &acceptor->pool->crew;

    tally_add(&acceptor->tally, TALLY_FULL, 1);
    log_line(LOG_FULL, "%s: full: %zu connections are open, as many as max_connections, max_children "
             "or the limit of open files allow, and others wait", listening->endpoint->uri,
             connection_table_open(&crew->table));
    room_make(crew);
    acceptor_rest_for_room(acceptor, next_try_ms(acceptor));
}

static void rest_for_want_of(struct acceptor *acceptor, const char *listen, const char *what)
{
    tally_add(&acceptor->tally, TALLY_ACCEPT_ERRORS, 1);
    if (!acceptor->complained)
        log_line(LOG_SHORTAGE, "%s: accepting pauses: %s", listen, what);
    acceptor->complained = true;
    room_make(&acceptor->pool->crew);
    rest(acceptor, clock_ms() + ACCEPTOR_REST_MS);
}

void acceptor_rest_for_shortage(struct acceptor *acceptor, const struct listening *listening,
                              int error)
{
    rest_for_want_of(acceptor, listening->endpoint->uri, why_error(error));
}

void acceptor_rest_for_somebody(struct acceptor *acceptor)
{
    rest_for_want_of(acceptor, acceptor->held.accepted.endpoint->uri,
                     acceptor->config->mixin->reap
                     ? "no child can be had: raise RLIMIT_NPROC (ulimit -u), the cgroup's pids.max "
                       "or its memory, or lower max_children"
                     : "no thread can be had: raise RLIMIT_NPROC (ulimit -u), the cgroup's "
                       "pids.max or its memory, or lower max_connections");
}

/* ------------------------------------------------------------------ deaf sockets -------- */

void acceptor_note_failures(struct acceptor *acceptor, uint64_t now_ms)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        struct listening *listening = &acceptor->listening[i];
        int error = listening->receiver ? receiver_failure(listening->receiver) : 0;

        if (error == 0)
            continue;
        if (listening->failed_ms == 0 || now_ms - listening->failed_ms > QUIET_MS)
            log_line(LOG_SHORTAGE, "%s: receiving pauses: %s", listening->endpoint->uri,
                     strerror(-error));
        listening->failed_ms = now_ms;
        listening->look_again_ms = now_ms + ACCEPTOR_REST_MS;
    }
}

void acceptor_kick_deaf(struct acceptor *acceptor, uint64_t now_ms)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        struct listening *listening = &acceptor->listening[i];

        if (listening->look_again_ms == 0 || now_ms < listening->look_again_ms)
            continue;
        listening->look_again_ms = 0;
        receiver_kick(listening->receiver);
    }
}
