// spawn_benchmark.cc - what it costs a handler to spawn a child and to join it: weir_spawn and
// weir_join, on the handler's own fiber, in a server that is otherwise idle. ns_a_child is of one;
// an iteration has 10,000.
//
//   BM_spawn_and_join          the child returns at once: there and back, and no turn of the worker
//   BM_spawn_and_join_yields   the child yields first, so that the handler waits for it: two turns

#include <benchmark/benchmark.h>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>

#include <weir/weir.h>

#include "bench/rows.h"

namespace {

constexpr int CHILDREN = 10000;

using child_function = int (*)(weir_request *req, void *arg);

int return_at_once(weir_request *, void *)
{
    return 1;
}

int yield_once(weir_request *req, void *)
{
    return weir_yield(req) + 1;
}

// For each byte of the client's: how many seconds it takes for CHILDREN.
int spawn_and_join(weir_request *req)
{
    auto child = *static_cast<const child_function *>(weir_user(req));
    char byte;

    while (weir_read(req, &byte, 1) == 1) {
        const auto begin = std::chrono::steady_clock::now();
        double seconds;

        for (int i = 0; i < CHILDREN; i++)
            if (weir_join(req, weir_spawn(req, child, nullptr)) != 1)
                return 0;
        seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        weir_write(req, &seconds, sizeof(seconds));
    }
    return 0;
}

int connect_to(weir_server *server)
{
    char address[WEIR_ADDRESS_SIZE];
    sockaddr_in in = {};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    weir_server_address(server, 0, address, sizeof(address));
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    in.sin_port = htons(static_cast<uint16_t>(atoi(strrchr(address, ':') + 1)));
    if (connect(fd, reinterpret_cast<sockaddr *>(&in), sizeof(in)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

void measure(benchmark::State &state, int fd)
{
    double sum = 0;

    for (auto _ : state) {
        double seconds;

        if (send(fd, "x", 1, MSG_NOSIGNAL) != 1 ||
            recv(fd, &seconds, sizeof(seconds), MSG_WAITALL) != sizeof(seconds)) {
            row_failed(state, "a child was not to be had");
            return;
        }
        state.SetIterationTime(seconds);
        sum += seconds;
    }
    state.counters["ns_a_child"] =
        sum * 1e9 / (CHILDREN * static_cast<double>(state.iterations()));
}

void spawn(benchmark::State &state, child_function child)
{
    static const weir_handler handler = [] {
        weir_handler h = {};

        h.name = "spawn";
        h.handle = spawn_and_join;
        return h;
    }();
    weir_options options = {};
    weir_server *server = nullptr;
    int fd;

    options.listen = "tcp://127.0.0.1:0";
    options.handler = &handler;
    options.workers = 1;
    options.user = &child;
    if (weir_server_create(&server, &options) < 0 || weir_server_start(server) < 0) {
        row_failed(state, weir_why());
        return;
    }
    fd = connect_to(server);
    if (fd < 0)
        row_failed(state, "no connection");
    else
        measure(state, fd);
    close(fd);
    weir_server_destroy(server);
}

void BM_spawn_and_join(benchmark::State &state)
{
    spawn(state, return_at_once);
}
BENCHMARK(BM_spawn_and_join)->UseManualTime()->Unit(benchmark::kMicrosecond);

void BM_spawn_and_join_yields(benchmark::State &state)
{
    spawn(state, yield_once);
}
BENCHMARK(BM_spawn_and_join_yields)->UseManualTime()->Unit(benchmark::kMicrosecond);

} // namespace

int main(int argc, char **argv)
{
    return rows_main(argc, argv);
}
