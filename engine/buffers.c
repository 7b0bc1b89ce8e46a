#include "engine/buffers.h"

#include <stdlib.h>

/* As many stay as a burst of requests needs; the rest goes back to malloc. */
#define RESTING_MAX 64

struct resting_buffer {
    struct resting_buffer *next;
};

void buffers_init(struct buffers *buffers, size_t size)
{
    *buffers = (struct buffers){
        .size = size < sizeof(struct resting_buffer) ? sizeof(struct resting_buffer) : size,
    };
}

void buffers_init_aligned(struct buffers *buffers, size_t size, size_t alignment)
{
    buffers_init(buffers, (size + alignment - 1) & ~(alignment - 1));
    buffers->alignment = alignment;
}

void buffers_fini(struct buffers *buffers)
{
    while (buffers->resting)
        free(buffers_get(buffers));
}

char *buffers_get(struct buffers *buffers)
{
    struct resting_buffer *buffer = buffers->resting;

    if (!buffer)
        return buffers->alignment > 0 ? aligned_alloc(buffers->alignment, buffers->size)
                                      : malloc(buffers->size);
    buffers->resting = buffer->next;
    buffers->resting_len--;
    return (char *)buffer;
}

void buffers_put(struct buffers *buffers, char *buffer)
{
    struct resting_buffer *resting = (struct resting_buffer *)(void *)buffer;

    if (buffers->resting_len == RESTING_MAX) {
        free(buffer);
        return;
    }
    resting->next = buffers->resting;
    buffers->resting = resting;
    buffers->resting_len++;
}
