/*
 * request.c - the lines of a head.
 *
 * A request line is plain (plain.c), or it is split by the library (parse.c) and its target read by
 * target.c. Fields are read here.
 */
#include "handlers/http/request.h"

#include <assert.h>
#include <string.h>

#include "handlers/http/grammar.h"
#include "handlers/http/parse.h"
#include "handlers/http/plain.h"
#include "handlers/http/target.h"

static_assert(HTTP_HEAD_MAX <= UINT16_MAX, "fields are 16-bit offsets");

/* ------------------------------------------------------------------ the request line -- */

static const char *refuse(struct http_head *head, int status)
{
    head->fault = (uint16_t)status;
    return NULL;
}

static const char *take_odd_line(struct http_head *head, const char *data, const char *data_end)
{
    const char *lf = memchr(data, '\n', (size_t)(data_end - data));
    struct http_request_line line;
    int status = http_parse_request_line(data, (size_t)(lf + 1 - data), &line);

    if (status == 0)
        status = http_take_target(head, data, &line);
    if (status != 0)
        return refuse(head, status);
    head->method = line.method;
    head->one_one = line.one_one;
    return lf + 1;
}

/* Reads the request line at data. Returns where the fields begin, or NULL. */
static const char *read_request_line(struct http_head *head, const char *data, const char *end)
{
    const char *fields = http_take_plain_line(head, data, end);

    return fields ? fields : take_odd_line(head, data, end);
}

/* ------------------------------------------------------------------ fields ------------ */

static int read_host(struct http_head *head, struct http_field *field, const char *value,
                     size_t len)
{
    if (head->host || !http_is_host(value, len))
        return HTTP_BAD_REQUEST;
    head->host = true;
    if (head->authority > 0) {
        field->value = head->authority;
        field->value_len = head->authority_len;
    }
    return 0;
}

static int read_connection(struct http_head *head, const char *value, size_t len)
{
    const char *end = value + len, *option;

    while ((value = http_list_next(value, end, &option, &len))) {
        if (http_name_equal(option, len, "close", 5))
            head->says_close = true;
        else if (http_name_equal(option, len, "keep-alive", 10))
            head->says_keep = true;
    }
    return 0;
}

static int read_expect(struct http_head *head, const char *value, size_t len)
{
    const char *end = value + len, *expectation;

    while ((value = http_list_next(value, end, &expectation, &len))) {
        if (!http_name_equal(expectation, len, "100-continue", 12))
            return HTTP_EXPECTATION_FAILED;
        head->expect = true;
    }
    return 0;
}

/* No list, though RFC 9110 would allow one of the same number twice: who reads it differently? */
static int read_content_length(struct http_head *head, const char *value, size_t len)
{
    uint64_t n = 0;

    if (head->length || head->coding || len == 0)
        return HTTP_BAD_REQUEST;
    for (size_t i = 0; i < len; i++) {
        /* 18 digits cannot overflow, and are more than anyone will send. */
        if (value[i] < '0' || value[i] > '9' || n >= 100000000000000000)
            return HTTP_BAD_REQUEST;
        n = n * 10 + (uint64_t)(value[i] - '0');
    }
    head->length = true;
    head->body = n > 0 ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
    head->body_len = n;
    return 0;
}

static int read_coding(struct http_head *head, const char *value, size_t len)
{
    if (head->length || head->coding || !head->one_one || len == 0)
        return HTTP_BAD_REQUEST;
    if (!http_name_equal(value, len, "chunked", 7))
        return HTTP_NOT_IMPLEMENTED;
    head->coding = true;
    head->body = HTTP_BODY_CHUNKED;
    return 0;
}

