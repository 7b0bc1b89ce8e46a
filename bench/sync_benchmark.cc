/*
 * sync_benchmark.cc - what locks cost: free ones, beside pthread's, and such as are handed over.
 *
 *   pthread, weir      a mutex that nobody else wants: to lock it and to unlock it
 *   read, write        the same of a read-write lock
 *   semaphore          a unit that is there: to take it and to give it back
 *   once               what has been done
 *   one_worker         two fibers of a worker give each other their turn, by two semaphores: the
 *                      CPU time of one turn, in which a unit is handed over, a fiber parks and the
 *                      other goes on
 *   two_workers        the same two semaphores between fibers of two workers, each on a CPU of its
 *                      own: a turn is a worker that wakes up. It takes turns with two threads that
 *                      do the same by futexes; ratio is to these
 */
#include <benchmark/benchmark.h>

#include <linux/futex.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <thread>
#include <vector>

#include <weir/weir.h>
#include <weir/weir_sync.h>

#include "bench/pinned.h"
#include "bench/rows.h"

namespace {

int64_t now_ns()
{
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

/* Of the calling thread, which others on its CPU don't add to. */
int64_t cpu_ns()
{
    timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* ------------------------------------------------------------- nobody else wants it ----- */

/* With a single thread the C library takes a mutex without an atomic operation. */
class second_thread {
public:
    second_thread() : thread([this] { while (!over) pause(); }) {}
    ~second_thread()
    {
        over = true;
        thread.join();
    }

private:
    void pause()
    {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::atomic<bool> over{false};
    std::thread thread;
};

void pthread(benchmark::State &state)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    second_thread other;

    for (auto _ : state) {
        pthread_mutex_lock(&mutex);
        benchmark::ClobberMemory();
        pthread_mutex_unlock(&mutex);
    }
}

void weir(benchmark::State &state)
{
    static weir_mutex mutex;

    for (auto _ : state) {
        weir_mutex_lock(&mutex);
        benchmark::ClobberMemory();
        weir_mutex_unlock(&mutex);
    }
}

void read(benchmark::State &state)
{
    static weir_rwlock lock;

    for (auto _ : state) {
        weir_rwlock_read_lock(&lock);
        benchmark::ClobberMemory();
        weir_rwlock_read_unlock(&lock);
    }
}

void write(benchmark::State &state)
{
    static weir_rwlock lock;

    for (auto _ : state) {
        weir_rwlock_write_lock(&lock);
        benchmark::ClobberMemory();
        weir_rwlock_write_unlock(&lock);
    }
}

void semaphore(benchmark::State &state)
{
    static weir_semaphore one;

    weir_semaphore_release(&one, 1);
    for (auto _ : state) {
        if (weir_semaphore_acquire(&one) < 0)
            std::abort();
        weir_semaphore_release(&one, 1);
    }
    if (weir_semaphore_acquire(&one) < 0)
        std::abort();
}

int do_nothing(void *)
{
    return 0;
}

void once(benchmark::State &state)
{
    static weir_once_flag begun;

    for (auto _ : state)
        if (weir_once(&begun, do_nothing, nullptr) < 0)
            std::abort();
}

/* ------------------------------------------------------------- fibers ------------------- */

constexpr int TURNS = 20000;    /* in a block */
constexpr int BLOCKS = 15;

weir_semaphore turn_of[2];
int64_t took_ns, worked_ns;     /* what the first player has, and its worker */

void alternate(int player)
{
    for (int i = 0; i < TURNS; i++) {
        if (weir_semaphore_acquire(&turn_of[player]) < 0)
            std::abort();
        weir_semaphore_release(&turn_of[!player], 1);
    }
}

/* The byte says which player it is, and the answer on which worker. */
int play_as_told(struct weir_request *req)
{
    char player;

    while (weir_read(req, &player, 1) == 1) {
        if (player == '?') {
            player = static_cast<char>('0' + weir_worker_number(req));
        } else {
            const int64_t began_ns = now_ns(), began_cpu_ns = cpu_ns();

            alternate(player - '0');
            if (player == '0') {
                took_ns = now_ns() - began_ns;
                worked_ns = cpu_ns() - began_cpu_ns;
            }
        }
        if (weir_write(req, &player, 1) < 0 || weir_flush(req) < 0)
            break;
    }
    return 0;
}

/* A server, and a connection to each of two handlers. */
class table {
public:
    table(uint32_t workers, const char *cpus)
    {
        struct weir_options options = {};

        handler.name = "play";
        handler.handle = play_as_told;
        options.listen = "tcp://127.0.0.1:0";
        options.handler = &handler;
        options.workers = workers;
        options.worker_cpus = cpus;
        if (weir_server_create(&server, &options) < 0)
            std::abort();
        weir_server_start(server);
        players[0] = connected();
        do
            players[1] = connected();
        while ((worker_of(players[0]) == worker_of(players[1])) != (workers == 1));
    }
    table(const table &) = delete;
    table &operator=(const table &) = delete;
    ~table()
    {
        for (int fd : all)
            close(fd);
        weir_server_shutdown(server);
        weir_server_destroy(server);
    }
    /* Both have played. */
    void play()
    {
        for (char player : { '0', '1' })
            if (send(players[player - '0'], &player, 1, MSG_NOSIGNAL) != 1)
                std::abort();
        for (int fd : players)
            answered(fd);
    }

private:
    int connected()
    {
        struct sockaddr_in address = {};
        char text[WEIR_ADDRESS_SIZE];
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        weir_server_address(server, 0, text, sizeof(text));
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(static_cast<uint16_t>(std::atoi(std::strrchr(text, ':') + 1)));
        if (connect(fd, reinterpret_cast<sockaddr *>(&address), sizeof(address)) < 0)
            std::abort();
        all.push_back(fd);
        return fd;
    }
    char answered(int fd)
    {
        char byte;

        if (recv(fd, &byte, 1, 0) != 1)
            std::abort();
        return byte;
    }
    char worker_of(int fd)
    {
        if (send(fd, "?", 1, MSG_NOSIGNAL) != 1)
            std::abort();
        return answered(fd);
    }

    struct weir_handler handler = {};
    struct weir_server *server = nullptr;
    std::vector<int> all;
    int players[2];
};

void one_worker(benchmark::State &state)
{
    pinned here(SERVER_CPU);
    table two(1, nullptr);
    std::vector<double> turns;

    weir_semaphore_release(&turn_of[0], 1);
    for (auto _ : state) {
        for (int i = 0; i < BLOCKS; i++) {
            two.play();
            turns.push_back(static_cast<double>(worked_ns) / (2.0 * TURNS));
        }
    }
    if (weir_semaphore_acquire_within(&turn_of[0], 0) < 0)
        row_failed(state, "a turn has got lost");
    std::sort(turns.begin(), turns.end());
    state.counters["turn_ns"] = turns[BLOCKS / 2];
    state.counters["least_ns"] = turns.front();
}

/* ------------------------------------------------------------- two CPUs ----------------- */

std::atomic<uint32_t> words[2];

void futex_turns(int player)
{
    for (int i = 0; i < TURNS; i++) {
        while (words[player] == 0)
            syscall(SYS_futex, &words[player], FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
        words[player] = 0;
        words[!player] = 1;
        syscall(SYS_futex, &words[!player], FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
    }
}

double futex_turn_ns()
{
    pinned here(SERVER_CPU);
    std::thread other;
    const int64_t began_ns = now_ns();

    {
        pinned there(client_cpu());

        other = std::thread(futex_turns, 1);
    }
    futex_turns(0);
    const int64_t all_ns = now_ns() - began_ns;
    other.join();
    return static_cast<double>(all_ns) / (2.0 * TURNS);
}

void two_workers(benchmark::State &state)
{
    char cpus[32];
    std::vector<double> turns, futex, ratios;

    std::snprintf(cpus, sizeof(cpus), "%d,%d", SERVER_CPU, client_cpu());
    table two(2, cpus);
    weir_semaphore_release(&turn_of[0], 1);
    words[0] = 1;
    for (auto _ : state) {
        for (int i = 0; i < BLOCKS; i++) {
            futex.push_back(futex_turn_ns());
            two.play();
            turns.push_back(static_cast<double>(took_ns) / (2.0 * TURNS));
            ratios.push_back(turns.back() / futex.back());
        }
    }
    if (weir_semaphore_acquire_within(&turn_of[0], 0) < 0)
        row_failed(state, "a turn has got lost");
    for (auto *sorted : { &turns, &futex, &ratios })
        std::sort(sorted->begin(), sorted->end());
    state.counters["turn_ns"] = turns[BLOCKS / 2];
    state.counters["futex_ns"] = futex[BLOCKS / 2];
    state.counters["ratio"] = ratios[BLOCKS / 2];
    state.counters["ratio_min"] = ratios.front();
    state.counters["ratio_max"] = ratios.back();
}

BENCHMARK(pthread);
BENCHMARK(weir);
BENCHMARK(read);
BENCHMARK(write);
BENCHMARK(semaphore);
BENCHMARK(once);
BENCHMARK(one_worker)->Iterations(1);
BENCHMARK(two_workers)->Iterations(1);

} // namespace

int main(int argc, char **argv)
{
    return rows_main(argc, argv);
}
