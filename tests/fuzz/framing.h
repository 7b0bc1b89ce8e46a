/*
 * framing.h - the second opinion on HTTP: what the parser's library, http-parser or llhttp, makes
 * of the same bytes by itself. The handler has it read request lines only.
 *
 * Threads: the one there is.
 */
#ifndef WEIR_TESTS_FUZZ_FRAMING_H
#define WEIR_TESTS_FUZZ_FRAMING_H

#include <stdbool.h>
#include <stddef.h>

enum {
    FRAMING_FIELDS_MAX = 256,       /* a head has 100 at most, and so have trailers */
    FRAMING_TEXT_MAX = 64 * 1024,
};

/* A piece of `text`. */
struct framing_piece {
    size_t at, len;
};

struct framing {
    const char *bytes;          /* what it is shown */
    size_t bytes_len;
    bool complete;              /* a whole message is there, of ... */
    size_t len;                 /* ... so many bytes: the next one begins behind them */
    bool has_head;              /* its head is */
    const char *method;         /* of a request; static */
    int status;                 /* of a reply */
    const char *error;          /* NULL: it has nothing against it */
    struct framing_piece url;
    struct framing_piece fields[FRAMING_FIELDS_MAX][2];     /* name and value */
    size_t fields_len;          /* trailers included */
    size_t head_fields_len;
    struct framing_piece body;  /* its chunks put together */
    bool in_value, to_head;     /* while it is read */
    size_t text_len;
    char text[FRAMING_TEXT_MAX];
};

/* The first request in the bytes. */
void framing_of_request(struct framing *ret, const char *bytes, size_t len);

/* The first reply, interim ones included; to_head: to a HEAD request. ends: nothing follows. */
void framing_of_reply(struct framing *ret, const char *bytes, size_t len, bool to_head, bool ends);

/*
 * Returns true if the handler may take what the library has refused: framing.c has the list, and
 * why each of them is there.
 */
bool framing_may_refuse(const struct framing *framing);

static inline const char *framing_text(const struct framing *framing, struct framing_piece piece)
{
    return framing->text + piece.at;
}

#endif
