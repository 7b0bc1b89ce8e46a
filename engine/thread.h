/*
 * thread.h - starts weir's threads: with every signal blocked, so that signals stay the program's.
 *
 * Threads: any. Blocks: never.
 */
#ifndef WEIR_THREAD_H
#define WEIR_THREAD_H

#include <pthread.h>

/* Bound to a CPU (-1: to none). Returns 0 or -errno. */
int thread_start(pthread_t *ret_thread, int cpu, void *(*main)(void *arg), void *arg);

/* A thread that nobody joins. Returns 0 or -errno. */
int thread_start_detached(void *(*main)(void *arg), void *arg);

#endif
