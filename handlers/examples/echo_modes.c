/*
 * echo_modes.c - echo that says who answers, under each model of concurrency. The handler is the
 * same: on a fiber of the pool, on the accepting thread, on a thread or in a process of its own, or
 * on a fiber in one of several processes.
 *
 * Run:     echo_modes [pool|serial|thread|fork|prefork [ADDRESS]]
 * Try:     printf 'hello\n' | nc -N 127.0.0.1 9999       -> process 4711, thread 0x7f...: hello
 * Python:  class Server(ThreadingMixIn, TCPServer), threading.current_thread().name;
 *          class Server(ForkingMixIn, TCPServer), os.getpid(); TCPServer alone is serial
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <weir/weir.h>

static struct weir_server *server;

static void stop(int number)
{
    (void)number;
    weir_server_stop(server);
}

static int echo(struct weir_request *req)
{
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, 4096)) > 0)
        weir_printf(req, "process %d, thread %#lx: %.*s", (int)getpid(),
                    (unsigned long)pthread_self(), (int)n, line);
    return (int)n;
}

static enum weir_concurrency concurrency(const char *name)
{
    static const char *const names[] = {
        [WEIR_POOL] = "pool", [WEIR_SERIAL] = "serial", [WEIR_THREAD] = "thread",
        [WEIR_FORK] = "fork", [WEIR_PREFORK] = "prefork",
    };
    unsigned i = 0;

    while (i < sizeof(names) / sizeof(names[0]) && strcmp(name, names[i]) != 0)
        i++;
    return i;               /* weir_server_create refuses what is no model */
}

static const struct weir_handler handler = {
    .name = "echo_modes", .handle = echo, .client_first = true,
};

int main(int argc, char **argv)
{
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 2 ? argv[2] : "tcp://127.0.0.1:9999",
            .handler = &handler,
            .concurrency = concurrency(argc > 1 ? argv[1] : "pool"),
            .reuse_address = true)) < 0) {
        fprintf(stderr, "echo_modes: %s\n", weir_why());
        return 2;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "echo_modes: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "echo_modes: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
