/*
 * echo_keep.c - a handler that is called whenever input is there, and returns at once: between the
 * calls a connection is a few hundred bytes, no stack and no buffer. Its state counts the calls.
 *
 * Run:     echo_keep [ADDRESS]
 * Try:     nc 127.0.0.1 10000, and type
 * Python:  sel.register(conn, selectors.EVENT_READ, data=callback); for key, _ in sel.select():
 *          key.data(key.fileobj). Here the engine has that loop, and WEIR_KEEP registers.
 */
#include <stdio.h>
#include <weir/weir.h>

struct conversation {
    unsigned calls;
};

static int echo(struct weir_request *req)
{
    struct conversation *conversation = weir_state(req);    /* zeroed, once a connection */
    char *data;
    ssize_t n = weir_peek(req, &data, 1);

    if (n <= 0)
        return (int)n;
    weir_printf(req, "%u: ", ++conversation->calls);
    weir_write(req, data, (size_t)n);
    weir_consume(req, (size_t)n);
    return WEIR_KEEP;
}

static const struct weir_handler handler = {
    .name = "echo_keep", .handle = echo, .state_size = sizeof(struct conversation),
    .client_first = true,
};

int main(int argc, char **argv)
{
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:10000",
            .handler = &handler,
            .reuse_address = true)) < 0) {
        fprintf(stderr, "echo_keep: %s\n", weir_why());
        return 2;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "echo_keep: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "echo_keep: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
