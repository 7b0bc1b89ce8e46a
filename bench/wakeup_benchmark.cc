/*
 * wakeup_benchmark.cc - how long a client waits for a sleeping pool to wake up.
 *
 *   futex      one thread wakes another, no server: what the machine needs for it
 *   epoll      a bare thread asleep in epoll_wait on a connection: what sockets need
 *   kept       weir, a kept connection: from before the client's send to the handler's first
 *              instruction
 *   accepted   weir, a new connection: from before the client's connect to the same; the acceptor
 *              and a worker have to wake up, one after the other
 *   handed     weir, no client: from before a connection is put into the ready queue by another
 *              thread to the handler's first instruction
 *   submitted  the same, from before weir_submit_fd
 *   eventfd    a bare thread asleep in epoll_wait on an eventfd: what the queue's wake-up needs
 *   worked     a futex whose sleeper has made and closed a pair of sockets before it slept, as a
 *              worker has closed a connection: what the CPU's caches have forgotten meanwhile
 *
 * The sleepers are on CPU 0, who wakes them is on the last CPU; in rows that end in one_cpu, on CPU
 * 0 as well. Every row takes turns with the futex and prints its ratio to it; everybody is asleep
 * again before the next sample.
 */
#include <benchmark/benchmark.h>

#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include <weir/weir.h>

#include "bench/handed.h"
#include "bench/pinned.h"
#include "bench/rows.h"

