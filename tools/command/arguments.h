/*
 * arguments.h - options as every command of weir has them: how they are read, refused in one
 * line, and explained by --help.
 *
 * A command has a table of its own, which says what a value is and where it belongs; here is what
 * all tables have in common.
 *
 * Threads: the main thread.
 */
#ifndef WEIR_TOOLS_ARGUMENTS_H
#define WEIR_TOOLS_ARGUMENTS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct argument {
    const char *name;
    const char *value;          /* what --help calls it; NULL: the option takes none */
    const char *help;
};

enum { ARGUMENTS_MAX = 64 };

struct arguments {
    const char *command;        /* "serve" */
    size_t len;                 /* of the table, at most ARGUMENTS_MAX */
    struct argument (*describe)(size_t i);
    /* Each returns 0, or -EINVAL once it has refused the text. */
    int (*read)(void *settings, size_t i, const char *text);
    int (*operand)(void *settings, const char *text);   /* what is no option; NULL: none may be */
};

/* Reads the line; argv[0] is the command. 0, or -EINVAL after one line on standard error. */
int arguments_read(const struct arguments *it, void *settings, int argc, char **argv);

/* Says what is wrong, on a line of its own. Returns -EINVAL. */
__attribute__((format(printf, 2, 3)))
int arguments_refuse(const char *command, const char *format, ...);

/* Each reads a value, of 0 to max or of least to max, or refuses it by the name of its option. */
int arguments_number(const char *command, const char *name, const char *text, uint64_t least,
                     uint64_t max, uint64_t *ret_number);
int arguments_time(const char *command, const char *name, const char *text, uint32_t *ret_ms);

/* Prints every option, its explanation in a column of its own. */
void arguments_help(const struct arguments *it, FILE *to);

#endif
