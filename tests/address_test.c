/* address_test.c - URIs to socket addresses and back, and the sentences for wrong ones. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_MAX_UNIX 107

static char why[400];

static struct address parsed(const char *uri)
{
    struct address address;
    int r = address_parse(uri, &address, why, sizeof(why));

    if (r < 0)
        fail_msg("%s", why);
    return address;
}

static void assert_refused(const char *uri, int error, const char *sentence)
{
    struct address address, before;

    memset(&address, 0x5a, sizeof(address));
    memcpy(&before, &address, sizeof(before));
    assert_int_equal(address_parse(uri, &address, why, sizeof(why)), error);
    assert_string_equal(why, sentence);
    assert_memory_equal(&address, &before, sizeof(before));
}

static void assert_formats_back(const char *uri)
{
    struct address address = parsed(uri);
    char buf[200];

    assert_int_equal(address_format(address.type, &address.sa, address.len, buf, sizeof(buf)),
                     strlen(uri));
    assert_string_equal(buf, uri);
}

static void assert_text(const char *uri, const char *text)
{
    struct address address = parsed(uri);
    char buf[200];

    assert_ptr_equal(address_text(&address.sa, address.len, buf, sizeof(buf)), buf);
    assert_string_equal(buf, text);
}

static const char *repeat(char *buf, const char *head, char c, int times)
{
    size_t len = strlen(head);

    memcpy(buf, head, len);
    memset(buf + len, c, (size_t)times);
    buf[len + (size_t)times] = '\0';
    return buf;
}

static void an_ipv4_address_is_taken_apart(void **state)
{
    struct address address = parsed("tcp://127.0.0.1:8080");

    (void)state;
    assert_int_equal(address.kind, ADDRESS_IP);
    assert_int_equal(address.type, SOCK_STREAM);
    assert_int_equal(address.len, sizeof(address.in));
    assert_int_equal(address.in.sin_family, AF_INET);
    assert_int_equal(ntohs(address.in.sin_port), 8080);
    assert_int_equal(ntohl(address.in.sin_addr.s_addr), INADDR_LOOPBACK);
    assert_false(address.every);
}

static void an_ipv6_address_is_taken_apart(void **state)
{
    struct address address = parsed("tcp://[::1]:65535");

    (void)state;
    assert_int_equal(address.len, sizeof(address.in6));
    assert_int_equal(address.in6.sin6_family, AF_INET6);
    assert_int_equal(ntohs(address.in6.sin6_port), 65535);
    assert_memory_equal(&address.in6.sin6_addr, &in6addr_loopback, sizeof(in6addr_loopback));
    assert_false(address.every);
}

static void an_interface_may_follow_an_ipv6_address(void **state)
{
    struct address address = parsed("tcp://[fe80::1%lo]:80");

    (void)state;
    assert_int_not_equal(address.in6.sin6_scope_id, 0);
    assert_formats_back("tcp://[fe80::1%lo]:80");
}

static void no_host_means_every_address(void **state)
{
    struct address address = parsed("tcp://:99");

    (void)state;
    assert_true(address.every);
    if (address.sa.sa_family == AF_INET6)
        assert_memory_equal(&address.in6.sin6_addr, &in6addr_any, sizeof(in6addr_any));
    else
        assert_int_equal(address.in.sin_addr.s_addr, INADDR_ANY);
    assert_false(parsed("tcp://[::]:99").every);
    assert_false(parsed("tcp://0.0.0.0:99").every);
}

static void localhost_is_both_loopback_addresses(void **state)
{
    static const char *const names[] = { "tcp://localhost:99", "udp://LocalHost:99" };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct address *list;
        int six = -1;

        assert_int_equal(address_parse_all(names[i], &list, why, sizeof(why)), 2);
        six = list[1].sa.sa_family == AF_INET6;
        assert_int_equal(list[six].sa.sa_family, AF_INET6);
        assert_memory_equal(&list[six].in6.sin6_addr, &in6addr_loopback, sizeof(in6addr_loopback));
        assert_int_equal(list[!six].sa.sa_family, AF_INET);
        assert_int_equal(ntohl(list[!six].in.sin_addr.s_addr), INADDR_LOOPBACK);
        assert_int_equal(list[0].in.sin_port, htons(99));
        assert_int_equal(list[1].in.sin_port, htons(99));
        assert_false(list[0].every);
        free(list);
    }
}

static void what_has_one_address_is_a_list_of_one(void **state)
{
    static const char *const single[] = {
        "tcp://127.0.0.1:80", "udp://[::1]:80", "tcp://:80", "unix:@x", "unixgram:///x", "fd://3",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(single) / sizeof(single[0]); i++) {
        struct address *list;

        assert_int_equal(address_parse_all(single[i], &list, why, sizeof(why)), 1);
        free(list);
    }
}

static void a_family_that_a_policy_refuses_is_as_good_as_missing(void **state)
{
    (void)state;
    assert_true(address_family_is_missing(-EAFNOSUPPORT));
    assert_true(address_family_is_missing(-EACCES));
    assert_true(address_family_is_missing(-EPERM));
    assert_false(address_family_is_missing(-EMFILE));
    assert_false(address_family_is_missing(0));
}

static void a_port_may_be_the_name_of_a_service(void **state)
{
    (void)state;
    if (!getservbyname("http", "tcp"))
        skip();     /* a system without the list of them */
    assert_int_equal(ntohs(parsed("tcp://127.0.0.1:http").in.sin_port), 80);
}

