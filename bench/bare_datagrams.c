/*
 * bare_datagrams.c - see bare_datagrams.h.
 *
 * Threads: the loop is alone with its socket.
 * Corners cut: what does not fit is cut off, and what a peer does not take at once is dropped.
 */
#include "bench/bare_datagrams.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/net/address.h"

enum {
    BATCH = 64,                 /* more buy nothing: what a call costs is divided by 64 already */
    DATAGRAM_SIZE = 2048,
};

union name {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_un un;
};

struct loop {
    int fd;
    int epoll_fd;
    struct mmsghdr messages[BATCH];
    struct iovec pieces[BATCH];
    union name peers[BATCH];
    char texts[BATCH][DATAGRAM_SIZE];
};

static void message_init(struct loop *loop, size_t i)
{
    loop->pieces[i] = (struct iovec){ loop->texts[i], DATAGRAM_SIZE };
    loop->messages[i].msg_hdr = (struct msghdr){
        .msg_name = &loop->peers[i],
        .msg_namelen = sizeof(loop->peers[i]),
        .msg_iov = &loop->pieces[i],
        .msg_iovlen = 1,
    };
}

/* Each goes back from where it lies. A peer that does not take its own is passed over. */
static void send_back(struct loop *loop, int len)
{
    int sent = 0;

    for (int i = 0; i < len; i++)
        loop->pieces[i].iov_len = loop->messages[i].msg_len;
    while (sent < len) {
        int n = sendmmsg(loop->fd, loop->messages + sent, (unsigned)(len - sent), MSG_DONTWAIT);

        sent += n > 0 ? n : 1;
    }
    for (int i = 0; i < len; i++) {
        loop->pieces[i].iov_len = DATAGRAM_SIZE;
        loop->messages[i].msg_hdr.msg_namelen = sizeof(loop->peers[i]);
    }
}

static void serve(struct loop *loop)
{
    int n;

    do {
        n = recvmmsg(loop->fd, loop->messages, BATCH, MSG_DONTWAIT, NULL);
        if (n > 0)
            send_back(loop, n);
    } while (n == BATCH);       /* fewer have drained the socket: the next is a new edge */
}

static int bound_socket(int family, char *address, size_t size)
{
    union name name = { .sa.sa_family = (sa_family_t)family };
    socklen_t len = sizeof(name.sa.sa_family);      /* of a Unix socket: the kernel names it */
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (family == AF_INET) {
        name.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        len = sizeof(name.in);
    }
    if (bind(fd, &name.sa, len) < 0)
        return -errno;
    len = sizeof(name);
    if (getsockname(fd, &name.sa, &len) < 0)
        return -errno;

    int r = address_format(SOCK_DGRAM, &name.sa, len, address, size);

    return r < 0 ? r : fd;
}

/* What a failure leaves open goes with the process: the caller has nothing else to do in it. */
int bare_datagrams_run(int family, void (*ready)(void *arg, const char *address), void *arg)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    struct epoll_event event = { .events = EPOLLIN | EPOLLET };
    char address[256];

    if (!loop)
        return -ENOMEM;
    for (size_t i = 0; i < BATCH; i++)
        message_init(loop, i);
    loop->fd = bound_socket(family, address, sizeof(address));
    if (loop->fd < 0)
        return loop->fd;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0 || epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->fd, &event) < 0)
        return -errno;
    ready(arg, address);
    for (;;) {
        if (epoll_wait(loop->epoll_fd, &event, 1, -1) > 0)
            serve(loop);
    }
}
