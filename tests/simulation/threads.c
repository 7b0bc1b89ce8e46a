/*
 * threads.c - what the C library and liburcu have for threads, for simulated ones.
 *
 * A lock that is taken twice by its owner, or let go by somebody else, ends the run, and so does
 * one that goes while somebody has it.
 */
#include "tests/simulation/threads.h"

#include "tests/simulation/report.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/trace.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <urcu/static/urcu-memb.h>
#include <urcu/urcu-memb.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

static struct threads_faults faults;

void threads_inject(const struct threads_faults *wanted)
{
    faults = *wanted;
}

/* ------------------------------------------------------------------ threads ----------- */

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*main)(void *),
                          void *arg)
{
    int detached = PTHREAD_CREATE_JOINABLE;
    int thread;

    scheduler_point_call();
    if (dice_once_in(scheduler_dice(), faults.create_in)) {
        trace_note("thread", scheduler_self(), "pthread_create: EAGAIN", 0, 0, 0);
        return EAGAIN;
    }
    if (attr)
        pthread_attr_getdetachstate(attr, &detached);
    thread = scheduler_start(main, arg, detached == PTHREAD_CREATE_DETACHED);
    if (thread < 0)
        return EAGAIN;
    *ret = (pthread_t)thread + 1;
    trace_note("thread", scheduler_self(), "pthread_create: %ld", thread, 0, 0);
    scheduler_point_call();
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **ret)
{
    void *result;

    scheduler_point_call();
    result = scheduler_join((unsigned)thread - 1);
    if (ret)
        *ret = result;
    return 0;
}

pthread_t __wrap_pthread_self(void)
{
    return scheduler_self() + 1;
}

int __wrap_pthread_getcpuclockid(pthread_t thread, clockid_t *ret)
{
    (void)thread;
    *ret = CLOCK_THREAD_CPUTIME_ID;
    return 0;
}

pid_t __wrap_gettid(void)
{
    return (pid_t)scheduler_self() + 100;
}

/* No thread has a stack that the C library knows. */
int __wrap_pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes)
{
    (void)thread;
    (void)attributes;
    return ENOSYS;
}

int __wrap_sched_yield(void)
{
    scheduler_yield();
    return 0;
}

int __wrap_pthread_sigmask(int what, const sigset_t *set, sigset_t *ret)
{
    (void)what;
    (void)set;
    if (ret)
        sigemptyset(ret);
    return 0;
}

int __wrap_sigaction(int number, const struct sigaction *action, struct sigaction *ret)
{
    (void)number;
    (void)action;
    if (ret)
        memset(ret, 0, sizeof(*ret));
    return 0;
}

int __wrap_sigaltstack(const stack_t *stack, stack_t *ret)
{
    (void)stack;
    if (ret)
        *ret = (stack_t){ .ss_flags = SS_DISABLE };
    return 0;
}

int __wrap_pthread_atfork(void (*before)(void), void (*parent)(void), void (*child)(void))
{
    (void)before;
    (void)parent;
    (void)child;
    return 0;
}

/* ------------------------------------------------------------------ locks ------------- */

/* In the place of what glibc keeps there: zeroed, it is free. */
struct lock {
    unsigned owner;             /* a thread's number and one; 0: nobody */
};

static struct lock *lock_of(pthread_mutex_t *mutex)
{
    return (struct lock *)(void *)mutex;
}

static void take_lock(pthread_mutex_t *mutex)
{
    struct lock *lock = lock_of(mutex);

    if (lock->owner == scheduler_self() + 1)
        report_failure("a thread takes a lock that it has");
    while (lock->owner != 0)
        scheduler_block(mutex, SCHEDULER_NEVER);
    lock->owner = scheduler_self() + 1;
}

static void drop_lock(pthread_mutex_t *mutex)
{
    struct lock *lock = lock_of(mutex);

    if (lock->owner != scheduler_self() + 1)
        report_failure("a thread lets a lock go that it does not have");
    lock->owner = 0;
    scheduler_wake(mutex, true);
}

int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
    (void)attr;
    memset(mutex, 0, sizeof(*mutex));
    return 0;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    if (lock_of(mutex)->owner != 0)
        report_failure("a lock is destroyed that somebody has");
    return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    scheduler_point_call();
    take_lock(mutex);
    scheduler_point_call();
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    scheduler_point_call();
    drop_lock(mutex);
    scheduler_point_call();
    return 0;
}

