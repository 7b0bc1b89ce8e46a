/*
 * options.c - a file of options of `weir serve`, against the command line that its lines stand for.
 *
 * The input is the file. A second reading of its lines, by the rules of options_file.h, makes
 * arguments of them: what the file says must be what these say, and the line that is refused must
 * be the first that is wrong.
 */
#include "tests/fuzz/input.h"

#include <getopt.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/said.h"
#include "tools/command/settings.h"

/* ------------------------------------------------------------------ the file ---------- */

static char path[64];

static void write_file(const struct input *input)
{
    static int fd = -1;

    if (fd < 0) {
        fd = memfd_create("options", MFD_CLOEXEC);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    }
    HOLDS(ftruncate(fd, 0) == 0);
    HOLDS(pwrite(fd, input->data, input->size, 0) == (ssize_t)input->size);
}

/* ------------------------------------------------------------------ the model --------- */

/* What the file's lines are as arguments. */
static struct model {
    char **argv;                /* behind the command's name; NULL behind the last */
    unsigned *lines;            /* that of each */
    size_t len;
    unsigned wrong;             /* the first line that is none; 0: each is one, or says nothing */
} model;

/* All that --help knows. */
static const char *help(void)
{
    static char *text;
    size_t size;

    if (!text) {
        FILE *to = open_memstream(&text, &size);

        settings_help(to);
        fclose(to);
    }
    return text;
}

