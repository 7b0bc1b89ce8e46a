/*
 * throughput_benchmark.cc - what a request costs: handler x connections x workers x dispatch.
 *
 * A row is weir with one configuration, against the bare loop with as many threads, taken in the
 * same run (paired.h). All threads of both servers share CPU 0, the generator has the last one. So
 * the throughput is often the generator's limit; CPU time per request is the honest figure:
 *
 *   rps           requests per second of weir
 *   cpu_us        server CPU microseconds per request: all of the process's, kernel included
 *   bare_cpu_us   the same of the bare loop
 *   ratio         cpu_us / bare_cpu_us, the median of the pairs' ratios; ratio_min, ratio_max
 *   p50_us p99_us latency as the generator sees it, with every connection always asking
 *   wakes         how often a sleeping worker had to be woken, per 1000 requests
 *   rescued       connections taken over from a worker that seemed stuck, per 1000 requests
 */
#include <benchmark/benchmark.h>

#include <string>

#include "bench/paired.h"
#include "bench/pinned.h"
#include "bench/rows.h"
#include "handlers/echo.h"
#include "handlers/hello.h"
#include "handlers/upper.h"

namespace {

struct job {
    const char *name;
    const struct weir_handler *handler;
    load_mode load;
    bare_loop_mode bare;
    uint32_t per_connection;
};

const job jobs[] = {
    { "echo", &echo_handler, LOAD_LINE, BARE_LOOP_LINE, 0 },
    { "upper", &upper_handler, LOAD_UPPER, BARE_LOOP_LINE, 0 },
    { "hello", &hello_handler, LOAD_HTTP, BARE_LOOP_HTTP, 0 },
    { "connect", &hello_handler, LOAD_HTTP, BARE_LOOP_CLOSE, 1 },
};

/* The bare loop only echoes: where weir is to change the line, the yardstick is not asked to. */
load_mode bare_load(const job &job)
{
    return job.load == LOAD_UPPER ? LOAD_LINE : job.load;
}

const char *start(contender &bare, contender &weir, const job &job, uint32_t connections,
                  uint32_t workers, weir_dispatch dispatch)
{
    struct weir_options options = {};

    options.handler = job.handler;
    options.workers = workers;
    options.dispatch = dispatch;
    if (child_start_bare_loop(&bare.server, SERVER_CPU, job.bare, workers) < 0 ||
        child_start_weir(&weir.server, SERVER_CPU, &options) < 0)
        return "a server did not start";

    load_options bare_options = closed_loop(bare_load(job), bare.server.address, connections);
    load_options weir_options = closed_loop(job.load, weir.server.address, connections);

    bare_options.per_connection = weir_options.per_connection = job.per_connection;
    if (load_create(&bare.load, &bare_options) < 0 || load_create(&weir.load, &weir_options) < 0)
        return "the generator could not connect";
    return nullptr;
}

double per_thousand(uint64_t count, const volatile struct weir_stats &stats)
{
    return 1000 * static_cast<double>(count) / static_cast<double>(stats.handled);
}

void throughput(benchmark::State &state, const job &job, uint32_t connections, uint32_t workers,
                weir_dispatch dispatch)
{
    contender bare, weir;

    for (auto _ : state) {
        const char *wrong = start(bare, weir, job, connections, workers, dispatch);

        if (!wrong)
            wrong = paired_run(bare, weir);
        if (!wrong && load_reply_len(bare.load) != load_reply_len(weir.load))
            wrong = "the yardstick's answer is not as long as weir's";
        if (wrong) {
            row_failed(state, wrong);
            return;
        }
    }

    const spread ratio = paired_ratio(bare, weir, &slice::cpu_us);
    const volatile struct weir_stats &stats = weir.server.report->stats;

    state.counters["rps"] = paired_median(weir, &slice::rps);
    state.counters["cpu_us"] = paired_median(weir, &slice::cpu_us);
    state.counters["bare_cpu_us"] = paired_median(bare, &slice::cpu_us);
    state.counters["ratio"] = ratio.median;
    state.counters["ratio_min"] = ratio.min;
    state.counters["ratio_max"] = ratio.max;
    state.counters["p50_us"] = latency_us(weir, 0.50);
    state.counters["p99_us"] = latency_us(weir, 0.99);
    state.counters["wakes"] = per_thousand(stats.wakeups, stats);
    state.counters["rescued"] = per_thousand(stats.rescued, stats);
}

void register_row(const job &job, uint32_t connections, uint32_t workers, weir_dispatch dispatch)
{
    std::string name = std::string(job.name) + "/connections:" + std::to_string(connections) +
        "/workers:" + std::to_string(workers) +
        "/dispatch:" + (dispatch == WEIR_DISPATCH_WORKER ? "worker" : "acceptor");

    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State &state) {
        throughput(state, job, connections, workers, dispatch);
    })->Iterations(1)->Unit(benchmark::kSecond)->UseRealTime();
}

void register_rows()
{
    for (const job &job : jobs)
        for (uint32_t connections : { 1, 16, 64, 512 })
            for (uint32_t workers : { 1, 2 }) {
                register_row(job, connections, workers, WEIR_DISPATCH_WORKER);
                /* A connection that ends with its first request hardly ever waits anywhere. */
                if (job.per_connection == 0)
                    register_row(job, connections, workers, WEIR_DISPATCH_ACCEPTOR);
            }
}

} // namespace

int main(int argc, char **argv)
{
    register_rows();
    return paired_main(argc, argv);
}
