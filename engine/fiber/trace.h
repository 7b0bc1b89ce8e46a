/*
 * trace.h - where another thread of weir's is, for a line about a handler that holds its worker.
 *
 * A thread that waits in a system call is not disturbed, for a signal would cut many of them short
 * (EINTR: sleep(3), poll(2)): the kernel tells where its stack is, and the return addresses that
 * lie there are its callers, among others that earlier calls may have left. One that runs is
 * asked by SIGURG, which does nothing in a program that does not handle it; where the program does,
 * nobody is asked. Between the look and the signal the thread may have gone to sleep: then that one
 * call is cut short, once in a stall.
 *
 * Threads: install and uninstall any; everything else one at a time, as its caller sees to.
 * Blocks:  install and uninstall on a lock between themselves.
 */
#ifndef WEIR_TRACE_H
#define WEIR_TRACE_H

#include "engine/fiber/crash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TRACE_FRAMES 24

/* Each install that returned 0 needs an uninstall. Returns 0 or -errno. */
int trace_install(void);
void trace_uninstall(void);

/* Around any fork(2). A question that was open is the parent's. */
void trace_before_fork(void);
void trace_after_fork(void);
void trace_after_fork_in_child(void);

struct trace {
    long call;                  /* the system call's number that it is in; -1: in none */
    uintptr_t stack_pointer;    /* in a call: where its stack ends */
    struct crash_scene scene;   /* of a thread that was asked */
    unsigned len;
    uintptr_t frames[TRACE_FRAMES];
};

/* Asks the kernel in which call the thread is. False: the kernel does not say. */
bool trace_look(pid_t tid, struct trace *trace);

/* The frames of a thread that is in a call, and whose stack ends at base unless it is a fiber's. */
void trace_scan(struct trace *trace, const void *base);

/*
 * Asks a thread that runs. trace_take gives the answer once it is there, and trace_forget has none
 * be waited for any more. ask returns false if it can't be asked, or another question is open.
 */
bool trace_ask(pid_t tid);
bool trace_take(struct trace *trace);
void trace_forget(void);

/* Writes the frames from the i-th on, as " program+0x1b2c4" each. Returns which is the next. */
unsigned trace_text(const struct trace *trace, unsigned i, char *buf, size_t size);

#endif
