#include "engine/accept/doorman.h"

#include "engine/base/clock.h"
#include "engine/base/sys.h"
#include "engine/pool/room.h"
#include "engine/sync/reclaim.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>

#define NS_PER_MS UINT64_C(1000000)

/* A listener: its acceptor's index, and its own in there. */
static uint64_t token_of(size_t acceptor, size_t listener)
{
    return (uint64_t)acceptor << 32 | listener;
}

static int watch_acceptor(const struct doorman *doorman, size_t a)
{
    const struct acceptor *acceptor = &doorman->acceptors[a];
    int r = 0;

    for (size_t i = 0; i < acceptor->listening_len && r == 0; i++)
        r = sys_epoll_ctl(doorman->fd, EPOLL_CTL_ADD, acceptor->listening[i].listener.fd, EPOLLIN,
                          token_of(a, i));
    return r;
}

int doorman_init(struct doorman *doorman, struct acceptor *acceptors, size_t acceptors_len)
{
    int r = 0;

    *doorman = (struct doorman){ acceptors, acceptors_len, sys_epoll_create() };
    if (doorman->fd < 0)
        return doorman->fd;
    for (size_t a = 0; a < acceptors_len && r == 0; a++)
        r = watch_acceptor(doorman, a);
    if (r < 0)
        doorman_fini(doorman);
    return r;
}

void doorman_fini(struct doorman *doorman)
{
    sys_close(doorman->fd);
}

/* Closing alone does not do that: an inherited listener is still open where it came from. */
void doorman_leave(struct doorman *doorman)
{
    for (size_t a = 0; a < doorman->acceptors_len; a++) {
        const struct acceptor *acceptor = &doorman->acceptors[a];

        for (size_t i = 0; i < acceptor->listening_len; i++)
            sys_epoll_ctl(doorman->fd, EPOLL_CTL_DEL, acceptor->listening[i].listener.fd, 0, 0);
    }
}

/* Rounded up, so that the time has passed when this says 0. */
static int time_left_ms(uint64_t until_ns)
{
    uint64_t left_ns;

    if (until_ns == CLOCK_NEVER)
        return -1;
    left_ns = clock_since(clock_ns(), until_ns);
    return (int)clock_earlier((left_ns + NS_PER_MS - 1) / NS_PER_MS, INT_MAX);
}

/* Until it is readable, the time has passed, or a child has ended, which is looked after. */
static void wait_for(const struct doorman *doorman, int fd, int timeout_ms)
{
    struct mixin *mixin = doorman->acceptors->config->mixin;
    struct pollfd fds[] = {
        { .fd = fd, .events = POLLIN },
        { .fd = mixin->ended_fd, .events = POLLIN },
    };

    sys_poll(fds, sizeof(fds) / sizeof(fds[0]), timeout_ms);
    if (fds[1].revents)
        mixin->reap(mixin);
}

/* The token of a listener where a client waits: 1, 0: none does, or -errno. They come in turn. */
static int next_waiting(const struct doorman *doorman, uint64_t *ret_token)
{
    struct epoll_event event;
    int n = sys_epoll_wait(doorman->fd, &event, 1, 0);

    if (n > 0)
        *ret_token = event.data.u64;
    return n;
}

static struct quota *quota_of_token(const struct doorman *doorman, uint64_t token)
{
    const struct acceptor *acceptor = &doorman->acceptors[token >> 32];

    return acceptor->listening[(uint32_t)token].endpoint->quota;
}

static size_t count_listeners(const struct doorman *doorman)
{
    size_t n = 0;

    for (size_t a = 0; a < doorman->acceptors_len; a++)
        n += doorman->acceptors[a].listening_len;
    return n;
}

/* 1; -EAGAIN: no client waits, or it went to somebody else; -EUSERS: all wait for room; -errno. */
static int serve_next(struct doorman *doorman)
{
    int none = -EAGAIN;

    for (size_t left = count_listeners(doorman); left > 0; left--) {
        uint64_t token;
        int r = next_waiting(doorman, &token);

        if (r <= 0)
            return r < 0 ? r : none;
        r = acceptor_admit_one(&doorman->acceptors[token >> 32], (uint32_t)token);
        if (r != -EUSERS)
            return r;
        room_make(&doorman->acceptors->pool->crew, quota_of_token(doorman, token));
        none = -EUSERS;
    }
    return none;
}

/* Returns true if a client that waits has room. */
static bool is_there_room(const struct doorman *doorman)
{
    for (size_t a = 0; a < doorman->acceptors_len; a++) {
        const struct acceptor *acceptor = &doorman->acceptors[a];

        for (size_t i = 0; i < acceptor->listening_len; i++)
            if (listening_count_waiting(&acceptor->listening[i]) > 0 &&
                !quota_lacks(acceptor->listening[i].endpoint->quota))
                return true;
    }
    return false;
}

static void wait_for_place(const struct doorman *doorman, int timeout_ms)
{
    struct pool *pool = doorman->acceptors->pool;

    if (timeout_ms < 0 || timeout_ms > ACCEPTOR_REST_MS)
        timeout_ms = ACCEPTOR_REST_MS;
    pool_want_room(pool);
    /* One that was closed just before we asked told nobody. */
    if (!is_there_room(doorman))
        wait_for(doorman, pool_room_fd(pool), timeout_ms);
    sys_eventfd_clear(pool_room_fd(pool));
}

/* Who is held since the last run comes before all who wait. Returns true if somebody was. */
static bool serve_held(struct doorman *doorman)
{
    for (size_t a = 0; a < doorman->acceptors_len; a++)
        if (acceptor_admit_held_one(&doorman->acceptors[a]))
            return true;
    return false;
}

/* Returns as serve_next, once it isn't -EAGAIN or -EUSERS any more or the time has passed. */
static int wait_and_serve(struct doorman *doorman, uint64_t until_ns)
{
    int left_ms, r;

    do {
        left_ms = time_left_ms(until_ns);
        wait_for(doorman, doorman->fd, left_ms);
        r = serve_next(doorman);
        if (r == -EUSERS)
            wait_for_place(doorman, left_ms);
    } while ((r == -EAGAIN || r == -EUSERS) && left_ms != 0);
    return r;
}

int doorman_serve_one(struct doorman *doorman, uint32_t timeout_ms)
{
    uint64_t until_ns = timeout_ms > 0 ? clock_ns() + timeout_ms * NS_PER_MS : CLOCK_NEVER;
    int r;

    reclaim_thread_init();
    r = serve_held(doorman) ? 1 : wait_and_serve(doorman, until_ns);
    reclaim_thread_fini();
    return r == -EAGAIN || r == -EUSERS ? 0 : r;
}
