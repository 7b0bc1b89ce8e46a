/*
 * wfile.h - what the engine itself asks of a request's wfile; weir.h has the handlers' calls.
 *
 * Threads: the fiber's.
 * Owns:    the buffer, while something is gathered in it.
 * Parks:   wfile_flush and wfile_flush_until, until the peer has taken all.
 */
#ifndef WEIR_WFILE_H
#define WEIR_WFILE_H

#include "engine/pool/transport.h"
#include "engine/stream/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The system call of a plain connection's flush is made inside the function that needs it
 * (syscall.h says why); wfile_sent sees to what came of it, n. wfile_flush_by_table does both for
 * the others.
 */
int wfile_sent(struct weir_request *req, ssize_t n, int flags);
int wfile_flush_by_table(struct weir_request *req, int flags);

/* weir_flush; flags as for sys_send_with. */
static WEIR_ALWAYS_INLINE int wfile_flush(struct weir_request *req, int flags)
{
    struct wfile *wfile = &req->wfile;

    if (wfile->error || wfile->len == 0)
        return wfile->error;
    if (!transport_is_plain(req->conn))
        return wfile_flush_by_table(req, flags);
    return wfile_sent(req, sys_send_with(req->conn->fd, wfile->data, wfile->len, flags), flags);
}

/* Returns true if something is gathered that could be sent. */
static inline bool wfile_unsent(const struct weir_request *req)
{
    return req->wfile.len > 0 && transport_sends(req->conn);
}

/* Sends of what is gathered all that goes without a wait. An error stays, for the next write. */
void wfile_push(struct weir_request *req);

/* weir_flush that gives up when deadline_ms has passed. */
int wfile_flush_until(struct weir_request *req, uint64_t deadline_ms);

/* Gives away what is gathered. NULL: nothing. */
char *wfile_take(struct weir_request *req, size_t *ret_len, size_t *ret_size);
void wfile_fini(struct weir_request *req);

#endif
