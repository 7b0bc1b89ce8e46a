/*
 * peer.h - what the servers written on other libraries share: a listener, and saying where it is.
 *
 * Threads: one, before it serves.
 */
#ifndef WEIR_BENCH_PEERS_PEER_H
#define WEIR_BENCH_PEERS_PEER_H

/*
 * peer_listen listens at a Unix socket's path, or where that is NULL on 127.0.0.1 at a port that
 * the kernel chooses, with as long a backlog as it allows. Returns a non-blocking socket; where
 * there is none, the process ends.
 */
int peer_listen(const char *name, const char *path);

/* Says on standard error, as weir does, where the listener is: from then on it is measured. */
void peer_announce(const char *name, int fd);

/* Ends the process, with the name and what went wrong. */
_Noreturn void peer_fail(const char *name, const char *what);

#endif
