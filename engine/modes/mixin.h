/*
 * mixin.h - who serves when this process has no pool: after socketserver's mix-ins.
 *
 * serial.c serves a connection at once, threads.c on a thread of its own, forks.c in a child
 * process. To the acceptor they are the same: process takes a connection, or says why not. With
 * prefork.c nothing is accepted here: its children do that, too.
 *
 * Threads: process and tallies by any, process inside a reclaim thread; reap by the first acceptor,
 *          and by the doorman or by whoever closes the server, which exclude each other.
 * Owns:    the workers, threads and children that serve. destroy, once no connection is left,
 *          waits until they are gone.
 */
#ifndef WEIR_MIXIN_H
#define WEIR_MIXIN_H

#include "engine/base/tally.h"
#include "engine/net/quota.h"
#include "engine/pool/accepted.h"
#include "engine/pool/connection.h"
#include "engine/pool/worker.h"
#include "engine/weir.h"

#include <stddef.h>
#include <stdint.h>

struct mixin {
    /* Before something is accepted: 0, or -errno: process could not see to it. NULL: it can. */
    int (*prepare)(struct mixin *mixin);
    /*
     * 0, or -errno: then the descriptor, or the datagram, is still the caller's. -EAGAIN: nobody can
     * be had who serves it, but later perhaps. NULL: nothing is accepted here.
     */
    int (*process)(struct mixin *mixin, const struct accepted *accepted);
    /* Looks after children that are done with their connections, or have ended. NULL: none has. */
    void (*reap)(struct mixin *mixin);
    /* Calls fn with everybody's tally. Returns how many serve now. */
    size_t (*tallies)(struct mixin *mixin, void (*fn)(void *arg, const struct tally *tally),
                      void *arg);
    /* Where there are no tallies: adds what all have done, and says how many serve. */
    void (*add_stats)(struct mixin *mixin, struct weir_stats *sum);
    /*
     * Before and after a serving; NULL: nothing is to be done. begin on the thread that asks for
     * it: 0 or -errno. end on the first acceptor's, and when it returns nothing is accepted.
     */
    int (*begin)(struct mixin *mixin);
    void (*end)(struct mixin *mixin);
    /* What children have inherited has changed. Any thread. NULL: nobody keeps it. */
    void (*renew)(struct mixin *mixin);
    /* Ends children that were cancelled and have not ended. NULL: it has none. As reap. */
    void (*kill)(struct mixin *mixin);
    /* In any child of fork(2), before that returns: its locks anew. NULL: it has none. */
    void (*free_locks)(struct mixin *mixin);
    void (*destroy)(struct mixin *mixin);
    int ended_fd;               /* readable: reap has something to do; -1 */
    uint64_t due_at_ms;         /* reap has something to do then; 0: nothing */
    unsigned batch;             /* connections per listener and turn of the acceptor */
};

/* What prefork.c does with the server in a new child, in this order. */
struct child_calls {
    int (*become)(struct weir_server *server, unsigned number); /* a pool's: 0 or -errno */
    int (*begin)(struct weir_server *server);   /* what accepting takes: 0 or -errno */
    void (*accept)(struct weir_server *server); /* until stop */
    void (*drain)(struct weir_server *server);  /* until nothing is left open */
    /* On another thread, once it has become one. */
    void (*stop)(struct weir_server *server);
    void (*look)(struct weir_server *server);   /* at all listeners: somebody may wait there */
    void (*cancel)(struct weir_server *server);
    void (*stats)(struct weir_server *server, struct weir_stats *ret_stats);
};

struct mixin_config {
    struct weir_server *server;
    struct crew *crew;
    struct worker_rest rest;    /* without orders of its own */
    uint32_t drain_timeout_ms;
    struct quota *quota;        /* the server's */
    uint32_t max_children;
    uint32_t processes;
    void (*handle_error)(struct weir_server *server, const struct weir_failure *failure);
    /* In a new child: closes what only the parent accepts with, and is as its caller was. */
    void (*leave_to_parent)(struct weir_server *server);
    const struct child_calls *child_calls;
};

/* Each 0, or -errno. */
int serial_create(const struct mixin_config *config, struct mixin **ret);
int threads_create(const struct mixin_config *config, struct mixin **ret);
int forks_create(const struct mixin_config *config, struct mixin **ret);
int prefork_create(const struct mixin_config *config, struct mixin **ret);

#endif