/* Heeds a field, if it is one that tells how the message or the connection goes on. */
static int heed(struct http_head *head, const char *name, size_t name_len, const char *value,
                size_t len)
{
    switch (name_len) {
    case 6:
        return http_name_equal(name, 6, "Expect", 6) ? read_expect(head, value, len) : 0;
    case 10:
        return http_name_equal(name, 10, "Connection", 10) ?
            read_connection(head, value, len) : 0;
    case 14:
        return http_name_equal(name, 14, "Content-Length", 14) ?
            read_content_length(head, value, len) : 0;
    case 17:
        return http_name_equal(name, 17, "Transfer-Encoding", 17) ?
            read_coding(head, value, len) : 0;
    default:
        return 0;
    }
}

/* Whether heed might look at the value: most fields are spared the call. */
static bool has_meaning(const char *name, size_t len)
{
    static const char firsts[] = { [6] = 'e', [10] = 'c', [14] = 'c', [17] = 't' };

    return len < sizeof(firsts) && firsts[len] == (name[0] | 0x20);
}

/* Takes a value with the white space behind it. Returns 0 or a status. */
static inline __attribute__((always_inline)) int read_value(
    struct http_head *head, struct http_field *field, const char *name, const char *value,
    size_t len)
{
    size_t name_len = field->name_len, trimmed = len;

    while (trimmed > 0 && http_is_space(value[trimmed - 1]))
        trimmed--;
    field->value_len = (uint16_t)trimmed;
    if (!http_is_value(value, len))
        return HTTP_BAD_REQUEST;
    if (http_name_equal(name, name_len, "Host", 4))
        return read_host(head, field, value, trimmed);
    return has_meaning(name, name_len) ? heed(head, name, name_len, value, trimmed) : 0;
}

/*
 * Reads the field at `at`, whose line ends before `end` with the only CR that is in it: http_scan
 * has seen to that. Returns where the next line begins, or NULL. Inlined, for each of a head's
 * fields saves a score of instructions by it.
 */
static inline __attribute__((always_inline)) const char *read_field(
    struct http_head *head, const char *data, const char *at, const char *end)
{
    const char *colon = http_skip(at, HTTP_TOKEN), *value = colon + 1, *cr;
    struct http_field *field = &head->fields[head->fields_len];
    int status;

    if (colon == at || *colon != ':')
        return refuse(head, HTTP_BAD_REQUEST);
    if (head->fields_len == HTTP_FIELDS_MAX)
        return refuse(head, HTTP_FIELDS_TOO_LARGE);
    while (http_is_space(*value))
        value++;
    cr = memchr(value, '\r', (size_t)(end - value));
    field->name = (uint16_t)(at - data);
    field->name_len = (uint16_t)(colon - at);
    field->value = (uint16_t)((cr > value ? value : colon) - data);
    status = read_value(head, field, at, value, (size_t)(cr - value));
    if (status != 0)
        return refuse(head, status);
    head->fields_len++;
    return cr + 2;
}

/* ------------------------------------------------------------------ a whole head ------ */

/* What only the whole head tells. */
static int conclude(struct http_head *head, char *data)
{
    if (head->one_one && !head->host)
        return HTTP_BAD_REQUEST;
    head->keep = !head->says_close && (head->one_one || head->says_keep);
    if (!head->one_one)
        head->expect = false;   /* a 1.0 client cannot read a 100 */
    if (head->asterisk)
        data[head->path] = '*'; /* RFC 9112, 3.2.4 */
    if (head->authority > 0)
        memmove(data + head->authority, data + head->authority + 1, head->authority_len);
    return 0;
}

int http_read_head(struct http_head *ret_head, char *data, size_t len)
{
    const char *end = data + len, *at;

    *ret_head = (struct http_head){ .fields = ret_head->fields };
    at = read_request_line(ret_head, data, end);
    while (at && *at != '\r')
        at = read_field(ret_head, data, at, end);
    return at ? conclude(ret_head, data) : ret_head->fault;
}

const char *http_read_line(struct http_head *head, const char *data, const char *at,
                           const char *end)
{
    return at == data ? read_request_line(head, at, end) : read_field(head, data, at, end);
}
