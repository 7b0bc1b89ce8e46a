/*
 * statistics.h - the one list of what weir counts. The kinds of a tally, struct weir_stats, its
 * sums over threads and processes, and weir_stats_field follow it.
 *
 * A new statistic is a member of struct weir_stats, at its end, and a line here:
 *
 *   TALLIED(KIND, member, meaning)   threads count it, each in its tally (tally.h) as TALLY_KIND
 *   COUNTED(member, meaning)         counted, but elsewhere: server/stats.c asks for it
 *   NOW(member, meaning)             no count, but how many there are at this moment
 *
 * Threads: any; no state but the arguments.
 * Owns:    nothing.
 * Blocks:  never.
 */
#ifndef WEIR_STATISTICS_H
#define WEIR_STATISTICS_H

#define STATISTICS(TALLIED, COUNTED, NOW) \
    TALLIED(ACCEPTED, accepted, "connections and datagrams taken from the kernel or the program") \
    TALLIED(REFUSED, refused, "connections refused by rules, limits, or for want of memory") \
    TALLIED(HANDLED, handled, "calls of handle that returned") \
    TALLIED(CLOSED, closed, "connections ended") \
    NOW(active, "connections open") \
    NOW(idle, "connections kept between two requests, or before the first") \
    NOW(parked, "connections whose handler waits for its peer") \
    NOW(queued, "connections that are ready and wait for a worker") \
    NOW(running, "connections whose handler is at work") \
    TALLIED(SETUP_ERRORS, setup_errors, "calls of setup that failed") \
    TALLIED(HANDLE_ERRORS, handle_errors, "calls of handle that failed") \
    TALLIED(FINISH_ERRORS, finish_errors, "calls of finish that failed, or replies not sent") \
    TALLIED(VERIFY_ERRORS, verify_errors, "calls of verify_request that failed") \
    TALLIED(TIMEOUTS, timeouts, "deadlines that passed") \
    TALLIED(CANCELLED, cancelled, "handlers ended by a cancellation") \
    TALLIED(ACCEPT_ERRORS, accept_errors, "times that descriptors, memory or processes ran out") \
    TALLIED(BYTES_IN, bytes_in, "bytes received") \
    TALLIED(BYTES_OUT, bytes_out, "bytes sent") \
    TALLIED(BUSY_NS, busy_ns, "nanoseconds that workers were not asleep") \
    COUNTED(wakeups, "sleeping workers woken by another thread") \
    TALLIED(RESCUED, rescued, "ready connections taken over from a worker that was stuck") \
    TALLIED(STALLS, stalls, "handlers that held a worker too long") \
    NOW(workers, "workers, threads or children that serve") \
    TALLIED(RESETS, resets, "clients that reset their connection, or left before their answer") \
    TALLIED(NO_MEMORY, no_memory, "connections and datagrams lost for want of memory") \
    TALLIED(FULL, full, "times that accepting paused because there was no room") \
    TALLIED(MADE_ROOM, made_room, "connections ended because others waited") \
    TALLIED(TRUNCATED, truncated, "datagrams that were cut") \
    TALLIED(SHED, shed, "clients turned away since too many waited, or they had waited too long") \
    NOW(offload_queued, "offloaded functions that wait for a thread") \
    NOW(offload_threads, "threads for what is offloaded")

/* For the kinds of lines that a list made of this one has no use for. */
#define STATISTICS_NONE(...)

struct weir_stats;

/* Adds what another process has counted, and what it has at this moment. */
void statistics_add(struct weir_stats *sum, const struct weir_stats *more);

/* Of a process that has ended: all that it accepted is closed, and it has nothing open. */
void statistics_end(struct weir_stats *stats);

#endif
