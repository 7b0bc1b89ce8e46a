/*
 * isolation_benchmark.cc - what clients suffer from others that hold a worker, or stall.
 *
 * stuck: a handler holds its worker for a second without ever waiting; another worker is idle.
 * Meanwhile other connections that the stuck worker waits for become ready: how long until they are
 * answered? In "spaced" they ask all over that second, in "burst" all at once. The connections
 * that the idle worker waits for ask in between: control_ is what the machine does by itself.
 * Threads run on whatever CPU is free; with two CPUs one of them spins, and the rest of the server
 * shares the other with the clients.
 *
 * stalled: the throughput of 64 clients while 2,000 others stay in the middle of a request, against
 * the same server without those (paired.h).
 */
#include <benchmark/benchmark.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "bench/paired.h"
#include "bench/pinned.h"
#include "bench/rows.h"
#include "handlers/hello.h"
#include "handlers/upper.h"

namespace {

using steady = std::chrono::steady_clock;
using std::chrono::milliseconds;

/* ------------------------------------------------------------- a stuck worker ---------- */

constexpr auto HOLD = milliseconds(1000);
constexpr int PROBERS = 200;
constexpr int EPISODES = 5;
constexpr auto GAP = std::chrono::duration_cast<steady::duration>(HOLD * 9 / 10) / PROBERS;
constexpr auto PATIENCE = std::chrono::seconds(5);

/*
 * Answers each line with the worker that runs it, as two bytes. On "hold\n" it answers, and then
 * keeps its worker busy before it answers again.
 */
int tell_worker(struct weir_request *req)
{
    const char answer[] = { static_cast<char>('0' + weir_worker_number(req)), '\n' };
    char *line;
    ssize_t n = weir_readline(req, &line, 64);

    if (n <= 0)
        return static_cast<int>(n);
    if (n == 5 && std::memcmp(line, "hold\n", 5) == 0) {
        const steady::time_point end = steady::now() + HOLD;

        weir_write(req, answer, sizeof(answer));
        weir_flush(req);
        while (steady::now() < end)
            continue;
    }
    weir_write(req, answer, sizeof(answer));
    return WEIR_KEEP;
}

struct prober {
    int fd = -1;
    char home = 0;          /* the worker that waits for it */
    char answered_by = 0;   /* the worker that answered last */
    double delay_ms = 0;    /* ... after so long */
    steady::time_point asked;
};

class probers {
public:
    probers() : all(PROBERS) {}
    probers(const probers &) = delete;
    probers &operator=(const probers &) = delete;
    ~probers()
    {
        for (prober &it : all)
            if (it.fd >= 0)
                close(it.fd);
    }
    bool connect(uint16_t port);
    bool learn_homes();

