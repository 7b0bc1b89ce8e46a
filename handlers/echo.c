/*
 * echo.c - bytes as they come. Nothing is copied but into the reply, and nothing is remembered
 * between two calls, so that a silent client costs a connection and no fiber.
 */
#include "handlers/echo.h"

/* No canary, which is a hundredth of all that an echo takes: there is no array to overrun. */
static __attribute__((no_stack_protector)) int echo_handle(struct weir_request *req)
{
    char *data;
    ssize_t n = weir_peek(req, &data, 1);

    if (n <= 0)
        return (int)n;
    weir_consume(req, (size_t)n);
    n = weir_write(req, data, (size_t)n);
    return n < 0 ? (int)n : WEIR_KEEP;
}

const struct weir_handler echo_handler = {
    .name = "echo", .handle = echo_handle, .client_first = true,
};
