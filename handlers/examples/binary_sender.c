/*
 * binary_sender.c - packs a number, two characters and a float into 10 bytes, sends them, and
 * prints what the server understood. No weir in it.
 *
 * Run:     binary_sender HOST PORT NUMBER TWO_CHARACTERS FLOAT
 * Try:     binary_sender 127.0.0.1 10000 1 ab 2.7         (beside binary)
 * Python:  sock.sendall(struct.Struct("!I2sf").pack(1, b"ab", 2.7))
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void pack_u32(unsigned char *at, uint32_t value)
{
    value = htonl(value);
    memcpy(at, &value, sizeof(value));
}

static void pack_float(unsigned char *at, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    pack_u32(at, bits);
}

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
    unsigned char record[4 + 2 + 4];
    char reply[64];
    ssize_t n;
    int fd;

    if (argc != 6 || strlen(argv[4]) != 2) {
        fprintf(stderr, "usage: binary_sender HOST PORT NUMBER TWO_CHARACTERS FLOAT\n");
        return 2;
    }
    pack_u32(record, (uint32_t)strtoul(argv[3], NULL, 10));
    memcpy(record + 4, argv[4], 2);
    pack_float(record + 6, strtof(argv[5], NULL));
    fd = create_connection(argv[1], argv[2]);
    /* So few bytes fit into the socket's buffer whole. */
    if (fd < 0 || send(fd, record, sizeof(record), MSG_NOSIGNAL) < 0) {
        perror("binary_sender");
        return 1;
    }
    shutdown(fd, SHUT_WR);
    while ((n = recv(fd, reply, sizeof(reply), 0)) > 0)
        fwrite(reply, 1, (size_t)n, stdout);
    close(fd);
    return 0;
}
