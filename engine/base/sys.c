#include "engine/base/sys.h"

#include "engine/base/clock.h"
#include "engine/base/compiler.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Not even link-time optimisation may bring these into a function that switches fibers. */
#define LEAF __attribute__((noinline))

LEAF bool sys_cork(int fd)
{
    return setsockopt(fd, IPPROTO_TCP, TCP_CORK, &(int){ 1 }, sizeof(int)) == 0;
}

LEAF void sys_push(int fd)
{
    setsockopt(fd, IPPROTO_TCP, TCP_CORK, &(int){ 0 }, sizeof(int));
}

LEAF ssize_t sys_sendv(int fd, const struct iovec *iov, size_t iov_len, int flags)
{
    /* sendmsg only reads the vector; the structure is shared with recvmsg, hence the cast. */
    const struct msghdr message = { .msg_iov = (struct iovec *)iov, .msg_iovlen = iov_len };
    ssize_t n;

    do
        n = sendmsg(fd, &message, flags | MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n >= 0 ? n : -errno;
}

LEAF int sys_send_message(int fd, const struct msghdr *message)
{
    ssize_t n;

    do
        n = sendmsg(fd, message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n >= 0 ? 0 : -errno;
}

LEAF int sys_recvmmsg(int fd, struct mmsghdr *messages, unsigned len)
{
    int n;

    do
        n = recvmmsg(fd, messages, len, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, NULL);
    while (n < 0 && errno == EINTR);
    return n >= 0 ? n : -errno;
}

LEAF int sys_sendmmsg(int fd, struct mmsghdr *messages, unsigned len)
{
    int n;

    do
        n = sendmmsg(fd, messages, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n >= 0 ? n : -errno;
}

/*
 * SIGPIPE is raised in the thread that writes. It is blocked during the call and taken away if it
 * has come, as if it had never been; a SIGPIPE that was pending before stays.
 */
struct held_sigpipe {
    sigset_t before;
    bool was_pending;
};

static void sigpipe_alone(sigset_t *ret)
{
    sigemptyset(ret);
    sigaddset(ret, SIGPIPE);
}

static void hold_sigpipe(struct held_sigpipe *held)
{
    sigset_t sigpipe;
    sigset_t pending;

    sigpipe_alone(&sigpipe);
    pthread_sigmask(SIG_BLOCK, &sigpipe, &held->before);
    /* Only what is blocked can be pending. */
    held->was_pending = sigismember(&held->before, SIGPIPE) && sigpending(&pending) == 0 &&
                        sigismember(&pending, SIGPIPE);
}

static void let_sigpipe_go(const struct held_sigpipe *held, bool raised)
{
    const struct timespec now = { 0 };
    sigset_t sigpipe;

    sigpipe_alone(&sigpipe);
    if (raised && !held->was_pending)
        while (sigtimedwait(&sigpipe, NULL, &now) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &held->before, NULL);
}

LEAF ssize_t sys_sendfile(int fd, int file_fd, off_t offset, size_t len)
{
    struct held_sigpipe held;
    ssize_t n;

    hold_sigpipe(&held);
    do
        n = sendfile(fd, file_fd, &offset, len);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        n = -errno;
    /* The peer may go in the midst of it: what it has taken is told, and the signal has come. */
    let_sigpipe_go(&held, n < (ssize_t)len);
    return n;
}

LEAF ssize_t sys_pread(int fd, void *buf, size_t len, off_t offset)
{
    ssize_t n;

    do
        n = pread(fd, buf, len, offset);
    while (n < 0 && errno == EINTR);
    return n >= 0 ? n : -errno;
}

/*
 * A new descriptor of ours, or -errno. Where a program was started without its standard streams,
 * the numbers are free, and what somebody prints would go to a client, or count up an eventfd.
 */
static int beside_standard_streams(int fd)
{
    int moved;

    if (WEIR_LIKELY(fd > STDERR_FILENO))
        return fd;
    if (fd < 0)
        return -errno;
    moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (moved < 0)
        moved = -errno;
    close(fd);
    return moved;
}

LEAF int sys_accept(int fd, struct sockaddr_storage *ret_addr, socklen_t *ret_len)
{
    socklen_t len;
    int r;

    do {
        len = sizeof(*ret_addr);
        r = accept4(fd, (struct sockaddr *)ret_addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (r < 0 && (errno == EINTR || errno == ECONNABORTED));
    r = beside_standard_streams(r);
    if (r >= 0)
        *ret_len = len;
    return r;
}

LEAF void sys_close(int fd)
{
    if (fd >= 0)
        close(fd);
}

LEAF int sys_epoll_create(void)
{
    return beside_standard_streams(epoll_create1(EPOLL_CLOEXEC));
}

LEAF int sys_epoll_ctl(int epfd, int op, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = { .events = events, .data.u64 = data };

    return epoll_ctl(epfd, op, fd, &event) == 0 ? 0 : -errno;
}

LEAF int sys_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    int n = epoll_wait(epfd, events, max, timeout_ms);

    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    return n;
}

LEAF int sys_eventfd(void)
{
    return beside_standard_streams(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

LEAF void sys_eventfd_signal(int fd)
{
    uint64_t one = 1;
    ssize_t n;

    /* EAGAIN: the counter is full, so it is readable, which is all that was asked for. */
    do
        n = write(fd, &one, sizeof(one));
    while (n < 0 && errno == EINTR);
}

LEAF void sys_eventfd_clear(int fd)
{
    uint64_t count;
    ssize_t n;

    /* EAGAIN: there was nothing to clear. */
    do
        n = read(fd, &count, sizeof(count));
    while (n < 0 && errno == EINTR);
}

int sys_check_descriptors(void)
{
    int fd = sys_eventfd();

    sys_close(fd);
    return fd < 0 ? fd : 0;
}

LEAF int sys_poll(struct pollfd *fds, unsigned len, int timeout_ms)
{
    uint64_t start = clock_ms();
    int left = timeout_ms;

    for (;;) {
        int n = poll(fds, len, left);
        if (n >= 0)
            return n;
        if (errno != EINTR)
            return -errno;
        if (timeout_ms < 0)
            continue;
        uint64_t waited = clock_since(start, clock_ms());
        left = waited < (uint64_t)timeout_ms ? timeout_ms - (int)waited : 0;
    }
}

LEAF int sys_poll_one(int fd, short events, int timeout_ms)
{
    struct pollfd poll_fd = { .fd = fd, .events = events };
    int n = sys_poll(&poll_fd, 1, timeout_ms);

    return n > 0 ? poll_fd.revents : n;
}

LEAF void sys_futex_wait(const _Atomic uint32_t *word, uint32_t value, int timeout_ms)
{
    struct timespec timeout = clock_timespec(timeout_ms >= 0 ? (uint64_t)timeout_ms : 0);

    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout_ms >= 0 ? &timeout : NULL, NULL, 0);
}

LEAF void sys_futex_wake(const _Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

LEAF int sys_poll_now(struct pollfd *fds, size_t n)
{
    int r;

    do
        r = poll(fds, n, 0);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

LEAF int sys_pidfd_open(pid_t pid)
{
    return beside_standard_streams(pidfd_open(pid, 0));
}

LEAF int sys_timerfd(void)
{
    return beside_standard_streams(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
}

LEAF void sys_timerfd_set(int fd, uint32_t interval_ms)
{
    const struct timespec interval = clock_timespec(interval_ms);

    timerfd_settime(fd, 0, &(const struct itimerspec){ interval, interval }, NULL);
}

/* waitid(2) that does not wait: 1 it has ended, 0, or -errno. */
static int look_for_end(idtype_t type, id_t id, int flags, siginfo_t *ret_info)
{
    int r;

    ret_info->si_pid = 0;
    do
        r = waitid(type, id, ret_info, WEXITED | WNOHANG | flags);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    return ret_info->si_pid != 0;
}

LEAF int sys_reap(int pidfd, pid_t pid, int *ret_status)
{
    siginfo_t info;
    /* P_PIDFD came a version after pidfd_open(2). */
    int r = pidfd >= 0 ? look_for_end(P_PIDFD, (id_t)pidfd, 0, &info) : -EINVAL;

    if (r == -EINVAL)
        r = look_for_end(P_PID, (id_t)pid, 0, &info);
    if (r == 1)
        *ret_status = info.si_code == CLD_EXITED ? __W_EXITCODE(info.si_status, 0)
                                                 : __W_EXITCODE(0, info.si_status);
    return r;
}

/* Where SIGCHLD is ignored, a child that ends leaves nothing to wait for: its number is free. */
static bool ends_are_kept(void)
{
    struct sigaction sigchld;

    return sigaction(SIGCHLD, NULL, &sigchld) == 0 && sigchld.sa_handler != SIG_IGN &&
           !(sigchld.sa_flags & SA_NOCLDWAIT);
}

LEAF void sys_kill_child(int pidfd, pid_t pid)
{
    siginfo_t info;

    if (pidfd >= 0)
        syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    else if (ends_are_kept() && look_for_end(P_PID, (id_t)pid, WNOWAIT, &info) == 0)
        kill(pid, SIGKILL);
}

LEAF int sys_socket(int family, int type)
{
    return beside_standard_streams(socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

LEAF int sys_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    /* Not tried again: a non-blocking connect does not wait, so no signal can interrupt it. */
    return connect(fd, addr, len) == 0 ? 0 : -errno;
}

LEAF int sys_socket_error(int fd)
{
    int error;
    socklen_t len = sizeof(error);

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        return -errno;
    return -error;
}

LEAF size_t sys_unsent(int fd)
{
    int len;

    return ioctl(fd, SIOCOUTQ, &len) == 0 && len > 0 ? (size_t)len : 0;
}

LEAF ssize_t sys_discard(int fd, size_t len)
{
    /*
     * tcp(7): with MSG_TRUNC, received bytes are dropped and not copied anywhere. The kernel would
     * take NULL as well; but memcheck, which does not know that, wants it to be somewhere.
     */
    static char nowhere[64 << 10];
    size_t done = 0;

    while (done < len) {
        size_t span = len - done < sizeof(nowhere) ? len - done : sizeof(nowhere);
        long n = syscall(SYS_recvfrom, fd, nowhere, span, MSG_TRUNC | MSG_DONTWAIT, NULL, NULL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && done == 0)
            return -errno;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

LEAF int sys_shutdown_write(int fd)
{
    return shutdown(fd, SHUT_WR) == 0 ? 0 : -errno;
}

LEAF int sys_shutdown_read(int fd)
{
    return shutdown(fd, SHUT_RD) == 0 ? 0 : -errno;
}

LEAF int sys_stream_peer(int fd, struct sockaddr_storage *ret_addr, socklen_t *ret_len)
{
    socklen_t len = sizeof(*ret_addr);
    socklen_t type_len = sizeof(int);
    int type;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) < 0)
        return -errno;
    if (type != SOCK_STREAM)
        return -EPROTOTYPE;
    if (getpeername(fd, (struct sockaddr *)ret_addr, &len) < 0)
        return -errno;
    *ret_len = len;
    return 0;
}

LEAF int sys_set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    return 0;
}

/* Since Linux 6.6; younger than some C libraries' headers. */
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

LEAF int sys_chmod(const char *path, mode_t mode)
{
    if (syscall(SYS_fchmodat2, AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    /* The C library goes by way of /proc/self/fd. */
    return fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : -errno;
}

LEAF int sys_set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

LEAF int sys_set_nodelay(int fd)
{
    return sys_set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

LEAF int sys_peer_ids(int fd, uid_t *ret_uid, gid_t *ret_gid)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return -errno;
    *ret_uid = peer.uid;
    *ret_gid = peer.gid;
    return 0;
}
