/*
 * reply.c - heads of replies, put together from constant pieces: no formatting, and the date
 * is made once a second.
 */
#include "handlers/http/reply.h"

#include <assert.h>
#include <string.h>
#include <time.h>

struct text {
    const char *data;
    size_t len;
};

#define TEXT(literal) { literal, sizeof(literal) - 1 }

#define STATUSES(STATUS) \
    STATUS(200, "OK") \
    STATUS(201, "Created") \
    STATUS(202, "Accepted") \
    STATUS(203, "Non-Authoritative Information") \
    STATUS(204, "No Content") \
    STATUS(205, "Reset Content") \
    STATUS(206, "Partial Content") \
    STATUS(300, "Multiple Choices") \
    STATUS(301, "Moved Permanently") \
    STATUS(302, "Found") \
    STATUS(303, "See Other") \
    STATUS(304, "Not Modified") \
    STATUS(307, "Temporary Redirect") \
    STATUS(308, "Permanent Redirect") \
    STATUS(400, "Bad Request") \
    STATUS(401, "Unauthorized") \
    STATUS(403, "Forbidden") \
    STATUS(404, "Not Found") \
    STATUS(405, "Method Not Allowed") \
    STATUS(406, "Not Acceptable") \
    STATUS(408, "Request Timeout") \
    STATUS(409, "Conflict") \
    STATUS(410, "Gone") \
    STATUS(411, "Length Required") \
    STATUS(412, "Precondition Failed") \
    STATUS(413, "Content Too Large") \
    STATUS(414, "URI Too Long") \
    STATUS(415, "Unsupported Media Type") \
    STATUS(416, "Range Not Satisfiable") \
    STATUS(417, "Expectation Failed") \
    STATUS(422, "Unprocessable Content") \
    STATUS(426, "Upgrade Required") \
    STATUS(428, "Precondition Required") \
    STATUS(429, "Too Many Requests") \
    STATUS(431, "Request Header Fields Too Large") \
    STATUS(500, "Internal Server Error") \
    STATUS(501, "Not Implemented") \
    STATUS(502, "Bad Gateway") \
    STATUS(503, "Service Unavailable") \
    STATUS(504, "Gateway Timeout") \
    STATUS(505, "HTTP Version Not Supported") \
    STATUS(507, "Insufficient Storage")

#define STATUS_LINE(code, reason) "HTTP/1.1 " #code " " reason "\r\n"
#define LINE_OF(code, reason) [(code) - 200] = TEXT(STATUS_LINE(code, reason)),
#define ROOM_FOR(code, reason) char of_##code[sizeof(STATUS_LINE(code, reason)) - 1];

static const struct text status_lines[400] = { STATUSES(LINE_OF) };

/* As large as the longest of them. */
union status_room { STATUSES(ROOM_FOR) };

static const struct text connections[] = {
    [HTTP_CONNECTION_DEFAULT] = TEXT(""),
    [HTTP_CONNECTION_KEEP] = TEXT("Connection: keep-alive\r\n"),
    [HTTP_CONNECTION_CLOSE] = TEXT("Connection: close\r\n"),
};

enum {
    STATUS_AT = sizeof("HTTP/1.1 ") - 1,
    DATE_LEN = sizeof("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n") - 1,
    TYPE_MAX = 64,              /* a longer type is not copied */
    HEAD_MAX = 256,             /* of the pieces that are copied */
    PAGE_MAX = 64,
    PIECES_MAX = 6,
};

#define LONGEST_LENGTH "Content-Length: 18446744073709551615\r\n"

static_assert(sizeof(union status_room) + DATE_LEN + sizeof("Connection: keep-alive\r\n") +
                  sizeof(LONGEST_LENGTH) + sizeof("Content-Type: \r\n") + TYPE_MAX +
                  sizeof("\r\n") <= HEAD_MAX, "the longest head has no room");
static_assert(sizeof(union status_room) <= PAGE_MAX, "the longest page has no room");

static char *put_bytes(char *at, const char *text, size_t len)
{
    memcpy(at, text, len);
    return at + len;
}

static char *put_text(char *at, struct text text)
{
    return put_bytes(at, text.data, text.len);
}

static char *put_two_digits(char *at, int n)
{
    at[0] = (char)('0' + n / 10);
    at[1] = (char)('0' + n % 10);
    return at + 2;
}

static char *put_decimal(char *at, uint64_t n)
{
    char digits[20], *first = digits + sizeof(digits);

    do
        *--first = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    return put_bytes(at, first, (size_t)(digits + sizeof(digits) - first));
}

