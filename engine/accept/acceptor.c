#include "engine/accept/acceptor.h"

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/sys.h"
#include "engine/base/why.h"
#include "engine/pool/dispatch.h"
#include "engine/pool/room.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* Connections per listener and turn, so that one port's flood does not starve another's. */
#define ACCEPT_BATCH 16
#define EVENTS_MAX 64

/* For want of descriptors or memory: nothing is accepted for so long, or until a close. */
#define REST_MS 50

/* A socket that could not be received from is spoken of again if it could for so long. */
#define QUIET_MS 1000

/* When a server closes it lets in so many of each listener's backlog: what net.core.somaxconn is. */
#define WAITING_MAX 4096

/* Tokens: below 2^32, where no connection's is. Listeners count on from the last. */
enum {
    TOKEN_STOP, TOKEN_ROOM, TOKEN_WATCH, TOKEN_SHARED, TOKEN_ENDED, TOKEN_CALL, TOKEN_LISTENER,
};

static _Thread_local const struct acceptor *self_acceptor;

WEIR_NOINLINE const struct acceptor *acceptor_self(void)
{
    return self_acceptor;
}

/* ------------------------------------------------------------------ begin and end ----- */

static int watch(struct acceptor *acceptor, int fd, uint32_t events, uint64_t token)
{
    return sys_epoll_ctl(acceptor->epoll_fd, EPOLL_CTL_ADD, fd, events, token);
}

static int watch_all(struct acceptor *acceptor)
{
    const struct mixin *mixin = acceptor->config->mixin;
    int r = watch(acceptor, acceptor->stop_fd, EPOLLIN, TOKEN_STOP);

    if (r == 0)
        r = watch(acceptor, acceptor->call_fd, EPOLLIN | EPOLLET, TOKEN_CALL);
    if (r == 0)
        r = watch(acceptor, acceptor->pool->crew.table.room_fd, EPOLLIN | EPOLLET, TOKEN_ROOM);
    if (r == 0 && acceptor->first)
        r = watch(acceptor, acceptor->pool->crew.handoff.watch_fd, EPOLLIN | EPOLLET,
                  TOKEN_WATCH);
    if (r == 0 && acceptor->first && mixin && mixin->ended_fd >= 0)
        r = watch(acceptor, mixin->ended_fd, EPOLLIN, TOKEN_ENDED);
    return r;
}

int acceptor_init(struct acceptor *acceptor, const struct acceptor_config *config,
                  struct pool *pool, bool first)
{
    int r;

    memset(acceptor, 0, sizeof(*acceptor));
    acceptor->config = config;
    acceptor->pool = pool;
    acceptor->first = first;
    housekeeping_init(&acceptor->housekeeping, &config->housekeeping, config->mixin, pool);
    packet_buffers_init(&acceptor->packets, &pool->crew.packet_format);
    acceptor->stop_fd = -EBADF;
    acceptor->call_fd = -EBADF;
    acceptor->epoll_fd = sys_epoll_create();
    if (acceptor->epoll_fd < 0)
        return acceptor->epoll_fd;
    acceptor->stop_fd = sys_eventfd();
    r = acceptor->stop_fd;
    if (r >= 0)
        r = acceptor->call_fd = sys_eventfd();
    if (r >= 0)
        r = watch_all(acceptor);
    if (r < 0)
        acceptor_fini(acceptor);
    return r;
}

void acceptor_fini(struct acceptor *acceptor)
{
    acceptor_drop_listeners(acceptor);
    free(acceptor->listening);
    packet_tray_destroy(acceptor->tray);
    buffers_fini(&acceptor->packets);
    sys_close(acceptor->stop_fd);
    sys_close(acceptor->call_fd);
    sys_close(acceptor->epoll_fd);
}

static int give_to_pool(struct acceptor *acceptor, struct listening *listening)
{
    const struct acceptor_config *config = acceptor->config;

    return receiver_create(&acceptor->pool->crew, &(const struct receiver_config){
        .admission = &config->admission, .call_fd = acceptor->call_fd,
    }, listening->listener.fd, listening->endpoint, &listening->receiver);
}

