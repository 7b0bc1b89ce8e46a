/*
 * connection.h - one connection: its state word, its place in the table, its end.
 *
 * Threads: each call says who may make it. The plain fields belong to the owner that the state
 *          names; they pass on with it.
 * Owns:    the socket, from connection_create to connection_close.
 * Frees:   after a grace period, so that a thread that found it in the table may still look at it.
 *
 * Its state:
 *
 *   state    owner                  leaves by
 *   QUEUED   the ready queue, or    connection_start    -> RUNNING  the worker that took it
 *            a worker's batch
 *   RUNNING  its worker             connection_park     -> PARKED   the fiber waits for the peer
 *                                   connection_keep     -> IDLE     handle() said WEIR_KEEP
 *                                   connection_requeue  -> QUEUED   somebody else's turn
 *                                   connection_close    -> CLOSED
 *   PARKED   nobody; the fiber is   connection_ready    -> RUNNING  whoever sees the event, and
 *            its worker's (or two                                   tells the worker
 *            are: family.h)         connection_unpark   -> RUNNING  the worker: timer, cancel;
 *                                                                   room.c, which tells it
 *   IDLE     nobody                 connection_ready    -> QUEUED   whoever sees the event, and
 *                                                                   queues it
 *                                   connection_claim    -> QUEUED   a sweep, a drain, and room.c,
 *                                                                   likewise
 *   CLOSED   the reclaimer
 *
 * An edge is seen once, perhaps by a thread that does not own the connection. So an event that
 * finds it QUEUED or RUNNING leaves a mark, READY, and a worker that is about to park or keep a
 * marked connection goes back instead and tries its I/O again (tests/models/connection.pml).
 */
#ifndef WEIR_CONNECTION_H
#define WEIR_CONNECTION_H

#include "engine/base/compiler.h"
#include "engine/net/endpoint.h"
#include "engine/sync/epoll_set.h"
#include "engine/sync/inbox.h"
#include "engine/sync/reclaim.h"
#include "engine/weir.h"

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct receiver;
struct task;

enum connection_state {
    CONNECTION_QUEUED, CONNECTION_RUNNING, CONNECTION_PARKED, CONNECTION_IDLE, CONNECTION_CLOSED,
};

enum connection_kind {
    CONNECTION_ACCEPTED,    /* has a handler, and is counted */
    CONNECTION_OPENED,      /* by weir_connect or weir_poll, for somebody's handler */
    CONNECTION_SOCKET,      /* datagrams come to it: see receiver.h */
    CONNECTION_PACKET,      /* one of these, in no table: see packet.h */
    CONNECTION_ERRAND,      /* in no table, and without a descriptor: see errand.h */
};

/* What the caller of connection_ready or connection_claim must do now. */
enum connection_next {
    CONNECTION_NOTHING,
    CONNECTION_RESUME,      /* its task is runnable: tell its worker */
    CONNECTION_QUEUE,       /* it is QUEUED and yours: put it where a worker will take it */
};

/* Which timeout has passed, for who is told of -ETIMEDOUT: each of enum weir_timeout, plus 1. */
enum connection_late {
    CONNECTION_NOT_LATE,
    CONNECTION_READ_LATE,
    CONNECTION_WRITE_LATE,
    CONNECTION_REQUEST_LATE,
    CONNECTION_HEAD_LATE,
    CONNECTION_PROGRESS_LATE,
    CONNECTION_IDLE_LATE,
};
_Static_assert(CONNECTION_READ_LATE == (int)WEIR_TIMEOUT_READ + 1 &&
               CONNECTION_WRITE_LATE == (int)WEIR_TIMEOUT_WRITE + 1 &&
               CONNECTION_REQUEST_LATE == (int)WEIR_TIMEOUT_REQUEST + 1 &&
               CONNECTION_HEAD_LATE == (int)WEIR_TIMEOUT_HEAD + 1 &&
               CONNECTION_PROGRESS_LATE == (int)WEIR_TIMEOUT_PROGRESS + 1 &&
               CONNECTION_IDLE_LATE == (int)WEIR_TIMEOUT_IDLE + 1,
               "each timeout has passed by its own number");
