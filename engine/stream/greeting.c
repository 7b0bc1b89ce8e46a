#include "engine/stream/greeting.h"

#include "engine/base/clock.h"
#include "engine/stream/wfile.h"

static int greet(struct weir_request *req)
{
    const struct endpoint *endpoint = req->conn->endpoint;
    int flushed;
    int r;

    if (endpoint->head_timeout_ms > 0)
        req->deadline_ms = clock_ms() + endpoint->head_timeout_ms + 1;
    r = endpoint->greet(req);
    /* What it has written leaves even if it failed: that may say why. */
    flushed = wfile_flush(req, 0);
    req->deadline_ms = 0;
    req->rfile.timing = 0;
    return r < 0 ? r : flushed;
}

/* It was let in as somebody else. */
static int ask_again(struct weir_request *req)
{
    struct connection *conn = req->conn;
    struct sockaddr_storage peer;
    struct access_peer who = { .address = (const struct sockaddr *)&peer, .fd = conn->fd };

    connection_peer(conn, &peer, &who.address_len);
    return admission_ask(req->service->admission, conn->endpoint, &who, &conn->guest,
                         &req->task->worker->tally);
}

int greeting_run(struct weir_request *req)
{
    int r = greet(req);

    return r == 0 && req->conn->moved ? ask_again(req) : r;
}
