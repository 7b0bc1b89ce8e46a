/*
 * http_cork.c - the fifth of the epoll tutorial's servers sets TCP_CORK while it sends a reply, so
 * that its pieces leave in full segments. Here wfile gathers them: nothing is sent until the
 * handler returns, waits for input, calls weir_flush, or has filled the buffer. So there is no cork
 * and no MSG_MORE, and one system call instead of a dozen.
 *
 * Run:     http_cork [ADDRESS]
 * Try:     strace -f -e trace=sendto http_cork, and curl http://127.0.0.1:8080/: one call
 * Python:  connection.setsockopt(IPPROTO_TCP, TCP_CORK, 1) ... TCP_CORK, 0
 */
#include <stdio.h>
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
    weir_printf(req, "HTTP/1.0 200 OK\r\n");
    weir_printf(req, "Content-Type: text/plain\r\n");
    weir_printf(req, "Content-Length: %d\r\n\r\n", 10 * 16);
    for (int i = 0; i < 10; i++)
        weir_printf(req, "This is line %d.\n", i);
    return 0;                   /* now all of it leaves, with one send(2) */
}

static const struct weir_handler handler = {
    .name = "http_cork", .handle = hello, .client_first = true,
};

int main(int argc, char **argv)
{
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:8080",
            .handler = &handler,
            .reuse_address = true)) < 0) {
        fprintf(stderr, "http_cork: %s\n", weir_why());
        return 2;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "http_cork: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "http_cork: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
