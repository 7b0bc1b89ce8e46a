/*
 * load_stream.c - lanes over connections: see load_lane.h.
 *
 * It must be cheap, or the server idles while the generator is the limit: one edge-triggered
 * registration per connection, then one recv, one send and one reading of the clock for as many
 * requests as come back at once. Replies are checked (load_reply.h) where recv left them, in a
 * buffer that all connections share; what a connection keeps is its place in the reply.
 *
 *   a connection      has no descriptor -> connects -> is open -> has no descriptor ...
 *   that is no more   answered its last request, by our wish or the server's: opened again when
 *                     there is something to ask; broken: opened again REST_MS later
 *
 * Requests are numbered: [first, written) have gone out and wait for their replies, [written,
 * begun) are still to be written. All three stay where they are when a connection ends, so what
 * the server has not answered before it closed with notice is simply written again.
 */
#include "tools/load/load_lane.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/load/load_reply.h"
#include "tools/load/load_request.h"

enum {
    RECV_SIZE = 64 * 1024,
    OPENING_MAX = 128,          /* connections under way at once: a backlog is not endless */
    REST_MS = 100,
    TRICKLE_MS = 100,
    READS_MAX = 16,             /* of one connection, then the others and the clock have a turn */
    CHECKS_PER_TIMEOUT = 8,
};

enum role { ASKS, STALLS, TRICKLES };

struct conn {
    int fd;                     /* -1: none */
    enum role role;
    bool opening;
    bool ready;                 /* is in the ring of those that may take a request */
    bool resting;
    bool waits_out;             /* for EPOLLOUT */
    bool ending;                /* all is answered, the server has to close */
    uint32_t run;               /* that it began a request in; see streams.run */
    uint32_t first, written, begun;     /* numbers of requests */
    uint32_t base;              /* the first one of this connection */
    uint32_t part;              /* bytes of the request `written` that have gone out */
    struct reply reply;         /* to the request `first` */
    uint64_t active_ns;         /* when something came or went last */
    uint64_t *times;            /* when requests began, by number & mask */
    struct conn *next;          /* of those that rest */
};

struct streams {
    uint32_t run;               /* counts runs */
    uint32_t total;             /* connections of every role */
    uint32_t opened;            /* of them, opened at least once */
    uint32_t opening;           /* of them, under way now */
    uint64_t waiting;           /* requests under way, of those that ask */
    bool connected;             /* at least once */
    int error;                  /* of the first connection */
    struct pace ramp;
    struct pace trickle;
    uint64_t check_ns;          /* when to look for timeouts next */
    uint32_t mask;              /* of numbers in times */

    uint32_t *ring;             /* conns that may take a request, by index: the open loop's */
    uint32_t ring_head, ring_len;
    struct conn *rest, **rest_end;      /* in the order of their time */

    struct requests requests;
    struct replies replies;
    uint64_t *times;
    char buf[RECV_SIZE];
    struct conn conns[];
};

static bool is_http(const struct lane *lane)
{
    return lane->options->mode == LOAD_HTTP;
}

/* True: connections come and go, and none is open between two runs. */
static bool conn_ends(const struct lane *lane, const struct conn *conn)
{
    return lane->options->per_connection > 0 && conn->role == ASKS;
}

/* Whether this request is its connection's last one. */
static bool is_last(const struct lane *lane, const struct conn *conn, uint32_t number)
{
    return conn_ends(lane, conn) && number - conn->base == lane->options->per_connection - 1;
}

/* ------------------------------------------------------------------ opening ----------- */

/* EPOLLOUT of a Unix socket comes with each read of the peer: it is asked for only when needed. */
static uint32_t events_of(const struct lane *lane, const struct conn *conn)
{
    uint32_t events = EPOLLIN | EPOLLRDHUP | EPOLLET;

    if (lane->address->kind == ADDRESS_IP || conn->waits_out)
        events |= EPOLLOUT;
    return events;
}

static int watch(const struct lane *lane, struct conn *conn, int op)
{
    struct epoll_event event = { .events = events_of(lane, conn), .data.ptr = conn };

    return epoll_ctl(lane->epoll_fd, op, conn->fd, &event) < 0 ? -errno : 0;
}

