/*
 * calls.c - the engine's calls, as ld's --wrap has them (BUILD lists them), and the two that it
 * makes without the C library.
 */
#include "tests/faults/plan.h"
#include "tests/hostile_syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * What a kernel says falsely is no fault of a machine, and left out: EAGAIN of an accept or a read
 * would break a promise, for no edge follows it. tests/simulation has such kernels.
 */
const struct call_kind call_kinds[CALLS] = {
    [ACCEPT4] = { "accept4", { EINTR, ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM,
                               EPROTO, ENETDOWN } },
    [ALIGNED_ALLOC] = { "aligned_alloc", { ENOMEM } },
    [BIND] = { "bind", { EADDRINUSE, EACCES, ENOMEM } },
    [CALLOC] = { "calloc", { ENOMEM } },
    [CHMOD] = { "fchmodat", { EPERM, EROFS } },
    [CHOWN] = { "fchownat", { EPERM, EROFS } },
    [CONNECT] = { "connect", { ECONNREFUSED, EAGAIN, EADDRNOTAVAIL, ENETUNREACH, EPERM } },
    [EPOLL_CREATE1] = { "epoll_create1", { EMFILE, ENFILE, ENOMEM } },
    [EPOLL_CTL] = { "epoll_ctl", { ENOMEM, ENOSPC } },
    [EPOLL_WAIT] = { "epoll_wait", { EINTR } },
    [EVENTFD] = { "eventfd", { EMFILE, ENFILE, ENOMEM } },
    [FCNTL] = { "fcntl", { EMFILE, EPERM } },
    [FDOPEN] = { "fdopen", { ENOMEM } },
    [FOPEN] = { "fopen", { EMFILE, ENOENT, EACCES } },
    [FORK] = { "fork", { EAGAIN, ENOMEM } },
    [FSTAT] = { "fstat", { ENOMEM } },
    [GETPEERNAME] = { "getpeername", { ENOTCONN, ENOBUFS } },
    [GETRANDOM] = { "getrandom", { ENOSYS, EINTR } },
    [GETRLIMIT] = { "getrlimit", { EPERM } },
    [GETSOCKNAME] = { "getsockname", { ENOBUFS } },
    [GETSOCKOPT] = { "getsockopt", { ENOPROTOOPT, ENOMEM } },
    [IOCTL] = { "ioctl", { EINVAL } },
    [LISTEN] = { "listen", { EADDRINUSE } },
    [LSTAT] = { "lstat", { EACCES, ENOMEM } },
    [MADVISE] = { "madvise", { EINVAL, ENOMEM } },
    [MALLOC] = { "malloc", { ENOMEM } },
    [MMAP] = { "mmap", { ENOMEM } },
    [MPROTECT] = { "mprotect", { ENOMEM } },
    [OPEN] = { "open", { EMFILE, ENFILE, ENOENT, EACCES, EINTR } },
    [PIDFD_OPEN] = { "pidfd_open", { EMFILE, ENFILE, ENOMEM } },
    [POLL] = { "poll", { EINTR, ENOMEM } },
    [PREAD] = { "pread", { EINTR, EIO } },
    [PTHREAD_CREATE] = { "pthread_create", { EAGAIN, EPERM } },
    [READ] = { "read", { EINTR } },
    [REALLOC] = { "realloc", { ENOMEM } },
    [REALLOCARRAY] = { "reallocarray", { ENOMEM } },
    [RECVFROM] = { "recvfrom", { EINTR, ECONNRESET, ENOMEM, ETIMEDOUT } },
    [RECVMMSG] = { "recvmmsg", { EINTR, ECONNREFUSED, ENOMEM } },
    [RECVMSG] = { "recvmsg", { EINTR, ECONNRESET, ENOMEM } },
    [SCHED_GETAFFINITY] = { "sched_getaffinity", { ENOSYS, EPERM } },
    [SENDFILE] = { "sendfile", { EINTR, EINVAL, EIO, ENOMEM, ECONNRESET, ENOSYS } },
    [SENDMMSG] = { "sendmmsg", { EINTR, EPERM, ECONNREFUSED, ENOBUFS } },
    [SENDMSG] = { "sendmsg", { EINTR, EPIPE, ECONNRESET, ENOBUFS, ENOMEM } },
    [SENDTO] = { "sendto", { EINTR, EPIPE, ECONNRESET, ENOBUFS, ENOMEM } },
    [SETSOCKOPT] = { "setsockopt", { ENOBUFS, ENOPROTOOPT, EPERM } },
    [SHUTDOWN] = { "shutdown", { ENOTCONN } },
    [SIGACTION] = { "sigaction", { EINVAL } },
    [SIGALTSTACK] = { "sigaltstack", { ENOMEM } },
    [SOCKET] = { "socket", { EMFILE, ENFILE, ENOBUFS, ENOMEM, EACCES } },
    [STRDUP] = { "strdup", { ENOMEM } },
    [SYSCALL] = { "syscall", { ENOSYS, EPERM } },
    [TIMERFD_CREATE] = { "timerfd_create", { EMFILE, ENFILE, ENOMEM } },
    [UNLINK] = { "unlink", { EACCES, EROFS } },
    [WAITID] = { "waitid", { EINTR } },
    [WRITE] = { "write", { EINTR } },
};

