/*
 * rows.h - a bench whose rows can fail: that is told in place of a row's figures, and by the exit
 * status of the process.
 *
 * Threads: the main thread.
 */
#ifndef WEIR_BENCH_ROWS_H
#define WEIR_BENCH_ROWS_H

#include <benchmark/benchmark.h>

/* The row has no figures. The bench returns from it, or goes on and measures nothing more. */
void row_failed(benchmark::State &state, const char *why);

/* What main() does when all rows are registered: runs them. Returns the exit status. */
int rows_main(int argc, char **argv);

#endif