static int set_waits_out(const struct lane *lane, struct conn *conn, bool waits_out)
{
    if (conn->waits_out == waits_out)
        return 0;
    conn->waits_out = waits_out;
    return lane->address->kind == ADDRESS_IP ? 0 : watch(lane, conn, EPOLL_CTL_MOD);
}

/* The port stays the kernel's choice, made when it knows the peer: or 28,000 would be all. */
static int bind_source(const struct lane *lane, int fd, uint32_t index)
{
    const struct load_options *options = lane->options;
    const struct address *source;
    const int yes = 1;

    if (options->sources_len == 0)
        return 0;
    source = &options->sources[(index * options->threads + lane->number) % options->sources_len];
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof(yes));
    return bind(fd, &source->sa, source->len) < 0 ? -errno : 0;
}

/* Nagle's algorithm would hold back what is sent while something is unanswered. */
static void prepare_socket(const struct lane *lane, const struct conn *conn)
{
    const int yes = 1;

    if (lane->address->kind == ADDRESS_IP &&
        (lane->options->in_flight > 1 || conn->role == TRICKLES))
        setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
}

static int connect_socket(struct lane *lane, struct conn *conn)
{
    const struct address *address = lane->address;
    struct streams *streams = lane->state;
    int r;

    conn->fd = socket(address->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0)
        return -errno;
    r = bind_source(lane, conn->fd, (uint32_t)(conn - streams->conns));
    if (r < 0)
        return r;
    prepare_socket(lane, conn);
    if (connect(conn->fd, &address->sa, address->len) < 0 && errno != EINPROGRESS)
        return -errno;
    conn->waits_out = true;     /* so that a Unix socket tells, too, that it is connected */
    return watch(lane, conn, EPOLL_CTL_ADD);
}

static void conn_close(struct lane *lane, struct conn *conn)
{
    struct streams *streams = lane->state;

    if (conn->fd >= 0)
        close(conn->fd);
    streams->opening -= conn->opening;
    conn->fd = -1;
    conn->opening = conn->ending = false;
    reply_begin(&conn->reply);
}

static void conn_rest(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    struct streams *streams = lane->state;

    conn->resting = true;
    conn->active_ns = now_ns;
    conn->next = NULL;
    *streams->rest_end = conn;
    streams->rest_end = &conn->next;
}

/* Nothing is under way any more; returns how many requests were, of one that asks. */
static uint32_t conn_forget(struct lane *lane, struct conn *conn)
{
    struct streams *streams = lane->state;
    uint32_t under_way = conn->role == ASKS ? conn->begun - conn->first : 0;

    streams->waiting -= under_way;
    conn->first = conn->written = conn->begun;
    conn->part = 0;
    return under_way;
}

/* Gives up what is under way on it. */
static void conn_fail(struct lane *lane, struct conn *conn, enum load_error what, uint64_t now_ns)
{
    lane_failed(lane, what, conn_forget(lane, conn));
    conn_close(lane, conn);
    conn_rest(lane, conn, now_ns);
}

/* A client that stalls or trickles lives as long as the server has patience: that is no error. */
static void conn_hung_up(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    lane->result.hung_up++;
    conn_forget(lane, conn);
    conn_close(lane, conn);
    conn_rest(lane, conn, now_ns);
}

static void conn_open(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    struct streams *streams = lane->state;
    int r = connect_socket(lane, conn);

    conn->base = conn->written = conn->first;
    conn->part = 0;
    conn->active_ns = now_ns;
    if (r == 0) {
        conn->opening = true;
        streams->opening++;
    } else if (r == -EAGAIN && lane->address->kind == ADDRESS_UNIX) {
        conn_close(lane, conn);         /* its backlog is full: no error, but later */
        conn_rest(lane, conn, now_ns);
    } else {
        if (!streams->connected)
            streams->error = r;
        conn_fail(lane, conn, LOAD_CANNOT_CONNECT, now_ns);
    }
}

static void conn_opened(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    struct streams *streams = lane->state;

    conn->opening = false;
    streams->opening--;
    streams->connected = true;
    histogram_add(&lane->result.connect, clock_since(conn->active_ns, now_ns));
    conn->active_ns = now_ns;
    if (set_waits_out(lane, conn, false) < 0)
        conn_fail(lane, conn, LOAD_CANNOT_CONNECT, now_ns);
}

static bool is_open(const struct conn *conn)
{
    return conn->fd >= 0 && !conn->opening;
}

