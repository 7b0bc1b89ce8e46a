/*
 * rfile.c - reads of every kind, of a stream that comes in pieces of any size, against a model
 * that has all of it: each read gives what it promises, and fails only where there is nothing left
 * to give.
 *
 * Two bytes say how large the buffer is, how the stream ends and what kind of socket it is; the
 * third how many of those behind it choose what is read, and what a system call does. All others
 * are sent by the peer.
 */
#include "tests/fuzz/stream.h"

#include <errno.h>

static size_t at;               /* in the peer's bytes: what has been read */
static ssize_t told;            /* by the first read that failed */

static size_t left(void)
{
    return stream.sent_len - at;
}

static void check_bytes(const char *bytes, size_t len)
{
    HOLDS(len <= left());
    HOLDS(len == 0 || memcmp(bytes, stream.sent + at, len) == 0);
}

/* What a read gives that finds no more than the end. */
static void check_end(ssize_t n)
{
    static const ssize_t errors[] = {
        [STREAM_ENDS] = 0, [STREAM_RESETS] = -ECONNRESET, [STREAM_FALLS_SILENT] = -ETIMEDOUT,
    };

    HOLDS(n == errors[stream.ending]);
    HOLDS(told == 1 || told == n);
    told = n;
}

static void read_line(size_t limit)
{
    const uint8_t *end = left() > 0 ? memchr(stream.sent + at, '\n', left()) : NULL;
    size_t len = end ? (size_t)(end - stream.sent) - at + 1 : left();
    bool whole = end || len >= limit;
    char *line = NULL;
    ssize_t n = weir_readline(&stream.request, &line, limit);

    if (limit == 0) {
        HOLDS(n == -EINVAL);
        return;
    }
    len = len < limit ? len : limit;
    if (!whole && (stream.ending != STREAM_ENDS || len == 0)) {
        check_end(n);
        return;
    }
    HOLDS(n == (ssize_t)len);
    check_bytes(line, len);
    at += len;
}

static void look(size_t min)
{
    char *data = NULL;
    ssize_t n = weir_peek(&stream.request, &data, min);

    if (left() < min && stream.ending != STREAM_ENDS) {
        check_end(n);
        return;
    }
    HOLDS(n >= (ssize_t)(min < left() ? min : left()));
    HOLDS((data != NULL) == (n > 0));
    check_bytes(data, (size_t)n);
}

/* As much as there is, or less. */
static void consume(size_t len)
{
    char *data;
    ssize_t n = weir_peek(&stream.request, &data, 0);

    HOLDS(n >= 0);
    check_bytes(data, (size_t)n);
    weir_consume(&stream.request, len);
    at += len < (size_t)n ? len : (size_t)n;
}

static void read_some(size_t len)
{
    char *buf = malloc(len + 1);
    ssize_t n;

    if (!buf)
        abort();
    n = weir_read(&stream.request, buf, len);
    if (len == 0) {
        HOLDS(n == 0);
    } else if (left() == 0) {
        check_end(n);
    } else {
        HOLDS(n > 0 && (size_t)n <= len);
        check_bytes(buf, (size_t)n);
        at += (size_t)n;
    }
    free(buf);
}

/* What it has read before it fails is lost, as weir.h says. */
static void read_exact(size_t len)
{
    char *buf = malloc(len + 1);
    size_t most = len < left() ? len : left();
    ssize_t n;

    if (!buf)
        abort();
    n = weir_read_exact(&stream.request, buf, len);
    if (most < len && stream.ending != STREAM_ENDS) {
        at += most;
        check_end(n);
    } else {
        HOLDS(n == (ssize_t)most);
        check_bytes(buf, most);
        at += most;
    }
    free(buf);
}

static void step(uint8_t what, size_t len)
{
    switch (what % 8) {
    case 0:
    case 1:
        read_line(len);
        break;
    case 2:
        look(len);
        break;
    case 3:
        consume(len);
        break;
    case 4:
        read_exact(len);
        break;
    default:
        read_some(len);
    }
}

/* What the choices don't say is read, to the end. */
static void play(void)
{
    at = 0;
    told = 1;
    while (stream.choices.size > 0) {
        uint8_t what = take_byte(&stream.choices);

        step(what, (size_t)take_byte(&stream.choices) << (what >> 6));
    }
    while (left() > 0 && told == 1)
        read_some(64);
    read_some(1);
    look(0);
    HOLDS(stream.read == stream.sent_len || told != 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    struct stream_config config = { .rbufsize = take_number(&input, 127) + 1, .wbufsize = 16 };
    uint8_t how = take_byte(&input);
    size_t choices = take_byte(&input);

    config.transport = how & 4 ? TRANSPORT_UNIX : TRANSPORT_PLAIN;
    choices = choices < input.size ? choices : input.size;
    stream_begin(&config);
    stream.ending = how % 4 < 3 ? (enum stream_ending)(how % 4) : STREAM_ENDS;
    stream.choices = (struct input){ input.data, choices };
    stream.sent = input.data + choices;
    stream.sent_len = input.size - choices;
    play();
    stream_end();
    return 0;
}
