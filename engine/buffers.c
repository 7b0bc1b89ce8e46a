#include "engine/buffers.h"

#include <stdlib.h>

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

char *buffers_make(const struct buffers *buffers)
{
    return buffers->alignment > 0 ? aligned_alloc(buffers->alignment, buffers->size)
                                  : malloc(buffers->size);
}
