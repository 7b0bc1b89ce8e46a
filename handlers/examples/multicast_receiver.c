/*
 * multicast_receiver.c - joins a group, prints what is sent to it, and acknowledges each message.
 * Several may run on one machine: reuse_address lets them share the port, and each hears it all.
 *
 * Run:     multicast_receiver [GROUP[%INTERFACE] [ADDRESS]]
 * Try:     multicast_receiver 224.3.29.71%lo, and multicast_sender 224.3.29.71 10000 lo
 * Python:  sock.bind(("", 10000)); sock.setsockopt(IPPROTO_IP, IP_ADD_MEMBERSHIP, ...)
 */
#include <stdio.h>
#include <weir/weir.h>

static int acknowledge(struct weir_request *req)
{
    char peer[WEIR_ADDRESS_SIZE];
    char message[1024];
    ssize_t n = weir_read_exact(req, message, sizeof(message));

    if (n < 0)
        return (int)n;
    printf("received '%.*s' from %s\n", (int)n, message,
           weir_peer_text(req, peer, sizeof(peer)));
    fflush(stdout);
    weir_printf(req, "ack");
    return 0;
}

int main(int argc, char **argv)
{
    static const struct weir_handler handler = {
        .name = "multicast_receiver", .handle = acknowledge,
    };
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 2 ? argv[2] : "udp://0.0.0.0:10000",
            .handler = &handler,
            .multicast = argc > 1 ? argv[1] : "224.3.29.71",
            .reuse_address = true)) < 0) {
        fprintf(stderr, "multicast_receiver: %s\n", weir_why());
        return 2;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "multicast_receiver: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "multicast_receiver: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
