/*
 * command.c - the command line, of `weir serve` and of `weir load`: it is read, with all that
 * follows from it; or refused in one line.
 *
 * The first byte says which of them. Behind it each line is an argument.
 */
#include "tests/fuzz/input.h"

#include <getopt.h>
#include <stdbool.h>

#include "tests/fuzz/said.h"
#include "tools/command/load_settings.h"
#include "tools/command/settings.h"

enum { ARGUMENTS_MOST = 64 };

/* ------------------------------------------------------------------ what is read ------ */

static void check_serve(const struct settings *settings)
{
    const struct weir_options *options = &settings->options;

    HOLDS(options->size == sizeof(*options));
    HOLDS(options->listeners == settings->listeners);
    HOLDS(options->listeners_len >= 1 && options->listeners_len <= SETTINGS_LISTENERS_MAX);
    for (size_t i = 0; i < options->listeners_len; i++)
        HOLDS(settings->listeners[i].address && settings->listeners[i].handler);
    HOLDS(options->workers <= WEIR_MAX_WORKERS && options->acceptors <= WEIR_MAX_ACCEPTORS);
    HOLDS(options->unix_mode <= 0777);
    HOLDS(options->stack_size < WEIR_UNBUFFERED && options->rbufsize < WEIR_UNBUFFERED);
    HOLDS(options->concurrency <= WEIR_PREFORK);
    HOLDS(options->backlog <= INT32_MAX);
}

static void check_load(const struct load_settings *settings)
{
    const struct load_options *options = &settings->options;

    HOLDS(options->address && settings->payload);
    HOLDS(!options->path || *options->path == '/');
    HOLDS(settings->headers_len == strlen(settings->headers));
    HOLDS(settings->headers_len < sizeof(settings->headers));
    HOLDS(options->sources_len <= LOAD_SOURCES_MAX && options->cpus_len <= LOAD_CPUS_MAX);
    HOLDS(options->connections >= 1 && options->in_flight >= 1 && options->threads >= 1);
}

static int read_serve(int argc, char **argv)
{
    static struct settings settings;
    int r = settings_read(&settings, argc, argv);

    if (r == 0)
        check_serve(&settings);
    return r;
}

static int read_load(int argc, char **argv)
{
    static struct load_settings settings;
    int r = load_settings_read(&settings, argc, argv);

    if (r == 0 && !settings.help)
        check_load(&settings);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    bool load = take_number(&input, 1);
    char *text = take_text(&input), *rest = text, name[] = "weir";
    char *argv[ARGUMENTS_MOST + 2] = { name };
    int argc = 1, r;

    if (*text)
        while (argc <= ARGUMENTS_MOST && (argv[argc] = strsep(&rest, "\n")))
            argc++;
    argv[argc] = NULL;
    optind = 0;                 /* getopt_long begins anew */
    said.lines = 0;
    r = load ? read_load(argc, argv) : read_serve(argc, argv);
    HOLDS(r == 0 || r == -22);
    HOLDS(said.lines == (r < 0));
    free(text);
    return 0;
}