_Static_assert(CONNECTION_IDLE_LATE < 8, "a connection notes which has passed in three bits");

/*
 * What a connection waits for, or its handler: for weir_server_dump. From CONNECTION_WAITS_FOR_PEER
 * on it is the connection itself that has to get ready.
 */
enum connection_wait {
    CONNECTION_WAITS_IDLE,          /* and is noted so by connection_note_idle; see there */
    CONNECTION_WAITS_NOTHING,       /* its handler has gone on */
    CONNECTION_WAITS_QUEUE,         /* for its first turn: see connection_note_queued */
    CONNECTION_WAITS_TURN,          /* never noted: for its worker, which does something else */
    CONNECTION_WAITS_SLEEP,
    CONNECTION_WAITS_OFFLOAD,
    CONNECTION_WAITS_POLL,
    CONNECTION_WAITS_LOCK,          /* for another fiber or thread: see waiter.h */
    CONNECTION_WAITS_CONNECT,
    CONNECTION_WAITS_CHILDREN,      /* fibers that its handler has spawned: see family.h */
    CONNECTION_WAITS_OPENED_READ,   /* a stream that weir_connect has opened */
    CONNECTION_WAITS_OPENED_WRITE,
    CONNECTION_WAITS_FOR_PEER,
    CONNECTION_WAITS_READ = CONNECTION_WAITS_FOR_PEER,
    CONNECTION_WAITS_WRITE,
    CONNECTION_WAITS_GREETING,
    CONNECTION_WAITS_LINGER,
};

/* A note: milliseconds of clock_ms, an enum connection_wait, and one of these two marks. */
#define CONNECTION_WAIT_SHIFT 56
#define CONNECTION_NOTED_MS ((UINT64_C(1) << CONNECTION_WAIT_SHIFT) - 1)

/* Of a note of an idle one: its client has not spoken yet. See connection_note_idle. */
#define CONNECTION_IS_SILENT (UINT64_C(1) << 63)

/* Of a note of a wait for the client: its request has a deadline, and so it may make room. */
#define CONNECTION_IS_BOUNDED (UINT64_C(1) << 62)

struct connection {
    /* What every event needs, in one cache line. */
    _Alignas(WEIR_CACHE_LINE) _Atomic uint32_t state;   /* a connection_state and marks */
    int fd;
    uint32_t generation;    /* tells it from the one that had the same descriptor before */
    uint16_t watched;       /* the events it is registered for; EPOLLET is not noted */
    _Atomic uint16_t own_idle_s;    /* see connection_set_idle_timeout; 0: the endpoint's */
    struct epoll_set *home; /* ... in this set; NULL: in none yet */
    uint8_t family;         /* the peer's: an AF_ */
    uint8_t transport;      /* enum transport_kind: how its bytes come and go */
    bool drained;           /* the socket had no more at the last read, and no edge came since */
    uint8_t kind;           /* enum connection_kind */
    bool kept;              /* handle() returned WEIR_KEEP: IDLE is next */
    bool began : 1;         /* setup() has run */
    bool expired : 1;       /* idle for too long: it ends, unless there is input after all */
    bool unplaced : 1;      /* others wait for its place: it ends once what has arrived is served */
    bool starved : 1;       /* no memory for a fiber: what has begun ends, what hasn't is refused */
    bool said_end : 1;      /* its handler has called weir_end_output */
    bool greets : 1;        /* its endpoint's greeting is still to come */
    bool moved : 1;         /* the greeting has told of another peer than was accepted */
    bool refused : 1;       /* it ends before it has begun, and counts as refused */
    uint16_t sent;          /* bytes, until it was idle last; UINT16_MAX: or more */
    const struct weir_handler *handler; /* the endpoint's, or weir_submit's */
    struct task *task;      /* what runs for it, or waits for it, be it alone or for a family; NULL
                               when IDLE or QUEUED */
    _Atomic uint64_t note;  /* since when it waits for what; 0: it has not waited yet */
    const struct endpoint *endpoint;    /* that it came in by; OPENED: its opener */
    union {
        struct crowd_guest *guest;  /* ACCEPTED: its seat in the endpoint's crowd; NULL: none */
        struct receiver *receiver;  /* SOCKET: whose it is */
        struct task *waiting;       /* OPENED: which of a family wait for it: see family.h */
    };

