// ready_queue_benchmark.cc - the ready queue beside other queues that could do its job.
//
// Rows are candidate/producers+consumers, and candidate/round:N for N threads that each pop and
// push back. Items behave like connections: there are few, each is in the queue at most once, its
// pusher has written to it before, and its popper writes to it afterwards. A row fails if an item
// is lost or doubled.
//
// items_per_second is by the clock; cpu_ns is what an item cost all the threads of the process,
// those included that liburcu runs on the side.

#include "bench/queue_candidates.h"
#include "bench/rows.h"

#include <benchmark/benchmark.h>
#include <sched.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr unsigned window = 64;         // items that circulate, for each thread that pushes
constexpr uint64_t hand_overs = 100000; // in one round
constexpr std::chrono::seconds patience{10};    // a round takes milliseconds; a lost item, for ever

struct Shape {
    unsigned producers, consumers;      // no consumers: each thread pops and pushes back
};

double cpu_seconds()
{
    timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

bool in_queue(const queue_item &item)
{
    return __atomic_load_n(&item.in_queue, __ATOMIC_ACQUIRE) != 0;
}

class Round {
public:
    Round(const queue_candidate &candidate, Shape shape)
        : candidate_(candidate), shape_(shape),
          items_(size_t{window} * shape.producers),
          queue_(candidate.create(items_.size(),
                                  shape.consumers ? shape.consumers : shape.producers))
    {
    }
    ~Round()
    {
        if (queue_)
            candidate_.destroy(queue_);
    }
    Round(const Round &) = delete;
    Round &operator=(const Round &) = delete;

    bool ready() const { return queue_ != nullptr; }

    // Hands items over; returns how long that took, in seconds.
    double run()
    {
        std::vector<std::thread> threads;

        if (shape_.consumers == 0)
            fill();
        for (unsigned i = 0; i < shape_.producers; i++)
            threads.emplace_back([this, i] { work(i, shape_.consumers ? &Round::produce
                                                                      : &Round::pass_round); });
        for (unsigned i = 0; i < shape_.consumers; i++)
            threads.emplace_back([this, i] { work(shape_.producers + i, &Round::consume); });
        while (arrived_.load() < threads.size())
            sched_yield();
        auto begin = std::chrono::steady_clock::now();
        deadline_ = begin + patience;
        go_.store(true);
        for (auto &thread : threads)
            thread.join();
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }

    // What was pushed is what was popped and what is left: in total, and item by item.
    const char *what_is_wrong()
    {
        uint64_t left = 0, missing = 0;

        if (gave_up_)
            return "waited in vain for an item";
        candidate_.enter(queue_);
        while (queue_item *item = candidate_.pop(queue_, 0)) {
            item->pops++;
            left++;
        }
        candidate_.leave(queue_);
        if (pushed_ != popped_ + left)
            return "pushed, popped and left do not add up";
        for (const queue_item &item : items_)
            missing += item.pushes != item.pops;
        return missing ? "items were lost or doubled" : nullptr;
    }

private:
    void work(unsigned thread, void (Round::*job)(unsigned))
    {
        candidate_.enter(queue_);
        arrived_++;
        while (!go_.load())
            sched_yield();
        (this->*job)(thread);
        candidate_.leave(queue_);
    }

    // Lets others run. False when they have had time enough and something must be wrong.
    bool wait()
    {
        sched_yield();
        if (std::chrono::steady_clock::now() > deadline_)
            gave_up_ = true;
        return !gave_up_;
    }

    bool push(unsigned thread, queue_item &item)
    {
        item.pushes++;
        __atomic_store_n(&item.in_queue, 1, __ATOMIC_RELAXED);
        while (!candidate_.push(queue_, thread, &item))
            if (!wait())
                return false;
        return true;
    }

    void take(queue_item &item)
    {
        item.pops++;
        __atomic_store_n(&item.in_queue, 0, __ATOMIC_RELEASE);
    }

    void fill()
    {
        candidate_.enter(queue_);
        for (queue_item &item : items_)
            push(0, item);      // there is room for all of them
        candidate_.leave(queue_);
        pushed_ += items_.size();
    }

    // Its own items in turn; one that is still on its way is waited for.
    void produce(unsigned thread)
    {
        uint64_t quota = hand_overs / shape_.producers;

        for (uint64_t i = 0; i < quota; i++) {
            queue_item &item = items_[thread * window + i % window];

            while (in_queue(item))
                if (!wait())
                    return;
            if (!push(thread, item))
                return;
        }
        pushed_ += quota;
    }

    void consume(unsigned thread)
    {
        uint64_t popped = 0, all = hand_overs / shape_.producers * shape_.producers;
        uint64_t quota = all / shape_.consumers +
            (thread - shape_.producers < all % shape_.consumers ? 1 : 0);

        while (popped < quota) {
            queue_item *item = candidate_.pop(queue_, thread);

            if (!item && wait())
                continue;
            if (!item)
                return;
            take(*item);
            popped++;
        }
        popped_ += popped;
    }

    void pass_round(unsigned thread)
    {
        uint64_t quota = hand_overs / shape_.producers, popped = 0;

        while (popped < quota) {
            queue_item *item = candidate_.pop(queue_, thread);

            if (!item && wait())
                continue;
            if (!item)
                return;
            take(*item);
            if (!push(thread, *item))
                return;
            popped++;
        }
        popped_ += popped;
        pushed_ += popped;
    }

    const queue_candidate &candidate_;
    Shape shape_;
    std::vector<queue_item> items_;
    void *queue_;
    std::chrono::steady_clock::time_point deadline_ = std::chrono::steady_clock::time_point::max();
    std::atomic<bool> go_{false}, gave_up_{false};
    std::atomic<size_t> arrived_{0};
    std::atomic<uint64_t> pushed_{0}, popped_{0};
};

void hand_over(benchmark::State &state, const queue_candidate &candidate, Shape shape)
{
    double cpu = 0;

    for (auto _ : state) {
        Round round(candidate, shape);

        if (!round.ready()) {
            row_failed(state, "no memory");
            return;
        }
        cpu -= cpu_seconds();
        state.SetIterationTime(round.run());
        cpu += cpu_seconds();
        if (const char *what = round.what_is_wrong()) {
            row_failed(state, what);
            return;
        }
    }
    auto items = static_cast<int64_t>(hand_overs) * state.iterations();

    state.SetItemsProcessed(items);
    state.counters["cpu_ns"] = cpu * 1e9 / static_cast<double>(items);
}

std::string row_name(const queue_candidate &candidate, Shape shape)
{
    std::string name = candidate.name;

    if (shape.consumers == 0)
        return name + "/round:" + std::to_string(shape.producers);
    return name + "/" + std::to_string(shape.producers) + "+" + std::to_string(shape.consumers);
}

}  // namespace

int main(int argc, char **argv)
{
    const Shape shapes[] = {{1, 0}, {2, 0}, {4, 0}, {1, 1}, {1, 3}, {2, 2}, {3, 1}};

    for (Shape shape : shapes)
        for (size_t i = 0; i < queue_candidates_len; i++)
            benchmark::RegisterBenchmark(row_name(queue_candidates[i], shape).c_str(), hand_over,
                                         queue_candidates[i], shape)
                ->UseManualTime()->Unit(benchmark::kMillisecond)->MinTime(0.2);
    return rows_main(argc, argv);
}
