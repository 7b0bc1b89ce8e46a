/*
 * why.h - the sentence that says why a call failed.
 *
 * A sentence is one line, starts in lower case (or with the text that is at fault), has no newline
 * at its end and names what to change. The buffer is the caller's; a size of 0 wants no sentence.
 *
 * Threads: any. Blocks: never.
 */
#ifndef WEIR_WHY_H
#define WEIR_WHY_H

#include <stddef.h>

/*
 * why_set writes the sentence and returns error, so that failing takes one statement. Control
 * bytes (they come from the text at fault) become '?': the sentence stays one line.
 */
int why_set(char *why, size_t why_size, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The sentence for the calling thread's last failed call of weir.h, which weir_why() returns. */
#define WHY_LAST_SIZE 512
extern _Thread_local char why_last[WHY_LAST_SIZE];

/* A text that may turn out to be wrong, and where to say so then. */
struct why_subject {
    const char *text;
    char *why;
    size_t why_size;
};

/* why_refuse is why_set with "the subject's text: " before the sentence. */
int why_refuse(const struct why_subject *subject, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* An error in words, with what there is to be done where these mislead. */
const char *why_error(int error);

#endif
