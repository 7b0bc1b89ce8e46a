#include "engine/pool/errand.h"

#include "engine/pool/transport.h"
#include "engine/pool/worker.h"

void errand_init(struct errand *errand, const struct weir_handler *handler,
                 const struct endpoint *endpoint)
{
    struct connection *conn = &errand->conn;

    conn->fd = -1;
    conn->kind = CONNECTION_ERRAND;
    conn->transport = TRANSPORT_NONE;
    conn->family = AF_UNIX;
    conn->handler = handler;
    conn->endpoint = endpoint;
    atomic_init(&conn->state, CONNECTION_QUEUED);
}

static void deliver_begin(struct worker *worker, struct message *message)
{
    worker_start(worker, &caa_container_of(message, struct errand, begin)->conn);
}

void errand_begin(struct errand *errand, struct worker *worker)
{
    errand->begin.deliver = deliver_begin;
    worker_tell_from_afar(worker, &errand->begin);
}
