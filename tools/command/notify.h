/*
 * notify.h - tells the service manager how the server is: datagrams to $NOTIFY_SOCKET, as
 * sd_notify(3) describes them. Without the variable nothing is told.
 *
 * Threads: notify_open is the main thread's, before there are others, since the environment is
 *          read and changed. All else: any.
 * Owns:    one descriptor, for as long as the process runs: a server whose descriptors are all in
 *          use still has something to say.
 * Blocks:  for a second at most, while nobody takes what is sent.
 */
#ifndef WEIR_TOOLS_NOTIFY_H
#define WEIR_TOOLS_NOTIFY_H

#include <stdint.h>
#include <sys/types.h>

/*
 * Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and removes them: no process that this one
 * starts speaks for it. Returns after how many milliseconds notify_alive is to be called each time,
 * or UINT32_MAX if nobody waits for it. What is wrong with the variables is a line on standard
 * error: the server is no worse for it.
 */
uint32_t notify_open(void);

/* The server serves: it has begun to, or its rules have been read. */
void notify_ready(void);

/* The rules are being read; notify_ready says when that is over, however it ended. */
void notify_reloading(void);

/* Another process serves, and is to be watched from now on. Nothing is told afterwards. */
void notify_handed_on(pid_t to);

/* The server drains. Nothing is told afterwards. */
void notify_stopping(void);

/* What the watchdog waits for. */
void notify_alive(void);

#endif
