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

#include <stddef.h>

/* Returns 0, or the error of a call that is refused, with the reason in why. */
int kernel_check(char *why, size_t why_size);

#endif
