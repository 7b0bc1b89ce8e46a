/*
 * timeouts.c - a handler that waits for its client, but not for ever: when nothing has come for a
 * while it does other work. And a server that does other work of its own, beside all handlers.
 *
 * Run:     timeouts [ADDRESS [PERIOD_MS]]
 * Try:     nc 127.0.0.1 10000, and wait; then type
 * Python:  readable, _, _ = select.select(inputs, [], [], timeout); if not readable: other work;
 *          BaseServer.service_actions()
 */
#include <stdio.h>
#include <stdlib.h>
#include <weir/weir.h>

static int echo(struct weir_request *req)
{
    const int *period_ms = weir_user(req);
    struct pollfd client = { .fd = weir_request_fd(req), .events = POLLIN };
    int quiet = 0;
    char *data;
    ssize_t n;
    int r;

    while ((r = weir_poll(req, &client, 1, *period_ms)) >= 0) {
        if (r == 0) {
            weir_printf(req, "nothing came (%d), time for other work\n", ++quiet);
            continue;
        }
        n = weir_peek(req, &data, 1);       /* all that has come: poll tells of what is to come */
        if (n <= 0)
            return (int)n;
        weir_write(req, data, (size_t)n);
        weir_consume(req, (size_t)n);
    }
    return r;
}

/* Every poll_interval_ms, on the accepting thread. */
static void other_work(struct weir_server *server)
{
    struct weir_stats stats;

    weir_server_stats(server, &stats, sizeof(stats));
    printf("clients: %d\n", (int)stats.active);
    fflush(stdout);
}

static const struct weir_handler handler = { .name = "timeouts", .handle = echo };

int main(int argc, char **argv)
{
    int period_ms = argc > 2 ? atoi(argv[2]) : 5000;
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:10000",
            .handler = &handler,
            .user = &period_ms,
            .service_actions = other_work,
            .poll_interval_ms = (uint32_t)period_ms,
            .reuse_address = true)) < 0) {
        fprintf(stderr, "timeouts: %s\n", weir_why());
        return 2;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "timeouts: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "timeouts: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
