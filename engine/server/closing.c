/*
 * closing.c - closed, by the policy that weir_server_close describes, and taken apart.
 *
 * From serving to nothing, in this order. What each concurrency does at a step is in DESIGN.md,
 * section 10.
 *
 *   1 stop          weir_server_stop      the first acceptor is told
 *   2 stopped       server_serve          it has returned, mixin->end too; so have the further
 *                                         acceptors: STOPPED. Nothing is accepted any more
 *   3 drain         weir_server_close     timers make no further call; pool_drain: nothing is
 *                                         kept any more; or, where others
 *                                         go on accepting, pool_take_leave, and pool_drain when 6
 *                                         has lasted for POOL_LEAVE_MS
 *   4 last clients  let_in_who_waits      those in the backlogs that have asked
 *   5 listeners     weir_server_close     are closed
 *   6 wait          wait_for_handlers     until nothing is open, or drain_timeout_ms have passed
 *   7 cancel        weir_server_cancel    then; or at once, if handlers are daemons
 *   8 kill          server_wait_until_... children that still run CANCELLED_MS after the cancel
 *   9 sockets       server_close_sockets  the workers end, datagram sockets are closed: CLOSED
 *  10 apart         wait_and_free         what daemons kept open has ended: memory is freed
 *
 * A child of WEIR_PREFORK goes 2, 3, 5, 6 and 9 by itself (child.c), once its guard was told to
 * stop.
 */
#include "engine/server/server.h"

#include "engine/base/clock.h"
#include "engine/base/sys.h"
#include "engine/base/thread.h"
#include "engine/sync/reclaim.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>

/* Children that were cancelled have CANCELLED_MS to end. */
#define CANCELLED_MS 2000

void weir_server_cancel(struct weir_server *server)
{
    if (server->parents_pool)
        pool_cancel(server->parents_pool);
    pool_cancel(server->pool);
}

/* A wait for what is open. */
struct wait {
    struct weir_server *server;
    bool until_cancelled;           /* it ends at an order to cancel, too */
    struct pollfd room;             /* a connection was closed */
    struct pollfd ended;            /* a child has ended */
    struct pollfd cancelled;        /* the order to cancel has come, where that is a descriptor */
    uint64_t kill_at_ms;            /* children that still run then are ended by force */
};

static bool is_empty(struct connection_table *table)
{
    connection_table_want_room(table, 1);
    return connection_table_count(table) == 0;
}

/* Waits for timeout_ms at most until something may have changed, and sees to it. */
static void look(struct wait *wait, int timeout_ms)
{
    struct mixin *mixin = wait->server->mixin;
    struct pollfd fds[] = { wait->room, wait->ended, wait->cancelled };

    sys_poll(fds, sizeof(fds) / sizeof(fds[0]), timeout_ms);
    sys_eventfd_clear(wait->room.fd);
    if (fds[1].revents)
        mixin->reap(mixin);
    if (fds[2].revents) {
        /* The order is never taken back. */
        wait->cancelled.fd = -1;
        wait->kill_at_ms = clock_ms() + CANCELLED_MS;
    }
}

/* Whether the order to cancel has come where there is no descriptor for it. */
static bool is_hurried(const struct wait *wait)
{
    return wait->until_cancelled && crew_cancelled(&wait->server->pool->crew);
}

/*
 * Returns 0 once no accepted connection is left, or -ETIMEDOUT after until_ms. The process may be
 * held meanwhile, by a debugger or a busy machine, until long after a time that it waits for. So
 * when that time has come it looks once more who has ended, before anybody counts as late.
 */
static int wait_until_empty(struct weir_server *server, uint64_t until_ms, bool until_cancelled)
{
    struct crew *crew = &server->pool->crew;
    /* Daemons are not killed: they may go on. */
    int cancel_fd = server->options.daemon_threads ? -1 : crew->cancel_fd;
    struct wait wait = {
        .server = server, .until_cancelled = until_cancelled, .kill_at_ms = CLOCK_NEVER,
        .room = { .fd = crew->table.room_fd, .events = POLLIN },
        .ended = { .fd = server->mixin->ended_fd, .events = POLLIN },
        .cancelled = { .fd = cancel_fd, .events = POLLIN },
    };

    while (!is_empty(&crew->table) && !is_hurried(&wait)) {
        uint64_t due_ms = clock_earlier(until_ms, wait.kill_at_ms);
        uint64_t now_ms = clock_ms();

        look(&wait, clock_timeout_ms(due_ms, now_ms));
        if (now_ms < due_ms || is_empty(&crew->table))
            continue;
        if (now_ms >= until_ms)
            return -ETIMEDOUT;
        server->mixin->kill(server->mixin);
        wait.kill_at_ms = CLOCK_NEVER;
    }
    return 0;
}

