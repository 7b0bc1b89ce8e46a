/*
 * calls.c - the system calls of the engine, as the linker puts them in the place of libc's
 * (--wrap); and syscall_6, which stands for those that the engine makes by itself.
 */
#include "tests/simulation/calls.h"

#include "tests/hostile_syscall.h"
#include "tests/simulation/contents.h"
#include "tests/simulation/datagrams.h"
#include "tests/simulation/epoll.h"
#include "tests/simulation/events.h"
#include "tests/simulation/files.h"
#include "tests/simulation/oracle.h"
#include "tests/simulation/report.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/streams.h"
#include "tests/simulation/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

/* A call of sendfile(2) sends no more. */
#define SENDFILE_MAX (16 << 10)

static struct calls_faults faults;
static uint64_t failed;

void calls_inject(const struct calls_faults *wanted)
{
    faults = *wanted;
}

uint64_t calls_failed(void)
{
    return failed;
}

/* ------------------------------------------------------------------ around a call ----- */

static void note(const char *format, long a, long b, long c)
{
    trace_note("thread", scheduler_self(), format, a, b, c);
}

/* What libc returns. */
static int said(int r)
{
    scheduler_point_call();
    if (r >= 0)
        return r;
    errno = -r;
    return -1;
}

static bool fails(uint64_t in)
{
    bool does = dice_once_in(scheduler_dice(), in);

    failed += does;
    return does;
}

static int one_of(const int *errors, unsigned len)
{
    return -errors[dice_below(scheduler_dice(), len)];
}

#define ONE_OF(...) one_of((const int[]){ __VA_ARGS__ }, \
                           sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int))

/* ------------------------------------------------------------------ bytes ------------- */

/* The stream that bytes go to or come from, or what the call fails with. */
static ssize_t begin_transfer(int fd, struct stream **ret_stream)
{
    *ret_stream = stream_of(fd);
    if (!*ret_stream)
        return file_of(fd) ? -ENOTSOCK : -EBADF;
    return fails(faults.interrupt_in) ? -EINTR : 0;
}

static ssize_t receive(int fd, void *buf, size_t len)
{
    struct stream *stream;
    ssize_t n = begin_transfer(fd, &stream);

    if (n < 0)
        return n;
    n = stream_receive(stream, buf, len);
    note("recv(%ld) of %ld: %ld", fd, (long)len, n);
    return n;
}

/* Nobody gives room for descriptors, so where some came along they are cut off. */
static ssize_t receive_message(int fd, struct msghdr *message)
{
    ssize_t n = receive(fd, message->msg_iov[0].iov_base, message->msg_iov[0].iov_len);

    message->msg_flags = n > 0 && stream_of(fd)->was_cut ? MSG_CTRUNC : 0;
    return n;
}

static ssize_t send_bytes(int fd, const void *buf, size_t len)
{
    struct stream *stream;
    ssize_t n = begin_transfer(fd, &stream);

    if (n < 0)
        return n;
    if (len > 1 && fails(faults.send_in))
        len = dice_between(scheduler_dice(), 1, len);
    n = stream_send(stream, buf, len);
    note("send(%ld) of %ld: %ld", fd, (long)len, n);
    return n;
}

long syscall_6(long number, long a, long b, long c, long d, long e, long f)
{
    long r;

    (void)e;
    (void)f;
    scheduler_point_call();
    if (number == SYS_recvfrom)
        r = receive((int)a, (void *)b, (size_t)c);
    else if (number == SYS_recvmsg)
        r = receive_message((int)a, (struct msghdr *)b);
    else if (number == SYS_sendto)
        r = send_bytes((int)a, (const void *)b, (size_t)c);
    else
        report_failure("system call %ld is not simulated", number);
    (void)d;
    scheduler_point_call();
    return r;
}

/* Whether the kernel has these is all that the engine wants to know by syscall(2). */
static bool is_only_asked_for(long number)
{
    static const long asked[] = { SYS_poll, SYS_eventfd2, SYS_rt_sigtimedwait };

    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
        if (number == asked[i])
            return true;
    return false;
}

/* The word is looked at and the thread put to sleep as one, as in the kernel. */
static long futex(const _Atomic uint32_t *word, long operation, uint32_t value,
                  const struct timespec *timeout)
{
    uint64_t until_ns = SCHEDULER_NEVER;

    scheduler_point_call();
    if (operation == FUTEX_WAKE_PRIVATE)
        return (long)scheduler_wake(word, false);
    if (operation != FUTEX_WAIT_PRIVATE)
        report_failure("futex operation %ld is not simulated", operation);
    if (fails(faults.interrupt_in) || atomic_load_explicit(word, memory_order_relaxed) != value)
        return -1;
    if (timeout)
        until_ns = scheduler_now_ns() + (uint64_t)timeout->tv_sec * 1000 * MS_NS +
                   (uint64_t)timeout->tv_nsec;
    return scheduler_block(word, until_ns) ? 0 : -1;
}

