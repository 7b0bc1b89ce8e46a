/*
 * thread.h - starts weir's threads, each with the signal mask of the thread that starts it.
 *
 * So a program that a handler starts, by whatever call, begins with the mask that it would have
 * begun with elsewhere: posix_spawn(3) takes the calling thread's, and asks nobody. What the
 * program blocks before it serves, to sigwait(3) for it, stays blocked on all of our threads.
 *
 * Faults alone are never blocked: the kernel would kill the process without calling whoever
 * handles them, be it overflow.c, the program's crash reporter or a sanitizer.
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
