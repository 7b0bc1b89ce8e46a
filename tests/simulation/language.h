/*
 * language.h - what clients and the simulated server's handler say to one another.
 *
 * A request is a line: a letter that says what the handler is to do, six digits, some text. Behind
 * a line of RAW, PEEK or BOTH so many bytes follow as the digits say. Both requests and replies are
 * functions of a few numbers, so that a client knows each byte of the reply, and keeps none.
 * http_language.h has the same for HTTP.
 *
 * Threads: any. Owns: nothing. Blocks: never.
 */
#ifndef WEIR_SIMULATION_LANGUAGE_H
#define WEIR_SIMULATION_LANGUAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the handler does; then it replies with the line, if nothing else is said. */
enum {
    SAY_ECHO = 'e',         /* nothing */
    SAY_BIG = 'b',          /* replies with so many bytes and a line's end */
    SAY_PARTS = 'v',        /* the same, by weir_writev */
    SAY_FILE = 'g',         /* the same, by weir_sendfile */
    SAY_SLEEP = 's',        /* weir_sleep, so many milliseconds */
    SAY_YIELD = 'y',
    SAY_COMPUTE = 'c',      /* holds its worker, so many milliseconds */
    SAY_OFFLOAD = 'o',      /* a function that waits so many milliseconds */
    SAY_POLL = 'p',         /* weir_poll for input of its own, so many milliseconds */
    SAY_RAW = 'r',          /* weir_read_exact of so many bytes, with which it replies */
    SAY_PEEK = 'k',         /* the same, by weir_peek and weir_consume */
    SAY_BOTH = 'd',         /* reads so many bytes, while it says as many as for BIG */
    SAY_ASK = 't',          /* asks another server, for so many milliseconds at most to connect */
    SAY_SHARE = 'm',        /* locks and the like that others want as well: see sharer.h */
    SAY_FLUSH = 'f',        /* sends half of the line, then the rest */
    SAY_ENDED = 'x',        /* ends the connection behind the reply */
};

#define LANGUAGE_HEAD 7     /* the letter and its digits */

struct phrase {
    char what;
    uint32_t number;
    uint32_t text_len;
    uint32_t salt;
    bool http;              /* it is a request of http_language.h's, and not a line */
};

size_t phrase_request_len(const struct phrase *phrase);
size_t phrase_reply_len(const struct phrase *phrase);
unsigned char phrase_request_byte(const struct phrase *phrase, size_t i);
unsigned char phrase_reply_byte(const struct phrase *phrase, size_t i);

/* The i-th byte of its text. */
unsigned char language_text_byte(const struct phrase *phrase, size_t i);

/* The i-th byte of a big reply to a line that begins with this text byte. */
unsigned char language_big_byte(unsigned char first, size_t i);

#endif