static void a_path_is_taken_apart(void **state)
{
    struct address address = parsed("unix:///run/x.sock");
    size_t len = offsetof(struct sockaddr_un, sun_path) + sizeof("/run/x.sock");

    (void)state;
    assert_int_equal(address.kind, ADDRESS_UNIX);
    assert_int_equal(address.type, SOCK_STREAM);
    assert_int_equal(address.un.sun_family, AF_UNIX);
    assert_string_equal(address.un.sun_path, "/run/x.sock");
    assert_int_equal(address.len, len);
}

static void an_abstract_name_is_taken_apart(void **state)
{
    struct address address = parsed("unix:@a%00%ffb");

    (void)state;
    assert_int_equal(address.len, offsetof(struct sockaddr_un, sun_path) + 5);
    assert_memory_equal(address.un.sun_path, "\0a\0\xff" "b", 5);
}

static void a_descriptor_is_taken_apart(void **state)
{
    (void)state;
    assert_int_equal(parsed("fd://3").kind, ADDRESS_FD);
    assert_int_equal(parsed("fd://3").type, 0);
    assert_int_equal(parsed("fd://3").fd, 3);
    assert_int_equal(parsed("fd://2147483647").fd, 2147483647);
}

static void a_datagram_address_is_taken_apart_as_its_stream_is(void **state)
{
    static const char *const pairs[][2] = {
        { "udp://127.0.0.1:8080", "tcp://127.0.0.1:8080" }, { "udp://[::1]:0", "tcp://[::1]:0" },
        { "udp://:99", "tcp://:99" }, { "unixgram:///run/x%20y", "unix:///run/x%20y" },
        { "unixgram:@n%00", "unix:@n%00" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
        struct address datagram = parsed(pairs[i][0]);
        struct address stream = parsed(pairs[i][1]);

        assert_int_equal(datagram.type, SOCK_DGRAM);
        assert_int_equal(datagram.kind, stream.kind);
        assert_int_equal(datagram.every, stream.every);
        assert_int_equal(datagram.len, stream.len);
        assert_memory_equal(&datagram.ss, &stream.ss, stream.len);
    }
}

/* Of a service that has both, and of one that has UDP only. */
static void a_service_is_looked_up_for_its_transport(void **state)
{
    (void)state;
    if (!getservbyname("domain", "udp") || !getservbyname("tftp", "udp"))
        skip();     /* a system without the list of them */
    assert_int_equal(ntohs(parsed("udp://127.0.0.1:domain").in.sin_port), 53);
    assert_int_equal(ntohs(parsed("udp://127.0.0.1:tftp").in.sin_port), 69);
    assert_refused("tcp://127.0.0.1:tftp", -EINVAL,
                   "tcp://127.0.0.1:tftp: the port must be 0 to 65535 or the name of a service");
}

static void a_path_has_at_most_107_bytes(void **state)
{
    char uri[200], sentence[300];

    (void)state;
    assert_formats_back(repeat(uri, "unix:///", 'x', PATH_MAX_UNIX - 1));
    repeat(uri, "unix:///", 'x', PATH_MAX_UNIX);
    snprintf(sentence, sizeof(sentence),
             "%s: the name of a Unix socket has at most 107 bytes", uri);
    assert_refused(uri, -EINVAL, sentence);
    assert_formats_back(repeat(uri, "unix:@", 'x', PATH_MAX_UNIX));
    repeat(uri, "unix:@", 'x', PATH_MAX_UNIX + 1);
    snprintf(sentence, sizeof(sentence),
             "%s: the name of a Unix socket has at most 107 bytes", uri);
    assert_refused(uri, -EINVAL, sentence);
}

static void what_is_formatted_is_what_was_parsed(void **state)
{
    (void)state;
    assert_formats_back("tcp://127.0.0.1:80");
    assert_formats_back("tcp://0.0.0.0:0");
    assert_formats_back("tcp://[::1]:80");
    assert_formats_back("tcp://[::ffff:127.0.0.1]:80");
    assert_formats_back("unix:///run/x y.sock");
    assert_formats_back("unix:///run/100%25%0A");
    assert_formats_back("unix:@n");
    assert_formats_back("unix:@%00\xc3\xa9%7F");
    assert_formats_back("udp://127.0.0.1:80");
    assert_formats_back("udp://[::1]:80");
    assert_formats_back("unixgram:///run/100%25%0A");
    assert_formats_back("unixgram:@n");
}

static void wrong_ports_are_refused(void **state)
{
    (void)state;
    assert_refused("tcp://127.0.0.1", -EINVAL,
                   "tcp://127.0.0.1: the port is missing (with :0 the kernel chooses one)");
    assert_refused("tcp://127.0.0.1:", -EINVAL,
                   "tcp://127.0.0.1:: the port is missing (with :0 the kernel chooses one)");
    assert_refused("tcp://[::1]", -EINVAL,
                   "tcp://[::1]: the port is missing (with :0 the kernel chooses one)");
    assert_refused("tcp://", -EINVAL,
                   "tcp://: the port is missing (with :0 the kernel chooses one)");
    assert_refused("tcp://127.0.0.1:65536", -EINVAL,
                   "tcp://127.0.0.1:65536: the port must be 0 to 65535");
    assert_refused("tcp://127.0.0.1:99999999999999999999", -EINVAL,
                   "tcp://127.0.0.1:99999999999999999999: the port must be 0 to 65535");
    assert_refused("tcp://127.0.0.1:-1", -EINVAL,
                   "tcp://127.0.0.1:-1: the port must be 0 to 65535 or the name of a service");
    assert_refused("tcp://127.0.0.1:no-such-service", -EINVAL,
                   "tcp://127.0.0.1:no-such-service: "
                   "the port must be 0 to 65535 or the name of a service");
    assert_refused("tcp://127.0.0.1:80/x", -EINVAL,
                   "tcp://127.0.0.1:80/x: only host:port may follow tcp://, without \"/x\"");
    assert_refused("tcp://127.0.0.1:80 ", -EINVAL,
                   "tcp://127.0.0.1:80 : only host:port may follow tcp://, without \" \"");
}

static void wrong_hosts_are_refused(void **state)
{
    char uri[2000];

    (void)state;
    assert_refused("tcp://::1:80", -EINVAL,
                   "tcp://::1:80: there are too many colons (an IPv6 address goes in brackets, "
                   "as in tcp://[::1]:80)");
    assert_refused("tcp://[::1:80", -EINVAL, "tcp://[::1:80: the closing ] is missing");
    assert_refused("tcp://[::1]80", -EINVAL, "tcp://[::1]80: only :port may follow the ]");
    assert_refused("tcp://[]:80", -EINVAL,
                   "tcp://[]:80: there is no address between the brackets");
    assert_refused("tcp://[127.0.0.1]:80", -EINVAL,
                   "tcp://[127.0.0.1]:80: between the brackets must stand an IPv6 address "
                   "(behind a % the name of an interface)");
    assert_refused("tcp://[localhost]:80", -EINVAL,
                   "tcp://[localhost]:80: between the brackets must stand an IPv6 address "
                   "(behind a % the name of an interface)");
    assert_refused("tcp://me@h:80", -EINVAL,
                   "tcp://me@h:80: only host:port may follow tcp://, without \"@h:80\"");
    /* No resolver is asked about a name with an empty label. */
    assert_refused("tcp://no..host:80", -ENOENT,
                   "tcp://no..host:80: there is no host of that name: no..host");
    strcat(strcpy(uri, repeat((char[1100]){ 0 }, "tcp://", 'x', 1050)), ":80");
    assert_int_equal(address_parse(uri, &(struct address){ 0 }, why, sizeof(why)), -EINVAL);
}

static void wrong_unix_names_are_refused(void **state)
{
    static const char *const wrong[] = { "unix:", "unix:x", "unix:/x", "unix://x/y", "unix://" };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        char sentence[200];
        snprintf(sentence, sizeof(sentence), "%s: a Unix socket is unix:///path, with three "
                 "slashes, or unix:@name", wrong[i]);
        assert_refused(wrong[i], -EINVAL, sentence);
    }
    assert_refused("unix:///", -EINVAL, "unix:///: the socket's name is missing");
    assert_refused("unix:@", -EINVAL, "unix:@: the socket's name is missing");
    assert_refused("unix:///a%00b", -EINVAL,
                   "unix:///a%00b: a path cannot hold the byte %00");
    assert_refused("unix:///100%", -EINVAL,
                   "unix:///100%: two hexadecimal digits must follow a % "
                   "(a percent sign itself is %25)");
    assert_refused("unix:@%4", -EINVAL,
                   "unix:@%4: two hexadecimal digits must follow a % "
                   "(a percent sign itself is %25)");
    assert_refused("unix:@%g0", -EINVAL,
                   "unix:@%g0: two hexadecimal digits must follow a % "
                   "(a percent sign itself is %25)");
}

