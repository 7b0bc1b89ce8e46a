/*
 * heavy.c - counts primes, which takes the processor for long. socketserver's advice is to fork in
 * handle() for the heavy part. Beside threads a forked child may call next to nothing, so here it
 * goes to another thread: weir_offload parks the handler meanwhile, and its worker serves others.
 *
 * Run:     heavy [ADDRESS]
 * Try:     echo 10000000 | nc -N 127.0.0.1 9999, and another with 100 beside it
 * Python:  def handle(self): pid = os.fork() ..., or an executor's submit().result()
 */
#include <stdio.h>
#include <stdlib.h>
#include <weir/weir.h>

struct task {
    unsigned long below;
    unsigned long primes;
};

static int is_prime(unsigned long n)
{
    for (unsigned long i = 2; i * i <= n; i++)
        if (n % i == 0)
            return 0;
    return n > 1;
}

/* Runs on a thread that may block or compute as long as it likes. */
static int count_primes(void *arg)
{
    struct task *task = arg;

    for (unsigned long n = 0; n < task->below; n++)
        task->primes += (unsigned long)is_prime(n);
    return 0;
}

static int answer(struct weir_request *req)
{
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, 64)) > 0 && line[n - 1] == '\n') {
        struct task task = { .below = strtoul(line, NULL, 10) };
        int r = weir_offload(req, count_primes, &task);

        if (r < 0)
            return r;
        weir_printf(req, "%lu primes below %lu\n", task.primes, task.below);
    }
    return n < 0 ? (int)n : 0;
}

static const struct weir_handler handler = {
    .name = "heavy", .handle = answer, .client_first = true,
};

int main(int argc, char **argv)
{
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:9999",
            .handler = &handler,
            .workers = 1,       /* enough, however many clients have something counted */
            .reuse_address = true)) < 0) {
        fprintf(stderr, "heavy: %s\n", weir_why());
        return 2;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "heavy: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "heavy: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
