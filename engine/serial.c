/*
 * serial.c - no mix-in at all: the accepting thread, or whoever submits a connection, serves it to
 * its end.
 */
#include "engine/mixin.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

struct serial {
    struct mixin mixin;
    struct crew *crew;
    uint32_t idle_timeout_ms;
    uint32_t drain_timeout_ms;
    pthread_mutex_t turn;       /* held while a connection is served: one after another */
    struct worker worker;
};

static struct serial *serial_of(struct mixin *mixin)
{
    return caa_container_of(mixin, struct serial, mixin);
}

/* sendfile(2) may raise SIGPIPE, and this thread is the embedder's: it shall not notice. */
static void serve_without_sigpipe(struct serial *serial, struct connection *conn, int stop_fd)
{
    const struct worker_rest rest = {
        .idle_timeout_ms = serial->idle_timeout_ms, .stop_fd = stop_fd,
        .drain_timeout_ms = serial->drain_timeout_ms,
    };
    const struct timespec now = { 0 };
    sigset_t pending;
    sigset_t before;
    sigset_t sigpipe;

    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
    sigpending(&pending);
    worker_serve_alone(&serial->worker, conn, &rest);
    if (!sigismember(&pending, SIGPIPE))
        while (sigtimedwait(&sigpipe, NULL, &now) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static int process(struct mixin *mixin, const struct accepted *accepted)
{
    struct serial *serial = serial_of(mixin);
    struct connection *conn = accepted_connect(accepted, &serial->crew->table);

    if (!conn)
        return -ENOMEM;
    pthread_mutex_lock(&serial->turn);
    serve_without_sigpipe(serial, conn, accepted->stop_fd);
    pthread_mutex_unlock(&serial->turn);
    return 0;
}

static size_t tallies(struct mixin *mixin, void (*fn)(void *arg, const struct tally *tally),
                      void *arg)
{
    fn(arg, &serial_of(mixin)->worker.tally);
    return 1;
}

static void destroy(struct mixin *mixin)
{
    struct serial *serial = serial_of(mixin);

    worker_fini_alone(&serial->worker);
    pthread_mutex_destroy(&serial->turn);
    free(serial);
}

int serial_create(const struct mixin_config *config, struct mixin **ret)
{
    struct serial *serial = aligned_alloc(_Alignof(struct serial), sizeof(*serial));

    if (!serial)
        return -ENOMEM;
    serial->mixin = (struct mixin){
        .process = process, .tallies = tallies, .destroy = destroy, .ended_fd = -1,
        .batch = 1,     /* as socketserver: between two, a stop and service_actions are seen */
    };
    serial->crew = config->crew;
    serial->idle_timeout_ms = config->idle_timeout_ms;
    serial->drain_timeout_ms = config->drain_timeout_ms;
    pthread_mutex_init(&serial->turn, NULL);
    worker_init_alone(&serial->worker, config->crew, 0);
    *ret = &serial->mixin;
    return 0;
}
