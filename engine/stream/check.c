#include "engine/stream/check.h"

#include "engine/stream/request.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#define OUR_FAULT "this is a fault of weir's own: please report it"

/* ------------------------------------------------------------------ weir's own state -- */

static void check_state(const struct task *task)
{
    const struct connection *conn = task->conn;

    /* One that is queued twice would be taken on by a second worker, or while it is idle. */
    if (connection_state(conn) != CONNECTION_RUNNING)
        misuse_die("a connection of handler '%s' is served in state %d: it was queued twice, or is "
                   "somebody else's: " OUR_FAULT, conn->handler->name, connection_state(conn));
    if (conn->task != task)
        misuse_die("a connection of handler '%s' has another task than the one that serves it: "
                   OUR_FAULT, conn->handler->name);
}

static void check_thread(const struct task *task)
{
    const char *handler = task->conn->handler->name;

    if (worker_self() != task->worker)
        misuse_die("handler '%s' runs on another thread than it began on: a fiber was resumed by "
                   "the wrong worker: " OUR_FAULT, handler);
    if (!task->fiber)
        return;
    if (!fiber_is_here(task->fiber))
        misuse_die("handler '%s' runs on another stack than its own: " OUR_FAULT, handler);
    if (!fiber_is_sound(task->fiber))
        misuse_die("handler '%s', or what it called, has written beyond the beginning of its stack",
                   handler);
}

/* ------------------------------------------------------------------ what handlers did - */

static void check_descriptor(const struct connection *conn)
{
    int flags = fcntl(conn->fd, F_GETFL);
    int type;
    socklen_t len = sizeof(type);

    if (flags < 0 || getsockopt(conn->fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
        misuse_die("handler '%s' has closed the descriptor of its client, %d: it is the server's, "
                   "which closes it (see weir.h: weir_request_fd)", conn->handler->name, conn->fd);
    if (!(flags & O_NONBLOCK))
        misuse_die("handler '%s' has made the descriptor of its client, %d, blocking: a read or "
                   "write of weir's would hold the worker (see weir.h: weir_request_fd)",
                   conn->handler->name, conn->fd);
}

static void check_user_state(const struct connection *conn)
{
    if (!connection_state_is_whole(conn))
        misuse_die("handler '%s' has written beyond its weir_state, which has %zu bytes "
                   "(state_size)", conn->handler->name, conn->handler->state_size);
}

/* A pool's, which goes on to run other handlers. */
static void check_mask(const struct weir_request *req)
{
    const struct worker *worker = req->task->worker;
    sigset_t now;

    if (worker->alone)
        return;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    for (int i = 1; i <= SIGRTMAX; i++)
        if (sigismember(&now, i) != sigismember(&worker->mask, i))
            misuse_die("handler '%s' has returned with signal %d (%s) %s, as it was not before: "
                       "other handlers run on that thread", req->conn->handler->name, i,
                       sigabbrev_np(i) ? sigabbrev_np(i) : "real-time",
                       sigismember(&now, i) ? "blocked" : "unblocked");
}

/* ------------------------------------------------------------------ a turn ------------ */

void check_begin(const struct task *task)
{
    check_state(task);
    check_thread(task);
}

void check_end(const struct weir_request *req)
{
    check_begin(req->task);
    if (req->conn->kind != CONNECTION_ERRAND)
        check_descriptor(req->conn);
    check_user_state(req->conn);
    check_mask(req);
}