/* Nobody is told of those that are somebody else's, nor yet of those that are shared. */
static int watch_listener(struct acceptor *acceptor, int fd, size_t i)
{
    const struct acceptor_config *config = acceptor->config;

    if (config->shared || (config->mixin && !config->mixin->process))
        return 0;
    return watch(acceptor, fd, EPOLLIN | EPOLLET, TOKEN_LISTENER + i);
}

int acceptor_add(struct acceptor *acceptor, const struct listener *listener,
                 const struct endpoint *endpoint)
{
    size_t len = acceptor->listening_len;
    struct listening *listening = realloc(acceptor->listening, (len + 1) * sizeof(*listening));
    int r;

    if (!listening)
        return -ENOMEM;
    acceptor->listening = listening;
    listening[len] = (struct listening){ .listener = *listener, .endpoint = endpoint };
    if (listener->type == SOCK_DGRAM && !acceptor->config->mixin)
        r = give_to_pool(acceptor, &listening[len]);
    else
        r = watch_listener(acceptor, listener->fd, len);
    if (r < 0)
        return r;
    acceptor->listening_len++;
    return 0;
}

static bool holds_one(const struct acceptor *acceptor)
{
    return acceptor->held.accepted.endpoint != NULL;
}

/* Nobody can be had who serves it. */
static void refuse(struct acceptor *acceptor, struct accepted *accepted, int error)
{
    admission_tell(&acceptor->config->admission, WEIR_PHASE_PROCESS, error, accepted->peer,
                   accepted->peer_len, accepted->handler->name);
    accepted_leave_crowd(accepted, acceptor->pool->crew.table.crowd);
    accepted_refuse(accepted, &acceptor->tally);
}

/* Nobody is held any more: while it's tried, too, for a child of another acceptor's closes who is. */
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

static void refuse_held(struct acceptor *acceptor)
{
    struct held held = take_held(acceptor);

    if (held.accepted.endpoint)
        refuse(acceptor, held_client(&held), -EAGAIN);
}

void acceptor_forget_held(struct acceptor *acceptor)
{
    acceptor->held.accepted.endpoint = NULL;
}

/* In a child of ours, which has it, too: closes its descriptor, and says nothing. */
static void leave_held(struct acceptor *acceptor)
{
    struct accepted *accepted = &acceptor->held.accepted;

    if (holds_one(acceptor))
        accepted_drop(accepted);
    accepted->endpoint = NULL;
}

static void close_all(struct acceptor *acceptor, int type)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        struct listening *listening = &acceptor->listening[i];

        if (listening->listener.type != type)
            continue;
        if (listening->receiver)
            receiver_destroy(listening->receiver);
        listening->receiver = NULL;
        listening->ready = false;
        listener_close(&listening->listener);
    }
}

void acceptor_close_listeners(struct acceptor *acceptor)
{
    refuse_held(acceptor);
    close_all(acceptor, SOCK_STREAM);
}

void acceptor_close_sockets(struct acceptor *acceptor)
{
    close_all(acceptor, SOCK_DGRAM);
}

void acceptor_drop_listeners(struct acceptor *acceptor)
{
    acceptor_close_listeners(acceptor);
    acceptor_close_sockets(acceptor);
    /* Kept until here: a worker may hold a door's token for long. */
    while (acceptor->listening_len > 0)
        side_door_destroy(acceptor->listening[--acceptor->listening_len].lending.door);
}

void acceptor_leave_to_parent(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        sys_close(acceptor->listening[i].listener.fd);
    leave_held(acceptor);
    sys_close(acceptor->epoll_fd);
}

/* ------------------------------------------------------------------ accepting --------- */

