/*
 * load_stream.c - lanes over connections: see load_lane.h.
 *
 * It must be cheap, or the server idles while the generator is the limit: one edge-triggered
 * registration per connection, then one recv, one send and one reading of the clock per request.
 * Nagle's algorithm may stay: whoever sends here has had its last request answered, and so acked.
 */
#include "bench/load_lane.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { REPLY_SIZE = 512 };      /* longer replies are an error */

static const char http_status[] = "HTTP/1.1 200 ";

struct conn {
    int fd;                     /* -1: broken, or between two connections */
    uint32_t number;            /* of the request under way */
    uint32_t sent;              /* requests on this connection */
    uint32_t got;               /* bytes of the reply */
    bool waiting;               /* for a reply */
    uint64_t sent_ns;
    char reply[REPLY_SIZE];
};

struct request {
    size_t len;
    size_t reply_len;           /* 0: the first reply will tell */
    char text[160];
};

struct streams {
    int epoll_fd;
    uint32_t waiting;           /* connections with a request under way */
    struct request request;
    struct request last;        /* a connection's last one: it says so, if its protocol can */
    char answer[LOAD_LINE_LEN];
    struct conn conns[];
};

/* ------------------------------------------------------------------ connections ------- */

/* True: connections come and go, and none is open between two runs. */
static bool conns_end(const struct lane *lane)
{
    return lane->options->per_connection > 0;
}

