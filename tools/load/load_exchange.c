/*
 * load_exchange.c - see load_exchange.h.
 *
 * It must be cheap, or the server idles while the generator is the limit: one recv, one send and
 * one reading of the clock for as many requests as come back at once. Replies are checked
 * (load_reply.h) where recv left them, in a buffer that all connections share; what a connection
 * keeps is its place in the reply.
 */
#include "tools/load/load_exchange.h"

#include <errno.h>

enum { READS_MAX = 16 };        /* of one connection, then the others and the clock have a turn */

static bool is_http(const struct lane *lane)
{
    return lane->options->mode == LOAD_HTTP;
}

/* ------------------------------------------------------------------ asking ------------ */

/* Whether it may take another request, as far as it alone is concerned. */
static bool has_room(const struct lane *lane, const struct conn *conn)
{
    uint32_t under_way = conn->begun - conn->first;

    if (conn->role != ASKS || conn->resting || under_way >= lane->options->in_flight)
        return false;
    if (!conn_ends(lane, conn))
        return conn_is_open(conn);
    return conn->fd < 0 ? under_way < lane->options->per_connection
                        : conn->begun - conn->base < lane->options->per_connection;
}

static bool begin_exchange(struct lane *lane, struct conn *conn, uint64_t now_ns, bool first)
{
    struct streams *streams = lane->state;

    if (!lane_begin(lane, now_ns, first, &conn->times[conn->begun & streams->mask]))
        return false;
    conn->begun++;
    streams->waiting++;
    return true;
}

static void ready_push(struct lane *lane, struct conn *conn)
{
    struct streams *streams = lane->state;

    if (conn->ready || !has_room(lane, conn))
        return;
    conn->ready = true;
    streams->ring[(streams->ring_head + streams->ring_len++) % streams->total] =
        (uint32_t)(conn - streams->conns);
}

static struct conn *ready_pop(struct lane *lane)
{
    struct streams *streams = lane->state;
    struct conn *conn = &streams->conns[streams->ring[streams->ring_head]];

    streams->ring_head = (streams->ring_head + 1) % streams->total;
    streams->ring_len--;
    conn->ready = false;
    return conn;
}

/*
 * On loopback a connection is there at once, and a request may follow as it does from a client that
 * blocks in connect: a server that tries to read what it accepted finds it.
 */
static void conn_open_and_send(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    conn_open(lane, conn, now_ns);
    if (conn->opening && conn->role == ASKS && conn->begun != conn->first &&
        conn_write_some(lane, conn, SIZE_MAX, now_ns) > 0)
        conn_opened(lane, conn, lane_clock_ns());
}

/* What was begun goes out, or will when the connection is there. */
static void conn_send(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    if (conn->fd < 0 && conn->begun != conn->first)
        conn_open_and_send(lane, conn, now_ns);
    if (conn_is_open(conn))
        conn_write(lane, conn, now_ns);
}

/*
 * Asks as much as it may. A connection that will not end gets all its requests, once begun, or its
 * share of the cost would be too high.
 */
void exchange_feed(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    const struct streams *streams = lane->state;
    bool first = conn->run != streams->run;
    bool goes_on = conn_ends(lane, conn) && conn->fd >= 0;

    if (conn->role != ASKS)
        return;
    if (lane->arrivals.count > 0) {
        conn_send(lane, conn, now_ns);
        ready_push(lane, conn);
        return;
    }
    while (has_room(lane, conn) && begin_exchange(lane, conn, now_ns, first || goes_on))
        conn->run = streams->run;
    conn_send(lane, conn, now_ns);
}

/* The open loop: gives what is due to the connection that has waited longest. */
void exchange_dispatch(struct lane *lane, uint64_t now_ns)
{
    struct streams *streams = lane->state;

    while (streams->ring_len > 0 && lane_backlog(lane, now_ns) > 0) {
        struct conn *conn = ready_pop(lane);

        if (!has_room(lane, conn) || !begin_exchange(lane, conn, now_ns, false))
            continue;
        conn_send(lane, conn, now_ns);
        ready_push(lane, conn);
    }
}

/* A connection that ends is opened for a request, any other to be there. */
void exchange_start(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    if (conn_ends(lane, conn)) {
        exchange_feed(lane, conn, now_ns);
        return;
    }
    conn_open_and_send(lane, conn, now_ns);
    if (conn_is_open(conn))
        exchange_feed(lane, conn, conn->active_ns);
}

/* Done with a connection, and not with asking. What was not answered is asked again. */
static void conn_renew(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    conn_close(lane, conn);
    exchange_start(lane, conn, now_ns);
}

/* ------------------------------------------------------------------ replies ----------- */

static void request_done(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    struct streams *streams = lane->state;

    lane->reply_len = streams->replies.last_len;
    if (conn->role == ASKS) {
        lane_answered(lane, conn->times[conn->first & streams->mask], now_ns);
        streams->waiting--;
    } else {
        lane->result.trickled++;
    }
    conn->first++;
}

/* A reply is there in full. False: the connection is not the one it was. */
static bool reply_done(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    bool last = conn_is_last(lane, conn, conn->first);
    bool closes = conn->reply.closes;

    reply_begin(&conn->reply);
    if (last && !lane->options->client_closes) {
        conn->ending = true;    /* and only when it has ended, the request is done */
        return true;
    }
    request_done(lane, conn, now_ns);
    if (!last && !closes)
        return true;
    lane->result.reopened += !last;
    conn_renew(lane, conn, now_ns);
    return false;
}