/* ------------------------------------------------------------------ writing ----------- */

/* How many may be written before the one that is to say it is the last. */
static uint32_t before_last(const struct lane *lane, const struct conn *conn)
{
    if (!conn_ends(lane, conn))
        return UINT32_MAX;
    return conn->base + lane->options->per_connection - 1 - conn->written;
}

static void went_out(struct lane *lane, struct conn *conn, size_t len)
{
    const struct streams *streams = lane->state;
    size_t size = request_len(&streams->requests, before_last(lane, conn));

    lane->result.bytes_out += len;
    len += conn->part;
    conn->written += (uint32_t)(len / size);
    conn->part = (uint32_t)(len % size);
}

/* Bytes that went out, at most max, or -errno. */
static ssize_t write_some(struct lane *lane, struct conn *conn, size_t max, uint64_t now_ns)
{
    struct streams *streams = lane->state;
    size_t len;
    const char *text = requests_text(&streams->requests, conn->written,
                                     conn->begun - conn->written, before_last(lane, conn), &len);
    ssize_t n;

    len -= conn->part;
    if (len > max)
        len = max;
    n = send(conn->fd, text + conn->part, len, MSG_NOSIGNAL);
    if (n < 0)
        return -errno;
    conn->active_ns = now_ns;
    went_out(lane, conn, (size_t)n);
    return n;
}

static void conn_write(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    while (conn->written != conn->begun) {
        ssize_t n = write_some(lane, conn, SIZE_MAX, now_ns);

        if (n == -EAGAIN && set_waits_out(lane, conn, true) == 0)
            return;
        if (n < 0) {
            conn_fail(lane, conn, LOAD_CANNOT_SEND, now_ns);
            return;
        }
    }
    set_waits_out(lane, conn, false);
}

/* ------------------------------------------------------------------ asking ------------ */

/* Whether it may take another request, as far as it alone is concerned. */
static bool has_room(const struct lane *lane, const struct conn *conn)
{
    uint32_t under_way = conn->begun - conn->first;

    if (conn->role != ASKS || conn->resting || under_way >= lane->options->in_flight)
        return false;
    if (!conn_ends(lane, conn))
        return is_open(conn);
    return conn->fd < 0 ? under_way < lane->options->per_connection
                        : conn->begun - conn->base < lane->options->per_connection;
}

static bool begin(struct lane *lane, struct conn *conn, uint64_t now_ns, bool first)
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
        write_some(lane, conn, SIZE_MAX, now_ns) > 0)
        conn_opened(lane, conn, lane_clock_ns());
}

/* What was begun goes out, or will when the connection is there. */
static void conn_send(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    if (conn->fd < 0 && conn->begun != conn->first)
        conn_open_and_send(lane, conn, now_ns);
    if (is_open(conn))
        conn_write(lane, conn, now_ns);
}

/*
 * Asks as much as it may. A connection that will not end gets all its requests, once begun, or its
 * share of the cost would be too high.
 */
static void conn_feed(struct lane *lane, struct conn *conn, uint64_t now_ns)
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
    while (has_room(lane, conn) && begin(lane, conn, now_ns, first || goes_on))
        conn->run = streams->run;
    conn_send(lane, conn, now_ns);
}

/* The open loop: what is due, to whom has waited longest. */
static void dispatch(struct lane *lane, uint64_t now_ns)
{
    struct streams *streams = lane->state;

    while (streams->ring_len > 0 && lane_backlog(lane, now_ns) > 0) {
        struct conn *conn = ready_pop(lane);

        if (!has_room(lane, conn) || !begin(lane, conn, now_ns, false))
            continue;
        conn_send(lane, conn, now_ns);
        ready_push(lane, conn);
    }
}

/* ------------------------------------------------------------------ replies ----------- */

/* A connection that ends is opened for a request, any other to be there. */
static void conn_start(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    if (conn_ends(lane, conn)) {
        conn_feed(lane, conn, now_ns);
        return;
    }
    conn_open_and_send(lane, conn, now_ns);
    if (is_open(conn))
        conn_feed(lane, conn, conn->active_ns);
}

