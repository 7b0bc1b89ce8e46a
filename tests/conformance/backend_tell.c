#include "tests/conformance/backend_tell.h"

#include "tests/conformance/backend_words.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void tell(const char *format, ...)
{
    char line[512];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(line, sizeof(line) - 1, format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(line) - 1)
        mistake("too much to tell: %s", line);
    line[len++] = '\n';
    /* Less than PIPE_BUF, so that lines of several threads and processes don't mix. */
    if (write(STDOUT_FILENO, line, (size_t)len) != len)
        _exit(1);
}

const char *error_name(int r)
{
    if (r >= 0)
        return "ok";
    /* Of the two names of this number Python takes the other. */
    return r == -ENOTSUP ? "ENOTSUP" : strerrorname_np(-r);
}
