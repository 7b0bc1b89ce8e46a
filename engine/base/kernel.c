#include "engine/base/kernel.h"

#include "engine/base/why.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A first argument that every call below refuses by itself, without having done anything. */
#define WRONG (-1)

/* The others are right, though nobody looks at them, but valgrind does before the kernel. */
static struct msghdr message;
static socklen_t address_len;
#define DELETE ((void *)EPOLL_CTL_DEL)

/* The calls that serve. */
static const struct call {
    const char *name;
    long number;
    void *second;
    void *third;
} calls[] = {
    { "epoll_create1", SYS_epoll_create1, NULL, NULL },
    { "epoll_ctl", SYS_epoll_ctl, DELETE, NULL },
    { "epoll_pwait", SYS_epoll_pwait, NULL, NULL },
    { "accept4", SYS_accept4, NULL, NULL },
    { "recvfrom", SYS_recvfrom, NULL, NULL },
    { "recvmsg", SYS_recvmsg, &message, NULL },
    { "recvmmsg", SYS_recvmmsg, NULL, NULL },
    { "sendto", SYS_sendto, NULL, NULL },
    { "sendmsg", SYS_sendmsg, &message, NULL },
    { "sendmmsg", SYS_sendmmsg, NULL, NULL },
    { "shutdown", SYS_shutdown, NULL, NULL },
    { "getsockname", SYS_getsockname, &message, &address_len },
    { "getsockopt", SYS_getsockopt, NULL, NULL },
};

/* Only these errors are a policy's, or an old kernel's. */
static int refusal(const struct call *call)
{
    if (syscall(call->number, WRONG, call->second, call->third, 0, 0, 0) >= 0)
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
