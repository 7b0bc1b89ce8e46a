/*
 * load_stream.c - lanes over connections (see load_lane.h): when each is opened, given up or looked
 * at, until the run is over.
 *
 * One edge-triggered registration per connection. A connection's life is load_conn.h's, what it
 * asks load_exchange.h's.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/sys.h"
#include "tools/load/load_conn.h"
#include "tools/load/load_exchange.h"

enum {
    OPENING_MAX = 128,          /* connections under way at once: a backlog is not endless */
    REST_MS = 100,
    TRICKLE_MS = 100,
    CHECKS_PER_TIMEOUT = 8,
};

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
        exchange_start(lane, &streams->conns[streams->opened++], now_ns);
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
        exchange_start(lane, conn, now_ns);
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
static uint64_t next_stream_ns(const struct lane *lane, uint64_t now_ns)
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

static void begin_streams(struct lane *lane)
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
            exchange_feed(lane, conn, now_ns);
    }
}

/* Whatever still moves: an answer without an end would be waited for without one. */
static void give_up_streams(struct lane *lane, uint64_t now_ns)
{
    struct streams *streams = lane->state;

    for (uint32_t i = 0; i < streams->opened; i++) {
        struct conn *conn = &streams->conns[i];

        if (waits_for_server(conn))
            conn_fail(lane, conn, conn->opening ? LOAD_CANNOT_CONNECT : LOAD_TIMEOUT, now_ns);
        else if (conn->role == ASKS && conn->begun != conn->first)
            lane_failed(lane, LOAD_CANNOT_CONNECT, conn_forget(lane, conn));   /* it rests */
    }
    lane_give_up(lane, now_ns);
}

static bool streams_are_over(const struct lane *lane, uint64_t now_ns)
{
    const struct streams *streams = lane->state;

    return streams->waiting == 0 && lane_is_over(lane, now_ns) &&
           (lane->left == 0 ||
            (streams->opening == 0 && openings_due(lane, now_ns) == 0));
}

static int streams_run(struct lane *lane)
{
    struct epoll_event events[LANE_EVENTS_MAX];
    struct streams *streams = lane->state;
    int n = 0;

    begin_streams(lane);
    for (;;) {
        uint64_t now_ns = lane_clock_ns();

        open_due(lane, now_ns);
        end_rests(lane, now_ns);
        exchange_trickle(lane, now_ns);
        exchange_dispatch(lane, now_ns);
        check_timeouts(lane, now_ns);
        if (streams->error < 0 || lane->stopped)
            return streams->error;
        if (lane_late(lane, now_ns))
            give_up_streams(lane, now_ns);
        if (streams_are_over(lane, now_ns))
            return 0;
        n = lane_wait(lane, events, now_ns, next_stream_ns(lane, now_ns));
        if (n < 0)
            return n;
        for (int i = 0; i < n; i++)
            exchange_handle(lane, events[i].data.ptr, events[i].events);
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
        sys_close(streams->conns[i].fd);
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
