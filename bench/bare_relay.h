/*
 * bare_relay.h - the yardstick for handlers that ask another server: each client has a connection
 * of its own to it, and what comes from one side goes to the other.
 */
#ifndef WEIR_BENCH_BARE_RELAY_H
#define WEIR_BENCH_BARE_RELAY_H

/*
 * bare_relay_run listens on 127.0.0.1 at a port that the kernel chooses, calls ready(arg, its URI)
 * and relays to the server at backend, tcp://127.0.0.1:PORT. Returns only if it could not start:
 * -errno.
 */
int bare_relay_run(const char *backend, void (*ready)(void *arg, const char *address), void *arg);

#endif
