#include "engine/pool/connection.h"

#include "engine/base/clock.h"
#include "engine/base/misuse.h"
#include "engine/base/sys.h"
#include "engine/pool/transport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>

/*
 * The state word: a state, and two marks. READY: an event came while somebody owned the
 * connection. ALERT: the peer has hung up or sent urgent data; it stays.
 */
#define STATE UINT32_C(7)
#define READY UINT32_C(8)
#define ALERT UINT32_C(16)

/* Behind a handler's state: whatever is written over it changes one of these bytes at least. */
static const unsigned char GUARD[8] = { 0x9e, 0x37, 0x79, 0xb9, 0x7f, 0x4a, 0x7c, 0x15 };

#define MS_PER_DS UINT64_C(100)

/* Unread input that a peer is spared a reset for. */
#define DISCARD_MAX ((size_t)1 << 20)

/*
 * A descriptor may lie above the limit: inherited, or opened before the limit was lowered, or after
 * somebody raised it.
 */
#define TABLE_MIN ((size_t)1 << 16)

/* ------------------------------------------------------------------ the table --------- */

/*
 * Zeroed memory for as many descriptors as there may ever be, or NULL; pages that none of them
 * reaches cost nothing.
 */
static void *map_for_each(const struct connection_table *table, size_t size)
{
    void *memory = mmap(NULL, table->size * size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

static void unmap(struct connection_table *table)
{
    munmap(table->slots, table->size * sizeof(*table->slots));
    if (table->begun_ds)
        munmap(table->begun_ds, table->size * sizeof(*table->begun_ds));
}

int connection_table_init(struct connection_table *table)
{
    struct rlimit limit;

    *table = (struct connection_table){ .room_fd = -1 };
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    table->size = limit.rlim_max < CONNECTION_TABLE_MAX ? (size_t)limit.rlim_max
                                                        : CONNECTION_TABLE_MAX;
    if (table->size < TABLE_MIN)
        table->size = TABLE_MIN;
    table->slots = map_for_each(table, sizeof(*table->slots));
    if (!table->slots)
        return -ENOMEM;
    table->begun_ds = map_for_each(table, sizeof(*table->begun_ds));
    table->room_fd = table->begun_ds ? sys_eventfd() : -ENOMEM;
    if (table->room_fd < 0) {
        unmap(table);
        return table->room_fd;
    }
    table->held.max = SIZE_MAX;
    connection_table_add_quota(table, &table->held);
    return 0;
}

void connection_table_fini(struct connection_table *table)
{
    sys_close(table->room_fd);
    unmap(table);
}

void connection_table_add_quota(struct connection_table *table, struct quota *quota)
{
    atomic_init(&quota->count, 0);
    atomic_init(&quota->lacked, false);
    quota->want = (struct quota_want){ 0 };
    quota->next = table->quotas;
    table->quotas = quota;
}

size_t connection_table_count(const struct connection_table *table)
{
    size_t count = 0;

    /* Once nothing is accepted any more each of them only falls: the sum is 0 when all are. */
    for (const struct quota *quota = table->quotas; quota; quota = quota->next)
        count += quota_count(quota);
    return count;
}

bool connection_table_has(const struct connection_table *table, int fd)
{
    /* relaxed: nothing behind it is looked at. pairs: none */
    return (size_t)fd < table->size &&
           atomic_load_explicit(&table->slots[fd], memory_order_relaxed) != NULL;
}

void connection_table_want_room(struct connection_table *table, size_t below)
{
    /* seq_cst: asks, then our caller looks at the quota. Store buffering.
     * pairs: connection_table_release() */
    atomic_store_explicit(&table->room_below, below, memory_order_seq_cst);
}

void connection_table_each(struct connection_table *table,
                           void (*fn)(struct connection *conn, void *arg), void *arg)
{
    /* relaxed: what was entered before we were called is below it. pairs: none */
    size_t used = atomic_load_explicit(&table->used, memory_order_relaxed);

    if (!table->private) {
        reclaim_thread_init();
        reclaim_enter();
    }
    for (size_t i = 0; i < used; i++) {
        /* acquire: shows the connection as it was put in. pairs: enter_slot() */
        struct connection *conn = atomic_load_explicit(&table->slots[i], memory_order_acquire);

        if (conn)
            fn(conn, arg);
    }
    if (!table->private) {
        reclaim_exit();
        reclaim_thread_fini();
    }
}

static void note_used(struct connection_table *table, size_t end)
{
    /* relaxed: it only grows, and the slots carry their own order. pairs: none */
    size_t used = atomic_load_explicit(&table->used, memory_order_relaxed);
    while (used < end && !atomic_compare_exchange_weak_explicit(&table->used, &used, end,
                                                                memory_order_relaxed,
                                                                memory_order_relaxed))
        ;
}

static void enter_slot(struct connection_table *table, struct connection *conn)
{
    note_used(table, (size_t)conn->fd + 1);
    /* relaxed: has to differ from the one before. 0 is for what is no connection. pairs: none */
    do
        conn->generation = atomic_fetch_add_explicit(&table->generations, 1,
                                                     memory_order_relaxed);
    while (conn->generation == 0);
    /* release: a finder sees it whole. pairs: connection_table_each(), _of_event() */
    atomic_store_explicit(&table->slots[conn->fd], conn, memory_order_release);
}

void connection_table_release(struct connection_table *table, struct quota *quota, size_t n)
{
    size_t below;
    size_t left;

    /* seq_cst: counts down, then looks who waits; store buffering. It also publishes what the
     * handler did to who sees 0. pairs: connection_table_want_room(), quota_count(), quota_take()
     */
    left = atomic_fetch_sub_explicit(&quota->count, n, memory_order_seq_cst) - n;
    below = atomic_load_explicit(&table->room_below, memory_order_seq_cst);
    if (WEIR_LIKELY(left >= below))
        return;
    /* relaxed: of several that see it, one writes. pairs: none */
    if (atomic_exchange_explicit(&table->room_below, 0, memory_order_relaxed) != 0)
        sys_eventfd_signal(table->room_fd);
}

void connection_table_give_back(struct connection_table *table, struct quota *quota, size_t n)
{
    /* seq_cst: counts down, then looks who waits for one; store buffering. pairs: quota_lacks() */
    atomic_fetch_sub_explicit(&quota->count, n, memory_order_seq_cst);
    if (WEIR_LIKELY(!atomic_load_explicit(&quota->lacked, memory_order_seq_cst)))
        return;
    /* relaxed: of several that see it, one writes. pairs: none */
    if (atomic_exchange_explicit(&quota->lacked, false, memory_order_relaxed))
        sys_eventfd_signal(table->room_fd);
}

void connection_table_hold(struct connection_table *table)
{
    quota_take(&table->held, 1);
}

void connection_table_let_go(struct connection_table *table)
{
    connection_table_release(table, &table->held, 1);
}

void connection_table_lend(struct connection_table *table, size_t n)
{
    /* relaxed: for statistics. pairs: connection_table_lent() */
    atomic_fetch_add_explicit(&table->lent, n, memory_order_relaxed);
}

void connection_table_take_back(struct connection_table *table, size_t n)
{
    /* relaxed: for statistics. pairs: connection_table_lent() */
    atomic_fetch_sub_explicit(&table->lent, n, memory_order_relaxed);
}

void connection_table_return(struct connection_table *table, struct quota *quota, size_t n)
{
    connection_table_take_back(table, n);
    connection_table_release(table, quota, n);
}

size_t connection_table_lent(const struct connection_table *table)
{
    /* relaxed: for statistics. pairs: connection_table_lend(), _take_back() */
    return atomic_load_explicit(&table->lent, memory_order_relaxed);
}

/* ------------------------------------------------------------------ begin and end ----- */

static void note_peer(struct connection *conn, const struct sockaddr *peer, socklen_t len)
{
    /* An unnamed Unix peer comes with no address at all. */
    conn->family = (uint8_t)(len >= sizeof(sa_family_t) ? peer->sa_family : AF_UNIX);
    if (conn->family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)peer;

        conn->peer_port = in->sin_port;
        memcpy(&conn->peer_host, &in->sin_addr, sizeof(in->sin_addr));
    } else if (conn->family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)peer;

        conn->peer_port = in6->sin6_port;
        conn->peer_scope = in6->sin6_scope_id;
        conn->peer_host = in6->sin6_addr;
    }
}

