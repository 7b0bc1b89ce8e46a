/*
 * load_conn.c - see load_conn.h.
 */
#include "tools/load/load_conn.h"

#include <errno.h>
#include <netinet/tcp.h>

#include "engine/base/sys.h"

/* ------------------------------------------------------------------ opening ----------- */

/* EPOLLOUT of a Unix socket comes with each read of the peer: it is asked for only when needed. */
static uint32_t events_of(const struct lane *lane, const struct conn *conn)
{
    uint32_t events = EPOLLIN | EPOLLRDHUP | EPOLLET;

    if (lane->address->kind == ADDRESS_IP || conn->waits_out)
        events |= EPOLLOUT;
    return events;
}

int conn_watch(const struct lane *lane, struct conn *conn, int op)
{
    struct epoll_event event = { .events = events_of(lane, conn), .data.ptr = conn };

    return epoll_ctl(lane->epoll_fd, op, conn->fd, &event) < 0 ? -errno : 0;
}

static int set_conn_waits_out(const struct lane *lane, struct conn *conn, bool waits_out)
{
    if (conn->waits_out == waits_out)
        return 0;
    conn->waits_out = waits_out;
    return lane->address->kind == ADDRESS_IP ? 0 : conn_watch(lane, conn, EPOLL_CTL_MOD);
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
    return conn_watch(lane, conn, EPOLL_CTL_ADD);
}

void conn_close(struct lane *lane, struct conn *conn)
{
    struct streams *streams = lane->state;

    sys_close(conn->fd);
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

uint32_t conn_forget(struct lane *lane, struct conn *conn)
{
    struct streams *streams = lane->state;
    uint32_t under_way = conn->role == ASKS ? conn->begun - conn->first : 0;

    streams->waiting -= under_way;
    conn->first = conn->written = conn->begun;
    conn->part = 0;
    return under_way;
}

/* Gives up what is under way on it. */
void conn_fail(struct lane *lane, struct conn *conn, enum load_error what, uint64_t now_ns)
{
    lane_failed(lane, what, conn_forget(lane, conn));
    conn_close(lane, conn);
    conn_rest(lane, conn, now_ns);
}

/* A client that stalls or trickles lives as long as the server has patience: that is no error. */
void conn_hung_up(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    lane->result.hung_up++;
    conn_forget(lane, conn);
    conn_close(lane, conn);
    conn_rest(lane, conn, now_ns);
}

void conn_open(struct lane *lane, struct conn *conn, uint64_t now_ns)
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

void conn_opened(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    struct streams *streams = lane->state;

    conn->opening = false;
    streams->opening--;
    streams->connected = true;
    histogram_add(&lane->result.connect, clock_since(conn->active_ns, now_ns));
    conn->active_ns = now_ns;
    if (set_conn_waits_out(lane, conn, false) < 0)
        conn_fail(lane, conn, LOAD_CANNOT_CONNECT, now_ns);
}

void conn_open_failed(struct lane *lane, struct conn *conn)
{
    struct streams *streams = lane->state;
    socklen_t len = sizeof(int);
    int error = 0;

    getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (!streams->connected)
        streams->error = error ? -error : -ECONNREFUSED;
    conn_fail(lane, conn, LOAD_CANNOT_CONNECT, lane_clock_ns());
}

/* ------------------------------------------------------------------ writing ----------- */

/* How many may be written before the one that is to say it is the last. */
static uint32_t before_last(const struct lane *lane, const struct conn *conn)
{
    if (!conn_ends(lane, conn))
        return UINT32_MAX;
    return conn->base + lane->options->per_connection - 1 - conn->written;
}

static void bytes_went_out(struct lane *lane, struct conn *conn, size_t len)
{
    const struct streams *streams = lane->state;
    size_t size = request_len(&streams->requests, before_last(lane, conn));

    lane->result.bytes_out += len;
    len += conn->part;
    conn->written += (uint32_t)(len / size);
    conn->part = (uint32_t)(len % size);
}

ssize_t conn_write_some(struct lane *lane, struct conn *conn, size_t max, uint64_t now_ns)
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
    bytes_went_out(lane, conn, (size_t)n);
    return n;
}

void conn_write(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    while (conn->written != conn->begun) {
        ssize_t n = conn_write_some(lane, conn, SIZE_MAX, now_ns);

        if (n == -EAGAIN && set_conn_waits_out(lane, conn, true) == 0)
            return;
        if (n < 0) {
            conn_fail(lane, conn, LOAD_CANNOT_SEND, now_ns);
            return;
        }
    }
    set_conn_waits_out(lane, conn, false);
}
