/*
 * log_stub.c - in the place of engine/base/log.c: a line is an event of the run.
 *
 * The log's own thread, ring and descriptors are not simulated; log_test looks at them.
 */
#include "engine/base/log.h"

#include "tests/simulation/trace.h"

#include "engine/weir.h"

#include <stdio.h>

void log_line(enum log_kind kind, const char *format, ...)
{
    trace_note("log", 0, "a line of kind %ld", kind, 0, 0);
    (void)format;
}

void log_open(void)
{
}

void log_close(void)
{
}

void log_flush(void)
{
}

void log_alone(void)
{
}

void log_sum_up(void)
{
}

bool log_now(const char *text, size_t len, int wait_ms)
{
    (void)wait_ms;
    fwrite(text, 1, len, stdout);
    fflush(stdout);
    return true;
}

void weir_set_log(void (*log)(void *arg, const struct weir_log_line *line), void *arg)
{
    (void)log;
    (void)arg;
}
