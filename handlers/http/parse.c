/*
 * parse.c - the adapter of http-parser 2.9.
 *
 * The library knows the methods, and splits the line. Debian builds it without its strict mode.
 * Tried on that build, it accepts: several spaces in the request line, a bare LF as its end, any
 * byte from 128 up in the target, requests without a version, and ICE's for HTTP's. So what it hands
 * out is held against the grammar here.
 *
 * Header fields and chunks it does not get to see. Of Connection it overlooks a "close" behind a tab
 * or an empty element, it takes Proxy-Connection for Connection, refuses a tab behind a length, and
 * accepts folded lines, NUL in values and anything in the place of the CRLF behind a chunk. When all
 * of that is judged before or after it, nothing is left for which to ask it.
 */
#include "handlers/http/parse.h"

#include <http_parser.h>
#include <string.h>

#include "handlers/http/grammar.h"

static int on_url(http_parser *parser, const char *at, size_t len)
{
    struct http_request_line *ret = parser->data;

    ret->target = at;
    ret->target_len = len;
    return 0;
}

static const http_parser_settings settings = { .on_url = on_url };

/* A method that the library does not know is 501; what is no method at all is 400. */
static int refuse_method(const char *line, size_t len)
{
    const char *space = memchr(line, ' ', len);

    return space && http_is_token(line, (size_t)(space - line)) ?
        HTTP_STATUS_NOT_IMPLEMENTED : HTTP_STATUS_BAD_REQUEST;
}

int http_parse_request_line(const char *line, size_t len, struct http_request_line *ret)
{
    struct http_request_line read = { 0 };
    http_parser parser;
    size_t n;

    if (http_has_odd_byte(line, len - 2, true))
        return HTTP_STATUS_BAD_REQUEST;
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = &read;
    n = http_parser_execute(&parser, &settings, line, len);

    if (HTTP_PARSER_ERRNO(&parser) == HPE_INVALID_METHOD)
        return refuse_method(line, len);
    if (HTTP_PARSER_ERRNO(&parser) != HPE_OK || n != len || !read.target)
        return HTTP_STATUS_BAD_REQUEST;
    read.method = http_method_str((enum http_method)parser.method);
    if (read.target != line + strlen(read.method) + 1 ||
            strncmp(read.target + read.target_len, " HTTP/", 6) != 0)
        return HTTP_STATUS_BAD_REQUEST;
    if (parser.http_major != 1)
        return HTTP_STATUS_HTTP_VERSION_NOT_SUPPORTED;
    read.one_one = parser.http_minor >= 1;
    *ret = read;
    return 0;
}