_Static_assert(AF_MAX <= UINT8_MAX, "a connection notes its peer's family in a byte");

static uint8_t transport_for(int family)
{
    switch (family) {
    case AF_UNSPEC:
        return TRANSPORT_NONE;
    case AF_UNIX:
        return TRANSPORT_UNIX;
    default:
        return TRANSPORT_PLAIN;
    }
}

/* Ten thousand idle ones pay for each further cache line. */
_Static_assert(offsetof(struct connection, user_state) <= (size_t)2 * WEIR_CACHE_LINE,
               "a connection without state is two cache lines");

bool connection_state_is_whole(const struct connection *conn)
{
    return !conn->guarded ||
           memcmp(conn->user_state + conn->handler->state_size, GUARD, sizeof(GUARD)) == 0;
}

uint64_t connection_begun_ms(const struct connection_table *table, const struct connection *conn)
{
    /* relaxed: the slot has ordered it. pairs: connection_create() */
    return atomic_load_explicit(&table->begun_ds[conn->fd], memory_order_relaxed) * MS_PER_DS;
}

static size_t round_up(size_t size, size_t to)
{
    return (size + to - 1) & ~(to - 1);
}

/* Where the argument of one that was submitted lies in user_state: behind the guard, if any. */
static size_t place_of_arg(size_t user_state, bool guarded)
{
    return round_up(user_state + (guarded ? sizeof(GUARD) : 0), _Alignof(void *));
}

