/*
 * input.h - what every fuzz target begins with: its one function, taking an input apart, and what
 * is to hold of it.
 *
 * A target is one file. A fuzzer links it with its own main, bazel test with replay.c.
 *
 * Threads: the one there is.
 */
#ifndef WEIR_TESTS_FUZZ_INPUT_H
#define WEIR_TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Returns 0. Ends the process if something doesn't hold. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As assert, which an optimised build would leave out. */
#define HOLDS(condition) \
    ((condition) ? (void)0 : does_not_hold(__FILE__, __LINE__, #condition))

static inline _Noreturn void does_not_hold(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: this does not hold: %s\n", file, line, condition);
    abort();
}

/* An input, and how far it has been taken. */
struct input {
    const uint8_t *data;
    size_t size;
};

/* The next byte, or 0 behind the last one. */
static inline uint8_t take_byte(struct input *input)
{
    if (input->size == 0)
        return 0;
    input->size--;
    return *input->data++;
}

static inline size_t take_number(struct input *input, size_t most)
{
    return take_byte(input) % (most + 1);
}

/* All that is left, with a NUL behind it. The caller frees it. */
static inline char *take_text(struct input *input)
{
    char *text = malloc(input->size + 1);

    if (!text)
        abort();
    if (input->size > 0)
        memcpy(text, input->data, input->size);
    text[input->size] = '\0';
    return text;
}

/* A sentence of a failed call: there is one, and it is one line. */
static inline void check_sentence(const char *why)
{
    HOLDS(*why != '\0');
    for (; *why; why++)
        HOLDS((unsigned char)*why >= ' ' && *why != 0x7f);
}

#endif
