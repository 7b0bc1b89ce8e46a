/*
 * buffers.h - a worker's cache of read and write buffers, the warm ones first.
 *
 * A stream holds a buffer only while there is something in it, so a few serve thousands of
 * connections, and the next request finds one that is still in the CPU's caches.
 *
 * Threads: one, the worker's.
 * Owns:    the resting buffers; buffers_get gives one away, buffers_put takes it back.
 */
#ifndef WEIR_BUFFERS_H
#define WEIR_BUFFERS_H

#include <stddef.h>

struct buffers {
    size_t size;            /* of each, in bytes */
    size_t alignment;       /* 0: malloc's */
    unsigned resting_len;
    struct resting_buffer *resting;
};

void buffers_init(struct buffers *buffers, size_t size);
void buffers_init_aligned(struct buffers *buffers, size_t size, size_t alignment);
void buffers_fini(struct buffers *buffers);
char *buffers_get(struct buffers *buffers);     /* NULL: no memory */
void buffers_put(struct buffers *buffers, char *buffer);

#endif
