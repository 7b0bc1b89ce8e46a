#include "engine/pool/offload.h"

#include "engine/base/thread.h"
#include "engine/fiber/crash.h"
#include "engine/pool/worker.h"
#include "engine/sync/inbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

/* A thread without a job ends after LINGER_S seconds. */
#define LINGER_S 5

struct job {
    struct message done;        /* to the task's worker */
    struct task *task;
    int (*fn)(void *arg);
    void *arg;
    int result;
    struct job *next;
};

struct offload {
    pthread_mutex_t lock;       /* of all below */
    pthread_cond_t work;        /* a job has come, or the end */
    pthread_cond_t gone;        /* a thread has ended */
    struct job *first;
    struct job **last;
    _Atomic unsigned waiting;   /* jobs that no thread has taken; anybody reads it */
    _Atomic unsigned threads;   /* so is this one read */
    unsigned threads_max;
    unsigned idle;              /* threads that wait for a job */
    bool ending;
};

static _Thread_local const struct offload *self_offload;
static _Thread_local const struct task *self_task;

const struct offload *offload_self(void)
{
    return self_offload;
}

const struct task *offload_task_self(void)
{
    return self_task;
}

unsigned offload_waiting(const struct offload *offload)
{
    /* relaxed: a count; the lock orders it for who changes it. pairs: add_locked() */
    return atomic_load_explicit(&offload->waiting, memory_order_relaxed);
}

unsigned offload_threads(const struct offload *offload)
{
    /* relaxed: a count; the lock orders it for who changes it. pairs: add_locked() */
    return atomic_load_explicit(&offload->threads, memory_order_relaxed);
}

/* To a count that only holders of the lock change. */
static void add_locked(_Atomic unsigned *count, int n)
{
    /* relaxed: who decides by it holds the lock. pairs: offload_waiting(), offload_threads() */
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + (unsigned)n,
                          memory_order_relaxed);
}

struct offload *offload_create(unsigned threads_max)
{
    struct offload *offload = calloc(1, sizeof(*offload));
    pthread_condattr_t monotonic;

    if (!offload)
        return NULL;
    offload->threads_max = threads_max;
    offload->last = &offload->first;
    pthread_mutex_init(&offload->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&offload->work, &monotonic);
    pthread_cond_init(&offload->gone, NULL);
    pthread_condattr_destroy(&monotonic);
    return offload;
}

void offload_destroy(struct offload *offload)
{
    if (!offload)
        return;
    pthread_mutex_lock(&offload->lock);
    offload->ending = true;
    pthread_cond_broadcast(&offload->work);
    while (offload_threads(offload) > 0)
        pthread_cond_wait(&offload->gone, &offload->lock);
    pthread_mutex_unlock(&offload->lock);
    pthread_cond_destroy(&offload->gone);
    pthread_cond_destroy(&offload->work);
    pthread_mutex_destroy(&offload->lock);
    free(offload);
}

static void deliver_done(struct worker *worker, struct message *message)
{
    (void)worker;
    task_unpark(caa_container_of(message, struct job, done)->task, 0);
}

/* The next job, or NULL when none has come for a while. Locked. */
static struct job *next_job_locked(struct offload *offload)
{
    struct timespec until;
    struct job *job;
    int r = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LINGER_S;
    while (!offload->first && !offload->ending && r == 0) {
        offload->idle++;
        r = pthread_cond_timedwait(&offload->work, &offload->lock, &until);
        offload->idle--;
    }
    job = offload->first;
    if (!job)
        return NULL;
    offload->first = job->next;
    if (!offload->first)
        offload->last = &offload->first;
    add_locked(&offload->waiting, -1);
    return job;
}

static void *offload_thread_main(void *arg)
{
    struct offload *offload = arg;
    struct job *job;

    self_offload = offload;
    crash_set_role("a thread for what handlers offload");
    pthread_mutex_lock(&offload->lock);
    while ((job = next_job_locked(offload))) {
        struct worker *worker = job->task->worker;

        pthread_mutex_unlock(&offload->lock);
        self_task = job->task;
        job->result = job->fn(job->arg);
        self_task = NULL;
        /* The job is the fiber's again, and may be gone at once. */
        worker_tell(worker, &job->done);
        pthread_mutex_lock(&offload->lock);
    }
    add_locked(&offload->threads, -1);
    pthread_cond_signal(&offload->gone);
    pthread_mutex_unlock(&offload->lock);
    return NULL;
}

static int start_thread_locked(struct offload *offload)
{
    if (thread_start_detached(offload_thread_main, offload) < 0)
        return -EAGAIN;
    add_locked(&offload->threads, 1);
    return 0;
}

static int submit_job(struct offload *offload, struct job *job)
{
    int r = 0;

    pthread_mutex_lock(&offload->lock);
    if (offload_waiting(offload) >= offload->idle &&
        offload_threads(offload) < offload->threads_max)
        r = start_thread_locked(offload);
    /* With a thread there, be it a busy one, the job will have its turn. */
    if (offload_threads(offload) > 0) {
        r = 0;
        *offload->last = job;
        offload->last = &job->next;
        add_locked(&offload->waiting, 1);
        pthread_cond_signal(&offload->work);
    }
    pthread_mutex_unlock(&offload->lock);
    return r;
}

int offload_run(struct offload *offload, struct task *task, int (*fn)(void *arg), void *arg)
{
    struct job job = { .done.deliver = deliver_done, .task = task, .fn = fn, .arg = arg };
    int r;

    /* On the worker's own stack nothing else could run meanwhile. */
    if (!task->fiber)
        return fn(arg);
    task_begin_awaiting(task);
    r = submit_job(offload, &job);
    if (r < 0)
        return r;
    task_await(task);
    return job.result;
}
