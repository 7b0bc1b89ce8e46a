#include "engine/net/multicast.h"

#include "engine/base/sys.h"
#include "engine/base/why.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* ---- the option ---- */

/* The index of the interface that has the address; 0: none has. */
static unsigned index_of_address(struct in_addr wanted)
{
    struct ifaddrs *list;
    unsigned index = 0;

    if (getifaddrs(&list) < 0)
        return 0;
    for (const struct ifaddrs *entry = list; entry && index == 0; entry = entry->ifa_next) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)entry->ifa_addr;

        if (in && in->sin_family == AF_INET && in->sin_addr.s_addr == wanted.s_addr)
            index = if_nametoindex(entry->ifa_name);
    }
    freeifaddrs(list);
    return index;
}

static int parse_interface(const char *name, struct multicast *multicast,
                           const struct why_subject *subject)
{
    struct in_addr address;

    multicast->interface = if_nametoindex(name);
    if (multicast->interface == 0 && multicast->family == AF_INET &&
        inet_pton(AF_INET, name, &address) == 1)
        multicast->interface = index_of_address(address);
    if (multicast->interface != 0)
        return 0;
    return why_refuse(subject, -ENODEV, "behind the %% must stand the name of one of this "
                      "machine's interfaces%s", multicast->family == AF_INET
                      ? ", or an IPv4 address of one" : "");
}

static bool parse_group(const char *text, struct multicast *multicast)
{
    if (inet_pton(AF_INET, text, &multicast->group.in) == 1) {
        multicast->family = AF_INET;
        return IN_MULTICAST(ntohl(multicast->group.in.s_addr));
    }
    multicast->family = AF_INET6;
    return inet_pton(AF_INET6, text, &multicast->group.in6) == 1 &&
           IN6_IS_ADDR_MULTICAST(&multicast->group.in6);
}

/* The text: GROUP or GROUP%INTERFACE. */
static int parse_groups(struct multicast *multicast, const struct why_subject *subject)
{
    size_t group_len = strcspn(multicast->text, "%");
    char group[sizeof(multicast->text)];

    snprintf(group, sizeof(group), "%.*s", (int)group_len, multicast->text);
    if (!parse_group(group, multicast))
        return why_refuse(subject, -EINVAL, "it must be the address of a group, 224.0.0.0 to "
                          "239.255.255.255, or an IPv6 address that begins with ff");
    if (multicast->text[group_len] == '\0')
        return 0;
    return parse_interface(multicast->text + group_len + 1, multicast, subject);
}

int multicast_read(const struct weir_options *options, struct multicast *ret, char *why,
                   size_t why_size)
{
    struct multicast multicast = {
        .family = AF_UNSPEC,
        .ttl = options->multicast_ttl,
        .loop = options->multicast_loop,
    };
    int r = 0;

    if (options->multicast) {
        /* What is longer than any address and interface is wrong, and so is what is left of it. */
        snprintf(multicast.text, sizeof(multicast.text), "%s", options->multicast);
        r = parse_groups(&multicast, &(const struct why_subject){ multicast.text, why, why_size });
    }
    if (r == 0)
        *ret = multicast;
    return r;
}

/* ---- sockets ---- */

static bool is_udp(const struct listener *listener)
{
    return listener->type == SOCK_DGRAM && listener->family != AF_UNIX;
}

/* An IPv6 socket may take IPv4 as well; it is told things for both by both sets of options. */
static bool takes_ipv4(const struct listener *listener)
{
    int only_ipv6 = 1;
    socklen_t len = sizeof(only_ipv6);

    if (listener->family == AF_INET)
        return true;
    getsockopt(listener->fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_ipv6, &len);
    return !only_ipv6;
}

static int prepare_ipv4(const struct multicast *multicast, int fd)
{
    const struct ip_mreqn interface = { .imr_ifindex = (int)multicast->interface };
    int r = 0;

    if (multicast->ttl != 0)
        r = sys_set_option(fd, IPPROTO_IP, IP_MULTICAST_TTL, (int)multicast->ttl);
    if (r == 0 && multicast->loop != WEIR_DEFAULT)
        r = sys_set_option(fd, IPPROTO_IP, IP_MULTICAST_LOOP, multicast->loop == WEIR_YES);
    if (r == 0 && multicast->family != AF_UNSPEC)
        r = sys_set_option(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
    if (r == 0 && multicast->interface != 0 &&
        setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &interface, sizeof(interface)) < 0)
        r = -errno;
    return r;
}

