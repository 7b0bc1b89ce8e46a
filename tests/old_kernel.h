/*
 * old_kernel.h - a Linux before 6.13 for stacks: without MADV_GUARD_INSTALL, so that each guard is
 * a mapping of its own, of which vm.max_map_count allows a process so many.
 *
 * Threads: any, once it is set.
 */
#ifndef WEIR_TESTS_OLD_KERNEL_H
#define WEIR_TESTS_OLD_KERNEL_H

#include <stdbool.h>

/* False at first: the kernel is as it is. */
extern bool old_kernel;

/* Returns true if a test can come to vm.max_map_count; some systems let a process have billions. */
bool mappings_have_an_end(void);

#endif
