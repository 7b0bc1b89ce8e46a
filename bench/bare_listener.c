/*
 * bare_listener.c - see bare_listener.h.
 */
#include "bench/bare_listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

_Static_assert(BARE_LISTENER_URI_SIZE > sizeof("unix://") + sizeof(struct sockaddr_un),
               "room for the longest path");

static int listen_at_port(int fd, uint16_t *port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        .sin_port = htons(*port),
    };
    socklen_t address_len = sizeof(address);

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){ 1 }, sizeof(int)) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &address_len) < 0)
        return -errno;
    *port = ntohs(address.sin_port);
    return 0;
}

static int listen_at_path(int fd, const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, SOMAXCONN) < 0)
        return -errno;
    return 0;
}

int bare_listener_open(const char *path, uint16_t *port)
{
    int fd = socket(path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int r;

    if (fd < 0)
        return -errno;
    r = path ? listen_at_path(fd, path) : listen_at_port(fd, port);
    if (r < 0)
        close(fd);
    return r < 0 ? r : fd;
}

int bare_listener_set(int listen_fd)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.fd = listen_fd };
    int fd = epoll_create1(EPOLL_CLOEXEC);

    if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, listen_fd, &event) < 0)
        return -errno;
    return fd;
}

void bare_listener_uri(const char *path, uint16_t port, char *uri)
{
    if (path)
        snprintf(uri, BARE_LISTENER_URI_SIZE, "unix://%s", path);
    else
        snprintf(uri, BARE_LISTENER_URI_SIZE, "tcp://127.0.0.1:%u", (unsigned)port);
}
