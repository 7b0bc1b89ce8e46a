/*
 * paired.h - two servers under the same load, in turn.
 *
 * A machine's speed changes from second to second: its clock, its caches and its neighbours see to
 * that. So no figure of one server is compared with a figure of another that was taken at another
 * time. Both servers stay up, short slices of load alternate between them, each pair of slices
 * gives one ratio, and the median of the ratios is the result; their least and greatest say what
 * it is worth.
 */
#ifndef WEIR_BENCH_PAIRED_H
#define WEIR_BENCH_PAIRED_H

#include <cstdint>
#include <vector>

#include "bench/child.h"
#include "tools/load/load.h"

/* What one slice of load cost and brought. */
struct slice {
    double rps;         /* requests per second */
    double cpu_us;      /* server CPU microseconds per request */
};

/* A server and the load on it. Ends both. */
struct contender {
    struct child server = {};
    struct load *load = nullptr;
    struct load_result total = {};
    std::vector<slice> slices;
    bool clients_go = false;    /* with the end of a slice: what they cost is known when weir is
                                   rid of them, see child_rid_of_clients */

    contender() = default;
    contender(const contender &) = delete;
    contender &operator=(const contender &) = delete;
    ~contender();
};

struct spread {
    double median, min, max;
};

/* A closed loop on one thread; what the bench does not say is as struct load_options has it. */
struct load_options closed_loop(enum load_mode mode, const char *address, uint32_t connections);

/*
 * Runs both in turn, after a warm-up, on client_cpu() (pinned.h). A slice takes --slice_ms, or more
 * where a row needs it. Returns nullptr, or what went wrong.
 */
const char *paired_run(contender &base, contender &other, uint32_t least_slice_ms = 0);

/* The latency that a share of a contender's requests did not exceed, in microseconds. */
double latency_us(const contender &it, double share);

/* A figure's median, and its ratio other / base, slice by slice. */
double paired_median(const contender &it, double slice::*figure);
spread paired_ratio(const contender &base, const contender &other, double slice::*figure);

/*
 * What main() does in a bench with servers in children: takes --slices=N and --slice_ms=N out of
 * the command line, lets the process have as many descriptors as it may, runs the rows.
 */
int paired_main(int argc, char **argv);

#endif
