/*
 * line_source.h - the engine's readline over bytes that are all in memory, without a connection.
 *
 * A bench in C++ can't include the engine's own headers, which use C's atomics.
 * Threads: one.
 */
#ifndef WEIR_BENCH_LINE_SOURCE_H
#define WEIR_BENCH_LINE_SOURCE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Reads data to its end with weir_readline, lines of at most limit bytes. Returns how many. */
size_t line_source_count(char *data, size_t len, size_t limit);

#ifdef __cplusplus
}
#endif
#endif
