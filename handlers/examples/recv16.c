/*
 * recv16.c - echo in pieces of 16 bytes at most, telling of each. The address is an argument, as it
 * comes: a host by name or number, or none for every address of this machine.
 *
 * Run:     recv16 [ADDRESS]      tcp://localhost:10000   tcp://[::1]:10000   tcp://:10000 (any)
 * Try:     recv16_client localhost 10000 'This message comes back in pieces.'
 * Python:  data = connection.recv(16), until it is empty; bind(("localhost", 10000)), or ("", ...)
 */
#include <stdio.h>
#include <weir/weir.h>

static int echo(struct weir_request *req)
{
    char data[16];
    ssize_t n;

    while ((n = weir_read(req, data, sizeof(data))) > 0) {
        printf("received '%.*s'\n", (int)n, data);
        fflush(stdout);
        weir_write(req, data, (size_t)n);
    }
    return (int)n;
}

static const struct weir_handler handler = {
    .name = "recv16", .handle = echo, .client_first = true,
};

int main(int argc, char **argv)
{
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 1 ? argv[1] : "tcp://localhost:10000",
            .handler = &handler,
            .reuse_address = true)) < 0) {
        fprintf(stderr, "recv16: %s\n", weir_why());
        return 2;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "recv16: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "recv16: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
