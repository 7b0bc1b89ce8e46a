/*
 * stream.c - see stream.h.
 */
#include "tests/fuzz/stream.h"

#include "engine/base/misuse.h"
#include "engine/base/sys.h"
#include "engine/stream/rfile.h"
#include "engine/stream/wfile.h"
#include "tests/stopped_clock.h"

#include <errno.h>

enum { STREAM_FD = 50, CANCEL_FD, TIMEOUT_MS = 20 };

struct stream stream;

static struct crew crew;
static struct worker worker;
static struct task task;
static struct service service;
static struct connection connection;
static struct endpoint endpoint;

/* ------------------------------------------------------------------ the scene --------- */

void stream_begin(const struct stream_config *config)
{
    memset(&stream, 0, offsetof(struct stream, output));
    misuse_is_looked_for = false;       /* there is no thread of a worker's */
    crew = (struct crew){ .cancel_fd = CANCEL_FD, .drain_fd = -1 };
    memset(&worker, 0, sizeof(worker));
    worker.crew = &crew;
    buffers_init(&worker.rbufs, config->rbufsize);
    buffers_init(&worker.wbufs, config->wbufsize);
    task = (struct task){ .worker = &worker, .conn = &connection };
    service = (struct service){ .crew = &crew, .unbuffered = config->unbuffered };
    endpoint.read_timeout_ms = TIMEOUT_MS;
    endpoint.write_timeout_ms = TIMEOUT_MS;
    memset(&connection, 0, sizeof(connection));
    connection.fd = STREAM_FD;
    connection.transport = (uint8_t)config->transport;
    connection.endpoint = &endpoint;
    stream.request.service = &service;
    stream.request.task = &task;
    stream.request.conn = &connection;
}

void stream_end(void)
{
    rfile_fini(&stream.request);
    wfile_fini(&stream.request);
    buffers_fini(&worker.rbufs);
    buffers_fini(&worker.wbufs);
}

/* ------------------------------------------------------------------ the kernel -------- */

/* What becomes of a call: -errno, or how many of len bytes it takes. */
static long choose(size_t len)
{
    uint8_t choice = take_byte(&stream.choices);

    if (choice == 0)
        return (long)len;
    if (choice % 8 == 1)
        return -EAGAIN;
    if (choice % 8 == 2)
        return -EINTR;
    len = len < (size_t)choice / 8 + 1 ? len : (size_t)choice / 8 + 1;
    return (long)len;
}

static long receive(char *buf, size_t len)
{
    size_t left = stream.sent_len - stream.read;
    long n = choose(len < left ? len : left);

    HOLDS(len > 0);
    if (n < 0)
        return n;
    if (left == 0)
        return stream.ending == STREAM_ENDS ? 0
             : stream.ending == STREAM_RESETS ? -ECONNRESET : -EAGAIN;
    memcpy(buf, stream.sent + stream.read, (size_t)n);
    stream.read += (size_t)n;
    return n;
}

static long transmit(const struct iovec *iov, size_t iov_len)
{
    size_t len = 0, done = 0;
    long n;

    for (size_t i = 0; i < iov_len; i++)
        len += iov[i].iov_len;
    HOLDS(len > 0 && len <= sizeof(stream.output) - stream.taken);
    n = choose(len);
    if (stream.fails && n == 7)
        return -EPIPE;
    for (size_t i = 0; n > 0 && done < (size_t)n; i++) {
        size_t some = (size_t)n - done < iov[i].iov_len ? (size_t)n - done : iov[i].iov_len;

        memcpy(stream.output + stream.taken + done, iov[i].iov_base, some);
        done += some;
    }
    stream.taken += done;
    return n;
}

long syscall_6(long number, long a, long b, long c, long d, long e, long f)
{
    const struct iovec part = { (void *)b, (size_t)c };
    struct msghdr *message = (struct msghdr *)b;

    (void)d;
    (void)e;
    (void)f;
    HOLDS(a == STREAM_FD);
    switch (number) {
    case SYS_recvfrom:
        return receive((char *)b, (size_t)c);
    case SYS_recvmsg:
        message->msg_flags = stream.choices.size % 3 == 1 ? MSG_CTRUNC : 0;
        return receive(message->msg_iov->iov_base, message->msg_iov->iov_len);
    case SYS_sendto:
        return transmit(&part, 1);
    default:
        abort();
    }
}

/* As sys.c does: who is interrupted tries again. */
ssize_t sys_sendv(int fd, const struct iovec *iov, size_t iov_len, int flags)
{
    ssize_t n;

    (void)fd;
    (void)flags;
    do
        n = transmit(iov, iov_len);
    while (n == -EINTR);
    return n;
}

/* The file goes on as the stream does. */
static size_t read_file(char *buf, off_t offset, size_t len)
{
    for (size_t i = 0; i < len; i++)
        buf[i] = stream_pattern((size_t)offset + i);
    return len;
}

/* A file system that can't, now and then. */
ssize_t sys_sendfile(int fd, int file_fd, off_t offset, size_t len)
{
    static char file[1 << 16];
    struct iovec part = { file, len < sizeof(file) ? len : sizeof(file) };

    if (file_fd == 1)
        return -EINVAL;
    read_file(file, offset, part.iov_len);
    return sys_sendv(fd, &part, 1, 0);
}

ssize_t sys_pread(int fd, void *buf, size_t len, off_t offset)
{
    (void)fd;
    return (ssize_t)read_file(buf, offset, len);
}

bool sys_cork(int fd)
{
    (void)fd;
    return true;
}

void sys_push(int fd)
{
    (void)fd;
}

/* What a send has taken, the peer has. */
size_t sys_unsent(int fd)
{
    (void)fd;
    return 0;
}

int sys_shutdown_write(int fd)
{
    (void)fd;
    return 0;
}

int sys_shutdown_read(int fd)
{
    (void)fd;
    return 0;
}

/* There is room, or input, at once; or there is none, and time passes. */
int sys_poll(struct pollfd *fds, unsigned len, int timeout_ms)
{
    bool in = fds[0].events & POLLIN;
    bool silent = in && stream.read == stream.sent_len && stream.ending == STREAM_FALLS_SILENT;

    HOLDS(timeout_ms >= 0);
    for (unsigned i = 0; i < len; i++)
        fds[i].revents = 0;
    if (silent || (!in && take_byte(&stream.choices) % 16 == 15)) {
        stopped_clock_ms += (uint64_t)timeout_ms;
        return 0;
    }
    fds[0].revents = fds[0].events;
    return 1;
}

/* What a stream doesn't ask for. */
void unwanted(void);
void unwanted(void)
{
    abort();
}

#define UNWANTED(name) __asm__(".globl " #name "\n.set " #name ", unwanted")

UNWANTED(sys_accept);
UNWANTED(sys_close);
UNWANTED(sys_connect);
UNWANTED(sys_discard);
UNWANTED(sys_epoll_create);
UNWANTED(sys_epoll_ctl);
UNWANTED(sys_epoll_wait);
UNWANTED(sys_eventfd);
UNWANTED(sys_eventfd_clear);
UNWANTED(sys_eventfd_signal);
UNWANTED(sys_peer_ids);
UNWANTED(sys_poll_now);
UNWANTED(sys_recvmmsg);
UNWANTED(sys_sendmmsg);
UNWANTED(sys_send_message);
UNWANTED(sys_socket);
UNWANTED(sys_socket_error);
