/*
 * shrink.h - the smallest run in which a seed still fails in the same way.
 *
 * Threads: the one of main. Blocks: for some dozens of runs.
 */
#ifndef WEIR_SIMULATION_SHRINK_H
#define WEIR_SIMULATION_SHRINK_H

#include "tests/simulation/runs.h"

/* The run has failed, and why: leaves out features and clients as long as it does. */
void shrink(struct run *run, const char *why);

#endif
