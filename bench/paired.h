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
#include "bench/load.h"

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

    contender() = default;
    contender(const contender &) = delete;
    contender &operator=(const contender &) = delete;
    ~contender();
};

struct spread {
    double median, min, max;
};

/* --slices=N and --slice_ms=N of the command line, taken out of it. */
void paired_flags(int *argc, char **argv);

/* The generator keeps to the last CPU and servers to the first; with one CPU they share it. */
int paired_server_cpu();
void paired_pin_generator();

/* Opens the load on a server that is up, and warms both. Returns nullptr, or what went wrong. */
const char *paired_open(contender &it, load_mode mode, uint32_t connections);

/* Runs both in turn. Returns nullptr, or what went wrong. */
const char *paired_run(contender &base, contender &other);

/* A figure's median, and its ratio other / base, slice by slice. */
double paired_median(const contender &it, double slice::*figure);
spread paired_ratio(const contender &base, const contender &other, double slice::*figure);

#endif
