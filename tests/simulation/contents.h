/*
 * contents.h - a file of the simulated disk, for sendfile(2) and pread(2): its bytes go through the
 * capital letters again and again, as far as CONTENTS_LEN.
 *
 * Threads: one. Owns: nothing. Blocks: never.
 */
#ifndef WEIR_SIMULATION_CONTENTS_H
#define WEIR_SIMULATION_CONTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CONTENTS_LEN 200000

/* A descriptor of it, or -errno. */
int contents_open(void);

bool contents_is_one(int fd);

/* Bytes from that offset, 0 at the end. */
ssize_t contents_read(void *buf, size_t len, off_t offset);

#endif
