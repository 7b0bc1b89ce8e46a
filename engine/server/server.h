/*
 * server.h - the server as its own files see it; weir.h is what others do.
 *
 *   server.c    put together from its options, and freed
 *   endpoints.c what its listeners have agreed with their clients
 *   opening.c   its sockets: bind, activate
 *   places.c    how many places the limit of descriptors leaves it
 *   serving.c   its states: serve, start, stop, shutdown, handle_request
 *   submit.c    connections that somebody else has accepted
 *   timers.c    what is called after, or every, so many milliseconds
 *   closing.c   cancel, close, destroy
 *   stats.c     what everybody has counted
 *   dump.c      who is connected, and what each waits for
 *   child.c     what a forked child does with it
 *
 * Threads: as weir.h says. What ends in _locked is called with the lock held.
 *
 * After a fork(2) each process has the server. Who may touch what of it in the child:
 *
 *   process.c, before fork returns makes the locks anew (server_begin_in_child), and nothing else
 *   the program, with a copy of what another process serves (server_is_copy) or may be going to
 *   (server_is_anothers)          reads options and the tallies of acceptors and pool; closes the
 *                                 copy's descriptors of listeners (closing.c's let_copy_go); frees
 *                                 it only if nobody has served it. Never the table's connections,
 *                                 the mixin, threads, or an eventfd: that orders the other about
 *   a child of WEIR_FORK          has it all, on its one thread, but what accepts, which
 *                                 server_leave_to_parent closes
 *   a child of WEIR_PREFORK       builds pool, mixin and acceptors anew (child.c); of the parent's
 *                                 it keeps parents and parents_pool, to stop and to cancel by
 */
#ifndef WEIR_SERVER_H
#define WEIR_SERVER_H

#include "engine/accept/acceptor.h"
#include "engine/accept/doorman.h"
#include "engine/base/owner.h"
#include "engine/base/why.h"
#include "engine/modes/mixin.h"
#include "engine/modes/process.h"
#include "engine/net/access.h"
#include "engine/net/crowd.h"
#include "engine/net/endpoint.h"
#include "engine/net/multicast.h"
#include "engine/net/quota.h"
#include "engine/pool/offload.h"
#include "engine/pool/pool.h"
#include "engine/pool/roll.h"
#include "engine/server/options.h"
#include "engine/stream/request.h"
#include "engine/weir.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum server_state { FRESH, SERVING, STOPPED, CLOSED };
enum opening { UNBOUND, BOUND, LISTENING };

/* One of the options' listeners. */
struct server_listen {
    char *address;
    struct endpoint like;           /* what its endpoints are: a name has several addresses */
    struct quota quota;             /* its own; max 0: it has none, but the server's */
    struct access_slot access;      /* ... where like names it */
    struct crowd *crowd;            /* ... NULL: it has none */
};

/* The program's timers: see timers.c. */
struct server_timers {
    pthread_mutex_t lock;           /* of what follows, and of what each timer has; held for long
                                       by nobody */
    struct weir_timer *first;       /* all that are in memory */
    unsigned begun;                 /* how many have been: the worker of each follows from it */
    bool ended;                     /* the server drains, and has no further ones */
};

struct weir_server {
    struct weir_options options;
    struct acceptor_config acceptor_config;
    struct service service;
    struct pool *pool;
    struct offload *offload;        /* of handlers */
    struct offload *names;          /* of weir_connect */
    struct access_slot access;
    struct crowd *crowd;            /* NULL: addresses aren't counted */
    struct mixin *mixin;
    struct pool *parents_pool;      /* in a child of WEIR_PREFORK: what it was in the parent, to */
    struct acceptor *parents;       /* reach that by; else NULL */
    struct acceptor *acceptors;
    size_t acceptors_len;
    int cpus[WEIR_MAX_WORKERS];
    size_t cpus_len;
    struct owner owner;             /* of Unix paths */
    struct multicast multicast;
    struct server_listen *listens;  /* a copy: the caller's may go */
    size_t listens_len;
    struct endpoint **endpoints;    /* as many as the first acceptor has listeners */
    size_t endpoints_len;
    struct endpoint submission;     /* of what weir_submit_fd brings */
    struct quota quota;             /* of all that have none of their own; written for each client,
                                       so not beside what each request reads */
    struct doorman doorman;
    pthread_mutex_t lock;           /* of what follows */
    pthread_cond_t changed;         /* state has */
    struct server_timers timers;
    _Atomic uint64_t submitted;     /* by weir_submit_fd */
    _Atomic enum server_state state;/* written under the lock, read by weir_server_stop too */
    _Atomic bool followed;          /* others accept once it has stopped; written under the lock */
    enum opening opening;
    _Atomic pid_t served_by;        /* the process that serves or opens it, or tried to; 0: none;
                                       written under the lock */
    uint32_t forks;                 /* process_forks() when it was made */
    struct process_heir heir;       /* the locks, in a child of fork(2) */
    uint64_t servings;              /* how often it has begun to serve */
    bool checked;                   /* WEIR_CHECK=1 */
    bool has_doorman;
    bool handling;                  /* somebody is in weir_handle_request */
    bool closing;                   /* somebody is in weir_server_close */
    bool thread_started;            /* weir_server_start's has to be joined */
    pthread_t thread;
    pthread_t acceptor_threads[WEIR_MAX_ACCEPTORS];  /* all but the first one's */
    size_t acceptors_running;       /* these */
};

