/*
 * recv16_client.c - sends a message and takes it back in pieces of 16 bytes at most. No weir in it.
 *
 * Run:     recv16_client HOST PORT MESSAGE
 * Try:     recv16_client localhost 10000 'This message comes back in pieces.'    (beside recv16)
 * Python:  sendall(message); while received < expected: received += len(sock.recv(16))
 */
#include <netdb.h>
#include <stdio.h>
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

/* send(2) may take less than it was given; sendall is a loop over it. */
static int sendall(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n < 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

int main(int argc, char **argv)
{
    size_t expected = argc == 4 ? strlen(argv[3]) : 0;
    size_t received = 0;
    char data[16];
    ssize_t n = 1;
    int fd;

    if (argc != 4) {
        fprintf(stderr, "usage: recv16_client HOST PORT MESSAGE\n");
        return 2;
    }
    fd = create_connection(argv[1], argv[2]);
    if (fd < 0 || sendall(fd, argv[3], expected) < 0) {
        perror("recv16_client");
        return 1;
    }
    while (received < expected && (n = recv(fd, data, sizeof(data), 0)) > 0) {
        printf("received '%.*s'\n", (int)n, data);
        received += (size_t)n;
    }
    close(fd);
    return received == expected ? 0 : 1;
}
