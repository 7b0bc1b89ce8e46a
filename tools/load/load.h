/*
 * load.h - the load generator: many clients, few threads, every reply checked.
 *
 * A load is a set of connections to one server, or of datagram sockets. It can be run again and
 * again, and between two runs nothing is under way: each request that was sent has been answered.
 * So the server's CPU time read before and after a run belongs to exactly the requests of that
 * run, and two servers can be measured in turn while both stay up.
 *
 * Closed loop: each connection always has so many requests under way; the next is sent when one is
 * answered, so a server that stalls is asked less. Open loop (options.rate): requests are due at
 * constant intervals, whatever the server does. One that finds every connection busy waits, and
 * its latency counts from when it was due: this is how the clients of a real server see a stall.
 *
 * Threads: one load belongs to one thread, which also generates; it is joined by others during
 * load_run if the options say so. load_stop is for any thread, and for signal handlers.
 */
#ifndef WEIR_LOAD_H
#define WEIR_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/load/histogram.h"

#ifdef __cplusplus
extern "C" {
#endif

struct address;
struct load;

enum load_mode {
    LOAD_LINE,          /* lines, each different, to be sent back unchanged */
    LOAD_UPPER,         /* the same, to be sent back in capitals */
    LOAD_HTTP,          /* GET; bodies as long as the first one. For streams only */
};

enum {
    LOAD_LINE_LEN = 32,             /* of a line, unless the options say otherwise */
    LOAD_LINE_MIN = 16,
    LOAD_LINE_MAX = 1 << 20,
    LOAD_DATAGRAM_MAX = 65507,
    LOAD_IN_FLIGHT_MAX = 4096,
};

enum load_error {
    LOAD_CANNOT_CONNECT,
    LOAD_CANNOT_SEND,
    LOAD_CLOSED,
    LOAD_BROKEN,
    LOAD_TIMEOUT,
    LOAD_WRONG_REPLY,
    LOAD_WRONG_STATUS,
    LOAD_WRONG_LENGTH,
    LOAD_UNASKED,
    LOAD_UNREADABLE,
    LOAD_UNSENT,
    LOAD_ERRORS,
};

struct load_options {
    enum load_mode mode;
    const char *address;        /* a URI as in engine/net/address.h; create reads it */
    uint32_t connections;       /* clients: connections, or datagram sockets */
    uint32_t threads;           /* 0: 1, the calling one */
    uint32_t per_connection;    /* requests; then the server has to close it. 0: it is kept */
    bool client_closes;         /* we close it then */
    uint32_t in_flight;         /* requests under way on each connection or socket; 0: 1 */
    uint32_t rate;              /* requests per second on all connections; 0: a closed loop */
    uint64_t requests;          /* of one run, then it ends; 0: as many as time allows */
    uint32_t ramp_ms;           /* connections are opened evenly over it; 0: as fast as it goes */
    uint32_t timeout_ms;        /* without any answer on a connection; 0: 5 s */
    uint32_t stalled;           /* further connections with half a request and no more */
    uint32_t trickled;          /* further ones that send a byte each 100 ms */
    uint32_t size;              /* bytes of a line, 0: 32; of an HTTP body, 0: as the first one */
    const char *path;           /* of HTTP; NULL: "/" */
    const char *headers;        /* further fields of HTTP, each with its CRLF, and a Host instead of
                                   the address; NULL: none */
    const struct address *sources;  /* what connections are bound to, in turn, ports aside */
    uint32_t sources_len;
    const int *cpus;            /* what the threads are bound to, in turn, the calling one too */
    uint32_t cpus_len;
    void (*progress)(void *arg, uint64_t requests);     /* each second of a run; NULL: no need */
    void *progress_arg;
};

struct load_result {
    uint64_t requests;          /* answered, and answered rightly */
    uint64_t errors;            /* requests that were not, and connections that broke without one */
    uint64_t errors_by[LOAD_ERRORS];
    uint64_t lost;              /* datagrams, or their answers, that had to be sent again */
    uint64_t reopened;          /* connections that the server closed with notice */
    uint64_t trickled;          /* requests that came byte by byte, and were answered rightly */
    uint64_t hung_up;           /* stalled or trickling clients that the server closed */
    uint64_t bytes_in, bytes_out;
    uint64_t elapsed_ns;        /* from the first request to the last answer */
    uint64_t busy_ns;           /* the generator's own CPU time, the threads' summed */
    const char *first_error;    /* what the first error was, or NULL */
    struct histogram latency;   /* nanoseconds */
    struct histogram connect;   /* what connecting took */
};

/*
 * load_create reads the options, and opens no connection yet. Returns 0 or -errno: -EINVAL for an
 * address that can't be read, or a mode, size or number that its transport does not have.
 */
int load_create(struct load **ret_load, const struct load_options *options);

/*
 * load_run opens what is to be kept open and is not yet, keeps requests under way for ms
 * milliseconds, waits for the last answers, and adds what happened to *result. With ms = 0 it is
 * exactly in_flight requests a client, and stalled clients are in place when it returns; with
 * UINT32_MAX it ends by options.requests or load_stop. With per_connection every connection gets
 * all its requests, so that a run may take longer, and leaves none open. Unless ms is 0 a run ends
 * timeout_ms after its time at the latest, whatever still moves: what is under way then, or was due
 * and could not be sent, is an error. A connection in error is
 * closed and opened again 100 ms later, if the run lasts so long; a datagram socket in error stays
 * closed. Returns 0 or -errno: of the first connection, when not even that could be opened, or
 * at once of a thread that can't be had, and then the load is stopped, as by load_stop.
 */
int load_run(struct load *load, uint32_t ms, struct load_result *result);

/*
 * Ends the run at once, and every later one at its beginning: what is under way is not waited for,
 * and counts neither as answered nor as an error. Signal-safe.
 */
void load_stop(struct load *load);

void load_destroy(struct load *load);

/* Returns true if one of a load's headers, of which each has its CRLF, has this name. */
bool load_headers_have(const char *headers, const char *name);

/* What an error is called: "a wrong reply". A string that stays. */
const char *load_error_name(enum load_error error);

/* The length of the last reply, of HTTP with its head; 0 before there was one. */
size_t load_reply_len(const struct load *load);

#ifdef __cplusplus
}
#endif
#endif
