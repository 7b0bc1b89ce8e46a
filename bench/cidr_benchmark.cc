// cidr_benchmark.cc - what it takes to find the network of an address.
//
// The networks are drawn as those of a real list are spread: prefixes of 8 to 32 bits (IPv6: 16 to
// 64), most of them long. The arguments: how many networks, and the address family. A hit asks
// after an address inside one of them, a miss after one that no network holds. Each time another
// address: the branches can't be learnt, and the nodes are not all in the nearest cache.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bench/rows.h"

extern "C" {
#include "engine/net/cidr.h"
}

namespace {

constexpr uint16_t none = 9999;
constexpr size_t hosts_len = 1 << 14;

uint64_t draw(uint64_t &random)
{
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return random;
}

unsigned __int128 draw_bits(uint64_t &random, bool v6)
{
    unsigned __int128 bits = static_cast<unsigned __int128>(draw(random)) << 64 | draw(random);

    return v6 ? bits : bits >> 96 << 96;
}

struct Networks {
    cidr_set set = {};
    std::vector<cidr> all;
    uint64_t random = 88172645463325252;
    bool v6;

    Networks(size_t n, bool is_v6) : v6(is_v6)
    {
        while (all.size() < n) {
            unsigned shortest = v6 ? 16 : 8, longest = v6 ? 64 : 32;
            unsigned len = longest - static_cast<unsigned>(
                std::min(draw(random) % (longest - shortest + 1),
                         draw(random) % (longest - shortest + 1)));
            cidr network = {};

            network.v6 = v6;
            network.len = static_cast<uint8_t>(len);
            network.bits = draw_bits(random, v6) >> (128 - len) << (128 - len);
            if (cidr_set_add(&set, &network, 1) == 0)
                all.push_back(network);
        }
    }
    ~Networks() { cidr_set_fini(&set); }

    std::vector<cidr> hosts(bool hit)
    {
        std::vector<cidr> hosts;

        while (hosts.size() < hosts_len) {
            cidr host = {};

            host.v6 = v6;
            host.len = v6 ? 128 : 32;
            host.bits = draw_bits(random, v6);
            if (hit) {
                const cidr &network = all[draw(random) % all.size()];

                host.bits = network.bits;
                if (network.len < host.len)
                    host.bits |= draw_bits(random, v6) >> network.len >> (128 - host.len)
                                 << (128 - host.len);
            }
            if ((cidr_set_find(&set, &host, none) != none) == hit)
                hosts.push_back(host);
        }
        return hosts;
    }
};

void find(benchmark::State &state, bool hit)
{
    Networks networks(static_cast<size_t>(state.range(0)), state.range(1) == 6);
    std::vector<cidr> hosts = networks.hosts(hit);
    size_t i = 0;

    for (auto _ : state)
        benchmark::DoNotOptimize(cidr_set_find(&networks.set, &hosts[i++ % hosts_len], none));
    state.counters["bytes_per_network"] =
        static_cast<double>(networks.set.nodes_len * sizeof(cidr_node)) /
        static_cast<double>(networks.all.size());
}

void BM_hit(benchmark::State &state) { find(state, true); }
void BM_miss(benchmark::State &state) { find(state, false); }

BENCHMARK(BM_hit)->ArgsProduct({{10, 1000, 10000}, {4, 6}});
BENCHMARK(BM_miss)->ArgsProduct({{10, 1000, 10000}, {4, 6}});

}  // namespace

int main(int argc, char **argv)
{
    return rows_main(argc, argv);
}
