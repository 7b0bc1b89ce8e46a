/*
 * variables.c - see variables.h.
 */
#include "tools/command/variables.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/command/values.h"

const char *variable(const char *name)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread yet */
    return getenv(name);
}

bool variable_is_own_pid(const char *value)
{
    uint64_t pid;

    return value_number(value, INT_MAX, &pid) == 0 && pid == (uint64_t)getpid();
}

void variables_forget(const char *const *names, size_t len)
{
    for (size_t i = 0; i < len; i++)
        /* NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread yet */
        unsetenv(names[i]);
}
