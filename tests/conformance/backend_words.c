#include "tests/conformance/backend_words.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Noreturn void mistake(const char *format, ...)
{
    va_list args;

    fputs("backend: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    /* Not exit(): other threads, and children, may come here. */
    _exit(2);
}

static void add_pair(struct words *words, char *word)
{
    char *sign = strchr(word, '=');

    if (!sign)
        mistake("'%s' is not key=value", word);
    if (words->pairs_len == WORDS_MAX)
        mistake("more than %d words", WORDS_MAX);
    *sign = '\0';
    words->pairs[words->pairs_len].key = word;
    words->pairs[words->pairs_len++].value = sign + 1;
}

void words_split(struct words *words, char *line)
{
    char *rest;
    char *word;

    *words = (struct words){ .tag = strtok_r(line, " \n", &rest) };
    words->verb = strtok_r(NULL, " \n", &rest);
    if (!words->verb)
        mistake("a line without a verb");
    while ((word = strtok_r(NULL, " \n", &rest)))
        add_pair(words, word);
}

const char *words_find(const struct words *words, const char *key)
{
    for (size_t i = 0; i < words->pairs_len; i++)
        if (strcmp(words->pairs[i].key, key) == 0)
            return words->pairs[i].value;
    return NULL;
}

const char *words_need(const struct words *words, const char *key)
{
    const char *value = words_find(words, key);

    if (!value)
        mistake("%s needs %s=", words->verb, key);
    return value;
}

uint64_t words_number(const struct words *words, const char *key)
{
    return number_of(words_need(words, key), 10);
}

uint64_t number_of(const char *text, int base)
{
    char *end;
    uint64_t n;

    errno = 0;
    n = strtoull(text, &end, base);
    if (end == text || *end != '\0' || errno != 0)
        mistake("'%s' is not a number", text);
    return n;
}
