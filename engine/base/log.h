/*
 * log.h - the engine's lines, none of which anybody waits for. They go to standard error, or to the
 * function of weir_set_log (weir.h), which is implemented here.
 *
 * Standard error may be a pipe that nobody reads or a terminal that was stopped, and write(2) then
 * waits for ever; O_NONBLOCK would be every process's that has the same file open. So a line goes
 * into a ring, and a thread, which is made for the first one, writes it. Where there is no room it
 * is left out; and the lines of each kind have a limit in a period, since a stranger may cause
 * them. What was left out is counted, and told later. The program's function is called
 * by that same thread, without a lock of ours: it may block as standard error does.
 *
 * Threads: any; log_now also signal handlers. After fork(2) a child begins with an empty ring, and
 *          counts with its parent: they share the limit for each kind of line in a period.
 * Owns:    the ring, the thread, and the memory of the counts, which children share.
 * Blocks:  log_close and log_flush, for a second at most.
 */
#ifndef WEIR_LOG_H
#define WEIR_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_kind {
    LOG_FAILURE,            /* of a request */
    LOG_STALL,              /* a handler that holds its worker */
    LOG_CHILD,              /* one that has ended, or can't be had */
    LOG_SHORTAGE,           /* of what the system has */
    LOG_FULL,               /* as many connections as are allowed */
    LOG_OVERLOAD,           /* clients that have waited too long */
    LOG_KINDS,
};

/* A line, without its end, cut where it is too long. The program's name comes before it. */
void log_line(enum log_kind kind, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Around the life of whoever has something to say. When the last one closes, all that was said is
 * written, if it can be, and the thread ends.
 */
void log_open(void);
void log_close(void);

/* Waits until what was said is written: a process is about to end. */
void log_flush(void);

/*
 * For a child that soon ends: its lines are written at once, or left out where there is no room.
 * The program's function is called at once.
 */
void log_alone(void);

/* A child has ended: what it left out is told, when it is time. */
void log_sum_up(void);

/*
 * Writes to standard error, at once, what fits, waiting for wait_ms at most for room; for a process
 * that can't have the thread, and for a program's last words, which no function of its own is
 * trusted with. Async-signal-safe. At most PIPE_BUF bytes. False: there was no room, or nobody to
 * read.
 */
bool log_now(const char *text, size_t len, int wait_ms);

#endif
