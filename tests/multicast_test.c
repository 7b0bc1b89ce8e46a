/*
 * multicast_test.c - joining groups and sending to them, with real sockets.
 *
 * IPv4 goes over `lo`, which need not say that it can multicast. IPv6 needs a route for that, and
 * loop means something only where there is a network: these go over another interface, if there
 * is one, in a way that nothing leaves the machine (hop limit 0, or a group of scope 1).
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/net/multicast.h"

#include "engine/base/sys.h"
#include "engine/net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PLENTY_MS 10000

#define NO_GROUP "it must be the address of a group, 224.0.0.0 to 239.255.255.255, or an IPv6 " \
                 "address that begins with ff"
#define NO_INTERFACE_4 "behind the % must stand the name of one of this machine's interfaces, or " \
                       "an IPv4 address of one"
#define NO_INTERFACE_6 "behind the % must stand the name of one of this machine's interfaces"

static const struct listener_options defaults = { 0 };
static const struct listener_options sharing = { .reuse_address = true, .reuse_port = true };
static char why[400];

static struct multicast read_from(const struct weir_options *options)
{
    struct multicast multicast;

    if (multicast_read(options, &multicast, why, sizeof(why)) < 0)
        fail_msg("%s", why);
    return multicast;
}

#define MULTICAST(...) read_from(WEIR_OPTIONS(__VA_ARGS__))

static void assert_refused(const char *text, int error, const char *reason)
{
    struct multicast untouched = { .family = -7 };
    char sentence[400];

    snprintf(sentence, sizeof(sentence), "%s: %s", text, reason);
    assert_int_equal(multicast_read(WEIR_OPTIONS(.multicast = text), &untouched, why, sizeof(why)),
                     error);
    assert_string_equal(why, sentence);
    assert_int_equal(untouched.family, -7);
}

static struct listener opened_with(const char *uri, const struct listener_options *options)
{
    struct listener listener;

    if (listener_open(&listener, uri, options, why, sizeof(why)) < 0)
        fail_msg("%s", why);
    return listener;
}

/* As a server opens it. */
static struct listener prepared_with(const char *uri, const struct listener_options *options,
                                     const struct multicast *multicast)
{
    struct listener listener = opened_with(uri, options);

    assert_int_equal(multicast_prepare(multicast, &listener), 0);
    return listener;
}

static struct listener prepared(const char *uri, const struct multicast *multicast)
{
    return prepared_with(uri, &defaults, multicast);
}

static int joined(const struct multicast *multicast, const struct listener *listener)
{
    int r = multicast_join(multicast, listener, why, sizeof(why));

    if (r < 0)
        fail_msg("%s", why);
    return r;
}

static int option_of(const struct listener *listener, int level, int name)
{
    int value = 0;
    socklen_t len = sizeof(value);

    assert_int_equal(getsockopt(listener->fd, level, name, &value, &len), 0);
    return value;
}

static void set_option(const struct listener *listener, int level, int name, int value)
{
    assert_int_equal(setsockopt(listener->fd, level, name, &value, sizeof(value)), 0);
}

static void send_byte(const struct listener *from, const struct address *to, char byte)
{
    assert_int_equal(sendto(from->fd, &byte, 1, 0, &to->sa, to->len), 1);
}

/* The group, or another host, at the port of a listener. */
static struct address at_port_of(const struct listener *listener, const char *host)
{
    bool ipv6 = strchr(host, ':');
    struct address address;
    char uri[100];

    snprintf(uri, sizeof(uri), ipv6 ? "udp://[%s]%s" : "udp://%s%s", host,
             strrchr(listener->uri, ':'));
    if (address_parse(uri, &address, why, sizeof(why)) < 0)
        fail_msg("%s", why);
    return address;
}

/* The next datagram's only byte, and the hops that it still had, if they are told. */
static char received(const struct listener *listener, int *ret_hops)
{
    union {
        struct cmsghdr header;
        char room[128];
    } control;
    char byte = 0;
    struct iovec iov = { &byte, 1 };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof(control) };

    assert_true(sys_poll_one(listener->fd, POLLIN, PLENTY_MS) > 0);
    assert_int_equal(recvmsg(listener->fd, &message, MSG_DONTWAIT), 1);
    for (struct cmsghdr *it = CMSG_FIRSTHDR(&message); it && ret_hops;
         it = CMSG_NXTHDR(&message, it))
        if ((it->cmsg_level == IPPROTO_IP && it->cmsg_type == IP_TTL) ||
            (it->cmsg_level == IPPROTO_IPV6 && it->cmsg_type == IPV6_HOPLIMIT))
            memcpy(ret_hops, CMSG_DATA(it), sizeof(*ret_hops));
    return byte;
}

