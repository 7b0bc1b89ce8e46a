/*
 * wfile.c - writes of every kind, to a peer that takes what it likes: what has arrived is what was
 * written, from its beginning on; and all of it, unless a write has failed.
 *
 * Two bytes say how large the buffer is, and what kind of socket it is. The others choose what is
 * written, and what a system call does.
 */
#include "tests/fuzz/stream.h"

#include "engine/stream/wfile.h"

#include <errno.h>

enum { WRITES_MAX = 64 * 1024 };

static char text[WRITES_MAX * 2];
static size_t written;
static ssize_t failed;          /* 0: nothing has */

/* The text goes on as the stream does. */
static const char *next(void)
{
    return text + written;
}

static void note(ssize_t n, size_t len)
{
    if (n < 0) {
        HOLDS(n == -EPIPE || n == -ETIMEDOUT);
        HOLDS(failed == 0 || n == failed);
        failed = n;
        return;
    }
    HOLDS(failed == 0 && n == (ssize_t)len);
    written += len;
}

static void write_parts(size_t len, unsigned parts_len)
{
    struct iovec parts[40];
    size_t done = 0;

    for (unsigned i = 0; i < parts_len; i++) {
        size_t some = i + 1 < parts_len ? len / parts_len : len - done;

        parts[i] = (struct iovec){ (void *)(uintptr_t)(next() + done), some };
        done += some;
    }
    note(weir_writev(&stream.request, parts, (int)parts_len), len);
}

static void write_file(int file_fd, size_t len)
{
    ssize_t n = weir_sendfile(&stream.request, file_fd, (off_t)written, len);

    if (stream.request.conn->transport == TRANSPORT_NONE)
        HOLDS(n == -EOPNOTSUPP);
    else
        note(n, len);
}

static void flush(void)
{
    int r = weir_flush(&stream.request);

    if (r < 0)
        note(r, 0);
    else
        HOLDS(failed == 0);
    if (r == 0 && stream.request.conn->transport != TRANSPORT_NONE)
        HOLDS(stream.taken == written);
}

static void step(uint8_t what, size_t len)
{
    switch (what % 8) {
    case 0:
        flush();
        break;
    case 1:
        note(weir_printf(&stream.request, "%.*s", (int)len, next()), len);
        break;
    case 2:
        write_parts(len, what / 8 + 1);
        break;
    case 3:
        write_file(what / 8 % 2, len);
        break;
    default:
        note(weir_write(&stream.request, next(), len), len);
    }
}

static void check_output(void)
{
    size_t len, size;
    char *data;

    if (stream.request.conn->transport == TRANSPORT_NONE) {
        HOLDS(failed == 0 && stream.taken == 0);
        HOLDS(stream.request.wfile.len == written);
        data = wfile_take(&stream.request, &len, &size);
        HOLDS(len == written && len <= size);
        HOLDS(len == 0 || memcmp(data, text, len) == 0);
        free(data);
        return;
    }
    HOLDS(stream.taken <= written || failed != 0);
    HOLDS(memcmp(stream.output, text, stream.taken) == 0);
    HOLDS(stream.request.wfile.sent == stream.taken);
}

static void play(void)
{
    written = 0;
    failed = 0;
    while (stream.choices.size > 0) {
        uint8_t what = take_byte(&stream.choices);
        size_t len = (size_t)take_byte(&stream.choices) << (what >> 6) * 2;

        if (len > WRITES_MAX - written)
            break;
        step(what, len);
    }
    flush();
    check_output();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    struct stream_config config = { .rbufsize = 16, .wbufsize = take_number(&input, 127) + 1 };
    uint8_t how = take_byte(&input);

    if (text[0] == '\0')
        for (size_t i = 0; i < sizeof(text); i++)
            text[i] = stream_pattern(i);
    config.transport = how % 4 == 1 ? TRANSPORT_UNIX : how % 4 == 2 ? TRANSPORT_NONE
                                                                     : TRANSPORT_PLAIN;
    config.unbuffered = (how & 4) && config.transport != TRANSPORT_NONE;
    stream_begin(&config);
    stream.fails = how & 8;
    stream.choices = input;
    play();
    stream_end();
    return 0;
}
