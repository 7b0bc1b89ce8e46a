/*
 * load.h - the load generator: closed loop, many clients, few threads, every reply checked.
 *
 * A load is a set of connections to one server, or of datagram sockets. It can be run again and
 * again, and between two runs nothing is under way: each request that was sent has been answered.
 * So the server's CPU time read before and after a run belongs to exactly the requests of that
 * run, and two servers can be measured in turn while both stay up.
 *
 * Threads: one load belongs to one thread, which also generates; it is joined by others during
 * load_run if the options say so.
 */
#ifndef WEIR_BENCH_LOAD_H
#define WEIR_BENCH_LOAD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct load;

enum load_mode {
    LOAD_LINE,          /* 32-byte lines, each different, to be sent back unchanged */
    LOAD_UPPER,         /* the same, to be sent back in capitals */
    LOAD_HTTP,          /* GET /; replies as long as the first one. For streams only */
};

enum { LOAD_LINE_LEN = 32 };

struct load_options {
    enum load_mode mode;
    const char *address;        /* a URI as in engine/address.h; not needed any more once created */
    uint32_t connections;       /* clients: connections, or datagram sockets */
    uint32_t threads;           /* 0: 1, the calling one */
    uint32_t per_connection;    /* requests; then the server has to close it. 0: it is kept */
    uint32_t in_flight;         /* datagrams under way on each socket; 0: 1 */
};

/* Latencies in buckets that are at most 1/32 of their value wide: percentiles to about 3 %. */
enum { LOAD_BUCKETS = 60 * 32 };

struct load_result {
    uint64_t requests;          /* answered, and answered rightly */
    uint64_t errors;            /* wrong answers, broken connections, no answer for seconds */
    uint64_t lost;              /* datagrams, or their answers, that had to be sent again */
    uint64_t elapsed_ns;        /* from the first request to the last answer */
    uint64_t busy_ns;           /* the generator's own CPU time, the threads' summed */
    const char *first_error;    /* what the first error was, or NULL */
    uint64_t latency[LOAD_BUCKETS];
};

/*
 * load_create opens the connections that will be kept, and sends nothing. Returns 0 or -errno:
 * -EINVAL for an address that can't be read, or a mode that its transport does not have.
 */
int load_create(struct load **ret_load, const struct load_options *options);

/*
 * load_run keeps one request under way on every connection for ms milliseconds (in_flight on a
 * datagram socket), waits for the last answers, and adds what happened to *result. With ms = 0 it
 * is exactly one request a client. With per_connection every connection gets all its requests, so
 * that a run may take longer, and leaves none open. A connection in error is closed and rests
 * from then on. Returns 0 or -errno.
 */
int load_run(struct load *load, uint32_t ms, struct load_result *result);

/*
 * load_stall sends the first half of a request on every connection and leaves it there: these are
 * the clients that stall. The load can only be destroyed after that. Returns 0 or -errno.
 */
int load_stall(struct load *load);

void load_destroy(struct load *load);

/* The latency that a share of the requests did not exceed: 0.5 is the median, 0.99 "p99". */
uint64_t load_percentile_ns(const struct load_result *result, double share);

/* The length of the last reply; 0 before there was one. */
size_t load_reply_len(const struct load *load);

#ifdef __cplusplus
}
#endif
#endif
