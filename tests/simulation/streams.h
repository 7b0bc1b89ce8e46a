/*
 * streams.h - connections and listeners of the simulated kernel: TCP, and Unix sockets.
 *
 * A connection is two streams, one an end. Each end has what it has received and not read. Of that,
 * `window` bytes lie in its own kernel and the rest in the sender's, which can't be told apart but
 * by a reset: that takes away the rest.
 *
 * Of a Unix socket everything lies with the receiver, and stays there whatever the sender does. A
 * close ends both directions at once. Descriptors that are sent along make a read stop behind them.
 *
 * Threads: one. Blocks: never.
 * Owns:    an end is its descriptors', or the client's that has made it, which is no descriptor.
 */
#ifndef WEIR_SIMULATION_STREAMS_H
#define WEIR_SIMULATION_STREAMS_H

#include "tests/simulation/files.h"
#include "tests/simulation/scheduler.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct listener;

struct stream {
    struct file file;
    struct stream *peer;        /* NULL: it is gone, and whatever is sent there is refused */
    struct sockaddr_in name, peer_name;
    unsigned char *data;        /* a ring, of size bytes: a power of two */
    size_t size, window;
    uint64_t received, read;    /* bytes, since the beginning */
    uint64_t sent;
    uint64_t since_ns;          /* when the first byte came that lies here unread */
    uint64_t arrived_ns;        /* when the last one did ... */
    uint64_t sent_ns;           /* ... and when one went the other way */
    uint64_t ended_ns;          /* when the end came */
    int error;                  /* to be told once */
    bool end_received;          /* FIN, or a reset */
    bool end_sent;
    bool was_reset;
    bool wants_room;            /* has found none */
    bool was_refused;           /* its last send has found none ... */
    uint64_t refused_ns;        /* ... as those since then */
    bool peer_lacked_room;      /* the other end has found none here, at least once */
    bool is_accepted;
    bool is_unix;
    uint64_t cut;               /* a read stops behind so many bytes: descriptors came with them */
    bool was_cut;               /* the last one has */
    bool connecting;            /* it has asked, and nobody has answered yet */
    void *user;                 /* the oracle's */
    void (*on_change)(struct stream *stream);   /* a client's: look again */
};

struct streams_options {
    size_t size;                /* of what an end may have received, its peer's buffer included */
    size_t window;
};

void streams_set(const struct streams_options *options);

/*
 * A connection to the listener at that port: the client's end, or NULL: nobody listens, or the
 * backlog is full.
 */
struct stream *stream_connect(uint16_t port, const struct sockaddr_in *name, void *user);

/* Bytes, 0 at the end, or -errno. */
ssize_t stream_receive(struct stream *stream, void *buf, size_t len);
ssize_t stream_send(struct stream *stream, const void *buf, size_t len);
size_t stream_unread(const struct stream *stream);
size_t stream_room(const struct stream *stream);
size_t stream_unsent(const struct stream *stream);

/* There is as much room as Linux tells of by EPOLLOUT. */
bool stream_is_writable(const struct stream *stream);

/* Descriptors come along with the last byte that was sent, if a Unix socket has none on the way. */
void stream_send_descriptors(struct stream *stream);

void stream_end(struct stream *stream);         /* shutdown(2), SHUT_WR */
void stream_reset(struct stream *stream);       /* as a close with SO_LINGER of 0 */

/* A client lets its end go: close(2), or a reset if there is something unread. */
void stream_let_go(struct stream *stream);

/* ---- descriptors ---- */

struct stream *stream_of(int fd);

/*
 * What connects to that port is somebody's who is no part of the server: the call is told of the
 * other end, before the one that connects is. Then stream_establish says that it may; a reset of
 * the other end refuses it.
 */
void streams_answer(uint16_t port, void (*answer)(struct stream *theirs));
void stream_establish(struct stream *theirs);

/* The port of the one Unix socket that there may be, for stream_connect. */
#define STREAMS_UNIX_PORT 10

/* A listening socket, or one that connects: a descriptor or -errno. */
int streams_socket(void);
int streams_bind(int fd, const struct sockaddr *name);
int streams_listen(int fd, int backlog);
int streams_accept(int fd);
int streams_connect(int fd, const struct sockaddr_in *name);

/* What getsockname(2) and getpeername(2) tell: 0 or -errno. */
int streams_name(int fd, struct sockaddr *ret, socklen_t *ret_len);
int streams_peer_name(int fd, struct sockaddr *ret, socklen_t *ret_len);

/* Calls fn for every accepted end that has a descriptor, and every one that has connected. */
void streams_each(void (*fn)(struct stream *stream, void *arg), void *arg);

/* More than so many accepted ends at a time are a failure; 0: as many as there are. */
void streams_accept_at_most(unsigned most);

/* How many clients wait in backlogs. */
unsigned streams_waiting(void);

#endif
