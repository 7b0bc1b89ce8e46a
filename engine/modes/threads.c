/* threads.c - after ThreadingMixIn: a thread for each connection, as many as there are. */
#include "engine/modes/mixin.h"

#include "engine/base/thread.h"
#include "engine/sync/reclaim.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define THREADS_BATCH 16

struct threads {
    struct mixin mixin;
    struct crew *crew;
    struct worker_alone alone;
    pthread_mutex_t lock;       /* of all below */
    pthread_cond_t gone;        /* a thread is about to end */
    struct server_thread *live;
    size_t live_len;
    uint32_t started;
    struct tally ended;         /* of the threads that are gone */
};

struct server_thread {
    struct worker worker;
    struct threads *threads;
    struct connection *conn;
    struct server_thread *next;
    struct server_thread **link;
};

static struct threads *threads_of(struct mixin *mixin)
{
    return caa_container_of(mixin, struct threads, mixin);
}

static void enter_list(struct threads *threads, struct server_thread *thread)
{
    pthread_mutex_lock(&threads->lock);
    thread->worker.index = threads->started++;
    thread->next = threads->live;
    thread->link = &threads->live;
    if (threads->live)
        threads->live->link = &thread->next;
    threads->live = thread;
    threads->live_len++;
    pthread_mutex_unlock(&threads->lock);
}

/* Once the lock is free nothing of threads may be touched: destroy does not wait any longer. */
static void leave_list(struct threads *threads, struct server_thread *thread)
{
    pthread_mutex_lock(&threads->lock);
    *thread->link = thread->next;
    if (thread->next)
        thread->next->link = thread->link;
    tally_merge(&threads->ended, &thread->worker.tally);
    threads->live_len--;
    pthread_cond_signal(&threads->gone);
    pthread_mutex_unlock(&threads->lock);
}

static void free_thread(struct server_thread *thread)
{
    worker_fini_alone(&thread->worker);
    free(thread);
}

static void *server_thread_main(void *arg)
{
    struct server_thread *thread = arg;
    struct threads *threads = thread->threads;

    reclaim_thread_init();
    worker_serve_alone(&thread->worker, thread->conn, &threads->alone);
    reclaim_thread_fini();
    leave_list(threads, thread);
    free_thread(thread);
    return NULL;
}

static struct server_thread *create_thread(struct threads *threads,
                                           const struct accepted *accepted)
{
    struct server_thread *thread = aligned_alloc(_Alignof(struct server_thread), sizeof(*thread));

    if (!thread)
        return NULL;
    worker_init_alone(&thread->worker, threads->crew, 0);
    thread->threads = threads;
    thread->conn = accepted_to_connection(accepted, &threads->crew->table);
    if (thread->conn)
        return thread;
    free_thread(thread);
    return NULL;
}

static int threads_process(struct mixin *mixin, const struct accepted *accepted)
{
    struct threads *threads = threads_of(mixin);
    struct server_thread *thread = create_thread(threads, accepted);
    int r;

    if (!thread)
        return -ENOMEM;
    enter_list(threads, thread);
    r = thread_start_detached(server_thread_main, thread);
    if (r < 0) {
        accepted_disconnect(accepted, &threads->crew->table, thread->conn);
        leave_list(threads, thread);
        free_thread(thread);
    }
    return r;
}

static void threads_add_stats(struct mixin *mixin, struct weir_stats *sum, mixin_add_tally *add)
{
    struct threads *threads = threads_of(mixin);

    pthread_mutex_lock(&threads->lock);
    add(sum, &threads->ended);
    for (struct server_thread *thread = threads->live; thread; thread = thread->next)
        add(sum, &thread->worker.tally);
    sum->workers = threads->live_len;
    pthread_mutex_unlock(&threads->lock);
}

static void threads_free_locks(struct mixin *mixin)
{
    struct threads *threads = threads_of(mixin);

    pthread_mutex_init(&threads->lock, NULL);
    pthread_cond_init(&threads->gone, NULL);
}

static void threads_destroy(struct mixin *mixin)
{
    struct threads *threads = threads_of(mixin);

    pthread_mutex_lock(&threads->lock);
    while (threads->live_len > 0)
        pthread_cond_wait(&threads->gone, &threads->lock);
    pthread_mutex_unlock(&threads->lock);
    pthread_cond_destroy(&threads->gone);
    pthread_mutex_destroy(&threads->lock);
    free(threads);
}

int threads_create(const struct mixin_config *config, struct mixin **ret)
{
    struct threads *threads = aligned_alloc(_Alignof(struct threads), sizeof(*threads));

    if (!threads)
        return -ENOMEM;
    *threads = (struct threads){
        .mixin = {
            .prepare = mixin_needs_nothing, .process = threads_process, .reap = mixin_has_nobody,
            .add_stats = threads_add_stats, .add_roll = mixin_calls_nobody,
            .begin = mixin_needs_nothing, .end = mixin_has_nobody,
            .renew = mixin_has_nobody, .hand_on = mixin_has_nobody,
            .take_leave = mixin_has_nobody,
            .kill = mixin_has_nobody, .free_locks = threads_free_locks,
            .destroy = threads_destroy,
            .accepts_here = true, .hands_on = true, .ended_fd = -1, .batch = THREADS_BATCH,
            .shortage = "no thread can be had: raise RLIMIT_NPROC (ulimit -u), the "
                        "cgroup's pids.max or its memory, or the limits of memory (ulimit -v, -d), "
                        "or lower max_connections",
        },
        .crew = config->crew,
        .alone = config->alone,
    };
    threads->alone.lingers = true;
    pthread_mutex_init(&threads->lock, NULL);
    pthread_cond_init(&threads->gone, NULL);
    *ret = &threads->mixin;
    return 0;
}