    struct message woken;   /* "your task is runnable", to its worker's inbox */
    struct reclaim_head reclaim;
    struct in6_addr peer_host;      /* AF_INET: its first four bytes */
    uint32_t peer_scope;
    uint16_t peer_port;     /* in network order; a Unix peer's name is asked for anew */
    bool ended : 1;         /* connection_end_output has been called */
    bool misreturned : 1;   /* handle() has returned a number that has no meaning */
    uint8_t late : 3;       /* enum connection_late: which timeout has passed last */
    bool lingers : 1;       /* its handler has called weir_linger */
    bool guarded : 1;       /* behind user_state there is what connection_state_is_whole looks at */
    bool ousted : 1;        /* others wait for its place: its handler's last wait was ended */
    _Alignas(max_align_t) unsigned char user_state[];
};

/* Descriptors from here on no table keeps. */
#define CONNECTION_TABLE_MAX (1 << 24)

/*
 * The table: by descriptor, which is a small dense number already, so that counting, listing
 * and finding by id are an array's work. Slots are RCU pointers.
 */
struct connection_table {
    _Atomic(struct connection *) *slots;
    _Atomic uint32_t *begun_ds;             /* when each was accepted, in tenths of a second */
    size_t size;                            /* descriptors from here on can't be kept */
    int room_fd;                            /* eventfd: see connection_table_want_room */
    bool private;                           /* one thread's alone: memory is freed at once */
    bool copied;                            /* another process uses the kernel's sets, too */
    _Atomic size_t used;                    /* no slot from here on has ever been used */
    _Atomic uint32_t generations;
    struct quota *quotas;                   /* what is open is counted here: see quota.h */
    struct quota held;                      /* one of them: see connection_table_hold */
    _Atomic size_t lent;                    /* of these, those that have no slot */
    _Atomic size_t room_below;              /* what was asked for; 0: nothing */
};

int connection_table_init(struct connection_table *table);
void connection_table_fini(struct connection_table *table);

/* Before the first connection: a quota that its endpoints have. Nothing is counted there yet. */
void connection_table_add_quota(struct connection_table *table, struct quota *quota);

/* How many are open, against whichever quota. */
size_t connection_table_count(const struct connection_table *table);

/* Returns true if this descriptor is a connection's already. Any thread. */
bool connection_table_has(const struct connection_table *table, int fd);

/*
 * Asks for room_fd to be written when a connection is closed and fewer than `below` are left open
 * against its quota. Any thread. It must look once more whether there is room after asking.
 */
void connection_table_want_room(struct connection_table *table, size_t below);

/*
 * Gives back n places that quota_take() has taken, any thread. release: what had them has ended,
 * and who asked for room is told. give_back: they were taken in vain, and only who has found no
 * place meanwhile is told; a listener that rests for want of descriptors is not.
 */
void connection_table_release(struct connection_table *table, struct quota *quota, size_t n);
void connection_table_give_back(struct connection_table *table, struct quota *quota, size_t n);

/*
 * As if one more were open, which takes nobody's place: whoever waits until nothing is open waits
 * for a child of WEIR_PREFORK, too, and for a thread that is in a call of the server's mixin.
 */
void connection_table_hold(struct connection_table *table);
void connection_table_let_go(struct connection_table *table);

/*
 * n that have places are open although they aren't in the table: children have them, or they are
 * datagrams. return gives the places back; take_back leaves them to the caller.
 */
