/*
 * bare_relay.c - see bare_relay.h.
 *
 * Threads: the loop is alone with its listener, its epoll set and its connections.
 * Corners cut: connecting blocks, which on the loopback interface takes no time; and what a side
 * does not take at once is lost, but lines are short and nobody has two under way.
 */
#include "bench/bare_relay.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/bare_listener.h"
#include "engine/net/address.h"

enum { EVENTS_MAX = 256, RECV_SIZE = 16384, DESCRIPTORS_MAX = 65536, NONE = -1 };

struct loop {
    int listen_fd;
    int epoll_fd;
    struct address backend;
    int others[DESCRIPTORS_MAX];        /* the other side's descriptor, or NONE */
    char input[RECV_SIZE];
};

static int watch(const struct loop *loop, int fd)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd };

    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

/* An event that was read before may still name either: then it has no other side. */
static void part(struct loop *loop, int fd)
{
    int other = loop->others[fd];

    loop->others[fd] = loop->others[other] = NONE;
    close(fd);
    close(other);
}

static void serve(struct loop *loop, int fd)
{
    ssize_t n;

    if (loop->others[fd] == NONE)
        return;
    n = recv(fd, loop->input, sizeof(loop->input), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 ||
        send(loop->others[fd], loop->input, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
        part(loop, fd);
}

static int connect_backend(const struct loop *loop)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, &loop->backend.sa, loop->backend.len) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void accept_all(struct loop *loop)
{
    int fd;

    while ((fd = accept4(loop->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int other = connect_backend(loop);

        if (other < 0 || other >= DESCRIPTORS_MAX || fd >= DESCRIPTORS_MAX) {
            close(fd);
            if (other >= 0)
                close(other);
            continue;
        }
        loop->others[fd] = other;
        loop->others[other] = fd;
        if (watch(loop, fd) < 0 || watch(loop, other) < 0)
            part(loop, fd);
    }
}

static void run(struct loop *loop)
{
    struct epoll_event events[EVENTS_MAX];

    for (;;) {
        int n = epoll_wait(loop->epoll_fd, events, EVENTS_MAX, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == loop->listen_fd)
                accept_all(loop);
            else
                serve(loop, events[i].data.fd);
        }
    }
}

/* What a failure leaves open goes with the process: the caller has nothing else to do in it. */
int bare_relay_run(const char *backend, void (*ready)(void *arg, const char *address), void *arg)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    char address[BARE_LISTENER_URI_SIZE], why[256];
    uint16_t port = 0;
    int r;

    if (!loop)
        return -ENOMEM;
    r = address_parse(backend, &loop->backend, why, sizeof(why));
    if (r < 0)
        return r;
    loop->listen_fd = bare_listener_open(NULL, &port);
    if (loop->listen_fd < 0)
        return loop->listen_fd;
    loop->epoll_fd = bare_listener_set(loop->listen_fd);
    if (loop->epoll_fd < 0)
        return loop->epoll_fd;
    bare_listener_uri(NULL, port, address);
    ready(arg, address);
    run(loop);
    return 0;
}
