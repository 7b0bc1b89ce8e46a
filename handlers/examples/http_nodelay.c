/*
 * http_nodelay.c - the sixth of the epoll tutorial's servers sets TCP_NODELAY, so that small pieces
 * are not held back until the last one is acknowledged. It matters where a handler sends a piece
 * before it has the next: here a line every tenth of a second.
 *
 * Run:     http_nodelay [ADDRESS]
 * Try:     curl -N http://127.0.0.1:8080/
 * Python:  serversocket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1);
 *          StreamRequestHandler.disable_nagle_algorithm = True
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <weir/weir.h>

static int count(struct weir_request *req)
{
    socklen_t len = sizeof(int);
    int nodelay = 0;
    char *line;
    ssize_t n;

    do
        n = weir_readline(req, &line, 8192);
    while (n > 0 && *line != '\r' && *line != '\n');  /* an empty line ends the request */
    if (n <= 0)
        return (int)n;
    getsockopt(weir_request_fd(req), IPPROTO_TCP, TCP_NODELAY, &nodelay, &len);
    weir_printf(req, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nTCP_NODELAY is %s\n",
                nodelay ? "on" : "off");
    for (int i = 3; i > 0 && weir_flush(req) == 0 && weir_sleep(req, 100) == 0; i--)
        weir_printf(req, "%d\n", i);
    return 0;
}

static const struct weir_handler handler = {
    .name = "http_nodelay", .handle = count, .client_first = true,
};

int main(int argc, char **argv)
{
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:8080",
            .handler = &handler,
            .disable_nagle_algorithm = true,
            .reuse_address = true)) < 0) {
        fprintf(stderr, "http_nodelay: %s\n", weir_why());
        return 2;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "http_nodelay: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "http_nodelay: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
