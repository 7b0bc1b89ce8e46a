/*
 * readline_benchmark.cc - what a line costs once its bytes are here.
 *
 * The same megabyte of lines is read by weir_readline and by the C library's fgets and getline (on
 * fmemopen), each in turn with the least that a reader can do: memchr from line to line.
 *
 *   ns_per_line   of the reader
 *   memchr_ns     of memchr, in the same run
 *   ratio         the two's
 */
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "bench/line_source.h"
#include "bench/rows.h"

namespace {

constexpr size_t TEXT_SIZE = 1 << 20;
constexpr size_t LIMIT = 4096;

using reader = size_t (*)(std::string &text);

size_t by_memchr(std::string &text)
{
    const char *at = text.data(), *end = at + text.size();
    size_t lines = 0;

    while ((at = static_cast<const char *>(std::memchr(at, '\n', static_cast<size_t>(end - at))))) {
        benchmark::DoNotOptimize(++at);
        lines++;
    }
    return lines;
}

size_t by_weir(std::string &text)
{
    return line_source_count(text.data(), text.size(), LIMIT);
}

size_t by_fgets(std::string &text)
{
    FILE *file = fmemopen(text.data(), text.size(), "r");
    char line[LIMIT];
    size_t lines = 0;

    while (std::fgets(line, sizeof(line), file))
        lines++;
    std::fclose(file);
    return lines;
}

size_t by_getline(std::string &text)
{
    FILE *file = fmemopen(text.data(), text.size(), "r");
    char *line = nullptr;
    size_t size = 0, lines = 0;

    while (getline(&line, &size, file) > 0)
        lines++;
    std::free(line);
    std::fclose(file);
    return lines;
}

double timed(reader read, std::string &text, size_t *ret_lines)
{
    const auto start = std::chrono::steady_clock::now();

    *ret_lines = read(text);
    return std::chrono::duration<double, std::nano>(
        std::chrono::steady_clock::now() - start).count();
}

void readline(benchmark::State &state, reader read)
{
    const size_t line_len = static_cast<size_t>(state.range(0));
    const size_t lines = TEXT_SIZE / line_len;
    double own_ns = 0, memchr_ns = 0;
    std::string text;

    for (size_t i = 0; i < lines; i++)
        text += std::string(line_len - 1, 'x') + '\n';
    for (auto _ : state) {
        size_t found, own_found;

        memchr_ns += timed(by_memchr, text, &found);
        const double ns = timed(read, text, &own_found);
        own_ns += ns;
        state.SetIterationTime(ns / 1e9);
        if (own_found != lines || found != lines) {
            row_failed(state, "lines were lost");
            return;
        }
    }

    const double total = static_cast<double>(lines) * static_cast<double>(state.iterations());

    state.counters["ns_per_line"] = own_ns / total;
    state.counters["memchr_ns"] = memchr_ns / total;
    state.counters["ratio"] = own_ns / memchr_ns;
}

#define LENGTHS ->Arg(16)->Arg(64)->Arg(1024)->UseManualTime()

BENCHMARK_CAPTURE(readline, weir, by_weir) LENGTHS;
BENCHMARK_CAPTURE(readline, fgets, by_fgets) LENGTHS;
BENCHMARK_CAPTURE(readline, getline, by_getline) LENGTHS;

} // namespace

int main(int argc, char **argv)
{
    return rows_main(argc, argv);
}
