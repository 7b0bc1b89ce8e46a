/*
 * upper_client.c - sends its words as a line and prints the line that comes back. No weir in it.
 *
 * Run:     upper_client HOST PORT WORD...
 * Try:     upper_client 127.0.0.1 9999 hello world        (beside upper)
 * Python:  socket.create_connection((host, port)), sendall(), makefile().readline()
 */
#include <netdb.h>
#include <stdio.h>
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
    char reply[4096];
    FILE *server;
    int fd;

    if (argc < 4) {
        fprintf(stderr, "usage: upper_client HOST PORT WORD...\n");
        return 2;
    }
    fd = create_connection(argv[1], argv[2]);
    server = fd >= 0 ? fdopen(fd, "r+") : NULL;
    if (!server) {
        fprintf(stderr, "upper_client: cannot connect to %s, port %s\n", argv[1], argv[2]);
        return 1;
    }
    for (int i = 3; i < argc; i++)
        fprintf(server, "%s%c", argv[i], i < argc - 1 ? ' ' : '\n');
    fflush(server);
    if (fgets(reply, sizeof(reply), server))
        printf("Received: %s", reply);
    fclose(server);
    return 0;
}
