/*
 * bare_loop_main.c - the yardstick as a program, for load generators that are programs too.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bench/bare_bodies.h"
#include "bench/bare_datagrams.h"
#include "bench/bare_delay.h"
#include "bench/bare_loop.h"
#include "bench/bare_relay.h"

static const char *const mode_names[] = {
    [BARE_LOOP_LINE] = "line",
    [BARE_LOOP_HTTP] = "http",
    [BARE_LOOP_CLOSE] = "close",
    [BARE_LOOP_SLOW] = "slow",
    [BARE_LOOP_OVERLOAD] = "overload",
};

static int usage(void)
{
    fputs("usage: bare_loop [--threads N | --unix PATH] line|http|close|slow|overload\n"
          "       bare_loop udp|unixgram|sleep\n"
          "       bare_loop --body FILE memory|file\n"
          "       bare_loop --backend URI ask\n", stderr);
    return 2;
}

static void announce(void *arg, const char *address)
{
    (void)arg;
    fprintf(stderr, "bare_loop: listening on %s\n", address);
}

static int failed(int error)
{
    fprintf(stderr, "bare_loop: %s\n", strerror(-error));
    return 1;
}

static int run_bodies(const char *what, const char *body)
{
    if (strcmp(what, "memory") == 0)
        return failed(bare_bodies_run(BARE_BODIES_MEMORY, body, announce, NULL));
    if (strcmp(what, "file") == 0)
        return failed(bare_bodies_run(BARE_BODIES_FILE, body, announce, NULL));
    return usage();
}

static int run(const char *what, unsigned threads, const char *path)
{
    const bool plain = threads == 1 && !path;

    if (plain && strcmp(what, "udp") == 0)
        return failed(bare_datagrams_run(AF_INET, announce, NULL));
    if (plain && strcmp(what, "unixgram") == 0)
        return failed(bare_datagrams_run(AF_UNIX, announce, NULL));
    if (plain && strcmp(what, "sleep") == 0)
        return failed(bare_delay_run(announce, NULL));
    for (size_t mode = 0; mode < sizeof(mode_names) / sizeof(mode_names[0]); mode++) {
        if (strcmp(what, mode_names[mode]) == 0)
            return failed(bare_loop_run((enum bare_loop_mode)mode, threads, path, announce, NULL));
    }
    return usage();
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "threads", required_argument, NULL, 't' },
        { "unix", required_argument, NULL, 'u' },
        { "body", required_argument, NULL, 'b' },
        { "backend", required_argument, NULL, 'k' },
        { NULL, 0, NULL, 0 },
    };
    unsigned long threads = 1;
    const char *path = NULL, *body = NULL, *backend = NULL;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 't')
            threads = strtoul(optarg, NULL, 10);
        else if (c == 'u')
            path = optarg;
        else if (c == 'b')
            body = optarg;
        else if (c == 'k')
            backend = optarg;
        else
            return usage();
    }
    if (optind != argc - 1 || threads < 1 || threads > 256 || (path && threads > 1))
        return usage();
    if (backend && strcmp(argv[optind], "ask") == 0)
        return failed(bare_relay_run(backend, announce, NULL));
    if (body)
        return run_bodies(argv[optind], body);
    return run(argv[optind], (unsigned)threads, path);
}
