/*
 * grammar.c - classes of bytes, and what is made of them.
 */
#include "handlers/http/grammar.h"

#include <arpa/inet.h>
#include <string.h>

/* ------------------------------------------------------------------ bytes ------------- */

#define TOKEN HTTP_TOKEN
#define NAME HTTP_NAME
#define PATH HTTP_PATH
#define QUERY HTTP_IN_QUERY
#define URI (PATH | QUERY)
#define ALNUM (TOKEN | NAME | URI)

/*
 * Of what RFC 3986 has in no path and no query, browsers send | [ ] in both, and { } \ ^ ` in a
 * query, as somebody typed them. So these are let through there, and only there.
 */
const unsigned char http_classes[256] = {
    ['0' ... '9'] = ALNUM | HTTP_DIGIT, ['A' ... 'Z'] = ALNUM, ['a' ... 'z'] = ALNUM,
    ['!'] = ALNUM, ['$'] = ALNUM, ['&'] = ALNUM, ['\''] = ALNUM, ['*'] = ALNUM, ['+'] = ALNUM,
    ['-'] = ALNUM, ['.'] = ALNUM, ['_'] = ALNUM, ['~'] = ALNUM,
    ['('] = NAME | URI, [')'] = NAME | URI, [','] = NAME | URI, [';'] = NAME | URI,
    ['='] = NAME | URI,
    ['%'] = TOKEN | URI, ['/'] = URI, [':'] = URI, ['@'] = URI, ['['] = URI, [']'] = URI,
    ['?'] = QUERY, ['\\'] = QUERY, ['{'] = QUERY, ['}'] = QUERY,
    ['^'] = TOKEN | QUERY, ['`'] = TOKEN | QUERY, ['|'] = TOKEN | URI, ['#'] = TOKEN,
};

bool http_is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!(http_classes[(unsigned char)text[i]] & TOKEN))
            return false;
    return len > 0;
}

/*
 * Not 0 if one of eight bytes is less than ' ', or DEL. A loop over the bytes alone takes 209
 * instructions more for each request of hello, which has 2088.
 */
static uint64_t controls(uint64_t bytes)
{
    const uint64_t each = UINT64_MAX / 255, top = each << 7, del = bytes ^ each * 127;

    return (((bytes - each * ' ') & ~bytes) | ((del - each) & ~del)) & top;
}

/* The same of eight or more; the last eight may overlap those before. */
static bool has_control_in(const char *text, size_t len)
{
    uint64_t bytes, found = 0;

    for (size_t i = 0; i < len - sizeof(bytes); i += sizeof(bytes)) {
        memcpy(&bytes, text + i, sizeof(bytes));
        found |= controls(bytes);
    }
    memcpy(&bytes, text + len - sizeof(bytes), sizeof(bytes));
    return (found | controls(bytes)) != 0;
}

bool http_is_value(const char *text, size_t len)
{
    if (len >= sizeof(uint64_t) && !has_control_in(text, len))
        return true;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if ((c < ' ' && c != '\t') || c == 127)
            return false;
    }
    return true;
}

bool http_name_equal(const char *a, size_t a_len, const char *b, size_t b_len)
{
    if (a_len != b_len)
        return false;
    for (size_t i = 0; i < a_len; i++) {
        unsigned char x = (unsigned char)a[i], y = (unsigned char)b[i];

        /* Token characters that differ in this bit alone are letters, but for ^ ~ and ` @. */
        if (x != y && ((x ^ y) != 0x20 || (x | 0x20) < 'a' || (x | 0x20) > 'z'))
            return false;
    }
    return true;
}

bool http_has_odd_byte(const char *text, size_t len, bool request_line)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c >= ' ' && c != 127 && (c < 128 || !request_line))
            continue;
        if (c == '\t' && !request_line)
            continue;
        if (c != '\r')
            return true;
        i++;
        if (i < len && text[i] != '\n')
            return true;
    }
    return false;
}

const char *http_list_next(const char *at, const char *end, const char **ret, size_t *ret_len)
{
    const char *comma;

    while (at < end && (*at == ',' || http_is_space(*at)))
        at++;
    if (at == end)
        return NULL;
    *ret = at;
    comma = memchr(at, ',', (size_t)(end - at));
    end = comma ? comma : end;
    at = end;
    while (http_is_space(end[-1]))
        end--;
    *ret_len = (size_t)(end - *ret);
    return at;
}

