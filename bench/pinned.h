/*
 * pinned.h - keeps the calling thread on one CPU, and the threads and children it starts meanwhile.
 */
#ifndef WEIR_BENCH_PINNED_H
#define WEIR_BENCH_PINNED_H

#include <sched.h>
#include <unistd.h>

/* Servers are measured on the first CPU and loaded from the last; with one CPU they share it. */
constexpr int SERVER_CPU = 0;

inline int client_cpu()
{
    return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)) - 1;
}

class pinned {
public:
    explicit pinned(int cpu)
    {
        cpu_set_t one;

        CPU_ZERO(&one);
        CPU_SET(static_cast<size_t>(cpu), &one);
        sched_getaffinity(0, sizeof(before), &before);
        sched_setaffinity(0, sizeof(one), &one);
    }
    pinned(const pinned &) = delete;
    pinned &operator=(const pinned &) = delete;
    ~pinned()
    {
        sched_setaffinity(0, sizeof(before), &before);
    }

private:
    cpu_set_t before;
};

#endif