/* IMF-fixdate, whatever the locale. */
static void format_date(time_t now, char *at)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm t;

    gmtime_r(&now, &t);
    at = put_bytes(at, "Date: ", 6);
    at = put_bytes(at, days + (size_t)3 * (size_t)t.tm_wday, 3);
    at = put_bytes(at, ", ", 2);
    at = put_two_digits(at, t.tm_mday);
    *at++ = ' ';
    at = put_bytes(at, months + (size_t)3 * (size_t)t.tm_mon, 3);
    *at++ = ' ';
    at = put_two_digits(at, (t.tm_year + 1900) / 100 % 100);
    at = put_two_digits(at, t.tm_year % 100);
    *at++ = ' ';
    at = put_two_digits(at, t.tm_hour);
    *at++ = ':';
    at = put_two_digits(at, t.tm_min);
    *at++ = ':';
    at = put_two_digits(at, t.tm_sec);
    put_bytes(at, " GMT\r\n", 6);
}

/*
 * The Date field, made once a second by each thread. Not inlined: no address of what is
 * thread-local may outlive a park, and this never parks.
 * No canary either: the clock is all that writes to this frame.
 */
static __attribute__((noinline, no_stack_protector)) char *put_date(char *at)
{
    static _Thread_local char text[DATE_LEN];
    static _Thread_local time_t second;
    struct timespec now;

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != second) {
        format_date(now.tv_sec, text);
        second = now.tv_sec;
    }
    return put_bytes(at, text, DATE_LEN);
}

static char *put_status(char *at, int status)
{
    struct text line = status_lines[status - 200];

    if (line.data)
        return put_text(at, line);
    at = put_bytes(at, "HTTP/1.1 ", STATUS_AT);
    at = put_decimal(at, (uint64_t)status);
    return put_bytes(at, " \r\n", 3);
}

static char *put_framing(char *at, const struct http_reply *reply)
{
    if (reply->framing == HTTP_FRAMING_CHUNKED)
        return put_bytes(at, "Transfer-Encoding: chunked\r\n", 28);
    if (reply->framing != HTTP_FRAMING_LENGTH)
        return at;
    at = put_bytes(at, "Content-Length: ", 16);
    at = put_decimal(at, reply->length);
    return put_bytes(at, "\r\n", 2);
}

static struct iovec piece(const void *data, size_t len)
{
    return (struct iovec){ .iov_base = (void *)data, .iov_len = len };
}

/* A head as pieces: what is put together here, and between that what others have. */
struct pieces {
    struct iovec iov[PIECES_MAX];
    int len;
    char *start;                /* of what belongs to the next piece */
};

/* Ends one of ours; theirs follows. */
static void insert(struct pieces *pieces, char *end, const void *data, size_t len)
{
    pieces->iov[pieces->len++] = piece(pieces->start, (size_t)(end - pieces->start));
    pieces->iov[pieces->len++] = piece(data, len);
    pieces->start = end;
}

static char *put_type(char *at, const struct http_reply *reply, struct pieces *pieces)
{
    at = put_bytes(at, "Content-Type: ", 14);
    if (reply->type_len <= TYPE_MAX)
        at = put_bytes(at, reply->type, reply->type_len);
    else
        insert(pieces, at, reply->type, reply->type_len);
    return put_bytes(at, "\r\n", 2);
}

int http_reply_write(struct weir_request *req, const struct http_reply *reply,
                     const void *body, size_t len)
{
    char head[HEAD_MAX], *end;
    struct pieces pieces;
    ssize_t n;

    pieces.len = 0;
    pieces.start = head;
    end = put_status(head, reply->status);
    end = put_date(end);
    end = put_text(end, connections[reply->connection]);
    end = put_framing(end, reply);
    if (reply->type)
        end = put_type(end, reply, &pieces);
    if (reply->added_len > 0)
        insert(&pieces, end, reply->added, reply->added_len);
    end = put_bytes(end, "\r\n", 2);
    insert(&pieces, end, body, len);
    n = weir_writev(req, pieces.iov, pieces.len);
    return n < 0 ? (int)n : 0;
}

int http_reply_page(struct weir_request *req, struct http_reply *reply, bool head)
{
    char page[PAGE_MAX], *end = put_status(page, reply->status) - 1;
    const char *text = page + STATUS_AT;

    end[-1] = '\n';             /* a line of text has no CR */
    reply->type = "text/plain";
    reply->type_len = 10;
    reply->framing = HTTP_FRAMING_LENGTH;
    reply->length = (uint64_t)(end - text);
    return http_reply_write(req, reply, text, head ? 0 : reply->length);
}

int http_reply_chunk(struct weir_request *req, const void *buf, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    char size[18], *first = size + 16;
    struct iovec iov[3];
    size_t rest = len;
    ssize_t n;

    put_bytes(first, "\r\n", 2);
    do
        *--first = digits[rest % 16];
    while ((rest /= 16) > 0);
    iov[0] = piece(first, (size_t)(size + sizeof(size) - first));
    iov[1] = piece(buf, len);
    iov[2] = piece("\r\n", 2);
    n = weir_writev(req, iov, 3);
    return n < 0 ? (int)n : 0;
}
