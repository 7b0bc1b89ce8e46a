/*
 * http_server.c - a client that sends what it likes: the bytes of its requests, behind two that say
 * in what pieces they arrive and are read.
 */
#include "tests/fuzz/http_talk.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    size_t piece = take_number(&input, 63) + 1, read_size = take_number(&input, 63) + 1;

    http_talk(input.data, input.size, 0, piece, read_size);
    return 0;
}
