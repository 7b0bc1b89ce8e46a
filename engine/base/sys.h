/*
 * sys.h - leaf system calls: they never yield, and return -errno instead of setting errno.
 *
 * Why they are functions of their own: compilers remember where errno lives across a fiber
 * switch. Code that never names errno cannot be hurt by that, and these calls are never inlined
 * into code that switches. The two of every request are: they do without errno.
 *
 * Threads: any. Blocks: only sys_epoll_wait, sys_poll and sys_futex_wait; the others don't.
 * Owns:    nothing. New descriptors are never 0 to 2, which are standard streams even if closed.
 * EINTR:   tried again, unless said otherwise.
 */
#ifndef WEIR_SYS_H
#define WEIR_SYS_H

#include "engine/base/syscall.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Bytes, 0 at end of file, or -errno (-EAGAIN: nothing there, whatever the mode of the socket). */
static inline ssize_t sys_recv(int fd, void *buf, size_t len)
{
    ssize_t n;

    do
        n = syscall_6(SYS_recvfrom, fd, (long)buf, (long)len, MSG_DONTWAIT, 0, 0);
    while (n == -EINTR);
    return n;
}

/*
 * sys_recv of a Unix socket. *ret_cut: it stopped behind descriptors that were sent along, and
 * there may be more.
 */
static inline ssize_t sys_recv_unix(int fd, void *buf, size_t len, bool *ret_cut)
{
    struct iovec part = { .iov_base = buf, .iov_len = len };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    ssize_t n;

    do
        n = syscall_6(SYS_recvmsg, fd, (long)&message, MSG_DONTWAIT, 0, 0, 0);
    while (n == -EINTR);
    *ret_cut = message.msg_flags & MSG_CTRUNC;
    return n;
}

/*
 * Bytes taken, perhaps fewer than given, or -errno; -EPIPE comes without a SIGPIPE. flags: 0, or
 * MSG_MORE for what is followed at once: TCP waits for that to fill a segment. If nothing follows
 * after all, sys_push sends what waits, which TCP would hold back for 200 ms.
 */
static inline ssize_t sys_send_with(int fd, const void *buf, size_t len, int flags)
{
    ssize_t n;

    do
        n = syscall_6(SYS_sendto, fd, (long)buf, (long)len, flags | MSG_NOSIGNAL | MSG_DONTWAIT,
                      0, 0);
    while (n == -EINTR);
    return n;
}

static inline ssize_t sys_send(int fd, const void *buf, size_t len)
{
    return sys_send_with(fd, buf, len, 0);
}

/* sys_send of several parts. */
ssize_t sys_sendv(int fd, const struct iovec *iov, size_t iov_len, int flags);

/* From now on TCP sends full segments only, until sys_push. False: it isn't TCP. */
bool sys_cork(int fd);
void sys_push(int fd);

/* A datagram. 0 or -errno. */
int sys_send_message(int fd, const struct msghdr *message);

/* How many datagrams, the first ones, or -errno of the first (-EAGAIN: none waits, or no room). */
int sys_recvmmsg(int fd, struct mmsghdr *messages, unsigned len);
int sys_sendmmsg(int fd, struct mmsghdr *messages, unsigned len);

/*
 * As sys_send, from offset of a file; 0: the file ends there. The socket must be non-blocking.
 * -EPIPE comes without a SIGPIPE here, too, though sendfile(2) knows no MSG_NOSIGNAL.
 */
ssize_t sys_sendfile(int fd, int file_fd, off_t offset, size_t len);

/* Bytes of a file from offset, 0 where it ends, or -errno (-ESPIPE: it is a pipe or a socket). */
ssize_t sys_pread(int fd, void *buf, size_t len, off_t offset);

/*
 * The next connection, non-blocking and close-on-exec, or -errno (-EAGAIN: none waits). One that
 * was gone before it was taken (ECONNABORTED) is passed over.
 */
int sys_accept(int fd, struct sockaddr_storage *ret_addr, socklen_t *ret_len);

/*
 * A negative descriptor is none, and nothing is done. Never tried again: Linux has released the
 * descriptor even if close(2) says EINTR.
 */
