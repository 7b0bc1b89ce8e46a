#include "tests/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int ends[2];

int words_open(void)
{
    return pipe(ends);
}

void words_close(void)
{
    close(ends[0]);
    close(ends[1]);
}

void words_tell(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vdprintf(ends[1], format, args);
    va_end(args);
}

int words_tell_status(struct weir_request *req, int status)
{
    (void)req;
    words_tell("finish %d;", status);
    return 0;
}

int words_fd(void)
{
    return ends[0];
}

void words_expect(const char *expected)
{
    char text[200] = "";
    size_t len = 0;

    while (len < strlen(expected)) {
        ssize_t n = read(ends[0], text + len, sizeof(text) - 1 - len);

        assert_true(n > 0);
        len += (size_t)n;
    }
    assert_string_equal(text, expected);
}
