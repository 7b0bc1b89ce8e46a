/*
 * buffers.h - a worker's cache of read and write buffers, the warm ones first.
 *
 * A stream holds a buffer only while there is something in it, so a few serve thousands of
 * connections, and the next request finds one that is still in the CPU's caches. What is too long
 * for one gets a larger one, and some of those stay here, too: malloc would give each back to the
 * kernel and have it cleared again for the next request.
 *
 * Threads: one, the worker's.
 * Owns:    the spare buffers; buffers_get gives one away, buffers_put takes it back.
 */
#ifndef WEIR_BUFFERS_H
#define WEIR_BUFFERS_H

#include "engine/base/compiler.h"

#include <stddef.h>
#include <stdlib.h>

/* As many stay as a burst of requests needs; the rest goes back to malloc. */
#define BUFFERS_SPARE_MAX 64

/*
 * Larger buffers have 2, 4, 8 ... times the usual size. Of them BUFFERS_LARGER sizes, and
 * BUFFERS_LARGER_MAX bytes at most, are kept.
 */
#define BUFFERS_LARGER 16
#define BUFFERS_LARGER_MAX ((size_t)2 << 20)

struct spare_buffer {
    struct spare_buffer *next;
};

struct buffers {
    size_t size;            /* of each, in bytes */
    size_t alignment;       /* 0: malloc's */
    unsigned spare_len;
    struct spare_buffer *spare;
    size_t larger_bytes;    /* in spare larger ones: larger[i] are of size << (i + 1) bytes */
    struct spare_buffer *larger[BUFFERS_LARGER];
};

void buffers_init(struct buffers *buffers, size_t size);
void buffers_init_aligned(struct buffers *buffers, size_t size, size_t alignment);
void buffers_fini(struct buffers *buffers);

/* Another one from malloc; NULL: no memory. */
char *buffers_make(const struct buffers *buffers);

/* To malloc. With WEIR_CHECK=1 all are, and are overwritten first: no data is left to be read. */
#define BUFFERS_POISON 0xa5
void buffers_free(const struct buffers *buffers, char *buffer);

/* NULL: no memory. */
static inline char *buffers_get(struct buffers *buffers)
{
    struct spare_buffer *buffer = buffers->spare;

    if (WEIR_UNLIKELY(!buffer))
        return buffers_make(buffers);
    buffers->spare = buffer->next;
    buffers->spare_len--;
    return (char *)buffer;
}

static inline void buffers_put(struct buffers *buffers, char *buffer)
{
    struct spare_buffer *spare = (struct spare_buffer *)(void *)buffer;

    if (WEIR_UNLIKELY(buffers->spare_len == BUFFERS_SPARE_MAX)) {
        buffers_free(buffers, buffer);
        return;
    }
    spare->next = buffers->spare;
    buffers->spare = spare;
    buffers->spare_len++;
}

/*
 * One for len bytes at least, and its size: a usual one, if that is enough. A caller that asks
 * whenever its buffer is full gets at least twice as much each time, so that the bytes it copies
 * stay in proportion. Not of those that are aligned. NULL: no memory.
 */
char *buffers_get_for(struct buffers *buffers, size_t len, size_t *ret_size);

/* Takes one of any size back, smaller ones that are malloc's included. */
void buffers_put_sized(struct buffers *buffers, char *buffer, size_t size);

#endif
