/*
 * bare_loop.c - see bare_loop.h.
 *
 * Threads: each loop is alone with its listener, its epoll set and its connections.
 * Corners cut, because a yardstick must be the cheapest loop that still answers correctly under
 * tools/load/load.h: a CRLFCRLF split over two recvs is not recognised, and a peer that does not
 * take its answer at once is dropped.
 */
#include "bench/bare_loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/bare_listener.h"
#include "bench/burn.h"

/* What weir's hello answers, byte for byte but for the time: the same work for the kernel. */
#define REPLY(connection) \
    "HTTP/1.1 200 OK\r\n" \
    "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n" \
    "Content-Type: text/plain\r\n" \
    "Content-Length: 14\r\n" \
    connection "\r\n" \
    "Hello, world!\n"

static const char keep_reply[] = REPLY("");
static const char close_reply[] = REPLY("Connection: close\r\n");

enum {
    REPLY_LEN = sizeof(keep_reply) - 1,
    REPLIES_MAX = 64,           /* answered by one send when requests come pipelined */
    EVENTS_MAX = 256,
    RECV_SIZE = 16384,
};

static const char slow_request[] = "GET /slow ";

struct loop {
    enum bare_loop_mode mode;
    int listen_fd;
    int epoll_fd;
    char input[RECV_SIZE];
    char replies[REPLIES_MAX * REPLY_LEN];
};

static bool send_all(int fd, const char *data, size_t len)
{
    return send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static size_t requests_in(const char *data, size_t len)
{
    const char *end = data + len;
    size_t count = 0;

    while ((data = memmem(data, (size_t)(end - data), "\r\n\r\n", 4))) {
        data += 4;
        count++;
    }
    return count;
}

/* False: the connection is done with. */
static bool answer(struct loop *loop, int fd, size_t len)
{
    if (loop->mode == BARE_LOOP_LINE)
        return send_all(fd, loop->input, len);

    bool closes = loop->mode == BARE_LOOP_CLOSE || loop->mode == BARE_LOOP_OVERLOAD;
    bool is_slow = loop->mode == BARE_LOOP_SLOW || loop->mode == BARE_LOOP_OVERLOAD;
    size_t left = requests_in(loop->input, len);

    if (is_slow && len >= sizeof(slow_request) - 1 &&
        memcmp(loop->input, slow_request, sizeof(slow_request) - 1) == 0)
        burn_ms(BURN_SLOW_MS);
    if (closes) {
        if (left > 0)
            send_all(fd, close_reply, sizeof(close_reply) - 1);
        return left == 0;
    }
    while (left > 0) {
        size_t batch = left < REPLIES_MAX ? left : REPLIES_MAX;

        if (!send_all(fd, loop->replies, batch * REPLY_LEN))
            return false;
        left -= batch;
    }
    return true;
}

static void serve(struct loop *loop, int fd, uint32_t events)
{
    ssize_t n;

    do {
        n = recv(fd, loop->input, sizeof(loop->input), MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0 || !answer(loop, fd, (size_t)n)) {
            close(fd);
            return;
        }
        /* A short recv has drained the socket: the next byte is a new edge. An end of file that
         * came with the data is no new edge, so that one is read up to. */
    } while (n == sizeof(loop->input) || (events & EPOLLRDHUP));
}

static void accept_all(struct loop *loop)
{
    int fd;

    while ((fd = accept4(loop->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd };

        if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
            close(fd);
    }
}

static void *loop_main(void *arg)
{
    struct loop *loop = arg;
    struct epoll_event events[EVENTS_MAX];

    for (;;) {
        int n = epoll_wait(loop->epoll_fd, events, EVENTS_MAX, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == loop->listen_fd)
                accept_all(loop);
            else
                serve(loop, events[i].data.fd, events[i].events);
        }
    }
    return NULL;
}

static int loop_init(struct loop *loop, enum bare_loop_mode mode, const char *path, uint16_t *port)
{
    loop->mode = mode;
    for (size_t i = 0; i < REPLIES_MAX; i++)
        memcpy(loop->replies + i * REPLY_LEN, keep_reply, REPLY_LEN);

    loop->listen_fd = bare_listener_open(path, port);
    if (loop->listen_fd < 0)
        return loop->listen_fd;
    loop->epoll_fd = bare_listener_set(loop->listen_fd);
    return loop->epoll_fd < 0 ? loop->epoll_fd : 0;
}

/* What a failure leaves open goes with the process: the caller has nothing else to do in it. */
int bare_loop_run(enum bare_loop_mode mode, unsigned threads, const char *path,
                  void (*ready)(void *arg, const char *address), void *arg)
{
    struct loop *loops = calloc(threads, sizeof(*loops));
    char address[BARE_LISTENER_URI_SIZE];
    uint16_t port = 0;
    int r;

    if (!loops)
        return -ENOMEM;
    for (unsigned i = 0; i < threads; i++) {
        r = loop_init(&loops[i], mode, path, &port);
        if (r < 0)
            return r;
    }
    for (unsigned i = 1; i < threads; i++) {
        pthread_t thread;

        r = pthread_create(&thread, NULL, loop_main, &loops[i]);
        if (r > 0)
            return -r;
    }
    bare_listener_uri(path, port, address);
    ready(arg, address);
    loop_main(&loops[0]);
    return 0;
}