struct plan *plan;
_Thread_local bool is_spared;

/* Of this process, and of the children that copy them. */
static _Atomic long blocks;
static _Atomic long mapped;

struct plan_balance plan_balance(void)
{
    return (struct plan_balance){ blocks, mapped };
}

/* Returns the error that this call is to fail with, or 0. */
static int fault(enum call call)
{
    if (!plan || is_spared || !plan->armed)
        return 0;
    if (++plan->made[call] != plan->nth || plan->call != call || plan->error == 0)
        return 0;
    plan->struck = true;
    return plan->error;
}

static bool fails(enum call call)
{
    int error = fault(call);

    if (error == 0)
        return false;
    errno = error;
    return true;
}

/* ------------------------------------------------------------------ memory ------------ */

static void *counted(void *block)
{
    blocks += block != NULL;
    return block;
}

#define WRAP_ALLOCATION(call, name, parameters, ...) \
    void *__real_##name parameters; \
    void *__wrap_##name parameters; \
    void *__wrap_##name parameters \
    { \
        return fails(call) ? NULL : counted(__real_##name(__VA_ARGS__)); \
    }

WRAP_ALLOCATION(ALIGNED_ALLOC, aligned_alloc, (size_t alignment, size_t size), alignment, size)
WRAP_ALLOCATION(CALLOC, calloc, (size_t n, size_t size), n, size)
WRAP_ALLOCATION(MALLOC, malloc, (size_t size), size)

void *__real_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__real_reallocarray(void *block, size_t n, size_t size);
void *__wrap_reallocarray(void *block, size_t n, size_t size);
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
void __real_free(void *block);
void __wrap_free(void *block);

void *__wrap_realloc(void *block, size_t size)
{
    if (fails(REALLOC))
        return NULL;
    return block ? __real_realloc(block, size) : counted(__real_realloc(NULL, size));
}

void *__wrap_reallocarray(void *block, size_t n, size_t size)
{
    if (fails(REALLOCARRAY))
        return NULL;
    return block ? __real_reallocarray(block, n, size)
                 : counted(__real_reallocarray(NULL, n, size));
}

char *__wrap_strdup(const char *text)
{
    return fails(STRDUP) ? NULL : counted(__real_strdup(text));
}

void __wrap_free(void *block)
{
    blocks -= block != NULL;
    __real_free(block);
}

void *__real_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t len);
int __wrap_munmap(void *at, size_t len);