/* Has its address room for one more? */
static bool enters_crowd(struct acceptor *acceptor, struct accepted *accepted)
{
    struct crowd *crowd = acceptor->pool->crew.table.crowd;
    struct mixin *mixin = acceptor->config->mixin;
    int r = accepted_enter_crowd(accepted, crowd);

    if (r == -EUSERS && mixin && mixin->reap) {
        /* A child may be done with one of them. */
        mixin->reap(mixin);
        r = accepted_enter_crowd(accepted, crowd);
    }
    return r == 0;
}

/* Puts it into the ready queue, or has the mixin serve it. 0, or -errno: it's still ours. */
static int pass_on(struct acceptor *acceptor, const struct accepted *accepted)
{
    struct mixin *mixin = acceptor->config->mixin;
    int r = mixin ? mixin->process(mixin, accepted)
                  : accepted_queue(accepted, &acceptor->pool->crew);

    if (r == -ENOMEM)
        tally_add(&acceptor->tally, TALLY_NO_MEMORY, 1);
    return r;
}

static void hold(struct acceptor *acceptor, const struct accepted *accepted)
{
    acceptor->held.accepted = *accepted;
    if (!accepted->packet)
        memcpy(&acceptor->held.peer, accepted->peer, accepted->peer_len);
}

/* It is served, or about to be: true; or held or refused. */
static bool serve_or_hold(struct acceptor *acceptor, struct accepted *accepted)
{
    int r = pass_on(acceptor, accepted);

    if (r == 0)
        return true;
    /* Outside of a run nobody would come back to it. */
    if (r == -EAGAIN && accepted->stop_fd >= 0) {
        hold(acceptor, accepted);
        return false;
    }
    refuse(acceptor, accepted, r);
    return false;
}

static bool admit(struct acceptor *acceptor, struct accepted *accepted)
{
    tally_add(&acceptor->tally, TALLY_ACCEPTED, 1);
    if (accepted_is_welcome(accepted, &acceptor->config->admission, &acceptor->tally) &&
        enters_crowd(acceptor, accepted))
        return serve_or_hold(acceptor, accepted);
    accepted_refuse(accepted, &acceptor->tally);
    return false;
}