static void assert_nothing_more(const struct listener *listener)
{
    char byte;

    assert_int_equal(sys_recv(listener->fd, &byte, 1), -EAGAIN);
}

static bool has_ipv6(void)
{
    struct listener listener;
    bool has = listener_open(&listener, "udp://[::1]:0", &defaults, NULL, 0) == 0;

    if (has)
        listener_close(&listener);
    return has;
}

/* An interface with a network of that family, or the test is skipped. */
static const char *network_of(int family)
{
    const unsigned wanted = IFF_UP | IFF_MULTICAST;
    static char name[IF_NAMESIZE];
    struct ifaddrs *list;

    name[0] = '\0';
    assert_int_equal(getifaddrs(&list), 0);
    for (const struct ifaddrs *entry = list; entry && name[0] == '\0'; entry = entry->ifa_next)
        if (entry->ifa_addr && entry->ifa_addr->sa_family == family &&
            (entry->ifa_flags & (wanted | IFF_LOOPBACK)) == wanted)
            snprintf(name, sizeof(name), "%s", entry->ifa_name);
    freeifaddrs(list);
    if (name[0] == '\0')
        skip();
    return name;
}

/* ---- the option ---- */

static void without_the_option_there_is_no_group(void **state)
{
    struct multicast multicast = MULTICAST(.multicast_ttl = 0);

    (void)state;
    assert_int_equal(multicast.family, AF_UNSPEC);
}

static void a_group_may_come_with_an_interface(void **state)
{
    struct multicast multicast = MULTICAST(.multicast = "224.3.29.71");

    (void)state;
    assert_int_equal(multicast.family, AF_INET);
    assert_int_equal(ntohl(multicast.group.in.s_addr), 0xe0031d47);
    assert_int_equal(multicast.interface, 0);
    assert_int_equal(MULTICAST(.multicast = "239.255.255.255%lo").interface,
                     if_nametoindex("lo"));
    multicast = MULTICAST(.multicast = "ff15::1%lo");
    assert_int_equal(multicast.family, AF_INET6);
    assert_int_equal(multicast.group.in6.s6_addr[15], 1);
    assert_int_equal(multicast.interface, if_nametoindex("lo"));
}

static void an_interface_may_be_named_by_its_ipv4_address(void **state)
{
    (void)state;
    assert_int_equal(MULTICAST(.multicast = "224.3.29.71%127.0.0.1").interface,
                     if_nametoindex("lo"));
    assert_refused("224.3.29.71%203.0.113.9", -ENODEV, NO_INTERFACE_4);
    assert_refused("ff15::1%127.0.0.1", -ENODEV, NO_INTERFACE_6);
}

static void what_is_no_group_is_refused(void **state)
{
    (void)state;
    assert_refused("127.0.0.1", -EINVAL, NO_GROUP);
    assert_refused("223.255.255.255", -EINVAL, NO_GROUP);
    assert_refused("240.0.0.0%lo", -EINVAL, NO_GROUP);
    assert_refused("224.3.29", -EINVAL, NO_GROUP);
    assert_refused("224.3.29.71:80", -EINVAL, NO_GROUP);
    assert_refused("fe80::1%lo", -EINVAL, NO_GROUP);
    assert_refused("[ff15::1]", -EINVAL, NO_GROUP);
    assert_refused("::ffff:224.3.29.71", -EINVAL, NO_GROUP);
    assert_refused("%lo", -EINVAL, NO_GROUP);
    assert_int_equal(multicast_read(WEIR_OPTIONS(.multicast = ""), NULL, why, sizeof(why)),
                     -EINVAL);
    assert_string_equal(why, "\"\": " NO_GROUP);
}

static void what_is_no_interface_is_refused(void **state)
{
    char text[300];

    (void)state;
    assert_refused("224.3.29.71%", -ENODEV, NO_INTERFACE_4);
    assert_refused("224.3.29.71%no such", -ENODEV, NO_INTERFACE_4);
    assert_refused("ff15::1%no-such", -ENODEV, NO_INTERFACE_6);
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    memcpy(text, "224.3.29.71%lo", strlen("224.3.29.71%lo"));
    assert_int_equal(multicast_read(WEIR_OPTIONS(.multicast = text), NULL, why, sizeof(why)),
                     -ENODEV);
}

/* ---- what sockets are told ---- */

