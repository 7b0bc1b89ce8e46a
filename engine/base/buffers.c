#include "engine/base/buffers.h"

#include "engine/base/misuse.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void buffers_init(struct buffers *buffers, size_t size)
{
    *buffers = (struct buffers){
        .size = size < sizeof(struct spare_buffer) ? sizeof(struct spare_buffer) : size,
        /* As if there were enough spare ones: each that is put is freed. */
        .spare_len = misuse_is_thorough() ? BUFFERS_SPARE_MAX : 0,
    };
}

void buffers_free(const struct buffers *buffers, char *buffer)
{
    if (misuse_is_thorough()) {
        memset(buffer, BUFFERS_POISON, buffers->size);
        /* Or the compiler leaves out what nobody may read. */
        __asm__ volatile("" : : "r"(buffer) : "memory");
    }
    free(buffer);
}

void buffers_init_aligned(struct buffers *buffers, size_t size, size_t alignment)
{
    buffers_init(buffers, (size + alignment - 1) & ~(alignment - 1));
    buffers->alignment = alignment;
}

static char *pop_larger(struct buffers *buffers, unsigned i)
{
    struct spare_buffer *buffer = buffers->larger[i];

    buffers->larger[i] = buffer->next;
    buffers->larger_bytes -= buffers->size << (i + 1);
    return (char *)buffer;
}

void buffers_fini(struct buffers *buffers)
{
    while (buffers->spare)
        free(buffers_get(buffers));
    for (unsigned i = 0; i < BUFFERS_LARGER; i++)
        while (buffers->larger[i])
            free(pop_larger(buffers, i));
}

char *buffers_make(const struct buffers *buffers)
{
    return buffers->alignment > 0 ? aligned_alloc(buffers->alignment, buffers->size)
                                  : malloc(buffers->size);
}

char *buffers_get_for(struct buffers *buffers, size_t len, size_t *ret_size)
{
    size_t size = buffers->size;
    unsigned doublings = 0;

    for (; size < len; doublings++) {
        if (size > SIZE_MAX / 2)
            return NULL;
        size *= 2;
    }
    *ret_size = size;
    if (doublings == 0)
        return buffers_get(buffers);
    if (doublings <= BUFFERS_LARGER && buffers->larger[doublings - 1])
        return pop_larger(buffers, doublings - 1);
    return malloc(size);
}

void buffers_put_sized(struct buffers *buffers, char *buffer, size_t size)
{
    struct spare_buffer *spare = (struct spare_buffer *)(void *)buffer;
    unsigned doublings = 0;

    if (size == buffers->size) {
        buffers_put(buffers, buffer);
        return;
    }
    while (buffers->size << doublings < size)
        doublings++;
    if (doublings == 0 || doublings > BUFFERS_LARGER ||
        size > BUFFERS_LARGER_MAX - buffers->larger_bytes) {
        free(buffer);
        return;
    }
    spare->next = buffers->larger[doublings - 1];
    buffers->larger[doublings - 1] = spare;
    buffers->larger_bytes += size;
}