void connection_table_lend(struct connection_table *table, size_t n);
void connection_table_take_back(struct connection_table *table, size_t n);
void connection_table_return(struct connection_table *table, struct quota *quota, size_t n);
size_t connection_table_lent(const struct connection_table *table);

/* Calls fn for every connection there is. Any thread; fn runs inside a reclaim section. */
void connection_table_each(struct connection_table *table,
                           void (*fn)(struct connection *conn, void *arg), void *arg);

/*
 * A connection for a connected socket, QUEUED (or RUNNING, when opened), in the table. The caller
 * owns it. It has the place that the caller has taken of its endpoint's quota, if it isn't opened.
 * NULL: no memory, or a descriptor that the table has no slot for; fd is left open, and the place
 * is still the caller's.
 * One that is opened need not be a socket (AF_UNSPEC), only something that can be waited for.
 */
struct connection *connection_create(struct connection_table *table, int fd,
                                     const struct sockaddr *peer, socklen_t peer_len,
                                     const struct weir_handler *handler,
                                     const struct endpoint *endpoint);
struct connection *connection_create_opened(struct connection_table *table, int fd, int family,
                                            const struct endpoint *endpoint, struct task *task);

/* A datagram socket, RUNNING, in the table. NULL: as above. */
struct connection *connection_create_socket(struct connection_table *table, int fd,
                                            const struct endpoint *endpoint,
                                            struct receiver *receiver);

/* Its peer's address has one connection less, before the peer learns of the end. The owner. */
void connection_leave_crowd(struct connection *conn);

/* Says FIN; the close is to come. The owner, state RUNNING. */
void connection_end_output(struct connection *conn);

/* Closes and lets go. The owner, state RUNNING. Says FIN even if a duplicate of fd is about. */
void connection_close(struct connection_table *table, struct connection *conn);

/* As if it had never been: descriptor and place are the caller's again. The owner. */
void connection_forget(struct connection_table *table, struct connection *conn);

/*
 * Registers it for events, edge-triggered, in an epoll set: once for reading, and once more when
 * a write has to wait for the first time; out of any set it was in before. The owner.
 */
int connection_watch(struct connection *conn, struct epoll_set *set, uint32_t events);

/* The connection that an event is about, or NULL when it is gone. In a reclaim section. */
struct connection *connection_of_event(struct connection_table *table, uint64_t token);

/* The transitions; the table above says who may make them. */
void connection_start(struct connection *conn);
bool connection_park(struct connection *conn);     /* false: marked READY; still RUNNING */
bool connection_unpark(struct connection *conn);   /* false: not PARKED any more */
bool connection_keep(struct connection *conn);     /* false: marked READY; still RUNNING */
void connection_requeue(struct connection *conn);  /* RUNNING -> QUEUED: there's more to do */
enum connection_next connection_ready(struct connection *conn, uint32_t events);
bool connection_claim(struct connection *conn);    /* false: not IDLE any more */
enum connection_state connection_state(const struct connection *conn);

/* When it was accepted, by clock_ms, to a tenth of a second. Who found it in the table. */
uint64_t connection_begun_ms(const struct connection_table *table, const struct connection *conn);

/*
 * Its own idle timeout, in place of the endpoint's: rounded up to seconds, and for ever if it is
 * longer than CONNECTION_IDLE_MAX_S. The owner.
 */
#define CONNECTION_IDLE_MAX_S 65534
void connection_set_idle_timeout(struct connection *conn, uint32_t ms);

/* How long it may be idle; 0: for ever. is_silent: as for endpoint_idle_limit_ms. Any thread. */
uint32_t connection_idle_limit_ms(const struct connection *conn, bool is_silent);

/* The owner, before connection_keep: it is idle from now_ms on. */
static inline void connection_note_idle(struct connection *conn, uint64_t now_ms)
{
    uint64_t noted = conn->began ? now_ms : now_ms | CONNECTION_IS_SILENT;

    /* release: the peer, which a greeting may have changed. pairs: connection_noted() */
    atomic_store_explicit(&conn->note, noted, memory_order_release);
}

