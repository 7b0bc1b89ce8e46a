/*
 * http_edge.c - the fourth of the epoll tutorial's servers: edge-triggered. The engine is nothing
 * else, so there is nothing to write: accepting, reading and sending until EAGAIN is its business.
 * The backlog is how many clients the kernel lets wait to be accepted.
 *
 * Run:     http_edge [ADDRESS [BACKLOG]]
 * Try:     curl http://127.0.0.1:8080/, or ab -n 10000 -c 100 http://127.0.0.1:8080/
 * Python:  epoll.register(fileno, EPOLLIN | EPOLLET); serversocket.listen(1)
 */
#include <stdio.h>
#include <stdlib.h>
#include <weir/weir.h>

static int hello(struct weir_request *req)
{
    char *line;
    ssize_t n;

    do
        n = weir_readline(req, &line, 8192);
    while (n > 0 && *line != '\r' && *line != '\n');  /* an empty line ends the request */
    if (n <= 0)
        return (int)n;
    weir_printf(req, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n"
                     "Content-Length: 14\r\n\r\nHello, world!\n");
    return 0;
}

static const struct weir_handler handler = {
    .name = "http_edge", .handle = hello, .client_first = true,
};

int main(int argc, char **argv)
{
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:8080",
            .handler = &handler,
            .backlog = argc > 2 ? (uint32_t)atoi(argv[2]) : 0,  /* 0: SOMAXCONN */
            .reuse_address = true)) < 0) {
        fprintf(stderr, "http_edge: %s\n", weir_why());
        return 2;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "http_edge: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "http_edge: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