static void admit_held(struct acceptor *acceptor, int stop_fd)
{
    struct held held = take_held(acceptor);

    held.accepted.stop_fd = stop_fd;
    serve_or_hold(acceptor, held_client(&held));
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
    return admit(acceptor, &accepted);
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
 * The next client of a listener: 1 it was admitted, 0 refused or held, or -errno of accept(2), or
 * what it would take to serve it can't be had.
 */
static int accept_one(struct acceptor *acceptor, const struct listening *listening, int stop_fd)
{
    struct mixin *mixin = acceptor->config->mixin;
    int r = mixin && mixin->prepare ? mixin->prepare(mixin) : 0;
    struct sockaddr_storage peer;
    struct accepted accepted;

    if (r < 0)
        return r;
    if (listening->listener.type == SOCK_DGRAM)
        return receive_one(acceptor, listening, stop_fd);
    r = accept_client(listening, stop_fd, &peer, &accepted);
    return r < 0 ? r : admit(acceptor, &accepted);
}

bool acceptor_is_full(const struct acceptor *acceptor)
{
    return quota_is_used_up(acceptor->config->quota);
}

/* Nothing more now: until a connection is closed, or in a moment. */
static void rest(struct acceptor *acceptor, uint64_t until_ms)
{
    acceptor->rest_until_ms = until_ms;
    connection_table_want_room(&acceptor->pool->crew.table, SIZE_MAX);
}

static void rest_for_room(struct acceptor *acceptor, uint64_t until_ms)
{
    rest(acceptor, until_ms);
    /* One that was closed just before we asked told nobody. */
    if (!acceptor_is_full(acceptor))
        acceptor->rest_until_ms = 0;
}

/* Does anybody wait there? With neither room nor descriptors accept(2) can't tell. */
static bool has_waiting(const struct listening *listening)
{
    return sys_poll_one(listening->listener.fd, POLLIN, 0) != 0;
}

/* A connection that begins to rest may make room, and tells nobody; a mixin's doesn't. */
static uint64_t next_try_ms(const struct acceptor *acceptor)
{
    if (acceptor->config->mixin)
        return CLOCK_NEVER;
    return clock_earlier(clock_ms() + REST_MS, room_next_ms(&acceptor->pool->crew));
}

static void rest_while_full(struct acceptor *acceptor, const struct listening *listening)
{
    struct crew *crew = &acceptor->pool->crew;

    tally_add(&acceptor->tally, TALLY_FULL, 1);
    log_line(LOG_FULL, "%s: full: %zu connections are open, as many as max_connections, max_children "
             "or the limit of open files allow, and others wait", listening->endpoint->uri,
             connection_table_open(&crew->table));
    room_make(crew);
    rest_for_room(acceptor, next_try_ms(acceptor));
}

static void rest_for_want_of(struct acceptor *acceptor, const char *listen, const char *what)
{
    tally_add(&acceptor->tally, TALLY_ACCEPT_ERRORS, 1);
    if (!acceptor->complained)
        log_line(LOG_SHORTAGE, "%s: accepting pauses: %s", listen, what);
    acceptor->complained = true;
    room_make(&acceptor->pool->crew);
    rest(acceptor, clock_ms() + REST_MS);
}

static void rest_for_shortage(struct acceptor *acceptor, const struct listening *listening,
                              int error)
{
    rest_for_want_of(acceptor, listening->endpoint->uri, why_error(error));
}

static void rest_for_somebody(struct acceptor *acceptor)
{
    rest_for_want_of(acceptor, acceptor->held.accepted.endpoint->uri,
                     acceptor->config->mixin->reap
                     ? "no child can be had: raise RLIMIT_NPROC (ulimit -u), the cgroup's pids.max "
                       "or its memory, or lower max_children"
                     : "no thread can be had: raise RLIMIT_NPROC (ulimit -u), the cgroup's "
                       "pids.max or its memory, or lower max_connections");
}

/* Nothing more from this listener: there is no more, or for the time being it can't be had. */
static void break_off(struct acceptor *acceptor, struct listening *listening, int error)
{
    if (error == -EAGAIN || !has_waiting(listening))
        listening->ready = false;
    else if (error == -EUSERS)
        rest_while_full(acceptor, listening);
    else
        rest_for_shortage(acceptor, listening, error);
}

/* Returns how many were admitted. */
static unsigned accept_batch(struct acceptor *acceptor, struct listening *listening)
{
    const struct mixin *mixin = acceptor->config->mixin;
    unsigned batch = mixin ? mixin->batch : ACCEPT_BATCH;
    unsigned admitted = 0;

    for (unsigned i = 0; i < batch; i++) {
        int r = acceptor_is_full(acceptor)
            ? -EUSERS : accept_one(acceptor, listening, acceptor->stop_fd);

        if (r < 0) {
            break_off(acceptor, listening, r);
            return admitted;
        }
        if (holds_one(acceptor)) {
            rest_for_somebody(acceptor);
            return admitted;
        }
        acceptor->complained = false;
        admitted += (unsigned)r;
    }
    return admitted;
}

int acceptor_admit_one(struct acceptor *acceptor, size_t i)
{
    int r = accept_one(acceptor, &acceptor->listening[i], -1);

    if (r < 0) {
        if (r != -EAGAIN) {
            tally_add(&acceptor->tally, TALLY_ACCEPT_ERRORS, 1);
            room_make(&acceptor->pool->crew);
        }
        return r;
    }
    if (r > 0)
        handoff_call(&acceptor->pool->crew.handoff, 1);
    return 1;
}

/* The next client of a listener that closes: 1; 0: it has said nothing yet, and is let go. */
static int accept_if_asked(struct acceptor *acceptor, const struct listening *listening)
{
    struct sockaddr_storage peer;
    struct accepted accepted;
    int r = accept_client(listening, -1, &peer, &accepted);

    if (r < 0)
        return r;
    if (sys_poll_one(accepted.fd, POLLIN, 0) > 0)
        return admit(acceptor, &accepted);
    sys_close(accepted.fd);
    return 0;
}

static unsigned admit_waiting(struct acceptor *acceptor, const struct listening *listening)
{
    unsigned admitted = 0;

    for (unsigned i = 0; i < WAITING_MAX && !acceptor_is_full(acceptor); i++) {
        int r = accept_if_asked(acceptor, listening);

        if (r < 0)
            break;
        admitted += (unsigned)r;
    }
    return admitted;
}

void acceptor_admit_waiting(struct acceptor *acceptor)
{
    unsigned admitted = 0;

    if (holds_one(acceptor))
        admit_held(acceptor, -1);
    for (size_t i = 0; i < acceptor->listening_len; i++)
        if (acceptor->listening[i].listener.type == SOCK_STREAM)
            admitted += admit_waiting(acceptor, &acceptor->listening[i]);
    if (admitted > 0)
        handoff_call(&acceptor->pool->crew.handoff, admitted);
}

static bool stopping(const struct acceptor *acceptor)
{
    /* acquire: what was done before the stop. pairs: acceptor_stop() */
    return atomic_load_explicit(&acceptor->stopping, memory_order_acquire);
}

/*
 * Of several processes that wait for a shared listener one is called for each client: the first in
 * line of those that wait now. Who accepts goes to the end of the line, so that they take turns.
 * Who has no room leaves it before it is called, for it can't pass the call on.
 */
static void leave_line(struct acceptor *acceptor, struct listening *listening)
{
    if (listening->in_line)
        sys_epoll_ctl(acceptor->epoll_fd, EPOLL_CTL_DEL, listening->listener.fd, 0, 0);
    listening->in_line = false;
}

static void leave_lines(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        leave_line(acceptor, &acceptor->listening[i]);
}

static int stand_in_line(struct acceptor *acceptor, size_t i)
{
    struct listening *listening = &acceptor->listening[i];
    int r;

    if (listening->in_line || listening->listener.type != SOCK_STREAM)
        return 0;
    r = watch(acceptor, listening->listener.fd, EPOLLIN | EPOLLET | EPOLLEXCLUSIVE,
              TOKEN_LISTENER + i);
    listening->in_line = r == 0;
    return r;
}

static void stand_in_lines(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        int r = stand_in_line(acceptor, i);

        if (r < 0)
            rest_for_shortage(acceptor, &acceptor->listening[i], r);
    }
}

