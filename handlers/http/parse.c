/*
 * parse.c - the adapter of the parser's library: llhttp 9, or http-parser 2.9 where that is not
 * there.
 *
 * The library knows the methods, and splits the line. What it hands out is held against the grammar
 * here, so that a line gets the same verdict with either. Tried on http-parser as Debian builds it,
 * without its strict mode, it accepts: several spaces in the request line, a bare LF as its end,
 * any byte from 128 up in the target, requests without a version, and ICE's for HTTP's.
 *
 * Header fields and chunks it does not get to see. Of Connection http-parser overlooks a "close"
 * behind a tab or an empty element, it takes Proxy-Connection for Connection, refuses a tab behind
 * a length, and accepts folded lines, NUL in values and anything in the place of the CRLF behind a
 * chunk. When all of that is judged before or after it, nothing is left for which to ask it.
 */
#include "handlers/http/parse.h"

#ifdef WEIR_HTTP_PARSER_LLHTTP
#include <llhttp.h>
#else
#include <http_parser.h>
#endif
#include <string.h>

#include "handlers/http/grammar.h"

/* What a library makes of a line. */
struct split {
    const char *method;             /* static; NULL: the library does not know it */
    const char *target;             /* NULL: the line is wrong behind its method */
    size_t target_len;
    int major, minor;
};

#ifdef WEIR_HTTP_PARSER_LLHTTP

static int on_url(llhttp_t *parser, const char *at, size_t len)
{
    struct split *split = parser->data;

    split->target = at;
    split->target_len = len;
    return 0;
}

/* llhttp takes "http://", with nothing behind it, for a target, http-parser after CONNECT only. */
static bool lacks_authority(const struct split *split, const llhttp_t *parser)
{
    const char *colon;

    if (split->target_len <= 3 || strchr("/*", *split->target) || parser->method == HTTP_CONNECT)
        return false;
    colon = memchr(split->target, ':', split->target_len - 2);
    return colon == split->target + split->target_len - 3 && memcmp(colon, "://", 3) == 0;
}

/*
 * The methods above SOURCE are other protocols', and QUERY: http-parser does not know them. llhttp
 * refuses most versions unless it is told to be lenient, but 1.2 is served and 2.0 has a status of
 * its own.
 */
static void split_line(struct split *split, const char *line, size_t len)
{
    static const llhttp_settings_t settings = { .on_url = on_url };
    llhttp_t parser;
    llhttp_errno_t error;

    llhttp_init(&parser, HTTP_REQUEST, &settings);
    llhttp_set_lenient_version(&parser, 1);
    parser.data = split;
    error = llhttp_execute(&parser, line, len);
    if (error != HPE_INVALID_METHOD && parser.method <= HTTP_SOURCE)
        split->method = llhttp_method_name((llhttp_method_t)parser.method);
    if (error != HPE_OK || lacks_authority(split, &parser))
        split->target = NULL;
    split->major = parser.http_major;
    split->minor = parser.http_minor;
}

#else

static int on_url(http_parser *parser, const char *at, size_t len)
{
    struct split *split = parser->data;

    split->target = at;
    split->target_len = len;
    return 0;
}

static void split_line(struct split *split, const char *line, size_t len)
{
    static const http_parser_settings settings = { .on_url = on_url };
    http_parser parser;
    size_t n;

    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = split;
    n = http_parser_execute(&parser, &settings, line, len);
    if (HTTP_PARSER_ERRNO(&parser) != HPE_INVALID_METHOD)
        split->method = http_method_str((enum http_method)parser.method);
    if (HTTP_PARSER_ERRNO(&parser) != HPE_OK || n != len)
        split->target = NULL;
    split->major = parser.http_major;
    split->minor = parser.http_minor;
}

#endif

/* A method that the library does not know is 501; what is no method at all is 400. */
static int refuse_method(const char *line, size_t len)
{
    const char *space = memchr(line, ' ', len);

    return space && http_is_token(line, (size_t)(space - line)) ?
        HTTP_STATUS_NOT_IMPLEMENTED : HTTP_STATUS_BAD_REQUEST;
}

static bool has_version(const char *at, const char *end)
{
    return end - at > 6 && memcmp(at, " HTTP/", 6) == 0;
}

int http_parse_request_line(const char *line, size_t len, struct http_request_line *ret)
{
    struct split split = { 0 };

    if (http_has_odd_byte(line, len - 2, true))
        return HTTP_STATUS_BAD_REQUEST;
    split_line(&split, line, len);
    if (!split.method)
        return refuse_method(line, len);
    if (!split.target || split.target != line + strlen(split.method) + 1 ||
            !has_version(split.target + split.target_len, line + len))
        return HTTP_STATUS_BAD_REQUEST;
    if (split.major != 1)
        return HTTP_STATUS_HTTP_VERSION_NOT_SUPPORTED;
    *ret = (struct http_request_line){
        .method = split.method, .target = split.target, .target_len = split.target_len,
        .one_one = split.minor >= 1,
    };
    return 0;
}
