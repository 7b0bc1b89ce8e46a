#include "engine/modes/process.h"

#include "engine/base/compiler.h"
#include "engine/fiber/overflow.h"
#include "engine/fiber/stack.h"
#include "engine/fiber/trace.h"
#include "engine/modes/turn.h"
#include "engine/sync/reclaim.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;    /* of what follows; held across fork */
static bool initialized;
static struct process_heir *heirs;

static _Atomic uint32_t forks;
static _Atomic pid_t self;      /* a fork alone changes it */
static _Thread_local bool ours; /* the fork that is on */

#if WEIR_TSAN
/*
 * What threads did that the child does not have can't race with it, but ThreadSanitizer keeps it.
 */
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#define WITHOUT_THE_OTHERS_BEGIN() AnnotateIgnoreWritesBegin(__FILE__, __LINE__)
#define WITHOUT_THE_OTHERS_END() AnnotateIgnoreWritesEnd(__FILE__, __LINE__)
#else
#define WITHOUT_THE_OTHERS_BEGIN() ((void)0)
#define WITHOUT_THE_OTHERS_END() ((void)0)
#endif

static void count_fork(void)
{
    /* relaxed: a thread that asks was there, or has the server from one that was.
     * pairs: process_forks() */
    atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
}

static void before(void)
{
    pthread_mutex_lock(&lock);
    reclaim_before_fork();
    turn_before_fork();
    overflow_before_fork();
    trace_before_fork();
    stack_before_fork();
}

static void after_in_parent(void)
{
    stack_after_fork();
    trace_after_fork();
    overflow_after_fork();
    turn_after_fork();
    reclaim_after_fork();
    pthread_mutex_unlock(&lock);
    if (!ours)
        count_fork();
}

static void note_self(void)
{
    /* relaxed: as above. pairs: process_self() */
    atomic_store_explicit(&self, getpid(), memory_order_relaxed);
}

static void after_in_child(void)
{
    stack_after_fork();
    trace_after_fork_in_child();
    overflow_after_fork();
    turn_after_fork_in_child();
    reclaim_after_fork_in_child();
    note_self();
    count_fork();
    WITHOUT_THE_OTHERS_BEGIN();
    for (struct process_heir *heir = heirs; heir; heir = heir->next)
        heir->in_child(heir);
    WITHOUT_THE_OTHERS_END();
    pthread_mutex_unlock(&lock);
}

int process_init(void)
{
    int r = 0;

    pthread_mutex_lock(&lock);
    note_self();
    if (!initialized)
        r = pthread_atfork(before, after_in_parent, after_in_child);
    initialized = r == 0;
    pthread_mutex_unlock(&lock);
    return -r;
}

void process_add_heir(struct process_heir *heir)
{
    pthread_mutex_lock(&lock);
    heir->next = heirs;
    heir->link = &heirs;
    if (heirs)
        heirs->link = &heir->next;
    heirs = heir;
    pthread_mutex_unlock(&lock);
}

void process_remove_heir(struct process_heir *heir)
{
    pthread_mutex_lock(&lock);
    if (heir->link)
        *heir->link = heir->next;
    if (heir->next)
        heir->next->link = heir->link;
    pthread_mutex_unlock(&lock);
}

pid_t process_fork(void)
{
    pid_t pid;

    ours = true;
    pid = fork();
    ours = false;
    return pid;
}

pid_t process_self(void)
{
    /* relaxed: nobody is there beside the fork that changes it. pairs: note_self() */
    return atomic_load_explicit(&self, memory_order_relaxed);
}

uint32_t process_forks(void)
{
    /* relaxed: see count_fork(). pairs: count_fork() */
    return atomic_load_explicit(&forks, memory_order_relaxed);
}