static bool has_arg(const struct connection *conn)
{
    return conn->kind == CONNECTION_ACCEPTED && endpoint_is_submission(conn->endpoint);
}

void connection_set_arg(struct connection *conn, void *arg)
{
    if (has_arg(conn))
        memcpy(conn->user_state + place_of_arg(conn->handler->state_size, conn->guarded), &arg,
               sizeof(arg));
}

void *connection_arg(const struct connection *conn)
{
    void *arg = NULL;

    if (has_arg(conn))
        memcpy(&arg, conn->user_state + place_of_arg(conn->handler->state_size, conn->guarded),
               sizeof(arg));
    return arg;
}

/* behind: bytes that it has beyond the handler's state, and beyond the guard of that. */
static struct connection *allocate_connection(struct connection_table *table, int fd,
                                              size_t user_state, size_t behind)
{
    bool guards = misuse_is_thorough();
    size_t size = offsetof(struct connection, user_state) + place_of_arg(user_state, guards) +
                  behind;
    struct connection *conn;

    if ((size_t)fd >= table->size)
        return NULL;
    size = round_up(size, WEIR_CACHE_LINE);
    conn = aligned_alloc(WEIR_CACHE_LINE, size);
    if (!conn)
        return NULL;
    memset(conn, 0, size);
    conn->fd = fd;
    conn->guarded = guards;
    if (guards)
        memcpy(conn->user_state + user_state, GUARD, sizeof(GUARD));
    return conn;
}

struct connection *connection_create(struct connection_table *table, int fd,
                                     const struct sockaddr *peer, socklen_t peer_len,
                                     const struct weir_handler *handler,
                                     const struct endpoint *endpoint)
{
    struct connection *conn = allocate_connection(table, fd, handler->state_size,
                                                  endpoint_is_submission(endpoint)
                                                      ? sizeof(void *) : 0);

    if (!conn)
        return NULL;
    conn->handler = handler;
    conn->endpoint = endpoint;
    conn->greets = endpoint->greet != NULL;
    note_peer(conn, peer, peer_len);
    conn->transport = transport_for(conn->family);
    atomic_init(&conn->state, CONNECTION_QUEUED);
    /* relaxed: the slot that it is put into orders it. pairs: connection_begun_ms() */
    atomic_store_explicit(&table->begun_ds[fd], (uint32_t)(clock_coarse_ms() / MS_PER_DS),
                          memory_order_relaxed);
    enter_slot(table, conn);
    return conn;
}

