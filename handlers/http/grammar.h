/*
 * grammar.h - the grammar of HTTP/1.x below the level of a message: bytes, names, values, and
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
    HTTP_PATH = 2,                  /* may be in a target before its query */
    HTTP_IN_QUERY = 4,              /* may be in a query */
    HTTP_NAME = 8,                  /* may be in a host's name as it is: not the '%' */
    HTTP_DIGIT = 16,
};

extern const unsigned char http_classes[256];

/* http_skip finds the first byte that is not of the class. There must be one. */
static inline const char *http_skip(const char *at, unsigned int class)
{
    while (http_classes[(unsigned char)*at] & class)
        at++;
    return at;
}

static inline bool http_is_space(char c)
{
    return c == ' ' || c == '\t';
}

/*
 * http_has_odd_byte tells whether these bytes spoil the line that they are in, whatever else is in
 * it: a control character but the tab, a CR or an LF alone (a CR may be the last); and, in a
 * request line, a tab or a byte from 128 up.
 */
bool http_has_odd_byte(const char *text, size_t len, bool request_line);

/*
 * http_is_host tells whether text is empty or a host, perhaps with a port: the value of a Host
 * field, RFC 3986's host, and the port of RFC 9110. A byte that can't be in one must follow it.
 */
bool http_is_host(const char *text, size_t len);

/*
 * http_list_next gives the next element of a comma-separated list without the white space around
 * it. Elements that are empty count for nothing (RFC 9110, 5.6.1.2). Returns where to go on, or
 * NULL: there was none.
 */
const char *http_list_next(const char *at, const char *end, const char **ret, size_t *ret_len);

/*
 * http_parse_chunk reads a chunk's size line with its CRLF. Extensions are skipped if they are
 * such by RFC 9112, 7.1.1; their length is given so that the caller can bound what it is made to
 * skip. Returns 0 or 400.
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
