/*
 * trace.h - what has happened in a run: the last events as text, and a hash of all of them.
 *
 * Two runs of the same seed have the same hash, or something in them depends on more than the seed.
 *
 * Threads: one. Owns: nothing; formats are kept by reference. Blocks: never.
 */
#ifndef WEIR_SIMULATION_TRACE_H
#define WEIR_SIMULATION_TRACE_H

#include <stdint.h>
#include <stdio.h>

/* An event of a thread or a client, with as many longs as its format, a literal, has %ld. */
void trace_note(const char *who, unsigned number, const char *format, long a, long b, long c);

uint64_t trace_hash(void);
uint64_t trace_len(void);

/* The last `most` events that are still there. */
void trace_print(FILE *out, unsigned most);

/* Every event is printed when it happens. */
void trace_aloud(FILE *out);

#endif
