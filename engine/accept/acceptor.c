/* acceptor.c - its begin and end, and its loop. */
#include "engine/accept/acceptor_parts.h"

#include "engine/base/clock.h"
#include "engine/base/sys.h"
#include "engine/fiber/crash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_MAX 64

/* Tokens: below 2^32, where no connection's is. Listeners count on from the last. */
enum {
    TOKEN_STOP, TOKEN_ROOM, TOKEN_WATCH, TOKEN_COMMON, TOKEN_ENDED, TOKEN_CALL, TOKEN_LISTENER,
};

static _Thread_local const struct acceptor *self_acceptor;

WEIR_NOINLINE const struct acceptor *acceptor_self(void)
{
    return self_acceptor;
}

/* ------------------------------------------------------------------ begin and end ------- */

static int watch_fd(struct acceptor *acceptor, int fd, uint32_t events, uint64_t token)
{
    return sys_epoll_ctl(acceptor->epoll_fd, EPOLL_CTL_ADD, fd, events, token);
}

static int watch_all(struct acceptor *acceptor)
{
    const struct mixin *mixin = acceptor->config->mixin;
    int r = watch_fd(acceptor, acceptor->stop_fd, EPOLLIN, TOKEN_STOP);

    if (r == 0)
        r = watch_fd(acceptor, acceptor->call_fd, EPOLLIN | EPOLLET, TOKEN_CALL);
    if (r == 0)
        r = watch_fd(acceptor, pool_room_fd(acceptor->pool), EPOLLIN | EPOLLET, TOKEN_ROOM);
    if (r == 0 && acceptor->first)
        r = watch_fd(acceptor, pool_watch_fd(acceptor->pool), EPOLLIN | EPOLLET, TOKEN_WATCH);
    if (r == 0 && acceptor->first && mixin->ended_fd >= 0)
        r = watch_fd(acceptor, mixin->ended_fd, EPOLLIN, TOKEN_ENDED);
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

/* Not watched here: what the mixin's children accept from; and shared ones, except in line. */
static int begin_listening(struct acceptor *acceptor, struct listening *listening)
{
    const struct acceptor_config *config = acceptor->config;

    if (listening->listener.type == SOCK_DGRAM && config->mixin->has_workers)
        return listening_give_to_pool(listening, &acceptor->pool->crew,
                                      &(const struct receiver_config){
            .admission = &config->admission, .call_fd = acceptor->call_fd,
        });
    if (!config->mixin->accepts_here)
        return 0;
    if (!config->shared)
        return listening_watch(listening);
    listening_share(listening);
    return 0;
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
    listening_init(&listening[len], listener, endpoint, acceptor->epoll_fd, TOKEN_LISTENER + len);
    r = begin_listening(acceptor, &listening[len]);
    if (r < 0)
        return r;
    acceptor->listening_len++;
    return 0;
}

static void close_all(struct acceptor *acceptor, int type)
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        if (acceptor->listening[i].listener.type == type)
            listening_close(&acceptor->listening[i]);
}

void acceptor_close_listeners(struct acceptor *acceptor)
{
    acceptor_refuse_held(acceptor);
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
        listening_fini(&acceptor->listening[--acceptor->listening_len]);
}

void acceptor_leave_to_parent(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        sys_close(acceptor->listening[i].listener.fd);
    acceptor_leave_held(acceptor);
    sys_close(acceptor->epoll_fd);
}

void acceptor_take_over(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        if (acceptor->listening[i].endpoint->taken_over)
            listener_keep_elsewhere(&acceptor->listening[i].listener, false);
}

void acceptor_hand_on(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        listener_keep_elsewhere(&acceptor->listening[i].listener, true);
}

bool acceptor_is_followed(const struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->listening_len; i++)
        if (acceptor->listening[i].listener.type == SOCK_STREAM &&
            listener_is_kept_elsewhere(&acceptor->listening[i].listener))
            return true;
    return false;
}

/* ------------------------------------------------------------------ a turn -------------- */

static bool is_stopping(const struct acceptor *acceptor)
{
    /* acquire: what was done before the stop. pairs: acceptor_stop() */
    return atomic_load_explicit(&acceptor->stopping, memory_order_acquire);
}

/* Returns how many were admitted. */
static unsigned accept_from(struct acceptor *acceptor, struct listening *listening,
                            uint64_t now_ms)
{
    unsigned admitted = acceptor_accept_batch(acceptor, listening);

    acceptor_lend_if_due(acceptor, listening, admitted, now_ms);
    return admitted;
}

/* Returns true if nobody is held any more. */
static bool see_to_held(struct acceptor *acceptor, uint64_t now_ms)
{
    if (!acceptor_holds_one(acceptor))
        return true;
    if (now_ms < acceptor->held.again_ms)
        return false;
    acceptor_admit_held(acceptor, acceptor->stop_fd);
    if (!acceptor_holds_one(acceptor))
        return true;
    acceptor_rest_for_held(acceptor);
    return false;
}

