/*
 * process.h - a program that forks: what its children find, and how a copy of a server is known.
 *
 * A child has the memory of its parent and one of its threads. Around any fork(2), the program's or
 * ours, the handlers here hold the locks that all servers share: of readers and grace periods,
 * turns, records of stacks, the fault handler, the list of heirs. (log.c sees to its own: a program
 * may have a log function before it has a server.) So these are whole in the child. What one
 * server's locks guard may be half changed there, and is only touched as server.h says.
 *
 * Threads: any.
 * Owns:    the handlers of pthread_atfork that are made here, the list of heirs, and the count of
 *          forks.
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

/*
 * An object with locks that another thread may hold when a program forks. in_child is called in
 * each child, before its fork(2) returns, on the only thread of the child: it makes them anew.
 */
struct process_heir {
    void (*in_child)(struct process_heir *heir);
    struct process_heir *next;
    struct process_heir **link;     /* NULL: it is in no list */
};

void process_add_heir(struct process_heir *heir);
void process_remove_heir(struct process_heir *heir);    /* nothing, if it never was added */

/* This process, without a system call. */
pid_t process_self(void);

/* A number that a fork changes, in both processes: what is as old as it is nobody else's too. */
uint32_t process_forks(void);

#endif
