/* target.c - see target.h. What a target may be is RFC 9112's, 3.2. */
#include "handlers/http/target.h"

#include "handlers/http/grammar.h"

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
        return HTTP_BAD_REQUEST;
    while (path < end && *path != '/' && *path != '?')
        path++;
    if (path == authority || !http_is_host(authority, (size_t)(path - authority)))
        return HTTP_BAD_REQUEST;
    head->authority = (uint16_t)(authority - 1 - data);     /* see struct http_head */
    head->authority_len = (uint16_t)(path - authority);
    http_take_path(head, data, path, end);
    if (head->path_len == 0) {
        head->path = (uint16_t)(end + strlen(" HTTP") - data);
        head->path_len = 1;     /* see struct http_head */
        head->asterisk = head->query == 0 && strcmp(line->method, "OPTIONS") == 0;
    }
    return 0;
}

int http_take_target(struct http_head *head, const char *data,
                     const struct http_request_line *line)
{
    const char *target = line->target, *end = target + line->target_len, *after;

    after = http_skip(target, HTTP_PATH);
    if (*after == '?')
        after = http_skip(after, HTTP_IN_QUERY);
    if (after != end)
        return HTTP_BAD_REQUEST;
    if (strcmp(line->method, "CONNECT") == 0)
        return HTTP_NOT_IMPLEMENTED;
    if (*target != '/' && *target != '*')
        return take_absolute(head, data, line);
    if (*target == '*' && (strcmp(line->method, "OPTIONS") != 0 || line->target_len != 1))
        return HTTP_BAD_REQUEST;
    http_take_path(head, data, target, end);
    return 0;
}
