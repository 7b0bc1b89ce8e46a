/*
 * bare_listener.h - where the yardsticks listen: at a Unix socket's path or, where that is NULL,
 * at a port of 127.0.0.1.
 *
 * Threads: any.
 */
#ifndef WEIR_BENCH_BARE_LISTENER_H
#define WEIR_BENCH_BARE_LISTENER_H

#include <stdint.h>

enum { BARE_LISTENER_URI_SIZE = 128 };

/*
 * bare_listener_open returns a non-blocking socket, or -errno. Port 0 lets the kernel choose; *port
 * is then the one chosen, which the next listener may share by SO_REUSEPORT.
 */
int bare_listener_open(const char *path, uint16_t *port);

/* An epoll set that tells of clients, edge-triggered, by the listener's descriptor; or -errno. */
int bare_listener_set(int listen_fd);

/* Writes where that is as a URI: BARE_LISTENER_URI_SIZE bytes. */
void bare_listener_uri(const char *path, uint16_t port, char *uri);

#endif
