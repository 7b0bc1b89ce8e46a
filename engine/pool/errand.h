/*
 * errand.h - what a fiber of a worker does that serves no client: a timer's calls.
 *
 * An errand carries a connection of its own, as a packet does, so that whatever serves a connection
 * can run it. That one is in no table and has no descriptor: no event is ever about it.
 *
 * Threads: errand_begin any; the rest the worker's that it was given to.
 * Owns:    nothing: whoever began it does, and end gives it back.
 * Blocks:  never.
 */
#ifndef WEIR_ERRAND_H
#define WEIR_ERRAND_H

#include "engine/base/compiler.h"
#include "engine/pool/connection.h"
#include "engine/sync/inbox.h"

#include <stddef.h>

struct weir_request;
struct worker;

struct errand {
    struct message begin;       /* to its worker */
    void (*run)(struct errand *errand, struct weir_request *req);   /* on a fiber; may park */
    /* Behind it the worker knows nothing of the errand. It was not run if there was no memory. */
    void (*end)(struct errand *errand);
    struct connection conn;     /* last: struct connection ends with an array */
};

/* The errand whose connection it is. */
static inline struct errand *errand_of(struct connection *conn)
{
    return caa_container_of(conn, struct errand, conn);
}

/* Zeroed memory, aligned as struct errand is. handler is a name for messages, and no more. */
void errand_init(struct errand *errand, const struct weir_handler *handler,
                 const struct endpoint *endpoint);

/* The worker's thread takes it on. The worker lives until it has ended. */
void errand_begin(struct errand *errand, struct worker *worker);

#endif