/* While it is full, and nothing tells whether the others are, too, and somebody waits. */
static void rest_out_of_line(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        const struct listening *listening = &acceptor->listening[i];

        if (listening->listener.type != SOCK_STREAM || !has_waiting(listening))
            continue;
        rest_while_full(acceptor, listening);
        return;
    }
    rest_for_room(acceptor, clock_ms() + REST_MS);
}

/* ------------------------------------------------------------------ lending ----------- */

static void listen_to(struct acceptor *acceptor, size_t i, uint32_t events)
{
    sys_epoll_ctl(acceptor->epoll_fd, EPOLL_CTL_MOD, acceptor->listening[i].listener.fd, events,
                  TOKEN_LISTENER + i);
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

/* The kernel tells us at once if somebody waits there. */
static void take_back(struct acceptor *acceptor, size_t i)
{
    lending_end(&acceptor->listening[i].lending);
    listen_to(acceptor, i, EPOLLIN | EPOLLET);
}

static void take_all_back(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        if (acceptor->listening[i].lending.lent)
            take_back(acceptor, i);
}

static void look_after_lent(struct acceptor *acceptor, uint64_t now_ms)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        struct lending *lending = &acceptor->listening[i].lending;

        if (lending->lent && !lending_goes_on(lending, now_ms))
            take_back(acceptor, i);
    }
}

/* ------------------------------------------------------------------ a turn ------------ */