static void a_socket_is_left_as_it_is_by_default(void **state)
{
    struct multicast nothing = MULTICAST(.multicast_ttl = 0);
    struct listener listener = prepared("udp://127.0.0.1:0", &nothing);

    (void)state;
    assert_int_equal(option_of(&listener, IPPROTO_IP, IP_MULTICAST_TTL), 1);
    assert_int_equal(option_of(&listener, IPPROTO_IP, IP_MULTICAST_LOOP), 1);
    assert_int_equal(option_of(&listener, IPPROTO_IP, IP_MULTICAST_ALL), 1);
    assert_int_equal(joined(&nothing, &listener), 0);
    listener_close(&listener);
}

static void assert_ipv4_told(const struct listener *listener, int ttl, int loop)
{
    struct ip_mreqn by = { .imr_ifindex = 0 };
    socklen_t len = sizeof(by);

    assert_int_equal(option_of(listener, IPPROTO_IP, IP_MULTICAST_TTL), ttl);
    assert_int_equal(option_of(listener, IPPROTO_IP, IP_MULTICAST_LOOP), loop);
    assert_int_equal(option_of(listener, IPPROTO_IP, IP_MULTICAST_ALL), 0);
    /* getsockopt(2) tells its address, since 6.9 in the whole structure. */
    assert_int_equal(getsockopt(listener->fd, IPPROTO_IP, IP_MULTICAST_IF, &by, &len), 0);
    if (len == sizeof(by))
        assert_int_equal(by.imr_ifindex, if_nametoindex("lo"));
}

static void assert_ipv6_told(const struct listener *listener, int hops, int loop)
{
    assert_int_equal(option_of(listener, IPPROTO_IPV6, IPV6_MULTICAST_HOPS), hops);
    assert_int_equal(option_of(listener, IPPROTO_IPV6, IPV6_MULTICAST_LOOP), loop);
    assert_int_equal(option_of(listener, IPPROTO_IPV6, IPV6_MULTICAST_ALL), 0);
    assert_int_equal(option_of(listener, IPPROTO_IPV6, IPV6_MULTICAST_IF), if_nametoindex("lo"));
}

static void every_udp_socket_is_told_how_to_send(void **state)
{
    struct multicast multicast = MULTICAST(.multicast = "224.3.29.71%lo", .multicast_ttl = 255,
                                           .multicast_loop = WEIR_NO);
    struct listener listener = prepared("udp://127.0.0.1:0", &multicast);

    (void)state;
    assert_ipv4_told(&listener, 255, 0);
    multicast.loop = WEIR_YES;
    assert_int_equal(multicast_prepare(&multicast, &listener), 0);
    assert_ipv4_told(&listener, 255, 1);
    listener_close(&listener);

    if (!has_ipv6())
        return;
    listener = prepared("udp://[::1]:0", &multicast);
    assert_ipv6_told(&listener, 255, 1);
    listener_close(&listener);
    multicast.loop = WEIR_NO;
    multicast.ttl = 3;
    listener = prepared("udp://:0", &multicast);
    assert_ipv4_told(&listener, 3, 0);
    assert_ipv6_told(&listener, 3, 0);
    listener_close(&listener);
}

static void other_sockets_are_not_told_and_do_not_join(void **state)
{
    static const char *const others[] = { "tcp://:0", "unixgram:@weir-multicast-%d" };
    struct multicast multicast = MULTICAST(.multicast = "224.3.29.71%lo", .multicast_ttl = 9);

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char uri[64];
        struct listener listener;

        snprintf(uri, sizeof(uri), "%s%d", others[i], i == 0 ? 0 : (int)getpid());
        listener = prepared(uri, &multicast);
        assert_int_equal(joined(&multicast, &listener), 0);
        if (i == 0)
            assert_int_equal(option_of(&listener, IPPROTO_IP, IP_MULTICAST_TTL), 1);
        listener_close(&listener);
    }
    assert_int_equal(multicast_refuse(&multicast, why, sizeof(why)), -EINVAL);
    assert_string_equal(why, "224.3.29.71%lo: no listener can hear it: one must be udp://:PORT, "
                        "udp://0.0.0.0:PORT, or be bound to the group itself");
    multicast = MULTICAST(.multicast = "ff15::1");
    assert_int_equal(multicast_refuse(&multicast, why, sizeof(why)), -EINVAL);
    assert_string_equal(why, "ff15::1: no listener can hear it: one must be udp://:PORT, "
                        "udp://[::]:PORT, or be bound to the group itself");
}

/* ---- joining, and what arrives ---- */

