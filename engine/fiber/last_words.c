/* last_words.c - each line is put together on the stack, by code that calls next to nothing. */
#include "engine/fiber/last_words.h"

#include <string.h>

#include "engine/base/log.h"

/* For room on standard error; then the process ends without its line. */
#define PATIENCE_MS 1000

void last_words_text(struct last_words *line, const char *text)
{
    while (*text && line->len < sizeof(line->text))
        line->text[line->len++] = *text++;
}

static void put_in_base(struct last_words *line, uint64_t number, unsigned base)
{
    char digits[24] = { 0 };
    size_t i = sizeof(digits) - 1;

    do {
        digits[--i] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number != 0);
    last_words_text(line, digits + i);
}

void last_words_number(struct last_words *line, uint64_t number)
{
    put_in_base(line, number, 10);
}

void last_words_hex(struct last_words *line, uint64_t number)
{
    put_in_base(line, number, 16);
}

void last_words_label(struct last_words *line, const char *label)
{
    size_t most = sizeof(line->text) / 2;       /* leaves room for the rest */
    size_t len;

    if (!label)
        label = "?";
    len = strnlen(label, most);
    for (size_t i = 0; i < len && line->len < sizeof(line->text); i++)
        line->text[line->len++] = label[i];
}

bool last_words_say(const struct last_words *line)
{
    return log_now(line->text, line->len, PATIENCE_MS);
}
