#include "engine/pool/side_door.h"

#include "engine/base/sys.h"
#include "engine/pool/accepted.h"
#include "engine/pool/dispatch.h"
#include "engine/pool/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>

/* Accepted before the first of them is served, at most. */
#define BATCH_MAX 16

/* After FULL_BATCHES in a row behind which clients may still have waited, batches double. */
#define FULL_BATCHES 4

struct side_door {
    struct side_door_config config;
    struct crew *crew;
    uint64_t token;
    _Atomic uint64_t taken;
    pthread_mutex_t lock;   /* of what follows; held while accepting, so that a shut is final */
    bool open;              /* and only then: watched in the workers' sets */
    unsigned batch;         /* accepted at a time */
    unsigned full_batches;  /* ... in a row, of that size */
};

/* One that was accepted under the lock and is let in, or not, behind it. */
struct caller {
    int fd;
    socklen_t peer_len;
    struct sockaddr_storage peer;
};

/* ------------------------------------------------------------------ begin and end ----- */

/* A free token, and what it stands for. 0: there is none. */
static uint64_t take_token(struct crew *crew, struct side_door *door)
{
    for (unsigned i = 0; i < CREW_SIDE_DOORS; i++) {
        struct side_door *none = NULL;

        /* release: the door, to the worker that its event comes to. pairs: crew_side_door() */
        if (atomic_compare_exchange_strong_explicit(&crew->side_doors[i], &none, door,
                                                    memory_order_release, memory_order_relaxed))
            return DISPATCH_SIDE_DOOR << i;
    }
    return 0;
}

int side_door_create(struct crew *crew, const struct side_door_config *config,
                     struct side_door **ret)
{
    struct side_door *door = malloc(sizeof(*door));

    if (!door)
        return -ENOMEM;
    *door = (struct side_door){ .config = *config, .crew = crew, .batch = 1 };
    pthread_mutex_init(&door->lock, NULL);
    door->token = take_token(crew, door);
    if (door->token == 0) {
        side_door_destroy(door);
        return -ENOSPC;
    }
    *ret = door;
    return 0;
}

void side_door_destroy(struct side_door *door)
{
    if (!door)
        return;
    if (door->token != 0)
        /* relaxed: nobody looks it up any more. pairs: none */
        atomic_store_explicit(&door->crew->side_doors[dispatch_side_door(door->token)], NULL,
                              memory_order_relaxed);
    pthread_mutex_destroy(&door->lock);
    free(door);
}

/* ------------------------------------------------------------------ open and shut ----- */

static void unwatch_locked(struct side_door *door, unsigned workers)
{
    for (unsigned i = 0; i < workers; i++)
        sys_epoll_ctl(door->crew->sets[i].fd, EPOLL_CTL_DEL, door->config.fd, 0, 0);
}

static int watch_locked(struct side_door *door)
{
    for (unsigned i = 0; i < door->crew->handoff.workers; i++) {
        int r = sys_epoll_ctl(door->crew->sets[i].fd, EPOLL_CTL_ADD, door->config.fd,
                              EPOLLIN | EPOLLEXCLUSIVE, door->token);

        if (r < 0) {
            unwatch_locked(door, i);
            return r;
        }
    }
    return 0;
}

static void shut_locked(struct side_door *door)
{
    if (door->open)
        unwatch_locked(door, door->crew->handoff.workers);
    door->open = false;
}

static void leave_to_acceptor_locked(struct side_door *door)
{
    shut_locked(door);
    sys_eventfd_signal(door->config.call_fd);
}

int side_door_open(struct side_door *door)
{
    int r;

    pthread_mutex_lock(&door->lock);
    r = watch_locked(door);
    door->open = r == 0;
    pthread_mutex_unlock(&door->lock);
    return r;
}

void side_door_shut(struct side_door *door)
{
    pthread_mutex_lock(&door->lock);
    shut_locked(door);
    pthread_mutex_unlock(&door->lock);
}

bool side_door_is_open(struct side_door *door)
{
    bool open;

    pthread_mutex_lock(&door->lock);
    open = door->open;
    pthread_mutex_unlock(&door->lock);
    return open;
}

uint64_t side_door_taken(const struct side_door *door)
{
    /* relaxed: how busy it is. pairs: none */
    return atomic_load_explicit(&door->taken, memory_order_relaxed);
}

