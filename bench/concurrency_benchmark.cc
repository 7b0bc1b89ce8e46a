/*
 * concurrency_benchmark.cc - what a request costs under each concurrency model, beside the pool.
 *
 * 512 clients ask all the time, one request after the other: 32-byte lines, echoed by one handler,
 * the same code under each model. It answers so many lines of a connection and returns, so that
 * the server closes; the client then opens its next connection. All 512 are served at once: a
 * thread or a child for each of them. Of prefork there is one process, as there is one CPU.
 *
 * A row is one model against the pool, taken in the same run (paired.h), by transport and by the
 * number of requests per connection. One is what most programs of socketserver do; the more there
 * are, the less matters what a connection costs. With TCP the kernel's part of a connection is the
 * same for all and larger than what most models add; a Unix socket leaves more to tell them apart.
 * All threads and children share CPU 0, the generator has the last one. A slice of load leaves no
 * connection open, and its CPU time is read when no child is left either.
 *
 *   cpu_us        server CPU microseconds per request: threads, children and kernel included
 *   pool_cpu_us   the same of the pool
 *   ratio         cpu_us / pool_cpu_us: how many times the throughput per CPU second the pool has.
 *                 The median of the pairs' ratios; ratio_min, ratio_max
 *   rps pool_rps  requests per second
 *   p99_us pool_p99_us   latency as the generator sees it
 */
#include <benchmark/benchmark.h>

#include <unistd.h>

#include <string>

#include "bench/paired.h"
#include "bench/pinned.h"
#include "bench/rows.h"

namespace {

constexpr uint32_t CLIENTS = 512;

/* Those that have closed and are not reaped yet take no place from one that is waiting. */
constexpr uint32_t CHILDREN_MAX = 2 * CLIENTS;

/* 512 children take a good part of a second to start, and a slice should not be about that. */
constexpr uint32_t LEAST_SLICE_MS = 500;

struct model {
    const char *name;
    weir_concurrency concurrency;
    uint32_t max_children;
};

const model pool = { "pool", WEIR_POOL, 0 };
const model others[] = {
    { "thread", WEIR_THREAD, 0 },
    { "fork", WEIR_FORK, CHILDREN_MAX },
    { "prefork", WEIR_PREFORK, 0 },
};

int echo_lines(struct weir_request *req)
{
    const uint32_t lines = *static_cast<const uint32_t *>(weir_handler_data(req));

    for (uint32_t i = 0; i < lines; i++) {
        char *line;
        ssize_t n = weir_readline(req, &line, 2 * LOAD_LINE_LEN);

        if (n > 0)
            n = weir_write(req, line, static_cast<size_t>(n));
        if (n <= 0)
            return static_cast<int>(n);
    }
    return 0;
}

/* A Unix socket's name is this process's and the model's. */
std::string address(const std::string &transport, const model &model)
{
    if (transport == "tcp")
        return "tcp://127.0.0.1:0";
    return "unix:@weir-bench-" + std::to_string(getpid()) + "-" + model.name;
}

const char *start(contender &it, const model &model, const std::string &listen,
                  const struct weir_handler *handler, uint32_t per_connection)
{
    struct weir_options options = {};

    options.listen = listen.c_str();
    options.handler = handler;
    options.concurrency = model.concurrency;
    options.max_children = model.max_children;
    options.poll_interval_ms = 10;      /* renews child.report */
    if (child_start_weir(&it.server, SERVER_CPU, &options) < 0)
        return "a server did not start";

    load_options load = closed_loop(LOAD_LINE, it.server.address, CLIENTS);

    load.per_connection = per_connection;
    it.clients_go = true;
    return load_create(&it.load, &load) < 0 ? "the generator could not start" : nullptr;
}

void concurrency(benchmark::State &state, const model &model, const char *transport,
                 uint32_t per_connection)
{
    struct weir_handler handler = {};
    contender base, other;

    handler.name = "echo_lines";
    handler.handle = echo_lines;
    handler.data = &per_connection;
    for (auto _ : state) {
        const char *wrong = start(base, pool, address(transport, pool), &handler,
                                  per_connection);

        if (!wrong)
            wrong = start(other, model, address(transport, model), &handler, per_connection);
        if (!wrong)
            wrong = paired_run(base, other, LEAST_SLICE_MS);
        if (wrong) {
            row_failed(state, wrong);
            return;
        }
    }

    const spread ratio = paired_ratio(base, other, &slice::cpu_us);

    state.counters["cpu_us"] = paired_median(other, &slice::cpu_us);
    state.counters["pool_cpu_us"] = paired_median(base, &slice::cpu_us);
    state.counters["ratio"] = ratio.median;
    state.counters["ratio_min"] = ratio.min;
    state.counters["ratio_max"] = ratio.max;
    state.counters["rps"] = paired_median(other, &slice::rps);
    state.counters["pool_rps"] = paired_median(base, &slice::rps);
    state.counters["p99_us"] = latency_us(other, 0.99);
    state.counters["pool_p99_us"] = latency_us(base, 0.99);
}

void register_row(const model &model, const char *transport, uint32_t per_connection)
{
    std::string name = std::string(model.name) + "/" + transport +
        "/requests_per_connection:" + std::to_string(per_connection);

    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State &state) {
        concurrency(state, model, transport, per_connection);
    })->Iterations(1)->Unit(benchmark::kSecond)->UseRealTime();
}

void register_rows()
{
    for (const model &model : others)
        for (const char *transport : { "tcp", "unix" })
            for (uint32_t per_connection : { 1, 10, 100 })
                register_row(model, transport, per_connection);
}

} // namespace

int main(int argc, char **argv)
{
    register_rows();
    return paired_main(argc, argv);
}
