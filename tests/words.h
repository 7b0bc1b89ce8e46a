/*
 * words.h - what hooks and finish() have told, in whatever process they ran: a pipe, which children
 * of fork(2) have, too.
 *
 * Threads: any may tell; one reads.
 */
#ifndef WEIR_TESTS_WORDS_H
#define WEIR_TESTS_WORDS_H

#include "engine/weir.h"

/* For a setup and a teardown of cmocka: 0, or the group fails. */
int words_open(void);
void words_close(void);

void words_tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A finish() that tells "finish STATUS;". */
int words_tell_status(struct weir_request *req, int status);

/* The end that is read: of who can't say beforehand what comes. */
int words_fd(void);

/* Waits for as much as that, and fails the test if it is something else. */
void words_expect(const char *expected);

#endif