/* Returns true if there is such an option, for a file; *ret_has_value: it takes one. */
static bool is_option(const char *name, size_t len, bool *ret_has_value)
{
    char line[64];
    const char *at;

    if (len == 0 || len > 40 || memchr(name, ' ', len) || memchr(name, '\t', len) ||
        (len == 7 && memcmp(name, "options", len) == 0))
        return false;
    snprintf(line, sizeof(line), "\n  --%.*s ", (int)len, name);
    at = strstr(help(), line);
    *ret_has_value = at && at[strlen(line)] >= 'A' && at[strlen(line)] <= 'Z';
    return at;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static size_t without_blanks(const char *text, size_t len, const char **ret_begin)
{
    while (len > 0 && is_blank(text[len - 1]))
        len--;
    for (; len > 0 && is_blank(*text); len--)
        text++;
    *ret_begin = text;
    return len;
}

static size_t without_comment(const char *line, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (line[i] == '#' && (i == 0 || is_blank(line[i - 1])))
            return i;
    return len;
}

/* Returns false if it is neither an option nor nothing. */
static bool add_line(unsigned number, const char *line, size_t len)
{
    const char *name, *value;
    size_t name_len, value_len;
    const char *equals;
    bool has_value;

    len = without_blanks(line, without_comment(line, len), &line);
    if (len == 0)
        return true;
    equals = memchr(line, '=', len);
    name_len = without_blanks(line, equals ? (size_t)(equals - line) : len, &name);
    if (!is_option(name, name_len, &has_value) || has_value != (equals != NULL))
        return false;
    value_len = equals ? without_blanks(equals + 1, (size_t)(line + len - equals) - 1, &value) : 0;
    HOLDS(asprintf(&model.argv[model.len], "--%.*s%s%.*s", (int)name_len, name, equals ? "=" : "",
                   (int)value_len, equals ? value : "") > 0);
    model.lines[model.len++] = number;
    return true;
}

static void make_model(const char *text, size_t size)
{
    const char *end = text + size;
    unsigned number = 1;

    model = (struct model){
        .argv = calloc(size + 2, sizeof(*model.argv)),
        .lines = calloc(size + 2, sizeof(*model.lines)),
    };
    HOLDS(model.argv && model.lines);
    for (; model.wrong == 0; number++) {
        const char *next = memchr(text, '\n', (size_t)(end - text));

        if (!add_line(number, text, (size_t)((next ? next : end) - text)))
            model.wrong = number;
        if (!next)
            break;
        text = next + 1;
    }
}

static void forget_model(void)
{
    for (size_t i = 0; i < model.len; i++)
        free(model.argv[i]);
    free(model.argv);
    free(model.lines);
}

/* ------------------------------------------------------------------ what is read ------ */

static struct settings by_file, by_line;

static int read_arguments(struct settings *settings, char **arguments, size_t len)
{
    char name[] = "weir", **argv = calloc(len + 2, sizeof(*argv));
    int r;

    HOLDS(argv);
    argv[0] = name;
    memcpy(argv + 1, arguments, len * sizeof(*argv));
    optind = 0;                 /* getopt_long begins anew */
    said.lines = 0;
    r = settings_read(settings, (int)len + 1, argv);
    HOLDS(r == 0 || r == -22);
    HOLDS(said.lines == (r < 0));
    free(argv);
    return r;
}

static int read_file(void)
{
    char option[] = "--options", *arguments[] = { option, path };

    return read_arguments(&by_file, arguments, 2);
}

static bool is_same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* All but the texts, of which it has only pointers. */
static void take_numbers(struct weir_options *ret_options, const struct settings *settings)
{
    memcpy(ret_options, &settings->options, sizeof(*ret_options));
    ret_options->listeners = NULL;
    ret_options->worker_cpus = NULL;
    ret_options->unix_owner = NULL;
    ret_options->multicast = NULL;
}

static void check_same(void)
{
    const struct weir_options *a = &by_file.options, *b = &by_line.options;
    struct weir_options numbers[2];

    HOLDS(a->listeners_len == b->listeners_len);
    for (size_t i = 0; i < a->listeners_len; i++) {
        HOLDS(is_same_text(by_file.addresses[i], by_line.addresses[i]));
        HOLDS(is_same_text(a->listeners[i].address, b->listeners[i].address));
        HOLDS(a->listeners[i].handler == b->listeners[i].handler);
    }
    HOLDS(is_same_text(a->worker_cpus, b->worker_cpus));
    HOLDS(is_same_text(a->unix_owner, b->unix_owner));
    HOLDS(is_same_text(a->multicast, b->multicast));
    HOLDS(is_same_text(by_file.access, by_line.access));
    HOLDS(is_same_text(by_file.user, by_line.user));
    HOLDS(by_file.sandbox == by_line.sandbox && !by_file.help);
    take_numbers(&numbers[0], &by_file);
    take_numbers(&numbers[1], &by_line);
    HOLDS(memcmp(&numbers[0], &numbers[1], sizeof(numbers[0])) == 0);
}

/* That line is the first that the command line does not take either. */
static void check_refusal(void)
{
    unsigned line = 0;
    size_t before = 0;
    char format[128];

    snprintf(format, sizeof(format), "weir serve: %s:%%u: ", path);
    HOLDS(sscanf(said.last, format, &line) == 1);
    while (before < model.len && model.lines[before] < line)
        before++;
    HOLDS(read_arguments(&by_line, model.argv, before) == 0);
    if (model.wrong == line)
        return;
    HOLDS(before < model.len && model.lines[before] == line);
    HOLDS(read_arguments(&by_line, model.argv, before + 1) < 0);
}

static void check_file(const char *text, size_t size)
{
    int r = read_file();

    make_model(text, size);
    if (memchr(text, '\0', size)) {
        HOLDS(r < 0 && strstr(said.last, ": it has a NUL byte"));
    } else if (r < 0) {
        check_refusal();
    } else {
        HOLDS(model.wrong == 0);
        HOLDS(read_arguments(&by_line, model.argv, model.len) == 0);
        check_same();
    }
    HOLDS(!by_file.file.content || !options_file_has_changed(&by_file.file) ||
          memchr(text, '\0', size));
    forget_model();
    free(by_file.file.content);
    free(by_file.file.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    char *text;

    write_file(&input);
    text = take_text(&input);
    check_file(text, size);
    free(text);
    return 0;
}
