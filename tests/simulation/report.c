#include "tests/simulation/report.h"

#include "tests/simulation/trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static struct {
    unsigned events;
    char *why;
    size_t why_size;
} report;

void report_prepare(unsigned events, char *why, size_t why_size)
{
    report.events = events;
    report.why = why;
    report.why_size = why_size;
}

void report_failure(const char *format, ...)
{
    va_list args;

    if (report.events > 0)
        trace_print(stdout, report.events);
    va_start(args, format);
    vsnprintf(report.why, report.why_size, format, args);
    va_end(args);
    fflush(stdout);
    _exit(REPORT_STATUS);
}