void *__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
    void *map;

    if (fails(MMAP))
        return MAP_FAILED;
    map = __real_mmap(at, len, protection, flags, fd, offset);
    if (map != MAP_FAILED && !(flags & MAP_FIXED))
        mapped += (long)len;
    return map;
}

int __wrap_munmap(void *at, size_t len)
{
    mapped -= (long)len;
    return __real_munmap(at, len);
}

/* ------------------------------------------------------------------ those that say -1 - */

#define WRAP(call, type, failed, name, parameters, ...) \
    type __real_##name parameters; \
    type __wrap_##name parameters; \
    type __wrap_##name parameters \
    { \
        return fails(call) ? (failed) : __real_##name(__VA_ARGS__); \
    }
#define WRAP_INT(call, name, parameters, ...) \
    WRAP(call, int, -1, name, parameters, __VA_ARGS__)

WRAP_INT(ACCEPT4, accept4, (int fd, struct sockaddr *ret, socklen_t *len, int flags), fd, ret, len,
         flags)
WRAP_INT(BIND, bind, (int fd, const struct sockaddr *to, socklen_t len), fd, to, len)
WRAP_INT(CHMOD, fchmodat, (int fd, const char *path, mode_t mode, int flags), fd, path, mode, flags)
WRAP_INT(CHOWN, fchownat, (int fd, const char *path, uid_t uid, gid_t gid, int flags), fd, path,
         uid, gid, flags)
WRAP_INT(CONNECT, connect, (int fd, const struct sockaddr *to, socklen_t len), fd, to, len)
WRAP_INT(EPOLL_CREATE1, epoll_create1, (int flags), flags)
WRAP_INT(EPOLL_WAIT, epoll_wait, (int fd, struct epoll_event *ret, int len, int timeout_ms), fd,
         ret, len, timeout_ms)
WRAP_INT(EVENTFD, eventfd, (unsigned count, int flags), count, flags)
WRAP(FDOPEN, FILE *, NULL, fdopen, (int fd, const char *mode), fd, mode)
WRAP(FOPEN, FILE *, NULL, fopen, (const char *path, const char *mode), path, mode)
WRAP(FORK, pid_t, -1, fork, (void), )
WRAP_INT(FSTAT, fstat, (int fd, struct stat *ret), fd, ret)
WRAP_INT(GETPEERNAME, getpeername, (int fd, struct sockaddr *ret, socklen_t *len), fd, ret, len)
WRAP(GETRANDOM, ssize_t, -1, getrandom, (void *buf, size_t len, unsigned flags), buf, len, flags)
WRAP_INT(GETRLIMIT, getrlimit, (__rlimit_resource_t what, struct rlimit *ret), what, ret)
WRAP_INT(GETSOCKNAME, getsockname, (int fd, struct sockaddr *ret, socklen_t *len), fd, ret, len)
WRAP_INT(GETSOCKOPT, getsockopt, (int fd, int level, int name, void *ret, socklen_t *len), fd,
         level, name, ret, len)
WRAP_INT(LISTEN, listen, (int fd, int backlog), fd, backlog)
WRAP_INT(LSTAT, lstat, (const char *path, struct stat *ret), path, ret)
WRAP_INT(MADVISE, madvise, (void *at, size_t len, int advice), at, len, advice)
WRAP_INT(MPROTECT, mprotect, (void *at, size_t len, int protection), at, len, protection)
WRAP_INT(PIDFD_OPEN, pidfd_open, (pid_t pid, unsigned flags), pid, flags)
WRAP_INT(POLL, poll, (struct pollfd *fds, nfds_t len, int timeout_ms), fds, len, timeout_ms)
WRAP(PREAD, ssize_t, -1, pread, (int fd, void *buf, size_t len, off_t offset), fd, buf, len, offset)
WRAP(PTHREAD_CREATE, int, errno, pthread_create,
     (pthread_t *ret, const pthread_attr_t *attr, void *(*main_)(void *), void *arg),
     ret, attr, main_, arg)
