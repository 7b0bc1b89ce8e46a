/*
 * http_grammar.h - the grammar of HTTP/1.x below the level of a message: bytes, names, values, and
 * the lines of chunks.
 *
 * Threads: any; no state but the arguments.
 * Owns:    nothing.
 * Blocks:  never.
 */
#ifndef WEIR_HANDLERS_HTTP_GRAMMAR_H
#define WEIR_HANDLERS_HTTP_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP_CHUNK_LINE_MAX = 256,      /* bytes of a chunk's size line, its extension included */
};

/* Classes of bytes. */
enum {
    HTTP_TOKEN = 1,                 /* may be in a method or field name */
    HTTP_TARGET = 2,                /* may be in a request target: visible, and no fragment */
    HTTP_HOST = 4,                  /* may be in a Host value: RFC 3986's host and port */
};

extern const unsigned char http_classes[256];

/* http_skip finds the first byte that is not of the class. There must be one. */
static inline const char *http_skip(const char *at, unsigned int class)
{
    while (http_classes[(unsigned char)*at] & class)
        at++;
    return at;
}

/* http_all_are tells whether each byte is of the class. */
bool http_all_are(const char *text, size_t len, unsigned int class);

/*
 * http_parse_chunk reads a chunk's size line with its CRLF. Extensions are skipped, their
 * length is given so that the caller can bound what it is made to skip. Returns 0 or 400.
 */
int http_parse_chunk(const char *line, size_t len, uint64_t *ret_size, size_t *ret_extension);

/* http_is_trailer tells whether a line without its CRLF is a field. */
bool http_is_trailer(const char *line, size_t len);

/* http_is_token tells whether text is a method or field name: not empty, no separator in it. */
bool http_is_token(const char *text, size_t len);

/* http_is_value tells whether text can be a field's value: no control character but the tab. */
bool http_is_value(const char *text, size_t len);

/* http_name_equal compares two names, ignoring the case of ASCII letters. */
bool http_name_equal(const char *a, size_t a_len, const char *b, size_t b_len);

#endif
