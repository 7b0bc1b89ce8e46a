/*
 * body_file.h - the file that a server of the benches sends as its body.
 *
 * Threads: any, once it is open.
 */
#ifndef WEIR_BENCH_BODY_FILE_H
#define WEIR_BENCH_BODY_FILE_H

#include <stddef.h>

struct body_file {
    int fd;
    size_t len;
    const char *data;           /* its content, in memory of our own */
};

/* Opens and reads it, for the life of the process. Returns 0 or -errno. */
int body_file_open(struct body_file *ret_file, const char *path);

#endif
