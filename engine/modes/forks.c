/*
 * forks.c - after ForkingMixIn: a child process for each connection.
 *
 * The parent's table never holds a connection, and no fiber parks: so a process that forks has none
 * of the engine's other threads, liburcu's included. A child's worker is in memory that it shares
 * with its parent; so the parent can read the counts even of a child that has crashed. The parent
 * keeps a child's seat in the crowd, and leaves it when the child's connection is closed.
 *
 *   a slot is   entered by                              leaves by
 *   FREE        vacate_locked                           a fork -> WATCHED or UNSEEN
 *   WATCHED     fill_slot_locked: it has a pidfd        the event of its end -> FREE
 *   UNSEEN      fill_slot_locked: it could have none    the timer finds that it has ended -> FREE
 *
 * A descriptor is reserved for the pidfd before a client is accepted: without one, clients wait in
 * the backlog. A child that is UNSEEN all the same (there is no pidfd_open(2), or the child was
 * gone before it) is not affected by that.
 *
 * What runs in the child has a name that ends in _in_child; all else runs in the parent.
 */
#include "engine/modes/mixin.h"

#include "engine/base/clock.h"
#include "engine/base/ensure.h"
#include "engine/base/log.h"
#include "engine/base/sys.h"
#include "engine/modes/children.h"
#include "engine/modes/process.h"
#include "engine/net/address.h"
#include "engine/net/crowd.h"
#include "engine/pool/packet.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* How often children without a pidfd are looked after. */
#define UNSEEN_MS 20

/* In the set of ends, where a child's token is its slot. */
#define TOKEN_TIMER UINT64_MAX

struct slot {
    struct child child;         /* pid 0: nobody sits here */
    const struct weir_handler *handler;
    const struct endpoint *endpoint;    /* that its connection came in by */
    struct crowd_guest *guest;  /* of its connection; NULL: it is not counted, or has left */
    char peer[WEIR_ADDRESS_SIZE];
    struct roll_entry entry;    /* all but what its worker has noted */
};

struct forks {
    struct mixin mixin;
    struct mixin_config config;
    struct worker *workers;     /* one per slot, shared with the children */
    int timer_fd;               /* runs while there are unseen ones */
    pthread_mutex_t lock;       /* of all below; held across our own fork */
    struct slot *slots;
    size_t taken;
    size_t unseen;              /* of these, those without a pidfd */
    size_t guests;              /* ... those whose connection is counted in a crowd */
    struct children children;
    struct tally ended;         /* of the children that are gone */
};

static struct forks *forks_of(struct mixin *mixin)
{
    return caa_container_of(mixin, struct forks, mixin);
}

/* ------------------------------------------------------------------ the child --------- */

/* What the parent knows its other children by. */
static void leave_slots_in_child(struct forks *forks)
{
    for (size_t i = 0; i < forks->config.max_children; i++)
        if (forks->slots[i].child.pid != 0)
            sys_close(forks->slots[i].child.pidfd);
    children_leave_in_child(&forks->children);
    sys_close(forks->timer_fd);
}

static bool had_errors_in_child(const struct worker *worker)
{
    const struct tally *tally = &worker->tally;

    return tally_read(tally, TALLY_SETUP_ERRORS) + tally_read(tally, TALLY_HANDLE_ERRORS) +
           tally_read(tally, TALLY_FINISH_ERRORS) + tally_read(tally, TALLY_VERIFY_ERRORS) > 0;
}

