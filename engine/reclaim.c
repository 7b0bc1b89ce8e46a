#include "engine/reclaim.h"

#include "engine/compiler.h"
#include "engine/thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

static _Thread_local unsigned registered;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;    /* of what follows; held across fork */
static unsigned readers;        /* threads that are registered */
static bool started;            /* liburcu's thread, by us */

#if WEIR_TSAN
#include <sanitizer/tsan_interface.h>
/* One address stands for "all readers so far": exit and defer release it, settle acquires it. */
static char grace_period;
#define GRACE_RELEASE() __tsan_release(&grace_period)
#define GRACE_ACQUIRE() __tsan_acquire(&grace_period)
#else
#define GRACE_RELEASE() ((void)0)
#define GRACE_ACQUIRE() ((void)0)
#endif

static void *end_at_once(void *nothing)
{
    return nothing;
}

/* Could a thread be had now? */
static int try_thread(void)
{
    pthread_t thread;
    int r = thread_start(&thread, -1, end_at_once, NULL);

    if (r == 0)
        pthread_join(thread, NULL);
    return r;
}

/* With every signal blocked, as all of our threads. */
static void make_reclaimer(void)
{
    sigset_t all;
    sigset_t before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    urcu_memb_get_default_call_rcu_data();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

int reclaim_start(void)
{
    int r = 0;

    pthread_mutex_lock(&lock);
    if (!started) {
        r = try_thread();
        if (r == 0)
            make_reclaimer();
        started = r == 0;
    }
    pthread_mutex_unlock(&lock);
    return r;
}

void reclaim_thread_init(void)
{
    if (registered++ > 0)
        return;
    pthread_mutex_lock(&lock);
    urcu_memb_register_thread();
    readers++;
    pthread_mutex_unlock(&lock);
}

void reclaim_thread_fini(void)
{
    if (--registered > 0)
        return;
    pthread_mutex_lock(&lock);
    urcu_memb_unregister_thread();
    readers--;
    pthread_mutex_unlock(&lock);
}

void reclaim_enter(void)
{
    urcu_memb_read_lock();
}

void reclaim_exit(void)
{
    GRACE_RELEASE();
    urcu_memb_read_unlock();
}

void reclaim_defer(struct reclaim_head *head, void (*fn)(struct reclaim_head *head))
{
    GRACE_RELEASE();
    urcu_memb_call_rcu(head, fn);
}

void reclaim_settle(void)
{
    GRACE_ACQUIRE();
}

/* ------------------------------------------------------------------ fork(2) ----------- */

/*
 * A child has only the thread that forked, but liburcu would go on to look at all that were
 * registered: at their thread-local memory, in stacks that glibc gives to the child's new threads.
 */
int reclaim_before_fork(void)
{
    pthread_mutex_lock(&lock);
    if (readers > (registered > 0)) {
        pthread_mutex_unlock(&lock);
        return -EPERM;
    }
    urcu_memb_call_rcu_before_fork();
    return 0;
}

void reclaim_after_fork(void)
{
    urcu_memb_call_rcu_after_fork_parent();
    pthread_mutex_unlock(&lock);
}

void reclaim_after_fork_in_child(void)
{
    pthread_mutex_unlock(&lock);
    urcu_memb_call_rcu_after_fork_child();
}
