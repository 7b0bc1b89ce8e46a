/*
 * memory_benchmark.cc - what a client that does nothing costs in resident memory.
 *
 *   kept      between two requests: it has had one answered, and its handler returned WEIR_KEEP
 *   stalled   in the middle of a request: its handler waits on a parked fiber for the rest
 *
 * The figure is the growth of the server's resident memory (heap, stacks and tables, but not the
 * kernel's socket) divided by the clients. The server has served some others before, so that what
 * it needs anyway is not counted.
 */
#include <benchmark/benchmark.h>

#include "bench/paired.h"
#include "bench/rows.h"
#include "handlers/hello.h"
#include "handlers/upper.h"

namespace {

constexpr uint32_t CLIENTS = 5000;
constexpr uint32_t OTHERS = 64;
const char no_memory[] = "the kernel does not tell the server's memory";

const char *measure(const struct child &server, bool stalled, load_mode mode, double *ret_bytes)
{
    const load_options few = closed_loop(mode, server.address, OTHERS);
    load_options many = closed_loop(mode, server.address, stalled ? 0 : CLIENTS);
    contender others, clients;
    uint64_t before, after;

    if (load_create(&others.load, &few) < 0 || load_run(others.load, 100, &others.total) < 0 ||
        !child_settled(&server.report->stats.idle, OTHERS))
        return "the server does not keep its connections";
    before = child_resident_bytes(&server);
    if (before == 0)
        return no_memory;
    many.stalled = stalled ? CLIENTS : 0;
    if (load_create(&clients.load, &many) < 0 || load_run(clients.load, 0, &clients.total) < 0)
        return "the generator could not connect";
    if (stalled && !child_settled(&server.report->stats.parked, CLIENTS))
        return "the clients are not all parked";
    if (!stalled && (clients.total.requests != CLIENTS ||
                     !child_settled(&server.report->stats.idle, OTHERS + CLIENTS)))
        return "the clients are not all kept";
    after = child_resident_bytes(&server);
    if (after == 0)
        return no_memory;
    *ret_bytes = (static_cast<double>(after) - static_cast<double>(before)) / CLIENTS;
    return nullptr;
}

void memory(benchmark::State &state, const struct weir_handler *handler, load_mode mode,
            bool stalled)
{
    struct weir_options options = {};
    contender weir;
    double bytes = 0;

    options.handler = handler;
    options.workers = 2;
    options.poll_interval_ms = 10;
    for (auto _ : state) {
        const char *wrong = child_start_weir(&weir.server, CHILD_ANY_CPU, &options) < 0
            ? "the server did not start" : measure(weir.server, stalled, mode, &bytes);

        if (wrong) {
            row_failed(state, wrong);
            return;
        }
    }
    state.counters["clients"] = CLIENTS;
    state.counters["bytes_per_client"] = bytes;
}

BENCHMARK_CAPTURE(memory, kept/upper, &upper_handler, LOAD_UPPER, false)->Iterations(1);
BENCHMARK_CAPTURE(memory, kept/hello, &hello_handler, LOAD_HTTP, false)->Iterations(1);
BENCHMARK_CAPTURE(memory, stalled/upper, &upper_handler, LOAD_UPPER, true)->Iterations(1);
BENCHMARK_CAPTURE(memory, stalled/hello, &hello_handler, LOAD_HTTP, true)->Iterations(1);

} // namespace

int main(int argc, char **argv)
{
    return paired_main(argc, argv);
}