namespace {

constexpr int BLOCKS = 15;
constexpr int SAMPLES = 100;        /* in a block */
constexpr auto REST = std::chrono::microseconds(200);

/* When whoever was woken last ran its first instruction. */
std::atomic<int64_t> awake_ns;

int64_t now_ns()
{
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

/* Wakes somebody, waits for the answer and returns how long it took to awake_ns; -1: failed. */
using waker = std::function<int64_t()>;

/* ------------------------------------------------------------- the futex ---------------- */

void signal(std::atomic<uint32_t> &word)
{
    word++;
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

void await(std::atomic<uint32_t> &word, uint32_t last)
{
    while (word == last)
        syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, last, nullptr, nullptr, 0);
}

/* Counts those who were woken by other means than the futex, and says so by it. */
std::atomic<uint32_t> awoken;

class futex_sleeper {
public:
    explicit futex_sleeper(bool has_work = false) : works(has_work)
    {
        pinned server(SERVER_CPU);

        thread = std::thread([this] { sleeper(); });
    }
    ~futex_sleeper()
    {
        over = true;
        signal(ping);
        thread.join();
    }
    int64_t wake()
    {
        const uint32_t last = pong;
        const int64_t start_ns = now_ns();

        signal(ping);
        await(pong, last);
        return awake_ns - start_ns;
    }

private:
    void sleeper()
    {
        for (uint32_t last = 0; !over; last++) {
            await(ping, last);
            awake_ns = now_ns();
            signal(pong);
            if (works)
                work();
        }
    }
    static void work()
    {
        int ends[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
            std::abort();
        close(ends[0]);
        close(ends[1]);
    }

    const bool works;
    std::atomic<uint32_t> ping{0}, pong{0};
    std::atomic<bool> over{false};
    std::thread thread;
};

/* ------------------------------------------------------------- sockets ------------------ */

int connected(uint16_t port)
{
    struct sockaddr_in address = {};
    const int yes = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    if (connect(fd, reinterpret_cast<sockaddr *>(&address), sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

bool echoed(int fd)
{
    char byte = 'x';

    return send(fd, &byte, 1, MSG_NOSIGNAL) == 1 && recv(fd, &byte, 1, 0) == 1;
}

int64_t exchange(int fd)
{
    const int64_t start_ns = now_ns();

    return echoed(fd) ? awake_ns - start_ns : -1;
}

int64_t connect_and_exchange(uint16_t port)
{
    const int64_t start_ns = now_ns();
    int fd = connected(port);
    bool answered = fd >= 0 && echoed(fd);

    close(fd);
    return answered ? awake_ns - start_ns : -1;
}

/* Answers each byte, with epoll_wait before each. Ends at the end of file. */
void bare_sleeper(int fd)
{
    struct epoll_event event = {};
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    char byte;

    event.events = EPOLLIN | EPOLLET;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    do {
        epoll_wait(epoll_fd, &event, 1, -1);
        awake_ns = now_ns();
    } while (recv(fd, &byte, 1, 0) == 1 && send(fd, &byte, 1, MSG_NOSIGNAL) == 1);
    close(epoll_fd);
    close(fd);
}

int answer(struct weir_request *req, int status)
{
    char byte;
    ssize_t n;

    awake_ns = now_ns();
    n = weir_read(req, &byte, 1);
    if (n > 0)
        n = weir_write(req, &byte, 1);
    return n > 0 ? status : static_cast<int>(n);
}

int answer_and_keep(struct weir_request *req)
{
    return answer(req, WEIR_KEEP);
}

int answer_and_close(struct weir_request *req)
{
    return answer(req, 0);
}

/* ------------------------------------------------------------- measuring ---------------- */

/* Adds a block's samples; returns their median, or -1. */
double sample(const waker &wake, std::vector<double> *all_us)
{
    std::vector<double> block;

    for (int i = 0; i < SAMPLES; i++) {
        std::this_thread::sleep_for(REST);

        const int64_t ns = wake();

        if (ns < 0)
            return -1;
        block.push_back(static_cast<double>(ns) / 1e3);
    }
    all_us->insert(all_us->end(), block.begin(), block.end());
    std::sort(block.begin(), block.end());
    return block[SAMPLES / 2];
}

void measure(benchmark::State &state, const waker &wake, int waker_cpu = client_cpu())
{
    std::vector<double> own_us, futex_us, ratios;
    futex_sleeper futex;
    pinned client(waker_cpu);

    for (auto _ : state) {
        for (int i = 0; i < BLOCKS; i++) {
            const double futex_median = sample([&] { return futex.wake(); }, &futex_us);
            const double own_median = sample(wake, &own_us);

            if (own_median < 0) {
                row_failed(state, "an answer did not come");
                return;
            }
            ratios.push_back(own_median / futex_median);
        }
    }
    std::sort(own_us.begin(), own_us.end());
    std::sort(futex_us.begin(), futex_us.end());
    std::sort(ratios.begin(), ratios.end());
    state.counters["p50_us"] = own_us[own_us.size() / 2];
    state.counters["p99_us"] = own_us[own_us.size() * 99 / 100];
    state.counters["futex_p50_us"] = futex_us[futex_us.size() / 2];
    state.counters["ratio"] = ratios[ratios.size() / 2];
    state.counters["ratio_min"] = ratios.front();
    state.counters["ratio_max"] = ratios.back();
}

/* ------------------------------------------------------------- the rows ----------------- */

/* Both ends of a TCP connection. */
bool connected_pair(int *ret_client, int *ret_server)
{
    struct sockaddr_in address = {};
    socklen_t address_len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (listen(listener, 1) < 0 ||      /* unbound: the kernel chooses a port */
        getsockname(listener, reinterpret_cast<sockaddr *>(&address), &address_len) < 0)
        return false;
    *ret_client = connected(ntohs(address.sin_port));
    *ret_server = accept(listener, nullptr, nullptr);
    close(listener);
    return *ret_client >= 0 && *ret_server >= 0;
}

void epoll(benchmark::State &state)
{
    int client_fd, server_fd;
    std::thread sleeper;

    if (!connected_pair(&client_fd, &server_fd)) {
        row_failed(state, "no sockets");
        return;
    }
    {
        pinned server(SERVER_CPU);

        sleeper = std::thread(bare_sleeper, server_fd);
    }
    measure(state, [=] { return exchange(client_fd); });
    close(client_fd);
    sleeper.join();
}

void weir(benchmark::State &state, bool kept, weir_dispatch dispatch)
{
    struct weir_handler handler = {};
    struct weir_options options = {};
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    handler.name = "answer";
    handler.handle = kept ? answer_and_keep : answer_and_close;
    options.listen = "tcp://127.0.0.1:0";
    options.handler = &handler;
    options.workers = 1;
    options.dispatch = dispatch;
    {
        pinned here(SERVER_CPU);

        if (weir_server_create(&server, &options) < 0) {
            row_failed(state, weir_why());
            return;
        }
        weir_server_start(server);
    }
    weir_server_address(server, 0, address, sizeof(address));

    const uint16_t port = static_cast<uint16_t>(std::atoi(std::strrchr(address, ':') + 1));

    if (kept) {
        int fd = connected(port);

        echoed(fd);     /* the first call of handle() may have begun before the byte came */
        measure(state, [=] { return exchange(fd); });
        close(fd);
    } else {
        measure(state, [=] { return connect_and_exchange(port); });
    }
    weir_server_shutdown(server);
    weir_server_destroy(server);
}

/* Sleeps as a worker does, edge-triggered, and never reads what woke it. */
void eventfd_sleeper(int fd, const std::atomic<bool> &over)
{
    struct epoll_event event = {};
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

    event.events = EPOLLIN | EPOLLET;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    while (!over) {
        epoll_wait(epoll_fd, &event, 1, -1);
        awake_ns = now_ns();
        signal(awoken);
    }
    close(epoll_fd);
}

void eventfd(benchmark::State &state, bool one_cpu)
{
    const uint64_t one = 1;
    std::atomic<bool> over{false};
    std::thread sleeper;
    int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    {
        pinned server(SERVER_CPU);

        sleeper = std::thread([fd, &over] { eventfd_sleeper(fd, over); });
    }
    measure(state, [&]() -> int64_t {
        const uint32_t last = awoken;
        const int64_t start_ns = now_ns();

        if (write(fd, &one, sizeof(one)) < 0)
            return -1;
        await(awoken, last);
        return awake_ns - start_ns;
    }, one_cpu ? SERVER_CPU : client_cpu());
    over = true;
    if (write(fd, &one, sizeof(one)) < 0)
        std::abort();
    sleeper.join();
    close(fd);
}

void worked(benchmark::State &state, bool one_cpu)
{
    futex_sleeper sleeper(true);

    measure(state, [&] { return sleeper.wake(); }, one_cpu ? SERVER_CPU : client_cpu());
}

int tell_and_close(struct weir_request *)
{
    awake_ns = now_ns();
    signal(awoken);
    return 0;
}

/*
 * A server that accepts nobody: its pool runs since a first connection was submitted. What is given
 * next is made ready beforehand, so that whoever gives it comes from sleep, as the futex's waker.
 */
class pool_without_acceptor {
public:
    explicit pool_without_acceptor(bool by_queue)
    {
        struct weir_options options = {};

        handler.name = "tell";
        handler.handle = tell_and_close;
        options.listen = "tcp://127.0.0.1:0";
        options.handler = &handler;
        options.workers = 1;
        if (weir_server_create(&server, &options) < 0)
            std::abort();
        prepare();
        {
            pinned here(SERVER_CPU);

            served();
        }
        handed = by_queue;
        prepare();
    }
    pool_without_acceptor(const pool_without_acceptor &) = delete;
    pool_without_acceptor &operator=(const pool_without_acceptor &) = delete;
    ~pool_without_acceptor()
    {
        served();   /* or the server would wait for it */
        weir_server_destroy(server);
    }
    int64_t wake()
    {
        const int64_t took_ns = served();

        prepare();
        return took_ns;
    }

private:
    /* What is prepared is given; -1, or how long it took to the handler. */
    int64_t served()
    {
        const uint32_t last = awoken;
        const int64_t start_ns = now_ns();

        if (!give())
            return -1;
        await(awoken, last);
        close(ends[0]);
        return awake_ns - start_ns;
    }
    bool give()
    {
        if (!handed)
            return weir_submit_fd(server, ends[1], nullptr) == 0;
        handed_over(server, conn);
        return true;
    }
    void prepare()
    {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
            std::abort();
        conn = handed ? handed_create(server, ends[1], &handler) : nullptr;
    }

    bool handed = false;        /* by the ready queue; else by weir_submit_fd */
    struct weir_handler handler = {};
    struct weir_server *server = nullptr;
    struct connection *conn = nullptr;
    int ends[2];
};

void given(benchmark::State &state, bool handed, bool one_cpu)
{
    pool_without_acceptor pool(handed);

    measure(state, [&] { return pool.wake(); }, one_cpu ? SERVER_CPU : client_cpu());
}

BENCHMARK(epoll)->Iterations(1);
BENCHMARK_CAPTURE(weir, kept/worker, true, WEIR_DISPATCH_WORKER)->Iterations(1);
BENCHMARK_CAPTURE(weir, kept/acceptor, true, WEIR_DISPATCH_ACCEPTOR)->Iterations(1);
BENCHMARK_CAPTURE(weir, accepted/worker, false, WEIR_DISPATCH_WORKER)->Iterations(1);
BENCHMARK_CAPTURE(weir, accepted/acceptor, false, WEIR_DISPATCH_ACCEPTOR)->Iterations(1);
BENCHMARK_CAPTURE(eventfd, two_cpus, false)->Iterations(1);
BENCHMARK_CAPTURE(eventfd, one_cpu, true)->Iterations(1);
BENCHMARK_CAPTURE(worked, two_cpus, false)->Iterations(1);
BENCHMARK_CAPTURE(worked, one_cpu, true)->Iterations(1);
BENCHMARK_CAPTURE(given, handed/two_cpus, true, false)->Iterations(1);
BENCHMARK_CAPTURE(given, handed/one_cpu, true, true)->Iterations(1);
BENCHMARK_CAPTURE(given, submitted/two_cpus, false, false)->Iterations(1);
BENCHMARK_CAPTURE(given, submitted/one_cpu, false, true)->Iterations(1);

} // namespace

int main(int argc, char **argv)
{
    return rows_main(argc, argv);
}
