/*
 * rfile.h - what the engine itself asks of a request's rfile; weir.h has the handlers' calls.
 *
 * Threads: the fiber's.
 * Owns:    the buffer, while something is in it.
 * Parks:   only rfile_has_more, for the rest of what its handler has left.
 */
#ifndef WEIR_RFILE_H
#define WEIR_RFILE_H

#include "engine/pool/transport.h"
#include "engine/stream/request.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * The system call of a plain connection's read is made inside the function that needs it (syscall.h
 * says why); rfile_received sees to what came of it, n. rfile_receive_by_table does both for the
 * others.
 */
ssize_t rfile_received(struct weir_request *req, size_t room, ssize_t n);
ssize_t rfile_receive_by_table(struct weir_request *req, size_t room);

/* Into what room the buffer has: bytes, 0 at end of file, -EAGAIN, or an error that stays. */
static WEIR_ALWAYS_INLINE ssize_t rfile_receive(struct weir_request *req)
{
    struct rfile *rfile = &req->rfile;
    size_t room = rfile->size - rfile->end;

    if (!transport_is_plain(req->conn))
        return rfile_receive_by_table(req, room);
    return rfile_received(req, room, sys_recv(req->conn->fd, rfile->data + rfile->end, room));
}

/* A read buffer for a request that has none. False: no memory. */
static inline bool rfile_open(struct weir_request *req)
{
    struct buffers *buffers = &req->task->worker->rbufs;

    req->rfile.data = buffers_get(buffers);
    if (!req->rfile.data)
        return false;
    req->rfile.size = buffers->size;
    return true;
}

/*
 * Looks for input that no event will announce: reads from the socket if nothing is buffered. All
 * gathered output must have been sent before. Returns true if the handler must be called again,
 * false if the connection may be kept.
 */
bool rfile_has_more(struct weir_request *req);

/* Returns true if input is buffered. */
static inline bool rfile_holds_any(const struct weir_request *req)
{
    return req->rfile.start < req->rfile.end;
}

/* Lets go of a buffer that holds nothing. */
void rfile_let_go(struct weir_request *req);
void rfile_fini(struct weir_request *req);

#endif
