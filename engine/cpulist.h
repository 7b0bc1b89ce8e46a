/*
 * cpulist.h - lists of CPUs as people write them: "0,2-3", as for taskset -c.
 *
 * Threads: any. Blocks: never.
 */
#ifndef WEIR_CPULIST_H
#define WEIR_CPULIST_H

#include <stddef.h>

/*
 * cpulist_parse writes the CPUs in the order given, one mentioned twice twice. Each must be one
 * that the calling thread may run on. ret_cpus is left alone on failure.
 * Returns how many, at least 1, or -EINVAL with the reason in why (more than max included).
 */
int cpulist_parse(const char *text, int *ret_cpus, size_t max, char *why, size_t why_size);

#endif