/* sys_discard's, and kernel_check's. */
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    ssize_t n;

    if (number == SYS_futex)
        return futex((const _Atomic uint32_t *)a, b, (uint32_t)c, (const struct timespec *)d);

    (void)b;
    (void)d;
    (void)e;
    (void)f;
    if ((int)a < 0 || is_only_asked_for(number)) {
        errno = EBADF;
        return -1;
    }
    if (number != SYS_recvfrom)
        report_failure("system call %ld is not simulated", number);
    scheduler_point_call();
    n = receive((int)a, NULL, (size_t)c);
    scheduler_point_call();
    if (n >= 0)
        return n;
    errno = (int)-n;
    return -1;
}

/* A socket's buffer may be full, though nothing but sendmsg says so. */
static int why_no_datagram(void)
{
    if (fails(faults.interrupt_in))
        return -EINTR;
    return fails(faults.datagram_in) ? ONE_OF(EAGAIN, ENOBUFS, EPERM) : 0;
}

static ssize_t send_one_datagram(int fd, const struct msghdr *message)
{
    int r = why_no_datagram();

    if (r == 0)
        r = datagrams_send_one(fd, message);
    note("sendmsg(%ld): %ld", fd, r, 0);
    return said(r) < 0 ? -1 : (ssize_t)message->msg_iov[0].iov_len;
}

int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned len, int flags)
{
    int r = why_no_datagram();

    (void)flags;
    scheduler_point_call();
    if (r == 0 && len > 1 && fails(faults.send_in))
        len = (unsigned)dice_between(scheduler_dice(), 1, len);
    if (r == 0)
        r = datagrams_send(fd, messages, len);
    note("sendmmsg(%ld) of %ld: %ld", fd, len, r);
    return said(r);
}

int __wrap_recvmmsg(int fd, struct mmsghdr *messages, unsigned len, int flags,
                    struct timespec *timeout)
{
    int r;

    (void)flags;
    (void)timeout;
    scheduler_point_call();
    r = fails(faults.interrupt_in) ? -EINTR : datagrams_receive(fd, messages, len);
    note("recvmmsg(%ld) of %ld: %ld", fd, len, r);
    return said(r);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    static unsigned char whole[1 << 20];
    size_t len = 0;
    ssize_t n;

    (void)flags;
    scheduler_point_call();
    if (datagrams_is_one(fd))
        return send_one_datagram(fd, message);
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        const struct iovec *part = &message->msg_iov[i];
        size_t span = part->iov_len < sizeof(whole) - len ? part->iov_len : sizeof(whole) - len;

        memcpy(whole + len, part->iov_base, span);
        len += span;
    }
    n = send_bytes(fd, whole, len);
    scheduler_point_call();
    if (n >= 0)
        return n;
    errno = (int)-n;
    return -1;
}

/* A file system that has no sendfile(2), or a file that cannot be read. */
ssize_t __wrap_sendfile(int fd, int file_fd, off_t *offset, size_t len)
{
    static unsigned char piece[SENDFILE_MAX];
    ssize_t n = -EBADF;

    scheduler_point_call();
    if (contents_is_one(file_fd))
        n = fails(faults.file_in) ? ONE_OF(EINVAL, ENOSYS, EOVERFLOW)
                                  : contents_read(piece, len < sizeof(piece) ? len : sizeof(piece),
                                                  *offset);
    if (n > 0)
        n = send_bytes(fd, piece, (size_t)n);
    note("sendfile(%ld) of %ld: %ld", fd, (long)len, n);
    if (n > 0)
        *offset += n;
    return said((int)n);
}

ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t offset)
{
    scheduler_point_call();
    if (!contents_is_one(fd))
        return said(-EBADF);
    return said(fails(faults.interrupt_in) ? -EINTR : (int)contents_read(buf, len, offset));
}

int __wrap_shutdown(int fd, int how)
{
    struct stream *stream = stream_of(fd);

    scheduler_point_call();
    if (!stream || how != SHUT_WR)
        return said(stream ? -EINVAL : -ENOTSOCK);
    note("shutdown(%ld)", fd, 0, 0);
    if (!stream->peer && stream->was_reset)
        return said(-ENOTCONN);
    stream_end(stream);
    return said(0);
}

/* ------------------------------------------------------------------ descriptors ------- */

int __wrap_close(int fd)
{
    int r;

    scheduler_point_call();
    note("close(%ld)", fd, 0, 0);
    r = file_close(fd);
    if (r < 0)
        report_failure("close(%d): there is no such descriptor", fd);
    return said(fails(faults.interrupt_in) ? -EINTR : 0);
}

