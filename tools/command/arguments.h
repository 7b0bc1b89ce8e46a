/*
 * arguments.h - options as every command of weir has them: how they are read, refused in one
 * line, and explained by --help.
 *
 * A command has a table of its own, and a structure of settings that the values are written into.
 * Here is what all tables have in common, the kinds of values that more than one has included.
 *
 * Threads: the main thread, before there are others.
 */
#ifndef WEIR_TOOLS_ARGUMENTS_H
#define WEIR_TOOLS_ARGUMENTS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What a value is, and the type that it is written into. */
enum argument_kind {
    ARGUMENT_OTHER,             /* none of these: see read */
    ARGUMENT_NUMBER,            /* uint32_t, from least to most */
    ARGUMENT_LONG_NUMBER,       /* uint64_t, the same */
    ARGUMENT_TIME,              /* uint32_t of milliseconds, the same */
    ARGUMENT_SIZE,              /* size_t of bytes, below WEIR_UNBUFFERED */
    ARGUMENT_TEXT,              /* const char *, the argument's own */
    ARGUMENT_YES,               /* bool, made true; takes no value */
    ARGUMENT_CHOICE,            /* enum weir_choice, which becomes `most`; takes no value */
};

struct argument {
    const char *name;
    const char *value;          /* what --help calls it; NULL: the option takes none */
    enum argument_kind kind;
    size_t at;                  /* in the settings */
    uint64_t least, most;
    /* Of ARGUMENT_OTHER. Returns 0, or -EINVAL once it has refused the text. */
    int (*read)(void *settings, const struct argument *argument, const char *text);
    const char *help;
};

/* The middle of a line in a table. */
#define ARGUMENT_AT(kind, type, field) kind, offsetof(type, field), 0, 0, NULL
#define ARGUMENT_RANGE(kind, type, field, least, most) \
    kind, offsetof(type, field), least, most, NULL
#define ARGUMENT_BY(read) ARGUMENT_OTHER, 0, 0, 0, read

enum { ARGUMENTS_MAX = 64 };

struct arguments {
    const char *command;        /* "serve" */
    const struct argument *table;
    size_t len;                 /* of the table, at most ARGUMENTS_MAX; "help" is -h, too */
    int (*operand)(void *settings, const char *text);   /* what is no option; NULL: none may be */
};

/* Reads the line; argv[0] is the command. 0, or -EINVAL after one line on standard error. */
int arguments_read(const struct arguments *it, void *settings, int argc, char **argv);

/*
 * One option by its name, from elsewhere than the line, but for help; value NULL: there is none.
 * 0, or -EINVAL after one line on standard error.
 */
int arguments_take(const struct arguments *it, void *settings, const char *name,
                   const char *value);

/* What is refused from now on stands there, in a file; NULL: on the line. */
void arguments_are_at(const char *file, unsigned line);

/* Says what is wrong, on a line of its own. Returns -EINVAL. */
__attribute__((format(printf, 2, 3)))
int arguments_refuse(const char *command, const char *format, ...);

/* Reads a size, or refuses it; or_else is a further form that the refusal names, or "". */
int arguments_size(const char *command, const char *name, const char *text, const char *or_else,
                   size_t *ret_size);

/* Prints every option, its explanation in a column of its own. */
void arguments_help(const struct arguments *it, FILE *to);

#endif
