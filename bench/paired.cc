/*
 * paired.cc - see paired.h.
 */
#include "bench/paired.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

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

const char *run_slice(contender &it)
{
    uint64_t cpu_ns = child_cpu_ns(&it.server);
    uint64_t requests = it.total.requests, elapsed_ns = it.total.elapsed_ns;

    if (load_run(it.load, slice_ms, &it.total) < 0)
        return "the generator failed";
    if (it.total.errors > 0)
        return it.total.first_error;

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

void paired_flags(int *argc, char **argv)
{
    int kept = 1;

    for (int i = 1; i < *argc; i++) {
        if (!number_flag(argv[i], "--slices=", &slices_wanted) &&
            !number_flag(argv[i], "--slice_ms=", &slice_ms))
            argv[kept++] = argv[i];
    }
    *argc = kept;
}

int paired_server_cpu()
{
    return 0;
}

void paired_pin_generator()
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(static_cast<size_t>(sysconf(_SC_NPROCESSORS_ONLN) - 1), &set);
    sched_setaffinity(0, sizeof(set), &set);
}

const char *paired_open(contender &it, load_mode mode, uint32_t connections)
{
    const load_options options = { mode, it.server.port, connections, 1 };
    struct load_result warm = {};

    if (load_create(&it.load, &options) < 0)
        return "the generator could not connect";
    if (load_run(it.load, slice_ms / 2, &warm) < 0)
        return "the generator failed";
    return warm.first_error;
}

const char *paired_run(contender &base, contender &other)
{
    for (uint32_t i = 0; i < slices_wanted; i++) {
        /* Whoever went second goes first next, so that a steady drift cancels out. */
        contender *first = i % 2 ? &other : &base;
        contender *second = i % 2 ? &base : &other;
        const char *wrong = run_slice(*first);

        if (!wrong)
            wrong = run_slice(*second);
        if (wrong)
            return wrong;
    }
    return nullptr;
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
