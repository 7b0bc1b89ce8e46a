/*
 * thank_you.c - thanks each client, and hangs up: the first server of many a tutorial.
 *
 * Run:     thank_you [ADDRESS]
 * Try:     nc 127.0.0.1 12345
 * Python:  s.bind(), s.listen(5); while True: c, addr = s.accept(); c.send(...); c.close()
 */
#include <stdio.h>
#include <weir/weir.h>

static int thank(struct weir_request *req)
{
    char peer[WEIR_ADDRESS_SIZE];

    printf("Got connection from %s\n", weir_peer_text(req, peer, sizeof(peer)));
    fflush(stdout);
    weir_printf(req, "Thank you for connecting\n");
    return 0;           /* what was written is sent and the connection closed */
}

static const struct weir_handler handler = { .name = "thank_you", .handle = thank };

int main(int argc, char **argv)
{
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:12345",
            .handler = &handler,
            .backlog = 5,
            .reuse_address = true)) < 0) {
        fprintf(stderr, "thank_you: %s\n", weir_why());
        return 2;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "thank_you: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "thank_you: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