static int opened(int (*open)(void), const char *format)
{
    int fd;

    scheduler_point_call();
    if (fails(faults.open_in))
        fd = ONE_OF(EMFILE, ENFILE, ENOMEM);
    else
        fd = open();
    note(format, fd, 0, 0);
    return said(fd);
}

int __wrap_epoll_create1(int flags)
{
    (void)flags;
    return opened(epoll_open, "epoll_create1: %ld");
}

int __wrap_eventfd(unsigned count, int flags)
{
    (void)count;
    (void)flags;
    return opened(events_open, "eventfd: %ld");
}

int __wrap_socket(int family, int type, int protocol)
{
    (void)family;
    (void)protocol;
    if ((type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_DGRAM)
        return opened(datagrams_open, "socket of datagrams: %ld");
    return opened(streams_socket, "socket: %ld");
}

ssize_t __wrap_write(int fd, const void *buf, size_t len)
{
    uint64_t count;
    int r;

    if (len != sizeof(count))
        report_failure("write(%d) of %zu bytes is not simulated", fd, len);
    memcpy(&count, buf, sizeof(count));
    scheduler_point_call();
    r = fails(faults.interrupt_in) ? -EINTR : events_add(fd, count);
    note("eventfd %ld: +1: %ld", fd, r, 0);
    return said(r) < 0 ? -1 : (ssize_t)len;
}

ssize_t __wrap_read(int fd, void *buf, size_t len)
{
    uint64_t count = 0;
    int r;

    if (len != sizeof(count))
        report_failure("read(%d) of %zu bytes is not simulated", fd, len);
    scheduler_point_call();
    r = fails(faults.interrupt_in) ? -EINTR : events_take(fd, &count);
    note("eventfd %ld: cleared: %ld", fd, r, 0);
    memcpy(buf, &count, sizeof(count));
    return said(r) < 0 ? -1 : (ssize_t)len;
}

int __wrap_fcntl(int fd, int what, ...)
{
    if (!file_of(fd))
        return said(-EBADF);
    if (what == F_GETFL)
        return said(O_RDWR | O_NONBLOCK);
    if (what == F_SETFL || what == F_SETFD)
        return said(0);
    report_failure("fcntl(%d, %d) is not simulated", fd, what);
}

/* ------------------------------------------------------------------ sockets ----------- */

int __wrap_bind(int fd, const struct sockaddr *name, socklen_t len)
{
    (void)len;
    if (datagrams_is_one(fd))
        return said(datagrams_bind(fd, (const struct sockaddr_in *)name));
    return said(streams_bind(fd, name));
}

int __wrap_listen(int fd, int backlog)
{
    return said(streams_listen(fd, backlog));
}

int __wrap_accept4(int fd, struct sockaddr *name, socklen_t *len, int flags)
{
    int r;

    (void)flags;
    scheduler_point_call();
    if (fails(faults.interrupt_in))
        return said(-EINTR);
    if (fails(faults.accept_in))
        r = ONE_OF(ENFILE, EMFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPERM);
    else
        r = streams_accept(fd);
    note("accept4(%ld): %ld", fd, r, 0);
    if (r >= 0)
        streams_peer_name(r, name, len);
    return said(r);
}

int __wrap_connect(int fd, const struct sockaddr *name, socklen_t len)
{
    int r;

    (void)len;
    scheduler_point_call();
    r = streams_connect(fd, (const struct sockaddr_in *)name);
    note("connect(%ld): %ld", fd, r, 0);
    return said(r);
}

int __wrap_getsockname(int fd, struct sockaddr *name, socklen_t *len)
{
    struct sockaddr_in bound;
    int r;

    if (!datagrams_is_one(fd))
        return said(streams_name(fd, name, len));
    r = datagrams_name(fd, &bound);
    if (r == 0) {
        memcpy(name, &bound, sizeof(bound));
        *len = sizeof(bound);
    }
    return said(r);
}

int __wrap_getpeername(int fd, struct sockaddr *name, socklen_t *len)
{
    return said(streams_peer_name(fd, name, len));
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    (void)level;
    (void)name;
    (void)value;
    (void)len;
    return said(file_of(fd) ? 0 : -EBADF);
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    struct stream *stream = stream_of(fd);
    int number = 0;

    if (level != SOL_SOCKET || !file_of(fd))
        return said(file_of(fd) ? -ENOPROTOOPT : -EBADF);
    if (name == SO_TYPE)
        number = SOCK_STREAM;
    else if (name == SO_ERROR && stream) {
        number = stream->error;
        stream->error = 0;
    }
    memcpy(value, &number, sizeof(number));
    *len = sizeof(number);
    return said(0);
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
    struct stream *stream = stream_of(fd);
    va_list args;
    int *ret;

    va_start(args, request);
    ret = va_arg(args, int *);
    va_end(args);
    if (!stream || request != SIOCOUTQ)
        return said(-ENOTTY);
    *ret = (int)stream_unsent(stream);
    return said(0);
}

/* ------------------------------------------------------------------ waiting ----------- */

int __wrap_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    int r;

    scheduler_point_call();
    if (op == EPOLL_CTL_ADD && fails(faults.watch_in))
        r = ONE_OF(ENOMEM, ENOSPC);
    else
        r = epoll_change(epfd, op, fd, event);
    note("epoll_ctl(%ld) of %ld: %ld", epfd, fd, r);
    return said(r);
}

