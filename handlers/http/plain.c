/*
 * plain.c - the fast path of request lines.
 *
 * Most of them are plain: GET or HEAD of a path, and HTTP/1.1. For these the library's walk from
 * byte to byte was a good part of all that hello does. What follows takes a line or leaves it to
 * the library; it never refuses one, so that what is odd is judged in one place.
 * tests/http_test.c compares the two.
 *
 * The last byte of a line is in none of the classes, so it ends every walk.
 */
#include "handlers/http/plain.h"

#include <string.h>

#include "handlers/http/grammar.h"
#include "handlers/http/target.h"

const char *http_take_plain_line(struct http_head *head, const char *data, const char *data_end)
{
    static const char version[] = { ' ', 'H', 'T', 'T', 'P', '/', '1', '.', '1', '\r', '\n' };
    size_t len = (size_t)(data_end - data);
    bool get = len > 4 && memcmp(data, "GET ", 4) == 0;
    const char *path = data + (get ? 4 : 5), *end;

    if ((!get && (len <= 5 || memcmp(data, "HEAD ", 5) != 0)) || *path != '/')
        return NULL;
    end = http_skip(path, HTTP_PATH);
    if (*end == '?')
        end = http_skip(end, HTTP_IN_QUERY);
    if ((size_t)(data_end - end) < sizeof(version) || memcmp(end, version, sizeof(version)) != 0)
        return NULL;
    head->method = get ? "GET" : "HEAD";
    head->one_one = true;
    http_take_path(head, data, path, end);
    return end + sizeof(version);
}
