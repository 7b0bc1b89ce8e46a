// fiber_benchmark.cc - what it costs to start a fiber, to switch to it, and to keep it parked.
//
// One iteration is a round trip: to the fiber and back.

#include <benchmark/benchmark.h>

#include <alloca.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "bench/rows.h"

extern "C" {
#include "engine/fiber/fiber.h"
#include "engine/fiber/stack.h"
}

namespace {

class Fibers {
public:
    explicit Fibers(unsigned max_idle)
    {
        if (stack_arena_create(0, 0, &arena_) != 0)
            abort();
        fiber_cache_init(&cache, arena_, max_idle);
    }
    ~Fibers()
    {
        fiber_cache_fini(&cache);
        stack_arena_destroy(arena_);
    }
    Fibers(const Fibers &) = delete;
    Fibers &operator=(const Fibers &) = delete;

    fiber_cache cache;

private:
    stack_arena *arena_;
};

// What a parked handler has below it: a few frames, of which it uses both ends.
constexpr size_t frame_size = 768;

struct Parker {
    fiber *on;
    bool leave = false;
};

void return_at_once(fiber *, void *) {}

void park_until_told(fiber *self, void *arg)
{
    auto *parker = static_cast<Parker *>(arg);
    auto *frame = static_cast<volatile char *>(alloca(frame_size));

    while (!parker->leave) {
        for (size_t i = 0; i < frame_size; i += 64)
            frame[i] = 1;
        fiber_park(self);
    }
}

size_t resident_bytes()
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (!file || fscanf(file, "%*d %ld", &pages) != 1)
        abort();
    fclose(file);
    return static_cast<size_t>(pages) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

} // namespace

// Outside, so that it is the same type as in fiber.c.
struct transfer {
    void *context;
    void *data;
};
extern "C" transfer jump_fcontext(void *to, void *data);
extern "C" void *make_fcontext(void *top, size_t size, void (*fn)(transfer));

namespace {

// The floor: Boost.Context's jump, there and back, and nothing else.

void jump_back_for_ever(transfer from)
{
    for (;;)
        from = jump_fcontext(from.context, nullptr);
}

void BM_bare_jump(benchmark::State &state)
{
    std::vector<max_align_t> stack(4096);
    void *context = make_fcontext(stack.data() + stack.size(), stack.size() * sizeof(stack[0]),
                                  jump_back_for_ever);

    for (auto _ : state)
        context = jump_fcontext(context, nullptr).context;
}
BENCHMARK(BM_bare_jump);

void BM_run_to_the_end(benchmark::State &state)
{
    Fibers fibers(1);
    fiber *one = fiber_get(&fibers.cache);

    for (auto _ : state)
        if (!fiber_run(one, return_at_once, nullptr))
            row_failed(state, "it parked");
    fiber_put(&fibers.cache, one);
}
BENCHMARK(BM_run_to_the_end);

// What a request pays that never waits: a fiber from the cache, and back into it.
void BM_get_run_put(benchmark::State &state)
{
    Fibers fibers(1);

    for (auto _ : state) {
        fiber *one = fiber_get(&fibers.cache);

        fiber_run(one, return_at_once, nullptr);
        fiber_put(&fibers.cache, one);
    }
}
BENCHMARK(BM_get_run_put);

// The same with nothing kept warm: the stack's memory comes from the kernel and goes back.
void BM_get_run_put_cold(benchmark::State &state)
{
    Fibers fibers(0);

    for (auto _ : state) {
        fiber *one = fiber_get(&fibers.cache);

        fiber_run(one, return_at_once, nullptr);
        fiber_put(&fibers.cache, one);
        fiber_cache_fini(&fibers.cache);
    }
}
BENCHMARK(BM_get_run_put_cold);

// Round robin over this many parked fibers: switching, and the caches' misses that come with it.
void BM_resume_and_park(benchmark::State &state)
{
    auto n = static_cast<size_t>(state.range(0));
    Fibers fibers(0);
    std::vector<Parker> parkers(n);
    size_t next = 0, ended = 0;
    size_t before = resident_bytes();

    for (Parker &parker : parkers) {
        parker.on = fiber_get(&fibers.cache);
        fiber_run(parker.on, park_until_told, &parker);
    }
    size_t after = resident_bytes();

    for (auto _ : state) {
        fiber_resume(parkers[next].on);
        next = next + 1 < n ? next + 1 : 0;
    }

    for (Parker &parker : parkers) {
        parker.leave = true;
        ended += fiber_resume(parker.on);
        fiber_put(&fibers.cache, parker.on);
    }
    if (ended != n)
        row_failed(state, "a fiber did not end");
    state.counters["resident_bytes_each"] =
        static_cast<double>(after - before) / static_cast<double>(n);
}
BENCHMARK(BM_resume_and_park)->Arg(1)->Arg(64)->Arg(512)->Arg(4096)->Arg(32768);

}  // namespace

int main(int argc, char **argv)
{
    return rows_main(argc, argv);
}
