/*
 * load_lane.h - one thread's share of a load, as load.c sees it, and what the transports share.
 *
 * Threads: a lane is run by one thread at a time.
 */
#ifndef WEIR_LOAD_LANE_H
#define WEIR_LOAD_LANE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <time.h>

#include "engine/base/clock.h"
#include "engine/net/address.h"
#include "tools/load/load.h"
#include "tools/load/pace.h"

enum { LANE_EVENTS_MAX = 256 };

#define LANE_MS(n) ((uint64_t)(n) * 1000000u)

struct lane;

/* A transport. All but destroy return 0 or -errno. */
struct lane_kind {
    int (*create)(struct lane *lane);
    int (*run)(struct lane *lane);      /* until deadline_ns, then to the last answer in time */
    void (*destroy)(struct lane *lane); /* also what create left half done */
};

struct lane {
    const struct lane_kind *kind;
    const struct load_options *options;
    const struct address *address;
    const struct lane *lanes;   /* all of them */
    uint32_t number;            /* which this is */
    uint32_t clients;           /* of options->connections, this lane's */
    uint32_t stalled, trickled; /* of those */
    int epoll_fd;
    void *state;                /* the transport's */
    size_t reply_len;           /* of the last reply; 0: there was none yet */
    const atomic_bool *stop;    /* load_stop was called */
    bool stopped;               /* the lane knows */
    atomic_ullong answered;     /* in this run, so far: for the progress that lane 0 tells */

    /* Of one run. */
    uint64_t start_ns, deadline_ns;
    uint64_t left;              /* requests that may still begin */
    struct pace arrivals;       /* of the open loop */
    struct pace reports;
    struct load_result result;
    uint32_t run_ms;
    int error;                  /* what run returned */
    pthread_t thread;
};

extern const struct lane_kind lane_of_streams;      /* load_stream.c */
extern const struct lane_kind lane_of_datagrams;    /* load_datagram.c */

static inline uint64_t lane_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ------------------------------------------------------------------ requests ---------- */

/*
 * Begins a request. Returns false if none may begin now. The latency counts from *ret_ns: now, or
 * in the open loop when it was due. first: a client's first of this run, which a closed loop allows
 * even if there is no time at all.
 */
bool lane_begin(struct lane *lane, uint64_t now_ns, bool first, uint64_t *ret_ns);

/* Requests that are due, or were before the time was over, and have not begun. */
uint64_t lane_backlog(const struct lane *lane, uint64_t now_ns);

/* True: the time has been over for the timeout, and whatever is under way is to be given up. */
bool lane_late(const struct lane *lane, uint64_t now_ns);

/* Counts requests that were due and have not begun as errors; then none begins any more. */
void lane_give_up(struct lane *lane, uint64_t now_ns);

/* Returns true if no request will begin any more. */
bool lane_is_over(const struct lane *lane, uint64_t now_ns);

/* Counts a request that has been answered rightly. */
void lane_answered(struct lane *lane, uint64_t begun_ns, uint64_t now_ns);

/* Counts an error of this kind for each of the requests, and at least one. */
void lane_failed(struct lane *lane, enum load_error what, uint64_t requests);

uint64_t lane_timeout_ns(const struct lane *lane);

/*
 * Waits for events until a time; now_ns is what it was a moment ago. Returns how many there are,
 * all of them the transport's (what load_stop and progress need is done here), or -errno.
 */
int lane_wait(struct lane *lane, struct epoll_event *events, uint64_t now_ns, uint64_t until_ns);

#endif
