/*
 * framing.c - see framing.h. The two libraries have the same callbacks; how they are stopped
 * behind a message differs.
 */
#include "tests/fuzz/framing.h"

#ifdef WEIR_HTTP_PARSER_LLHTTP
#include <llhttp.h>
typedef llhttp_t library_parser;
#else
#include <http_parser.h>
typedef http_parser library_parser;
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ------------------------------------------------------------------ callbacks --------- */

/* Pieces come in order, and one that goes on is the last one. */
static void add(struct framing *framing, struct framing_piece *piece, const char *at, size_t len)
{
    if (len > sizeof(framing->text) - framing->text_len)
        abort();
    if (piece->len == 0)
        piece->at = framing->text_len;
    memcpy(framing->text + framing->text_len, at, len);
    framing->text_len += len;
    piece->len += len;
}

static int on_url(library_parser *parser, const char *at, size_t len)
{
    struct framing *framing = parser->data;

    add(framing, &framing->url, at, len);
    return 0;
}

static int on_name(library_parser *parser, const char *at, size_t len)
{
    struct framing *framing = parser->data;

    if (framing->fields_len == 0 || framing->in_value)
        framing->fields_len++;
    framing->in_value = false;
    if (framing->fields_len > FRAMING_FIELDS_MAX)
        return -1;
    add(framing, &framing->fields[framing->fields_len - 1][0], at, len);
    return 0;
}

static int on_value(library_parser *parser, const char *at, size_t len)
{
    struct framing *framing = parser->data;

    framing->in_value = true;
    add(framing, &framing->fields[framing->fields_len - 1][1], at, len);
    return 0;
}

/* 1: whatever the head says, no body follows. */
static int on_head(library_parser *parser)
{
    struct framing *framing = parser->data;

    framing->has_head = true;
    framing->head_fields_len = framing->fields_len;
    framing->status = (int)parser->status_code;
    return framing->to_head;
}

static int on_body(library_parser *parser, const char *at, size_t len)
{
    struct framing *framing = parser->data;

    add(framing, &framing->body, at, len);
    return 0;
}

/* ------------------------------------------------------------------ the libraries ----- */

#ifdef WEIR_HTTP_PARSER_LLHTTP

static int on_end(library_parser *parser)
{
    struct framing *framing = parser->data;

    framing->complete = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url, .on_header_field = on_name, .on_header_value = on_value,
    .on_headers_complete = on_head, .on_body = on_body, .on_message_complete = on_end,
};