struct connection *connection_create_opened(struct connection_table *table, int fd, int family,
                                            const struct endpoint *endpoint, struct task *task)
{
    struct connection *conn = allocate_connection(table, fd, 0, 0);

    if (!conn)
        return NULL;
    conn->kind = CONNECTION_OPENED;
    conn->family = (uint8_t)family;
    conn->transport = transport_for(family);
    conn->endpoint = endpoint;
    conn->task = task;
    atomic_init(&conn->state, CONNECTION_RUNNING);
    enter_slot(table, conn);
    return conn;
}

struct connection *connection_create_socket(struct connection_table *table, int fd,
                                            const struct endpoint *endpoint,
                                            struct receiver *receiver)
{
    struct connection *conn = allocate_connection(table, fd, 0, 0);

    if (!conn)
        return NULL;
    conn->kind = CONNECTION_SOCKET;
    conn->transport = TRANSPORT_NONE;
    conn->handler = endpoint->handler;
    conn->endpoint = endpoint;
    conn->receiver = receiver;
    atomic_init(&conn->state, CONNECTION_RUNNING);
    enter_slot(table, conn);
    return conn;
}

static void free_connection(struct reclaim_head *head)
{
    reclaim_settle();
    free(caa_container_of(head, struct connection, reclaim));
}

static void take_out_of_table(struct connection_table *table, struct connection *conn)
{
    /* relaxed: a thread that still finds it need only see that it's over. pairs: none */
    atomic_store_explicit(&conn->state, CONNECTION_CLOSED, memory_order_relaxed);
    /* relaxed: the grace period orders the end. pairs: reclaim_defer() */
    atomic_store_explicit(&table->slots[conn->fd], NULL, memory_order_relaxed);
}

static void let_die(struct connection_table *table, struct connection *conn)
{
    if (table->private)
        free(conn);
    else
        reclaim_defer(&conn->reclaim, free_connection);
}

/* Closing the socket, or EPOLL_CTL_DEL, takes it out of the kernel's set. */
static void leave_home(struct connection *conn)
{
    if (!conn->home)
        return;
    epoll_set_count(conn->home, -1);
    conn->home = NULL;
    conn->watched = 0;
}

/*
 * Input that nobody has read would turn the close of a TCP socket into a reset, which takes with it
 * what the peer has not received yet. So what is there is thrown away first.
 */
static void discard_input(struct connection *conn)
{
    const struct transport *transport = transport_of(conn);

    if (transport->resets && (conn->lingers || connection_may_have_input(conn)))
        transport->discard(conn, DISCARD_MAX);
}

void connection_forget(struct connection_table *table, struct connection *conn)
{
    take_out_of_table(table, conn);
    if (conn->home && !table->copied)
        sys_epoll_ctl(conn->home->fd, EPOLL_CTL_DEL, conn->fd, 0, 0);
    leave_home(conn);
    let_die(table, conn);
}

void connection_leave_crowd(struct connection *conn)
{
    if (conn->kind != CONNECTION_ACCEPTED || !conn->guest)
        return;
    crowd_leave(conn->endpoint->crowd, conn->guest);
    conn->guest = NULL;
}

void connection_end_output(struct connection *conn)
{
    conn->ended = true;
    transport_of(conn)->end_output(conn);
}

void connection_close(struct connection_table *table, struct connection *conn)
{
    take_out_of_table(table, conn);
    if (WEIR_LIKELY(!conn->ended)) {
        connection_end_output(conn);
        discard_input(conn);
    }
    sys_close(conn->fd);
    leave_home(conn);
    if (conn->kind == CONNECTION_ACCEPTED)
        connection_table_release(table, conn->endpoint->quota, 1);
    let_die(table, conn);
}

/* ------------------------------------------------------------------ events ------------ */