static void accept_ready(struct acceptor *acceptor, uint64_t now_ms)
{
    unsigned admitted = 0;

    if (!see_to_held(acceptor, now_ms))
        return;
    for (size_t i = 0; i < acceptor->listening_len; i++)
        /* Without a pool a whole connection may have been served since the last look. */
        if (acceptor->listening[i].state == LISTENING_READY && !is_stopping(acceptor))
            admitted += accept_from(acceptor, &acceptor->listening[i], now_ms);
    if (admitted > 0)
        pool_call_workers(acceptor->pool, admitted);
}

/* When there is somebody to accept or a look to be taken; 0: at once. */
static uint64_t next_look_ms(const struct acceptor *acceptor)
{
    uint64_t next_ms = acceptor_holds_one(acceptor) ? acceptor->held.again_ms : CLOCK_NEVER;

    for (size_t i = 0; i < acceptor->listening_len; i++) {
        const struct listening *listening = &acceptor->listening[i];

        if (listening->state == LISTENING_READY)
            return 0;
        next_ms = clock_earlier(next_ms, listening_due_ms(listening));
    }
    return next_ms;
}

/* ------------------------------------------------------------------ the loop ------------ */

static void do_what_is_due(struct acceptor *acceptor, uint64_t now_ms)
{
    /* A stuck worker may have left clients at a side door. */
    if (acceptor->first && housekeeping_do(&acceptor->housekeeping, now_ms))
        acceptor_take_all_back(acceptor);
    acceptor_look_after_lent(acceptor, now_ms);
    acceptor_wake_in_time(acceptor, now_ms);
}

static int until_next_duty_ms(const struct acceptor *acceptor, uint64_t now_ms)
{
    uint64_t next_ms = next_look_ms(acceptor);

    if (acceptor->first)
        next_ms = clock_earlier(next_ms, housekeeping_next_ms(&acceptor->housekeeping));
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
        if (acceptor->listening[i].shared)
            listening_call(&acceptor->listening[i]);
}

static void note_acceptor_event(struct acceptor *acceptor, uint64_t token)
{
    switch (token) {
    case TOKEN_STOP:
        /* relaxed: set already, unless it was a forked child that asked. pairs: none */
        atomic_store_explicit(&acceptor->stopping, true, memory_order_relaxed);
        break;
    case TOKEN_CALL:
        acceptor_note_failures(acceptor, clock_ms());
        look_at_shared(acceptor);
        break;
    case TOKEN_ENDED:
        acceptor->config->mixin->reap(acceptor->config->mixin);
        break;
    case TOKEN_ROOM:
        acceptor_note_room(acceptor);
        each_receiver(acceptor, receiver_kick);
        break;
    case TOKEN_WATCH:
        housekeeping_begin_ticking(&acceptor->housekeeping);
        break;
    case TOKEN_COMMON:
        pool_dispatch_common_set(acceptor->pool);
        break;
    default:
        listening_call(&acceptor->listening[token - TOKEN_LISTENER]);
    }
}

static void accept_until_stopped(struct acceptor *acceptor)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now_ms = clock_ms();

    while (!is_stopping(acceptor)) {
        int n;

        acceptor_stand_in_lines(acceptor);
        n = sys_epoll_wait(acceptor->epoll_fd, events, EVENTS_MAX,
                           until_next_duty_ms(acceptor, now_ms));
        for (int i = 0; i < n; i++)
            note_acceptor_event(acceptor, events[i].data.u64);
        /* What is ready when the stop is seen is not served any more (bpo-35017): the next run
         * does that, and gets no second edge for it. */
        if (is_stopping(acceptor))
            break;
        now_ms = clock_ms();
        do_what_is_due(acceptor, now_ms);
        accept_ready(acceptor, now_ms);
        acceptor_leave_full_lines(acceptor);
    }
    acceptor_leave_lines(acceptor);
    acceptor_take_all_back(acceptor);
}

int acceptor_prepare(struct acceptor *acceptor)
{
    return acceptor->first
        ? pool_lend_common_set(acceptor->pool, acceptor->epoll_fd, TOKEN_COMMON) : 0;
}

void acceptor_give_up(struct acceptor *acceptor)
{
    if (acceptor->first)
        pool_return_common_set(acceptor->pool, acceptor->epoll_fd);
}

void acceptor_run(struct acceptor *acceptor)
{
    const char *role = crash_set_role("the thread that accepts");
    struct mixin *mixin = acceptor->config->mixin;

    acceptor->outer = self_acceptor;
    self_acceptor = acceptor;
    reclaim_thread_init();
    each_receiver(acceptor, receiver_resume);
    accept_until_stopped(acceptor);
    each_receiver(acceptor, receiver_pause);
    acceptor_give_up(acceptor);
    mixin->end(mixin);
    reclaim_thread_fini();
    self_acceptor = acceptor->outer;
    crash_set_role(role);
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
    /* release: before the wake-up that follows, if one does. pairs: is_stopping() */
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