static void a_sentence_names_the_scheme_that_was_used(void **state)
{
    (void)state;
    assert_refused("udp://127.0.0.1", -EINVAL,
                   "udp://127.0.0.1: the port is missing (with :0 the kernel chooses one)");
    assert_refused("udp://127.0.0.1:80/x", -EINVAL,
                   "udp://127.0.0.1:80/x: only host:port may follow udp://, without \"/x\"");
    assert_refused("udp://::1:80", -EINVAL,
                   "udp://::1:80: there are too many colons (an IPv6 address goes in brackets, "
                   "as in udp://[::1]:80)");
    assert_refused("unixgram:x", -EINVAL, "unixgram:x: a Unix socket is unixgram:///path, with "
                   "three slashes, or unixgram:@name");
}

static void wrong_descriptors_are_refused(void **state)
{
    (void)state;
    assert_refused("fd://", -EINVAL, "fd://: a descriptor's number must follow fd://");
    assert_refused("fd://-1", -EINVAL, "fd://-1: a descriptor's number must follow fd://");
    assert_refused("fd://3,", -EINVAL, "fd://3,: a descriptor's number must follow fd://");
    assert_refused("fd://,3", -EINVAL, "fd://,3: a descriptor's number must follow fd://");
    assert_refused("fd://3,4,3", -EINVAL, "fd://3,4,3: descriptor 3 is named twice");
    assert_refused("fd://3x", -EINVAL, "fd://3x: a descriptor's number must follow fd://");
    assert_refused("fd://2147483648", -EINVAL,
                   "fd://2147483648: there is no descriptor with such a number");
    assert_refused("fd://99999999999999999999999", -EINVAL,
                   "fd://99999999999999999999999: there is no descriptor with such a number");
}

