/*
 * rfile.c - buffered reading: the calls of weir.h's rfile section.
 *
 * I/O first, park second: a read tries the socket and waits only when there is nothing. When the
 * last read has drained the socket, it doesn't even try: the edge that tells of more is still to
 * come, so a request costs one recv(2).
 *
 * While a fiber waits it holds no buffer, or a small one: ten thousand stalled clients have
 * ten thousand times the bytes that they have sent.
 */
#include "engine/stream/rfile.h"

#include "engine/stream/patience.h"
#include "engine/stream/wfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A waiting remainder up to this fraction of its buffer is moved to a block of its own size. */
#define SMALL_FRACTION 4

/*
 * A full buffer grows towards what the handler has asked for by this factor at most: in few steps,
 * and no peer has memory taken for much more than it has sent.
 */
#define GROWTH_MAX 16

/* ------------------------------------------------------------------ the buffer -------- */

static struct buffers *rbufs(const struct weir_request *req)
{
    return &req->task->worker->rbufs;
}

static size_t buffered(const struct rfile *rfile)
{
    return rfile->end - rfile->start;
}

static void release_rbuf(struct weir_request *req)
{
    struct rfile *rfile = &req->rfile;

    if (WEIR_LIKELY(rfile->size == rbufs(req)->size))
        buffers_put(rbufs(req), rfile->data);
    else
        buffers_put_sized(rbufs(req), rfile->data, rfile->size);
    rfile->data = NULL;
    rfile->size = 0;
}

/* What is buffered, at the start of another block. */
static void move_to(struct weir_request *req, char *data, size_t size)
{
    struct rfile *rfile = &req->rfile;
    size_t len = buffered(rfile);

    if (rfile->data) {
        memcpy(data, rfile->data + rfile->start, len);
        release_rbuf(req);
    }
    rfile->data = data;
    rfile->size = size;
    rfile->start = 0;
    rfile->end = len;
}

/* The size that a full buffer should grow to, for want bytes side by side. */
static size_t larger_size(const struct rfile *rfile, size_t want)
{
    size_t most = want / GROWTH_MAX < rfile->size ? want : rfile->size * GROWTH_MAX;

    return most > rfile->size ? most : rfile->size + 1;
}

/*
 * Room for another byte at least, where the handler waits for want bytes side by side. What is
 * copied stays in proportion to what has arrived, whatever is asked for: a buffer that is full
 * doubles at least, and is only moved within if more has been taken than there is to move.
 */
static int make_room(struct weir_request *req, size_t want)
{
    struct rfile *rfile = &req->rfile;
    size_t usual = rbufs(req)->size;
    size_t size = usual;
    char *data;

    if (rfile->size >= usual && rfile->end < rfile->size)
        return 0;
    if (rfile->size >= usual && rfile->start >= buffered(rfile)) {
        memmove(rfile->data, rfile->data + rfile->start, buffered(rfile));
        rfile->end -= rfile->start;
        rfile->start = 0;
        return 0;
    }
    if (rfile->size < usual)
        data = buffers_get(rbufs(req));
    else
        data = buffers_get_for(rbufs(req), larger_size(rfile, want), &size);
    if (!data)
        return -ENOMEM;
    move_to(req, data, size);
    return 0;
}

void rfile_let_go(struct weir_request *req)
{
    req->rfile.start = 0;
    req->rfile.end = 0;
    if (req->rfile.data)
        release_rbuf(req);
}

/* Before a wait: holds no more than what has arrived, and little more if that is much. */
static void make_small(struct weir_request *req)
{
    struct rfile *rfile = &req->rfile;
    size_t len = buffered(rfile);
    size_t size = len;
    char *data;

    if (!rfile->data)
        return;
    if (len == 0) {
        rfile_let_go(req);
        return;
    }
    if (len > rfile->size / SMALL_FRACTION)
        return;
    /* With some room, or each byte that comes would have all of it copied twice. */
    data = len < rbufs(req)->size ? malloc(len) : buffers_get_for(rbufs(req), len + 1, &size);
    if (data)
        move_to(req, data, size);
}

/* ------------------------------------------------------------------ filling ----------- */

static ssize_t fail_reading(struct rfile *rfile, ssize_t error)
{
    rfile->error = (int)error;
    return error;
}

static void fail_to_receive(struct weir_request *req, ssize_t error)
{
    request_note_end_by_peer(req, (int)error);
    fail_reading(&req->rfile, error);
}

ssize_t rfile_received(struct weir_request *req, size_t room, ssize_t n)
{
    struct rfile *rfile = &req->rfile;
    struct connection *conn = req->conn;

    if (n > 0) {
        rfile->end += (size_t)n;
        rfile->received = true;
        conn->drained = (size_t)n < room;
        tally_add(&req->task->worker->tally, TALLY_BYTES_IN, (uint64_t)n);
        return n;
    }
    if (n == 0)
        rfile->eof = true;
    else if (n == -EAGAIN)
        conn->drained = true;
    else
        fail_to_receive(req, n);
    return n;
}

