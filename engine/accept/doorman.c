#include "engine/accept/doorman.h"

#include "engine/base/clock.h"
#include "engine/base/sys.h"
#include "engine/pool/room.h"
#include "engine/sync/reclaim.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>

/* While the server is full: so often it is looked whether somebody waits for room. */
#define LOOK_MS 50

#define NEVER UINT64_MAX
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

    if (until_ns == NEVER)
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
        { .fd = mixin ? mixin->ended_fd : -1, .events = POLLIN },
    };

    sys_poll(fds, sizeof(fds) / sizeof(fds[0]), timeout_ms);
    if (fds[1].revents)
        mixin->reap(mixin);
}

/* 1, or -EAGAIN: the time has passed, or the client went to somebody else. */
static int serve_next(struct doorman *doorman, int timeout_ms)
{
    struct epoll_event event;
    int n;

    wait_for(doorman, doorman->fd, timeout_ms);
    n = sys_epoll_wait(doorman->fd, &event, 1, 0);
    if (n <= 0)
        return n < 0 ? n : -EAGAIN;
    return acceptor_admit_one(&doorman->acceptors[event.data.u64 >> 32],
                              (uint32_t)event.data.u64);
}

static int wait_for_room(const struct doorman *doorman, int timeout_ms)
{
    const struct acceptor *acceptor = doorman->acceptors;
    struct connection_table *table = &acceptor->pool->crew.table;

    if (sys_poll_one(doorman->fd, POLLIN, 0) > 0)
        room_make(&acceptor->pool->crew);
    if (timeout_ms < 0 || timeout_ms > LOOK_MS)
        timeout_ms = LOOK_MS;
    connection_table_want_room(table, SIZE_MAX);
    /* One that was closed just before we asked told nobody. */
    if (acceptor_is_full(acceptor))
        wait_for(doorman, table->room_fd, timeout_ms);
    sys_eventfd_clear(table->room_fd);
    return -EAGAIN;
}

int doorman_serve_one(struct doorman *doorman, uint32_t timeout_ms)
{
    uint64_t until_ns = timeout_ms > 0 ? clock_ns() + timeout_ms * NS_PER_MS : NEVER;
    int left_ms, r;

    reclaim_thread_init();
    do {
        left_ms = time_left_ms(until_ns);
        r = acceptor_is_full(doorman->acceptors) ? wait_for_room(doorman, left_ms)
                                                 : serve_next(doorman, left_ms);
    } while (r == -EAGAIN && left_ms != 0);
    reclaim_thread_fini();
    return r == -EAGAIN ? 0 : r;
}
