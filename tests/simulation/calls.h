/*
 * calls.h - which of the simulated kernel's calls fail, and with what.
 *
 * Threads: one. Blocks: never.
 */
#ifndef WEIR_SIMULATION_CALLS_H
#define WEIR_SIMULATION_CALLS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Once in so many times; 0: never. */
struct calls_faults {
    uint64_t interrupt_in;      /* EINTR of calls that may say so */
    uint64_t accept_in;         /* accept4: ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPERM ... */
    uint64_t watch_in;          /* epoll_ctl, an ADD: ENOMEM, ENOSPC */
    uint64_t open_in;           /* epoll_create1, eventfd, socket: EMFILE, ENFILE, ENOMEM */
    uint64_t map_in;            /* mmap, mprotect: ENOMEM */
    uint64_t file_in;           /* sendfile: EINVAL and others that say that it can't */
    uint64_t send_in;           /* a send takes less than there is room for */
    uint64_t datagram_in;       /* a datagram is not sent: EAGAIN, ENOBUFS, EPERM */
    uint64_t false_alarm_in;    /* an epoll_wait ends early, with nothing */
};

void calls_inject(const struct calls_faults *faults);

/* The second that CLOCK_REALTIME is in. */
time_t calls_time(void);

/* How often each failed, for the sum at the end. */
uint64_t calls_failed(void);

#endif