/* A reply goes out by the server's socket. */
static int keep_socket_in_child(struct packet *packet)
{
    packet->conn.fd = fcntl(packet->conn.fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return packet->conn.fd;
}

static _Noreturn void forks_serve_in_child(struct forks *forks, struct worker *worker,
                                           const struct accepted *accepted)
{
    struct connection *conn;

    log_alone();
    leave_slots_in_child(forks);
    /* There is room for it now. */
    if (accepted->packet && keep_socket_in_child(accepted->packet) < 0)
        _exit(1);
    forks->config.leave_to_parent(forks->config.server);
    conn = accepted_to_connection(accepted, &forks->config.crew->table);
    if (!conn)
        _exit(1);
    /* The parent counts the connections of this address. */
    if (conn->guest)
        crowd_leave_to_parent(conn->endpoint->crowd);
    worker_serve_alone(worker, conn, &forks->config.alone);
    _exit(had_errors_in_child(worker));
}

/* ------------------------------------------------------------------ the parent -------- */

/* There is one: a client that is served has a place, and there are as many slots as places. */
static size_t free_slot(const struct forks *forks)
{
    size_t i = 0;

    WEIR_ENSURE(forks->taken < forks->config.max_children);
    while (forks->slots[i].child.pid != 0)
        i++;
    return i;
}

static void count_unseen_locked(struct forks *forks, int n)
{
    bool any = forks->unseen > 0;

    forks->unseen += (size_t)n;
    if (any != (forks->unseen > 0))
        sys_timerfd_set(forks->timer_fd, any ? 0 : UNSEEN_MS);
}

static int forks_prepare(struct mixin *mixin)
{
    struct forks *forks = forks_of(mixin);
    int r;

    pthread_mutex_lock(&forks->lock);
    r = children_reserve_fd(&forks->children);
    pthread_mutex_unlock(&forks->lock);
    return r;
}

static struct roll_entry entry_of(const struct accepted *accepted, pid_t pid)
{
    struct roll_entry entry = {
        .endpoint = accepted->endpoint, .fd = -1, .pid = pid,
        .begun_ms = clock_coarse_ms(), .peer.any.sa_family = AF_UNIX,
        .peer_len = sizeof(sa_family_t),
    };

    roll_name(&entry, accepted->handler);
    /* The name of a Unix socket has no room, nor a port that somebody would look for. */
    if (accepted->peer_len <= sizeof(entry.peer) && accepted->peer->sa_family != AF_UNIX) {
        memcpy(&entry.peer, accepted->peer, accepted->peer_len);
        entry.peer_len = accepted->peer_len;
    }
    return entry;
}

static void fill_slot_locked(struct forks *forks, size_t i, pid_t pid,
                             const struct accepted *accepted)
{
    struct slot *slot = &forks->slots[i];

    if (children_watch(&forks->children, pid, i, &slot->child) < 0)
        count_unseen_locked(forks, 1);
    slot->handler = accepted->handler;
    slot->endpoint = accepted->endpoint;
    slot->guest = accepted->guest;
    slot->entry = entry_of(accepted, pid);
    forks->guests += slot->guest != NULL;
    address_text(accepted->peer, accepted->peer_len, slot->peer, sizeof(slot->peer));
    forks->taken++;
    connection_table_lend(&forks->config.crew->table, 1);
}

static int fork_handler_locked(struct forks *forks, const struct accepted *accepted)
{
    size_t i = free_slot(forks);
    struct worker *worker = &forks->workers[i];
    pid_t pid;

    /* A thread that submits, or a second acceptor, may find none: the child is UNSEEN. */
    children_reserve_fd(&forks->children);
    worker_init_alone(worker, forks->config.crew, (unsigned)i);
    pid = process_fork();
    if (pid == 0)
        forks_serve_in_child(forks, worker, accepted);
    /* Memory comes again as processes do. */
    if (pid < 0)
        return errno == ENOMEM ? -EAGAIN : -errno;
    fill_slot_locked(forks, i, pid, accepted);
    return 0;
}

static int forks_process(struct mixin *mixin, const struct accepted *accepted)
{
    struct forks *forks = forks_of(mixin);
    int r;

    pthread_mutex_lock(&forks->lock);
    r = fork_handler_locked(forks, accepted);
    pthread_mutex_unlock(&forks->lock);
    if (r < 0)
        return r;
    /* No FIN: the child has it now. */
    accepted_drop(accepted);
    return 0;
}

static void leave_crowd_locked(struct forks *forks, struct slot *slot)
{
    if (!slot->guest)
        return;
    crowd_leave(slot->endpoint->crowd, slot->guest);
    slot->guest = NULL;
    forks->guests--;
}

static bool is_unseen_locked(const struct forks *forks, size_t i)
{
    const struct child *child = &forks->slots[i].child;

    return child->pid != 0 && child->pidfd < 0;
}

static void vacate_locked(struct forks *forks, size_t i, bool crashed)
{
    struct slot *slot = &forks->slots[i];

    leave_crowd_locked(forks, slot);
    tally_merge(&forks->ended, &forks->workers[i].tally);
    if (crashed)
        tally_add(&forks->ended, TALLY_CLOSED, 1);
    slot->child.pid = 0;
    forks->taken--;
}

/* A child counts that before its peer can see it: the peer may come again. */
static bool has_ended_its_connection(const struct worker *worker)
{
    return tally_read(&worker->tally, TALLY_CLOSED) + tally_read(&worker->tally, TALLY_REFUSED) > 0;
}

/* False: the child still runs. Else who sat there, and how it ended. */
static bool reap_locked(struct forks *forks, size_t i, struct slot *ret_slot, int *ret_status,
                        bool *ret_crashed)
{
    struct slot *slot = &forks->slots[i];
    bool unseen = is_unseen_locked(forks, i);

    if (slot->child.pid == 0 || !children_reap(&forks->children, &slot->child, ret_status))
        return false;
    if (unseen)
        count_unseen_locked(forks, -1);
    *ret_slot = *slot;
    *ret_crashed = !has_ended_its_connection(&forks->workers[i]);
    vacate_locked(forks, i, *ret_crashed);
    return true;
}

static void reap_slot(struct forks *forks, size_t i)
{
    struct slot slot;
    int status = 0;
    bool crashed;
    bool ended;

    pthread_mutex_lock(&forks->lock);
    ended = reap_locked(forks, i, &slot, &status, &crashed);
    pthread_mutex_unlock(&forks->lock);
    if (!ended)
        return;
    if (crashed)
        children_tell_death(&forks->config, slot.child.pid, status, -ECHILD, slot.peer,
                            slot.handler->name);
    log_sum_up();
    connection_table_return(&forks->config.crew->table, slot.endpoint->quota, 1);
}

static bool is_unseen(struct forks *forks, size_t i)
{
    bool unseen;

    pthread_mutex_lock(&forks->lock);
    unseen = is_unseen_locked(forks, i);
    pthread_mutex_unlock(&forks->lock);
    return unseen;
}

static void reap_unseen(struct forks *forks)
{
    sys_eventfd_clear(forks->timer_fd);
    for (size_t i = 0; i < forks->config.max_children; i++)
        if (is_unseen(forks, i))
            reap_slot(forks, i);
}

static void let_closed_leave_crowd(struct forks *forks)
{
    pthread_mutex_lock(&forks->lock);
    for (size_t i = 0; i < forks->config.max_children && forks->guests > 0; i++)
        if (forks->slots[i].child.pid != 0 && has_ended_its_connection(&forks->workers[i]))
            leave_crowd_locked(forks, &forks->slots[i]);
    pthread_mutex_unlock(&forks->lock);
}

static void forks_note_event(void *arg, uint64_t token)
{
    struct forks *forks = arg;

    if (token == TOKEN_TIMER)
        reap_unseen(forks);
    else
        reap_slot(forks, token);
}

static void forks_reap(struct mixin *mixin)
{
    struct forks *forks = forks_of(mixin);

    children_each_event(&forks->children, forks_note_event, forks);
    let_closed_leave_crowd(forks);
}

/* The crew's order is in the parent's memory alone; the worker of each child is in both's. */
static void forks_take_leave(struct mixin *mixin)
{
    struct forks *forks = forks_of(mixin);

    pthread_mutex_lock(&forks->lock);
    for (size_t i = 0; i < forks->config.max_children; i++)
        if (forks->slots[i].child.pid != 0)
            worker_take_leave(&forks->workers[i]);
    pthread_mutex_unlock(&forks->lock);
}

static void forks_kill(struct mixin *mixin)
{
    struct forks *forks = forks_of(mixin);

    pthread_mutex_lock(&forks->lock);
    for (size_t i = 0; i < forks->config.max_children; i++) {
        const struct slot *slot = &forks->slots[i];

        if (slot->child.pid != 0)
            children_kill(&slot->child, slot->peer, slot->handler->name);
    }
    pthread_mutex_unlock(&forks->lock);
}

static void forks_add_stats(struct mixin *mixin, struct weir_stats *sum, mixin_add_tally *add)
{
    struct forks *forks = forks_of(mixin);

    pthread_mutex_lock(&forks->lock);
    add(sum, &forks->ended);
    for (size_t i = 0; i < forks->config.max_children; i++)
        if (forks->slots[i].child.pid != 0)
            add(sum, &forks->workers[i].tally);
    sum->workers = forks->taken;
    pthread_mutex_unlock(&forks->lock);
}

/* What its worker has noted tells all: a child has one connection, which is kept or is served. */
static void add_child_to_roll(const struct forks *forks, size_t i, struct roll *roll)
{
    struct roll_entry *entry = roll_add(roll);
    /* relaxed: for people. pairs: worker.c's worker_note() */
    uint64_t noted = atomic_load_explicit(&forks->workers[i].note, memory_order_relaxed);
    bool is_idle = noted != 0 && connection_wait_of(noted) == CONNECTION_WAITS_IDLE;

    if (!entry)
        return;
    *entry = forks->slots[i].entry;
    roll_judge(entry, is_idle ? CONNECTION_IDLE : CONNECTION_RUNNING, noted, false);
}

static void forks_add_roll(struct mixin *mixin, struct roll *roll)
{
    struct forks *forks = forks_of(mixin);

    pthread_mutex_lock(&forks->lock);
    for (size_t i = 0; i < forks->config.max_children; i++)
        if (forks->slots[i].child.pid != 0)
            add_child_to_roll(forks, i, roll);
    pthread_mutex_unlock(&forks->lock);
}

/* ------------------------------------------------------------------ begin and end ----- */

static size_t workers_size(const struct forks *forks)
{
    return forks->config.max_children * sizeof(*forks->workers);
}

static void forks_free_locks(struct mixin *mixin)
{
    pthread_mutex_init(&forks_of(mixin)->lock, NULL);
}

static void forks_destroy(struct mixin *mixin)
{
    struct forks *forks = forks_of(mixin);

    children_close(&forks->children);
    sys_close(forks->timer_fd);
    munmap(forks->workers, workers_size(forks));
    pthread_mutex_destroy(&forks->lock);
    free(forks->slots);
    free(forks);
}

static int forks_open_descriptors(struct forks *forks)
{
    int r = children_open(&forks->children);

    if (r < 0)
        return r;
    forks->mixin.ended_fd = forks->children.ended_fd;
    forks->timer_fd = sys_timerfd();
    r = forks->timer_fd;
    if (r >= 0)
        r = children_add_event(&forks->children, forks->timer_fd, TOKEN_TIMER);
    if (r == 0)
        return 0;
    sys_close(forks->timer_fd);
    children_close(&forks->children);
    return r;
}

static int open_slots(struct forks *forks)
{
    int r;

    forks->slots = calloc(forks->config.max_children, sizeof(*forks->slots));
    if (!forks->slots)
        return -ENOMEM;
    forks->workers = mmap(NULL, workers_size(forks), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (forks->workers == MAP_FAILED)
        return -ENOMEM;
    r = forks_open_descriptors(forks);
    if (r < 0)
        munmap(forks->workers, workers_size(forks));
    return r;
}

int forks_create(const struct mixin_config *config, struct mixin **ret)
{
    struct forks *forks = aligned_alloc(_Alignof(struct forks), sizeof(*forks));
    int r;

    if (!forks)
        return -ENOMEM;
    *forks = (struct forks){
        .mixin = {
            .prepare = forks_prepare, .process = forks_process, .reap = forks_reap,
            .add_stats = forks_add_stats, .add_roll = forks_add_roll,
            .begin = mixin_needs_nothing, .end = mixin_has_nobody,
            .renew = mixin_has_nobody, .hand_on = mixin_has_nobody,
            .take_leave = forks_take_leave, .kill = forks_kill,
            .free_locks = forks_free_locks,
            .destroy = forks_destroy, .accepts_here = true, .ends_with_handler = true,
            .batch = 1,     /* a child that ended meanwhile is reaped first */
            .shortage = "no child can be had: raise RLIMIT_NPROC (ulimit -u), the cgroup's "
                        "pids.max or its memory, or lower max_children",
        },
        .config = *config,
    };
    forks->config.alone.lingers = true;
    r = open_slots(forks);
    if (r < 0) {
        free(forks->slots);
        free(forks);
        return r;
    }
    pthread_mutex_init(&forks->lock, NULL);
    *ret = &forks->mixin;
    return 0;
}
