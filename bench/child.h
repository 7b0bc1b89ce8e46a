/*
 * child.h - a server in a child process of the bench, so that its CPU time and its memory can be
 * told from the generator's.
 *
 * The child is a fork that goes on with code of the same program: nothing is looked up or
 * executed. Start children before the bench has threads.
 * Threads: any, one at a time per child.
 */
#ifndef WEIR_BENCH_CHILD_H
#define WEIR_BENCH_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include <weir/weir.h>

#include "bench/bare_loop.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CHILD_ANY_CPU = -1 };

/* What weir says of itself, every poll_interval_ms. */
struct child_report {
    struct weir_stats stats;
    uint64_t reaped_ns;                     /* CPU time of child processes that have ended */
    uint64_t renewed;                       /* how often it has said so */
};

struct child {
    pid_t pid;
    char address[WEIR_ADDRESS_SIZE];        /* where it listens, as a URI */
    uint16_t port;                          /* of this address, if it has one */
    clockid_t cpu_clock;
    bool prefork;                           /* it has child processes while it serves */
    volatile struct child_report *report;   /* all zero for the bare loops */
};

/*
 * All start a server whose threads all run on the given CPU, and return once it listens: 0, or
 * -errno. options.listen NULL is tcp://127.0.0.1:0; service_actions and user are the child's own
 * and not looked at.
 */
int child_start_bare_loop(struct child *ret_child, int cpu, enum bare_loop_mode mode,
                          unsigned threads);
int child_start_bare_datagrams(struct child *ret_child, int cpu, int family);
int child_start_weir(struct child *ret_child, int cpu, const struct weir_options *options);

/* Waits until one of the child's stats has a value. False: ten seconds were not enough. */
bool child_settled(volatile const uint64_t *figure, uint64_t wanted);

/*
 * Waits until weir, whose clients are all gone, has noticed: it has no connection, and no process
 * or thread that served one. False: ten seconds were not enough.
 */
bool child_rid_of_clients(const struct child *child);

/*
 * The CPU time that all threads of the child have used, and its own child processes: those that it
 * has reaped, and those that it keeps.
 */
uint64_t child_cpu_ns(const struct child *child);

/* Its resident memory, to the page. 0: the kernel does not tell. */
uint64_t child_resident_bytes(const struct child *child);

/* Ends the child, at once, and reaps it. A zeroed child is fine. */
void child_end(struct child *child);

#ifdef __cplusplus
}
#endif
#endif
