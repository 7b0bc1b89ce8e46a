/*
 * load_conn.h - a connection of a load, and what all of a lane have in common.
 *
 *   a connection      has no descriptor -> connects -> is open -> has no descriptor ...
 *   that is no more   answered its last request, by our wish or the server's: opened again when
 *                     there is something to ask; broken: opened again REST_MS later
 *
 * Requests are numbered: [first, written) have gone out and wait for their replies, [written,
 * begun) are still to be written. All three stay where they are when a connection ends, so what
 * the server has not answered before it closed with notice is simply written again.
 *
 * Here is a connection's life, from opening it to its end, and what goes out by it. What it asks is
 * load_exchange.h's, and when it is opened load_stream.c's.
 *
 * Threads: the lane's.
 */
#ifndef WEIR_LOAD_CONN_H
#define WEIR_LOAD_CONN_H

#include "tools/load/load_lane.h"
#include "tools/load/load_reply.h"
#include "tools/load/load_request.h"

enum { RECV_SIZE = 64 * 1024 };

enum role { ASKS, STALLS, TRICKLES };

struct conn {
    int fd;                     /* -1: none */
    enum role role;
    bool opening;
    bool ready;                 /* is in the ring of those that may take a request */
    bool resting;
    bool waits_out;             /* for EPOLLOUT */
    bool ending;                /* all is answered, the server has to close */
    uint32_t run;               /* that it began a request in; see streams.run */
    uint32_t first, written, begun;     /* numbers of requests */
    uint32_t base;              /* the first one of this connection */
    uint32_t part;              /* bytes of the request `written` that have gone out */
    struct reply reply;         /* to the request `first` */
    uint64_t active_ns;         /* when something came or went last */
    uint64_t *times;            /* when requests began, by number & mask */
    struct conn *next;          /* of those that rest */
};

struct streams {
    uint32_t run;               /* counts runs */
    uint32_t total;             /* connections of every role */
    uint32_t opened;            /* of them, opened at least once */
    uint32_t opening;           /* of them, under way now */
    uint64_t waiting;           /* requests under way, of those that ask */
    bool connected;             /* at least once */
    int error;                  /* of the first connection */
    struct pace ramp;
    struct pace trickle;
    uint64_t check_ns;          /* when to look for timeouts next */
    uint32_t mask;              /* of numbers in times */

    uint32_t *ring;             /* conns that may take a request, by index: the open loop's */
    uint32_t ring_head, ring_len;
    struct conn *rest, **rest_end;      /* in the order of their time */

    struct requests requests;
    struct replies replies;
    uint64_t *times;
    char buf[RECV_SIZE];
    struct conn conns[];
};

/* True: connections come and go, and none is open between two runs. */
static inline bool conn_ends(const struct lane *lane, const struct conn *conn)
{
    return lane->options->per_connection > 0 && conn->role == ASKS;
}

/* Whether this request is its connection's last one. */
static inline bool conn_is_last(const struct lane *lane, const struct conn *conn, uint32_t number)
{
    return conn_ends(lane, conn) && number - conn->base == lane->options->per_connection - 1;
}

static inline bool conn_is_open(const struct conn *conn)
{
    return conn->fd >= 0 && !conn->opening;
}

/* Opens it: it connects then, or rests. */
void conn_open(struct lane *lane, struct conn *conn, uint64_t now_ns);

/* It is connected. (Where that can't be told to the kernel it has failed: ask conn_is_open.) */
void conn_opened(struct lane *lane, struct conn *conn, uint64_t now_ns);

void conn_open_failed(struct lane *lane, struct conn *conn);
void conn_close(struct lane *lane, struct conn *conn);

/* Nothing is under way any more. Returns how many requests were, of one that asks. */
uint32_t conn_forget(struct lane *lane, struct conn *conn);

/* Closes it, to be opened again; conn_fail counts what is under way on it as errors. */
void conn_fail(struct lane *lane, struct conn *conn, enum load_error what, uint64_t now_ns);
void conn_hung_up(struct lane *lane, struct conn *conn, uint64_t now_ns);

/* By EPOLL_CTL_MOD, what is there already is told again. Returns 0 or -errno. */
int conn_watch(const struct lane *lane, struct conn *conn, int op);

/* Writes of what was begun. Returns the bytes that went out, at most max, or -errno. */
ssize_t conn_write_some(struct lane *lane, struct conn *conn, size_t max, uint64_t now_ns);

/* Writes it all, now or when there is room; or the connection fails. */
void conn_write(struct lane *lane, struct conn *conn, uint64_t now_ns);

#endif