static void who_has_joined_hears_the_group(void **state)
{
    static const char *const uris[] = { "udp://0.0.0.0:0", "udp://224.3.29.71:0", "udp://:0" };
    struct multicast multicast = MULTICAST(.multicast = "224.3.29.71%lo");

    (void)state;
    for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
        struct listener sender = prepared("udp://127.0.0.1:0", &multicast);
        struct listener listener = prepared(uris[i], &multicast);
        struct address group = at_port_of(&listener, "224.3.29.71");

        assert_int_equal(joined(&multicast, &listener), 1);
        send_byte(&sender, &group, 'a');
        send_byte(&sender, &group, 'b');
        assert_int_equal(received(&listener, NULL), 'a');
        assert_int_equal(received(&listener, NULL), 'b');
        assert_nothing_more(&listener);
        listener_close(&listener);
        listener_close(&sender);
    }
}

static void who_is_bound_elsewhere_does_not_join(void **state)
{
    struct multicast multicast = MULTICAST(.multicast = "224.3.29.71%lo");
    struct multicast multicast6 = MULTICAST(.multicast = "ff15::1%lo");
    struct listener listener = prepared("udp://127.0.0.1:0", &multicast);

    (void)state;
    assert_int_equal(joined(&multicast, &listener), 0);
    assert_int_equal(joined(&multicast6, &listener), 0);
    listener_close(&listener);
    listener = prepared("udp://224.3.29.72:0", &multicast);
    assert_int_equal(joined(&multicast, &listener), 0);
    listener_close(&listener);
    if (!has_ipv6())
        return;
    listener = prepared("udp://[::1]:0", &multicast6);
    assert_int_equal(joined(&multicast6, &listener), 0);
    listener_close(&listener);
    listener = prepared("udp://[::]:0", &multicast);
    assert_int_equal(joined(&multicast, &listener), 0);
    assert_int_equal(joined(&multicast6, &listener), 1);
    listener_close(&listener);
}

static void joining_twice_is_harmless(void **state)
{
    struct multicast multicast = MULTICAST(.multicast = "224.3.29.71%lo");
    struct listener listener = prepared("udp://0.0.0.0:0", &multicast);

    (void)state;
    for (int twice = 0; twice < 2; twice++)
        assert_int_equal(joined(&multicast, &listener), 1);
    listener_close(&listener);
}

/* Two servers, each its own. */
static void all_that_share_a_port_and_have_joined_hear_a_datagram(void **state)
{
    struct multicast multicast = MULTICAST(.multicast = "224.3.29.71%lo");
    const struct listener_options reusing = { .reuse_address = true };
    struct listener first = prepared_with("udp://0.0.0.0:0", &reusing, &multicast);
    struct listener second = prepared_with(first.uri, &reusing, &multicast);
    struct address group = at_port_of(&first, "224.3.29.71");

    (void)state;
    assert_int_equal(joined(&multicast, &first), 1);
    assert_int_equal(joined(&multicast, &second), 1);
    send_byte(&first, &group, 'a');
    assert_int_equal(received(&first, NULL), 'a');
    assert_int_equal(received(&second, NULL), 'a');
    listener_close(&first);
    listener_close(&second);
}

/*
 * Two acceptors of a server: the group comes once. Linux spreads what is sent to the port itself
 * by the sender's port; so some sender's comes to the second, behind the group's if that came.
 */
static void who_has_not_joined_hears_nothing_of_what_others_have(void **state)
{
    struct multicast multicast = MULTICAST(.multicast = "224.3.29.71%lo");
    struct listener first = prepared_with("udp://0.0.0.0:0", &sharing, &multicast);
    struct listener second = prepared_with(first.uri, &sharing, &multicast);
    struct address group = at_port_of(&first, "224.3.29.71");
    struct address port = at_port_of(&first, "127.0.0.1");

    (void)state;
    assert_int_equal(joined(&multicast, &first), 1);
    send_byte(&first, &group, 'g');
    assert_int_equal(received(&first, NULL), 'g');
    do {
        struct listener sender = prepared("udp://127.0.0.1:0", &multicast);

        send_byte(&sender, &port, 'p');
        listener_close(&sender);
    } while (sys_poll_one(second.fd, POLLIN, 10) == 0);
    assert_int_equal(received(&second, NULL), 'p');
    listener_close(&first);
    listener_close(&second);
}

