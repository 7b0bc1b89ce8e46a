/*
 * say.c - see say.h. Not stdio: a thread that waits for standard error would hold its lock, and
 * where it has no buffer it writes a line in pieces.
 */
#include "tools/command/say.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct line {
    size_t len;
    char text[PIPE_BUF];        /* more may be written in pieces, or find room for a part only */
};

static bool is_control_byte(unsigned char c)
{
    return c < ' ' || c == 0x7f;
}

/* What is too long is cut, the end of line never. */
static void line_make(struct line *line, const char *format, va_list args)
{
    char text[PIPE_BUF];
    size_t at = 0;

    if (vsnprintf(text, sizeof(text), format, args) < 0)
        return;
    for (const char *c = text; *c && at < sizeof(line->text) - sizeof("\\xNN\n"); c++) {
        if (is_control_byte((unsigned char)*c))
            at += (size_t)sprintf(line->text + at, "\\x%02x", (unsigned char)*c);
        else
            line->text[at++] = *c;
    }
    line->text[at++] = '\n';
    line->len = at;
}

static bool is_pipe(void)
{
    struct stat info;

    return fstat(STDERR_FILENO, &info) == 0 && S_ISFIFO(info.st_mode);
}

/*
 * Who has found room in a pipe may still lose it to another that writes: the call is not to wait.
 */
static bool write_unless_full(struct line *line)
{
    const struct iovec text = { line->text, line->len };

    return is_pipe() && (pwritev2(STDERR_FILENO, &text, 1, -1, RWF_NOWAIT) >= 0 || errno == EAGAIN);
}

void say_now(const char *format, ...)
{
    struct pollfd room = { .fd = STDERR_FILENO, .events = POLLOUT };
    struct line line = { 0 };
    va_list args;
    int n;

    va_start(args, format);
    line_make(&line, format, args);
    va_end(args);
    n = poll(&room, 1, 0);
    /* With POLLERR nobody has the other end open any more. Who may not ask has reason to speak. */
    if (n == 0 || (n > 0 && room.revents != POLLOUT))
        return;
    /* Older kernels don't know how for pipes. */
    if (!write_unless_full(&line))
        (void)!write(STDERR_FILENO, line.text, line.len);
}

void say(const char *format, ...)
{
    struct line line = { 0 };
    va_list args;

    va_start(args, format);
    line_make(&line, format, args);
    va_end(args);
    while (write(STDERR_FILENO, line.text, line.len) < 0 && errno == EINTR)
        ;
}