/* ------------------------------------------------------------------ who comes in ------ */

/* For a batch. 0: none is free. */
static unsigned take_places_locked(struct side_door *door)
{
    struct crew *crew = door->crew;
    size_t batch = overload_room(&crew->overload, &crew->handoff.queue, door->batch);
    unsigned places = 0;

    if (!door->open)
        return 0;
    if (batch > 0)
        places = (unsigned)quota_take(door->config.endpoint->quota, batch);
    if (places == 0)
        leave_to_acceptor_locked(door);
    return places;
}

/*
 * To find out that nobody waits any more costs as much as to accept somebody: the kernel makes the
 * socket before it looks. So no more are asked for than lately came at a time; the set tells of
 * those that are left.
 */
static void fit_batch_locked(struct side_door *door, unsigned accepted)
{
    if (accepted < door->batch) {
        door->batch = accepted > 0 ? accepted : 1;
        door->full_batches = 0;
    } else if (++door->full_batches == FULL_BATCHES) {
        door->batch = door->batch < BATCH_MAX / 2 ? door->batch * 2 : BATCH_MAX;
        door->full_batches = 0;
    }
}

/* As many as there are places, or fewer: then the places that are left are given back. */
static unsigned accept_into_places_locked(struct side_door *door, struct caller *callers,
                                          unsigned places)
{
    const struct side_door_config *config = &door->config;

    for (unsigned i = 0; i < places; i++) {
        struct caller *caller = &callers[i];

        caller->fd = sys_accept(config->fd, &caller->peer, &caller->peer_len);
        if (caller->fd >= 0)
            continue;
        connection_table_give_back(&door->crew->table, config->endpoint->quota, places - i);
        if (caller->fd != -EAGAIN)
            leave_to_acceptor_locked(door);
        return i;
    }
    return places;
}

/*
 * This process has had its turn: its workers watch anew, behind those of the other processes. It
 * doesn't where it has no room, since the kernel calls one process for each client. These are two
 * calls of the kernel: a shared listener is lent to one worker only (lender.c).
 */
static void go_to_end_of_line_locked(struct side_door *door)
{
    if (!door->open)
        return;
    unwatch_locked(door, door->crew->handoff.workers);
    door->open = !quota_is_used_up(door->config.endpoint->quota) && watch_locked(door) == 0;
    if (!door->open)
        sys_eventfd_signal(door->config.call_fd);
}

/*
 * They are counted here too: when the door is shut the count is final. Each has a place from before
 * it was accepted, so that nobody takes the server for empty until it has a connection.
 */
static unsigned accept_locked(struct worker *worker, struct side_door *door,
                              struct caller *callers)
{
    unsigned places = take_places_locked(door);
    unsigned len = accept_into_places_locked(door, callers, places);

    tally_add(&worker->tally, TALLY_ACCEPTED, len);
    /* A batch that was short of places tells nothing of how many come. */
    if (len < places || places == door->batch)
        fit_batch_locked(door, len);
    /* relaxed: how busy it is. pairs: none */
    atomic_fetch_add_explicit(&door->taken, len, memory_order_relaxed);
    if (door->config.shared && len > 0)
        go_to_end_of_line_locked(door);
    return len;
}

static bool let_caller_in(struct worker *worker, struct side_door *door,
                          const struct caller *caller)
{
    struct accepted accepted = {
        .fd = caller->fd, .peer = (const struct sockaddr *)&caller->peer,
        .peer_len = caller->peer_len, .endpoint = door->config.endpoint,
        .handler = door->config.endpoint->handler,
    };

    int r = accepted_ask(&accepted, door->config.admission, &worker->tally);

    if (r == 0)
        r = accepted_queue(&accepted, door->crew);
    if (r < 0)
        accepted_turn_away(&accepted, &door->crew->table, door->config.admission, r,
                           &worker->tally);
    return r == 0;
}

unsigned side_door_enter(struct worker *worker, struct side_door *door)
{
    struct caller callers[BATCH_MAX];
    unsigned queued = 0;
    unsigned len;

    pthread_mutex_lock(&door->lock);
    len = accept_locked(worker, door, callers);
    pthread_mutex_unlock(&door->lock);
    for (unsigned i = 0; i < len; i++)
        queued += let_caller_in(worker, door, &callers[i]);
    return queued;
}