int server_wait_until_empty(struct weir_server *server, uint64_t until_ms)
{
    return wait_until_empty(server, until_ms, false);
}

static uint32_t leave_ms_of(const struct weir_options *options)
{
    uint32_t timeout_ms = options->drain_timeout_ms;

    return timeout_ms > 0 && timeout_ms < POOL_LEAVE_MS ? timeout_ms : POOL_LEAVE_MS;
}

uint32_t server_leave_ms(const struct weir_server *server)
{
    const struct weir_options *options = &server->options;
    bool waits = !options->daemon_threads && options->block_on_close != WEIR_NO;

    return waits ? leave_ms_of(options) : 0;
}

void server_note_followed_locked(struct weir_server *server)
{
    bool followed = false;

    for (size_t i = 0; i < server->acceptors_len; i++)
        followed = followed || acceptor_is_followed(&server->acceptors[i]);
    /* relaxed: whoever acts on it was told to stop behind it. pairs: server_is_followed(),
     * worker.c's others_follow() */
    atomic_store_explicit(&server->followed, followed, memory_order_relaxed);
}

bool server_is_followed(const struct weir_server *server)
{
    /* relaxed: see there. pairs: server_note_followed_locked() */
    return atomic_load_explicit(&server->followed, memory_order_relaxed);
}

void server_take_leave(struct weir_server *server)
{
    wait_until_empty(server, clock_ms() + leave_ms_of(&server->options), true);
}

/* The time of taking leave is part of the timeout. */
static void wait_for_handlers(struct weir_server *server, uint64_t began_ms)
{
    uint32_t timeout_ms = server->options.drain_timeout_ms;

    if (timeout_ms > 0 && server_wait_until_empty(server, began_ms + timeout_ms) < 0)
        weir_server_cancel(server);
    server_wait_until_empty(server, CLOCK_NEVER);
}

/* By the close policy: see weir.h. */
static void end_connections(struct weir_server *server, uint64_t began_ms)
{
    const struct weir_options *options = &server->options;

    if (options->daemon_threads)
        weir_server_cancel(server);
    else if (options->block_on_close != WEIR_NO)
        wait_for_handlers(server, began_ms);
}

static int begin_closing(struct weir_server *server)
{
    int r = 0;

    pthread_mutex_lock(&server->lock);
    if (server_is_busy_locked(server))
        r = -EBUSY;
    else if (server->closing)
        r = -EALREADY;
    else
        server->closing = true;
    pthread_mutex_unlock(&server->lock);
    return r;
}

/* Nobody is left who might send a reply: else it is done when the server is taken apart. */
void server_close_sockets(struct weir_server *server)
{
    pool_stop(server->pool);
    for (size_t i = 0; i < server->acceptors_len; i++)
        acceptor_close_sockets(&server->acceptors[i]);
}

/*
 * This process's copy of what another one serves, or is going to: what its descriptors say is for
 * that one, so they are closed and nothing is said. Threads that it had are not here.
 */
static void let_copy_go(struct weir_server *server)
{
    pool_is_a_copy(server->pool);
    for (size_t a = 0; a < server->acceptors_len; a++) {
        struct acceptor *acceptor = &server->acceptors[a];

        for (size_t i = 0; i < acceptor->listening_len; i++)
            acceptor->listening[i].listener.path[0] = '\0';
        acceptor_forget_held(acceptor);
        acceptor_close_listeners(acceptor);
        acceptor_close_sockets(acceptor);
    }
    /* Without the lock, which a thread may have had that is not here: nobody waits for a copy.
     * release: as server_enter_locked(). pairs: server_state() */
    atomic_store_explicit(&server->state, CLOSED, memory_order_release);
}

/*
 * Only where passing a client on doesn't take the closing thread's time, and the client isn't
 * cancelled at once. A program that accepts one by one has not asked for the others.
 */
static bool lets_in_who_waits(const struct weir_server *server)
{
    return server_state(server) == STOPPED && server->mixin->hands_on &&
           !server->options.daemon_threads;
}

