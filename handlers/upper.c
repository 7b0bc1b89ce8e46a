/*
 * upper.c - socketserver's classic: a line comes, the line goes back in capitals.
 */
#include "handlers/upper.h"

enum { LINE_LIMIT = 64 * 1024 };    /* a longer line is answered in pieces of this length */

/* ASCII letters only: toupper() would ask the locale for each byte. */
static void to_upper(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] >= 'a' && text[i] <= 'z')
            text[i] = (char)(text[i] - ('a' - 'A'));
}

static int upper_handle(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, LINE_LIMIT);

    if (n <= 0)
        return (int)n;
    to_upper(line, (size_t)n);
    n = weir_write(req, line, (size_t)n);
    return n < 0 ? (int)n : WEIR_KEEP;
}

const struct weir_handler upper_handler = {
    .name = "upper", .handle = upper_handle, .client_first = true,
};
