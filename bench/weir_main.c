/*
 * weir_main.c - weir with the handlers that only benches need, as a program.
 *
 *     weir_main [--workers N] [--dispatch worker|acceptor] [--body FILE] JOB
 *
 *     slow            HTTP: hello, and at /slow hello after 10 ms of CPU time
 *     memory, file    HTTP: the file as a body, read before, or by sendfile
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

#include "bench/body_file.h"
#include "bench/burn.h"
#include "handlers/http.h"

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
    .routes = slow_routes, .routes_len = sizeof(slow_routes) / sizeof(slow_routes[0]),
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
static const struct weir_http_site memory_site = { .routes = memory_routes, .routes_len = 1 };
static const struct weir_http_site file_site = { .routes = file_routes, .routes_len = 1 };

/* ------------------------------------------------------------------ the program ------- */

static const struct weir_handler jobs[] = {
    WEIR_HTTP_HANDLER("slow", &slow_site),
    WEIR_HTTP_HANDLER("memory", &memory_site),
    WEIR_HTTP_HANDLER("file", &file_site),
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
    fputs("usage: weir_main [--workers N] [--dispatch worker|acceptor] [--body FILE] JOB\n",
          stderr);
    return 2;
}

static int serve(const struct weir_handler *job, uint32_t workers, enum weir_dispatch dispatch)
{
    char address[WEIR_ADDRESS_SIZE];
    struct weir_server *server;
    int r = weir_server_create(&server, WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = job, .workers = workers, .dispatch = dispatch));

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

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "body", required_argument, NULL, 'b' },
        { "dispatch", required_argument, NULL, 'd' },
        { "workers", required_argument, NULL, 'w' },
        { NULL, 0, NULL, 0 },
    };
    enum weir_dispatch dispatch = WEIR_DISPATCH_WORKER;
    const struct weir_handler *job;
    unsigned long workers = 1;
    int r = 0;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'w')
            workers = strtoul(optarg, NULL, 10);
        else if (c == 'd' && strcmp(optarg, "acceptor") == 0)
            dispatch = WEIR_DISPATCH_ACCEPTOR;
        else if (c == 'b')
            r = body_file_open(&body, optarg);
        else if (c != 'd' || strcmp(optarg, "worker") != 0)
            return usage();
    }
    if (r < 0) {
        fprintf(stderr, "weir_main: --body: %s\n", strerror(-r));
        return EXIT_FAILURE;
    }
    job = optind == argc - 1 ? find_job(argv[optind]) : NULL;
    if (!job || workers < 1 || workers > 256)
        return usage();
    return serve(job, (uint32_t)workers, dispatch);
}