void connection_set_idle_timeout(struct connection *conn, uint32_t ms)
{
    uint32_t s = ms / 1000 + (ms % 1000 > 0);

    if (s > CONNECTION_IDLE_MAX_S)
        s = CONNECTION_IDLE_MAX_S + 1;
    /* relaxed: a number by itself. pairs: connection_idle_limit_ms() */
    atomic_store_explicit(&conn->own_idle_s, (uint16_t)s, memory_order_relaxed);
}

uint32_t connection_idle_limit_ms(const struct connection *conn, bool is_silent)
{
    /* relaxed: a number by itself. pairs: connection_set_idle_timeout() */
    uint32_t own_s = atomic_load_explicit(&conn->own_idle_s, memory_order_relaxed);

    if (own_s == 0)
        return endpoint_idle_limit_ms(conn->endpoint, is_silent);
    return own_s > CONNECTION_IDLE_MAX_S ? 0 : own_s * 1000;
}

int connection_watch(struct connection *conn, struct epoll_set *set, uint32_t events)
{
    uint64_t token = (uint64_t)conn->generation << 32 | (uint32_t)conn->fd;
    int op = EPOLL_CTL_MOD;
    int r;

    if (conn->home == set && (conn->watched & events) == events)
        return 0;
    if (conn->home != set) {
        if (conn->home)
            sys_epoll_ctl(conn->home->fd, EPOLL_CTL_DEL, conn->fd, 0, 0);
        leave_home(conn);
        op = EPOLL_CTL_ADD;
    }
    /* PRI: urgent data cuts a read short although there is more; see connection_alerted. */
    events |= conn->watched | EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLET;
    r = sys_epoll_ctl(set->fd, op, conn->fd, events, token);
    if (r < 0)
        return r;
    if (op == EPOLL_CTL_ADD)
        epoll_set_count(set, 1);
    conn->home = set;
    conn->watched = (uint16_t)events;
    return 0;
}

struct connection *connection_of_event(struct connection_table *table, uint64_t token)
{
    /* acquire: shows the connection as it was put in. pairs: enter_slot() */
    struct connection *conn = atomic_load_explicit(&table->slots[(uint32_t)token],
                                                   memory_order_acquire);

    return conn && conn->generation == (uint32_t)(token >> 32) ? conn : NULL;
}

/* ------------------------------------------------------------------ the state word ---- */

enum connection_state connection_state(const struct connection *conn)
{
    /* relaxed: for statistics. pairs: none */
    return atomic_load_explicit(&conn->state, memory_order_relaxed) & STATE;
}

bool connection_alerted(const struct connection *conn)
{
    /* relaxed: the mark stays, and an edge wakes us for whatever comes later. pairs: none */
    return atomic_load_explicit(&conn->state, memory_order_relaxed) & ALERT;
}

bool connection_may_have_input(const struct connection *conn)
{
    /* relaxed: a look at what has come so far; more may come behind any look. pairs: none */
    uint32_t word = atomic_load_explicit(&conn->state, memory_order_relaxed);

    return !conn->drained || (word & (READY | ALERT));
}

void connection_start(struct connection *conn)
{
    /* acquire: what the last owner left, if a sweep queued it. QUEUED is 0 and RUNNING 1: one
     * addition changes the state and keeps the marks. pairs: connection_keep() */
    atomic_fetch_add_explicit(&conn->state, CONNECTION_RUNNING - CONNECTION_QUEUED,
                              memory_order_acquire);
    conn->drained = false;
}

/* RUNNING -> to, unless an event has left its mark: then the mark is taken off. */
static bool leave_running(struct connection *conn, enum connection_state to)
{
    /* relaxed: a first guess, which the exchange checks. pairs: none */
    uint32_t word = atomic_load_explicit(&conn->state, memory_order_relaxed);

    for (;;) {
        if (WEIR_UNLIKELY(word & READY)) {
            /* acquire: the edge that the mark tells of. pairs: connection_ready() */
            atomic_fetch_and_explicit(&conn->state, ~READY, memory_order_acquire);
            conn->drained = false;
            return false;
        }
        /*
         * release: the fiber and the fields, to a thread that sees the state. seq_cst: IDLE, then
         * the look whether there's a drain; store buffering. relaxed where it fails: another guess.
         * pairs: connection_ready(), leave_waiting(), pool_drain()
         */
        if (WEIR_LIKELY(atomic_compare_exchange_weak_explicit(&conn->state, &word,
                                                         (word & ~STATE) | to,
                                                         memory_order_seq_cst,
                                                         memory_order_relaxed)))
            return true;
    }
}

