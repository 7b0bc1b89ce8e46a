/*
 * http_language.h - what clients and the simulated site say to one another by HTTP/1.1.
 *
 * A phrase (language.h) is a request here, whose path has what the phrase has: a letter, six digits
 * and the text. So the reply is a function of the phrase, but for its date, and for whether it says
 * that the connection ends.
 *
 * Threads: one. Owns: nothing. Blocks: never.
 */
#ifndef WEIR_SIMULATION_HTTP_LANGUAGE_H
#define WEIR_SIMULATION_HTTP_LANGUAGE_H

#include "tests/simulation/language.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Beside the letters of language.h, whose RAW is a body with a length, and PEEK one in chunks. */
enum {
    SAY_HEAD = 'H',         /* no body in the reply */
    SAY_EXPECT = 'E',       /* a body that waits for "100 Continue", or not: as the salt says */
    SAY_REFUSED = 'V',      /* the same, and the callback replies without reading it */
    SAY_UNREAD = 'U',       /* a body that the callback leaves unread */
    SAY_OLD = 'O',          /* HTTP/1.0, to be kept */
    SAY_OLD_STREAM = 'Q',   /* HTTP/1.0, a reply of unknown length */
    SAY_NOWHERE = 'N',      /* a path that there is not */
    SAY_DELETE = 'D',       /* a method that there is not */
    SAY_BAD = 'M',          /* no request: of which kind, the salt says */
};

#define HTTP_HEAD_ROOM 4096
#define HTTP_PIECE 256          /* of a reply that is streamed */

size_t http_request_len(const struct phrase *phrase);
unsigned char http_request_byte(const struct phrase *phrase, size_t i);

/* The i-th byte of the body of a request with that number. */
unsigned char http_body_byte(uint32_t number, size_t i);

/* Its client sends so much of it, and waits for a word of the server's then; SIZE_MAX: all. */
size_t http_request_pause(const struct phrase *phrase);

/* The reply's status, and its body as it goes over the wire. */
int http_reply_status(const struct phrase *phrase);
size_t http_reply_body_len(const struct phrase *phrase);
unsigned char http_reply_body_byte(const struct phrase *phrase, size_t i);

/* Returns true if the connection ends behind the reply, whatever the server does otherwise. */
bool http_reply_ends(const struct phrase *phrase);

/* What the phrase does not tell of its reply. */
struct http_reply_told {
    char date[32];              /* the field's value */
    bool closes;                /* "Connection: close" */
};

/* The reply's head, in HTTP_HEAD_ROOM bytes. Returns its length. */
size_t http_reply_head(const struct phrase *phrase, const struct http_reply_told *told, char *ret);

/* The same of a page that the server makes for a status, with more fields; and the page's text. */
size_t http_page_head(int status, const struct http_reply_told *told, const char *more, char *ret);
const char *http_page(int status);      /* NULL: none is known */

#endif
