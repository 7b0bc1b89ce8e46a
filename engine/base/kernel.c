#include "engine/base/kernel.h"

#include "engine/base/why.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * Arguments that a call refuses by itself, without having done anything: a descriptor, process or
 * way that there is not, unless something else is wrong. The others are right, though nobody looks
 * at them, but valgrind does before the kernel.
 */
#define WRONG ((void *)-1)
#define WRONG_FLAGS ((void *)-1)
#define DELETE ((void *)EPOLL_CTL_DEL)
static struct msghdr message;
static socklen_t address_len;
static siginfo_t end;

/* What the C library calls for epoll_wait(3) and poll(3): the older ones where there are any. */
#ifdef SYS_epoll_wait
#define EPOLL_WAIT "epoll_wait", SYS_epoll_wait
#else
#define EPOLL_WAIT "epoll_pwait", SYS_epoll_pwait
#endif
#ifdef SYS_poll
#define POLL_NOBODY "poll", SYS_poll, NULL, NULL, NULL
#else
static struct timespec at_once;
#define POLL_NOBODY "ppoll", SYS_ppoll, NULL, NULL, &at_once
#endif

/* The fourth argument, always 0, is the size of a set of signals, which is wrong. */
#define SIGNAL_CALL(name) #name, SYS_##name
static sigset_t signals;

/* Signals can't be shared without memory. Flags of namespaces would be a container's to refuse. */
#define SIGNALS_ALONE ((void *)CLONE_SIGHAND)

struct call {
    const char *name;
    long number;
    void *first;
    void *second;
    void *third;
};

/* The calls that serve. */
static const struct call calls[] = {
    { "epoll_create1", SYS_epoll_create1, WRONG_FLAGS, NULL, NULL },
    { "epoll_ctl", SYS_epoll_ctl, WRONG, DELETE, NULL },
    { EPOLL_WAIT, WRONG, NULL, NULL },
    { POLL_NOBODY },
    { "eventfd2", SYS_eventfd2, NULL, WRONG_FLAGS, NULL },
    { "read", SYS_read, WRONG, NULL, NULL },
    { "write", SYS_write, WRONG, NULL, NULL },
    { "accept4", SYS_accept4, WRONG, NULL, NULL },
    { "recvfrom", SYS_recvfrom, WRONG, NULL, NULL },
    { "recvmsg", SYS_recvmsg, WRONG, &message, NULL },
    { "recvmmsg", SYS_recvmmsg, WRONG, NULL, NULL },
    { "sendto", SYS_sendto, WRONG, NULL, NULL },
    { "sendmsg", SYS_sendmsg, WRONG, &message, NULL },
    { "sendmmsg", SYS_sendmmsg, WRONG, NULL, NULL },
    { "shutdown", SYS_shutdown, WRONG, NULL, NULL },
    { "getsockname", SYS_getsockname, WRONG, &message, &address_len },
    { "getsockopt", SYS_getsockopt, WRONG, NULL, NULL },
    { "prlimit64", SYS_prlimit64, WRONG, NULL, NULL },
    { "tgkill", SYS_tgkill, WRONG, NULL, NULL },
    { SIGNAL_CALL(rt_sigprocmask), WRONG, NULL, NULL },
    { SIGNAL_CALL(rt_sigtimedwait), &signals, NULL, NULL },
};

/* And those by which children serve. */
static const struct call calls_of_children[] = {
    { "waitid", SYS_waitid, WRONG, NULL, &end },
    { "clone", SYS_clone, SIGNALS_ALONE, NULL, NULL },
};

/* Only these errors are a policy's, or an old kernel's. */
static int refusal(const struct call *call)
{
    if (syscall(call->number, call->first, call->second, call->third, 0, 0, 0) >= 0)
        return 0;
    return errno == ENOSYS || errno == EPERM || errno == EACCES ? -errno : 0;
}

static int check(const struct call *list, size_t len, char *why, size_t why_size)
{
    for (size_t i = 0; i < len; i++) {
        int r = refusal(&list[i]);

        if (r < 0)
            return why_set(why, why_size, r, "the system call %s is refused here, by a sandbox or "
                           "an old kernel, and nobody can be served without it: %s", list[i].name,
                           strerrordesc_np(-r));
    }
    return 0;
}

int kernel_check(bool forks, char *why, size_t why_size)
{
    int r = check(calls, sizeof(calls) / sizeof(calls[0]), why, why_size);

    if (r == 0 && forks)
        r = check(calls_of_children, sizeof(calls_of_children) / sizeof(calls_of_children[0]), why,
                  why_size);
    return r;
}