static void other_schemes_are_refused(void **state)
{
    (void)state;
    assert_refused("", -EINVAL, "the address is empty (one would be tcp://127.0.0.1:8080)");
    assert_refused("http://127.0.0.1:80", -EINVAL, "http://127.0.0.1:80: "
                   "an address begins with tcp://, udp://, unix:, unixgram: or fd://");
    assert_refused("127.0.0.1:80", -EINVAL,
                   "127.0.0.1:80: an address begins with tcp://, udp://, unix:, unixgram: or "
                   "fd://");
    assert_refused("tcp:/127.0.0.1:80", -EINVAL,
                   "tcp:/127.0.0.1:80: an address begins with tcp://, udp://, unix:, unixgram: or "
                   "fd://");
}

static void the_sentence_is_one_line_and_fits(void **state)
{
    char small[10];
    struct address address;

    (void)state;
    assert_refused("a\nb\x1b\x7f", -EINVAL,
                   "a?b??: an address begins with tcp://, udp://, unix:, unixgram: or fd://");
    assert_int_equal(address_parse("tcp://127.0.0.1", &address, small, sizeof(small)), -EINVAL);
    assert_string_equal(small, "tcp://127");
    assert_int_equal(address_parse("tcp://127.0.0.1", &address, NULL, 0), -EINVAL);
}

