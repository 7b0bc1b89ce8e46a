/*
 * load.c - see load.h.
 *
 * It must be cheap, or the server idles while the generator is the limit: one edge-triggered
 * registration per connection, then one recv, one send and one reading of the clock per request.
 */
#include "bench/load.h"

#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 256,
    REPLY_SIZE = 512,           /* longer replies are an error */
    SILENCE_MS = 5000,          /* no answer on any connection for so long is an error */
    STAMP_AT = 5,               /* where a line carries its number, as 8 hex digits */
    STAMP_LEN = 8,
};

static const char line_text[LOAD_LINE_LEN + 1] = "weir 00000000 the quick brown f\n";
static const char http_status[] = "HTTP/1.1 200 ";

struct conn {
    int fd;                     /* -1: broken, or between two connections */
    uint32_t number;            /* of the request under way */
    uint32_t got;               /* bytes of its reply */
    bool waiting;               /* for a reply */
    uint64_t sent_ns;
    char reply[REPLY_SIZE];
};

/* One thread's share of the connections. */
struct lane {
    const struct load_options *options;
    struct conn *conns;
    uint32_t conns_len;
    uint32_t waiting;           /* connections with a request under way */
    int epoll_fd;
    int error;                  /* what made it stop, or 0 */
    uint32_t run_ms;
    uint64_t deadline_ns;
    size_t request_len;
    size_t reply_len;           /* 0: the first reply will tell */
    char request[128];
    char expected[LOAD_LINE_LEN];
    pthread_t thread;
    struct load_result result;
};

struct load {
    struct load_options options;
    struct conn *conns;
    struct lane *lanes;
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* -------------------------------------------------------------------- latencies -------- */

/* 32 buckets to each power of two; below 64 ns a bucket is one nanosecond. */
static size_t bucket_of(uint64_t ns)
{
    if (ns < 64)
        return (size_t)ns;

    unsigned shift = 58 - (unsigned)__builtin_clzll(ns);

    return shift * 32 + (size_t)(ns >> shift);
}

static uint64_t bucket_end(size_t bucket)
{
    if (bucket < 64)
        return bucket;

    unsigned shift = (unsigned)(bucket / 32) - 1;

    return ((uint64_t)(bucket - shift * 32 + 1) << shift) - 1;
}

uint64_t load_percentile_ns(const struct load_result *result, double share)
{
    uint64_t wanted = (uint64_t)((double)result->requests * share);
    uint64_t seen = 0;

    for (size_t i = 0; i < LOAD_BUCKETS; i++) {
        seen += result->latency[i];
        if (seen > wanted)
            return bucket_end(i);
    }
    return 0;
}

static void result_add(struct load_result *to, const struct load_result *from)
{
    to->requests += from->requests;
    to->errors += from->errors;
    to->busy_ns += from->busy_ns;
    if (!to->first_error)
        to->first_error = from->first_error;
    for (size_t i = 0; i < LOAD_BUCKETS; i++)
        to->latency[i] += from->latency[i];
}

/* -------------------------------------------------------------------- connections ------ */

static int conn_open(struct lane *lane, struct conn *conn)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        .sin_port = htons(lane->options->port),
    };
    struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = conn };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) < 0 ||
        epoll_ctl(lane->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        int r = -errno;

        close(fd);
        return r;
    }
    conn->fd = fd;
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
    if (!lane->result.first_error)
        lane->result.first_error = what;
    lane->result.errors++;
    lane->waiting -= conn->waiting;
    conn->waiting = false;
    conn_close(conn);
}

/* -------------------------------------------------------------------- requests --------- */

static void stamp(char *line, uint32_t number)
{
    for (int i = STAMP_LEN - 1; i >= 0; i--) {
        line[STAMP_AT + i] = "0123456789ABCDEF"[number & 15];
        number >>= 4;
    }
}

static bool is_http(const struct lane *lane)
{
    return lane->options->mode >= LOAD_HTTP;
}