static void the_ttl_is_that_of_the_datagram(void **state)
{
    struct multicast multicast = MULTICAST(.multicast = "224.3.29.71%lo", .multicast_ttl = 7);
    struct listener sender = prepared("udp://127.0.0.1:0", &multicast);
    struct listener listener = prepared("udp://0.0.0.0:0", &multicast);
    struct address group = at_port_of(&listener, "224.3.29.71");
    int hops = 0;

    (void)state;
    set_option(&listener, IPPROTO_IP, IP_RECVTTL, 1);
    assert_int_equal(joined(&multicast, &listener), 1);
    send_byte(&sender, &group, 'a');
    assert_int_equal(received(&listener, &hops), 'a');
    assert_int_equal(hops, 7);
    listener_close(&sender);

    multicast.ttl = 0;
    sender = prepared("udp://127.0.0.1:0", &multicast);
    send_byte(&sender, &group, 'b');
    assert_int_equal(received(&listener, &hops), 'b');
    assert_int_equal(hops, 1);
    listener_close(&sender);
    listener_close(&listener);
}

static struct multicast on_network(const char *group, const char *network, enum weir_choice loop)
{
    char text[64];

    snprintf(text, sizeof(text), "%s%%%s", group, network);
    return MULTICAST(.multicast = text, .multicast_loop = loop, .multicast_ttl = 1);
}

/* What was not looped would have come before what is sent to the receiver's port afterwards. */
static void assert_loops(const char *group, int family, const char *any, const char *loopback)
{
    const char *network = network_of(family);

    for (enum weir_choice loop = WEIR_DEFAULT; loop <= WEIR_NO; loop++) {
        struct multicast multicast = on_network(group, network, loop);
        struct listener sender = prepared(any, &multicast);
        struct listener listener = prepared(any, &multicast);
        struct address to_group = at_port_of(&listener, group);
        struct address to_port = at_port_of(&listener, loopback);

        if (family == AF_INET)
            set_option(&sender, IPPROTO_IP, IP_MULTICAST_TTL, 0);
        assert_int_equal(joined(&multicast, &listener), 1);
        send_byte(&sender, &to_group, 'g');
        send_byte(&sender, &to_port, 'p');
        if (loop != WEIR_NO)
            assert_int_equal(received(&listener, NULL), 'g');
        assert_int_equal(received(&listener, NULL), 'p');
        assert_nothing_more(&listener);
        listener_close(&listener);
        listener_close(&sender);
    }
}

static void loop_says_whether_this_machine_hears_it(void **state)
{
    (void)state;
    /* Of this group no router is told. */
    assert_loops("224.0.0.1", AF_INET, "udp://0.0.0.0:0", "127.0.0.1");
}

static void the_same_is_true_of_ipv6(void **state)
{
    (void)state;
    if (!has_ipv6())
        skip();
    assert_loops("ff11::71", AF_INET6, "udp://[::]:0", "::1");
}

/* Needs root, and leaves this thread in the network that it came from. */
static void without_a_route_the_interface_must_be_named(void **state)
{
    struct multicast multicast = MULTICAST(.multicast = "224.3.29.71");
    int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    struct listener listener;
    int r;

    (void)state;
    if (home < 0 || unshare(CLONE_NEWNET) < 0) {
        close(home);
        skip();
    }
    listener = prepared("udp://0.0.0.0:0", &multicast);
    r = multicast_join(&multicast, &listener, why, sizeof(why));
    listener_close(&listener);
    assert_int_equal(setns(home, CLONE_NEWNET), 0);
    close(home);
    assert_int_equal(r, -ENODEV);
    assert_string_equal(why, "224.3.29.71: no route says on which interface: name it, as in "
                        "224.3.29.71%eth0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_the_option_there_is_no_group),
        cmocka_unit_test(a_group_may_come_with_an_interface),
        cmocka_unit_test(an_interface_may_be_named_by_its_ipv4_address),
        cmocka_unit_test(what_is_no_group_is_refused),
        cmocka_unit_test(what_is_no_interface_is_refused),
        cmocka_unit_test(a_socket_is_left_as_it_is_by_default),
        cmocka_unit_test(every_udp_socket_is_told_how_to_send),
        cmocka_unit_test(other_sockets_are_not_told_and_do_not_join),
        cmocka_unit_test(who_has_joined_hears_the_group),
        cmocka_unit_test(who_is_bound_elsewhere_does_not_join),
        cmocka_unit_test(joining_twice_is_harmless),
        cmocka_unit_test(all_that_share_a_port_and_have_joined_hear_a_datagram),
        cmocka_unit_test(who_has_not_joined_hears_nothing_of_what_others_have),
        cmocka_unit_test(the_ttl_is_that_of_the_datagram),
        cmocka_unit_test(loop_says_whether_this_machine_hears_it),
        cmocka_unit_test(the_same_is_true_of_ipv6),
        cmocka_unit_test(without_a_route_the_interface_must_be_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