static int prepare_ipv6(const struct multicast *multicast, int fd)
{
    int r = 0;

    if (multicast->ttl != 0)
        r = sys_set_option(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, (int)multicast->ttl);
    if (r == 0 && multicast->loop != WEIR_DEFAULT)
        r = sys_set_option(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, multicast->loop == WEIR_YES);
    if (r == 0 && multicast->family != AF_UNSPEC)
        r = sys_set_option(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
    if (r == 0 && multicast->interface != 0)
        r = sys_set_option(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, (int)multicast->interface);
    return r;
}

int multicast_prepare(const struct multicast *multicast, const struct listener *listener)
{
    int r = 0;

    if (!is_udp(listener))
        return 0;
    if (takes_ipv4(listener))
        r = prepare_ipv4(multicast, listener->fd);
    if (r == 0 && listener->family == AF_INET6)
        r = prepare_ipv6(multicast, listener->fd);
    return r;
}

/* ---- joining ---- */

static bool is_bound_for(const struct multicast *multicast, const struct sockaddr_storage *name)
{
    const struct in_addr *bound = &((const struct sockaddr_in *)name)->sin_addr;
    const struct in6_addr *bound6 = &((const struct sockaddr_in6 *)name)->sin6_addr;

    if (name->ss_family == AF_INET)
        return bound->s_addr == htonl(INADDR_ANY) || bound->s_addr == multicast->group.in.s_addr;
    if (IN6_IS_ADDR_UNSPECIFIED(bound6))
        return true;
    return multicast->family == AF_INET6 && IN6_ARE_ADDR_EQUAL(bound6, &multicast->group.in6);
}

static bool can_hear(const struct multicast *multicast, const struct listener *listener)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);

    if (!is_udp(listener) || multicast->family == AF_UNSPEC)
        return false;
    if (multicast->family == AF_INET ? !takes_ipv4(listener) : listener->family != AF_INET6)
        return false;
    return getsockname(listener->fd, (struct sockaddr *)&name, &len) == 0 &&
           is_bound_for(multicast, &name);
}

static int join_ipv4(const struct multicast *multicast, int fd)
{
    const struct ip_mreqn request = {
        .imr_multiaddr = multicast->group.in,
        .imr_ifindex = (int)multicast->interface,
    };

    return setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof(request)) == 0 ? 0
                                                                                         : -errno;
}

static int join_ipv6(const struct multicast *multicast, int fd)
{
    const struct ipv6_mreq request = {
        .ipv6mr_multiaddr = multicast->group.in6,
        .ipv6mr_interface = multicast->interface,
    };

    return setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &request, sizeof(request)) == 0 ? 0
                                                                                         : -errno;
}

int multicast_join(const struct multicast *multicast, const struct listener *listener, char *why,
                   size_t why_size)
{
    const struct why_subject subject = { multicast->text, why, why_size };
    int r;

    if (!can_hear(multicast, listener))
        return 0;
    r = multicast->family == AF_INET ? join_ipv4(multicast, listener->fd)
                                     : join_ipv6(multicast, listener->fd);
    if (r == -ENODEV && multicast->interface == 0)
        return why_refuse(&subject, r, "no route says on which interface: name it, as in %s%%eth0",
                          multicast->text);
    /* The program that gave us the socket may have joined it already. */
    if (r < 0 && r != -EADDRINUSE)
        return why_refuse(&subject, r, "%s cannot join it: %s", listener->uri,
                          strerrordesc_np(-r));
    return 1;
}

int multicast_refuse(const struct multicast *multicast, char *why, size_t why_size)
{
    const struct why_subject subject = { multicast->text, why, why_size };

    return why_refuse(&subject, -EINVAL, "no listener can hear it: one must be udp://:PORT, %s, "
                      "or be bound to the group itself",
                      multicast->family == AF_INET ? "udp://0.0.0.0:PORT" : "udp://[::]:PORT");
}
