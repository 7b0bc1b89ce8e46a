/*
 * bare_loop_main.c - the yardstick as a program, for load generators that are programs too.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bare_loop.h"

static const char *const mode_names[] = {
    [BARE_LOOP_LINE] = "line",
    [BARE_LOOP_HTTP] = "http",
    [BARE_LOOP_CLOSE] = "close",
};

static int usage(void)
{
    fputs("usage: bare_loop [--threads N] line|http|close\n", stderr);
    return 2;
}

static void announce(void *arg, uint16_t port)
{
    (void)arg;
    fprintf(stderr, "bare_loop: listening on tcp://127.0.0.1:%u\n", (unsigned)port);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "threads", required_argument, NULL, 't' },
        { NULL, 0, NULL, 0 },
    };
    unsigned long threads = 1;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c != 't')
            return usage();
        threads = strtoul(optarg, NULL, 10);
    }
    if (optind != argc - 1 || threads < 1 || threads > 256)
        return usage();
    for (size_t mode = 0; mode < sizeof(mode_names) / sizeof(mode_names[0]); mode++) {
        if (strcmp(argv[optind], mode_names[mode]) != 0)
            continue;
        int r = bare_loop_run((enum bare_loop_mode)mode, (unsigned)threads, announce, NULL);
        fprintf(stderr, "bare_loop: %s\n", strerror(-r));
        return 1;
    }
    return usage();
}
