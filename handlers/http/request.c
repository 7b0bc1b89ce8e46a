/*
 * request.c - the lines of a head, as they arrive and when all are there.
 *
 * The bytes of a line are judged before its end, the line at its end, and lines in their order: a
 * head gets the verdict that it would get if it came byte by byte, however it came.
 */
#include "handlers/http/request.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "handlers/http/grammar.h"
#include "handlers/http/parse.h"

enum {
    BAD_REQUEST = 400,
    URI_TOO_LONG = 414,
    EXPECTATION_FAILED = 417,
    FIELDS_TOO_LARGE = 431,
    NOT_IMPLEMENTED = 501,
};

static_assert(HTTP_HEAD_MAX <= UINT16_MAX, "fields are 16-bit offsets");

/* ------------------------------------------------------------------ the request line -- */

static const char *refuse(struct http_head *head, int status)
{
    head->fault = (uint16_t)status;
    return NULL;
}

/* Splits "/path?query", which ends at `end`. */
static void take_path(struct http_head *head, const char *data, const char *path, const char *end)
{
    const char *mark = memchr(path, '?', (size_t)(end - path));

    head->path = (uint16_t)(path - data);
    head->path_len = (uint16_t)((mark ? mark : end) - path);
    if (mark) {
        head->query = (uint16_t)(mark + 1 - data);
        head->query_len = (uint16_t)(end - mark - 1);
    }
}

/*
 * Most request lines are plain: GET or HEAD of a path, and HTTP/1.1. For these the library's walk
 * from byte to byte was a good part of all that hello does. What follows takes a line or leaves it
 * to the library; it never refuses one, so that what is odd is judged in one place.
 * tests/http_test.c compares the two.
 *
 * The last byte of a line is in none of the classes, so it ends every walk.
 */
static const char *take_plain_line(struct http_head *head, const char *data, const char *data_end)
{
    static const char version[11] = " HTTP/1.1\r\n";
    size_t len = (size_t)(data_end - data);
    bool get = len > 4 && memcmp(data, "GET ", 4) == 0;
    const char *path = data + (get ? 4 : 5), *end;

    if ((!get && (len <= 5 || memcmp(data, "HEAD ", 5) != 0)) || *path != '/')
        return NULL;
    end = http_skip(path, HTTP_PATH);
    if (*end == '?')
        end = http_skip(end, HTTP_QUERY);
    if ((size_t)(data_end - end) < sizeof(version) || memcmp(end, version, sizeof(version)) != 0)
        return NULL;
    head->method = get ? "GET" : "HEAD";
    head->one_one = true;
    take_path(head, data, path, end);
    return end + sizeof(version);
}

/* Where the authority of "http://authority/path" begins. */
static const char *find_authority(const char *target, size_t len)
{
    const char *colon = memchr(target, ':', len);

    return colon && target + len - colon >= 3 && memcmp(colon, "://", 3) == 0 ? colon + 3 : NULL;
}

/* The absolute form, with an authority that has a host, and no user in it. */
static int take_absolute(struct http_head *head, const char *data,
                         const struct http_request_line *line)
{
    const char *target = line->target, *end = target + line->target_len;
    const char *authority = find_authority(target, (size_t)(end - target)), *path = authority;

    if (!authority)
        return BAD_REQUEST;
    while (path < end && *path != '/' && *path != '?')
        path++;
    if (path == authority || !http_is_host(authority, (size_t)(path - authority)))
        return BAD_REQUEST;
    head->authority = (uint16_t)(authority - 1 - data);     /* where it will be moved */
    head->authority_len = (uint16_t)(path - authority);
    take_path(head, data, path, end);
    if (head->path_len == 0) {
        head->path = (uint16_t)(end + strlen(" HTTP") - data);
        head->path_len = 1;     /* "http://host" asks for "/": the version has one */
        head->asterisk = head->query == 0 && strcmp(line->method, "OPTIONS") == 0;
    }
    return 0;
}

static int take_target(struct http_head *head, const char *data,
                       const struct http_request_line *line)
{
    const char *target = line->target, *end = target + line->target_len, *after;

    after = http_skip(target, HTTP_PATH);
    if (*after == '?')
        after = http_skip(after, HTTP_QUERY);
    if (after != end)
        return BAD_REQUEST;
    if (strcmp(line->method, "CONNECT") == 0)
        return NOT_IMPLEMENTED;
    if (*target != '/' && *target != '*')
        return take_absolute(head, data, line);
    if (*target == '*' && (strcmp(line->method, "OPTIONS") != 0 || line->target_len != 1))
        return BAD_REQUEST;
    take_path(head, data, target, end);
    return 0;
}

static const char *take_odd_line(struct http_head *head, const char *data, const char *data_end)
{
    const char *lf = memchr(data, '\n', (size_t)(data_end - data));
    struct http_request_line line;
    int status = http_parse_request_line(data, (size_t)(lf + 1 - data), &line);

    if (status == 0)
        status = take_target(head, data, &line);
    if (status != 0)
        return refuse(head, status);
    head->method = line.method;
    head->one_one = line.one_one;
    return lf + 1;
}

