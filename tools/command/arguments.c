/*
 * arguments.c - see arguments.h.
 */
#include "tools/command/arguments.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>

#include "tools/command/say.h"
#include "tools/command/values.h"

int arguments_refuse(const char *command, const char *format, ...)
{
    char why[PIPE_BUF];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    say("weir %s: %s", command, why);
    return -EINVAL;
}

/* ------------------------------------------------------------------ values ------------ */

int arguments_number(const char *command, const char *name, const char *text, uint64_t least,
                     uint64_t max, uint64_t *ret_number)
{
    uint64_t n;

    if (value_number(text, max, &n) < 0 || n < least)
        return arguments_refuse(command, "--%s: '%s' is not a number from %llu to %llu", name, text,
                                (unsigned long long)least, (unsigned long long)max);
    *ret_number = n;
    return 0;
}

int arguments_time(const char *command, const char *name, const char *text, uint32_t *ret_ms)
{
    uint64_t ms;

    if (value_time(text, UINT32_MAX, &ms) < 0)
        return arguments_refuse(command, "--%s: '%s' is not a time such as 500ms, 10s or 2m "
                                "(0: none, at most 49 days)", name, text);
    *ret_ms = (uint32_t)ms;
    return 0;
}

/* ------------------------------------------------------------------ the line ---------- */

/* getopt_long returns the place in the table, above what it returns for mistakes. */
enum { PLACE = 256 };

static void long_options(const struct arguments *it, struct option *options)
{
    for (size_t i = 0; i < it->len; i++) {
        struct argument argument = it->describe(i);

        options[i] = (struct option){
            .name = argument.name,
            .has_arg = argument.value ? required_argument : no_argument,
            .val = PLACE + (int)i,
        };
    }
    options[it->len] = (struct option){ 0 };
}

/* What getopt_long did not like: it leaves the option in optopt, or 0 if it is none of ours. */
static int refuse_option(const struct arguments *it, int mistake, char **argv)
{
    struct argument argument;

    if (optopt < PLACE)
        return arguments_refuse(it->command, "there is no option '%s'; see `weir %s --help`",
                                argv[optind - 1], it->command);
    argument = it->describe((size_t)(optopt - PLACE));
    if (mistake == ':')
        return arguments_refuse(it->command, "--%s needs a value, %s", argument.name,
                                argument.value);
    return arguments_refuse(it->command, "--%s takes no value", argument.name);
}

static int read_operand(const struct arguments *it, void *settings, const char *text)
{
    if (it->operand)
        return it->operand(settings, text);
    return arguments_refuse(it->command, "'%s' is not an option; see `weir %s --help`", text,
                            it->command);
}

int arguments_read(const struct arguments *it, void *settings, int argc, char **argv)
{
    struct option options[ARGUMENTS_MAX + 1];
    int place, r = 0;

    assert(it->len <= ARGUMENTS_MAX);
    long_options(it, options);
    opterr = 0;
    /* "-": operands come as 1, wherever they stand. */
    while (r == 0 && (place = getopt_long(argc, argv, "-:", options, NULL)) != -1) {
        if (place == 1)
            r = read_operand(it, settings, optarg);
        else if (place < PLACE)
            r = refuse_option(it, place, argv);
        else
            r = it->read(settings, (size_t)(place - PLACE), optarg);
    }
    for (; r == 0 && optind < argc; optind++)   /* behind "--" */
        r = read_operand(it, settings, argv[optind]);
    return r;
}

/* ------------------------------------------------------------------ help -------------- */

enum { HELP_INDENT = 30, HELP_WIDTH = 90 };

/* Prints text from a column on, broken at blanks. */
static void print_wrapped(FILE *to, const char *text)
{
    int column = HELP_INDENT;

    while (*text) {
        int len = (int)strcspn(text, " ");

        if (column > HELP_INDENT && column + 1 + len > HELP_WIDTH) {
            fprintf(to, "\n%*s", HELP_INDENT, "");
            column = HELP_INDENT;
        } else if (column > HELP_INDENT) {
            fputc(' ', to);
            column++;
        }
        fprintf(to, "%.*s", len, text);
        column += len;
        text += len + (text[len] == ' ');
    }
    fputc('\n', to);
}

void arguments_help(const struct arguments *it, FILE *to)
{
    for (size_t i = 0; i < it->len; i++) {
        struct argument argument = it->describe(i);
        int len = fprintf(to, "  --%s%s%s", argument.name, argument.value ? " " : "",
                          argument.value ? argument.value : "");

        fprintf(to, "%*s", HELP_INDENT - len, "");
        print_wrapped(to, argument.help);
    }
}
