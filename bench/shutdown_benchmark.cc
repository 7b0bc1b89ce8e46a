/*
 * shutdown_benchmark.cc - how long weir_server_shutdown takes, called from another thread.
 *
 * It is called while the acceptor sleeps, with its next service_actions poll_interval_ms away, and
 * returns when the acceptor has left its loop. Where a server looks once in a poll interval
 * whether it is to end, as socketserver does, a call takes half an interval on average.
 *
 *   p50_ms max_ms   of the calls
 */
#include <benchmark/benchmark.h>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include <weir/weir.h>

#include "bench/rows.h"
#include "handlers/echo.h"

namespace {

constexpr int CALLS = 50;
constexpr useconds_t FALLS_ASLEEP_US = 2000;

struct model {
    const char *name;
    weir_concurrency concurrency;
};

const model models[] = {
    { "pool", WEIR_POOL }, { "serial", WEIR_SERIAL }, { "thread", WEIR_THREAD },
    { "fork", WEIR_FORK }, { "prefork", WEIR_PREFORK },
};

bool serve_and_shut_down(struct weir_server *server, double *ret_seconds)
{
    if (weir_server_start(server) < 0)
        return false;
    usleep(FALLS_ASLEEP_US);

    const auto begin = std::chrono::steady_clock::now();
    const int r = weir_server_shutdown(server);

    *ret_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return r == 0;
}

void shutdown(benchmark::State &state, weir_concurrency concurrency, uint32_t poll_interval_ms)
{
    struct weir_options options = {};
    struct weir_server *server = nullptr;
    std::vector<double> seconds;

    options.listen = "tcp://127.0.0.1:0";
    options.handler = &echo_handler;
    options.concurrency = concurrency;
    options.poll_interval_ms = poll_interval_ms;
    if (weir_server_create(&server, &options) < 0)
        row_failed(state, weir_why());
    for (auto _ : state) {
        double took;

        if (!serve_and_shut_down(server, &took)) {
            row_failed(state, weir_why());
            break;
        }
        state.SetIterationTime(took);
        seconds.push_back(took);
    }
    weir_server_destroy(server);
    if (seconds.empty())
        return;
    std::sort(seconds.begin(), seconds.end());
    state.counters["p50_ms"] = 1e3 * seconds[seconds.size() / 2];
    state.counters["max_ms"] = 1e3 * seconds.back();
}

void register_rows()
{
    for (const model &model : models)
        for (uint32_t poll_interval_ms : { 100, 1000, 60000 }) {
            std::string name = std::string(model.name) +
                "/poll_interval_ms:" + std::to_string(poll_interval_ms);

            benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State &state) {
                shutdown(state, model.concurrency, poll_interval_ms);
            })->Iterations(CALLS)->UseManualTime()->Unit(benchmark::kMillisecond);
        }
}

} // namespace

int main(int argc, char **argv)
{
    register_rows();
    return rows_main(argc, argv);
}
