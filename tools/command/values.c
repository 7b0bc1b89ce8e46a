/*
 * values.c - see values.h. Not strtoul: it takes signs, blanks and wraps around.
 */
#include "tools/command/values.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

/* Digits, then the name of a unit. */
static int parse_value(const char *text, const struct unit *units, size_t units_len, uint64_t max,
                       uint64_t *ret_value)
{
    uint64_t n = 0;
    const char *at = text;

    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(n, 10, &n) ||
                __builtin_add_overflow(n, (uint64_t)(*at - '0'), &n))
            return -EINVAL;
    if (at == text)
        return -EINVAL;
    for (size_t i = 0; i < units_len; i++) {
        if (strcmp(at, units[i].name) != 0)
            continue;
        if (__builtin_mul_overflow(n, units[i].factor, &n) || n > max)
            return -EINVAL;
        *ret_value = n;
        return 0;
    }
    return -EINVAL;
}

int value_number(const char *text, uint64_t max, uint64_t *ret_value)
{
    static const struct unit units[] = { { "", 1 } };

    return parse_value(text, units, 1, max, ret_value);
}

int value_size(const char *text, uint64_t max, uint64_t *ret_value)
{
    static const struct unit units[] = {
        { "", 1 }, { "K", 1024 }, { "k", 1024 }, { "M", 1 << 20 }, { "m", 1 << 20 } };

    return parse_value(text, units, sizeof(units) / sizeof(units[0]), max, ret_value);
}

int value_time(const char *text, uint64_t max, uint64_t *ret_value)
{
    static const struct unit units[] = {
        { "", 1000 }, { "s", 1000 }, { "ms", 1 }, { "m", 60000 } };

    return parse_value(text, units, sizeof(units) / sizeof(units[0]), max, ret_value);
}

int value_mode(const char *text, uint64_t *ret_value)
{
    size_t digits = strspn(text, "01234567");
    uint64_t mode = 0;

    if (digits == 0 || text[digits] != '\0')
        return -EINVAL;
    for (; *text; text++) {
        mode = mode * 8 + (uint64_t)(*text - '0');
        if (mode > 0777)
            return -EINVAL;
    }
    *ret_value = mode;
    return 0;
}
