/*
 * crash.h - says of a handler that crashes who it is, whom it serves and where it is:
 *
 *     weir: SIGSEGV at address 0x8 in handler 'upper', which serves 127.0.0.1:51234
 *     weir:   #0 0x55d0c3a1b2c4 program+0x1b2c4
 *     weir:   #1 0x55d0c3a1b307 program+0x1b307
 *
 * A line is that of a call: the instruction's address, and the file that it is in with the address
 * there, as addr2line(1) wants it. It is told of what runs on a fiber, and of nothing else.
 *
 * Threads: any, on a signal handler's stack; crash_find_peers_by before there is a fiber.
 * Blocks:  for room on standard error, a second at most; a second thread that crashes meanwhile,
 *          until the first has ended the process, for two seconds at most.
 */
#ifndef WEIR_CRASH_H
#define WEIR_CRASH_H

#include <signal.h>
#include <sys/socket.h>

/* Gives the peer of the task that a fiber has been told of. Async-signal-safe. */
typedef void crash_find_peer(const void *task, struct sockaddr_storage *ret);

void crash_find_peers_by(crash_find_peer *find);

/* In a signal handler, before the signal ends the process. Async-signal-safe. */
void crash_tell(int signal_number, const siginfo_t *info, const void *context);

#endif
