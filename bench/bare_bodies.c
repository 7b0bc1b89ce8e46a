/*
 * bare_bodies.c - see bare_bodies.h.
 *
 * Threads: the loop is alone with its listener, its epoll set and its connections.
 * Corners cut: a recv brings one whole request, and the next comes when that one is answered, as
 * tools/load/load.h asks.
 */
#include "bench/bare_bodies.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/bare_listener.h"
#include "bench/body_file.h"

/* sendfile(2) gives TCP so much at a time, which would leave as a full segment and a tiny one. */
#define SENDFILE_SPAN ((size_t)64 << 10)

enum { EVENTS_MAX = 256, RECV_SIZE = 16384, HEAD_SIZE = 256, DESCRIPTORS_MAX = 65536 };

struct loop {
    enum bare_bodies_mode mode;
    int listen_fd;
    int epoll_fd;
    struct body_file body;
    char *reply;                /* the head, and behind it the body */
    size_t head_len;
    size_t reply_len;
    size_t left[DESCRIPTORS_MAX];       /* of a connection's reply; 0: it owes none */
    char input[RECV_SIZE];
};

static void cork(int fd, int on)
{
    setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
}

/* From where the connection is in its reply, as much as the socket takes. */
static ssize_t send_some(const struct loop *loop, int fd, size_t at)
{
    off_t offset = (off_t)(at - loop->head_len);

    if (loop->mode == BARE_BODIES_MEMORY)
        return send(fd, loop->reply + at, loop->reply_len - at, MSG_NOSIGNAL);
    if (at < loop->head_len) {
        if (loop->body.len > SENDFILE_SPAN)
            cork(fd, 1);
        return send(fd, loop->reply + at, loop->head_len - at, MSG_NOSIGNAL | MSG_MORE);
    }
    return sendfile(fd, loop->body.fd, &offset, loop->reply_len - at);
}

/* False: the connection is done with. */
static bool answer(struct loop *loop, int fd)
{
    while (loop->left[fd] > 0) {
        ssize_t n = send_some(loop, fd, loop->reply_len - loop->left[fd]);

        if (n <= 0)     /* 0: the file has become shorter */
            return n < 0 && errno == EAGAIN;
        loop->left[fd] -= (size_t)n;
    }
    if (loop->mode == BARE_BODIES_FILE && loop->body.len > SENDFILE_SPAN)
        cork(fd, 0);
    return true;
}

static bool serve(struct loop *loop, int fd, uint32_t events)
{
    ssize_t n;

    if (loop->left[fd] > 0)
        return answer(loop, fd);
    if (!(events & EPOLLIN))
        return true;
    n = recv(fd, loop->input, sizeof(loop->input), MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    loop->left[fd] = loop->reply_len;
    return answer(loop, fd);
}

static void accept_all(struct loop *loop)
{
    int fd;

    while ((fd = accept4(loop->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                     .data.fd = fd };

        if (fd < DESCRIPTORS_MAX)
            loop->left[fd] = 0;
        if (fd >= DESCRIPTORS_MAX ||
            epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
            close(fd);
    }
}

static void run(struct loop *loop)
{
    struct epoll_event events[EVENTS_MAX];

    signal(SIGPIPE, SIG_IGN);       /* sendfile has no MSG_NOSIGNAL */
    for (;;) {
        int n = epoll_wait(loop->epoll_fd, events, EVENTS_MAX, -1);

        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;

            if (fd == loop->listen_fd)
                accept_all(loop);
            else if (!serve(loop, fd, events[i].events))
                close(fd);
        }
    }
}

static int make_reply(struct loop *loop)
{
    char head[HEAD_SIZE];
    int len = snprintf(head, sizeof(head),
                       "HTTP/1.1 200 OK\r\n"
                       "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
                       "Content-Type: application/octet-stream\r\n"
                       "Content-Length: %zu\r\n"
                       "\r\n", loop->body.len);

    loop->head_len = (size_t)len;
    loop->reply_len = loop->head_len + loop->body.len;
    loop->reply = malloc(loop->reply_len);
    if (!loop->reply)
        return -ENOMEM;
    memcpy(loop->reply, head, loop->head_len);
    memcpy(loop->reply + loop->head_len, loop->body.data, loop->body.len);
    return 0;
}

static int loop_init(struct loop *loop, const char *body, uint16_t *port)
{
    int r = body_file_open(&loop->body, body);

    if (r == 0)
        r = make_reply(loop);
    if (r < 0)
        return r;
    loop->listen_fd = bare_listener_open(NULL, port);
    if (loop->listen_fd < 0)
        return loop->listen_fd;
    loop->epoll_fd = bare_listener_set(loop->listen_fd);
    return loop->epoll_fd < 0 ? loop->epoll_fd : 0;
}

/* What a failure leaves open goes with the process: the caller has nothing else to do in it. */
int bare_bodies_run(enum bare_bodies_mode mode, const char *body,
                    void (*ready)(void *arg, const char *address), void *arg)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    char address[BARE_LISTENER_URI_SIZE];
    uint16_t port = 0;
    int r;

    if (!loop)
        return -ENOMEM;
    loop->mode = mode;
    r = loop_init(loop, body, &port);
    if (r < 0)
        return r;
    bare_listener_uri(NULL, port, address);
    ready(arg, address);
    run(loop);
    return 0;
}
