#include "engine/sync/reclaim.h"

#include "engine/base/clock.h"
#include "engine/base/compiler.h"
#include "engine/base/thread.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <urcu/list.h>
#include <urcu/static/urcu-memb.h>

/*
 * What is deferred within BATCH_MS shares a grace period. On a CPU that is short each wake-up of
 * the reclaimer costs the workers a turn that their clients wait for. But behind a batch of more
 * than BATCH_MANY the next one has BATCH_SHORT_MS: memory that is used again soon is in the CPU's
 * caches.
 */
#define BATCH_MS 100
#define BATCH_SHORT_MS 10
#define BATCH_MANY 64

/* A registered thread, by its place in liburcu's own list. */
struct reader {
    struct cds_list_head *place;
    struct reader *next;
    struct reader **link;
};

static _Thread_local unsigned registered;
static _Thread_local struct reader self;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;    /* of what follows; held across fork */
static struct reader *readers;  /* threads that are registered */
static unsigned users;          /* of the thread */
static pthread_t thread;        /* frees what is deferred; there while there are users */

static pthread_mutex_t grace = PTHREAD_MUTEX_INITIALIZER;   /* in a grace period; likewise */

static _Atomic(struct reclaim_head *) deferred;
static _Atomic bool running;    /* the thread does */
static sem_t work;              /* something is deferred, or the end */
static bool has_work;           /* under lock: it was initialized */

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

/* ------------------------------------------------------------------ the thread -------- */

/* Returns how many. */
static unsigned reclaim_all(struct reclaim_head *head)
{
    unsigned reclaimed = 0;

    pthread_mutex_lock(&grace);
    urcu_memb_synchronize_rcu();
    while (head) {
        struct reclaim_head *next = head->next;

        head->fn(head);
        head = next;
        reclaimed++;
    }
    pthread_mutex_unlock(&grace);
    return reclaimed;
}

/* Returns how many, too. */
static unsigned reclaim_deferred(void)
{
    /* seq_cst: the heads as they were put in; and behind the end, store buffering.
     * pairs: reclaim_defer() */
    struct reclaim_head *head = atomic_exchange_explicit(&deferred, NULL, memory_order_seq_cst);

    return head ? reclaim_all(head) : 0;
}

static bool is_running(void)
{
    /* seq_cst: the semaphore as it was made; and it is looked at again after something was put in
     * for the thread, store buffering. pairs: start_locked(), reclaim_stop() */
    return atomic_load_explicit(&running, memory_order_seq_cst);
}

/* Until so long has passed, or reclaim_stop() posts; a signal may end it early. */
static void gather_batch(unsigned batch_ms)
{
    struct timespec until = clock_timespec(clock_ms() + batch_ms);

    sem_clockwait(&work, CLOCK_MONOTONIC, &until);
}

static void *reclaimer_main(void *nothing)
{
    unsigned reclaimed = 0;

    (void)nothing;
    while (is_running()) {
        while (sem_wait(&work) < 0)
            ;
        if (is_running())
            gather_batch(reclaimed > BATCH_MANY ? BATCH_SHORT_MS : BATCH_MS);
        reclaimed = reclaim_deferred();
    }
    reclaim_deferred();
    return NULL;
}

/* A thread that has put something in and missed that frees it by itself. */
static void end_running(void)
{
    /* seq_cst: then the thread, or who finds none, looks what is there. pairs: is_running() */
    atomic_store_explicit(&running, false, memory_order_seq_cst);
    reclaim_deferred();
}

static int start_locked(void)
{
    int r;

    if (!has_work)
        sem_init(&work, 0, 0);
    has_work = true;
    /* seq_cst: the semaphore, to who defers. pairs: is_running() */
    atomic_store_explicit(&running, true, memory_order_seq_cst);
    r = thread_start(&thread, -1, reclaimer_main, NULL);
    if (r < 0)
        end_running();
    return r;
}

int reclaim_start(void)
{
    int r = 0;

    pthread_mutex_lock(&lock);
    if (users == 0)
        r = start_locked();
    if (r == 0)
        users++;
    pthread_mutex_unlock(&lock);
    return r;
}

void reclaim_stop(void)
{
    pthread_mutex_lock(&lock);
    if (--users == 0) {
        end_running();
        sem_post(&work);
        pthread_join(thread, NULL);
    }
    pthread_mutex_unlock(&lock);
}

/* ------------------------------------------------------------------ readers ----------- */

static void register_locked(void)
{
    urcu_memb_register_thread();
    self = (struct reader){ &URCU_TLS(urcu_memb_reader).node, readers, &readers };
    if (readers)
        readers->link = &self.next;
    readers = &self;
}

static void unregister_locked(void)
{
    *self.link = self.next;
    if (self.next)
        self.next->link = self.link;
    urcu_memb_unregister_thread();
}

void reclaim_thread_init(void)
{
    if (registered++ > 0)
        return;
    pthread_mutex_lock(&lock);
    register_locked();
    pthread_mutex_unlock(&lock);
}

void reclaim_thread_fini(void)
{
    if (--registered > 0)
        return;
    pthread_mutex_lock(&lock);
    unregister_locked();
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

/* For the thread, which is woken for the first of a batch. */
static void put_waiting(struct reclaim_head *head)
{
    /* seq_cst: the head, to the thread that takes it; then a look whether the reclaimer is still
     * there; store buffering. pairs: reclaim_deferred() */
    struct reclaim_head *first = atomic_load_explicit(&deferred, memory_order_relaxed);
    do
        head->next = first;
    while (!atomic_compare_exchange_weak_explicit(&deferred, &first, head, memory_order_seq_cst,
                                                  memory_order_relaxed));
    if (!first)
        sem_post(&work);
    if (WEIR_UNLIKELY(!is_running()))
        reclaim_deferred();
}

void reclaim_defer(struct reclaim_head *head, void (*fn)(struct reclaim_head *head))
{
    GRACE_RELEASE();
    head->fn = fn;
    head->next = NULL;
    if (WEIR_LIKELY(is_running()))
        put_waiting(head);
    else
        reclaim_all(head);
}

void reclaim_settle(void)
{
    GRACE_ACQUIRE();
}

/* ------------------------------------------------------------------ fork(2) ----------- */

void reclaim_before_fork(void)
{
    pthread_mutex_lock(&lock);
    pthread_mutex_lock(&grace);
}

void reclaim_after_fork(void)
{
    pthread_mutex_unlock(&grace);
    pthread_mutex_unlock(&lock);
}

/*
 * A child has only the thread that forked, but liburcu would go on to look at all that were
 * registered: at their thread-local memory, in stacks that glibc gives to the child's new threads.
 * Nobody is in a grace period, so all of them stand in its one list.
 */
static void forget_other_readers(void)
{
    for (struct reader *reader = readers; reader; reader = reader->next)
        if (reader != &self)
            cds_list_del(reader->place);
    readers = NULL;
    if (registered == 0)
        return;
    self.next = NULL;
    self.link = &readers;
    readers = &self;
}

void reclaim_after_fork_in_child(void)
{
    forget_other_readers();
    users = 0;
    /* relaxed: nobody else is there. What was deferred has its readers in the parent, and is a
     * copy's that goes on there. pairs: none */
    atomic_store_explicit(&running, false, memory_order_relaxed);
    atomic_store_explicit(&deferred, NULL, memory_order_relaxed);
    reclaim_after_fork();
}