ssize_t rfile_receive_by_table(struct weir_request *req, size_t room)
{
    struct rfile *rfile = &req->rfile;
    struct connection *conn = req->conn;
    bool more;
    ssize_t n = transport_of(conn)->recv(conn, rfile->data + rfile->end, room, &more);

    n = rfile_received(req, room, n);
    if (more)
        conn->drained = false;
    return n;
}

/* A peer that sends as fast as we read neither keeps the worker nor outruns the deadline. */
static int give_way_reading(struct weir_request *req)
{
    int r = request_give_way(req, EPOLLIN);

    return r < 0 ? (int)fail_reading(&req->rfile, r) : 0;
}

/* What there is now, into room for want bytes side by side: as rfile_receive, or -ENOMEM. */
static WEIR_ALWAYS_INLINE ssize_t receive_more(struct weir_request *req, size_t want)
{
    int r = give_way_reading(req);

    if (r == 0)
        r = make_room(req, want);
    return r < 0 ? r : rfile_receive(req);
}

/* One read, as far as it has had to wait. */
struct reading {
    struct waiting waiting;     /* all of it, set when it first waits */
    bool waits;                 /* ... and it has */
    bool late;                  /* it has passed: a last look finds something, or the read fails */
};

/* Once: what wakes us and brings no input doesn't put it off. */
static void begin_waiting(struct weir_request *req, struct reading *reading)
{
    uint32_t timeout_ms = request_timeout_ms(req, WEIR_TIMEOUT_READ);

    if (reading->waits)
        return;
    reading->waits = true;
    reading->waiting = patience_for_input(req);
    patience_bound(&reading->waiting, request_deadline_ms(req, timeout_ms), CONNECTION_READ_LATE);
}

/*
 * Where others may write, a read does not wait for them: what they have gathered leaves as far as
 * it goes, and an error is told to who writes next.
 */
static int push_gathered(struct weir_request *req)
{
    if (!request_is_written(req))
        wfile_push(req);
    return 0;
}

/* Some may be left, for which there may be room before there is input. */
static uint32_t events_of_read(const struct weir_request *req)
{
    bool pushes = request_has_family(req) && wfile_unsent(req) && !request_is_written(req);

    return pushes ? EPOLLIN | EPOLLOUT : EPOLLIN;
}

/* Until another look is due: 0, or an error. What was written leaves before. */
static int wait_for_input(struct weir_request *req, struct reading *reading)
{
    int r;

    if (WEIR_UNLIKELY(reading->late))
        return (int)fail_reading(&req->rfile, request_timed_out(req, reading->waiting.until_ms,
                                                                reading->waiting.late));
    r = request_has_family(req) ? push_gathered(req) : weir_flush(req);
    if (r < 0)
        return r;
    /* Input ends a wait for room, too, and its edge is not told again: looks once more. */
    if (WEIR_UNLIKELY(!req->conn->drained))
        return 0;
    make_small(req);
    begin_waiting(req, reading);
    r = request_wait(req, events_of_read(req), reading->waiting.until_ms,
                     reading->waiting.since_ms);
    reading->late = r == -ETIMEDOUT;
    if (reading->late)
        req->conn->drained = false;
    return r < 0 && !reading->late ? (int)fail_reading(&req->rfile, r) : 0;
}

/* A body's bytes, and the wait for them, if it waited. */
static void note_body(struct weir_request *req, const struct reading *reading, ssize_t n)
{
    patience_waited(req, &reading->waiting);
    if (n > 0)
        req->patience.came += (uint64_t)n;
}

/*
 * Waits for more. Bytes, 0 at end of file, or an error. As of make_room: want bytes side by side.
 */
static ssize_t fill_rfile(struct weir_request *req, size_t want)
{
    struct rfile *rfile = &req->rfile;
    struct connection *conn = req->conn;
    struct reading reading = { 0 };
    int r;

    if (rfile->error)
        return rfile->error;
    if (rfile->eof)
        return 0;
    do {
        if (!conn->drained || connection_alerted(conn)) {
            ssize_t n = receive_more(req, want);

            if (n != -EAGAIN) {
                if (rfile->timing & TIMING_BODY)
                    note_body(req, &reading, n);
                return n;
            }
        }
        r = wait_for_input(req, &reading);
    } while (r == 0);
    return r;
}

/* Between two calls of handle() the request's deadline was that of an idle one. */
static __attribute__((cold, noinline)) void fail_idle(struct weir_request *req, ssize_t error)
{
    if (error == -ETIMEDOUT && req->conn->late == CONNECTION_REQUEST_LATE)
        req->conn->late = CONNECTION_IDLE_LATE;
    fail_reading(&req->rfile, error);
}

