/*
 * poll.c - waiting for several descriptors at once: weir_poll.
 *
 * poll(2) itself says what is ready; we only wait for the moment to ask it again. What tells the
 * moment is an epoll set of these descriptors, which in turn is a thing that can become readable,
 * like a connection: the task parks on it as on a stream that weir_connect opened.
 *
 * The set is made for one wait. Kept from call to call it would save system calls, but a set
 * remembers files and poll(2) is told numbers: one that was closed and opened again in between
 * could not be told from the one before.
 *
 * Threads: the fiber's.
 */
#include "engine/clock.h"
#include "engine/request.h"
#include "engine/sys.h"

#include <errno.h>
#include <poll.h>

/* Between two looks, when there is nothing that could tell us. */
#define LOOK_MS 10

_Static_assert(POLLIN == EPOLLIN && POLLPRI == EPOLLPRI && POLLOUT == EPOLLOUT &&
               POLLERR == EPOLLERR && POLLHUP == EPOLLHUP && POLLRDHUP == EPOLLRDHUP,
               "what is asked of poll(2) is asked of epoll(7) unchanged");

/* ------------------------------------------------------------------ the set ----------- */

/* What is wanted of a descriptor, which may be listed more than once. */
static uint32_t interest_in(int fd, const struct pollfd *fds, size_t n)
{
    uint32_t events = 0;

    for (size_t i = 0; i < n; i++)
        if (fds[i].fd == fd)
            events |= (uint16_t)fds[i].events;
    return events;
}

/* 0, -EBADF: closed meanwhile, which poll(2) will tell; or another error of epoll_ctl(2). */
static int add_all(int set_fd, const struct pollfd *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int fd = fds[i].fd;
        int r;

        if (fd < 0)
            continue;
        r = sys_epoll_ctl(set_fd, EPOLL_CTL_ADD, fd, (uint16_t)fds[i].events, 0);
        if (r == -EEXIST)
            r = sys_epoll_ctl(set_fd, EPOLL_CTL_MOD, fd, interest_in(fd, fds, n), 0);
        /* EPERM: a regular file, say. It never gets ready: what it is, it was from the start. */
        if (r < 0 && r != -EPERM)
            return r;
    }
    return 0;
}

static int make_set(struct task *task, struct connection **ret_set)
{
    struct connection_table *table = &task->worker->crew->table;
    int fd = sys_epoll_create();

    if (fd < 0)
        return fd;
    *ret_set = connection_create_opened(table, fd, AF_UNSPEC, task);
    if (*ret_set)
        return 0;
    sys_close(fd);
    return -ENOMEM;
}

/* ------------------------------------------------------------------ waiting ----------- */

/* For a moment. 0, -ETIMEDOUT: the deadline has passed, -ECANCELED. */
static int wait_a_moment(struct task *task, uint64_t deadline_ms)
{
    uint64_t until_ms = clock_ms() + LOOK_MS;
    bool last = deadline_ms != 0 && deadline_ms <= until_ms;
    int r = task_sleep(task, last ? deadline_ms : until_ms);

    return r == 0 && last ? -ETIMEDOUT : r;
}

/* Until poll(2) says something: what it says; -ETIMEDOUT, -ECANCELED. */
static int wait_for_set(struct task *task, struct connection *set, struct pollfd *fds, size_t n,
                        uint64_t deadline_ms)
{
    int r;

    do {
        r = task_wait(task, set, EPOLLIN, deadline_ms);
        /* Linux lets a descriptor be in some hundreds of sets that are in others, and no more. */
        if (r == -EINVAL)
            r = wait_a_moment(task, deadline_ms);
        if (r == 0)
            r = sys_poll_now(fds, n);
    } while (r == 0);
    return r;
}

static int wait_for_any(struct task *task, struct pollfd *fds, size_t n, uint64_t deadline_ms)
{
    struct connection *set;
    int r = make_set(task, &set);

    if (r < 0)
        return r;
    r = add_all(set->fd, fds, n);
    if (r == -EBADF)
        r = sys_poll_now(fds, n);
    if (r == 0)
        r = wait_for_set(task, set, fds, n, deadline_ms);
    connection_close(&task->worker->crew->table, set);
    return r;
}

/* Nobody is left waiting for what sits in a buffer of ours. Errors stay with the streams. */
static void flush_all(struct weir_request *root)
{
    weir_flush(root);
    for (struct weir_request *peer = root->opened; peer; peer = peer->next_opened)
        weir_flush(peer);
}

int weir_poll(struct weir_request *req, struct pollfd *fds, size_t n, int timeout_ms)
{
    struct weir_request *root = request_root(req);
    uint64_t until_ms = timeout_ms > 0 ? clock_ms() + (uint64_t)timeout_ms + 1 : 0;
    uint64_t limit_ms = root->deadline_ms;
    bool cut = limit_ms != 0 && (until_ms == 0 || limit_ms < until_ms);
    int r = request_give_way(root);

    if (r < 0)
        return r;
    flush_all(root);
    r = sys_poll_now(fds, n);
    if (r != 0 || timeout_ms == 0)
        return r;
    r = wait_for_any(root->task, fds, n, cut ? limit_ms : until_ms);
    if (r != -ETIMEDOUT)
        return r;
    /* Late or not: what is ready is told. */
    r = sys_poll_now(fds, n);
    return r == 0 && cut ? request_timed_out(root) : r;
}
