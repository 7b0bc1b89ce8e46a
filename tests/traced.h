/*
 * traced.h - a server in a child process, all of whose system calls are counted, except looks at
 * the clock: whether these are calls is the machine's matter.
 *
 * The child is traced (ptrace(2)): it stops before and after each call. So it is slow, and does
 * nothing while it is held; what it does is what it would do anyway.
 *
 * Threads: the test's own. What fails, fails the test.
 */
#ifndef WEIR_TESTS_TRACED_H
#define WEIR_TESTS_TRACED_H

#include "tests/support.h"

#include <sys/syscall.h>

#define TRACED_CALLS 512

/* epoll_wait(2), as the C library asks for it. */
#ifdef SYS_epoll_wait
#define TRACED_EPOLL_WAIT SYS_epoll_wait
#else
#define TRACED_EPOLL_WAIT SYS_epoll_pwait
#endif

struct traced;

/* How often each was called, by all threads. */
struct traced_calls {
    uint64_t by_number[TRACED_CALLS];
    uint64_t all;
};

/* Serves in the child. The server has been created and nothing else: it stays the caller's. */
struct traced *traced_start(struct weir_server *server);
void traced_end(struct traced *traced);

/* Both wait until every thread sleeps, however long. From begin to count: what was called. */
void traced_begin(struct traced *traced);
struct traced_calls traced_count(struct traced *traced);

/* From here on to let_go a thread that makes a system call, or wakes, stays in it. */
void traced_hold(struct traced *traced);
void traced_let_go(struct traced *traced);

#endif