/* Of a name that is listened on. */
#define SERVER_ADDRESSES_MAX 64

/* SERVER_REFUSE writes the sentence that weir_why() returns, and is error. */
#define SERVER_REFUSE(error, ...) why_set(why_last, sizeof(why_last), error, __VA_ARGS__)

/* server.c: 0, or -errno and the reason in why_last. */
int server_create_pool(struct weir_server *server);
int server_create_mixin(struct weir_server *server);
int server_create_acceptors(struct weir_server *server);
void server_fill_in_alike(struct weir_server *server);
int server_create_crowd(const struct weir_server *server, uint32_t said, size_t places,
                        struct crowd **ret);
void server_free(struct weir_server *server);

/* endpoints.c: as server.c, but for create, which says -ENOMEM and no reason. */
int server_copy_listens(struct weir_server *server);
void server_count_in_table(struct weir_server *server);     /* all quotas, of a pool that is new */
size_t server_connections_max(const struct weir_server *server);        /* of all quotas */
void server_free_listens(struct weir_server *server);
int server_create_endpoint(struct weir_server *server, const struct endpoint *like,
                           const char *uri, const struct endpoint **ret);
void server_free_endpoints(struct weir_server *server);
uint32_t server_shortest_idle_ms(const struct weir_server *server);     /* 0: none has an end */

/* opening.c: as server.c. */
int server_open_listeners(struct weir_server *server);

/* serving.c */
enum server_state server_state(const struct weir_server *server);
void server_enter_locked(struct weir_server *server, enum server_state state);
void server_change_state(struct weir_server *server, enum server_state state);
bool server_is_closed_locked(const struct weir_server *server);
bool server_is_busy_locked(const struct weir_server *server);
bool server_called_from_handler(const struct weir_server *server);
bool server_called_from_hook(const struct weir_server *server);
bool server_called_from_offload(const struct weir_server *server);
pid_t server_served_by(const struct weir_server *server);
bool server_is_copy(const struct weir_server *server);      /* another process serves it */
bool server_is_anothers(const struct weir_server *server);  /* ... or may be going to */
int server_claim_locked(struct weir_server *server);        /* -ESRCH: it is another process's */
int server_check_accepts(const struct weir_server *server); /* -EOPNOTSUPP: its children do */
int server_begin_serving(struct weir_server *server);
void server_serve(struct weir_server *server);
void server_join_thread(struct weir_server *server);

/* dump.c: who is connected, in whatever process. */
void server_call_roll(struct weir_server *server, struct roll *roll);

/* closing.c */
int server_wait_until_empty(struct weir_server *server, uint64_t until_ms);
void server_take_leave(struct weir_server *server);     /* as pool.h says: the wait for it */
/* Whoever has changed which listeners are kept elsewhere notes whether others accept behind it. */
void server_note_followed_locked(struct weir_server *server);
bool server_is_followed(const struct weir_server *server);
/* How long a close takes leave; 0: the options have it wait for nobody. */
uint32_t server_leave_ms(const struct weir_server *server);
void server_close_sockets(struct weir_server *server);

/* timers.c: no call begins any more; those that have begun are open, as connections are. */
void server_end_timers(struct weir_server *server);
void server_free_timers(struct weir_server *server);

/* child.c */
void server_begin_in_child(struct process_heir *heir);
void server_leave_to_parent(struct weir_server *server);
extern const struct child_calls server_child_calls;

#endif