static void read_message(struct framing *framing, bool request, const char *bytes, size_t len,
                         bool ends)
{
    llhttp_t parser;
    llhttp_errno_t error;

    llhttp_init(&parser, request ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
    parser.data = framing;
    error = llhttp_execute(&parser, bytes, len);
    framing->len = error == HPE_OK ? len : (size_t)(llhttp_get_error_pos(&parser) - bytes);
    if (error == HPE_OK && ends && !framing->complete)
        error = llhttp_finish(&parser);
    if (request && framing->has_head)
        framing->method = llhttp_method_name((llhttp_method_t)parser.method);
    if (error != HPE_OK && !framing->complete)
        framing->error = llhttp_errno_name(error);
}

#else

static int on_end(library_parser *parser)
{
    struct framing *framing = parser->data;

    framing->complete = true;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings settings = {
    .on_url = on_url, .on_header_field = on_name, .on_header_value = on_value,
    .on_headers_complete = on_head, .on_body = on_body, .on_message_complete = on_end,
};

static void read_message(struct framing *framing, bool request, const char *bytes, size_t len,
                         bool ends)
{
    http_parser parser;

    http_parser_init(&parser, request ? HTTP_REQUEST : HTTP_RESPONSE);
    parser.data = framing;
    framing->len = http_parser_execute(&parser, &settings, bytes, len);
    if (ends && !framing->complete && HTTP_PARSER_ERRNO(&parser) == HPE_OK)
        http_parser_execute(&parser, &settings, NULL, 0);
    if (request && framing->has_head)
        framing->method = http_method_str((enum http_method)parser.method);
    if (HTTP_PARSER_ERRNO(&parser) != HPE_OK && !framing->complete)
        framing->error = http_errno_name(HTTP_PARSER_ERRNO(&parser));
}

#endif

static void begin(struct framing *framing, const char *bytes, size_t len)
{
    memset(framing, 0, offsetof(struct framing, text));
    framing->bytes = bytes;
    framing->bytes_len = len;
}

void framing_of_request(struct framing *ret, const char *bytes, size_t len)
{
    begin(ret, bytes, len);
    read_message(ret, true, bytes, len, false);
}

void framing_of_reply(struct framing *ret, const char *bytes, size_t len, bool to_head, bool ends)
{
    begin(ret, bytes, len);
    ret->to_head = to_head;
    read_message(ret, false, bytes, len, ends);
}

/* ------------------------------------------------------------------ what it refuses --- */

/* Of the head's lines the next one that begins so, behind `at`; or NULL. */
static const char *find_line(const struct framing *framing, const char *at, const char *text,
                             size_t *ret_len)
{
    const char *end = framing->bytes + framing->bytes_len, *lf;
    size_t len = strlen(text);

    while ((lf = memchr(at, '\n', (size_t)(end - at)))) {
        at = lf + 1;
        lf = memchr(at, '\n', (size_t)(end - at));
        *ret_len = (size_t)((lf ? lf : end) - at);
        if (*ret_len >= len && strncasecmp(at, text, len) == 0)
            return at;
    }
    return NULL;
}

static bool has_tab_in(const struct framing *framing, const char *text)
{
    const char *at = framing->bytes;
    size_t len;

    while ((at = find_line(framing, at, text, &len)))
        if (memchr(at, '\t', len))
            return true;
    return false;
}

/* A tab behind a value, which RFC 9110 (5.6.3) has as good as a blank. */
static bool has_tab(const struct framing *framing)
{
    return has_tab_in(framing, "Content-Length:") || has_tab_in(framing, "Transfer-Encoding:");
}

/*
 * http-parser takes any name that only begins with Transfer-Encoding for that field, when it
 * decides that a message can't be framed.
 */
static bool begins_like_coding(const struct framing *framing)
{
    static const char name[] = "Transfer-Encoding";
    const char *at = framing->bytes;
    size_t len;

    while ((at = find_line(framing, at, name, &len)))
        if (len > sizeof(name) - 1 && at[sizeof(name) - 1] != ':')
            return true;
    return false;
}

/* llhttp wants 1.0 or 1.1. A server takes what it has of a later one for 1.1: RFC 9110, 2.5. */
static bool is_later_version(const struct framing *framing)
{
    const char *version = memmem(framing->bytes, framing->bytes_len, " HTTP/1.", 8);

    return version && version[8] > '1';
}

/* A length among the trailers, none of which is heeded: RFC 9110, 6.5.1. */
static bool is_length_in_trailer(const struct framing *framing)
{
    size_t len;

    return find_line(framing, framing->bytes, "Transfer-Encoding", &len) &&
           find_line(framing, framing->bytes, "Content-Length", &len);
}

/* llhttp wants no blank in a chunk's line, where RFC 9112 (7.1.1) has white space that is bad. */
static bool has_blank_in_chunk(const struct framing *framing)
{
    size_t len;

    return find_line(framing, framing->bytes, "Transfer-Encoding", &len) != NULL;
}

static const struct {
    const char *error;
    bool (*applies)(const struct framing *framing);
} differences[] = {
    { "HPE_INVALID_CONTENT_LENGTH", has_tab },
    { "HPE_INVALID_TRANSFER_ENCODING", has_tab },
    { "HPE_INVALID_TRANSFER_ENCODING", begins_like_coding },
    { "HPE_UNEXPECTED_CONTENT_LENGTH", begins_like_coding },
    { "HPE_UNEXPECTED_CONTENT_LENGTH", is_length_in_trailer },
    { "HPE_INVALID_CONTENT_LENGTH", is_length_in_trailer },
    { "HPE_INVALID_VERSION", is_later_version },
    { "HPE_INVALID_CHUNK_SIZE", has_blank_in_chunk },
};

bool framing_may_refuse(const struct framing *framing)
{
    for (size_t i = 0; i < sizeof(differences) / sizeof(differences[0]); i++)
        if (strcmp(framing->error, differences[i].error) == 0 && differences[i].applies(framing))
            return true;
    fprintf(stderr, "the parser's library says %s\n", framing->error);
    return false;
}
