/*
 * unix_echo.c - echo over a Unix socket that only its owner and group may connect to. A path that a
 * killed server left is taken over, one where somebody listens never; when the server is stopped
 * the path goes, so this example stops on a signal instead of dying of it.
 *
 * Run:     unix_echo [ADDRESS]
 * Try:     printf 'hello\n' | nc -N -U /tmp/uds_socket
 * Python:  os.unlink(path); UnixStreamServer(path, Handler).serve_forever()
 */
#include <signal.h>
#include <stdio.h>
#include <weir/weir.h>

static struct weir_server *server;

static void stop(int number)
{
    (void)number;
    weir_server_stop(server);       /* async-signal-safe; weir_serve_forever returns */
}

static int echo(struct weir_request *req)
{
    char data[4096];
    ssize_t n;

    while ((n = weir_read(req, data, sizeof(data))) > 0)
        weir_write(req, data, (size_t)n);
    return (int)n;
}

static const struct weir_handler handler = {
    .name = "unix_echo", .handle = echo, .client_first = true,
};

int main(int argc, char **argv)
{
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 1 ? argv[1] : "unix:///tmp/uds_socket",
            .handler = &handler,
            .unix_mode = 0660)) < 0) {
        fprintf(stderr, "unix_echo: %s\n", weir_why());
        return 2;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "unix_echo: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "unix_echo: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);    /* drains: handlers end, then the path is removed */
    return 0;
}
