/*
 * arguments.c - see arguments.h.
 */
#include "tools/command/arguments.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <weir/weir.h>

#include "tools/command/say.h"
#include "tools/command/values.h"

static struct {
    const char *file;           /* NULL: the command line */
    unsigned line;
} stands;                       /* what is read */

void arguments_are_at(const char *file, unsigned line)
{
    stands.file = file;
    stands.line = line;
}

int arguments_refuse(const char *command, const char *format, ...)
{
    char why[PIPE_BUF];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    if (stands.file)
        say("weir %s: %s:%u: %s", command, stands.file, stands.line, why);
    else
        say("weir %s: %s", command, why);
    return -EINVAL;
}

/* ------------------------------------------------------------------ values ------------ */

static int read_time(const char *command, const struct argument *argument, const char *text,
                     uint32_t *ret_ms)
{
    uint64_t ms;

    if (value_time(text, argument->most, &ms) < 0 || ms < argument->least)
        return arguments_refuse(command, "--%s: '%s' is not a time such as 500ms, 10s or 2m (%s)",
                                argument->name, text,
                                argument->least == 0 ? "0: none, at most 49 days"
                                                     : "from 1ms to 49 days");
    *ret_ms = (uint32_t)ms;
    return 0;
}

int arguments_size(const char *command, const char *name, const char *text, const char *or_else,
                   size_t *ret_size)
{
    uint64_t size;

    if (value_size(text, WEIR_UNBUFFERED - 1, &size) < 0)
        return arguments_refuse(command, "--%s: '%s' is not a size such as 8192, 64K or 1M%s", name,
                                text, or_else);
    *ret_size = (size_t)size;
    return 0;
}

static int read_number(const char *command, const struct argument *argument, const char *text,
                       void *field)
{
    uint64_t n;

    if (value_number(text, argument->most, &n) < 0 || n < argument->least)
        return arguments_refuse(command, "--%s: '%s' is not a number from %llu to %llu",
                                argument->name, text, (unsigned long long)argument->least,
                                (unsigned long long)argument->most);
    if (argument->kind == ARGUMENT_LONG_NUMBER)
        *(uint64_t *)field = n;
    else
        *(uint32_t *)field = (uint32_t)n;
    return 0;
}

static int take_value(const struct arguments *it, void *settings, const struct argument *argument,
                      const char *text)
{
    void *field = (char *)settings + argument->at;

    switch (argument->kind) {
    case ARGUMENT_OTHER:
        return argument->read(settings, argument, text);
    case ARGUMENT_NUMBER:
    case ARGUMENT_LONG_NUMBER:
        return read_number(it->command, argument, text, field);
    case ARGUMENT_TIME:
        return read_time(it->command, argument, text, field);
    case ARGUMENT_SIZE:
        return arguments_size(it->command, argument->name, text, "", field);
    case ARGUMENT_TEXT:
        *(const char **)field = text;
        return 0;
    case ARGUMENT_YES:
        *(bool *)field = true;
        return 0;
    case ARGUMENT_CHOICE:
        *(enum weir_choice *)field = (enum weir_choice)argument->most;
        return 0;
    }
    return 0;
}

/* ------------------------------------------------------------------ the line ---------- */

/* getopt_long returns the place in the table, above what it returns for letters and mistakes. */
enum { PLACE = 256 };

static void long_options(const struct arguments *it, struct option *options)
{
    for (size_t i = 0; i < it->len; i++) {
        options[i] = (struct option){
            .name = it->table[i].name,
            .has_arg = it->table[i].value ? required_argument : no_argument,
            .val = PLACE + (int)i,
        };
    }
    options[it->len] = (struct option){ 0 };
}

static const struct argument *find_argument(const struct arguments *it, const char *name)
{
    const struct argument *argument = it->table;

    while (strcmp(argument->name, name) != 0)
        argument++;
    return argument;
}

static int refuse_missing(const struct arguments *it, const struct argument *argument)
{
    return arguments_refuse(it->command, "--%s needs a value, %s", argument->name,
                            argument->value);
}

static int refuse_value(const struct arguments *it, const struct argument *argument)
{
    return arguments_refuse(it->command, "--%s takes no value", argument->name);
}

/*
 * What getopt_long did not like: it leaves in optopt the place of the option, or its letter, which
 * may stand among others, or 0 if it is none of ours.
 */
static int refuse_option(const struct arguments *it, int mistake, char **argv)
{
    const struct argument *argument;

    /* A char, which may be signed: of a letter that is several bytes, the first. */
    if (optopt < 0 || (optopt > 0x7f && optopt < PLACE))
        return arguments_refuse(it->command, "there is no option '-\\x%02x'; see `weir %s --help`",
                                (unsigned char)optopt, it->command);
    if (optopt > 0 && optopt < PLACE)
        return arguments_refuse(it->command, "there is no option '-%c'; see `weir %s --help`",
                                optopt, it->command);
    if (optopt == 0)
        return arguments_refuse(it->command, "there is no option '%s'; see `weir %s --help`",
                                argv[optind - 1], it->command);
    argument = &it->table[optopt - PLACE];
    return mistake == ':' ? refuse_missing(it, argument) : refuse_value(it, argument);
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

    long_options(it, options);
    opterr = 0;
    /* "-": operands come as 1, wherever they stand. ":": a value that is missing as ':'. */
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread yet */
    while (r == 0 && (place = getopt_long(argc, argv, "-:h", options, NULL)) != -1) {
        if (place == 1)
            r = read_operand(it, settings, optarg);
        else if (place == 'h')
            r = take_value(it, settings, find_argument(it, "help"), NULL);
        else if (place < PLACE)
            r = refuse_option(it, place, argv);
        else
            r = take_value(it, settings, &it->table[place - PLACE], optarg);
    }
    for (; r == 0 && optind < argc; optind++)   /* behind "--" */
        r = read_operand(it, settings, argv[optind]);
    return r;
}

int arguments_take(const struct arguments *it, void *settings, const char *name, const char *value)
{
    const struct argument *argument = it->table;
    const struct argument *end = it->table + it->len;

    while (argument < end && strcmp(argument->name, name) != 0)
        argument++;
    if (argument == end || strcmp(name, "help") == 0)
        return arguments_refuse(it->command, "there is no option '%s'; see `weir %s --help`", name,
                                it->command);
    if (argument->value && !value)
        return refuse_missing(it, argument);
    if (!argument->value && value)
        return refuse_value(it, argument);
    return take_value(it, settings, argument, value);
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
        const struct argument *argument = &it->table[i];
        int len = fprintf(to, "  --%s%s%s%s", argument->name,
                          strcmp(argument->name, "help") == 0 ? ", -h" : "",
                          argument->value ? " " : "", argument->value ? argument->value : "");

        fprintf(to, "%*s", HELP_INDENT - len, "");
        print_wrapped(to, argument->help);
    }
}
