/*
 * load_main.c - the load generator as a program, for benches that are scripts.
 *
 *     load [--connections N] [--per-connection N] [--client-closes] [--in-flight N] [--stalled N]
 *          [--source ADDRESS,...] [--size N] [--path PATH] [--timeout MS] line|upper|http URI
 *
 * It obeys its standard input: each line is a number of milliseconds to generate load for, and
 * brings a line of JSON on standard output. Between them connections stay and nothing is under way,
 * so whoever holds the other end can read the server's CPU time. The end of the input ends it.
 * 0 ms are one request on each connection: asked twice, it tells whether idle ones are still there.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/net/address.h"
#include "tools/load/descriptors.h"
#include "tools/load/load.h"

enum { EXIT_USAGE = 2, MS_MAX = 600000, NUMBER_MAX = 1 << 24, SOURCES_MAX = 16 };

static const char *const mode_names[] = {
    [LOAD_LINE] = "line",
    [LOAD_UPPER] = "upper",
    [LOAD_HTTP] = "http",
};

static int usage(void)
{
    fputs("usage: load [--connections N] [--per-connection N] [--client-closes] [--in-flight N] "
          "[--stalled N] [--source ADDRESS,...] [--size N] [--path PATH] [--timeout MS] "
          "line|upper|http URI\n", stderr);
    return EXIT_USAGE;
}

static bool read_number(const char *text, uint32_t max, uint32_t *ret_number)
{
    char *end;
    unsigned long long number;

    errno = 0;
    number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || (*end != '\0' && *end != '\n') || errno != 0 ||
        number > max)
        return false;
    *ret_number = (uint32_t)number;
    return true;
}

static bool read_mode(const char *text, enum load_mode *ret_mode)
{
    for (size_t i = 0; i < sizeof(mode_names) / sizeof(mode_names[0]); i++)
        if (strcmp(text, mode_names[i]) == 0) {
            *ret_mode = (enum load_mode)i;
            return true;
        }
    return false;
}

/* One or more, with commas between them. */
static bool read_sources(char *text, struct load_options *options)
{
    static struct address sources[SOURCES_MAX];
    char uri[64], why[256], *rest;

    options->sources = sources;
    for (text = strtok_r(text, ",", &rest); text; text = strtok_r(NULL, ",", &rest)) {
        snprintf(uri, sizeof(uri), "tcp://%s:0", text);
        if (options->sources_len == SOURCES_MAX || !address_is_literal(uri) ||
            address_parse(uri, &sources[options->sources_len++], why, sizeof(why)) < 0)
            return false;
    }
    return options->sources_len > 0;
}

static bool read_options(int argc, char **argv, struct load_options *options)
{
    static const struct option names[] = {
        { "connections", required_argument, NULL, 'c' },
        { "per-connection", required_argument, NULL, 'p' },
        { "client-closes", no_argument, NULL, 'e' },
        { "in-flight", required_argument, NULL, 'f' },
        { "stalled", required_argument, NULL, 't' },
        { "source", required_argument, NULL, 'o' },
        { "size", required_argument, NULL, 's' },
        { "timeout", required_argument, NULL, 'm' },
        { "path", required_argument, NULL, 'a' },
        { NULL, 0, NULL, 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        uint32_t *number = c == 'c' ? &options->connections :
                           c == 'p' ? &options->per_connection :
                           c == 'f' ? &options->in_flight :
                           c == 't' ? &options->stalled :
                           c == 's' ? &options->size :
                           c == 'm' ? &options->timeout_ms : NULL;
        bool fine = true;

        if (c == 'a')
            options->path = optarg;
        else if (c == 'e')
            options->client_closes = true;
        else if (c == 'o')
            fine = read_sources(optarg, options);
        else
            fine = number && read_number(optarg, NUMBER_MAX, number);
        if (!fine)
            return false;
    }
    if (optind != argc - 2 || options->connections + options->stalled == 0 ||
        !read_mode(argv[optind], &options->mode))
        return false;
    options->address = argv[optind + 1];
    return true;
}

static double us(const struct load_result *result, double share)
{
    return (double)histogram_percentile(&result->latency, share) / 1e3;
}

static void print_result(const struct load_result *result)
{
    const uint64_t *by = result->errors_by;

    printf("{\"requests\": %" PRIu64 ", \"errors\": %" PRIu64 ", \"closed\": %" PRIu64
           ", \"lost\": %" PRIu64 ", \"hung_up\": %" PRIu64 ", \"seconds\": %.6f"
           ", \"busy_seconds\": %.6f, \"p50_us\": %.3f, \"p99_us\": %.3f, \"p999_us\": %.3f"
           ", \"first_error\": \"%s\"}\n",
           result->requests, result->errors, by[LOAD_CLOSED] + by[LOAD_BROKEN], result->lost,
           result->hung_up, (double)result->elapsed_ns / 1e9, (double)result->busy_ns / 1e9,
           us(result, 0.5), us(result, 0.99), us(result, 0.999),
           result->first_error ? result->first_error : "");
    fflush(stdout);
}

static int failed(int error)
{
    fprintf(stderr, "load: %s\n", strerror(-error));
    return EXIT_FAILURE;
}

static int obey(struct load *load)
{
    char line[32];

    while (fgets(line, sizeof(line), stdin)) {
        struct load_result result = { 0 };
        uint32_t ms;
        int r;

        if (!read_number(line, MS_MAX, &ms))
            return usage();
        r = load_run(load, ms, &result);
        if (r < 0)
            return failed(r);
        print_result(&result);
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct load_options options = { .connections = 1 };
    struct load *load;
    int r;

    if (!read_options(argc, argv, &options))
        return usage();
    descriptors_raise();
    r = load_create(&load, &options);
    if (r < 0)
        return failed(r);
    r = obey(load);
    load_destroy(load);
    return r;
}
