/*
 * rows.cc - see rows.h.
 */
#include "bench/rows.h"

namespace {

bool any_failed = false;

} // namespace

void row_failed(benchmark::State &state, const char *why)
{
    any_failed = true;
    state.SkipWithError(why);
}

int rows_main(int argc, char **argv)
{
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 1;
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return any_failed ? 1 : 0;
}
