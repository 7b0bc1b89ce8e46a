/*
 * http_parse.c - the adapter of http-parser 2.9.
 *
 * Debian builds the library without its strict mode. Tried on that build, it accepts: bare LF as
 * a line's end and bare CR as the head's, folded lines, a space before the colon and inside names,
 * NUL in values, several spaces in the request line, any byte from 128 up in the target, requests
 * without a version, and anything in the place of the CRLF behind a chunk. So it does what it does
 * well, splitting the head in one pass, and every piece that it hands out is held against the
 * grammar here. Chunks are read line by line by http_parse_chunk: there is nothing left of them to
 * hand to a library.
 */
#include "handlers/http_parse.h"

#include <assert.h>
#include <errno.h>
#include <http_parser.h>
#include <string.h>

#include "handlers/http_grammar.h"

static_assert(HTTP_HEAD_MAX <= UINT16_MAX, "fields are 16-bit offsets");

/* ------------------------------------------------------------------ lines ------------- */

/* The limits on sizes, with the head known up to `end`. */
static int scan_limits(const struct http_scan *scan, size_t end)
{
    if (scan->lines == 0)
        return end - scan->start > HTTP_LINE_MAX ? HTTP_STATUS_URI_TOO_LONG : 0;
    return end - scan->fields > HTTP_FIELDS_SIZE_MAX ?
        HTTP_STATUS_REQUEST_HEADER_FIELDS_TOO_LARGE : 0;
}

/* Takes the line that ends before `end`, and is not the head's last. */
static int scan_line(struct http_scan *scan, const char *data, uint32_t end)
{
    bool empty = end - scan->line == 2;
    int status = scan_limits(scan, end);

    if (status != 0)
        return status;
    if (data[scan->line] == ' ' || data[scan->line] == '\t' || (empty && scan->start > 0))
        return HTTP_STATUS_BAD_REQUEST;
    if (scan->lines > HTTP_FIELDS_MAX)
        return HTTP_STATUS_REQUEST_HEADER_FIELDS_TOO_LARGE;
    scan->line = end;
    if (empty) {
        scan->start = end;
        return 0;
    }
    if (scan->lines++ == 0)
        scan->fields = end;
    return 0;
}

int http_scan(struct http_scan *scan, const char *data, size_t len, size_t *ret_len)
{
    const char *lf;
    int status;

    while ((lf = memchr(data + scan->seen, '\n', len - scan->seen))) {
        uint32_t end = (uint32_t)(lf - data) + 1;

        if (memchr(data + scan->line, '\r', end - scan->line) != lf - 1)
            return HTTP_STATUS_BAD_REQUEST;
        if (end - scan->line == 2 && scan->lines > 0) {
            *ret_len = end;
            return scan_limits(scan, end);
        }
        status = scan_line(scan, data, end);
        if (status != 0)
            return status;
        scan->seen = end;
    }
    scan->seen = (uint32_t)len;
    status = scan_limits(scan, len);
    return status != 0 ? status : -EAGAIN;
}

/* ------------------------------------------------------------------ the head ---------- */

struct reading {
    const char *data;
    struct http_head *head;
    const char *target;
    size_t target_len;
    int status;                     /* why a callback stopped the parser */
    bool host, length, coding;      /* seen */
    bool value_next;
};

static int refuse(struct reading *r, int status)
{
    r->status = status;
    return 1;
}

static int on_url(http_parser *parser, const char *at, size_t len)
{
    struct reading *r = parser->data;

    if (r->target)
        return refuse(r, HTTP_STATUS_BAD_REQUEST);
    r->target = at;
    r->target_len = len;
    return 0;
}

static int on_header_field(http_parser *parser, const char *at, size_t len)
{
    struct reading *r = parser->data;
    struct http_head *head = r->head;

    if (r->value_next || !http_is_token(at, len))
        return refuse(r, HTTP_STATUS_BAD_REQUEST);
    if (head->fields_len == HTTP_FIELDS_MAX)
        return refuse(r, HTTP_STATUS_REQUEST_HEADER_FIELDS_TOO_LARGE);
    head->fields[head->fields_len] = (struct http_field){
        .name = (uint16_t)(at - r->data), .name_len = (uint16_t)len };
    r->value_next = true;
    return 0;
}

static int read_host(struct reading *r, const char *value, size_t len)
{
    if (r->host || !http_all_are(value, len, HTTP_HOST))
        return refuse(r, HTTP_STATUS_BAD_REQUEST);
    r->host = true;
    return 0;
}

static int read_length(struct reading *r, const char *value, size_t len)
{
    uint64_t n = 0;

    /* 18 digits cannot overflow, and are more than anyone will send. */
    if (r->length || r->coding || len == 0 || len > 18)
        return refuse(r, HTTP_STATUS_BAD_REQUEST);
    for (size_t i = 0; i < len; i++) {
        if (value[i] < '0' || value[i] > '9')
            return refuse(r, HTTP_STATUS_BAD_REQUEST);
        n = n * 10 + (uint64_t)(value[i] - '0');
    }
    r->length = true;
    r->head->body = n > 0 ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
    r->head->body_len = n;
    return 0;
}

