/*
 * peer.c - see peer.h.
 */
#include "bench/peers/peer.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

void peer_fail(const char *name, const char *what)
{
    fprintf(stderr, "%s: %s\n", name, what);
    exit(1);
}

union name {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_un un;
};

static socklen_t name_of(union name *ret_name, const char *path)
{
    if (path) {
        ret_name->un = (struct sockaddr_un){ .sun_family = AF_UNIX };
        strncpy(ret_name->un.sun_path, path, sizeof(ret_name->un.sun_path) - 1);
        return sizeof(ret_name->un);
    }
    ret_name->in = (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    return sizeof(ret_name->in);
}

int peer_listen(const char *name, const char *path)
{
    union name address;
    socklen_t len = name_of(&address, path);
    int fd = socket(address.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, &address.sa, len) < 0 || listen(fd, SOMAXCONN) < 0)
        peer_fail(name, "cannot listen");
    return fd;
}

void peer_announce(const char *name, int fd)
{
    union name address;
    socklen_t len = sizeof(address);

    if (getsockname(fd, &address.sa, &len) < 0)
        peer_fail(name, "the listener has no address");
    if (address.sa.sa_family == AF_UNIX)
        fprintf(stderr, "%s: listening on unix://%s\n", name, address.un.sun_path);
    else
        fprintf(stderr, "%s: listening on tcp://127.0.0.1:%u\n", name,
                (unsigned)ntohs(address.in.sin_port));
}
