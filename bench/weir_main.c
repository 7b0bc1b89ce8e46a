/*
 * weir_main.c - weir with the handlers that only benches need, as a program.
 *
 *     weir_main [--workers N] [--dispatch worker|acceptor] [--concurrency pool|thread]
 *               [--body FILE] [--backend URI] [--max-connections N] [--backlog N]
 *               [--queue-target MS] JOB
 *
 *     slow            HTTP: hello, and at /slow hello after 10 ms of CPU time
 *     memory, file    HTTP: the file as a body, read before, or by sendfile
 *     sleep           sends each line back after 10 ms
 *     ask             asks the backend, on a connection for each client, and answers what it says
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

#include "bench/bare_delay.h"
#include "bench/body_file.h"
#include "bench/burn.h"
#include "handlers/http/http.h"

/* ------------------------------------------------------------------ slow among fast --- */

static int say_hello(struct weir_http *ex)
{
    static const char text[] = "Hello, world!\n";

    return weir_http_reply(ex, 200, "text/plain", text, sizeof(text) - 1);
}

static int say_hello_slowly(struct weir_http *ex)
{
    burn_ms(BURN_SLOW_MS);
    return say_hello(ex);
}

static const struct weir_http_route slow_routes[] = {
    { "GET", "/", say_hello, NULL },
    { "GET", "/slow", say_hello_slowly, NULL },
};
static const struct weir_http_site slow_site = {
    WEIR_HTTP_ROUTES(slow_routes),
};

/* ------------------------------------------------------------------ bodies ------------ */

static struct body_file body;

static int send_from_memory(struct weir_http *ex)
{
    return weir_http_reply(ex, 200, "application/octet-stream", body.data, body.len);
}

static int send_from_file(struct weir_http *ex)
{
    return weir_http_reply_file(ex, 200, "application/octet-stream", body.fd, 0, body.len);
}

static const struct weir_http_route memory_routes[] = { { "GET", "/*", send_from_memory, NULL } };
static const struct weir_http_route file_routes[] = { { "GET", "/*", send_from_file, NULL } };
static const struct weir_http_site memory_site = { WEIR_HTTP_ROUTES(memory_routes) };
static const struct weir_http_site file_site = { WEIR_HTTP_ROUTES(file_routes) };

/* ------------------------------------------------------------------ waiting ----------- */

enum { LINE_LIMIT = 64 };

static int sleep_handle(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, LINE_LIMIT);
    int r;

    if (n <= 0)
        return (int)n;
    r = weir_sleep(req, BARE_DELAY_MS);
    if (r < 0)
        return r;
    n = weir_write(req, line, (size_t)n);
    return n < 0 ? (int)n : WEIR_KEEP;
}

/* The backend's stream is this call's: so it is one for all of the connection's lines. */
static int ask_handle(struct weir_request *req)
{
    struct weir_request *backend;
    char *line;
    ssize_t n;
    int r = weir_connect(req, weir_user(req), 0, &backend);

    if (r < 0)
        return r;
    while ((n = weir_readline(req, &line, LINE_LIMIT)) > 0) {
        weir_write(backend, line, (size_t)n);
        n = weir_readline(backend, &line, LINE_LIMIT);
        if (n <= 0)
            return n < 0 ? (int)n : -EPIPE;
        weir_write(req, line, (size_t)n);
    }
    return (int)n;
}

/* ------------------------------------------------------------------ the program ------- */

static const struct weir_handler jobs[] = {
    WEIR_HTTP_HANDLER("slow", &slow_site),
    WEIR_HTTP_HANDLER("memory", &memory_site),
    WEIR_HTTP_HANDLER("file", &file_site),
    { .name = "sleep", .handle = sleep_handle },
    { .name = "ask", .handle = ask_handle },
};

static const struct weir_handler *find_job(const char *name)
{
    for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++)
        if (strcmp(jobs[i].name, name) == 0)
            return &jobs[i];
    return NULL;
}

static int usage(void)
{
    fputs("usage: weir_main [--workers N] [--dispatch worker|acceptor]\n"
          "                 [--concurrency pool|thread] [--body FILE] [--backend URI] JOB\n",
          stderr);
    return 2;
}

static int serve(const struct weir_options *options)
{
    char address[WEIR_ADDRESS_SIZE];
    struct weir_server *server;
    int r = weir_server_create(&server, options);

    if (r < 0) {
        fprintf(stderr, "weir_main: %s\n", weir_why());
        return EXIT_FAILURE;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "weir_main: listening on %s\n", address);
    r = weir_serve_forever(server);
    weir_server_destroy(server);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* False: there is no such choice. */
static bool read_choice(const char *text, const char *const names[2], unsigned *ret_choice)
{
    for (unsigned i = 0; i < 2; i++)
        if (strcmp(text, names[i]) == 0) {
            *ret_choice = i;
            return true;
        }
    return false;
}

static bool read_option(struct weir_options *options, int c, char *text)
{
    static const char *const dispatches[] = { "worker", "acceptor" };
    static const char *const models[] = { "pool", "thread" };
    unsigned choice = 0;
    int r = 0;

    switch (c) {
    case 'b':
        r = body_file_open(&body, text);
        if (r < 0)
            fprintf(stderr, "weir_main: --body: %s\n", strerror(-r));
        return r == 0;
    case 'c':
        if (!read_choice(text, models, &choice))
            return false;
        options->concurrency = choice == 0 ? WEIR_POOL : WEIR_THREAD;
        return true;
    case 'd':
        if (!read_choice(text, dispatches, &choice))
            return false;
        options->dispatch = choice == 0 ? WEIR_DISPATCH_WORKER : WEIR_DISPATCH_ACCEPTOR;
        return true;
    case 'k':
        options->user = text;
        return true;
    case 'm':
        options->max_connections = (uint32_t)strtoul(text, NULL, 10);
        return options->max_connections > 0;
    case 'q':
        options->backlog = (uint32_t)strtoul(text, NULL, 10);
        return options->backlog > 0;
    case 't':
        options->queue_target_ms = (uint32_t)strtoul(text, NULL, 10);
        return options->queue_target_ms > 0;
    case 'w':
        options->workers = (uint32_t)strtoul(text, NULL, 10);
        return options->workers > 0;
    default:
        return false;
    }
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        { "backend", required_argument, NULL, 'k' },
        { "backlog", required_argument, NULL, 'q' },
        { "body", required_argument, NULL, 'b' },
        { "concurrency", required_argument, NULL, 'c' },
        { "dispatch", required_argument, NULL, 'd' },
        { "max-connections", required_argument, NULL, 'm' },
        { "queue-target", required_argument, NULL, 't' },
        { "workers", required_argument, NULL, 'w' },
        { NULL, 0, NULL, 0 },
    };
    struct weir_options options = *WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .workers = 1);
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1)
        if (!read_option(&options, c, optarg))
            return usage();
    options.handler = optind == argc - 1 ? find_job(argv[optind]) : NULL;
    return options.handler ? serve(&options) : usage();
}
