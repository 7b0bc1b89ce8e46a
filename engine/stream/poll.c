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
 * What was gathered leaves while we wait, so that a peer that takes nothing holds nobody up: the
 * sockets that it has no room in are in the set, too. When one has, the wait ends, as much is sent
 * as goes, and if there is nothing else to tell another set is made.
 *
 * Threads: the fiber's.
 */
#include "engine/base/clock.h"
#include "engine/base/sys.h"
#include "engine/stream/belongings.h"
#include "engine/stream/request.h"
#include "engine/stream/wfile.h"

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

/* The request's streams, from its own on. */
static struct weir_request *next_stream(const struct weir_request *req)
{
    return req->opener ? req->next_opened : belongings_opened(req);
}

/* What the write of another fiber has in hand, that sends. */
static bool has_to_push(const struct weir_request *req)
{
    return wfile_unsent(req) && !request_is_written(req);
}

static int add_unsent(int set_fd, struct weir_request *root, const struct pollfd *fds, size_t n)
{
    for (struct weir_request *req = root; req; req = next_stream(req)) {
        int fd = req->conn->fd;
        int r;

        if (!has_to_push(req))
            continue;
        r = sys_epoll_ctl(set_fd, EPOLL_CTL_ADD, fd, EPOLLOUT, 0);
        if (r == -EEXIST)
            r = sys_epoll_ctl(set_fd, EPOLL_CTL_MOD, fd, interest_in(fd, fds, n) | EPOLLOUT, 0);
        if (r < 0)
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
    *ret_set = connection_create_opened(table, fd, AF_UNSPEC, task->conn->endpoint, task);
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

/* Until poll(2) says something: what it says; -ETIMEDOUT, -ECANCELED. 0: there is room. */
static int wait_for_set(struct task *task, struct connection *set, struct pollfd *fds, size_t n,
                        uint64_t deadline_ms, bool unsent)
{
    int r;

    do {
        r = task_wait(task, set, EPOLLIN, deadline_ms, 0);
        /* Linux lets a descriptor be in some hundreds of sets that are in others, and no more. */
        if (r == -EINVAL)
            r = wait_a_moment(task, deadline_ms);
        if (r == 0)
            r = sys_poll_now(fds, n);
    } while (r == 0 && !unsent);
    return r;
}

static int wait_for_any(struct weir_request *root, struct pollfd *fds, size_t n,
                        uint64_t deadline_ms, bool unsent)
{
    struct task *task = request_task(root);
    struct connection *set;
    int r = make_set(root->task, &set);

    if (r < 0)
        return r;
    r = add_all(set->fd, fds, n);
    if (r == 0 && unsent)
        r = add_unsent(set->fd, root, fds, n);
    if (r == -EBADF)
        r = sys_poll_now(fds, n);
    if (r == 0)
        r = wait_for_set(task, set, fds, n, deadline_ms, unsent);
    connection_close(&task->worker->crew->table, set);
    return r;
}

/* Sends of what was gathered all that goes. True: some is left. Errors stay with the streams. */
static bool push_all(struct weir_request *root)
{
    bool unsent = false;

    for (struct weir_request *req = root; req; req = next_stream(req)) {
        if (!has_to_push(req))
            continue;
        wfile_push(req);
        unsent = unsent || wfile_unsent(req);
    }
    return unsent;
}

/*
 * poll(2) has found input in streams of the request, of which an event may be still to tell: a read
 * looks for it at once, and does not first send all that it would before a wait.
 */
static void note_input(struct weir_request *root, const struct pollfd *fds, size_t n)
{
    for (struct weir_request *req = root; req; req = next_stream(req))
        for (size_t i = 0; i < n; i++)
            if (fds[i].fd == req->conn->fd && fds[i].revents & ~POLLOUT)
                req->conn->drained = false;
}

int weir_poll(struct weir_request *req, struct pollfd *fds, size_t n, int timeout_ms)
{
    request_check(req, "weir_poll");
    struct weir_request *root = request_root(req);
    uint64_t until_ms = timeout_ms > 0 ? clock_ms() + (uint64_t)timeout_ms + 1 : 0;
    uint64_t limit_ms = root->deadline_ms;
    bool cut = limit_ms != 0 && (until_ms == 0 || limit_ms < until_ms);
    uint64_t deadline_ms = cut ? limit_ms : until_ms;
    int r = request_give_way(root, 0);

    if (r < 0)
        return r;
    do {
        bool late = deadline_ms != 0 && clock_ms() >= deadline_ms;
        bool unsent = push_all(root);

        r = sys_poll_now(fds, n);
        if (r != 0 || timeout_ms == 0)
            break;
        /* Asked after the look: what has come in time is told. */
        if (late)
            return cut ? request_timed_out(root, limit_ms, CONNECTION_NOT_LATE) : 0;
        r = wait_for_any(root, fds, n, deadline_ms, unsent);
    } while (r == 0 || r == -ETIMEDOUT);
    if (r > 0)
        note_input(root, fds, n);
    return r;
}
