/*
 * mixin.h - what serves the connections of a server: after socketserver's mix-ins.
 *
 * pooled.c has the pool's workers serve a connection, serial.c serves it at once, threads.c on a
 * thread of its own, forks.c in a child process. With prefork.c this process accepts nothing: its
 * children do. To the acceptor all are the same: process takes a connection, or says why not.
 *
 * No slot is NULL: one that has nothing to do is mixin_needs_nothing or mixin_has_nobody.
 *
 * Threads: any calls process and add_stats, process only between reclaim_thread_init and _fini.
 *          The first acceptor calls reap; so do the doorman and the thread that closes the server,
 *          but never two of them at once.
 * Owns:    the workers, threads and children that serve, except the pool's. destroy is called when
 *          no connection is left, and waits until they are gone.
 */
#ifndef WEIR_MIXIN_H
#define WEIR_MIXIN_H

#include "engine/base/tally.h"
#include "engine/pool/accepted.h"
#include "engine/pool/connection.h"
#include "engine/pool/roll.h"
#include "engine/pool/worker.h"
#include "engine/weir.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Adds to a struct weir_stats. */
typedef void mixin_add_tally(void *sum, const struct tally *tally);

struct mixin {
    /* Before something is accepted: 0, or -errno: process could not see to it. */
    int (*prepare)(struct mixin *mixin);
    /*
     * 0, or -errno: then the descriptor, or the datagram, is still the caller's. -EAGAIN: no thread
     * or child can be had to serve it, but later perhaps. -EOPNOTSUPP: nothing is accepted here.
     */
    int (*process)(struct mixin *mixin, const struct accepted *accepted);
    /* Looks after children that are done with their connections, or have ended. */
    void (*reap)(struct mixin *mixin);
    /* Sets how many serve now, and adds what they have done: each tally, or the sum itself. */
    void (*add_stats)(struct mixin *mixin, struct weir_stats *sum, mixin_add_tally *add);
    /* Adds those whom children serve. Any thread. */
    void (*add_roll)(struct mixin *mixin, struct roll *roll);
    /*
     * Before and after a serving. begin on the thread that asks for it: 0 or -errno. end on the
     * first acceptor's, and when it returns nothing is accepted.
     */
    int (*begin)(struct mixin *mixin);
    void (*end)(struct mixin *mixin);
    /* What children have inherited has changed. Any thread. */
    void (*renew)(struct mixin *mixin);
    /* Another server has the listeners, too, and accepts. Any thread. */
    void (*hand_on)(struct mixin *mixin);
    /* Children that the crew's order does not reach say goodbye, too. The thread that closes. */
    void (*take_leave)(struct mixin *mixin);
    /* Ends children that were cancelled and have not ended. Threads as reap. */
    void (*kill)(struct mixin *mixin);
    /* In any child of fork(2), before that returns: makes its locks anew. */
    void (*free_locks)(struct mixin *mixin);
    void (*destroy)(struct mixin *mixin);
    bool accepts_here;          /* this process accepts; else its children do, and only they */
    bool has_workers;           /* the pool's: they receive datagrams, accept from listeners that
                                   are lent to them, and keep idle connections that make room */
    bool hands_on;              /* process has others serve: the calling thread neither waits for
                                   them nor forks, and any handler may call it */
    bool serves_at_once;        /* process serves a connection to its end before it returns */
    bool ends_with_handler;     /* a handler runs in a child that serves nobody else */
    const char *shortage;       /* what is said when process returns -EAGAIN */
    int ended_fd;               /* readable: reap has something to do; -1 */
    uint64_t due_at_ms;         /* reap has something to do then; 0: nothing */
    unsigned batch;             /* connections per listener and turn of the acceptor */
};

/* For what a mixin has nothing to do at: returns 0. */
int mixin_needs_nothing(struct mixin *mixin);

/* For what is done with children or locks: does nothing. */
void mixin_has_nobody(struct mixin *mixin);

/* For who has no children: adds none. */
void mixin_calls_nobody(struct mixin *mixin, struct roll *roll);

/* NULL is fine: a server that could not be built has none. */
void mixin_destroy(struct mixin *mixin);

/* What prefork.c does with the server in a new child, in this order. */
struct child_calls {
    /* A pool's: 0 or -errno. others_fd: eventfd that has all children look for clients. */
    int (*become)(struct weir_server *server, unsigned number, int others_fd);
    int (*begin)(struct weir_server *server);   /* what accepting takes: 0 or -errno */
    void (*accept)(struct weir_server *server); /* until stop */
    /* If others go on accepting (followed): those whom the kernel has called this child for. */
    void (*accept_last)(struct weir_server *server, bool followed);
    void (*drain)(struct weir_server *server, bool followed);   /* until nothing is left open */
    /* On another thread, once it has become one. */
    void (*stop)(struct weir_server *server);
    void (*look)(struct weir_server *server);   /* at all listeners: somebody may wait there */
    void (*cancel)(struct weir_server *server);
    void (*stats)(struct weir_server *server, struct weir_stats *ret_stats);
    void (*roll)(struct weir_server *server, struct roll *roll);
};

struct mixin_config {
    struct weir_server *server;
    struct crew *crew;
    struct worker_alone alone;    /* without orders of its own */
    uint32_t drain_timeout_ms;
    uint32_t max_children;      /* in all, of whichever quotas */
    uint32_t processes;
    void (*handle_error)(struct weir_server *server, const struct weir_failure *failure);
    /* In a new child: closes what only the parent accepts with, and is as its caller was. */
    void (*leave_to_parent)(struct weir_server *server);
    const struct child_calls *child_calls;
};

/* Each 0, or -errno. */
int pooled_create(const struct mixin_config *config, struct mixin **ret);
int serial_create(const struct mixin_config *config, struct mixin **ret);
int threads_create(const struct mixin_config *config, struct mixin **ret);
int forks_create(const struct mixin_config *config, struct mixin **ret);
int prefork_create(const struct mixin_config *config, struct mixin **ret);

#endif