/* Those that have asked: a listener that is closed resets them. */
static void let_in_who_waits(struct weir_server *server)
{
    reclaim_thread_init();
    for (size_t i = 0; i < server->acceptors_len; i++)
        acceptor_admit_waiting(&server->acceptors[i]);
    reclaim_thread_fini();
}

/*
 * Others accept who comes from now on, and the close may wait: so whoever has come to us is heard
 * out, and nobody who asks is met by a connection that ends.
 */
static bool takes_leave(const struct weir_server *server)
{
    return server_state(server) == STOPPED && server_leave_ms(server) > 0 &&
           server_is_followed(server);
}

static void close_listeners(struct weir_server *server)
{
    if (lets_in_who_waits(server))
        let_in_who_waits(server);
    for (size_t i = 0; i < server->acceptors_len; i++)
        acceptor_close_listeners(&server->acceptors[i]);
}

static void drain(struct weir_server *server)
{
    uint64_t began_ms = clock_ms();

    server_end_timers(server);
    if (takes_leave(server)) {
        server->mixin->take_leave(server->mixin);
        pool_take_leave(server->pool);
        close_listeners(server);
        server_take_leave(server);
        pool_drain(server->pool);
    } else {
        pool_drain(server->pool);
        close_listeners(server);
    }
    end_connections(server, began_ms);
}

int weir_server_close(struct weir_server *server)
{
    int r;

    if (server_called_from_handler(server))
        return SERVER_REFUSE(-EDEADLK, "the server can't be closed by its "
                             "own handler: use weir_server_stop");
    if (server_called_from_offload(server))
        return SERVER_REFUSE(-EDEADLK, "the server can't be closed by what its "
                             "own handler has offloaded: use weir_server_stop");
    if (server_is_anothers(server)) {
        let_copy_go(server);
        return 0;
    }
    r = begin_closing(server);
    if (r == -EALREADY) {
        if (server_state(server) != CLOSED)
            weir_server_cancel(server);
        return 0;
    }
    if (r < 0)
        return SERVER_REFUSE(r, "the server can't be closed: it serves; "
                             "shut it down first");
    if (server->has_doorman)
        doorman_leave(&server->doorman);
    drain(server);
    if (pool_open_count(server->pool) == 0)
        server_close_sockets(server);
    server_change_state(server, CLOSED);
    return 0;
}

static void *wait_and_free(void *arg)
{
    struct weir_server *server = arg;

    server_wait_until_empty(server, CLOCK_NEVER);
    pool_stop(server->pool);
    server_free(server);
    return NULL;
}

static int check_caller(const struct weir_server *server)
{
    if (server_called_from_handler(server) || server_called_from_hook(server) ||
        server_called_from_offload(server))
        return SERVER_REFUSE(-EDEADLK, "the server can't be destroyed by its own handler or hook: "
                             "use weir_server_stop");
    return 0;
}

static int check_destroyable(struct weir_server *server)
{
    int r = 0;

    pthread_mutex_lock(&server->lock);
    if (server->handling)
        r = SERVER_REFUSE(-EBUSY, "the server can't be destroyed: a thread is in "
                          "weir_handle_request");
    else if (server->closing && server_state(server) != CLOSED)
        r = SERVER_REFUSE(-EBUSY, "the server can't be destroyed: a thread is in "
                          "weir_server_close");
    pthread_mutex_unlock(&server->lock);
    return r;
}

/* What has served in another process is left in memory: it may be in the midst of anything. */
static int destroy_copy(struct weir_server *server)
{
    let_copy_go(server);
    if (server_served_by(server) == 0)
        server_free(server);
    return 0;
}

int weir_server_destroy(struct weir_server *server)
{
    int r = server ? check_caller(server) : 0;

    if (!server || r < 0)
        return r;
    if (server_is_anothers(server))
        return destroy_copy(server);
    r = check_destroyable(server);
    if (r < 0)
        return r;
    weir_server_shutdown(server);
    server_join_thread(server);
    r = weir_server_close(server);
    if (r < 0)
        return r;
    /* Daemon handlers that still run are left behind, with a thread that waits for them. */
    if (server->options.daemon_threads &&
        pool_open_count(server->pool) > 0 &&
        thread_start_detached(wait_and_free, server) == 0)
        return 0;
    wait_and_free(server);
    return 0;
}