/* Returns how many were admitted. */
static unsigned accept_from(struct acceptor *acceptor, size_t i, uint64_t now_ms)
{
    struct listening *listening = &acceptor->listening[i];
    unsigned admitted;

    leave_line(acceptor, listening);
    admitted = accept_batch(acceptor, listening);
    if (may_lend(acceptor, listening) &&
        lending_is_due(&listening->lending, admitted, acceptor->pool, now_ms))
        lend(acceptor, i, now_ms);
    return admitted;
}

static void accept_ready(struct acceptor *acceptor, uint64_t now_ms)
{
    unsigned admitted = 0;

    if (now_ms < acceptor->rest_until_ms)
        return;
    acceptor->rest_until_ms = 0;
    if (holds_one(acceptor))
        admit_held(acceptor, acceptor->stop_fd);
    if (holds_one(acceptor)) {
        rest_for_somebody(acceptor);
        return;
    }
    for (size_t i = 0; i < acceptor->listening_len && acceptor->rest_until_ms == 0; i++)
        /* Without a pool a whole connection may have been served since the last look. */
        if (acceptor->listening[i].ready && !stopping(acceptor))
            admitted += accept_from(acceptor, i, now_ms);
    if (admitted > 0)
        handoff_call(&acceptor->pool->crew.handoff, admitted);
}

static bool accepts_now(const struct acceptor *acceptor)
{
    if (acceptor->rest_until_ms != 0)
        return false;
    if (holds_one(acceptor))
        return true;
    for (size_t i = 0; i < acceptor->listening_len; i++)
        if (acceptor->listening[i].ready)
            return true;
    return false;
}

/* ------------------------------------------------------------------ deaf sockets ------ */

/* Of accepting that fails the acceptor knows by itself: see rest_for_shortage. */
static void note_failures(struct acceptor *acceptor, uint64_t now_ms)
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
        listening->look_again_ms = now_ms + REST_MS;
    }
}

static void look_again(struct acceptor *acceptor, uint64_t now_ms)
{
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        struct listening *listening = &acceptor->listening[i];

        if (listening->look_again_ms == 0 || now_ms < listening->look_again_ms)
            continue;
        listening->look_again_ms = 0;
        receiver_kick(listening->receiver);
    }
}

/* ------------------------------------------------------------------ the loop ---------- */

static void do_what_is_due(struct acceptor *acceptor, uint64_t now_ms)
{
    /* A stuck worker may have left clients at a side door. */
    if (acceptor->first && housekeeping_do(&acceptor->housekeeping, now_ms))
        take_all_back(acceptor);
    look_after_lent(acceptor, now_ms);
    look_again(acceptor, now_ms);
}

static int until_next_duty_ms(const struct acceptor *acceptor, uint64_t now_ms)
{
    uint64_t next_ms = acceptor->rest_until_ms != 0 ? acceptor->rest_until_ms : CLOCK_NEVER;

    if (accepts_now(acceptor))
        return 0;
    if (acceptor->first)
        next_ms = clock_earlier(next_ms, housekeeping_next_ms(&acceptor->housekeeping));
    for (size_t i = 0; i < acceptor->listening_len; i++) {
        const struct listening *listening = &acceptor->listening[i];

        if (listening->lending.lent)
            next_ms = clock_earlier(next_ms, lending_look_at_ms(&listening->lending));
        if (listening->look_again_ms != 0)
            next_ms = clock_earlier(next_ms, listening->look_again_ms);
    }
    return clock_timeout_ms(next_ms, now_ms);
}

static void each_receiver(struct acceptor *acceptor, void (*fn)(struct receiver *receiver))
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        if (acceptor->listening[i].receiver)
            fn(acceptor->listening[i].receiver);
}

/* The kernel has called one process for each client, and only that. */
static void look_at_shared(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        if (acceptor->config->shared && acceptor->listening[i].listener.type == SOCK_STREAM)
            acceptor->listening[i].ready = true;
}

