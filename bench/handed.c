/*
 * handed.c - see handed.h.
 */
#include "bench/handed.h"

#include "engine/pool/connection.h"
#include "engine/server/server.h"
#include "engine/sync/handoff.h"

struct connection *handed_create(struct weir_server *server, int fd,
                                 const struct weir_handler *handler)
{
    return connection_create(&server->pool->crew.table, fd, NULL, 0, handler,
                             &server->submission);
}

void handed_over(struct weir_server *server, struct connection *conn)
{
    struct handoff *handoff = &server->pool->crew.handoff;

    handoff_put(handoff, conn);
    handoff_call(handoff, 1);
}
