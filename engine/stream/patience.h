/*
 * patience.h - how long a request waits for its client, besides the timeouts of one read or write:
 * until its head has been read, and then for as long as its body or its reply moves.
 *
 * head_timeout_ms is a moment, set at the first wait for input of a call of handle(), and is over
 * with weir_end_head.
 *
 * progress_timeout_ms is a credit. It begins whole; each wait for the client uses it up, and each
 * PATIENCE_STEP bytes that have moved give back all of it, fewer bytes their part. So a client at
 * PATIENCE_STEP bytes in that time or faster is waited for without end, a slower one is not,
 * however evenly its bytes come. What a peer has taken of what was sent is asked of the kernel
 * when a wait for room begins: events come in lumps, and a slow client's may be minutes apart.
 *
 * Where places are short a client goes the sooner the longer it has kept its handler waiting: a
 * head counts since it began, a body or a reply for as long as its credit is used up (room.c). So a
 * byte now and then makes no client look as if it had just begun. Where the timeout is not set a
 * client may be as slow as it likes, and counts anew with each wait.
 *
 * Nothing is counted as long as nothing waits, but the bytes of a body. Streams of weir_connect
 * have no clients, and nothing of this holds for them.
 *
 * Threads: the fiber's.
 * Owns:    nothing: what is left of it is in the request, as far as rfile.timing says.
 * Parks:   no.
 */
#ifndef WEIR_PATIENCE_H
#define WEIR_PATIENCE_H

#include "engine/stream/request.h"

#include <stdbool.h>
#include <stdint.h>

/* As much as a socket's buffer may move at a time: kernels tell of room in lumps of that size. */
#define PATIENCE_STEP_BITS 16
#define PATIENCE_STEP (UINT64_C(1) << PATIENCE_STEP_BITS)

/* One wait for the client. */
struct waiting {
    uint64_t began_ms;          /* 0: it uses no credit up */
    uint64_t until_ms;          /* 0: for ever */
    uint64_t since_ms;          /* the client keeps its handler waiting; 0: from now on */
    enum connection_late late;  /* what has passed then */
};

/* Before a wait for input. */
struct waiting patience_for_input(struct weir_request *req);

/* Before a wait for room, for which there may be no credit any more. */
struct waiting patience_for_room(struct weir_request *req);

static inline bool patience_is_over(const struct waiting *waiting)
{
    return waiting->until_ms != 0 && waiting->until_ms == waiting->began_ms;
}

/* The wait ends at deadline_ms (0: never) at the latest, and then `late` is what has passed. */
static inline void patience_bound(struct waiting *waiting, uint64_t deadline_ms,
                                  enum connection_late late)
{
    if (waiting->until_ms != 0 && (deadline_ms == 0 || deadline_ms > waiting->until_ms))
        return;
    waiting->until_ms = deadline_ms;
    waiting->late = late;
}

/* Behind it. */
void patience_waited(struct weir_request *req, const struct waiting *waiting);

#endif
