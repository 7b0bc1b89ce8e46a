/*
 * peer.c - see peer.h.
 */
#include "bench/peers/peer.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

void peer_fail(const char *name, const char *what)
{
    fprintf(stderr, "%s: %s\n", name, what);
    exit(1);
}

int peer_listen(const char *name)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, SOMAXCONN) < 0)
        peer_fail(name, "cannot listen");
    return fd;
}

void peer_announce(const char *name, int fd)
{
    struct sockaddr_in address;
    socklen_t len = sizeof(address);

    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        peer_fail(name, "the listener has no address");
    fprintf(stderr, "%s: listening on tcp://127.0.0.1:%u\n", name,
            (unsigned)ntohs(address.sin_port));
}