int __wrap_pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr)
{
    (void)attr;
    memset(cond, 0, sizeof(*cond));
    return 0;
}

int __wrap_pthread_cond_destroy(pthread_cond_t *cond)
{
    (void)cond;
    return 0;
}

static uint64_t as_ns(const struct timespec *time)
{
    return (uint64_t)time->tv_sec * 1000 * MS_NS + (uint64_t)time->tv_nsec;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *until)
{
    uint64_t until_ns = until ? as_ns(until) : SCHEDULER_NEVER;
    bool woken;

    drop_lock(mutex);
    /* Spurious wake-ups are allowed, and every caller has to look again. */
    if (dice_once_in(scheduler_dice(), faults.spurious_in)) {
        scheduler_yield();
        woken = true;
    } else {
        woken = scheduler_block(cond, until_ns);
    }
    take_lock(mutex);
    return woken ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    return __wrap_pthread_cond_timedwait(cond, mutex, NULL);
}

int __wrap_pthread_cond_signal(pthread_cond_t *cond)
{
    scheduler_point_call();
    scheduler_wake(cond, false);
    scheduler_point_call();
    return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *cond)
{
    scheduler_point_call();
    scheduler_wake(cond, true);
    scheduler_point_call();
    return 0;
}

/* ------------------------------------------------------------------ semaphores -------- */

static unsigned *count_of(sem_t *sem)
{
    return (unsigned *)(void *)sem;
}

int __wrap_sem_init(sem_t *sem, int shared, unsigned value)
{
    (void)shared;
    memset(sem, 0, sizeof(*sem));
    *count_of(sem) = value;
    return 0;
}

int __wrap_sem_post(sem_t *sem)
{
    scheduler_point_call();
    ++*count_of(sem);
    scheduler_wake(sem, false);
    scheduler_point_call();
    return 0;
}

static int wait_for(sem_t *sem, uint64_t until_ns)
{
    scheduler_point_call();
    if (dice_once_in(scheduler_dice(), faults.interrupt_in)) {
        errno = EINTR;
        return -1;
    }
    while (*count_of(sem) == 0)
        if (!scheduler_block(sem, until_ns)) {
            errno = ETIMEDOUT;
            return -1;
        }
    --*count_of(sem);
    return 0;
}

int __wrap_sem_wait(sem_t *sem)
{
    return wait_for(sem, SCHEDULER_NEVER);
}

int __wrap_sem_clockwait(sem_t *sem, clockid_t clock, const struct timespec *until)
{
    (void)clock;
    return wait_for(sem, as_ns(until));
}

/* ------------------------------------------------------------------ RCU --------------- */

/* engine/sync/reclaim.c notes where liburcu keeps a thread's reader; nothing else is there. */
DEFINE_URCU_TLS(struct urcu_reader, urcu_memb_reader);

static struct {
    unsigned depth;             /* of read-side sections */
    uint64_t entered;           /* counts the outermost ones */
    bool registered;
} readers[SCHEDULER_THREADS];

void urcu_memb_register_thread(void)
{
    if (readers[scheduler_self()].registered)
        report_failure("a thread registers twice as a reader");
    readers[scheduler_self()].registered = true;
}

void urcu_memb_unregister_thread(void)
{
    readers[scheduler_self()].registered = false;
}

void urcu_memb_read_lock(void)
{
    unsigned self = scheduler_self();

    if (!readers[self].registered)
        report_failure("a thread reads that is not registered");
    readers[self].entered += readers[self].depth++ == 0;
    scheduler_point_call();
}

void urcu_memb_read_unlock(void)
{
    unsigned self = scheduler_self();

    scheduler_point_call();
    if (readers[self].depth-- == 0)
        report_failure("a thread leaves a section that it is not in");
    if (readers[self].depth == 0)
        scheduler_wake(&readers[self], true);
}

/* Each section that has begun by now ends. */
void urcu_memb_synchronize_rcu(void)
{
    uint64_t seen[SCHEDULER_THREADS];

    scheduler_point_call();
    for (unsigned i = 0; i < SCHEDULER_THREADS; i++)
        seen[i] = readers[i].depth > 0 ? readers[i].entered : 0;
    for (unsigned i = 0; i < SCHEDULER_THREADS; i++)
        while (seen[i] != 0 && readers[i].depth > 0 && readers[i].entered == seen[i])
            scheduler_block(&readers[i], SCHEDULER_NEVER);
}
