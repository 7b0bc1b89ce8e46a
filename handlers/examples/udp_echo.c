/*
 * udp_echo.c - sends back each datagram, of 4096 bytes at most. For a datagram handler the packet
 * is rfile, with an end, and wfile becomes the reply.
 *
 * Run:     udp_echo [ADDRESS]
 * Try:     udp_client 127.0.0.1 10000 hello
 * Python:  UDPServer(("127.0.0.1", 10000), Handler), where Handler is a DatagramRequestHandler
 *          whose handle() is self.wfile.write(self.rfile.read())
 */
#include <stdio.h>
#include <weir/weir.h>

static int echo(struct weir_request *req)
{
    char peer[WEIR_ADDRESS_SIZE];
    char packet[4096];
    ssize_t n = weir_read_exact(req, packet, sizeof(packet));

    if (n < 0)
        return (int)n;
    printf("received %zd bytes from %s%s\n", n, weir_peer_text(req, peer, sizeof(peer)),
           weir_truncated(req) ? ", and lost the rest" : "");
    fflush(stdout);
    weir_write(req, packet, (size_t)n);
    return 0;           /* the reply is sent; nothing written, nothing sent */
}

static const struct weir_handler handler = { .name = "udp_echo", .handle = echo };

int main(int argc, char **argv)
{
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 1 ? argv[1] : "udp://127.0.0.1:10000",
            .handler = &handler,
            .max_packet_size = 4096)) < 0) {
        fprintf(stderr, "udp_echo: %s\n", weir_why());
        return 2;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "udp_echo: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "udp_echo: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
