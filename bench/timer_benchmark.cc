// timer_benchmark.cc - the timing wheel beside a balanced tree, doing the same work.
//
// A server arms a timeout for nearly every read and disarms it soon after: re-arming, with many
// others armed meanwhile, is what it does all day. The argument is how many are armed.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "bench/rows.h"

extern "C" {
#include "engine/base/timer.h"
}

namespace {

constexpr uint64_t start_ms = 123456789;
constexpr uint64_t timeout_ms = 30000;

// The yardstick: a std::multimap by deadline.
class Tree {
public:
    using Map = std::multimap<uint64_t, size_t>;

    explicit Tree(size_t n) : where_(n, armed_.end()) {}

    void arm(size_t i, uint64_t deadline_ms)
    {
        if (where_[i] != armed_.end())
            armed_.erase(where_[i]);
        where_[i] = armed_.emplace(deadline_ms, i);
    }
    bool expire(uint64_t now_ms)
    {
        auto first = armed_.begin();

        if (first == armed_.end() || first->first > now_ms)
            return false;
        where_[first->second] = armed_.end();
        armed_.erase(first);
        return true;
    }
    uint64_t next_ms() const { return armed_.empty() ? UINT64_MAX : armed_.begin()->first; }

private:
    Map armed_;
    std::vector<Map::iterator> where_;
};

class Wheel {
public:
    explicit Wheel(size_t n) : timers_(n) { timer_wheel_init(&wheel_, start_ms); }

    void arm(size_t i, uint64_t deadline_ms) { timer_arm(&wheel_, &timers_[i], deadline_ms); }
    bool expire(uint64_t now_ms) { return timer_wheel_expire(&wheel_, now_ms) != nullptr; }
    uint64_t next_ms() const { return timer_wheel_next_ms(&wheel_); }

private:
    timer_wheel wheel_;
    std::vector<timer> timers_;
};

uint64_t draw(uint64_t &random)
{
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return random;
}

// Requests come in at random; the clock moves on by a millisecond every hundred of them.
template <class Timers> void BM_rearm(benchmark::State &state)
{
    auto n = static_cast<size_t>(state.range(0));
    Timers timers(n);
    uint64_t random = 88172645463325252, now_ms = start_ms, steps = 0;
    size_t expired = 0;

    for (size_t i = 0; i < n; i++)
        timers.arm(i, now_ms + 1 + i * timeout_ms / n);
    for (auto _ : state) {
        timers.arm(draw(random) % n, now_ms + timeout_ms);
        if (++steps % 100 == 0)
            while (timers.expire(++now_ms))
                expired++;
    }
    state.counters["expired_per_rearm"] = static_cast<double>(expired) / static_cast<double>(steps);
}
BENCHMARK_TEMPLATE(BM_rearm, Wheel)->Arg(1)->Arg(100)->Arg(10000)->Arg(1000000);
BENCHMARK_TEMPLATE(BM_rearm, Tree)->Arg(1)->Arg(100)->Arg(10000)->Arg(1000000);

// Every timer runs out: one iteration arms and expires n, over a minute, a look at a time.
template <class Timers> void BM_expire(benchmark::State &state)
{
    auto n = static_cast<size_t>(state.range(0));
    Timers timers(n);
    uint64_t random = 88172645463325252, now_ms = start_ms;
    size_t expired = 0, looks = 0;

    for (auto _ : state) {
        for (size_t i = 0; i < n; i++)
            timers.arm(i, now_ms + 1 + draw(random) % 60000);
        while (timers.next_ms() != UINT64_MAX) {
            now_ms = std::max(now_ms, timers.next_ms());
            while (timers.expire(now_ms))
                expired++;
            looks++;
        }
    }
    if (expired != static_cast<size_t>(state.iterations()) * n)
        row_failed(state, "timers lost");
    state.SetItemsProcessed(static_cast<int64_t>(expired));
    state.counters["looks_per_timer"] = static_cast<double>(looks) / static_cast<double>(expired);
}
BENCHMARK_TEMPLATE(BM_expire, Wheel)->Arg(1)->Arg(100)->Arg(10000)->Arg(1000000);
BENCHMARK_TEMPLATE(BM_expire, Tree)->Arg(1)->Arg(100)->Arg(10000)->Arg(1000000);

// What a worker asks before it sleeps.
void BM_next(benchmark::State &state)
{
    Wheel timers(1);

    timers.arm(0, start_ms + timeout_ms);
    for (auto _ : state)
        benchmark::DoNotOptimize(timers.next_ms());
}
BENCHMARK(BM_next);

}  // namespace

int main(int argc, char **argv)
{
    return rows_main(argc, argv);
}
