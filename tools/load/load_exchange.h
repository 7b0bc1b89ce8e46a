/*
 * load_exchange.h - what connections ask and what comes back, and the clients that only pretend to.
 *
 * Threads: the lane's.
 */
#ifndef WEIR_LOAD_EXCHANGE_H
#define WEIR_LOAD_EXCHANGE_H

#include "tools/load/load_conn.h"

/* Opens one that has no descriptor: for its first request if it ends, or to be there. */
void exchange_start(struct lane *lane, struct conn *conn, uint64_t now_ns);

/* Asks as much as the connection may; in the open loop it gets into the ring of those that may. */
void exchange_feed(struct lane *lane, struct conn *conn, uint64_t now_ns);

/* The open loop: the connection that has waited longest asks what is due. */
void exchange_dispatch(struct lane *lane, uint64_t now_ns);

/* The clients that trickle send what is due. */
void exchange_trickle(struct lane *lane, uint64_t now_ns);

/* What epoll tells of a connection. */
void exchange_handle(struct lane *lane, struct conn *conn, uint32_t events);

#endif
