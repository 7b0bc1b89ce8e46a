/*
 * own_loop.c - one thread with a loop of its own serves several servers: it polls their descriptors
 * beside whatever else it has, and lets in one client of the one that is ready.
 *
 * Run:     own_loop [ADDRESS ADDRESS]
 * Try:     echo Hello | nc -N 127.0.0.1 9998, and the same with port 9999
 * Python:  selector.register(server, EVENT_READ); for key, _ in selector.select(timeout):
 *          key.fileobj.handle_request()
 */
#include <ctype.h>
#include <poll.h>
#include <stdio.h>
#include <weir/weir.h>

/* Both servers' handler; its data is the function that changes a letter. */
static int change(struct weir_request *req)
{
    int (*const *letter)(int) = weir_handler_data(req);
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, 4096)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            line[i] = (char)(*letter)((unsigned char)line[i]);
        weir_write(req, line, (size_t)n);
    }
    return (int)n;
}

int main(int argc, char **argv)
{
    static int (*const letters[])(int) = { toupper, tolower };
    static const struct weir_handler handlers[] = {
        { .name = "upper", .handle = change, .data = &letters[0], .client_first = true },
        { .name = "lower", .handle = change, .data = &letters[1], .client_first = true },
    };
    static const char *const usual[] = { "tcp://127.0.0.1:9998", "tcp://127.0.0.1:9999" };
    struct weir_server *servers[2];
    struct pollfd fds[2];
    char address[WEIR_ADDRESS_SIZE];

    for (int i = 0; i < 2; i++) {
        if (weir_server_create(&servers[i], WEIR_OPTIONS(
                .listen = argc > 2 ? argv[i + 1] : usual[i], .handler = &handlers[i],
                .reuse_address = true)) < 0) {
            fprintf(stderr, "own_loop: %s\n", weir_why());
            return 2;
        }
        fds[i] = (struct pollfd){ .fd = weir_server_fileno(servers[i]), .events = POLLIN };
        weir_server_address(servers[i], 0, address, sizeof(address));
        fprintf(stderr, "own_loop: listening on %s\n", address);
    }
    for (;;) {
        if (poll(fds, 2, 60 * 1000) == 0)
            puts("a quiet minute: time for other work");
        for (int i = 0; i < 2; i++)
            if (fds[i].revents)
                weir_handle_request(servers[i]);    /* somebody waits, so it does not */
    }
}