static void request_send(struct lane *lane, struct conn *conn, uint64_t now_ns)
{
    if (lane->options->mode == LOAD_HTTP_CLOSE && conn_open(lane, conn) < 0) {
        conn_fail(lane, conn, "cannot connect");
        return;
    }
    conn->number++;
    conn->got = 0;
    conn->sent_ns = now_ns;
    if (!is_http(lane))
        stamp(lane->request, conn->number);
    if (send(conn->fd, lane->request, lane->request_len, MSG_DONTWAIT | MSG_NOSIGNAL) !=
        (ssize_t)lane->request_len) {
        conn_fail(lane, conn, "a request could not be sent");
        return;
    }
    lane->waiting += !conn->waiting;
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

static bool reply_complete(struct lane *lane, const struct conn *conn)
{
    if (lane->reply_len == 0)
        lane->reply_len = http_reply_len(conn->reply, conn->got);
    return lane->reply_len > 0 && conn->got >= lane->reply_len;
}

static bool reply_right(struct lane *lane, const struct conn *conn)
{
    if (conn->got != lane->reply_len)
        return false;
    if (is_http(lane))
        return memcmp(conn->reply, http_status, sizeof(http_status) - 1) == 0;
    stamp(lane->expected, conn->number);
    return memcmp(conn->reply, lane->expected, LOAD_LINE_LEN) == 0;
}

/* A request has been answered in full: count it, and send the next one if there is time. */
static void reply_done(struct lane *lane, struct conn *conn)
{
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);

    lane->result.requests++;
    lane->result.latency[bucket_of(now_ns - conn->sent_ns)]++;
    if (lane->options->mode == LOAD_HTTP_CLOSE)
        conn_close(conn);
    if (now_ns < lane->deadline_ns) {
        request_send(lane, conn, now_ns);
        return;
    }
    conn->waiting = false;
    lane->waiting--;
}

/* With a connection per request the server closes first, as Connection: close asks it to. */
static void reply_receive(struct lane *lane, struct conn *conn, uint32_t events)
{
    bool closes = lane->options->mode == LOAD_HTTP_CLOSE;
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
            conn_fail(lane, conn, n == 0 ? "the server closed a connection" :
                                  n < 0 ? "a connection broke" : "a reply that nobody asked for");
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

/* -------------------------------------------------------------------- running ---------- */

static void lane_start(struct lane *lane)
{
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);

    lane->error = 0;
    lane->waiting = 0;
    memset(&lane->result, 0, sizeof(lane->result));
    lane->deadline_ns = now_ns + (uint64_t)lane->run_ms * 1000000u;
    for (uint32_t i = 0; i < lane->conns_len; i++) {
        if (lane->conns[i].fd >= 0 || lane->options->mode == LOAD_HTTP_CLOSE)
            request_send(lane, &lane->conns[i], clock_ns(CLOCK_MONOTONIC));
    }
}

static void lane_silence(struct lane *lane)
{
    for (uint32_t i = 0; i < lane->conns_len; i++) {
        if (lane->conns[i].waiting)
            conn_fail(lane, &lane->conns[i], "no answer for seconds");
    }
}

static void *lane_run(void *arg)
{
    struct lane *lane = arg;
    struct epoll_event events[EVENTS_MAX];
    uint64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);

    lane_start(lane);
    while (lane->waiting > 0) {
        int n = epoll_wait(lane->epoll_fd, events, EVENTS_MAX, SILENCE_MS);

        if (n < 0 && errno != EINTR) {
            lane->error = -errno;
            break;
        }
        if (n == 0)
            lane_silence(lane);
        for (int i = 0; i < n; i++)
            reply_receive(lane, events[i].data.ptr, events[i].events);
    }
    lane->result.busy_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
    return NULL;
}

