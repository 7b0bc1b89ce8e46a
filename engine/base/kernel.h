/*
 * kernel.h - whether the kernel, and whatever guards it, let a server do its work.
 *
 * Sandboxes refuse system calls, and kernels lack the young ones. What opening a server doesn't
 * need would only be missed with the first client, and then for each one anew.
 *
 * Threads: any. Owns: nothing. Blocks: never.
 */
#ifndef WEIR_KERNEL_H
#define WEIR_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Returns 0, or the error of a call that is refused, with the reason in why. forks: children are to
 * serve.
 */
int kernel_check(bool forks, char *why, size_t why_size);

#endif
