/*
 * http_blocking.c - the second of the epoll tutorial's servers: the same in a loop, one client
 * after another. It is what WEIR_SERIAL does, and why hardly anybody wants it: while one client
 * dawdles, all others wait. No weir in it.
 *
 * Run:     http_blocking [PORT]
 * Try:     curl http://127.0.0.1:8080/, and again while `nc 127.0.0.1 8080` says nothing
 * Python:  try: while True: serversocket.accept() ... finally: serversocket.close()
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static const char response[] = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n"
                               "Content-Length: 14\r\n\r\nHello, world!\n";

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
    if (bind(fd, (const struct sockaddr *)&address, len) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return -1;
    fprintf(stderr, "http_blocking: listening on tcp://127.0.0.1:%d\n", ntohs(address.sin_port));
    return fd;
}

/* Takes a request up to its empty line, and answers. Whoever dawdles here holds up everybody. */
static void serve(int fd)
{
    FILE *request = fdopen(fd, "r");
    char line[8192];

    while (fgets(line, sizeof(line), request) && *line != '\r' && *line != '\n')
        continue;
    send(fd, response, strlen(response), MSG_NOSIGNAL);
    fclose(request);            /* and the connection with it */
}

int main(int argc, char **argv)
{
    int listener = open_listener(argc > 1 ? argv[1] : "8080");
    int fd;

    while (listener >= 0 && (fd = accept(listener, NULL, NULL)) >= 0)
        serve(fd);
    perror("http_blocking");
    return 1;
}