WRAP(READ, ssize_t, -1, read, (int fd, void *buf, size_t len), fd, buf, len)
WRAP_INT(RECVMMSG, recvmmsg, (int fd, struct mmsghdr *messages, unsigned len, int flags,
                              struct timespec *timeout), fd, messages, len, flags, timeout)
WRAP_INT(SCHED_GETAFFINITY, sched_getaffinity, (pid_t pid, size_t size, cpu_set_t *ret), pid, size,
         ret)
WRAP(SENDFILE, ssize_t, -1, sendfile, (int to, int from, off_t *offset, size_t len), to, from,
     offset, len)
WRAP_INT(SENDMMSG, sendmmsg, (int fd, struct mmsghdr *messages, unsigned len, int flags), fd,
         messages, len, flags)
WRAP(SENDMSG, ssize_t, -1, sendmsg, (int fd, const struct msghdr *message, int flags), fd, message,
     flags)
WRAP_INT(SETSOCKOPT, setsockopt, (int fd, int level, int name, const void *value, socklen_t len),
         fd, level, name, value, len)
WRAP_INT(SHUTDOWN, shutdown, (int fd, int how), fd, how)
WRAP_INT(SIGACTION, sigaction, (int number, const struct sigaction *to, struct sigaction *ret),
         number, to, ret)
WRAP_INT(SIGALTSTACK, sigaltstack, (const stack_t *to, stack_t *ret), to, ret)
WRAP_INT(SOCKET, socket, (int family, int type, int protocol), family, type, protocol)
WRAP_INT(TIMERFD_CREATE, timerfd_create, (int clock, int flags), clock, flags)
WRAP_INT(UNLINK, unlink, (const char *path), path)
WRAP_INT(WAITID, waitid, (idtype_t type, id_t id, siginfo_t *ret, int flags), type, id, ret, flags)
WRAP(WRITE, ssize_t, -1, write, (int fd, const void *buf, size_t len), fd, buf, len)

/* To take something out of a set does not fail. */
int __real_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);

int __wrap_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    if (op != EPOLL_CTL_DEL && fails(EPOLL_CTL))
        return -1;
    return __real_epoll_ctl(epfd, op, fd, event);
}

/* ------------------------------------------------------------------ a variable number - */

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __real_ioctl(int fd, unsigned long command, ...);
int __wrap_ioctl(int fd, unsigned long command, ...);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

/* The engine passes numbers to it, and nothing else. */
int __wrap_fcntl(int fd, int command, ...)
{
    va_list args;
    int value;

    va_start(args, command);
    value = va_arg(args, int);
    va_end(args);
    return fails(FCNTL) ? -1 : __real_fcntl(fd, command, value);
}

int __wrap_ioctl(int fd, unsigned long command, ...)
{
    va_list args;
    void *ret;

    va_start(args, command);
    ret = va_arg(args, void *);
    va_end(args);
    return fails(IOCTL) ? -1 : __real_ioctl(fd, command, ret);
}

int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;

    va_start(args, flags);
    mode = va_arg(args, mode_t);
    va_end(args);
    return fails(OPEN) ? -1 : __real_open(path, flags, mode);
}

long __wrap_syscall(long number, ...)
{
    va_list args;
    long six[6];

    va_start(args, number);
    for (int i = 0; i < 6; i++)
        six[i] = va_arg(args, long);
    va_end(args);
    if (fails(SYSCALL))
        return -1;
    return __real_syscall(number, six[0], six[1], six[2], six[3], six[4], six[5]);
}

long syscall_6(long number, long a, long b, long c, long d, long e, long f)
{
    int error = fault(number == SYS_recvfrom ? RECVFROM : number == SYS_sendto ? SENDTO : RECVMSG);
    long r;

    if (error != 0)
        return -error;
    r = __real_syscall(number, a, b, c, d, e, f);
    return r < 0 ? -errno : r;
}