/* Whether the server owes anything. */
static bool is_asked(const struct lane *lane, const struct conn *conn)
{
    if (conn->ending)
        return false;
    return conn->first != conn->written || (!is_http(lane) && conn->part > conn->reply.got);
}

/* Of a line that is still being written, what has gone out may already come back. */
static size_t gone_out(const struct streams *streams, const struct conn *conn)
{
    return conn->first == conn->written ? conn->part : streams->requests.len;
}

/* What was received. False: the connection is not the one it was. */
static bool take_answer(struct lane *lane, struct conn *conn, const char *text, size_t len,
                        uint64_t now_ns)
{
    struct streams *streams = lane->state;

    lane->result.bytes_in += len;
    conn->active_ns = now_ns;
    while (len > 0) {
        enum load_error error = LOAD_UNASKED;
        ssize_t n = -1;

        if (is_asked(lane, conn))
            n = reply_take(&streams->replies, &conn->reply, conn->first, gone_out(streams, conn),
                           text, len, &error);
        if (n < 0 && conn->role == TRICKLES && conn->part > 0) {
            conn_hung_up(lane, conn, now_ns);
            return false;
        }
        if (n < 0) {
            conn_fail(lane, conn, error, now_ns);
            return false;
        }
        text += n;
        len -= (size_t)n;
        if (reply_complete(&streams->replies, &conn->reply) && !reply_done(lane, conn, now_ns))
            return false;
    }
    return true;
}

/* The server has closed (n is 0), or the connection broke. */
static void conn_ended(struct lane *lane, struct conn *conn, ssize_t n, uint64_t now_ns)
{
    struct streams *streams = lane->state;
    enum load_error error = LOAD_BROKEN;

    if (conn->role == STALLS || (conn->role == TRICKLES && conn->first == conn->written)) {
        conn_hung_up(lane, conn, now_ns);
        return;
    }
    if (n == 0 && (conn->ending || reply_ends(&streams->replies, &conn->reply, &error) == 0)) {
        lane->result.reopened += !conn_ends(lane, conn);
        request_done(lane, conn, now_ns);
        conn_renew(lane, conn, now_ns);
        return;
    }
    conn_fail(lane, conn, error, now_ns);
}

static void conn_read(struct lane *lane, struct conn *conn, uint32_t events)
{
    struct streams *streams = lane->state;
    uint64_t now_ns;
    int reads = 0;
    ssize_t n;

    do {
        if (reads++ == READS_MAX) {
            if (conn_watch(lane, conn, EPOLL_CTL_MOD) < 0)   /* what is still there is told again */
                conn_fail(lane, conn, LOAD_BROKEN, lane_clock_ns());
            return;
        }
        n = recv(conn->fd, streams->buf, RECV_SIZE, 0);
        if (n < 0 && errno == EAGAIN)
            break;
        now_ns = lane_clock_ns();
        if (n <= 0) {
            conn_ended(lane, conn, n, now_ns);
            return;
        }
        if (conn->role != STALLS && !take_answer(lane, conn, streams->buf, (size_t)n, now_ns))
            return;
        exchange_feed(lane, conn, now_ns);
    } while (conn_is_open(conn) &&
             (n == RECV_SIZE || events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)));
}

/* ------------------------------------------------------------------ other clients ----- */

/* The first half of a request, and nothing will follow. */
static void stall(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    const struct streams *streams = lane->state;

    conn->begun++;
    if (conn_write_some(lane, conn, streams->requests.len / 2, now_ns) < 0)
        conn_hung_up(lane, conn, now_ns);
}

static void trickle(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    ssize_t n;

    if (!conn_is_open(conn) || conn->first != conn->written)
        return;
    if (conn->begun == conn->written)
        conn->begun++;
    n = conn_write_some(lane, conn, 1, now_ns);
    if (n < 0 && n != -EAGAIN)
        conn_hung_up(lane, conn, now_ns);
}

/* Each has its turn once in TRICKLE_MS, one after the other. */
void exchange_trickle(struct lane *lane, uint64_t now_ns)
{
    struct streams *streams = lane->state;
    struct conn *first = &streams->conns[lane->clients + lane->stalled];
    uint64_t due = pace_due(&streams->trickle, now_ns);
    uint64_t turns = due < lane->trickled ? due : lane->trickled;

    for (uint64_t i = 0; i < turns; i++)
        trickle(lane, &first[(streams->trickle.done + i) % lane->trickled], now_ns);
    streams->trickle.done += due;
}

/* ------------------------------------------------------------------ events ------------ */

/* False: it is not open. */
static bool handle_opening(struct lane *lane, struct conn *conn, uint32_t events)
{
    uint64_t now_ns = lane_clock_ns();

    if (events & EPOLLERR)
        conn_open_failed(lane, conn);
    else if (events & EPOLLOUT)
        conn_opened(lane, conn, now_ns);
    if (!conn_is_open(conn))
        return false;
    if (conn->role == STALLS)
        stall(lane, conn, now_ns);
    else
        exchange_feed(lane, conn, now_ns);
    return true;
}

void exchange_handle(struct lane *lane, struct conn *conn, uint32_t events)
{
    if (conn->opening) {
        if (!handle_opening(lane, conn, events))
            return;
    } else if (events & EPOLLOUT && conn->waits_out) {
        conn_write(lane, conn, lane_clock_ns());
    }
    if (conn_is_open(conn) && events & ~(uint32_t)EPOLLOUT)
        conn_read(lane, conn, events);
}
