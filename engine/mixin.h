/*
 * mixin.h - who serves an accepted connection when there is no pool: after socketserver's mix-ins.
 *
 * serial.c serves it at once, threads.c on a thread of its own, forks.c in a child process. To the
 * acceptor they are the same: process takes a connection, or says why not.
 *
 * Threads: process and tallies by any, process inside a reclaim thread; reap by the first acceptor,
 *          and by the doorman or by whoever closes the server, which exclude each other.
 * Owns:    the workers, threads and children that serve. destroy, once no connection is left,
 *          waits until they are gone.
 */
#ifndef WEIR_MIXIN_H
#define WEIR_MIXIN_H

#include "engine/connection.h"
#include "engine/accepted.h"
#include "engine/tally.h"
#include "engine/weir.h"
#include "engine/worker.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct mixin {
    /* 0, or -errno: then the descriptor, or the datagram, is still the caller's. */
    int (*process)(struct mixin *mixin, const struct accepted *accepted);
    /* Looks after children that are done with their connections, or have ended. NULL: none has. */
    void (*reap)(struct mixin *mixin);
    /* Calls fn with everybody's tally. Returns how many serve now. */
    size_t (*tallies)(struct mixin *mixin, void (*fn)(void *arg, const struct tally *tally),
                      void *arg);
    void (*destroy)(struct mixin *mixin);
    int ended_fd;               /* readable: reap has something to do; -1 */
    unsigned batch;             /* connections per listener and turn of the acceptor */
};

struct mixin_config {
    struct weir_server *server;
    struct crew *crew;
    uint32_t idle_timeout_ms;
    uint32_t max_children;
    void (*handle_error)(struct weir_server *server, const struct weir_failure *failure);
    /* In a new child: closes what only the parent accepts with, and is as its caller was. */
    void (*leave_to_parent)(struct weir_server *server);
};

/* A child has died: says so on standard error, and to handle_error. */
void mixin_tell_death(const struct mixin_config *config, pid_t pid, int status, const char *peer,
                      const char *handler);

/* Each 0, or -errno. */
int serial_create(const struct mixin_config *config, struct mixin **ret);
int threads_create(const struct mixin_config *config, struct mixin **ret);
int forks_create(const struct mixin_config *config, struct mixin **ret);

#endif
