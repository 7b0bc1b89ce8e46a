#include "engine/kernel.h"

#include "engine/why.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A first argument that every call below refuses by itself, without having done anything. */
#define WRONG (-1)

/* And a second one, which is a command to some, and looked at by none before the first. */
#define OTHER 2

/* The calls that serve. */
static const struct call {
    const char *name;
    long number;
    int error;                  /* what it says to WRONG if it is allowed */
} calls[] = {
    { "epoll_create1", SYS_epoll_create1, EINVAL },
    { "epoll_ctl", SYS_epoll_ctl, EBADF },
    { "epoll_pwait", SYS_epoll_pwait, EBADF },
    { "accept4", SYS_accept4, EBADF },
    { "recvfrom", SYS_recvfrom, EBADF },
    { "recvmsg", SYS_recvmsg, EBADF },
    { "recvmmsg", SYS_recvmmsg, EBADF },
    { "sendto", SYS_sendto, EBADF },
    { "sendmsg", SYS_sendmsg, EBADF },
    { "sendmmsg", SYS_sendmmsg, EBADF },
    { "shutdown", SYS_shutdown, EBADF },
    { "getsockname", SYS_getsockname, EBADF },
    { "getsockopt", SYS_getsockopt, EBADF },
};

/*
 * A kernel may look at other arguments first; only these errors are a policy's, or an old kernel's.
 */
static int refusal(const struct call *call)
{
    if (syscall(call->number, WRONG, OTHER, 0, 0, 0, 0) >= 0 || errno == call->error)
        return 0;
    return errno == ENOSYS || errno == EPERM || errno == EACCES ? -errno : 0;
}

int kernel_check(char *why, size_t why_size)
{
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        int r = refusal(&calls[i]);

        if (r < 0)
            return why_set(why, why_size, r, "the system call %s is refused here, by a sandbox or "
                           "an old kernel, and nobody can be served without it: %s", calls[i].name,
                           strerrordesc_np(-r));
    }
    return 0;
}