static int read_coding(struct reading *r, const http_parser *parser, const char *value, size_t len)
{
    if (r->length || r->coding || (parser->http_major == 1 && parser->http_minor == 0))
        return refuse(r, HTTP_STATUS_BAD_REQUEST);
    if (!http_name_equal(value, len, "chunked", 7))
        return refuse(r, HTTP_STATUS_NOT_IMPLEMENTED);
    r->coding = true;
    r->head->body = HTTP_BODY_CHUNKED;
    return 0;
}

static int read_expect(struct reading *r, const char *value, size_t len)
{
    if (!http_name_equal(value, len, "100-continue", 12))
        return refuse(r, HTTP_STATUS_EXPECTATION_FAILED);
    r->head->expect = true;
    return 0;
}

static int on_header_value(http_parser *parser, const char *at, size_t len)
{
    struct reading *r = parser->data;
    struct http_field *field = &r->head->fields[r->head->fields_len];
    const char *name = r->data + field->name;
    size_t name_len = field->name_len;

    if (!r->value_next || !http_is_value(at, len))
        return refuse(r, HTTP_STATUS_BAD_REQUEST);
    while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t'))
        len--;
    /* For an empty value the library points into the next line. */
    field->value = len > 0 ? (uint16_t)(at - r->data) : (uint16_t)(field->name + name_len);
    field->value_len = (uint16_t)len;
    r->value_next = false;
    r->head->fields_len++;

    /* Of other lengths there are none that concern us. */
    switch (name_len) {
    case 4:
        return http_name_equal(name, 4, "Host", 4) ? read_host(r, at, len) : 0;
    case 6:
        return http_name_equal(name, 6, "Expect", 6) ? read_expect(r, at, len) : 0;
    case 14:
        return http_name_equal(name, 14, "Content-Length", 14) ? read_length(r, at, len) : 0;
    case 17:
        return http_name_equal(name, 17, "Transfer-Encoding", 17) ?
            read_coding(r, parser, at, len) : 0;
    default:
        return 0;
    }
}

static int on_headers_complete(http_parser *parser)
{
    struct reading *r = parser->data;

    r->head->keep = http_should_keep_alive(parser);
    return 2;   /* neither body nor another message: the rest of the stream is ours */
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
};

/* A method that the library does not know is 501; what is no method at all is 400. */
static int refuse_method(const char *data, size_t len)
{
    const char *space = memchr(data, ' ', len);

    return space && http_is_token(data, (size_t)(space - data)) ?
        HTTP_STATUS_NOT_IMPLEMENTED : HTTP_STATUS_BAD_REQUEST;
}

/* The library skips runs of spaces and takes a missing version, and ICE's, for HTTP. */
static int check_request_line(const struct reading *r, const http_parser *parser)
{
    const char *version = r->target + r->target_len;

    if (r->target != r->data + strlen(r->head->method) + 1 ||
            strncmp(version, " HTTP/", 6) != 0 ||
            !http_all_are(r->target, r->target_len, HTTP_TARGET))
        return HTTP_STATUS_BAD_REQUEST;
    if (parser->http_major != 1)
        return HTTP_STATUS_HTTP_VERSION_NOT_SUPPORTED;
    return 0;
}

/* Splits "/path?query", "*" of OPTIONS, or the absolute form, of which the Host field is enough. */
static int split_target(struct reading *r, const http_parser *parser)
{
    struct http_head *head = r->head;
    const char *path = r->target, *end = path + r->target_len, *mark;

    if (parser->method == HTTP_CONNECT)
        return HTTP_STATUS_NOT_IMPLEMENTED;
    if (*path == '*' && (parser->method != HTTP_OPTIONS || r->target_len != 1))
        return HTTP_STATUS_BAD_REQUEST;
    if (*path != '/' && *path != '*') {
        path = memchr(path, ':', r->target_len);
        if (!path || end - path < 4 || memcmp(path, "://", 3) != 0)
            return HTTP_STATUS_BAD_REQUEST;
        path += 3;
        while (path < end && *path != '/' && *path != '?')
            path++;
    }
    mark = memchr(path, '?', (size_t)(end - path));
    head->path = (uint16_t)(path - r->data);
    head->path_len = (uint16_t)((mark ? mark : end) - path);
    if (head->path_len == 0) {
        head->path = (uint16_t)((const char *)memchr(r->target, '/', r->target_len) - r->data);
        head->path_len = 1;     /* "http://host" asks for "/": the first one will do */
    }
    if (mark) {
        head->query = (uint16_t)(mark + 1 - r->data);
        head->query_len = (uint16_t)(end - mark - 1);
    }
    return 0;
}

