/*
 * report.h - how a run tells that something is wrong.
 *
 * Threads: one. Blocks: never.
 */
#ifndef WEIR_SIMULATION_REPORT_H
#define WEIR_SIMULATION_REPORT_H

#include <stddef.h>

#define REPORT_STATUS 3

/* How many of the last events are printed by a failure, and where what it says is put. */
void report_prepare(unsigned events, char *why, size_t why_size);

/*
 * A signal of a crash is a failure as any other, which says the place in the program's file: for
 * addr2line(1). The last events are printed as they are for others.
 */
void report_crashes(void);

/* Says what is wrong, and what happened last, and ends the process with REPORT_STATUS. */
_Noreturn void report_failure(const char *format, ...) __attribute__((format(printf, 1, 2), cold));

#endif