int __wrap_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    int n;

    scheduler_point_call();
    if (fails(faults.false_alarm_in))
        return said(dice_once_in(scheduler_dice(), 2) ? -EINTR : 0);
    note("epoll_wait(%ld) for %ld ms", epfd, timeout_ms, 0);
    n = epoll_wait_for(epfd, events, max, timeout_ms);
    note("epoll_wait(%ld): %ld, the first %lx", epfd, n, n > 0 ? (long)events[0].events : 0);
    return said(n);
}

static int look_at_all(struct pollfd *fds, nfds_t len)
{
    int n = 0;

    for (nfds_t i = 0; i < len; i++) {
        struct file *file = fds[i].fd >= 0 ? file_of(fds[i].fd) : NULL;

        fds[i].revents = 0;
        if (fds[i].fd < 0)
            continue;
        if (!file)
            fds[i].revents = POLLNVAL;
        else
            fds[i].revents = (short)(file->kind->poll(file) &
                                     ((uint16_t)fds[i].events | POLLERR | POLLHUP));
        n += fds[i].revents != 0;
    }
    return n;
}

int __wrap_poll(struct pollfd *fds, nfds_t len, int timeout_ms)
{
    uint64_t until_ns = SCHEDULER_NEVER;
    bool woken = true;
    int n;

    scheduler_point_call();
    if (len > 0 && fails(faults.interrupt_in))
        return said(-EINTR);
    if (timeout_ms >= 0)
        until_ns = scheduler_now_ns() + (uint64_t)timeout_ms * MS_NS;
    for (;;) {
        n = look_at_all(fds, len);
        if (n > 0 || timeout_ms == 0 || !woken)
            break;
        /* Without a descriptor it is a thread that gives way to another, as compute() does. */
        oracle_view.computing += len == 0;
        woken = scheduler_block(&files_poll_reason, until_ns);
        oracle_view.computing -= len == 0;
    }
    note("poll for %ld ms: %ld", timeout_ms, n, 0);
    return said(n);
}

/* ------------------------------------------------------------------ the rest ---------- */

#define COARSE_NS (4 * MS_NS)

/* 31 December 1999, 23:59:59 UTC: what is made of a date changes as a run goes on. */
#define BEGIN_S 946684799

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
    uint64_t now_ns = scheduler_now_ns();

    if (clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_REALTIME_COARSE)
        now_ns -= now_ns % COARSE_NS;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        now_ns += UINT64_C(1000) * MS_NS * BEGIN_S;
    ret->tv_sec = (time_t)(now_ns / (1000 * MS_NS));
    ret->tv_nsec = (long)(now_ns % (1000 * MS_NS));
    return 0;
}

time_t calls_time(void)
{
    return (time_t)(BEGIN_S + scheduler_now_ns() / (1000 * MS_NS));
}

int __wrap_getrlimit(int what, struct rlimit *ret)
{
    (void)what;
    *ret = (struct rlimit){ FILES_MAX, FILES_MAX };
    return 0;
}

ssize_t __wrap_getrandom(void *buf, size_t len, unsigned flags)
{
    unsigned char *bytes = buf;

    (void)flags;
    for (size_t i = 0; i < len; i++)
        bytes[i] = (unsigned char)dice_roll(scheduler_dice());
    return (ssize_t)len;
}

void *__real_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
int __real_mprotect(void *at, size_t len, int protection);

void *__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
    scheduler_point_call();
    if (scheduler_now_ns() > 0 && fails(faults.map_in)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap(at, len, protection, flags, fd, offset);
}

int __wrap_mprotect(void *at, size_t len, int protection)
{
    scheduler_point_call();
    if (fails(faults.map_in)) {
        errno = ENOMEM;
        return -1;
    }
    return __real_mprotect(at, len, protection);
}

/* /proc/sys/vm/max_map_count, and a thread's system call: there is no /proc. */
FILE *__wrap_fopen(const char *path, const char *mode)
{
    (void)path;
    (void)mode;
    errno = ENOENT;
    return NULL;
}

int __wrap_open(const char *path, int flags, ...)
{
    (void)path;
    (void)flags;
    errno = ENOENT;
    return -1;
}
