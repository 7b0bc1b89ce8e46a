/*
 * bare_delay.c - see bare_delay.h.
 *
 * Threads: the loop is alone with its listener, its epoll set, its connections and its queue.
 * Corners cut: a recv brings one whole line, and the next comes when that one is answered, as
 * tools/load/load.h asks; a line for which the queue has no room is dropped with its connection.
 */
#include "bench/bare_delay.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench/bare_listener.h"

enum { EVENTS_MAX = 256, LINE_MAX_LEN = 64, LATE_MAX = 32768, DESCRIPTORS_MAX = 65536 };

struct late {
    uint64_t due_ms;
    int fd;
    uint32_t owner;             /* of the descriptor, when the line came */
    size_t len;
    char line[LINE_MAX_LEN];
};

struct loop {
    int listen_fd;
    int epoll_fd;
    uint64_t now_ms;
    uint32_t first, end;                /* of the queue, modulo LATE_MAX */
    struct late lates[LATE_MAX];
    uint32_t owners[DESCRIPTORS_MAX];   /* counts connections, by descriptor */
};

static uint64_t clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void drop(struct loop *loop, int fd)
{
    loop->owners[fd]++;
    close(fd);
}

static void serve(struct loop *loop, int fd)
{
    struct late *late = &loop->lates[loop->end % LATE_MAX];
    ssize_t n;

    if (loop->end - loop->first == LATE_MAX) {
        drop(loop, fd);
        return;
    }
    n = recv(fd, late->line, sizeof(late->line), MSG_DONTWAIT);
    if (n > 0) {
        /* A millisecond of which a part has passed is no whole one: hence one more. */
        late->due_ms = loop->now_ms + BARE_DELAY_MS + 1;
        late->fd = fd;
        late->owner = loop->owners[fd];
        late->len = (size_t)n;
        loop->end++;
    } else if (n == 0 || errno != EAGAIN) {
        drop(loop, fd);
    }
}

static void send_due(struct loop *loop)
{
    for (; loop->first != loop->end; loop->first++) {
        const struct late *late = &loop->lates[loop->first % LATE_MAX];

        if (late->due_ms > loop->now_ms)
            return;
        if (late->owner == loop->owners[late->fd])
            send(late->fd, late->line, late->len, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

static void accept_all(struct loop *loop)
{
    int fd;

    while ((fd = accept4(loop->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd };

        if (fd >= DESCRIPTORS_MAX || epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
            close(fd);
    }
}

static int wait_ms(const struct loop *loop)
{
    uint64_t due_ms;

    if (loop->first == loop->end)
        return -1;
    due_ms = loop->lates[loop->first % LATE_MAX].due_ms;
    return due_ms > loop->now_ms ? (int)(due_ms - loop->now_ms) : 0;
}

static void run(struct loop *loop)
{
    struct epoll_event events[EVENTS_MAX];

    for (;;) {
        int n = epoll_wait(loop->epoll_fd, events, EVENTS_MAX, wait_ms(loop));

        loop->now_ms = clock_ms();
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == loop->listen_fd)
                accept_all(loop);
            else
                serve(loop, events[i].data.fd);
        }
        send_due(loop);
    }
}

/* What a failure leaves open goes with the process: the caller has nothing else to do in it. */
int bare_delay_run(void (*ready)(void *arg, const char *address), void *arg)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    char address[BARE_LISTENER_URI_SIZE];
    uint16_t port = 0;

    if (!loop)
        return -ENOMEM;
    loop->listen_fd = bare_listener_open(NULL, &port);
    if (loop->listen_fd < 0)
        return loop->listen_fd;
    loop->epoll_fd = bare_listener_set(loop->listen_fd);
    if (loop->epoll_fd < 0)
        return loop->epoll_fd;
    loop->now_ms = clock_ms();
    bare_listener_uri(NULL, port, address);
    ready(arg, address);
    run(loop);
    return 0;
}