static void only_names_are_not_literal(void **state)
{
    (void)state;
    assert_true(address_is_literal("tcp://127.0.0.1:80"));
    assert_true(address_is_literal("tcp://[::1]:80"));
    assert_true(address_is_literal("tcp://:80"));
    assert_true(address_is_literal("unix:///x"));
    assert_true(address_is_literal("unix:@x"));
    assert_true(address_is_literal("fd://3"));
    assert_true(address_is_literal("tcp://localhost"));
    assert_true(address_is_literal("udp://127.0.0.1:80"));
    assert_true(address_is_literal("unixgram:///x"));
    assert_true(address_is_literal("nonsense"));
    assert_true(address_is_literal("tcp://localhost:80"));
    assert_false(address_is_literal("tcp://localhost.example:80"));
    assert_false(address_is_literal("udp://example:80"));
    assert_false(address_is_literal("tcp://127.0.0.1:http"));
    assert_false(address_is_literal("tcp://[::1]:http"));
}

static void text_is_what_people_read(void **state)
{
    (void)state;
    assert_text("tcp://127.0.0.1:51234", "127.0.0.1:51234");
    assert_text("tcp://[::1]:51234", "[::1]:51234");
    assert_text("tcp://[::ffff:127.0.0.1]:51234", "127.0.0.1:51234");
    assert_text("unix:///p", "unix:/p");
    assert_text("unix:@n%0a", "unix:@n%0A");
    assert_text("udp://127.0.0.1:51234", "127.0.0.1:51234");
    assert_text("unixgram:///p", "unix:/p");
}

static void a_peer_without_a_name_has_a_text(void **state)
{
    const struct sockaddr_un unnamed = { .sun_family = AF_UNIX };
    char buf[32];

    (void)state;
    address_text((const struct sockaddr *)&unnamed, sizeof(sa_family_t), buf, sizeof(buf));
    assert_string_equal(buf, "unix:");
    assert_int_equal(address_format(SOCK_STREAM, (const struct sockaddr *)&unnamed,
                                    sizeof(sa_family_t), buf, sizeof(buf)), strlen("unix:"));
    assert_string_equal(buf, "unix:");
    assert_int_equal(address_format(SOCK_DGRAM, (const struct sockaddr *)&unnamed,
                                    sizeof(sa_family_t), buf, sizeof(buf)), strlen("unixgram:"));
    assert_string_equal(buf, "unixgram:");
}

