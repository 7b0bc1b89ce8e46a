/*
 * visits.c - counts lines, of each client and of all: a server ported from Python step by step, in
 * docs/from_socketserver.md. State of a connection, state that handlers share, and all three
 * callbacks.
 *
 * Run:     visits [ADDRESS]
 * Try:     printf 'hello\nagain\n' | nc -N 127.0.0.1 9999
 * Python:  class Server(ThreadingMixIn, TCPServer); the whole of it is in the document
 */
#include <pthread.h>
#include <stdio.h>
#include <weir/weir.h>

/* What was an attribute of the server: all handlers see it, on several threads at once. */
struct visits {
    pthread_mutex_t lock;
    unsigned long all;
};

/* What was an attribute of the handler: begins zeroed, and is one connection's alone. */
struct visitor {
    unsigned long lines;
};

static unsigned long count(struct visits *visits)
{
    unsigned long all;

    pthread_mutex_lock(&visits->lock);      /* never around a call that parks */
    all = ++visits->all;
    pthread_mutex_unlock(&visits->lock);
    return all;
}

static int setup(struct weir_request *req)
{
    weir_printf(req, "What do you say?\n");
    return 0;
}

static int handle(struct weir_request *req)
{
    struct visitor *self = weir_state(req);
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, 65536)) > 0)
        weir_printf(req, "%lu of yours, %lu of all: %.*s", ++self->lines,
                    count(weir_user(req)), (int)n, line);
    return (int)n;
}

static int finish(struct weir_request *req, int status)
{
    struct visitor *self = weir_state(req);
    char peer[WEIR_ADDRESS_SIZE];

    (void)status;
    printf("%s said %lu lines\n", weir_peer_text(req, peer, sizeof(peer)), self->lines);
    fflush(stdout);
    return 0;
}

static const struct weir_handler handler = {
    .name = "visits", .setup = setup, .handle = handle, .finish = finish,
    .state_size = sizeof(struct visitor),
};

int main(int argc, char **argv)
{
    struct visits visits = { .lock = PTHREAD_MUTEX_INITIALIZER };
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:9999",
            .handler = &handler,
            .user = &visits,
            .reuse_address = true,
            .read_timeout_ms = 60 * 1000)) < 0) {
        fprintf(stderr, "visits: %s\n", weir_why());
        return 2;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "visits: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "visits: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
