/*
 * process.h - a program that forks: what its children find, and how a copy of a server is known.
 *
 * Threads: any.
 * Owns:    the handlers of pthread_atfork that are made here, and the count of forks.
 * Blocks:  process_fork, as reclaim_before_fork does.
 */
#ifndef WEIR_PROCESS_H
#define WEIR_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

/* Before anything is forked, by whomever: 0 or -errno. Twice is harmless. */
int process_init(void);

/*
 * fork(2) for a child of ours. In the parent it does not count: such a child leaves to its parent
 * what it is not to serve.
 */
pid_t process_fork(void);

/* This process, without a system call. */
pid_t process_self(void);

/* A number that a fork changes, in both processes: what is as old as it is nobody else's too. */
uint32_t process_forks(void);

#endif