/* ------------------------------------------------------------------ hosts ------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
        return (c | 0x20) - 'a' + 10;
    return -1;
}

/* Goes on behind a '%' in a name. Few names have one. */
static __attribute__((cold, noinline)) const char *skip_escaped(const char *at)
{
    while (*at == '%' && hex_digit(at[1]) >= 0 && hex_digit(at[2]) >= 0)
        at = http_skip(at + 3, NAME);
    return at;
}

static inline const char *skip_name(const char *at)
{
    at = http_skip(at, NAME);
    return *at == '%' ? skip_escaped(at) : at;
}

/* What may come after IPv6: "v1.x". */
static bool is_future(const char *text, const char *end)
{
    const char *at = text + 1;

    if ((*text | 0x20) != 'v')
        return false;
    while (hex_digit(*at) >= 0)
        at++;
    if (at == text + 1 || *at != '.' || at + 1 == end)
        return false;
    for (at++; at < end; at++)
        if (*at != ':' && !(http_classes[(unsigned char)*at] & NAME))
            return false;
    return true;
}

/*
 * inet_pton reads up to a NUL, so it is shown none: its bytes are counted, and looked at, before.
 */
static bool is_ipv6(const char *at, const char *end)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    size_t len = (size_t)(end - at);

    if (len >= sizeof(text))
        return false;
    for (size_t i = 0; i < len; i++)
        if (hex_digit(at[i]) < 0 && at[i] != ':' && at[i] != '.')
            return false;
    *(char *)mempcpy(text, at, len) = '\0';
    return inet_pton(AF_INET6, text, &address) == 1;
}

/* "[::1]": returns what follows it, or NULL. */
static __attribute__((noinline)) const char *skip_literal(const char *at, const char *end)
{
    const char *close = memchr(at, ']', (size_t)(end - at));

    if (!close)
        return NULL;
    return is_future(at + 1, close) || is_ipv6(at + 1, close) ? close + 1 : NULL;
}

bool http_is_host(const char *text, size_t len)
{
    const char *end = text + len;
    const char *at = *text == '[' ? skip_literal(text, end) : skip_name(text);

    if (!at)
        return false;
    if (*at == ':' && at > text && at < end)
        at = http_skip(at + 1, HTTP_DIGIT);
    return at == end;
}

/* ------------------------------------------------------------------ chunks ------------ */

/*
 * The extensions are walked with the line's CR before them as the end: it is in no class, no space,
 * and is in no quoted string.
 */
static const char *skip_spaces(const char *at)
{
    while (http_is_space(*at))
        at++;
    return at;
}

/* A quoted string: returns what follows it, or NULL. */
static const char *skip_quoted(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\')
            at++;
    return at < end ? at + 1 : NULL;
}

/* Whether `at` is a list of ";name", ";name=token" and ";name=string", with white space between. */
static bool are_extensions(const char *at, const char *end)
{
    const char *name;

    while (at && at < end) {
        at = skip_spaces(at);
        if (*at != ';')
            return false;
        name = skip_spaces(at + 1);
        at = http_skip(name, TOKEN);
        if (at == name)
            return false;
        if (*skip_spaces(at) != '=')
            continue;
        name = skip_spaces(skip_spaces(at) + 1);
        at = *name == '"' ? skip_quoted(name, end) : http_skip(name, TOKEN);
        if (at == name)
            return false;
    }
    return at == end;
}

int http_parse_chunk(const char *line, size_t len, uint64_t *ret_size, size_t *ret_extension)
{
    uint64_t size = 0;
    size_t i = 0, digits;

    if (len < 3 || line[len - 1] != '\n' || line[len - 2] != '\r')
        return 400;
    len -= 2;
    /* 15 digits behind the zeros cannot overflow, nor can the sums of what they announce. */
    for (; i < len && size >> 56 == 0 && hex_digit(line[i]) >= 0; i++)
        size = size << 4 | (uint64_t)hex_digit(line[i]);
    digits = i;
    if (digits == 0)
        return 400;
    if (!http_is_value(line + i, len - i) || !are_extensions(line + i, line + len))
        return 400;
    *ret_size = size;
    *ret_extension = len - digits;
    return 0;
}

bool http_is_trailer(const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);

    return colon && http_is_token(line, (size_t)(colon - line)) &&
        http_is_value(colon + 1, len - (size_t)(colon - line) - 1);
}
