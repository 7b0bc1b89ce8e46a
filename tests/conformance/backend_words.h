/*
 * backend_words.h - a line of the driver, in words: TAG VERB [key=value]...
 *
 * Words point into the line that they were split from, and live as long as it does. What does not
 * make sense is a mistake of the driver's: mistake() says so and ends the program with status 2.
 *
 * Threads: any, each its own words.
 */
#ifndef WEIR_TESTS_CONFORMANCE_BACKEND_WORDS_H
#define WEIR_TESTS_CONFORMANCE_BACKEND_WORDS_H

#include <stddef.h>
#include <stdint.h>

enum { WORDS_MAX = 40 };

struct words {
    const char *tag;
    const char *verb;
    struct {
        const char *key;
        const char *value;
    } pairs[WORDS_MAX];
    size_t pairs_len;
};

/* Splits a line in place. */
void words_split(struct words *words, char *line);

/* A key's value, or NULL. words_need wants it there, words_number as a decimal number. */
const char *words_find(const struct words *words, const char *key);
const char *words_need(const struct words *words, const char *key);
uint64_t words_number(const struct words *words, const char *key);

/* A text that must be a number, in base 8 or 10. */
uint64_t number_of(const char *text, int base);

_Noreturn void mistake(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