static int parse_by_library(struct http_head *ret_head, const char *data, size_t len)
{
    struct reading r = { .data = data, .head = ret_head };
    http_parser parser;
    enum http_errno error;
    size_t read;
    int status;

    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = &r;
    read = http_parser_execute(&parser, &settings, data, len);

    error = HTTP_PARSER_ERRNO(&parser);
    if (error == HPE_INVALID_METHOD)
        return refuse_method(data, len);
    if (r.status != 0)
        return r.status;
    if (error != HPE_OK || read != len || !r.target)
        return HTTP_STATUS_BAD_REQUEST;

    ret_head->method = http_method_str((enum http_method)parser.method);
    ret_head->one_one = parser.http_minor >= 1;
    status = check_request_line(&r, &parser);
    if (status != 0)
        return status;
    if (ret_head->one_one && !r.host)
        return HTTP_STATUS_BAD_REQUEST;
    if (!ret_head->one_one)
        ret_head->expect = false;   /* a 1.0 client cannot read a 100 */
    return split_target(&r, &parser);
}

/* ------------------------------------------------------------------ plain heads ------- */

/*
 * Most heads are plain: GET or HEAD of a path, HTTP/1.1, one Host, and no field that says how the
 * message or the connection goes on, but that it is kept. For these the library's walk from byte to
 * byte, and from callback to callback, was a third of all that hello does. What follows takes a
 * head or leaves it to the library; it never refuses one, so that what is odd is judged in one
 * place. tests/http_test.c compares the two.
 *
 * The last byte of a head is in none of the classes, so it ends every walk.
 */

/* Whether the library, or we, would have to look at the value. May say yes of other names, too. */
static bool has_meaning(const char *name, size_t len)
{
    static const char firsts[] = {
        [6] = 'e', [7] = 'u', [10] = 'c', [14] = 'c', [16] = 'p', [17] = 't',
    };      /* Expect, Upgrade, Connection, Content-Length, Proxy-Connection, Transfer-Encoding */

    return len < sizeof(firsts) && firsts[len] == (name[0] | 0x20);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* Takes the field at `at`, in a head that ends at `end`. Returns where the next begins, or NULL. */
static const char *take_field(struct http_head *head, const char *data, const char *at,
                              const char *end, bool *host)
{
    const char *colon = http_skip(at, HTTP_TOKEN), *value = colon + 1, *cr;
    size_t len = (size_t)(colon - at);

    if (len == 0 || *colon != ':' || head->fields_len == HTTP_FIELDS_MAX)
        return NULL;
    while (is_space(*value))
        value++;
    cr = memchr(value, '\r', (size_t)(end - value));
    if (!cr || cr == value || is_space(cr[-1]) || !http_is_value(value, (size_t)(cr - value)))
        return NULL;
    if (http_name_equal(at, len, "Host", 4)) {
        if (*host || http_skip(value, HTTP_HOST) != cr)
            return NULL;
        *host = true;
    } else if (has_meaning(at, len) && (!http_name_equal(at, len, "Connection", 10) ||
               !http_name_equal(value, (size_t)(cr - value), "keep-alive", 10))) {
        return NULL;
    }
    head->fields[head->fields_len++] = (struct http_field){
        .name = (uint16_t)(at - data), .name_len = (uint16_t)len,
        .value = (uint16_t)(value - data), .value_len = (uint16_t)(cr - value),
    };
    return cr + 2;
}

/* Takes the request line. Returns where the fields begin, or NULL. */
static const char *take_request_line(struct http_head *head, const char *data, size_t len)
{
    static const char version[] = " HTTP/1.1\r\n";
    bool get = len > 4 && memcmp(data, "GET ", 4) == 0;
    const char *path = data + (get ? 4 : 5), *end, *mark;

    if ((!get && (len <= 5 || memcmp(data, "HEAD ", 5) != 0)) || *path != '/')
        return NULL;
    end = http_skip(path, HTTP_TARGET);
    if ((size_t)(data + len - end) < sizeof(version) || memcmp(end, version, 11) != 0)
        return NULL;
    mark = memchr(path, '?', (size_t)(end - path));
    head->method = get ? "GET" : "HEAD";
    head->path = (uint16_t)(path - data);
    head->path_len = (uint16_t)((mark ? mark : end) - path);
    if (mark) {
        head->query = (uint16_t)(mark + 1 - data);
        head->query_len = (uint16_t)(end - mark - 1);
    }
    return end + 11;
}

static bool take_plain_head(struct http_head *head, const char *data, size_t len)
{
    const char *end = data + len, *at = take_request_line(head, data, len);
    bool host = false;

    while (at && *at != '\r')
        at = take_field(head, data, at, end, &host);
    if (!at || !host || end - at != 2)
        return false;
    head->one_one = head->keep = true;
    return true;
}

int http_parse_head(struct http_head *ret_head, const char *data, size_t len)
{
    struct http_field *fields = ret_head->fields;

    *ret_head = (struct http_head){ .fields = fields };
    if (take_plain_head(ret_head, data, len))
        return 0;
    *ret_head = (struct http_head){ .fields = fields };
    return parse_by_library(ret_head, data, len);
}