static void note_event(struct acceptor *acceptor, uint64_t token)
{
    uint64_t tokens = 0;

    switch (token) {
    case TOKEN_STOP:
        /* relaxed: set already, unless it was a forked child that asked. pairs: none */
        atomic_store_explicit(&acceptor->stopping, true, memory_order_relaxed);
        break;
    case TOKEN_CALL:
        note_failures(acceptor, clock_ms());
        look_at_shared(acceptor);
        break;
    case TOKEN_ENDED:
        acceptor->config->mixin->reap(acceptor->config->mixin);
        break;
    case TOKEN_ROOM:
        /* Where no thread can be had each attempt opens a connection and closes it. */
        if (!holds_one(acceptor))
            acceptor->rest_until_ms = 0;
        each_receiver(acceptor, receiver_kick);
        break;
    case TOKEN_WATCH:
        housekeeping_begin_ticking(&acceptor->housekeeping);
        break;
    case TOKEN_SHARED:
        dispatch_all(&acceptor->pool->crew, acceptor->pool->crew.shared.fd, &tokens);
        break;
    default:
        acceptor->listening[token - TOKEN_LISTENER].ready = true;
    }
}

static void accept_until_stopped(struct acceptor *acceptor)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now_ms = clock_ms();

    while (!stopping(acceptor)) {
        int n;

        if (acceptor->config->shared && acceptor->rest_until_ms == 0)
            stand_in_lines(acceptor);
        n = sys_epoll_wait(acceptor->epoll_fd, events, EVENTS_MAX,
                           until_next_duty_ms(acceptor, now_ms));
        for (int i = 0; i < n; i++)
            note_event(acceptor, events[i].data.u64);
        /* What is ready when the stop is seen is not served any more (bpo-35017): the next run
         * does that, and gets no second edge for it. */
        if (stopping(acceptor))
            break;
        now_ms = clock_ms();
        do_what_is_due(acceptor, now_ms);
        accept_ready(acceptor, now_ms);
        if (acceptor->config->shared && acceptor->rest_until_ms == 0 &&
            acceptor_is_full(acceptor))
            rest_out_of_line(acceptor);
        if (acceptor->rest_until_ms != 0)
            leave_lines(acceptor);
    }
    leave_lines(acceptor);
    take_all_back(acceptor);
}

int acceptor_prepare(struct acceptor *acceptor)
{
    return acceptor->first
        ? pool_lend_shared_set(acceptor->pool, acceptor->epoll_fd, TOKEN_SHARED) : 0;
}

void acceptor_give_up(struct acceptor *acceptor)
{
    if (acceptor->first)
        pool_return_shared_set(acceptor->pool, acceptor->epoll_fd);
}

void acceptor_run(struct acceptor *acceptor)
{
    struct mixin *mixin = acceptor->config->mixin;

    acceptor->outer = self_acceptor;
    self_acceptor = acceptor;
    reclaim_thread_init();
    each_receiver(acceptor, receiver_resume);
    accept_until_stopped(acceptor);
    each_receiver(acceptor, receiver_pause);
    acceptor_give_up(acceptor);
    if (mixin && mixin->end)
        mixin->end(mixin);
    reclaim_thread_fini();
    self_acceptor = acceptor->outer;
    acceptor_forget_stop(acceptor);
}

void acceptor_forget_stop(struct acceptor *acceptor)
{
    sys_eventfd_clear(acceptor->stop_fd);
    /* relaxed: the run that it is for begins on this thread, or behind a lock. pairs: none */
    atomic_store_explicit(&acceptor->stopping, false, memory_order_relaxed);
}

void acceptor_stop_here(struct acceptor *acceptor)
{
    /* release: before the wake-up that follows, if one does. pairs: stopping() */
    atomic_store_explicit(&acceptor->stopping, true, memory_order_release);
}

void acceptor_stop(struct acceptor *acceptor)
{
    acceptor_stop_here(acceptor);
    sys_eventfd_signal(acceptor->stop_fd);
}

void acceptor_look(struct acceptor *acceptor)
{
    sys_eventfd_signal(acceptor->call_fd);
}
