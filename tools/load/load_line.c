/*
 * load_line.c - see load_line.h.
 */
#include "tools/load/load_line.h"

#include <ctype.h>

enum {
    STAMP_AT = 5,               /* where a line carries its number, as 8 hex digits */
    STAMP_LEN = 8,
};

static const char line_text[] = "weir 00000000 the quick brown fox jumps over the lazy dog, and ";

size_t line_len(const struct lane *lane)
{
    return lane->options->size > 0 ? lane->options->size : LOAD_LINE_LEN;
}

void line_init(char *line, size_t len)
{
    for (size_t i = 0; i < len - 1; i++)
        line[i] = line_text[i % (sizeof(line_text) - 1)];
    line[len - 1] = '\n';
}

void line_stamp(char *line, uint32_t number)
{
    for (int i = STAMP_LEN - 1; i >= 0; i--) {
        line[STAMP_AT + i] = "0123456789ABCDEF"[number & 15];
        number >>= 4;
    }
}

bool line_number(const char *line, uint32_t *ret_number)
{
    uint32_t number = 0;

    for (int i = 0; i < STAMP_LEN; i++) {
        char c = line[STAMP_AT + i];

        if (c >= '0' && c <= '9')
            number = number << 4 | (uint32_t)(c - '0');
        else if (c >= 'A' && c <= 'F')
            number = number << 4 | (uint32_t)(c - 'A' + 10);
        else
            return false;
    }
    *ret_number = number;
    return true;
}

void line_answer(char *line, size_t len, enum load_mode mode)
{
    if (mode == LOAD_UPPER)
        for (size_t i = 0; i < len; i++)
            line[i] = (char)toupper((unsigned char)line[i]);
}
