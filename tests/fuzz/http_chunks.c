/*
 * http_chunks.c - a client that sends a body in chunks, and then what it likes: the chunks, behind
 * two bytes that say in what pieces they arrive and are read. The head, which is always the same,
 * comes in one piece.
 */
#include "tests/fuzz/http_talk.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    static uint8_t bytes[HTTP_TALK_MAX];
    struct input input = { data, size };
    size_t piece = take_number(&input, 63) + 1, read_size = take_number(&input, 63) + 1;
    size_t head_len = sizeof(head) - 1, len = sizeof(bytes) - head_len;

    if (len > input.size)
        len = input.size;
    memcpy(bytes, head, head_len);
    if (len > 0)
        memcpy(bytes + head_len, input.data, len);
    http_talk(bytes, head_len + len, head_len, piece, read_size);
    return 0;
}
