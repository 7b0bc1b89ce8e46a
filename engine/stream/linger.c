/*
 * linger.c - the end of a connection whose peer might lose what it was sent.
 *
 * What arrives at a TCP socket that was closed, or lies there unread, is answered by a reset; and
 * with it goes what the peer had no room for yet. So where the transport is like that, and somebody
 * may wait, we end our side and throw away what comes, until the peer's kernel has everything: its
 * program may read it at leisure then. A peer that is in the midst of sending hears of our end that
 * way before its next send fails.
 */
#include "engine/stream/request.h"

#include "engine/base/clock.h"
#include "engine/pool/transport.h"

#include <errno.h>

/* A connection lingers for LINGER_MS at most, and for DISCARD_MAX bytes. */
#define LINGER_MS 2000
#define DISCARD_MAX ((size_t)64 << 20)
#define DISCARD_PIECE ((size_t)1 << 20)

/* A peer that has sent something is done if nothing follows within QUIET_MS. */
#define QUIET_MS 200

/* No event tells that the peer's kernel has everything: looked at after 1 ms, 2 ms, ... */
#define LOOK_MAX_MS 64

/*
 * FIRST_WINDOW bytes leave at once: ten segments (RFC 6928). All but the smallest machines have
 * room for them, and to ask for each short answer whether it has arrived would cost more than
 * those machines would gain.
 */
#define FIRST_WINDOW 14600

struct lingering {
    struct weir_request *req;
    bool much;                  /* was sent, to this call or before: some may still be here */
    size_t discarded;
    uint64_t heard_ms;          /* when something was thrown away; 0: nothing was */
};

/* A thread that others need does not linger: what the pool's stacks and WEIR_SERIAL serve. */
static bool may_wait(const struct task *task)
{
    return task->fiber || (task->worker->alone && task->worker->alone->lingers);
}

/* Behind the end that the handler has told all that was written before may still be on its way. */
static bool has_failed(const struct weir_request *req)
{
    int error = req->wfile.error;

    return req->rfile.error || (error && !request_is_own_end(req, error));
}

static bool may_lose(const struct weir_request *req)
{
    const struct connection *conn = req->conn;

    if (has_failed(req) || !transport_of(conn)->resets)
        return false;
    if (req->rfile.eof && !req->rfile.said_end)
        return false;
    return req->wfile.sent > FIRST_WINDOW || connection_may_have_input(conn) || conn->lingers;
}

/* Throws away what is there. False: nothing more will come, or too much has. */
static bool discard(struct lingering *lingering)
{
    struct connection *conn = lingering->req->conn;
    ssize_t n;

    while ((n = transport_of(conn)->discard(conn, DISCARD_PIECE)) > 0) {
        lingering->heard_ms = clock_ms();
        lingering->discarded += (size_t)n;
        if (lingering->discarded >= DISCARD_MAX || request_give_way(lingering->req, EPOLLIN) < 0)
            return false;
    }
    return n == -EAGAIN;
}

static bool lingering_is_over(const struct lingering *lingering, uint64_t now_ms)
{
    struct connection *conn = lingering->req->conn;

    if (conn->ousted)
        return true;
    /* Its handler knows of more that may come, after a pause of any length: only its end ends. */
    if (conn->lingers)
        return false;
    if (!lingering->much && lingering->heard_ms == 0)
        return true;
    if (lingering->heard_ms != 0 && now_ms - lingering->heard_ms < QUIET_MS)
        return false;
    return transport_of(conn)->unsent(conn) == 0;
}

void weir_linger(struct weir_request *req)
{
    request_check(req, "weir_linger");
    req->conn->lingers = true;
}

void request_linger(struct weir_request *req)
{
    struct lingering lingering = { .req = req, .much = req->wfile.sent > FIRST_WINDOW };
    uint64_t now_ms = 0, until_ms = 0, look_at_ms;
    uint32_t look_ms = 1;
    int r = 0;

    if (WEIR_LIKELY(!may_lose(req)) || !may_wait(req->task))
        return;
    /* Of an earlier wait: a read or write that it has ended would have failed, and lose nothing. */
    req->conn->ousted = false;
    /* A client that sees the end may come again at once, and must find that it has left. */
    worker_count_end(req->task->worker, req->conn);
    connection_end_output(req->conn);
    while ((r == 0 || r == -ETIMEDOUT) && discard(&lingering)) {
        now_ms = clock_ms();
        if (until_ms == 0)
            until_ms = now_ms + LINGER_MS;
        if (now_ms >= until_ms || lingering_is_over(&lingering, now_ms))
            return;
        /* For a peer that may still be sending there is nothing to look at but what comes. */
        look_at_ms = req->conn->lingers ? until_ms : clock_earlier(until_ms, now_ms + look_ms);
        /* Its client has kept it waiting since then, however often we have looked. */
        r = request_wait(req, EPOLLIN, look_at_ms + 1, until_ms - LINGER_MS);
        if (look_ms < LOOK_MAX_MS)
            look_ms *= 2;
    }
}
