/*
 * scan.c - a head while it arrives.
 *
 * The bytes of a line are judged before its end, the line at its end, and lines in their order: a
 * head gets the verdict that it would get if it came byte by byte, however it came.
 */
#include "handlers/http/scan.h"

#include <errno.h>
#include <string.h>

#include "handlers/http/grammar.h"

/* The limits on sizes, with the head known up to `end`. */
static int scan_limits(const struct http_scan *scan, size_t end)
{
    if (scan->lines == 0)
        return end > HTTP_LINE_MAX ? HTTP_URI_TOO_LONG : 0;
    return end - scan->fields > HTTP_FIELDS_SIZE_MAX ? HTTP_FIELDS_TOO_LARGE : 0;
}

/* Reads the lines that have become complete. Returns 0 or a status. */
static int judge_lines(struct http_scan *scan, const char *data)
{
    struct http_head *head = &scan->so_far;
    struct http_field field;
    const char *at = data + scan->judged_lines, *end = data + scan->line;

    head->fields = &field;
    while (at < end) {
        if (at == data)
            *head = (struct http_head){ .fields = &field };
        head->fields_len = 0;
        at = http_read_line(head, data, at, end);
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
        return HTTP_BAD_REQUEST;
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
        return HTTP_BAD_REQUEST;
    if (scan->lines > HTTP_FIELDS_MAX)
        return HTTP_FIELDS_TOO_LARGE;
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
            return judge(scan, data, end, status != 0 ? status : HTTP_BAD_REQUEST);
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
