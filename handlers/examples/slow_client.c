/*
 * slow_client.c - sends a line in parts and dawdles between them, as a client on a bad line does.
 * Run a fast client beside it: a server that waits for this one keeps that one waiting, too;
 * weir's doesn't, even with one worker. No weir in it.
 *
 * Run:     slow_client HOST PORT [PAUSE_MS]
 * Try:     slow_client 127.0.0.1 9999 1500, and upper_client beside it (both beside upper)
 * Python:  for part in parts: time.sleep(1.5); sock.sendall(part)
 */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A connected socket, or -1: each address of the host is tried, as create_connection does. */
static int create_connection(const char *host, const char *port)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    struct addrinfo *first;
    int fd = -1;

    if (getaddrinfo(host, port, &hints, &first) != 0)
        return -1;
    for (struct addrinfo *a = first; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(first);
    return fd;
}

int main(int argc, char **argv)
{
    static const char *const parts[] = {
        "This is the message. ", "It will be sent ", "in parts.\n",
    };
    unsigned pause_ms = argc > 3 ? (unsigned)atoi(argv[3]) : 1500;
    int fd = argc > 2 ? create_connection(argv[1], argv[2]) : -1;
    char reply[256];
    ssize_t n;

    if (fd < 0) {
        fprintf(stderr, argc > 2 ? "slow_client: cannot connect\n"
                                 : "usage: slow_client HOST PORT [PAUSE_MS]\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        usleep(i > 0 ? pause_ms * 1000 : 0);
        send(fd, parts[i], strlen(parts[i]), MSG_NOSIGNAL);
        printf("sent '%.*s'\n", (int)strcspn(parts[i], "\n"), parts[i]);
        fflush(stdout);
    }
    shutdown(fd, SHUT_WR);
    while ((n = recv(fd, reply, sizeof(reply), 0)) > 0)
        printf("received '%.*s'\n", (int)(reply[n - 1] == '\n' ? n - 1 : n), reply);
    close(fd);
    return 0;
}
