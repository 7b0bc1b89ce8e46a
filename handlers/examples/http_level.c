/*
 * http_level.c - the third of the epoll tutorial's servers: level-triggered epoll, a state for each
 * connection, and its interest turned from reading to writing when the request is there. No weir in
 * it: weir is edge-triggered only. This is about the least that one has to write by hand; the
 * tutorial's own spins when a client goes before it has asked, since it never tests for the end.
 *
 * Run:     http_level [PORT]
 * Try:     curl http://127.0.0.1:8080/
 * Python:  epoll.register(fileno, EPOLLIN); for fileno, event in epoll.poll(1): ... epoll.modify()
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char response[] = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n"
                               "Content-Length: 14\r\n\r\nHello, world!\n";

struct connection {
    int fd;
    size_t received;
    size_t sent;
    char request[8192];         /* zeroed, and its last byte stays so: a string */
};

/* A socket that listens on the port of 127.0.0.1, and says so; or -1. */
static int open_listener(const char *port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        .sin_port = htons((uint16_t)atoi(port)),
    };
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int yes = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(fd, (const struct sockaddr *)&address, len) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return -1;
    fprintf(stderr, "http_level: listening on tcp://127.0.0.1:%d\n", ntohs(address.sin_port));
    return fd;
}

static void welcome(int epoll, int listener)
{
    struct connection *c = calloc(1, sizeof(*c));
    int fd = accept(listener, NULL, NULL);

    if (!c || fd < 0) {
        free(c);
        if (fd >= 0)
            close(fd);
        return;
    }
    c->fd = fd;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){ EPOLLIN, { .ptr = c } });
}

static void hang_up(struct connection *c)
{
    close(c->fd);               /* takes it out of the epoll set, too */
    free(c);
}

static void take(int epoll, struct connection *c)
{
    ssize_t n = recv(c->fd, c->request + c->received, sizeof(c->request) - 1 - c->received,
                     MSG_DONTWAIT);

    if (n <= 0) {               /* the end: without this test, epoll_wait tells of it for ever */
        hang_up(c);
        return;
    }
    c->received += (size_t)n;
    if (strstr(c->request, "\n\r\n") || strstr(c->request, "\n\n"))
        epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &(struct epoll_event){ EPOLLOUT, { .ptr = c } });
}

static void give(struct connection *c)
{
    ssize_t n = send(c->fd, response + c->sent, strlen(response) - c->sent,
                     MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n > 0)
        c->sent += (size_t)n;
    if (n < 0 || c->sent == strlen(response))
        hang_up(c);
}

int main(int argc, char **argv)
{
    int listener = open_listener(argc > 1 ? argv[1] : "8080");
    int epoll = epoll_create1(0);
    struct epoll_event event = { EPOLLIN, { .ptr = NULL } };    /* NULL: the listener */

    if (listener < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0) {
        perror("http_level");
        return 1;
    }
    while (epoll_wait(epoll, &event, 1, -1) == 1)
        if (!event.data.ptr)
            welcome(epoll, listener);
        else if (event.events & EPOLLOUT)
            give(event.data.ptr);
        else
            take(epoll, event.data.ptr);
    return 1;
}
