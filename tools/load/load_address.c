/*
 * load_address.c - see load_address.h.
 */
#include "tools/load/load_address.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>

#include "engine/base/sys.h"
#include "tools/load/load_line.h"

enum {
    PROBES = 5,                 /* datagrams that an address is asked by */
    PROBE_MS = 200,
};

static bool connects(int fd, const struct address *address, uint32_t timeout_ms)
{
    struct pollfd connected = { .fd = fd, .events = POLLOUT };
    socklen_t len = sizeof(int);
    int error = 0;

    if (connect(fd, &address->sa, address->len) == 0)
        return true;
    return errno == EINPROGRESS &&
           poll(&connected, 1, timeout_ms < INT_MAX ? (int)timeout_ms : INT_MAX) > 0 &&
           getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0;
}

/*
 * Returns true if a datagram is answered, by whatever. A port that nobody has is told of at once,
 * on the way that an answer would take. A datagram that is lost is sent again.
 */
static bool answers(int fd, const struct address *address, const struct load_options *options)
{
    size_t len = options->size > 0 ? options->size : LOAD_LINE_LEN;
    struct pollfd answered = { .fd = fd, .events = POLLIN };
    char line[LOAD_DATAGRAM_MAX], answer;

    if (connect(fd, &address->sa, address->len) < 0 || len > sizeof(line))
        return false;
    line_init(line, len);
    for (int i = 0; i < PROBES; i++) {
        if (send(fd, line, len, 0) < 0)
            return false;
        if (poll(&answered, 1, PROBE_MS) > 0)
            return recv(fd, &answer, 1, MSG_DONTWAIT) >= 0;
    }
    return false;
}

static bool somebody_listens(const struct address *address, const struct load_options *options)
{
    int fd = socket(address->sa.sa_family, address->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool there = fd >= 0 && (address->type == SOCK_DGRAM
                                 ? answers(fd, address, options)
                                 : connects(fd, address, options->timeout_ms));

    sys_close(fd);
    return there;
}

/* Returns true if the address can be reached from the sources. */
static bool suits(const struct address *address, const struct load_options *options)
{
    return options->sources_len == 0 ||
           address->sa.sa_family == options->sources[0].sa.sa_family;
}

/* Of a name's addresses, the first where somebody listens, or answers; else the first. */
static const struct address *choose(const struct address *addresses, int len,
                                    const struct load_options *options)
{
    const struct address *first = NULL;

    for (int i = 0; i < len; i++) {
        if (!suits(&addresses[i], options))
            continue;
        if (len > 1 && somebody_listens(&addresses[i], options))
            return &addresses[i];
        if (!first)
            first = &addresses[i];
    }
    return first ? first : addresses;
}

int load_find_address(const struct load_options *options, struct address *ret_address)
{
    struct address *addresses;
    char why[256];
    int len = address_parse_all(options->address, &addresses, why, sizeof(why));

    if (len < 0)
        return len;
    *ret_address = *choose(addresses, len, options);
    free(addresses);
    return ret_address->kind == ADDRESS_FD ? -EINVAL : 0;
}
