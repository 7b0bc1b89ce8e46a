/*
 * overflow.h - says in one line that a fiber's stack was too small, and dies.
 *
 * A fiber that outgrows its stack faults in its guard. The handler of SIGSEGV recognises
 * that, writes
 *
 *     weir: stack overflow in handler 'upper': 65536 bytes are not enough; raise stack_size
 *
 * to standard error and aborts. Every other fault goes to the handler that SIGSEGV had before.
 *
 * Threads: install and uninstall from any; the thread calls on the thread that they are for.
 * Blocks:  install and uninstall on a lock between themselves.
 */
#ifndef WEIR_OVERFLOW_H
#define WEIR_OVERFLOW_H

#include <signal.h>
#include <stdbool.h>

/*
 * overflow_install puts the handler in place if it is not; each call needs an overflow_uninstall.
 * The last one restores the handler that was there before, unless the program has put another on
 * top of ours since: then ours stays below it and passes on. Returns 0 or -errno.
 */
int overflow_install(void);
void overflow_uninstall(void);

/* Around any fork(2), in both processes: the child can install and uninstall. */
void overflow_before_fork(void);
void overflow_after_fork(void);

/* A thread's place to run the handler on: the stack that overflowed has no room left. */
struct overflow_stack {
    void *base;
    bool used;                  /* a thread has it for alternate stack */
    stack_t before;             /* what it had before, put back at the end */
};

/* Before the thread is started, when memory can still be refused, and after its end. 0, -ENOMEM. */
int overflow_stack_map(struct overflow_stack *stack);
void overflow_stack_unmap(struct overflow_stack *stack);

/* On the thread that runs fibers, around their running. */
void overflow_thread_init(struct overflow_stack *stack);
void overflow_thread_fini(struct overflow_stack *stack);

#endif
