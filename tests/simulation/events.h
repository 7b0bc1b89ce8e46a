/*
 * events.h - eventfds and timer descriptors.
 *
 * Threads: one. Owns: what it opens. Blocks: never; both are non-blocking.
 */
#ifndef WEIR_SIMULATION_EVENTS_H
#define WEIR_SIMULATION_EVENTS_H

#include "tests/simulation/files.h"

#include <stdint.h>
#include <time.h>

/* A descriptor, or -errno. */
int events_open(void);

/* 0, -EAGAIN, -EBADF; -EINVAL: it is none of ours. */
int events_add(int fd, uint64_t count);
int events_take(int fd, uint64_t *ret_count);

#endif