    std::vector<prober> all;
};

bool ask(prober &it, const char *line)
{
    it.asked = steady::now();
    return send(it.fd, line, std::strlen(line), MSG_NOSIGNAL) > 0;
}

bool hear(prober &it)
{
    char answer[2];

    if (recv(it.fd, answer, sizeof(answer), MSG_WAITALL) != sizeof(answer))
        return false;
    it.answered_by = answer[0];
    it.delay_ms = std::chrono::duration<double, std::milli>(steady::now() - it.asked).count();
    return true;
}

bool probers::connect(uint16_t port)
{
    struct sockaddr_in address = {};
    const struct timeval patience = { PATIENCE.count(), 0 };
    const int yes = 1;

    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    for (prober &it : all) {
        it.fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(it.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        setsockopt(it.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
        if (::connect(it.fd, reinterpret_cast<sockaddr *>(&address), sizeof(address)) < 0)
            return false;
    }
    return true;
}

/* All ask before the first is heard, so that both workers have something to do. */
bool probers::learn_homes()
{
    for (int i = 0; i < 2; i++) {
        for (prober &it : all)
            if (!ask(it, "who?\n"))
                return false;
        for (prober &it : all) {
            if (!hear(it))
                return false;
            it.home = it.answered_by;
        }
    }
    return true;
}

/* One of those whose worker has the most. */
prober *typical(std::vector<prober> &all)
{
    prober *last[2] = {};
    int counts[2] = {};

    for (prober &it : all) {
        last[it.home & 1] = &it;
        counts[it.home & 1]++;
    }
    return last[counts[1] > counts[0]];
}

/*
 * Everyone asks at a moment fixed in advance, whether or not those before have been answered: a
 * single long wait must not hide the others'.
 */
bool probe(const std::vector<prober *> &asking, steady::duration gap)
{
    std::vector<struct pollfd> polled(asking.size(), { -1, POLLIN, 0 });
    steady::time_point next = steady::now();
    size_t asked = 0, heard = 0;

    while (heard < asking.size()) {
        steady::duration wait = PATIENCE;

        for (; asked < asking.size() && steady::now() >= next; asked++, next += gap) {
            if (!ask(*asking[asked], "who?\n"))
                return false;
            polled[asked].fd = asking[asked]->fd;
        }
        if (asked < asking.size())
            wait = next - steady::now();

        const int64_t ns = std::max<int64_t>(0, std::chrono::nanoseconds(wait).count());
        const struct timespec timeout = { ns / 1000000000, ns % 1000000000 };

        if (ppoll(polled.data(), asked, &timeout, nullptr) <= 0 && asked == asking.size())
            return false;
        for (size_t i = 0; i < asked; i++) {
            if (polled[i].revents == 0)
                continue;
            if (!hear(*asking[i]))
                return false;
            polled[i].fd = -1;
            heard++;
        }
    }
    return true;
}

struct delays {
    std::vector<double> stuck_ms;       /* of those whose worker was stuck */
    std::vector<double> control_ms;     /* of the others */
    uint64_t moved = 0;                 /* of the first: answered by another worker */
};

/* One client holds its worker, all others ask. False: an answer did not come. */
bool episode(probers &clients, steady::duration gap, delays *ret)
{
    if (!clients.learn_homes())
        return false;

    prober *holder = typical(clients.all);
    const char stuck = holder->home;
    std::vector<prober *> asking;

    for (prober &it : clients.all)
        if (&it != holder)
            asking.push_back(&it);
    if (!ask(*holder, "hold\n") || !hear(*holder) || !probe(asking, gap))
        return false;
    for (const prober *it : asking) {
        (it->home == stuck ? ret->stuck_ms : ret->control_ms).push_back(it->delay_ms);
        ret->moved += it->home == stuck && it->answered_by != stuck;
    }
    return hear(*holder);
}

double percentile(std::vector<double> values, double share)
{
    if (values.empty())
        return 0;
    std::sort(values.begin(), values.end());
    return values[static_cast<size_t>(static_cast<double>(values.size() - 1) * share)];
}

void stuck(benchmark::State &state, steady::duration gap)
{
    struct weir_handler handler = {};
    struct weir_options options = {};
    struct delays delays;
    contender weir;

    handler.name = "tell_worker";
    handler.handle = tell_worker;
    options.handler = &handler;
    options.workers = 2;
    for (auto _ : state) {
        probers clients;

        if (child_start_weir(&weir.server, CHILD_ANY_CPU, &options) < 0 ||
            !clients.connect(weir.server.port)) {
            row_failed(state, "the server did not start");
            return;
        }
        for (int i = 0; i < EPISODES; i++) {
            if (!episode(clients, gap, &delays)) {
                row_failed(state, "an answer did not come");
                return;
            }
        }
    }
    state.counters["probes"] = static_cast<double>(delays.stuck_ms.size());
    state.counters["moved"] = static_cast<double>(delays.moved);
    state.counters["p50_ms"] = percentile(delays.stuck_ms, 0.50);
    state.counters["p99_ms"] = percentile(delays.stuck_ms, 0.99);
    state.counters["max_ms"] = percentile(delays.stuck_ms, 1);
    state.counters["control_p50_ms"] = percentile(delays.control_ms, 0.50);
    state.counters["control_p99_ms"] = percentile(delays.control_ms, 0.99);
}

BENCHMARK_CAPTURE(stuck, spaced, GAP)->Iterations(1)->Unit(benchmark::kSecond);
BENCHMARK_CAPTURE(stuck, burst, steady::duration(0))->Iterations(1)->Unit(benchmark::kSecond);

/* ------------------------------------------------------------- stalled clients --------- */

constexpr uint32_t CLIENTS = 64;
constexpr uint32_t STALLED = 2000;
constexpr int RUNS = 4;     /* throughput feels the machine's other work, as CPU time does not */

const char *start(contender &it, const struct weir_handler *handler, load_mode mode)
{
    struct weir_options options = {};

    options.handler = handler;
    options.workers = 2;
    options.poll_interval_ms = 50;      /* renews child.report */
    if (child_start_weir(&it.server, SERVER_CPU, &options) < 0)
        return "a server did not start";

    const load_options load = closed_loop(mode, it.server.address, CLIENTS);

    /* One request each, so that all of them are kept and what is parked are the stalled. */
    if (load_create(&it.load, &load) < 0 || load_run(it.load, 0, &it.total) < 0)
        return "the generator could not connect";
    return it.total.first_error;
}

const char *stall(contender &stallers, const contender &beside, load_mode mode)
{
    load_options load = closed_loop(mode, beside.server.address, 0);

    load.stalled = STALLED;
    if (load_create(&stallers.load, &load) < 0 ||
        load_run(stallers.load, 0, &stallers.total) < 0)
        return "the generator could not connect";
    if (!child_settled(&beside.server.report->stats.parked, STALLED))
        return "the stalled clients are not parked";
    return nullptr;
}

void stalled(benchmark::State &state, const struct weir_handler *handler, load_mode mode)
{
    contender without, with, stallers;

    for (auto _ : state) {
        const char *wrong = start(without, handler, mode);

        if (!wrong)
            wrong = start(with, handler, mode);
        if (!wrong)
            wrong = stall(stallers, with, mode);
        for (int i = 0; i < RUNS && !wrong; i++)
            wrong = paired_run(without, with);
        if (wrong) {
            row_failed(state, wrong);
            return;
        }
    }

    const spread kept = paired_ratio(without, with, &slice::rps);

    state.counters["rps"] = paired_median(with, &slice::rps);
    state.counters["kept"] = kept.median;
    state.counters["kept_min"] = kept.min;
    state.counters["kept_max"] = kept.max;
    state.counters["cpu_ratio"] = paired_ratio(without, with, &slice::cpu_us).median;
}

BENCHMARK_CAPTURE(stalled, upper, &upper_handler, LOAD_UPPER)
    ->Iterations(1)->Unit(benchmark::kSecond);
BENCHMARK_CAPTURE(stalled, hello, &hello_handler, LOAD_HTTP)
    ->Iterations(1)->Unit(benchmark::kSecond);

} // namespace

int main(int argc, char **argv)
{
    return paired_main(argc, argv);
}
