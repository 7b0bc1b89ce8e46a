/*
 * binary.c - records of fixed size: a number, two characters, and a float, in network order. What
 * struct packs with '!I2sf' is 10 bytes everywhere; without the '!' it would be what the machine
 * likes, 12 here, with two bytes of nothing in between.
 *
 * Run:     binary [ADDRESS]
 * Try:     binary_sender 127.0.0.1 10000 1 ab 2.7
 * Python:  unpacker = struct.Struct("!I2sf"); unpacker.unpack(connection.recv(unpacker.size))
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

enum { RECORD_SIZE = 4 + 2 + 4 };

static uint32_t unpack_u32(const unsigned char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return ntohl(value);
}

static float unpack_float(const unsigned char *at)
{
    uint32_t bits = unpack_u32(at);
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static int receive(struct weir_request *req)
{
    unsigned char record[RECORD_SIZE];
    ssize_t n;

    while ((n = weir_read_exact(req, record, sizeof(record))) == RECORD_SIZE)
        weir_printf(req, "(%u, '%.2s', %g)\n", unpack_u32(record), (const char *)record + 4,
                    (double)unpack_float(record + 6));
    return n > 0 ? -EPROTO : (int)n;    /* the end came within a record: handle_error is told */
}

static const struct weir_handler handler = {
    .name = "binary", .handle = receive, .client_first = true,
};

int main(int argc, char **argv)
{
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:10000",
            .handler = &handler,
            .reuse_address = true)) < 0) {
        fprintf(stderr, "binary: %s\n", weir_why());
        return 2;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "binary: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "binary: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
