/*
 * handed.h - hands connections to a server's pool as its acceptor does, without accepting any.
 *
 * A bench in C++ can't include the engine's own headers, which use C's atomics.
 * Threads: any.
 */
#ifndef WEIR_BENCH_HANDED_H
#define WEIR_BENCH_HANDED_H

#include <weir/weir.h>

#ifdef __cplusplus
extern "C" {
#endif

struct connection;

/* A connection for one end of a socketpair(2), which becomes the server's. NULL: no memory. */
struct connection *handed_create(struct weir_server *server, int fd,
                                 const struct weir_handler *handler);

/* Puts it into the ready queue, and calls a worker. The pool runs. */
void handed_over(struct weir_server *server, struct connection *conn);

#ifdef __cplusplus
}
#endif
#endif
