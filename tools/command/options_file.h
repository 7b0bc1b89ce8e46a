/*
 * options_file.h - options in a file instead of on the command line, one in a line:
 *
 *     # what is behind a number sign, at the start or after a blank, is a comment
 *     listen = tcp://0.0.0.0:80
 *     idle-timeout = 30s
 *     no-delay
 *
 * They count as if they stood on the command line in place of the file's name.
 *
 * Threads: options_file_read the main thread, before there are others; options_file_has_changed
 *          any.
 * Owns:    its text, which lasts as long as the process: values refer to it.
 * Blocks:  both, as files do.
 */
#ifndef WEIR_TOOLS_OPTIONS_FILE_H
#define WEIR_TOOLS_OPTIONS_FILE_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "tools/command/arguments.h"

struct options_file {
    const char *path;           /* NULL: none was named */
    char *text;
    dev_t dev;                  /* these four: as it was when it was read */
    ino_t ino;
    off_t size;
    struct timespec changed;
};

/* Reads it into the settings. Returns 0, or -EINVAL after one line on standard error. */
int options_file_read(struct options_file *ret_file, const struct arguments *it, void *settings,
                      const char *path);

/* Returns true if it is another file by now, has another content, or is not to be found. */
bool options_file_has_changed(const struct options_file *file);

#endif
