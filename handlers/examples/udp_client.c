/*
 * udp_client.c - sends a message as a datagram and prints the reply. Datagrams get lost, so one
 * that is not answered within a second is sent again, three times in all. No weir in it.
 *
 * Run:     udp_client HOST PORT MESSAGE
 * Try:     udp_client 127.0.0.1 10000 hello               (beside udp_echo)
 * Python:  sock.sendto(message, address); sock.settimeout(1); sock.recvfrom(4096)
 */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* A socket that sends to the host and hears of it alone, or -1. */
static int open_socket(const char *host, const char *port)
{
    struct addrinfo hints = { .ai_socktype = SOCK_DGRAM };
    struct timeval second = { .tv_sec = 1 };
    struct addrinfo *to;
    int fd;

    if (getaddrinfo(host, port, &hints, &to) != 0)
        return -1;
    fd = socket(to->ai_family, to->ai_socktype, 0);
    if (fd >= 0 && (connect(fd, to->ai_addr, to->ai_addrlen) < 0 ||
                    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second)) < 0)) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(to);
    return fd;
}

/* Length of the reply, or -1. */
static ssize_t ask(int fd, const char *message, char *reply, size_t size)
{
    ssize_t n = -1;

    for (int tries = 0; tries < 3 && n < 0; tries++)
        if (send(fd, message, strlen(message), 0) >= 0)
            n = recv(fd, reply, size, 0);
    return n;
}

int main(int argc, char **argv)
{
    char reply[4096];
    ssize_t n;
    int fd;

    if (argc != 4) {
        fprintf(stderr, "usage: udp_client HOST PORT MESSAGE\n");
        return 2;
    }
    fd = open_socket(argv[1], argv[2]);
    n = fd < 0 ? -1 : ask(fd, argv[3], reply, sizeof(reply));
    if (n < 0) {
        fprintf(stderr, "udp_client: no answer from %s, port %s\n", argv[1], argv[2]);
        return 1;
    }
    printf("received '%.*s'\n", (int)n, reply);
    close(fd);
    return 0;
}
