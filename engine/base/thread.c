#include "engine/base/thread.h"

#include "engine/base/cpulist.h"

#include <errno.h>
#include <signal.h>

/* What an instruction raises in its own thread; and abort(): before glibc 2.41 it unblocks it. */
static void leave_out_faults(sigset_t *mask)
{
    sigdelset(mask, SIGSEGV);
    sigdelset(mask, SIGBUS);
    sigdelset(mask, SIGFPE);
    sigdelset(mask, SIGILL);
    sigdelset(mask, SIGTRAP);
    sigdelset(mask, SIGSYS);
    sigdelset(mask, SIGABRT);
}

static int start(pthread_t *ret_thread, pthread_attr_t *attr, void *(*main)(void *arg), void *arg)
{
    sigset_t mask;
    int r;

    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    leave_out_faults(&mask);
    r = pthread_attr_setsigmask_np(attr, &mask);
    if (r == 0)
        r = pthread_create(ret_thread, attr, main, arg);
    return -r;
}

static int bind_to(pthread_attr_t *attr, int cpu)
{
    size_t size;
    cpu_set_t *set = cpulist_set_of(cpu, &size);
    int r;

    if (!set)
        return -ENOMEM;
    r = pthread_attr_setaffinity_np(attr, size, set);
    CPU_FREE(set);
    return -r;
}

int thread_start(pthread_t *ret_thread, int cpu, void *(*main)(void *arg), void *arg)
{
    pthread_attr_t attr;
    int r;

    pthread_attr_init(&attr);
    r = cpu >= 0 ? bind_to(&attr, cpu) : 0;
    if (r == 0)
        r = start(ret_thread, &attr, main, arg);
    pthread_attr_destroy(&attr);
    return r;
}

int thread_start_detached(void *(*main)(void *arg), void *arg)
{
    pthread_attr_t attr;
    pthread_t thread;
    int r;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    r = start(&thread, &attr, main, arg);
    pthread_attr_destroy(&attr);
    return r;
}
