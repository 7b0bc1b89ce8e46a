/*
 * http_fake.h - a request of memory, for tests of the HTTP handler: no socket, no fiber, no engine.
 *
 * The fake stands in for the calls of weir.h that the handler makes. It is stricter than the
 * engine: every time more input arrives, the view moves to a new block of exactly its size, so that
 * a view kept across a read, or read beyond its end, is found by the address sanitizer.
 *
 * Threads: the test's.
 */
#ifndef WEIR_TESTS_HTTP_FAKE_H
#define WEIR_TESTS_HTTP_FAKE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <weir/weir.h>

struct weir_request {
    const struct weir_handler *handler;
    const char *input;          /* all that the peer will ever send */
    size_t input_len;
    size_t first;               /* bytes that arrive at once, before ... */
    size_t step;                /* ... these at a time */
    size_t arrived;             /* of the input */
    int ending;                 /* what a read finds behind it: 0 is the end of file */
    char *view;                 /* the buffered bytes */
    size_t view_len;
    char *block;                /* where view points into */
    char output[128 * 1024];
    size_t output_len;
    int write_error;
    unsigned waits;
    bool draining;
    bool lingers;               /* weir_linger was called */
    unsigned reports;           /* calls of weir_report, and what the last one was given */
    int reported;
    char hint[400];
};

#endif