/* The last call of handle() is over, and with it the timeouts that it has set. */
static ssize_t wait_between_calls(struct weir_request *req)
{
    req->rfile.timing = TIMING_REST;
    return fill_rfile(req, 1);
}

bool rfile_has_more(struct weir_request *req)
{
    struct rfile *rfile = &req->rfile;
    struct connection *conn = req->conn;

    if (buffered(rfile) > 0) {
        /* What the handler has looked at and left must grow before it is its turn again. */
        ssize_t n = rfile->taken ? 1 : wait_between_calls(req);

        if (n < 0)
            fail_idle(req, n);
        return true;
    }
    /* The handler has seen the end, or the error, and wants to be kept all the same. */
    if (rfile->eof || rfile->error)
        return false;
    if (conn->drained && !connection_alerted(conn))
        return false;
    if (give_way_reading(req) < 0 || make_room(req, 1) < 0)
        return true;
    return rfile_receive(req) != -EAGAIN;
}

void rfile_fini(struct weir_request *req)
{
    /* A packet keeps what has arrived. */
    if (req->rfile.data && req->rfile.size > 0)
        release_rbuf(req);
}

/* ------------------------------------------------------------------ the calls --------- */

static void take_bytes(struct rfile *rfile, size_t len)
{
    rfile->start += len;
    rfile->scanned = 0;
    rfile->taken = rfile->taken || len > 0;
}

/* The length of the line that ends in the first len bytes, or 0. Looks at no byte twice. */
static size_t line_within(struct rfile *rfile, size_t len)
{
    const char *from;
    const char *end;

    if (len <= rfile->scanned)
        return 0;
    from = rfile->data + rfile->start;
    end = memchr(from + rfile->scanned, '\n', len - rfile->scanned);
    if (end)
        return (size_t)(end - from) + 1;
    rfile->scanned = len;
    return 0;
}

ssize_t weir_readline(struct weir_request *req, char **ret_line, size_t limit)
{
    request_check_reading(req, "weir_readline");
    struct rfile *rfile = &req->rfile;
    size_t len;

    if (limit == 0)
        return -EINVAL;
    for (;;) {
        size_t have = buffered(rfile) < limit ? buffered(rfile) : limit;
        ssize_t n;

        len = line_within(rfile, have);
        if (len > 0)
            break;
        len = have;
        if (have == limit)
            break;
        n = fill_rfile(req, 1);
        if (n < 0)
            return n;
        if (n == 0)
            break;
    }
    if (len == 0)
        return 0;
    *ret_line = rfile->data + rfile->start;
    take_bytes(rfile, len);
    return (ssize_t)len;
}

ssize_t weir_peek(struct weir_request *req, char **ret_data, size_t min)
{
    request_check_reading(req, "weir_peek");
    struct rfile *rfile = &req->rfile;

    while (buffered(rfile) < min) {
        ssize_t n = fill_rfile(req, min);

        if (n < 0)
            return n;
        if (n == 0)
            break;
    }
    *ret_data = buffered(rfile) > 0 ? rfile->data + rfile->start : NULL;
    return (ssize_t)buffered(rfile);
}

void weir_consume(struct weir_request *req, size_t len)
{
    request_check_reading(req, "weir_consume");
    size_t have = buffered(&req->rfile);

    take_bytes(&req->rfile, len < have ? len : have);
}

ssize_t weir_read(struct weir_request *req, void *buf, size_t len)
{
    request_check_reading(req, "weir_read");
    struct rfile *rfile = &req->rfile;

    if (len == 0)
        return 0;
    if (buffered(rfile) == 0) {
        ssize_t n = fill_rfile(req, 1);

        if (n <= 0)
            return n;
    }
    if (len > buffered(rfile))
        len = buffered(rfile);
    memcpy(buf, rfile->data + rfile->start, len);
    take_bytes(rfile, len);
    return (ssize_t)len;
}

ssize_t weir_read_exact(struct weir_request *req, void *buf, size_t len)
{
    request_check_reading(req, "weir_read_exact");
    size_t done = 0;

    while (done < len) {
        ssize_t n = weir_read(req, (char *)buf + done, len - done);

        if (n < 0)
            return n;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int weir_end_input(struct weir_request *req)
{
    request_check_reading(req, "weir_end_input");
    struct rfile *rfile = &req->rfile;

    if (!transport_sends(req->conn))
        return -EOPNOTSUPP;
    take_bytes(rfile, buffered(rfile));
    rfile_let_go(req);
    if (rfile->eof || rfile->error)
        return 0;
    rfile->eof = true;
    /* Its peer has not ended: what it still sends shall cost it nothing of the answer. */
    req->conn->lingers = true;
    rfile->said_end = true;
    transport_of(req->conn)->end_input(req->conn);
    return 0;
}
