/*
 * load.c - see load.h: lanes and their threads, latencies, lines.
 */
#include "bench/load.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load_lane.h"

enum {
    STAMP_AT = 5,               /* where a line carries its number, as 8 hex digits */
    STAMP_LEN = 8,
};

static const char line_text[LOAD_LINE_LEN + 1] = "weir 00000000 the quick brown f\n";

struct load {
    struct load_options options;
    struct address address;
    struct lane *lanes;
};

/* ------------------------------------------------------------------ lines ------------- */

void line_init(char *line)
{
    memcpy(line, line_text, LOAD_LINE_LEN);
}

void line_stamp(char *line, uint32_t number)
{
    for (int i = STAMP_LEN - 1; i >= 0; i--) {
        line[STAMP_AT + i] = "0123456789ABCDEF"[number & 15];
        number >>= 4;
    }
}

bool line_number(const char *line, uint32_t *ret_number)
{
    uint32_t number = 0;

    for (int i = 0; i < STAMP_LEN; i++) {
        char c = line[STAMP_AT + i];

        if (c >= '0' && c <= '9')
            number = number << 4 | (uint32_t)(c - '0');
        else if (c >= 'A' && c <= 'F')
            number = number << 4 | (uint32_t)(c - 'A' + 10);
        else
            return false;
    }
    *ret_number = number;
    return true;
}

void line_answer(char *line, enum load_mode mode)
{
    if (mode == LOAD_UPPER)
        for (size_t i = 0; i < LOAD_LINE_LEN; i++)
            line[i] = (char)toupper((unsigned char)line[i]);
}

/* ------------------------------------------------------------------ results ----------- */

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
    to->lost += from->lost;
    to->busy_ns += from->busy_ns;
    if (!to->first_error)
        to->first_error = from->first_error;
    for (size_t i = 0; i < LOAD_BUCKETS; i++)
        to->latency[i] += from->latency[i];
}

void lane_answered(struct lane *lane, uint64_t sent_ns, uint64_t now_ns)
{
    lane->result.requests++;
    lane->result.latency[bucket_of(now_ns - sent_ns)]++;
}

void lane_failed(struct lane *lane, const char *what)
{
    if (!lane->result.first_error)
        lane->result.first_error = what;
    lane->result.errors++;
}

/* ------------------------------------------------------------------ running ----------- */

static uint64_t thread_cpu_ns(void)
{
    struct timespec used;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static void *lane_run(void *arg)
{
    struct lane *lane = arg;
    uint64_t cpu_ns = thread_cpu_ns();

    memset(&lane->result, 0, sizeof(lane->result));
    lane->deadline_ns = lane_clock_ns() + (uint64_t)lane->run_ms * 1000000u;
    lane->error = lane->kind->run(lane);
    lane->result.busy_ns = thread_cpu_ns() - cpu_ns;
    return NULL;
}

int load_run(struct load *load, uint32_t ms, struct load_result *result)
{
    uint64_t start_ns = lane_clock_ns();
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
    result->elapsed_ns += lane_clock_ns() - start_ns;
    return error;
}

int load_stall(struct load *load)
{
    for (uint32_t i = 0; i < load->options.threads; i++) {
        int r = load->lanes[i].kind->stall(&load->lanes[i]);

        if (r < 0)
            return r;
    }
    return 0;
}

size_t load_reply_len(const struct load *load)
{
    return load->lanes[0].reply_len;
}

/* ------------------------------------------------------------------ creating ---------- */

static int open_lanes(struct load *load, const struct lane_kind *kind)
{
    uint32_t left = load->options.connections;

    load->lanes = calloc(load->options.threads, sizeof(*load->lanes));
    if (!load->lanes)
        return -ENOMEM;
    for (uint32_t i = 0; i < load->options.threads; i++) {
        struct lane *lane = &load->lanes[i];
        int r;

        *lane = (struct lane){
            .kind = kind,
            .options = &load->options,
            .address = &load->address,
            .clients = left / (load->options.threads - i),
        };
        left -= lane->clients;
        r = kind->create(lane);
        if (r < 0)
            return r;
    }
    return 0;
}

int load_create(struct load **ret_load, const struct load_options *options)
{
    struct load *load = calloc(1, sizeof(*load));
    char why[256];
    int r;

    if (!load)
        return -ENOMEM;
    load->options = *options;
    if (load->options.threads == 0)
        load->options.threads = 1;
    if (load->options.in_flight == 0)
        load->options.in_flight = 1;
    r = address_parse(options->address, &load->address, why, sizeof(why));
    if (r == 0)
        r = open_lanes(load, load->address.type == SOCK_DGRAM ? &lane_of_datagrams
                                                              : &lane_of_streams);
    if (r < 0) {
        load_destroy(load);
        return r;
    }
    load->options.address = NULL;
    *ret_load = load;
    return 0;
}

void load_destroy(struct load *load)
{
    if (!load)
        return;
    for (uint32_t i = 0; load->lanes && i < load->options.threads; i++) {
        if (load->lanes[i].kind)
            load->lanes[i].kind->destroy(&load->lanes[i]);
    }
    free(load->lanes);
    free(load);
}