bool connection_park(struct connection *conn)
{
    return leave_running(conn, CONNECTION_PARKED);
}

bool connection_keep(struct connection *conn)
{
    return leave_running(conn, CONNECTION_IDLE);
}

/* PARKED or IDLE, from -> to, keeping the marks. */
static bool leave_waiting(struct connection *conn, enum connection_state from,
                          enum connection_state to)
{
    /* relaxed: a first guess, which the exchange checks. pairs: none */
    uint32_t word = atomic_load_explicit(&conn->state, memory_order_relaxed);

    while ((word & STATE) == from)
        /* seq_cst: what the last owner left, and IDLE before a drain's look. relaxed where it
         * fails: another guess. pairs: leave_running() */
        if (atomic_compare_exchange_weak_explicit(&conn->state, &word, (word & ~STATE) | to,
                                                  memory_order_seq_cst, memory_order_relaxed))
            return true;
    return false;
}

bool connection_unpark(struct connection *conn)
{
    return leave_waiting(conn, CONNECTION_PARKED, CONNECTION_RUNNING);
}

bool connection_claim(struct connection *conn)
{
    return leave_waiting(conn, CONNECTION_IDLE, CONNECTION_QUEUED);
}

void connection_requeue(struct connection *conn)
{
    /* release: what its owner did, to its next owner; RUNNING is 1 and QUEUED 0, and the marks
     * stay. pairs: connection_start() */
    atomic_fetch_sub_explicit(&conn->state, CONNECTION_RUNNING - CONNECTION_QUEUED,
                              memory_order_release);
}

enum connection_next connection_ready(struct connection *conn, uint32_t events)
{
    uint32_t alert = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI) ? ALERT : 0;
    enum connection_next next;
    uint32_t to;
    /* relaxed: a first guess, which the exchange checks. pairs: none */
    uint32_t word = atomic_load_explicit(&conn->state, memory_order_relaxed);

    do {
        switch (word & STATE) {
        case CONNECTION_PARKED:
            to = (word & ~STATE) | CONNECTION_RUNNING;
            next = CONNECTION_RESUME;
            break;
        case CONNECTION_IDLE:
            to = (word & ~STATE) | CONNECTION_QUEUED;
            next = CONNECTION_QUEUE;
            break;
        case CONNECTION_CLOSED:
            return CONNECTION_NOTHING;
        default:
            to = word | READY;
            next = CONNECTION_NOTHING;
        }
        /* acquire: what the last owner left; release: our sight of the edge. relaxed where it
         * fails: another guess. pairs: leave_running() */
    } while (!atomic_compare_exchange_weak_explicit(&conn->state, &word, to | alert,
                                                    memory_order_acq_rel,
                                                    memory_order_relaxed));
    return next;
}

void connection_set_peer(struct connection *conn, const struct sockaddr *peer, socklen_t len)
{
    note_peer(conn, peer, len);
    conn->moved = true;
}

void connection_peer(const struct connection *conn, struct sockaddr_storage *ret,
                     socklen_t *ret_len)
{
    memset(ret, 0, sizeof(*ret));
    ret->ss_family = conn->family;
    *ret_len = sizeof(sa_family_t);
    if (conn->family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)ret;

        in->sin_port = conn->peer_port;
        memcpy(&in->sin_addr, &conn->peer_host, sizeof(in->sin_addr));
        *ret_len = sizeof(*in);
    } else if (conn->family == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

        in6->sin6_port = conn->peer_port;
        in6->sin6_scope_id = conn->peer_scope;
        in6->sin6_addr = conn->peer_host;
        *ret_len = sizeof(*in6);
    }
}