/* Reads the request line at data. Returns where the fields begin, or NULL. */
static const char *read_request_line(struct http_head *head, const char *data, const char *end)
{
    const char *fields = take_plain_line(head, data, end);

    return fields ? fields : take_odd_line(head, data, end);
}

/* ------------------------------------------------------------------ fields ------------ */

static int read_host(struct http_head *head, struct http_field *field, const char *value, size_t len)
{
    if (head->host || !http_is_host(value, len))
        return BAD_REQUEST;
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
            return EXPECTATION_FAILED;
        head->expect = true;
    }
    return 0;
}

/* No list, though RFC 9110 would allow one of the same number twice: who reads it differently? */
static int read_length(struct http_head *head, const char *value, size_t len)
{
    uint64_t n = 0;

    if (head->length || head->coding || len == 0)
        return BAD_REQUEST;
    for (size_t i = 0; i < len; i++) {
        /* 18 digits cannot overflow, and are more than anyone will send. */
        if (value[i] < '0' || value[i] > '9' || n >= 100000000000000000)
            return BAD_REQUEST;
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
        return BAD_REQUEST;
    if (!http_name_equal(value, len, "chunked", 7))
        return NOT_IMPLEMENTED;
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
            read_length(head, value, len) : 0;
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
        return BAD_REQUEST;
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
        return refuse(head, BAD_REQUEST);
    if (head->fields_len == HTTP_FIELDS_MAX)
        return refuse(head, FIELDS_TOO_LARGE);
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
        return BAD_REQUEST;
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

/* ------------------------------------------------------------------ while it comes ---- */

/* The limits on sizes, with the head known up to `end`. */
static int scan_limits(const struct http_scan *scan, size_t end)
{
    if (scan->lines == 0)
        return end > HTTP_LINE_MAX ? URI_TOO_LONG : 0;
    return end - scan->fields > HTTP_FIELDS_SIZE_MAX ? FIELDS_TOO_LARGE : 0;
}

/* Reads the lines that have become complete. Returns 0 or a status. */
static int judge_lines(struct http_scan *scan, const char *data)
{
    struct http_head *head = &scan->so_far;
    struct http_field field;
    const char *at = data + scan->judged_lines, *end = data + scan->line;

    head->fields = &field;
    while (at < end) {
        head->fields_len = 0;
        if (at == data) {
            *head = (struct http_head){ .fields = &field };
            at = read_request_line(head, at, end);
        } else {
            at = read_field(head, data, at, end);
        }
        if (!at)
            return head->fault;
    }
    scan->judged_lines = scan->line;
    return 0;
}

/*
 * More must be awaited, or `status` be said to the line at scan->line, of which `end` bytes of the
 * head tell. But what was wrong before that comes first. Each byte is looked at once, but for a CR
 * at the end.
 */
static __attribute__((cold, noinline)) int judge(struct http_scan *scan, const char *data,
                                                 size_t end, int status)
{
    size_t limit = scan->lines == 0 ? HTTP_LINE_MAX : scan->fields + HTTP_FIELDS_SIZE_MAX;
    size_t from = scan->judged_bytes > scan->line ? scan->judged_bytes : scan->line;
    int earlier = judge_lines(scan, data);

    if (earlier != 0)
        return earlier;
    if (end > limit)
        end = limit;
    if (from < end && http_has_odd_byte(data + from, end - from, scan->lines == 0))
        return BAD_REQUEST;
    scan->judged_bytes = (uint32_t)(end > from && data[end - 1] == '\r' ? end - 1 : end);
    return status;
}

/* Takes the line that ends before `end`, and is not the head's last. */
static int scan_line(struct http_scan *scan, const char *data, uint32_t end)
{
    int status = scan_limits(scan, end);

    if (status != 0)
        return status;
    if (http_is_space(data[scan->line]) || end - scan->line == 2)
        return BAD_REQUEST;
    if (scan->lines > HTTP_FIELDS_MAX)
        return FIELDS_TOO_LARGE;
    scan->line = end;
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

        if (memchr(data + scan->line, '\r', end - scan->line) != lf - 1) {
            status = scan_limits(scan, end);
            return judge(scan, data, end, status != 0 ? status : BAD_REQUEST);
        }
        if (end - scan->line == 2 && scan->lines > 0) {
            status = scan_limits(scan, end);
            if (status != 0)
                return judge(scan, data, end, status);
            *ret_len = end;
            return 0;
        }
        status = scan_line(scan, data, end);
        if (status != 0)
            return judge(scan, data, end, status);
        scan->seen = end;
    }
    scan->seen = (uint32_t)len;
    status = scan_limits(scan, len);
    return judge(scan, data, len, status != 0 ? status : -EAGAIN);
}
