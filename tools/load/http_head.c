/*
 * http_head.c - see http_head.h. Only the few fields that a length can depend on are looked at.
 */
#include "tools/load/http_head.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

enum { STATUS_LINE_MIN = sizeof("HTTP/1.1 200") - 1 };

static bool is_decimal(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* A CR or an LF alone among them: others could see the end of a line there. */
static bool has_control(const char *line, const char *end)
{
    for (; line < end; line++)
        if (((unsigned char)*line < ' ' && *line != '\t') || *line == 0x7f)
            return true;
    return false;
}

static int read_status(const char *text, size_t len, struct http_head *head)
{
    if (len < STATUS_LINE_MIN || memcmp(text, "HTTP/1.", 7) != 0 || !is_decimal(text[7]) ||
        text[8] != ' ' || !is_decimal(text[9]) || !is_decimal(text[10]) ||
        !is_decimal(text[11]))
        return -EBADMSG;
    /* A space follows, or the end of the line where there is no reason. */
    if (text[STATUS_LINE_MIN] != ' ' && text[STATUS_LINE_MIN] != '\r')
        return -EBADMSG;
    head->status = (text[9] - '0') * 100 + (text[10] - '0') * 10 + (text[11] - '0');
    head->closes = text[7] == '0';
    return 0;
}

/* The value, if the line is this field; the line ends at end. */
static const char *value_of(const char *line, const char *end, const char *name)
{
    size_t len = strlen(name);

    if ((size_t)(end - line) <= len || strncasecmp(line, name, len) != 0 || line[len] != ':')
        return NULL;
    line += len + 1;
    while (line < end && is_blank(*line))
        line++;
    return line;
}

static int read_answer_length(const char *value, const char *end, uint64_t *ret_len)
{
    uint64_t len = 0;

    if (value == end)
        return -EBADMSG;
    for (; value < end && is_decimal(*value); value++)
        if (__builtin_mul_overflow(len, 10, &len) ||
            __builtin_add_overflow(len, (uint64_t)(*value - '0'), &len))
            return -EBADMSG;
    if (value < end && !is_blank(*value))
        return -EBADMSG;
    *ret_len = len;
    return 0;
}

/* Several that differ are an error that nothing can be made of (RFC 9112 6.3). */
static int note_length(const char *value, const char *end, struct http_head *head)
{
    bool is_first = head->until_end;
    uint64_t len;
    int r = read_answer_length(value, end, &len);

    if (r < 0)
        return r;
    if (!is_first && len != head->body_len)
        return -EBADMSG;
    head->until_end = false;
    head->body_len = len;
    return 0;
}

/* What the fields named Connection say, all of them together. */
struct options {
    bool close, keep_alive;
};

static void note_option(const char *option, size_t len, struct options *options)
{
    if (len == 5 && strncasecmp(option, "close", len) == 0)
        options->close = true;
    else if (len == 10 && strncasecmp(option, "keep-alive", len) == 0)
        options->keep_alive = true;
}

/* A list: commas between the options, and blanks around them. */
static void note_options(const char *value, const char *end, struct options *options)
{
    while (value < end) {
        const char *comma = memchr(value, ',', (size_t)(end - value));
        const char *option_end = comma ? comma : end;
        const char *next = comma ? comma + 1 : end;

        while (value < option_end && is_blank(*value))
            value++;
        while (value < option_end && is_blank(option_end[-1]))
            option_end--;
        note_option(value, (size_t)(option_end - value), options);
        value = next;
    }
}

static int read_answer_field(const char *line, const char *end, struct http_head *head,
                             struct options *options)
{
    const char *value;

    switch (*line | 0x20) {     /* most fields are none of ours, which one character tells */
    case 'c':
        value = value_of(line, end, "content-length");
        if (value)
            return note_length(value, end, head);
        value = value_of(line, end, "connection");
        if (value)
            note_options(value, end, options);
        return 0;
    case 't':
        return value_of(line, end, "transfer-encoding") ? -EOPNOTSUPP : 0;
    default:
        return 0;
    }
}

int http_head_read(const char *text, size_t len, struct http_head *ret_head)
{
    const char *end = memmem(text, len, "\r\n\r\n", 4);
    struct http_head head = { .until_end = true };
    struct options options = { 0 };
    const char *line;
    int r;

    if (!end)
        return len >= 7 && memcmp(text, "HTTP/1.", 7) != 0 ? -EBADMSG : 0;
    head.len = (size_t)(end - text) + 4;
    r = read_status(text, (size_t)(end - text), &head);
    line = memmem(text, head.len, "\r\n", 2);
    if (has_control(text, line))
        return -EBADMSG;
    while (r == 0 && line < end) {
        const char *line_end = memmem(line + 2, (size_t)(end + 2 - (line + 2)), "\r\n", 2);

        r = has_control(line + 2, line_end)
            ? -EBADMSG : read_answer_field(line + 2, line_end, &head, &options);
        line = line_end;
    }
    if (r < 0)
        return r;
    if (head.status == 204 || head.status == 304) {
        head.until_end = false;
        head.body_len = 0;
    }
    if (options.close || options.keep_alive)
        head.closes = options.close;
    head.closes |= head.until_end;
    *ret_head = head;
    return 1;
}
