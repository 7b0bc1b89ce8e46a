/*
 * said.c - see said.h.
 */
#include "tests/fuzz/said.h"

#include "tests/fuzz/input.h"
#include "tools/command/say.h"

#include <stdarg.h>

struct said said;

static void note(const char *format, va_list args)
{
    vsnprintf(said.last, sizeof(said.last), format, args);
    HOLDS(strncmp(said.last, "weir ", 5) == 0);
    HOLDS(strlen(said.last) > 12);
    said.lines++;
}

void say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    note(format, args);
    va_end(args);
}

void say_now(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    note(format, args);
    va_end(args);
}
