/*
 * load_lane.h - one thread's share of a load, as load.c sees it, and what the transports share.
 *
 * Threads: a lane is run by one thread at a time.
 */
#ifndef WEIR_BENCH_LOAD_LANE_H
#define WEIR_BENCH_LOAD_LANE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "bench/load.h"
#include "engine/address.h"

enum {
    LANE_EVENTS_MAX = 256,
    LANE_SILENCE_MS = 5000,     /* no answer on any connection for so long is an error */
};

struct lane;

/* A transport. All but destroy return 0 or -errno. */
struct lane_kind {
    int (*create)(struct lane *lane);
    int (*run)(struct lane *lane);      /* until deadline_ns, and on to the last answer */
    int (*stall)(struct lane *lane);
    void (*destroy)(struct lane *lane); /* also what create left half done */
};

struct lane {
    const struct lane_kind *kind;
    const struct load_options *options;
    const struct address *address;
    uint32_t clients;           /* of options->connections, this lane's */
    void *state;                /* the transport's */
    size_t reply_len;           /* of the last reply; 0: there was none yet */

    /* Of one run. */
    uint64_t deadline_ns;
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

/* Counts a request that has been answered rightly. */
void lane_answered(struct lane *lane, uint64_t sent_ns, uint64_t now_ns);

/* Counts an error. what is a string that stays. */
void lane_failed(struct lane *lane, const char *what);

/* ------------------------------------------------------------------ lines ------------- */

/* Makes a line's text, without a number. */
void line_init(char *line);

/* Writes a number into a line: no two that are under way at once are the same. */
void line_stamp(char *line, uint32_t number);

/* False: there is no number where line_stamp wrote one. */
bool line_number(const char *line, uint32_t *ret_number);

/* Makes of a line what has to come back. */
void line_answer(char *line, enum load_mode mode);

#endif