void sys_close(int fd);

int sys_epoll_create(void);
int sys_epoll_ctl(int epfd, int op, int fd, uint32_t events, uint64_t data);

/* How many events, or -errno. 0: the time has passed, or a signal came. timeout_ms -1: for ever. */
int sys_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms);

/* A non-blocking eventfd. signal makes it readable, any number of times; clear undoes all. */
int sys_eventfd(void);
void sys_eventfd_signal(int fd);
void sys_eventfd_clear(int fd);

/* Returns 0 if one more descriptor could be had just now, or -errno. */
int sys_check_descriptors(void);

/* The events (POLLIN ...) that came, 0 when timeout_ms has passed (-1: never), or -errno. */
int sys_poll_one(int fd, short events, int timeout_ms);

/* poll(2) that does not wait: how many are ready, or -errno. */
int sys_poll_now(struct pollfd *fds, size_t n);

/* sys_poll_one for several: how many have events, in revents. Negative descriptors have none. */
int sys_poll(struct pollfd *fds, unsigned len, int timeout_ms);

/*
 * Waits while *word is `value`, until sys_futex_wake or for timeout_ms (-1: for ever). It may also
 * return for no reason: the word alone tells. Wakes one thread; the word may be gone by then.
 */
void sys_futex_wait(const _Atomic uint32_t *word, uint32_t value, int timeout_ms);
void sys_futex_wake(const _Atomic uint32_t *word);

/* A socket of the type (SOCK_STREAM, SOCK_DGRAM), non-blocking and close-on-exec. */
int sys_socket(int family, int type);

/* 0, -EINPROGRESS: sys_socket_error tells once it is writable; -EAGAIN: a Unix backlog is full. */
int sys_connect(int fd, const struct sockaddr *addr, socklen_t len);

/* What has happened to the socket meanwhile: 0 or -errno. Asking clears it. */
int sys_socket_error(int fd);

/* Throws away what a TCP socket has received, len bytes at most: how many; 0: the end; -errno. */
ssize_t sys_discard(int fd, size_t len);

/*
 * Bytes that a TCP peer has not acknowledged yet; of a Unix socket, what the messages take that its
 * peer has not read, which is somewhat more. 0, too, where the kernel can't tell.
 */
size_t sys_unsent(int fd);

/* The peer of a connected stream socket: 0, -EPROTOTYPE: of another type, or -errno. */
int sys_stream_peer(int fd, struct sockaddr_storage *ret_addr, socklen_t *ret_len);

/* And close-on-exec. */
int sys_set_nonblocking(int fd);

/*
 * A timer's descriptor, that sys_eventfd_clear clears; then readable every interval_ms, 0: never.
 */
int sys_timerfd(void);
void sys_timerfd_set(int fd, uint32_t interval_ms);

/* A descriptor that is readable once the child has ended, and takes part in epoll; or -errno. */
int sys_pidfd_open(pid_t pid);

/*
 * Reaps that child and no other: 1 and its status as of wait(2), 0 while it runs, or -errno
 * (-ECHILD: somebody else has reaped it, or it left nothing to be reaped: SIGCHLD is ignored).
 * pidfd -1: the child has none, and is known by its number alone.
 */
int sys_reap(int pidfd, pid_t pid, int *ret_status);

/* SIGKILL for that child and nobody else; without a pidfd only if its number is surely its own. */
void sys_kill_child(int pidfd, pid_t pid);

int sys_shutdown_write(int fd);
int sys_shutdown_read(int fd);

/* Permissions of a file, not of what a link there leads to. 0 or -errno. */
int sys_chmod(const char *path, mode_t mode);

/* setsockopt(2) of a number: 0 or -errno. */
int sys_set_option(int fd, int level, int name, int value);
int sys_set_nodelay(int fd);

/* The ids of the peer of a Unix socket, as they were at its connect (SO_PEERCRED). 0 or -errno. */
int sys_peer_ids(int fd, uid_t *ret_uid, gid_t *ret_gid);

#endif
