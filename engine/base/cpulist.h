/*
 * cpulist.h - lists of CPUs as people write them: "0,2-3", as for taskset -c; and sets of them,
 * which may be larger than the C library's cpu_set_t, of 1,024.
 *
 * Threads: any. Blocks: never.
 */
#ifndef WEIR_CPULIST_H
#define WEIR_CPULIST_H

#include <sched.h>
#include <stddef.h>

/*
 * cpulist_parse writes the CPUs in the order given, one mentioned twice twice. Each must be one
 * that the calling thread may run on. ret_cpus is left alone on failure.
 * Returns how many, at least 1, or -EINVAL with the reason in why (more than max included).
 */
int cpulist_parse(const char *text, int *ret_cpus, size_t max, char *why, size_t why_size);

/* How many the calling thread may run on; 1 if that can't be found out. */
unsigned cpulist_count_allowed(void);

/* That CPU alone, to be given back by CPU_FREE; NULL: no memory. */
cpu_set_t *cpulist_set_of(int cpu, size_t *ret_size);

#endif
