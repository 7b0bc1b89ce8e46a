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
 * Owns:    its text and content, which last as long as the process: values refer to the text.
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
    char *content;              /* as it was read; without a NUL byte but its end */
    char *text;                 /* the same, taken apart */
    dev_t dev;                  /* these four: as it was when it was read */
    ino_t ino;
    off_t size;
    struct timespec changed;
};

/* Reads it into the settings. Returns 0, or -EINVAL after one line on standard error. */
int options_file_read(struct options_file *ret_file, const struct arguments *it, void *settings,
                      const char *path);

/*
 * Returns true if it has another content by now, or is not to be found. If it can't be read, then
 * if it is another file, or was written since.
 */
bool options_file_has_changed(const struct options_file *file);

#endif
