/*
 * descriptors.h - how many descriptors the process may have open.
 *
 * Threads: the main thread, before there are others.
 */
#ifndef WEIR_LOAD_DESCRIPTORS_H
#define WEIR_LOAD_DESCRIPTORS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Raises the soft limit to the hard one: a connection is a descriptor, and the usual soft limit,
 * 1,024, is for programs that call select(2). Returns what the limit is then, or UINT64_MAX where
 * nobody tells.
 */
uint64_t descriptors_raise(void);

#ifdef __cplusplus
}
#endif
#endif
