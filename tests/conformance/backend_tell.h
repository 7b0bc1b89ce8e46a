/*
 * backend_tell.h - what the driver hears: a line each, written whole before the call returns.
 *
 * Threads: any, and children of fork: they write to the same pipe.
 */
#ifndef WEIR_TESTS_CONFORMANCE_BACKEND_TELL_H
#define WEIR_TESTS_CONFORMANCE_BACKEND_TELL_H

void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "EIO" for -EIO, "ok" for anything not negative. */
const char *error_name(int r);

#endif
