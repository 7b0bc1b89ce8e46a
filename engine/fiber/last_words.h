/*
 * last_words.h - lines of a signal handler, for a process that is about to end.
 *
 * Threads: a line belongs to the signal handler that makes it. Async-signal-safe, all of it.
 * Blocks:  last_words_say, for a second at most.
 */
#ifndef WEIR_LAST_WORDS_H
#define WEIR_LAST_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct last_words {
    char text[256];
    size_t len;
};

/* Appends what fits. */
void last_words_text(struct last_words *line, const char *text);
void last_words_number(struct last_words *line, uint64_t number);
void last_words_hex(struct last_words *line, uint64_t number);

/* A name that the program has given; NULL: '?'. If it is long, its end is left out. */
void last_words_label(struct last_words *line, const char *label);

/* Writes the line to standard error. False: there was no room, or nobody to read. */
bool last_words_say(const struct last_words *line);

#endif