int load_run(struct load *load, uint32_t ms, struct load_result *result)
{
    uint64_t start_ns = clock_ns(CLOCK_MONOTONIC);
    uint32_t started = 1;
    int error = 0;

    for (uint32_t i = 0; i < load->options.threads; i++)
        load->lanes[i].run_ms = ms;
    for (; started < load->options.threads && error == 0; started++)
        error = -pthread_create(&load->lanes[started].thread, NULL, lane_run,
                                &load->lanes[started]);
    if (error < 0)
        started--;
    lane_run(&load->lanes[0]);
    for (uint32_t i = 0; i < started; i++) {
        if (i > 0)
            pthread_join(load->lanes[i].thread, NULL);
        if (error == 0)
            error = load->lanes[i].error;
        result_add(result, &load->lanes[i].result);
    }
    result->elapsed_ns += clock_ns(CLOCK_MONOTONIC) - start_ns;
    return error;
}

int load_stall(struct load *load)
{
    for (uint32_t i = 0; i < load->options.connections; i++) {
        const struct lane *lane = &load->lanes[0];
        size_t half = lane->request_len / 2;

        if (send(load->conns[i].fd, lane->request, half, MSG_NOSIGNAL) != (ssize_t)half)
            return errno ? -errno : -EIO;
    }
    return 0;
}

size_t load_reply_len(const struct load *load)
{
    return load->lanes[0].reply_len;
}

/* -------------------------------------------------------------------- creating --------- */

static void lane_prepare(struct lane *lane)
{
    if (is_http(lane)) {
        int len = snprintf(lane->request, sizeof(lane->request),
                           "GET / HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n%s\r\n",
                           (unsigned)lane->options->port,
                           lane->options->mode == LOAD_HTTP_CLOSE ? "Connection: close\r\n" : "");

        lane->request_len = (size_t)len;
        return;
    }
    memcpy(lane->request, line_text, LOAD_LINE_LEN);
    memcpy(lane->expected, line_text, LOAD_LINE_LEN);
    if (lane->options->mode == LOAD_UPPER)
        for (size_t i = 0; i < LOAD_LINE_LEN; i++)
            lane->expected[i] = (char)toupper((unsigned char)lane->expected[i]);
    lane->request_len = lane->reply_len = LOAD_LINE_LEN;
}

static int lane_init(struct lane *lane)
{
    lane_prepare(lane);
    lane->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (lane->epoll_fd < 0)
        return -errno;
    for (uint32_t i = 0; lane->options->mode != LOAD_HTTP_CLOSE && i < lane->conns_len; i++) {
        int r = conn_open(lane, &lane->conns[i]);

        if (r < 0)
            return r;
    }
    return 0;
}

int load_create(struct load **ret_load, const struct load_options *options)
{
    struct load *load = calloc(1, sizeof(*load));
    uint32_t next = 0;
    int r = -ENOMEM;

    if (!load)
        return -ENOMEM;
    load->options = *options;
    if (load->options.threads == 0)
        load->options.threads = 1;
    load->conns = calloc(options->connections, sizeof(*load->conns));
    load->lanes = calloc(load->options.threads, sizeof(*load->lanes));
    if (!load->conns || !load->lanes)
        goto fail;
    for (uint32_t i = 0; i < options->connections; i++)
        load->conns[i].fd = -1;
    for (uint32_t i = 0; i < load->options.threads; i++)
        load->lanes[i].epoll_fd = -1;

    for (uint32_t i = 0; i < load->options.threads; i++) {
        struct lane *lane = &load->lanes[i];

        lane->options = &load->options;
        lane->conns = load->conns + next;
        lane->conns_len = (options->connections - next) / (load->options.threads - i);
        next += lane->conns_len;
        r = lane_init(lane);
        if (r < 0)
            goto fail;
    }
    *ret_load = load;
    return 0;
fail:
    load_destroy(load);
    return r;
}

void load_destroy(struct load *load)
{
    if (!load)
        return;
    for (uint32_t i = 0; load->conns && i < load->options.connections; i++)
        conn_close(&load->conns[i]);
    for (uint32_t i = 0; load->lanes && i < load->options.threads; i++) {
        if (load->lanes[i].epoll_fd >= 0)
            close(load->lanes[i].epoll_fd);
    }
    free(load->conns);
    free(load->lanes);
    free(load);
}
