/*
 * size_benchmark.cc - what a message costs by its size: an HTTP head, its fields, its body, a line,
 * a peek. It has to be a straight line.
 *
 * One client sends a message after the other, and waits for each answer; the server is a process
 * with one worker. A row's messages are `times` as large as the smallest of their kind.
 *
 *   bytes      of the message
 *   cpu_us     server CPU microseconds per message: all of the process's, kernel included
 *   times      bytes / the smallest's
 *   cpu_times  cpu_us / the smallest's, both measured in turn: at most `times` for a straight line
 */
#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <vector>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/child.h"
#include "bench/paired.h"
#include "bench/pinned.h"
#include "bench/rows.h"
#include "bench/sized.h"

namespace {

constexpr int ROUNDS = 9;

/* A message of about so many bytes. */
using maker = std::string (*)(size_t size);

std::string head(size_t size)
{
    const std::string begin = "GET / HTTP/1.1\r\nHost: weir\r\nCookie: ";

    return begin + std::string(size - begin.size() - 4, 'c') + "\r\n\r\n";
}

/* Fields of 40 bytes. */
std::string fields(size_t size)
{
    std::string text = "GET / HTTP/1.1\r\nHost: weir\r\n";

    for (size_t i = 0; i < size / 40; i++)
        text += "X-Field-" + std::to_string(100 + i) + ": " + std::string(25, 'v') + "\r\n";
    return text + "\r\n";
}

std::string body(size_t size)
{
    return "POST /body HTTP/1.1\r\nHost: weir\r\nContent-Length: " + std::to_string(size) +
        "\r\n\r\n" + std::string(size, 'b');
}

std::string line(size_t size)
{
    return std::string(size - 1, 'x') + '\n';
}

struct kind {
    const char *name;
    const struct weir_handler *handler;
    maker make;
    std::vector<size_t> sizes;
};

class client {
public:
    client(const kind &what, size_t size)
        : len(size), message(what.make(size)), handler(*what.handler)
    {
        struct weir_options options = {};

        handler.data = what.handler->data ? what.handler->data : &len;
        options.handler = &handler;
        options.workers = 1;
        if (child_start_weir(&server, SERVER_CPU, &options) < 0)
            return;
        fd = socket(AF_INET, SOCK_STREAM, 0);

        struct sockaddr_in to = {};

        to.sin_family = AF_INET;
        to.sin_port = htons(server.port);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (connect(fd, reinterpret_cast<struct sockaddr *>(&to), sizeof(to)) == 0)
            works = exchange();
    }
    client(const client &) = delete;
    client &operator=(const client &) = delete;
    ~client()
    {
        if (fd >= 0)
            close(fd);
        child_end(&server);
    }

    /* The server's CPU time for each of so many messages; below 0: they were not answered. */
    double cpu_us(int messages)
    {
        const uint64_t before = child_cpu_ns(&server);

        for (int i = 0; i < messages && works; i++)
            works = exchange();
        return works ? static_cast<double>(child_cpu_ns(&server) - before) / 1e3 / messages : -1;
    }

    size_t bytes() const { return message.size(); }

private:
    /* Every answer ends with a '!'. */
    bool exchange()
    {
        char answer[1024];
        ssize_t n;

        for (size_t sent = 0; sent < message.size(); sent += static_cast<size_t>(n)) {
            n = send(fd, message.data() + sent, message.size() - sent, MSG_NOSIGNAL);
            if (n <= 0)
                return false;
        }
        do
            n = recv(fd, answer, sizeof(answer), 0);
        while (n > 0 && answer[n - 1] != '!');
        return n > 0;
    }

    size_t len;
    std::string message;
    struct weir_handler handler;
    struct child server = {};
    int fd = -1;
    bool works = false;
};

double median(std::vector<double> values)
{
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

void measure(benchmark::State &state, const kind &what, size_t size)
{
    pinned here(client_cpu());
    client least(what, what.sizes.front()), larger(what, size);
    const size_t affordable = std::max<size_t>(20, 4000000 / size);
    const int messages = static_cast<int>(std::min<size_t>(300, affordable));
    std::vector<double> cpu, ratio;

    for (auto _ : state)
        for (int i = 0; i < ROUNDS; i++) {
            const double first = least.cpu_us(300), second = larger.cpu_us(messages);

            if (first <= 0 || second < 0) {
                row_failed(state, "a message was not answered");
                return;
            }
            cpu.push_back(second);
            ratio.push_back(second / first);
        }
    state.counters["bytes"] = static_cast<double>(larger.bytes());
    state.counters["cpu_us"] = median(cpu);
    state.counters["times"] = static_cast<double>(larger.bytes()) /
        static_cast<double>(least.bytes());
    state.counters["cpu_times"] = median(ratio);
}

const kind kinds[] = {
    { "head", &sized_http, head, { 1000, 8000, 16000, 32000 } },
    { "fields", &sized_http, fields, { 400, 2000, 3900 } },
    { "body", &sized_http, body, { 1000, 10000, 100000, 1000000 } },
    { "line", &sized_line, line, { 1000, 10000, 100000, 1000000 } },
    { "peek", &sized_peek, line, { 1000, 10000, 100000, 1000000 } },
    { "peek_more", &sized_peek_more, line, { 1000, 10000, 100000, 1000000 } },
};

} // namespace

int main(int argc, char **argv)
{
    for (const kind &what : kinds)
        for (size_t size : what.sizes)
            benchmark::RegisterBenchmark(
                (std::string(what.name) + "/" + std::to_string(size)).c_str(),
                [&what, size](benchmark::State &state) { measure(state, what, size); })
                ->Iterations(1)->Unit(benchmark::kSecond)->UseRealTime();
    return paired_main(argc, argv);
}
