/*
 * activation.c - see activation.h. Not libsystemd: the variables are the interface, and a library
 * that brings in decompressors is much for three of them.
 */
#include "tools/command/activation.h"

#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/command/values.h"
#include "tools/command/variables.h"

__attribute__((format(printf, 2, 3)))
static void pass_none(struct activation *activation, const char *format, ...)
{
    va_list args;

    activation->len = 0;
    va_start(args, format);
    vsnprintf(activation->why, sizeof(activation->why), format, args);
    va_end(args);
}

/* Reads for which process the sockets are, and how many. */
static void read_count(struct activation *activation)
{
    const char *pid = variable("LISTEN_PID"), *fds = variable("LISTEN_FDS");
    uint64_t process, len;

    if (!pid || !fds)
        pass_none(activation, "no sockets were passed to this process: start it from a systemd "
                  "service that has a .socket unit, or with systemd-socket-activate");
    else if (value_number(pid, INT_MAX, &process) < 0)
        pass_none(activation, "LISTEN_PID is '%.20s', which is not the number of a process", pid);
    else if (!variable_is_own_pid(pid))
        pass_none(activation, "LISTEN_PID passes the sockets to process %d, and this is process "
                  "%d: a script that starts weir must use exec", (int)process, (int)getpid());
    else if (value_number(fds, ACTIVATION_MAX, &len) < 0 || len == 0)
        pass_none(activation, "LISTEN_FDS is '%.20s', which is not a number of sockets from 1 to "
                  "%d", fds, ACTIVATION_MAX);
    else
        activation->len = (uint32_t)len;
}

static uint64_t count_names(const char *names)
{
    uint64_t count = 1;

    for (; *names; names++)
        count += *names == ':';
    return count;
}

void activation_read(struct activation *ret_activation)
{
    uint64_t names;

    *ret_activation = (struct activation){ .names = variable("LISTEN_FDNAMES") };
    read_count(ret_activation);
    if (ret_activation->len == 0 || !ret_activation->names)
        return;
    names = count_names(ret_activation->names);
    if (names != ret_activation->len)
        pass_none(ret_activation, "LISTEN_FDNAMES has %llu names, and LISTEN_FDS is %u: they must "
                  "be as many", (unsigned long long)names, ret_activation->len);
}

bool activation_is_named(const struct activation *activation, uint32_t i, const char *name)
{
    const char *at = activation->names;
    size_t len;

    if (!at)
        return strcmp(name, "unknown") == 0;
    while (i-- > 0)
        at = strchr(at, ':') + 1;
    len = strcspn(at, ":");
    return strlen(name) == len && memcmp(at, name, len) == 0;
}

void activation_forget(void)
{
    /* The last one is of later systemds, and says once more which process is meant. */
    static const char *const names[] = {
        "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID",
    };

    variables_forget(names, sizeof(names) / sizeof(names[0]));
}
