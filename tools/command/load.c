/*
 * load.c - one load in a process: warm-up, run, report.
 *
 * Threads: the main thread generates, and those of the load beside it. A signal ends the run at
 * once, which load_stop can do from a handler; a second one ends the process.
 */
#include "tools/command/load.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/command/load_report.h"
#include "tools/command/load_settings.h"
#include "tools/command/say.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* ------------------------------------------------------------------ signals ----------- */

static struct load *running;    /* set before there are handlers */
static volatile sig_atomic_t interrupted;

static void interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
    load_stop(running);
}

static void handle_signals(struct load *load)
{
    const struct sigaction action = { .sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND };

    running = load;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* ------------------------------------------------------------------ progress ---------- */

struct progress {
    const char *what;
    uint64_t before;
    unsigned seconds;
};

static void show_progress(void *arg, uint64_t requests)
{
    struct progress *progress = arg;

    fprintf(stderr, "\r%s %u s, %" PRIu64 " requests, %" PRIu64 "/s\033[K", progress->what,
            ++progress->seconds, requests,
            requests > progress->before ? requests - progress->before : 0);
    progress->before = requests;
}

static void clear_progress(const struct load_options *options)
{
    if (options->progress)
        fputs("\r\033[K", stderr);
}

/* ------------------------------------------------------------------ running ----------- */

/* What a warm-up leaves: that connections were opened, and that something went wrong. */
static void forget_warmup(struct load_result *result)
{
    result->requests = result->lost = result->reopened = result->trickled = 0;
    result->bytes_in = result->bytes_out = result->elapsed_ns = result->busy_ns = 0;
    memset(&result->latency, 0, sizeof(result->latency));
}

static int run_load(struct load *load, const struct load_settings *settings,
                    struct progress *progress, struct load_result *result)
{
    int r = 0;

    if (settings->warmup_ms > 0) {
        progress->what = "warm-up:";
        r = load_run(load, settings->warmup_ms, result);
        forget_warmup(result);
    }
    *progress = (struct progress){ .what = "load:" };
    if (r == 0)
        r = load_run(load, settings->duration_ms, result);
    clear_progress(&settings->options);
    return r;
}

static int load_failed(const char *what, int error)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): glibc's is safe since 2.32 */
    say("weir load: %s: %s", what, strerror(-error));
    return EXIT_FAILED;
}

/* Before the load, which may take long. Returns true if there is one, or none is wanted. */
static bool open_json(const char *path, FILE **ret_json)
{
    *ret_json = NULL;
    if (path)
        *ret_json = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
    return !path || *ret_json;
}

/* Returns the exit status, which is so far as given. */
static int close_json(FILE *json, const char *path, int status)
{
    if (!json || json == stdout || fclose(json) == 0 || status != EXIT_OK)
        return status;
    return load_failed(path, -errno);
}

/* Whether standard output took it is looked at when all is printed. */
static int write_json(const struct load_report *report, FILE *json)
{
    load_report_json(report, json);
    errno = EIO;        /* unless fflush has another: what failed before it, is known no more */
    if (json == stdout || (fflush(json) == 0 && !ferror(json)))
        return EXIT_OK;
    return load_failed(report->settings->json, -errno);
}

static int print_result(const struct load_report *report, FILE *json)
{
    int status = EXIT_OK;

    if (json)
        status = write_json(report, json);
    if (json != stdout)
        load_report_table(report, stdout);
    return status == EXIT_OK && report->result->errors > 0 ? EXIT_FAILED : status;
}

/* Returns the exit status. */
static int load_and_report(struct load_settings *settings, FILE *json)
{
    static struct load_result result;
    struct progress progress = { 0 };
    struct load *load;
    int r;

    if (isatty(STDERR_FILENO)) {
        settings->options.progress = show_progress;
        settings->options.progress_arg = &progress;
    }
    r = load_create(&load, &settings->options);
    if (r < 0)
        return load_failed(settings->options.address, r);
    handle_signals(load);
    r = run_load(load, settings, &progress, &result);
    if (r < 0)
        r = load_failed(settings->options.address, r);
    else
        r = print_result(&(struct load_report){ settings, &result, interrupted }, json);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    load_destroy(load);
    return r;
}

int weir_load(int argc, char **argv)
{
    static struct load_settings settings;
    FILE *json;
    int status;

    if (load_settings_read(&settings, argc, argv) < 0)
        return EXIT_USAGE;
    if (settings.help) {
        load_settings_help(stdout);
        return EXIT_OK;
    }
    if (!open_json(settings.json, &json)) {
        load_failed(settings.json, -errno);
        return EXIT_USAGE;
    }
    status = load_and_report(&settings, json);
    return close_json(json, settings.json, status);
}