static int conn_open(struct lane *lane, struct conn *conn)
{
    const struct address *address = lane->address;
    const struct streams *streams = lane->state;
    struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = conn };
    int fd = socket(address->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (connect(fd, &address->sa, address->len) < 0 ||
        epoll_ctl(streams->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        int r = -errno;

        close(fd);
        return r;
    }
    conn->fd = fd;
    conn->sent = 0;
    return 0;
}

static void conn_close(struct conn *conn)
{
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
}

static void conn_fail(struct lane *lane, struct conn *conn, const char *what)
{
    struct streams *streams = lane->state;

    lane_failed(lane, what);
    streams->waiting -= conn->waiting;
    conn->waiting = false;
    conn_close(conn);
}

/* ------------------------------------------------------------------ requests ---------- */

static bool is_last(const struct lane *lane, const struct conn *conn)
{
    return conns_end(lane) && conn->sent == lane->options->per_connection;
}

static struct request *request_of(const struct lane *lane, const struct conn *conn)
{
    struct streams *streams = lane->state;

    return is_last(lane, conn) ? &streams->last : &streams->request;
}

static void request_send(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    struct streams *streams = lane->state;
    struct request *request;

    if (conn->fd < 0 && conn_open(lane, conn) < 0) {
        conn_fail(lane, conn, "cannot connect");
        return;
    }
    conn->number++;
    conn->sent++;
    conn->got = 0;
    conn->sent_ns = now_ns;
    request = request_of(lane, conn);
    if (lane->options->mode != LOAD_HTTP)
        line_stamp(request->text, conn->number);
    if (send(conn->fd, request->text, request->len, MSG_DONTWAIT | MSG_NOSIGNAL) !=
        (ssize_t)request->len) {
        conn_fail(lane, conn, "a request could not be sent");
        return;
    }
    streams->waiting += !conn->waiting;
    conn->waiting = true;
}

/* The length of an HTTP reply whose head is complete; 0: it is not, or makes no sense. */
static size_t http_reply_len(const char *reply, size_t len)
{
    static const char field[] = "\r\nContent-Length: ";
    const char *end = memmem(reply, len, "\r\n\r\n", 4);
    const char *length;

    if (!end)
        return 0;
    length = memmem(reply, (size_t)(end - reply), field, sizeof(field) - 1);
    if (!length)
        return 0;
    return (size_t)(end + 4 - reply) + strtoul(length + sizeof(field) - 1, NULL, 10);
}

static bool reply_complete(const struct lane *lane, const struct conn *conn)
{
    struct request *request = request_of(lane, conn);

    if (request->reply_len == 0)
        request->reply_len = http_reply_len(conn->reply, conn->got);
    return request->reply_len > 0 && conn->got >= request->reply_len;
}

static bool reply_right(struct lane *lane, const struct conn *conn)
{
    struct streams *streams = lane->state;

    lane->reply_len = request_of(lane, conn)->reply_len;
    if (conn->got != lane->reply_len)
        return false;
    if (lane->options->mode == LOAD_HTTP)
        return memcmp(conn->reply, http_status, sizeof(http_status) - 1) == 0;
    line_stamp(streams->answer, conn->number);
    return memcmp(conn->reply, streams->answer, LOAD_LINE_LEN) == 0;
}

/*
 * A request has been answered in full: count it, and send the next one if there is time. A
 * connection that was begun gets all its requests, or its share of the cost would be too high.
 */
static void reply_done(struct lane *lane, struct conn *conn)
{
    struct streams *streams = lane->state;
    uint64_t now_ns = lane_clock_ns();
    bool goes_on = now_ns < lane->deadline_ns || conns_end(lane);

    lane_answered(lane, conn->sent_ns, now_ns);
    if (is_last(lane, conn)) {
        goes_on = now_ns < lane->deadline_ns;
        conn_close(conn);
    }
    if (goes_on) {
        request_send(lane, conn, now_ns);
        return;
    }
    conn->waiting = false;
    streams->waiting--;
}

static const char *what_broke(ssize_t n)
{
    return n == 0 ? "the server closed a connection" :
           n < 0 ? "a connection broke" : "a reply that nobody asked for";
}

/* After a connection's last reply the server closes it, and only then is the request done. */
static void reply_receive(struct lane *lane, struct conn *conn, uint32_t events)
{
    bool closes = is_last(lane, conn);
    ssize_t n;

    do {
        n = recv(conn->fd, conn->reply + conn->got, sizeof(conn->reply) - conn->got, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n == 0 && closes && reply_complete(lane, conn)) {
            reply_done(lane, conn);
            return;
        }
        if (n <= 0 || !conn->waiting) {
            conn_fail(lane, conn, what_broke(n));
            return;
        }
        conn->got += (uint32_t)n;
        if (reply_complete(lane, conn)) {
            if (!reply_right(lane, conn)) {
                conn_fail(lane, conn, "a wrong reply");
                return;
            }
            if (!closes) {
                reply_done(lane, conn);
                return;
            }
        } else if (conn->got == sizeof(conn->reply)) {
            conn_fail(lane, conn, "a reply too long");
            return;
        }
    } while (events & EPOLLRDHUP);
}

/* ------------------------------------------------------------------ running ----------- */

static void start(struct lane *lane)
{
    struct streams *streams = lane->state;

    for (uint32_t i = 0; i < lane->clients; i++) {
        struct conn *conn = &streams->conns[i];

        if (conn->fd >= 0 || conns_end(lane))
            request_send(lane, conn, lane_clock_ns());
    }
}

static void give_up(struct lane *lane)
{
    struct streams *streams = lane->state;

    for (uint32_t i = 0; i < lane->clients; i++) {
        if (streams->conns[i].waiting)
            conn_fail(lane, &streams->conns[i], "no answer for seconds");
    }
}

static int streams_run(struct lane *lane)
{
    struct epoll_event events[LANE_EVENTS_MAX];
    struct streams *streams = lane->state;

    start(lane);
    while (streams->waiting > 0) {
        int n = epoll_wait(streams->epoll_fd, events, LANE_EVENTS_MAX, LANE_SILENCE_MS);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            give_up(lane);
        for (int i = 0; i < n; i++)
            reply_receive(lane, events[i].data.ptr, events[i].events);
    }
    return 0;
}

static int streams_stall(struct lane *lane)
{
    const struct streams *streams = lane->state;
    size_t half = streams->request.len / 2;

    for (uint32_t i = 0; i < lane->clients; i++) {
        if (send(streams->conns[i].fd, streams->request.text, half, MSG_NOSIGNAL) != (ssize_t)half)
            return errno ? -errno : -EIO;
    }
    return 0;
}

/* ------------------------------------------------------------------ creating ---------- */

static void http_request(struct request *request, const struct lane *lane, const char *connection)
{
    char host[64];

    address_text(&lane->address->sa, lane->address->len, host, sizeof(host));
    request->len = (size_t)snprintf(request->text, sizeof(request->text),
                                    "GET / HTTP/1.1\r\nHost: %s\r\n%s\r\n", host, connection);
}

static void prepare_requests(struct lane *lane)
{
    struct streams *streams = lane->state;

    if (lane->options->mode == LOAD_HTTP) {
        http_request(&streams->request, lane, "");
        http_request(&streams->last, lane, "Connection: close\r\n");
        return;
    }
    line_init(streams->request.text);
    streams->request.len = streams->request.reply_len = LOAD_LINE_LEN;
    streams->last = streams->request;
    line_init(streams->answer);
    line_answer(streams->answer, lane->options->mode);
}

static int streams_create(struct lane *lane)
{
    struct streams *streams = calloc(1, sizeof(*streams) + lane->clients * sizeof(struct conn));

    if (!streams)
        return -ENOMEM;
    lane->state = streams;
    for (uint32_t i = 0; i < lane->clients; i++)
        streams->conns[i].fd = -1;
    prepare_requests(lane);
    streams->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (streams->epoll_fd < 0)
        return -errno;
    for (uint32_t i = 0; !conns_end(lane) && i < lane->clients; i++) {
        int r = conn_open(lane, &streams->conns[i]);

        if (r < 0)
            return r;
    }
    return 0;
}

static void streams_destroy(struct lane *lane)
{
    struct streams *streams = lane->state;

    if (!streams)
        return;
    for (uint32_t i = 0; i < lane->clients; i++)
        conn_close(&streams->conns[i]);
    if (streams->epoll_fd >= 0)
        close(streams->epoll_fd);
    free(streams);
}

const struct lane_kind lane_of_streams = {
    .create = streams_create,
    .run = streams_run,
    .stall = streams_stall,
    .destroy = streams_destroy,
};