static void a_family_that_is_not_ours_is_told(void **state)
{
    const struct sockaddr_storage other = { .ss_family = AF_VSOCK };
    char buf[32];

    (void)state;
    assert_int_equal(address_format(SOCK_STREAM, (const struct sockaddr *)&other, sizeof(other),
                                    buf, sizeof(buf)), -EAFNOSUPPORT);
    address_text((const struct sockaddr *)&other, sizeof(other), buf, sizeof(buf));
    assert_string_equal(buf, "address family 40");
}

static void a_buffer_too_small_is_filled_and_terminated(void **state)
{
    struct address address = parsed("tcp://127.0.0.1:80");
    char buf[10];

    (void)state;
    assert_int_equal(address_format(address.type, &address.sa, address.len, buf, sizeof(buf)),
                     -ENOSPC);
    assert_string_equal(buf, "tcp://127");
    address_text(&address.sa, address.len, buf, sizeof(buf));
    assert_string_equal(buf, "127.0.0.1");
    address_text(&address.sa, address.len, buf, 1);
    assert_string_equal(buf, "");
}

/* The kernel fills sun_path to its last byte and then terminates nothing. */
static void a_path_without_a_terminator_is_not_read_past_its_end(void **state)
{
    struct sockaddr_un full = { .sun_family = AF_UNIX };
    char buf[200], expected[200];

    (void)state;
    memset(full.sun_path, 'x', sizeof(full.sun_path));
    full.sun_path[0] = '/';
    address_text((const struct sockaddr *)&full, sizeof(full), buf, sizeof(buf));
    assert_string_equal(buf, repeat(expected, "unix:/", 'x', sizeof(full.sun_path) - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_ipv4_address_is_taken_apart),
        cmocka_unit_test(an_ipv6_address_is_taken_apart),
        cmocka_unit_test(an_interface_may_follow_an_ipv6_address),
        cmocka_unit_test(no_host_means_every_address),
        cmocka_unit_test(localhost_is_both_loopback_addresses),
        cmocka_unit_test(what_has_one_address_is_a_list_of_one),
        cmocka_unit_test(a_family_that_a_policy_refuses_is_as_good_as_missing),
        cmocka_unit_test(a_port_may_be_the_name_of_a_service),
        cmocka_unit_test(a_path_is_taken_apart),
        cmocka_unit_test(an_abstract_name_is_taken_apart),
        cmocka_unit_test(a_descriptor_is_taken_apart),
        cmocka_unit_test(a_datagram_address_is_taken_apart_as_its_stream_is),
        cmocka_unit_test(a_service_is_looked_up_for_its_transport),
        cmocka_unit_test(a_path_has_at_most_107_bytes),
        cmocka_unit_test(what_is_formatted_is_what_was_parsed),
        cmocka_unit_test(wrong_ports_are_refused),
        cmocka_unit_test(wrong_hosts_are_refused),
        cmocka_unit_test(wrong_unix_names_are_refused),
        cmocka_unit_test(a_sentence_names_the_scheme_that_was_used),
        cmocka_unit_test(wrong_descriptors_are_refused),
        cmocka_unit_test(other_schemes_are_refused),
        cmocka_unit_test(the_sentence_is_one_line_and_fits),
        cmocka_unit_test(only_names_are_not_literal),
        cmocka_unit_test(text_is_what_people_read),
        cmocka_unit_test(a_peer_without_a_name_has_a_text),
        cmocka_unit_test(a_family_that_is_not_ours_is_told),
        cmocka_unit_test(a_buffer_too_small_is_filled_and_terminated),
        cmocka_unit_test(a_path_without_a_terminator_is_not_read_past_its_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
