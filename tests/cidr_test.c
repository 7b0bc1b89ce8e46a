/* cidr_test.c - networks as text, and the longest prefix that holds an address. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/net/cidr.h"
#include "tests/xorshift.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define NONE 9999

static struct cidr parsed(const char *text)
{
    char why[200] = "";
    struct cidr cidr;

    if (cidr_parse(text, &cidr, why, sizeof(why)) != 0)
        fail_msg("%s", why);
    return cidr;
}

static void add(struct cidr_set *set, const char *network, uint16_t value)
{
    struct cidr cidr = parsed(network);

    assert_int_equal(cidr_set_add(set, &cidr, value), 0);
}

static uint16_t find(const struct cidr_set *set, const char *host)
{
    struct cidr cidr = parsed(host);

    return cidr_set_find(set, &cidr, NONE);
}

/* ------------------------------------------------------------------ texts ------------- */

static void networks_and_single_addresses_are_understood(void **state)
{
    static const struct {
        const char *text;
        unsigned len;
        bool v6;
    } cases[] = {
        { "0.0.0.0/0", 0, false },       { "10.0.0.0/8", 8, false },
        { "192.168.1.7", 32, false },    { "192.168.1.7/32", 32, false },
        { "255.255.255.254/31", 31, false },
        { "::/0", 0, true },             { "::1/128", 128, true },
        { "::1", 128, true },            { "2001:db8::/32", 32, true },
        { "fe80::/10", 10, true },
        { "::ffff:10.0.0.0/104", 8, false }, { "::ffff:0.0.0.0/96", 0, false },
        { "::ffff:1.2.3.4", 32, false }, { "::/95", 95, true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cidr cidr = parsed(cases[i].text);

        assert_int_equal(cidr.len, cases[i].len);
        assert_int_equal(cidr.v6, cases[i].v6);
    }
}

static void what_is_no_network_is_refused_with_a_sentence(void **state)
{
    static const struct {
        const char *text;
        const char *sentence;
    } cases[] = {
        { "", "\"\": not an IPv4 or IPv6 address or network" },
        { "10.0.0", "10.0.0: not an IPv4 or IPv6 address or network" },
        { "10.0.0.256", "10.0.0.256: not an IPv4 or IPv6 address or network" },
        { "localhost", "localhost: not an IPv4 or IPv6 address or network" },
        { "[::1]", "[::1]: not an IPv4 or IPv6 address or network" },
        { "fe80::1%lo", "fe80::1%lo: not an IPv4 or IPv6 address or network" },
        { "/8", "/8: not an IPv4 or IPv6 address or network" },
        { "1111111111222222222233333333334444444444555555555566/8",
          "1111111111222222222233333333334444444444555555555566/8: not an address or network" },
        { "10.0.0.0/", "10.0.0.0/: the prefix is not a number from 0 to 32" },
        { "10.0.0.0/33", "10.0.0.0/33: the prefix is not a number from 0 to 32" },
        { "10.0.0.0/08", "10.0.0.0/08: the prefix is not a number from 0 to 32" },
        { "10.0.0.0/+8", "10.0.0.0/+8: the prefix is not a number from 0 to 32" },
        { "10.0.0.0/8/8", "10.0.0.0/8/8: the prefix is not a number from 0 to 32" },
        { "10.0.0.0/4294967304",
          "10.0.0.0/4294967304: the prefix is not a number from 0 to 32" },
        { "::/129", "::/129: the prefix is not a number from 0 to 128" },
        { "10.0.0.1/8", "10.0.0.1/8: the address has bits behind its prefix of 8: write the "
                        "network's address, or a longer prefix" },
        { "2001:db8::1/64", "2001:db8::1/64: the address has bits behind its prefix of 64: write "
                            "the network's address, or a longer prefix" },
        { "::ffff:1.2.3.4/95", "::ffff:1.2.3.4/95: the address has bits behind its prefix of 95: "
                               "write the network's address, or a longer prefix" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cidr cidr = { .len = 77 };
        char why[300];

        assert_int_equal(cidr_parse(cases[i].text, &cidr, why, sizeof(why)), -EINVAL);
        assert_string_equal(why, cases[i].sentence);
        assert_int_equal(cidr.len, 77);
    }
}

static void a_socket_address_is_a_host(void **state)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct cidr_set set = { .nodes = NULL };
    struct cidr host;

    (void)state;
    add(&set, "192.0.2.1", 4);
    add(&set, "2001:db8::1", 6);
    assert_int_equal(inet_pton(AF_INET, "192.0.2.1", &v4.sin_addr), 1);
    assert_true(cidr_of_address((struct sockaddr *)&v4, sizeof(v4), &host));
    assert_int_equal(cidr_set_find(&set, &host, NONE), 4);
    assert_int_equal(inet_pton(AF_INET6, "2001:db8::1", &v6.sin6_addr), 1);
    assert_true(cidr_of_address((struct sockaddr *)&v6, sizeof(v6), &host));
    assert_int_equal(cidr_set_find(&set, &host, NONE), 6);
    assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.2.1", &v6.sin6_addr), 1);
    assert_true(cidr_of_address((struct sockaddr *)&v6, sizeof(v6), &host));
    assert_int_equal(cidr_set_find(&set, &host, NONE), 4);
    assert_false(cidr_of_address((struct sockaddr *)&un, sizeof(un), &host));
    assert_false(cidr_of_address((struct sockaddr *)&un, 0, &host));
    cidr_set_fini(&set);
}

static void this_machines_own_addresses_are_known(void **state)
{
    static const struct { const char *text; bool is_loopback; } hosts[] = {
        { "127.0.0.1", true }, { "127.255.255.255", true }, { "::1", true },
        { "126.255.255.255", false }, { "128.0.0.1", false }, { "0.0.0.1", false },
        { "::", false }, { "::2", false }, { "7f00::", false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        struct cidr host;
        char why[400];

        assert_int_equal(cidr_parse(hosts[i].text, &host, why, sizeof(why)), 0);
        assert_int_equal(cidr_is_loopback(&host), hosts[i].is_loopback);
    }
}

/* ------------------------------------------------------------------ sets -------------- */

static void an_empty_set_holds_nobody(void **state)
{
    struct cidr_set set = { .nodes = NULL };

    (void)state;
    assert_int_equal(find(&set, "127.0.0.1"), NONE);
    assert_int_equal(find(&set, "::1"), NONE);
    cidr_set_fini(&set);
}

static void the_longest_prefix_answers_whatever_the_order(void **state)
{
    static const char *const networks[] = { "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3" };
    static const unsigned orders[][4] = {
        { 0, 1, 2, 3 }, { 3, 2, 1, 0 }, { 1, 3, 0, 2 }, { 2, 0, 3, 1 },
    };

    (void)state;
    for (size_t o = 0; o < 4; o++) {
        struct cidr_set set = { .nodes = NULL };

        for (size_t i = 0; i < 4; i++)
            add(&set, networks[orders[o][i]], (uint16_t)orders[o][i]);
        assert_int_equal(find(&set, "9.9.9.9"), 0);
        assert_int_equal(find(&set, "10.2.0.0"), 1);
        assert_int_equal(find(&set, "10.1.2.4"), 2);
        assert_int_equal(find(&set, "10.1.2.3"), 3);
        assert_int_equal(find(&set, "::1"), NONE);
        cidr_set_fini(&set);
    }
}

static void networks_of_ipv6_say_nothing_about_ipv4(void **state)
{
    struct cidr_set set = { .nodes = NULL };

    (void)state;
    add(&set, "::/0", 6);
    assert_int_equal(find(&set, "127.0.0.1"), NONE);
    assert_int_equal(find(&set, "::ffff:127.0.0.1"), NONE);
    assert_int_equal(find(&set, "::1"), 6);
    cidr_set_fini(&set);
}

static void the_same_network_is_not_added_twice(void **state)
{
    struct cidr_set set = { .nodes = NULL };
    struct cidr again = parsed("::ffff:10.0.0.0/104");

    (void)state;
    add(&set, "10.0.0.0/8", 1);
    assert_int_equal(cidr_set_add(&set, &again, 2), -EEXIST);
    assert_int_equal(find(&set, "10.9.9.9"), 1);
    cidr_set_fini(&set);
}

/* ------------------------------------------------------------------ a naive model ----- */

#define MODEL_NETWORKS 400
#define MODEL_HOSTS 2000
#define MODEL_ROUNDS 20

static uint64_t seed = 88172645463325252;

static uint64_t draw(void)
{
    return xorshift(&seed);
}

/* Few distinct bits in many places, so that networks nest and share beginnings. */
static struct cidr draw_host(void)
{
    struct cidr host = { .v6 = draw() % 2, .len = 32 };

    if (host.v6)
        host.len = 128;
    for (unsigned i = 0; i < host.len; i += 4)
        host.bits |= (unsigned __int128)(draw() % 8 == 0 ? draw() % 16 : 5) << (124 - i);
    return host;
}

static unsigned __int128 prefix(const struct cidr *cidr, unsigned len)
{
    return len == 0 ? 0 : cidr->bits >> (128 - len);
}

static struct cidr draw_network(void)
{
    struct cidr network = draw_host();

    network.len = (uint8_t)(draw() % (network.len + 1u));
    network.bits = network.len == 0 ? 0 : prefix(&network, network.len) << (128 - network.len);
    return network;
}

static bool same(const struct cidr *a, const struct cidr *b)
{
    return a->v6 == b->v6 && a->len == b->len && a->bits == b->bits;
}

static uint16_t naive_find(const struct cidr *networks, size_t len, const struct cidr *host)
{
    uint16_t best = NONE;

    for (size_t i = 0; i < len; i++)
        if (networks[i].v6 == host->v6 &&
            prefix(&networks[i], networks[i].len) == prefix(host, networks[i].len) &&
            (best == NONE || networks[i].len > networks[best].len))
            best = (uint16_t)i;
    return best;
}

static void a_linear_search_finds_the_same(void **state)
{
    (void)state;
    for (int round = 0; round < MODEL_ROUNDS; round++) {
        struct cidr networks[MODEL_NETWORKS];
        struct cidr_set set = { .nodes = NULL };
        size_t len = 0;
        size_t found = 0;

        while (len < MODEL_NETWORKS) {
            struct cidr network = draw_network();
            bool known = false;

            for (size_t i = 0; i < len; i++)
                known |= same(&networks[i], &network);
            assert_int_equal(cidr_set_add(&set, &network, (uint16_t)len), known ? -EEXIST : 0);
            if (!known)
                networks[len++] = network;
        }
        for (int i = 0; i < MODEL_HOSTS; i++) {
            struct cidr host = draw_host();
            uint16_t value = cidr_set_find(&set, &host, NONE);

            assert_int_equal(value, naive_find(networks, len, &host));
            found += value != NONE;
        }
        assert_true(found > 0);
        assert_true(set.nodes_len <= 2 * MODEL_NETWORKS + 1);
        cidr_set_fini(&set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_and_single_addresses_are_understood),
        cmocka_unit_test(what_is_no_network_is_refused_with_a_sentence),
        cmocka_unit_test(a_socket_address_is_a_host),
        cmocka_unit_test(this_machines_own_addresses_are_known),
        cmocka_unit_test(an_empty_set_holds_nobody),
        cmocka_unit_test(the_longest_prefix_answers_whatever_the_order),
        cmocka_unit_test(networks_of_ipv6_say_nothing_about_ipv4),
        cmocka_unit_test(the_same_network_is_not_added_twice),
        cmocka_unit_test(a_linear_search_finds_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
