/*
 * http_grammar.c - classes of bytes, and what is made of them.
 */
#include "handlers/http_grammar.h"

#include <string.h>

/* ------------------------------------------------------------------ bytes ------------- */

#define TOKEN HTTP_TOKEN
#define TARGET HTTP_TARGET
#define HOST HTTP_HOST
#define ALNUM (TOKEN | TARGET | HOST)

const unsigned char http_classes[256] = {
    ['0' ... '9'] = ALNUM, ['A' ... 'Z'] = ALNUM, ['a' ... 'z'] = ALNUM,
    ['!'] = ALNUM, ['$'] = ALNUM, ['%'] = ALNUM, ['&'] = ALNUM, ['\''] = ALNUM, ['*'] = ALNUM,
    ['+'] = ALNUM, ['-'] = ALNUM, ['.'] = ALNUM, ['_'] = ALNUM, ['~'] = ALNUM,
    ['#'] = TOKEN, ['^'] = TOKEN | TARGET, ['`'] = TOKEN | TARGET, ['|'] = TOKEN | TARGET,
    ['('] = TARGET | HOST, [')'] = TARGET | HOST, [','] = TARGET | HOST, [':'] = TARGET | HOST,
    [';'] = TARGET | HOST, ['='] = TARGET | HOST, ['['] = TARGET | HOST, [']'] = TARGET | HOST,
    ['"'] = TARGET, ['/'] = TARGET, ['<'] = TARGET, ['>'] = TARGET, ['?'] = TARGET,
    ['@'] = TARGET, ['\\'] = TARGET, ['{'] = TARGET, ['}'] = TARGET,
};

bool http_all_are(const char *text, size_t len, unsigned int class)
{
    for (size_t i = 0; i < len; i++)
        if (!(http_classes[(unsigned char)text[i]] & class))
            return false;
    return true;
}

bool http_is_token(const char *text, size_t len)
{
    return len > 0 && http_all_are(text, len, TOKEN);
}

/* Not 0 if one of eight bytes is less than ' ', or DEL. */
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

/* ------------------------------------------------------------------ chunks ------------ */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
        return (c | 0x20) - 'a' + 10;
    return -1;
}

int http_parse_chunk(const char *line, size_t len, uint64_t *ret_size, size_t *ret_extension)
{
    uint64_t size = 0;
    size_t i = 0;

    if (len < 3 || line[len - 1] != '\n' || line[len - 2] != '\r')
        return 400;
    len -= 2;
    /* 15 digits cannot overflow, nor can the sums of what they announce. */
    for (; i < len && i < 15 && hex_digit(line[i]) >= 0; i++)
        size = size << 4 | (uint64_t)hex_digit(line[i]);
    if (i == 0)
        return 400;
    if (i < len && (line[i] != ';' || !http_is_value(line + i, len - i)))
        return 400;
    *ret_size = size;
    *ret_extension = len - i;
    return 0;
}

bool http_is_trailer(const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);

    return colon && http_is_token(line, (size_t)(colon - line)) &&
        http_is_value(colon + 1, len - (size_t)(colon - line) - 1);
}
