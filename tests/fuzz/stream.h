/*
 * stream.h - the engine's own rfile and wfile, on one connection whose system calls are a
 * fuzzer's.
 *
 * The kernel takes and gives as many bytes at a time as the input says, has nothing or no room for
 * now, or is interrupted. The handler is on its worker's own stack, so that a wait is a call of
 * poll(2).
 *
 * Threads: the one there is.
 */
#ifndef WEIR_TESTS_FUZZ_STREAM_H
#define WEIR_TESTS_FUZZ_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/pool/transport.h"
#include "engine/stream/request.h"
#include "tests/fuzz/input.h"

enum { STREAM_OUTPUT_MAX = 256 * 1024 };

/* What a peer does that has sent everything. */
enum stream_ending { STREAM_ENDS, STREAM_RESETS, STREAM_FALLS_SILENT };

extern struct stream {
    struct weir_request request;
    struct input choices;       /* the kernel's; once they are used up, it does what it is asked */
    const uint8_t *sent;        /* by the peer */
    size_t sent_len, read;      /* read: by the engine */
    enum stream_ending ending;
    bool fails;                 /* a write may find that the peer has gone */
    size_t taken;               /* bytes, that the peer has */
    char output[STREAM_OUTPUT_MAX];
} stream;

struct stream_config {
    size_t rbufsize, wbufsize;
    bool unbuffered;
    enum transport_kind transport;
};

/* Fills in stream.request, and clears all else. end gives its buffers back. */
void stream_begin(const struct stream_config *config);
void stream_end(void);

/* The byte that the i-th one of a stream is to be. */
static inline char stream_pattern(size_t i)
{
    return (char)('a' + (i + i / 26) % 26);
}

#endif
