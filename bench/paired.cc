/*
 * paired.cc - see paired.h.
 */
#include "bench/paired.h"

#include <benchmark/benchmark.h>

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "bench/pinned.h"
#include "bench/rows.h"
#include "tools/load/descriptors.h"

namespace {

uint32_t slices_wanted = 7;
uint32_t slice_ms = 150;

bool number_flag(const char *arg, const char *name, uint32_t *ret_value)
{
    size_t len = std::strlen(name);

    if (std::strncmp(arg, name, len) != 0)
        return false;
    *ret_value = static_cast<uint32_t>(std::max(1ul, std::strtoul(arg + len, nullptr, 10)));
    return true;
}

void take_flags(int *argc, char **argv)
{
    int kept = 1;

    for (int i = 1; i < *argc; i++) {
        if (!number_flag(argv[i], "--slices=", &slices_wanted) &&
            !number_flag(argv[i], "--slice_ms=", &slice_ms))
            argv[kept++] = argv[i];
    }
    *argc = kept;
}

const char *run_load(contender &it, uint32_t ms, struct load_result *result)
{
    if (load_run(it.load, ms, result) < 0)
        return "the generator failed";
    if (result->errors > 0)
        return result->first_error;
    if (it.clients_go && !child_rid_of_clients(&it.server))
        return "the server keeps connections that are closed";
    return nullptr;
}

const char *warm(contender &it, uint32_t ms)
{
    struct load_result result = {};

    return run_load(it, ms / 2, &result);
}

const char *run_slice(contender &it, uint32_t ms)
{
    uint64_t cpu_ns = child_cpu_ns(&it.server);
    uint64_t requests = it.total.requests, elapsed_ns = it.total.elapsed_ns;
    const char *wrong = run_load(it, ms, &it.total);

    if (wrong)
        return wrong;

    double done = static_cast<double>(it.total.requests - requests);

    it.slices.push_back({
        done * 1e9 / static_cast<double>(it.total.elapsed_ns - elapsed_ns),
        static_cast<double>(child_cpu_ns(&it.server) - cpu_ns) / 1e3 / done,
    });
    return nullptr;
}

spread spread_of(std::vector<double> values)
{
    std::sort(values.begin(), values.end());
    return { values[values.size() / 2], values.front(), values.back() };
}

} // namespace

contender::~contender()
{
    load_destroy(load);
    child_end(&server);
}

struct load_options closed_loop(enum load_mode mode, const char *address, uint32_t connections)
{
    struct load_options options = {};

    options.mode = mode;
    options.address = address;
    options.connections = connections;
    return options;
}

const char *paired_run(contender &base, contender &other, uint32_t least_slice_ms)
{
    const uint32_t ms = std::max(slice_ms, least_slice_ms);
    pinned here(client_cpu());
    const char *wrong = warm(base, ms);

    if (!wrong)
        wrong = warm(other, ms);
    for (uint32_t i = 0; i < slices_wanted && !wrong; i++) {
        /* Whoever went second goes first next, so that a steady drift cancels out. */
        contender *first = i % 2 ? &other : &base;
        contender *second = i % 2 ? &base : &other;

        wrong = run_slice(*first, ms);
        if (!wrong)
            wrong = run_slice(*second, ms);
    }
    return wrong;
}

double latency_us(const contender &it, double share)
{
    return static_cast<double>(histogram_percentile(&it.total.latency, share)) / 1e3;
}

double paired_median(const contender &it, double slice::*figure)
{
    std::vector<double> values;

    for (const slice &s : it.slices)
        values.push_back(s.*figure);
    return spread_of(values).median;
}

spread paired_ratio(const contender &base, const contender &other, double slice::*figure)
{
    std::vector<double> ratios;

    for (size_t i = 0; i < base.slices.size(); i++)
        ratios.push_back(other.slices[i].*figure / (base.slices[i].*figure));
    return spread_of(ratios);
}

int paired_main(int argc, char **argv)
{
    descriptors_raise();
    take_flags(&argc, argv);
    if (sysconf(_SC_NPROCESSORS_ONLN) == 1)
        benchmark::AddCustomContext("note", "one CPU: the generator runs on the servers'");
    return rows_main(argc, argv);
}
