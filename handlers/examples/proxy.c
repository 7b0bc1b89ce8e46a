/*
 * proxy.c - passes each connection on to another server, both ways at once, whatever protocol they
 * speak: two fibers, one for each direction. The end of one direction is passed on like its bytes,
 * so that a client that has said all still gets its answer. A direction whose receiver takes
 * nothing waits, and holds nobody else up: neither the other direction nor other clients.
 *
 * Run:     proxy ADDRESS BACKEND
 * Try:     proxy tcp://127.0.0.1:10000 tcp://example.com:80, and curl -H "Host: example.com"
 *          http://127.0.0.1:10000
 * Python:  await asyncio.gather(relay(reader, backend_writer), relay(backend_reader, writer))
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <weir/weir.h>

#define CONNECT_TIMEOUT_MS 10000

struct direction {
    struct weir_request *from, *to;
};

static int pass_on(const struct direction *direction)
{
    char *data;
    ssize_t n;

    while ((n = weir_peek(direction->from, &data, 1)) > 0) {
        ssize_t written = weir_write(direction->to, data, (size_t)n);

        weir_consume(direction->from, (size_t)n);
        if (written >= 0)
            written = weir_flush(direction->to);
        if (written < 0)
            return (int)written;
    }
    return n < 0 ? (int)n : weir_end_output(direction->to);
}

/* If one direction fails, the other one has nobody to talk to any more. */
static int relay(struct weir_request *req, void *direction)
{
    int r = pass_on(direction);

    if (r < 0)
        weir_cancel_others(req);
    return r;
}

/* What is passed on has been waited for already: it leaves at once. Not every backend is TCP. */
static void send_at_once(struct weir_request *peer)
{
    setsockopt(weir_request_fd(peer), IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

static int proxy(struct weir_request *req)
{
    struct direction up = { .from = req }, down = { .to = req };
    struct weir_request *backend;
    int child;
    int r = weir_connect(req, weir_user(req), CONNECT_TIMEOUT_MS, &backend);

    if (r < 0) {
        weir_report(req, r, weir_why());
        return 0;
    }
    send_at_once(backend);
    up.to = backend;
    down.from = backend;
    child = weir_spawn(req, relay, &up);
    if (child < 0)
        return child;
    relay(req, &down);
    /* How a connection ends is its two ends' affair. */
    weir_join(req, child);
    return 0;
}

static const struct weir_handler handler = { .name = "proxy", .handle = proxy };

int main(int argc, char **argv)
{
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (argc != 3) {
        fprintf(stderr, "usage: proxy ADDRESS BACKEND\n");
        return 2;
    }
    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argv[1],
            .handler = &handler,
            .user = argv[2],
            .rbufsize = 256 << 10,      /* large pieces: fewer calls of the kernel */
            .disable_nagle_algorithm = true,
            .reuse_address = true)) < 0) {
        fprintf(stderr, "proxy: %s\n", weir_why());
        return 2;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "proxy: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "proxy: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