/*
 * The owner, who is about to wait, or has waited. since: the moment that the wait counts from, and
 * CONNECTION_IS_BOUNDED if it is. Returns the note.
 */
static inline uint64_t connection_note_wait(struct connection *conn, enum connection_wait wait,
                                            uint64_t since)
{
    uint64_t noted = since | (uint64_t)wait << CONNECTION_WAIT_SHIFT;

    /* release: as above. pairs: connection_noted() */
    atomic_store_explicit(&conn->note, noted, memory_order_release);
    return noted;
}

/*
 * The last note. It tells what a connection waits for only together with its state: that leaves the
 * queue and an idle time, and comes into the queue again, without a note.
 */
static inline uint64_t connection_noted(const struct connection *conn)
{
    /* acquire: see connection_note_idle(). pairs: that, and connection_note_wait() */
    return atomic_load_explicit(&conn->note, memory_order_acquire);
}

static inline enum connection_wait connection_wait_of(uint64_t noted)
{
    return (enum connection_wait)((noted & ~(CONNECTION_IS_SILENT | CONNECTION_IS_BOUNDED))
                                  >> CONNECTION_WAIT_SHIFT);
}

static inline uint64_t connection_since_ms(uint64_t noted)
{
    return noted & CONNECTION_NOTED_MS;
}

/*
 * Since when it is idle, by the last note; 0: it has not been idle, or has waited for something
 * else since. A hint: connection_claim decides.
 */
static inline uint64_t connection_idle_since_ms(const struct connection *conn, bool *ret_is_silent)
{
    uint64_t noted = connection_noted(conn);

    *ret_is_silent = noted & CONNECTION_IS_SILENT;
    return connection_wait_of(noted) == CONNECTION_WAITS_IDLE ? connection_since_ms(noted) : 0;
}

/* Returns true if it has had no turn yet. The owner. */
static inline bool connection_is_new(const struct connection *conn)
{
    return conn->kind == CONNECTION_ACCEPTED && !conn->kept && !conn->began;
}

/* The owner, before the first turn: it waits for that in the ready queue from now_ms on. */
static inline void connection_note_queued(struct connection *conn, uint64_t now_ms)
{
    connection_note_wait(conn, CONNECTION_WAITS_QUEUE, now_ms);
}

/* Since when a connection waits that is new; 0: nobody was there before it. The owner. */
static inline uint64_t connection_queued_ms(const struct connection *conn)
{
    uint64_t noted = connection_noted(conn);

    return connection_wait_of(noted) == CONNECTION_WAITS_QUEUE ? connection_since_ms(noted) : 0;
}

/* A peer that hung up or sent urgent data: a short read no longer means that all was read. */
bool connection_alerted(const struct connection *conn);

/*
 * More may have come since the last read, as far as is known without asking the kernel. The owner.
 */
bool connection_may_have_input(const struct connection *conn);

/*
 * Its peer is somebody else, as a proxy tells: AF_INET or AF_INET6. The owner. Whoever asks for the
 * peer sees this one from now on; rules and crowd are the caller's to ask.
 */
void connection_set_peer(struct connection *conn, const struct sockaddr *peer, socklen_t len);

/*
 * What weir_submit was given for the handler. Only a connection that was submitted has room for it,
 * behind user_state: the others keep nothing, and it is NULL of them. The owner.
 */
void connection_set_arg(struct connection *conn, void *arg);
void *connection_arg(const struct connection *conn);

/* False: its handler has written beyond user_state, and WEIR_CHECK=1 has that looked at. */
bool connection_state_is_whole(const struct connection *conn);

/* The peer, from what was noted at accept or by the greeting. */
void connection_peer(const struct connection *conn, struct sockaddr_storage *ret,
                     socklen_t *ret_len);

#endif