/* Done with a connection, and not with asking. What was not answered is asked again. */
static void conn_renew(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    conn_close(lane, conn);
    conn_start(lane, conn, now_ns);
}

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
    bool closes = conn->reply.closes;

    reply_begin(&conn->reply);
    if (is_last(lane, conn, conn->first) && !lane->options->client_closes) {
        conn->ending = true;    /* and only when it has ended, the request is done */
        return true;
    }
    if (is_last(lane, conn, conn->first)) {
        request_done(lane, conn, now_ns);
        conn_renew(lane, conn, now_ns);
        return false;
    }
    request_done(lane, conn, now_ns);
    if (closes) {
        lane->result.reopened++;
        conn_renew(lane, conn, now_ns);
        return false;
    }
    return true;
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
static bool take(struct lane *lane, struct conn *conn, const char *text, size_t len,
                 uint64_t now_ns)
{
    struct streams *streams = lane->state;
    enum load_error error = LOAD_UNASKED;

    lane->result.bytes_in += len;
    conn->active_ns = now_ns;
    while (len > 0) {
        ssize_t n = -1;

        if (!is_asked(lane, conn))
            error = LOAD_UNASKED;
        else
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

    if (conn->role == STALLS || (conn->role == TRICKLES && conn->first == conn->written)) {
        conn_hung_up(lane, conn, now_ns);
        return;
    }
    if (n == 0 && (conn->ending || reply_ends(&streams->replies, &conn->reply))) {
        lane->result.reopened += !conn_ends(lane, conn);
        request_done(lane, conn, now_ns);
        conn_renew(lane, conn, now_ns);
        return;
    }
    conn_fail(lane, conn, n == 0 ? LOAD_CLOSED : LOAD_BROKEN, now_ns);
}

static void conn_read(struct lane *lane, struct conn *conn, uint32_t events)
{
    struct streams *streams = lane->state;
    uint64_t now_ns;
    int reads = 0;
    ssize_t n;

    do {
        if (reads++ == READS_MAX) {
            if (watch(lane, conn, EPOLL_CTL_MOD) < 0)   /* what is still there is told again */
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
        if (conn->role != STALLS && !take(lane, conn, streams->buf, (size_t)n, now_ns))
            return;
        conn_feed(lane, conn, now_ns);
    } while (is_open(conn) &&
             (n == RECV_SIZE || events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)));
}

/* ------------------------------------------------------------------ other clients ----- */

/* The first half of a request, and nothing will follow. */
static void stall(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    const struct streams *streams = lane->state;

    conn->begun++;
    if (write_some(lane, conn, streams->requests.len / 2, now_ns) < 0)
        conn_hung_up(lane, conn, now_ns);
}

static void trickle(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    ssize_t n;

    if (!is_open(conn) || conn->first != conn->written)
        return;
    if (conn->begun == conn->written)
        conn->begun++;
    n = write_some(lane, conn, 1, now_ns);
    if (n < 0 && n != -EAGAIN)
        conn_hung_up(lane, conn, now_ns);
}

/* Each has its turn once in TRICKLE_MS, one after the other. */
static void trickle_all(struct lane *lane, uint64_t now_ns)
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

static void opening_failed(struct lane *lane, struct conn *conn)
{
    struct streams *streams = lane->state;
    socklen_t len = sizeof(int);
    int error = 0;

    getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (!streams->connected)
        streams->error = error ? -error : -ECONNREFUSED;
    conn_fail(lane, conn, LOAD_CANNOT_CONNECT, lane_clock_ns());
}

/* False: it is not open. */
static bool handle_opening(struct lane *lane, struct conn *conn, uint32_t events)
{
    uint64_t now_ns = lane_clock_ns();

    if (events & EPOLLERR)
        opening_failed(lane, conn);
    else if (events & EPOLLOUT)
        conn_opened(lane, conn, now_ns);
    if (!is_open(conn))
        return false;
    if (conn->role == STALLS)
        stall(lane, conn, now_ns);
    else
        conn_feed(lane, conn, now_ns);
    return true;
}

static void handle(struct lane *lane, struct conn *conn, uint32_t events)
{
    if (conn->opening) {
        if (!handle_opening(lane, conn, events))
            return;
    } else if (events & EPOLLOUT && conn->waits_out) {
        conn_write(lane, conn, lane_clock_ns());
    }
    if (is_open(conn) && events & ~(uint32_t)EPOLLOUT)
        conn_read(lane, conn, events);
}

/* ------------------------------------------------------------------ in time ----------- */

/*
 * How many connections are to be opened now. When the time of a run is over they are left for the
 * next; a run without any time opens them all.
 */
static uint64_t openings_due(const struct lane *lane, uint64_t now_ns)
{
    const struct streams *streams = lane->state;
    uint64_t left = streams->total - streams->opened;
    uint64_t due;

    if (now_ns >= lane->deadline_ns && (lane->run_ms > 0 || lane->stopped))
        return 0;
    if (lane->options->ramp_ms == 0)
        return left;
    due = pace_due(&streams->ramp, now_ns);
    return due < left ? due : left;
}

static void open_due(struct lane *lane, uint64_t now_ns)
{
    struct streams *streams = lane->state;
    uint64_t due = openings_due(lane, now_ns);

    for (; due > 0 && streams->opening < OPENING_MAX && !streams->error; due--) {
        streams->ramp.done++;
        conn_start(lane, &streams->conns[streams->opened++], now_ns);
    }
}

static void end_rests(struct lane *lane, uint64_t now_ns)
{
    struct streams *streams = lane->state;

    while (streams->rest && clock_since(streams->rest->active_ns, now_ns) >= LANE_MS(REST_MS) &&
           now_ns < lane->deadline_ns) {
        struct conn *conn = streams->rest;

        streams->rest = conn->next;
        if (!streams->rest)
            streams->rest_end = &streams->rest;
        conn->resting = false;
        conn_start(lane, conn, now_ns);
    }
}

/* Those that trickle take their time to send. */
static bool waits_for_server(const struct conn *conn)
{
    if (conn->fd < 0)
        return false;
    return conn->opening || (conn->role == ASKS && conn->first != conn->begun) ||
           (conn->role == TRICKLES && conn->first != conn->written);
}

static void check_timeouts(struct lane *lane, uint64_t now_ns)
{
    struct streams *streams = lane->state;
    uint64_t timeout_ns = lane_timeout_ns(lane);

    if (now_ns < streams->check_ns)
        return;
    streams->check_ns = now_ns + timeout_ns / CHECKS_PER_TIMEOUT;
    for (uint32_t i = 0; i < streams->opened; i++) {
        struct conn *conn = &streams->conns[i];

        if (!waits_for_server(conn) || clock_since(conn->active_ns, now_ns) < timeout_ns)
            continue;
        if (conn->opening && !streams->connected)
            streams->error = -ETIMEDOUT;
        conn_fail(lane, conn, conn->opening ? LOAD_CANNOT_CONNECT : LOAD_TIMEOUT, now_ns);
    }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When something is to be done next even if nothing happens. */
static uint64_t next_ns(const struct lane *lane, uint64_t now_ns)
{
    const struct streams *streams = lane->state;
    uint64_t at_ns = streams->check_ns;

    if (now_ns < lane->deadline_ns) {
        at_ns = earlier(at_ns, lane->deadline_ns);
        if (streams->rest)
            at_ns = earlier(at_ns, streams->rest->active_ns + LANE_MS(REST_MS));
        if (streams->ring_len > 0)
            at_ns = earlier(at_ns, pace_next_ns(&lane->arrivals));
    }
    if (streams->opened < streams->total && streams->opening < OPENING_MAX &&
        now_ns < lane->deadline_ns)
        at_ns = earlier(at_ns, pace_next_ns(&streams->ramp));
    return earlier(at_ns, pace_next_ns(&streams->trickle));
}

/* ------------------------------------------------------------------ running ----------- */

static void begin_run(struct lane *lane)
{
    struct streams *streams = lane->state;
    uint64_t now_ns = lane_clock_ns();

    streams->run++;
    streams->ring_len = 0;
    streams->check_ns = now_ns + lane_timeout_ns(lane) / CHECKS_PER_TIMEOUT;
    if (streams->ramp.start_ns == 0)
        streams->ramp.start_ns = now_ns;
    streams->trickle.start_ns = now_ns;
    streams->trickle.done = 0;
    for (uint32_t i = 0; i < streams->opened; i++) {
        struct conn *conn = &streams->conns[i];

        conn->ready = false;
        if (!conn->resting)
            conn_feed(lane, conn, now_ns);
    }
}

/* Whatever still moves: an answer without an end would be waited for without one. */
static void give_up(struct lane *lane, uint64_t now_ns)
{
    struct streams *streams = lane->state;

    for (uint32_t i = 0; i < streams->opened; i++) {
        struct conn *conn = &streams->conns[i];

        if (waits_for_server(conn))
            conn_fail(lane, conn, conn->opening ? LOAD_CANNOT_CONNECT : LOAD_TIMEOUT, now_ns);
        else if (conn->role == ASKS && conn->begun != conn->first)
            lane_failed(lane, LOAD_CANNOT_CONNECT, conn_forget(lane, conn));   /* it rests */
    }
}

static bool is_over(struct lane *lane, uint64_t now_ns)
{
    const struct streams *streams = lane->state;

    if (streams->error < 0 || lane->stopped)
        return true;
    if (lane_late(lane, now_ns))
        give_up(lane, now_ns);
    return streams->waiting == 0 && lane_over(lane, now_ns) &&
           (lane->left == 0 || lane->stopped ||
            (streams->opening == 0 && openings_due(lane, now_ns) == 0));
}

static int streams_run(struct lane *lane)
{
    struct epoll_event events[LANE_EVENTS_MAX];
    struct streams *streams = lane->state;
    int n = 0;

    begin_run(lane);
    for (;;) {
        uint64_t now_ns = lane_clock_ns();

        open_due(lane, now_ns);
        end_rests(lane, now_ns);
        trickle_all(lane, now_ns);
        dispatch(lane, now_ns);
        check_timeouts(lane, now_ns);
        if (is_over(lane, now_ns))
            return streams->error;
        n = lane_wait(lane, events, now_ns, next_ns(lane, now_ns));
        if (n < 0)
            return n;
        for (int i = 0; i < n; i++)
            handle(lane, events[i].data.ptr, events[i].events);
    }
}

/* ------------------------------------------------------------------ creating ---------- */

static void prepare_conns(struct lane *lane, struct streams *streams)
{
    uint32_t per_conn = streams->mask + 1;

    for (uint32_t i = 0; i < streams->total; i++) {
        struct conn *conn = &streams->conns[i];

        conn->fd = -1;
        conn->role = i < lane->clients ? ASKS :
                     i < lane->clients + lane->stalled ? STALLS : TRICKLES;
        conn->times = conn->role == ASKS ? &streams->times[(size_t)i * per_conn] : NULL;
        /* Far apart, so that one connection's replies are no good for another. */
        conn->first = (i * lane->options->threads + lane->number) * 2654435761u;
        conn->written = conn->begun = conn->base = conn->first;
    }
}

static int streams_create(struct lane *lane)
{
    const struct load_options *options = lane->options;
    uint32_t total = lane->clients + lane->stalled + lane->trickled;
    struct streams *streams = calloc(1, sizeof(*streams) + total * sizeof(struct conn));
    int r;

    if (!streams)
        return -ENOMEM;
    lane->state = streams;
    streams->rest_end = &streams->rest;
    for (uint32_t size = 1; size < options->in_flight; size *= 2)
        streams->mask = size * 2 - 1;
    streams->times = calloc((size_t)lane->clients * (streams->mask + 1), sizeof(uint64_t));
    streams->ring = calloc(total > 0 ? total : 1, sizeof(uint32_t));
    if (!streams->times || !streams->ring)
        return -ENOMEM;
    streams->ramp = (struct pace){
        .count = options->ramp_ms > 0 ? total : 0, .per_ns = LANE_MS(options->ramp_ms),
    };
    streams->trickle = (struct pace){ .count = lane->trickled, .per_ns = LANE_MS(TRICKLE_MS) };
    streams->total = total;
    prepare_conns(lane, streams);
    r = requests_init(&streams->requests, lane);
    return r < 0 ? r : replies_init(&streams->replies, lane);
}

static void streams_destroy(struct lane *lane)
{
    struct streams *streams = lane->state;

    if (!streams)
        return;
    for (uint32_t i = 0; i < streams->total; i++) {
        if (streams->conns[i].fd >= 0)
            close(streams->conns[i].fd);
        reply_fini(&streams->conns[i].reply);
    }
    free(streams->times);
    free(streams->ring);
    requests_fini(&streams->requests);
    replies_fini(&streams->replies);
    free(streams);
}

const struct lane_kind lane_of_streams = {
    .create = streams_create,
    .run = streams_run,
    .destroy = streams_destroy,
};
