#include "engine/base/why.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

_Thread_local char why_last[WHY_LAST_SIZE];

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

static void keep_one_line(char *why)
{
    for (; *why != '\0'; why++)
        if (is_control(*why))
            *why = '?';
}

const char *why_error(int error)
{
    if (error == -ENOSPC)
        return "No space left on device (if it is no disk's: raise fs.epoll.max_user_watches)";
    return strerror(-error);    /* NOLINT(concurrency-mt-unsafe): glibc's is safe since 2.32 */
}

int why_set(char *why, size_t why_size, int error, const char *format, ...)
{
    va_list args;

    if (why_size == 0)
        return error;
    va_start(args, format);
    (void)vsnprintf(why, why_size, format, args);
    va_end(args);
    keep_one_line(why);
    return error;
}

int why_refuse(const struct why_subject *subject, int error, const char *format, ...)
{
    va_list args;
    size_t len;

    if (subject->why_size == 0)
        return error;
    (void)snprintf(subject->why, subject->why_size, "%s: ",
                   subject->text[0] != '\0' ? subject->text : "\"\"");
    len = strlen(subject->why);
    va_start(args, format);
    (void)vsnprintf(subject->why + len, subject->why_size - len, format, args);
    va_end(args);
    keep_one_line(subject->why);
    return error;
}
