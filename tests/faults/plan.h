/*
 * plan.h - which call of the engine fails, and how.
 *
 * The calls of a kind are counted in the order in which they are made, by all threads and children
 * of a trial. One of them fails: the n-th of its kind, once.
 *
 * Threads: any. The plan is written between two trials.
 * Owns:    nothing. The plan is in memory that the children of a trial share.
 */
#ifndef WEIR_TESTS_FAULTS_PLAN_H
#define WEIR_TESTS_FAULTS_PLAN_H

#include <stdbool.h>
#include <stddef.h>

enum call {
    ACCEPT4, ALIGNED_ALLOC, BIND, CALLOC, CHMOD, CHOWN, CONNECT, EPOLL_CREATE1, EPOLL_CTL,
    EPOLL_WAIT, EVENTFD, FCNTL, FDOPEN, FOPEN, FORK, FSTAT, GETPEERNAME, GETRANDOM, GETRLIMIT,
    GETSOCKNAME, GETSOCKOPT, IOCTL, LISTEN, LSTAT, MADVISE, MALLOC, MMAP, MPROTECT, OPEN,
    PIDFD_OPEN, POLL, PREAD, PTHREAD_CREATE, READ, REALLOC, REALLOCARRAY, RECVFROM, RECVMMSG,
    RECVMSG, SCHED_GETAFFINITY, SENDFILE, SENDMMSG, SENDMSG, SENDTO, SETSOCKOPT, SHUTDOWN,
    SIGACTION, SIGALTSTACK, SOCKET, STRDUP, SYSCALL, TIMERFD_CREATE, UNLINK, WAITID, WRITE, CALLS,
};

enum { ERRORS_MAX = 12 };

/* The errors of each kind that its man page names and that a server may meet; 0 behind the last. */
extern const struct call_kind {
    const char *name;
    int errors[ERRORS_MAX];
} call_kinds[CALLS];

struct plan_balance {
    long blocks;                    /* allocated and not freed */
    long mapped;                    /* bytes that are mapped and not unmapped */
};

struct plan {
    _Atomic bool armed;             /* calls are counted, and the one of the plan fails */
    _Atomic bool struck;            /* it has */
    enum call call;
    int error;                      /* 0: none fails */
    int nth;
    _Atomic int made[CALLS];
    const char *_Atomic phase;      /* of the server's life */
    struct plan_balance rest;       /* that a life without a fault leaves */
    char complaint[400];            /* of the trial */
};

extern struct plan *plan;

/* The calls of this thread are the test's own, and neither counted nor fail. */
extern _Thread_local bool is_spared;

/* What this process has now. */
struct plan_balance plan_balance(void);

#endif
