/*
 * datagram_benchmark.cc - what a datagram costs: transport x datagrams under way x workers.
 *
 * A row is weir with the echo handler, called once per datagram of 32 bytes, against the bare
 * recvmmsg/sendmmsg loop, taken in the same run (paired.h). All threads of both servers share
 * CPU 0, the generator has the last one. One socket serves all: two workers share what it brings.
 *
 *   rps           datagrams answered per second by weir
 *   cpu_us        server CPU microseconds per datagram: all of the process's, kernel included
 *   bare_cpu_us   the same of the bare loop
 *   ratio         cpu_us / bare_cpu_us, the median of the pairs' ratios; ratio_min, ratio_max
 *   p50_us p99_us latency as the generator sees it, with so many datagrams always under way
 *   lost          datagrams that had to be sent again, per 1000 answered; bare_lost the same
 */
#include <benchmark/benchmark.h>

#include <unistd.h>

#include <string>

#include "bench/paired.h"
#include "bench/pinned.h"
#include "bench/rows.h"
#include "handlers/echo.h"

namespace {

struct transport {
    const char *name;
    int family;
    std::string address;        /* for weir */
};

/*
 * So many that neither queue overflows: a UDP socket's holds about 250 small datagrams, and a Unix
 * socket's net.unix.max_dgram_qlen, 10.
 */
struct traffic {
    uint32_t sockets;
    uint32_t in_flight;         /* on each */
};

const char *start(contender &bare, contender &weir, const transport &over, const traffic &traffic,
                  uint32_t workers)
{
    struct weir_options options = {};

    options.listen = over.address.c_str();
    options.handler = &echo_handler;
    options.workers = workers;
    if (child_start_bare_datagrams(&bare.server, SERVER_CPU, over.family) < 0 ||
        child_start_weir(&weir.server, SERVER_CPU, &options) < 0)
        return "a server did not start";

    for (contender *it : { &bare, &weir }) {
        load_options load = closed_loop(LOAD_LINE, it->server.address, traffic.sockets);

        load.in_flight = traffic.in_flight;
        if (load_create(&it->load, &load) < 0)
            return "the generator could not connect";
    }
    return nullptr;
}

double lost(const contender &it)
{
    return 1000 * static_cast<double>(it.total.lost) / static_cast<double>(it.total.requests);
}

void datagrams(benchmark::State &state, const transport &over, const traffic &traffic,
               uint32_t workers)
{
    contender bare, weir;

    for (auto _ : state) {
        const char *wrong = start(bare, weir, over, traffic, workers);

        if (!wrong)
            wrong = paired_run(bare, weir);
        if (wrong) {
            row_failed(state, wrong);
            return;
        }
    }

    const spread ratio = paired_ratio(bare, weir, &slice::cpu_us);

    state.counters["rps"] = paired_median(weir, &slice::rps);
    state.counters["cpu_us"] = paired_median(weir, &slice::cpu_us);
    state.counters["bare_cpu_us"] = paired_median(bare, &slice::cpu_us);
    state.counters["ratio"] = ratio.median;
    state.counters["ratio_min"] = ratio.min;
    state.counters["ratio_max"] = ratio.max;
    state.counters["p50_us"] = latency_us(weir, 0.50);
    state.counters["p99_us"] = latency_us(weir, 0.99);
    state.counters["lost"] = lost(weir);
    state.counters["bare_lost"] = lost(bare);
}

void register_rows(const transport &over, std::initializer_list<traffic> amounts)
{
    for (const traffic &traffic : amounts)
        for (uint32_t workers : { 1, 2 }) {
            std::string name = std::string(over.name) +
                "/under_way:" + std::to_string(traffic.sockets * traffic.in_flight) +
                "/workers:" + std::to_string(workers);

            benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State &state) {
                datagrams(state, over, traffic, workers);
            })->Iterations(1)->Unit(benchmark::kSecond)->UseRealTime();
        }
}

} // namespace

int main(int argc, char **argv)
{
    const std::string name = "unixgram:@weir-bench-" + std::to_string(getpid());

    register_rows({ "udp", AF_INET, "udp://127.0.0.1:0" }, { { 1, 1 }, { 4, 4 }, { 8, 16 } });
    register_rows({ "unixgram", AF_UNIX, name }, { { 4, 2 } });
    return paired_main(argc, argv);
}
