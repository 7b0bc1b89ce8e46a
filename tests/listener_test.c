/* listener_test.c - binding, taking over and giving back addresses, with real sockets. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/net/listener.h"

#include "engine/base/sys.h"
#include "engine/net/address.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLENTY_MS 10000

#define PORT_IN_USE "the port is in use: a server listens on it, or connections of one that ran " \
                    "without reuse_address are still closing (wait a minute)"

static const struct listener_options defaults = { 0 };
static const struct listener_options reusing = { .reuse_address = true };
static char why[400];
static char folder[] = "/tmp/weir-listener-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

/* Fails if a test left anything behind. */
static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static struct listener opened_with(const char *uri, const struct listener_options *options)
{
    struct listener listener;

    if (listener_open(&listener, uri, options, why, sizeof(why)) < 0)
        fail_msg("%s", why);
    return listener;
}

static struct listener opened(const char *uri)
{
    return opened_with(uri, &defaults);
}

static int lowest_free_fd(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    close(fd);
    return fd;
}

/* Every refusal leaves the result untouched and no descriptor open. */
static void assert_refused_with(const char *uri, const struct listener_options *options,
                                int error, const char *reason)
{
    struct listener listener = { .fd = -7 };
    int free_fd = lowest_free_fd();
    char sentence[400];

    snprintf(sentence, sizeof(sentence), "%s: %s", uri, reason);
    assert_int_equal(listener_open(&listener, uri, options, why, sizeof(why)), error);
    assert_string_equal(why, sentence);
    assert_int_equal(listener.fd, -7);
    assert_int_equal(lowest_free_fd(), free_fd);
}

static void assert_refused(const char *uri, int error, const char *reason)
{
    assert_refused_with(uri, &defaults, error, reason);
}

static const char *path_named(const char *name)
{
    static char path[sizeof(folder) + 32];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static const char *uri_of(const char *path)
{
    static char uri[sizeof(folder) + 64];

    snprintf(uri, sizeof(uri), "unix://%s", path);
    return uri;
}

static const char *datagram_uri_of(const char *path)
{
    static char uri[sizeof(folder) + 64];

    snprintf(uri, sizeof(uri), "unixgram://%s", path);
    return uri;
}

static bool exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

/* A client's socket, connected to the address of the URI. */
static int connected(const char *uri)
{
    struct address address;
    int fd, r;

    if (address_parse(uri, &address, why, sizeof(why)) < 0)
        fail_msg("%s", why);
    fd = sys_socket(address.sa.sa_family, address.type);
    assert_true(fd >= 0);
    r = sys_connect(fd, &address.sa, address.len);
    if (r == -EINPROGRESS) {
        assert_true(sys_poll_one(fd, POLLOUT, PLENTY_MS) > 0);
        r = sys_socket_error(fd);
    }
    assert_int_equal(r, 0);
    return fd;
}

static int accepted(const struct listener *listener, struct sockaddr_storage *peer,
                    socklen_t *peer_len)
{
    int fd;

    assert_true(sys_poll_one(listener->fd, POLLIN, PLENTY_MS) > 0);
    fd = sys_accept(listener->fd, peer, peer_len);
    assert_true(fd >= 0);
    return fd;
}

static void assert_serves(const struct listener *listener, const char *uri)
{
    struct sockaddr_storage peer;
    socklen_t peer_len;
    int client = connected(uri);
    int server = accepted(listener, &peer, &peer_len);

    close(server);
    close(client);
}

/* What is sent to the URI comes to that listener. */
static void assert_receives(const struct listener *listener, const char *uri)
{
    int client = connected(uri);
    char byte = 0;

    assert_int_equal(sys_send(client, "x", 1), 1);
    assert_true(sys_poll_one(listener->fd, POLLIN, PLENTY_MS) > 0);
    assert_int_equal(sys_recv(listener->fd, &byte, 1), 1);
    assert_int_equal(byte, 'x');
    assert_int_equal(sys_recv(listener->fd, &byte, 1), -EAGAIN);
    close(client);
}

static int option_of(int fd, int level, int name)
{
    int value;
    socklen_t len = sizeof(value);

    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static bool has_ipv6_loopback(void)
{
    const struct sockaddr_in6 loopback = { .sin6_family = AF_INET6,
                                           .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    int fd = sys_socket(AF_INET6, SOCK_STREAM);
    bool has = fd >= 0 && bind(fd, (const struct sockaddr *)&loopback, sizeof(loopback)) == 0;

    if (fd >= 0)
        close(fd);
    return has;
}

/* "tcp://host:port" or "udp://host:port" with the scheme and port of another listener. */
static const char *with_port_of(const struct listener *listener, const char *host)
{
    static char uri[64];

    snprintf(uri, sizeof(uri), "%.6s%s%s", listener->uri, host, strrchr(listener->uri, ':'));
    return uri;
}

/* ---- TCP ---- */

static void port_0_is_resolved(void **state)
{
    struct listener listener = opened("tcp://127.0.0.1:0");

    (void)state;
    assert_int_equal(strncmp(listener.uri, "tcp://127.0.0.1:", 16), 0);
    assert_int_not_equal(atoi(listener.uri + 16), 0);
    assert_int_equal(listener.family, AF_INET);
    assert_serves(&listener, listener.uri);
    listener_close(&listener);
}

static void accepting_from_nobody_does_not_wait(void **state)
{
    struct listener listener = opened("tcp://127.0.0.1:0");
    struct sockaddr_storage peer;
    socklen_t peer_len = 7;

    (void)state;
    assert_int_equal(sys_accept(listener.fd, &peer, &peer_len), -EAGAIN);
    assert_int_equal(peer_len, 7);
    assert_true(fcntl(listener.fd, F_GETFD) & FD_CLOEXEC);
    listener_close(&listener);
}

static void an_ipv6_address_takes_ipv6_only(void **state)
{
    struct listener listener;

    (void)state;
    if (!has_ipv6_loopback())
        skip();
    listener = opened("tcp://[::]:0");
    assert_int_equal(listener.family, AF_INET6);
    assert_int_equal(option_of(listener.fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
    assert_serves(&listener, with_port_of(&listener, "[::1]"));
    listener_close(&listener);
}

static void no_host_takes_both_families(void **state)
{
    struct listener listener = opened("tcp://:0");

    (void)state;
    assert_serves(&listener, with_port_of(&listener, "127.0.0.1"));
    if (has_ipv6_loopback())
        assert_serves(&listener, with_port_of(&listener, "[::1]"));
    listener_close(&listener);
}

static void a_port_in_use_is_told(void **state)
{
    struct listener listener = opened("tcp://127.0.0.1:0");

    (void)state;
    assert_refused(listener.uri, -EADDRINUSE, PORT_IN_USE);
    assert_refused_with(listener.uri, &reusing, -EADDRINUSE, PORT_IN_USE);
    listener_close(&listener);
}

/* The end that closes first keeps the port for a while, in TIME_WAIT. */
static void reuse_address_binds_over_closing_connections(void **state)
{
    struct listener listener = opened_with("tcp://127.0.0.1:0", &reusing);
    struct sockaddr_storage peer;
    socklen_t peer_len;
    int client = connected(listener.uri);
    int server = accepted(&listener, &peer, &peer_len);
    char uri[WEIR_ADDRESS_SIZE];
    char byte;

    (void)state;
    strcpy(uri, listener.uri);
    close(server);
    assert_true(sys_poll_one(client, POLLIN, PLENTY_MS) > 0);
    assert_int_equal(sys_recv(client, &byte, 1), 0);
    close(client);
    listener_close(&listener);

    assert_refused(uri, -EADDRINUSE, PORT_IN_USE);
    listener = opened_with(uri, &reusing);
    listener_close(&listener);
}

static void reuse_port_lets_two_listeners_share_a_port(void **state)
{
    const struct listener_options sharing = { .reuse_port = true };
    struct listener first = opened_with("tcp://127.0.0.1:0", &sharing);
    struct listener second = opened_with(first.uri, &sharing);

    (void)state;
    assert_string_equal(first.uri, second.uri);
    listener_close(&first);
    assert_serves(&second, second.uri);
    listener_close(&second);
}

static void accepted_sockets_inherit_nodelay(void **state)
{
    struct listener listener = opened_with("tcp://127.0.0.1:0",
                                           &(struct listener_options){ .nodelay = true });
    struct sockaddr_storage peer;
    socklen_t peer_len;
    int client = connected(listener.uri);
    int server = accepted(&listener, &peer, &peer_len);

    (void)state;
    assert_int_not_equal(option_of(server, IPPROTO_TCP, TCP_NODELAY), 0);
    assert_true(fcntl(server, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(server, F_GETFD) & FD_CLOEXEC);
    close(server);
    close(client);
    listener_close(&listener);
}

/* A machine that is poorer than this one, which BUILD's wraps make of it. */
static struct {
    int ipv6;                   /* errno of socket(2), or 0 */
    bool without_proc;
} poor;

int __real_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol);
int __real_fchmodat(int folder_fd, const char *path, mode_t mode, int flags);
int __wrap_fchmodat(int folder_fd, const char *path, mode_t mode, int flags);

int __wrap_socket(int family, int type, int protocol)
{
    if (family != AF_INET6 || poor.ipv6 == 0)
        return __real_socket(family, type, protocol);
    errno = poor.ipv6;
    return -1;
}

int __wrap_fchmodat(int folder_fd, const char *path, mode_t mode, int flags)
{
    if (!poor.without_proc)
        return __real_fchmodat(folder_fd, path, mode, flags);
    errno = EOPNOTSUPP;
    return -1;
}

static void where_there_is_no_ipv6_every_address_is_of_ipv4(void **state)
{
    static const int refusals[] = { EAFNOSUPPORT, EACCES, EPERM };

    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct listener listener;

        poor.ipv6 = refusals[i];
        listener = opened("tcp://:0");
        assert_int_equal(listener.family, AF_INET);
        listener_close(&listener);
        listener = opened("udp://:0");
        assert_int_equal(listener.family, AF_INET);
        listener_close(&listener);
    }
    poor.ipv6 = EAFNOSUPPORT;
    assert_refused("tcp://[::1]:0", -EAFNOSUPPORT, "this machine has no IPv6");
    poor.ipv6 = EPERM;
    assert_refused("tcp://[::1]:0", -EPERM, "a policy on this machine keeps this program from IPv6 "
                   "sockets: Operation not permitted");
    poor.ipv6 = EMFILE;
    assert_refused("tcp://[::1]:0", -EMFILE, "no socket can be had: Too many open files");
    poor.ipv6 = 0;
}

static void permissions_take_no_proc(void **state)
{
    const char *uri = uri_of(path_named("mode"));
    struct listener listener;
    struct stat made;
    mode_t umask_before = umask(022);

    (void)state;
    poor.without_proc = true;
    listener = opened_with(uri, &(struct listener_options){ .mode = 0600 });
    assert_int_equal(stat(listener.path, &made), 0);
    assert_int_equal(made.st_mode & 07777, 0600);
    listener_close(&listener);
    /* Before Linux 6.6 it is a sentence. */
    if (listener_open(&listener, uri, &(struct listener_options){ .mode = 0666 }, why,
                      sizeof(why)) == 0) {
        assert_int_equal(stat(listener.path, &made), 0);
        assert_int_equal(made.st_mode & 07777, 0666);
        listener_close(&listener);
    } else {
        assert_non_null(strstr(why, "unix_mode: before Linux 6.6 it takes /proc to give 0666 more "
                               "permissions than the umask leaves"));
    }
    poor.without_proc = false;
    umask(umask_before);
}

static void an_address_of_another_machine_is_refused(void **state)
{
    (void)state;
    assert_refused("tcp://192.0.2.1:0", -EADDRNOTAVAIL, "this machine does not have that address");
}

static void a_link_local_address_needs_its_interface(void **state)
{
    (void)state;
    if (!has_ipv6_loopback())
        skip();
    assert_refused("tcp://[fe80::1]:0", -EINVAL,
                   "a link-local address needs its interface, as in [fe80::1%eth0]");
}

static void a_wrong_text_opens_nothing(void **state)
{
    (void)state;
    assert_refused("tcp://127.0.0.1:99999", -EINVAL, "the port must be 0 to 65535");
}

static void closing_twice_is_harmless(void **state)
{
    struct listener listener = opened("tcp://127.0.0.1:0");
    int free_fd;

    (void)state;
    listener_close(&listener);
    assert_int_equal(listener.fd, -1);
    free_fd = lowest_free_fd();
    listener_close(&listener);
    assert_int_equal(lowest_free_fd(), free_fd);
}

/* ---- UDP ---- */

static void a_udp_socket_receives_from_when_it_is_bound(void **state)
{
    struct listener listener;
    int client;

    (void)state;
    assert_int_equal(listener_bind(&listener, "udp://127.0.0.1:0", &defaults, why, sizeof(why)),
                     0);
    assert_int_equal(strncmp(listener.uri, "udp://127.0.0.1:", 16), 0);
    assert_int_not_equal(atoi(listener.uri + 16), 0);
    assert_int_equal(listener.type, SOCK_DGRAM);
    assert_int_equal(listener.family, AF_INET);
    assert_false(listener.listens);
    client = connected(listener.uri);
    assert_int_equal(sys_send(client, "early", 5), 5);
    assert_int_equal(listener_activate(&listener, 7, why, sizeof(why)), 0);
    assert_true(listener.listens);
    assert_true(sys_poll_one(listener.fd, POLLIN, PLENTY_MS) > 0);
    assert_int_equal(sys_recv(listener.fd, (char[8]){ 0 }, 8), 5);
    assert_receives(&listener, listener.uri);
    close(client);
    listener_close(&listener);
}

static void a_udp_socket_does_not_wait_and_is_not_inherited(void **state)
{
    struct listener listener = opened_with("udp://127.0.0.1:0",
                                           &(struct listener_options){ .nodelay = true });

    (void)state;
    assert_true(fcntl(listener.fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(listener.fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(option_of(listener.fd, SOL_SOCKET, SO_REUSEADDR), 0);
    assert_int_equal(option_of(listener.fd, SOL_SOCKET, SO_REUSEPORT), 0);
    listener_close(&listener);
}

static void an_ipv6_address_takes_ipv6_datagrams_only(void **state)
{
    struct listener listener;

    (void)state;
    if (!has_ipv6_loopback())
        skip();
    listener = opened("udp://[::]:0");
    assert_int_equal(option_of(listener.fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
    assert_receives(&listener, with_port_of(&listener, "[::1]"));
    listener_close(&listener);
}

static void no_host_takes_datagrams_of_both_families(void **state)
{
    struct listener listener = opened("udp://:0");

    (void)state;
    assert_receives(&listener, with_port_of(&listener, "127.0.0.1"));
    if (has_ipv6_loopback())
        assert_receives(&listener, with_port_of(&listener, "[::1]"));
    listener_close(&listener);
}

static void a_udp_port_in_use_is_told(void **state)
{
    struct listener listener = opened("udp://127.0.0.1:0");

    (void)state;
    assert_refused(listener.uri, -EADDRINUSE, "the port is in use: another socket is bound to it");
    assert_refused_with(listener.uri, &reusing, -EADDRINUSE,
                        "the port is in use: another socket is bound to it");
    listener_close(&listener);
}

/* As Python's allow_reuse_address does: the later one gets what is sent to the port. */
static void reuse_address_lets_two_udp_sockets_share_a_port(void **state)
{
    struct listener first = opened_with("udp://127.0.0.1:0", &reusing);
    struct listener second = opened_with(first.uri, &reusing);

    (void)state;
    assert_string_equal(first.uri, second.uri);
    assert_receives(&second, first.uri);
    listener_close(&second);
    assert_receives(&first, first.uri);
    listener_close(&first);
}

static void reuse_port_lets_two_udp_sockets_share_a_port(void **state)
{
    const struct listener_options sharing = { .reuse_port = true };
    struct listener first = opened_with("udp://127.0.0.1:0", &sharing);
    struct listener second = opened_with(first.uri, &sharing);

    (void)state;
    assert_refused_with(first.uri, &reusing, -EADDRINUSE,
                        "the port is in use: another socket is bound to it");
    listener_close(&first);
    assert_receives(&second, second.uri);
    listener_close(&second);
}

static void a_multicast_group_may_be_bound_to(void **state)
{
    struct listener listener = opened("udp://224.3.29.71:0");

    (void)state;
    assert_int_equal(strncmp(listener.uri, "udp://224.3.29.71:", 18), 0);
    listener_close(&listener);
}

/* ---- Unix ---- */

static void a_path_exists_while_its_listener_is_open(void **state)
{
    const char *path = path_named("s");
    struct listener listener = opened(uri_of(path));

    (void)state;
    assert_string_equal(listener.uri, uri_of(path));
    assert_int_equal(listener.family, AF_UNIX);
    assert_true(exists(path));
    assert_serves(&listener, listener.uri);
    listener_close(&listener);
    assert_false(exists(path));
}

static void a_client_of_a_path_has_no_name(void **state)
{
    struct listener listener = opened(uri_of(path_named("s")));
    struct sockaddr_storage peer;
    socklen_t peer_len;
    int client = connected(listener.uri);
    int server = accepted(&listener, &peer, &peer_len);
    char text[32];

    (void)state;
    address_text((struct sockaddr *)&peer, peer_len, text, sizeof(text));
    assert_string_equal(text, "unix:");
    close(server);
    close(client);
    listener_close(&listener);
}

static void a_path_that_is_served_is_in_use(void **state)
{
    const char *path = path_named("s");
    struct listener listener = opened(uri_of(path));

    (void)state;
    assert_refused(listener.uri, -EADDRINUSE, "the path is in use: a server listens there");
    listener_close(&listener);
    assert_false(exists(path));
}

/* With the backlog full, connecting says "try again", not "nobody there". */
static void a_busy_server_keeps_its_path(void **state)
{
    const char *path = path_named("s");
    struct listener listener = opened_with(uri_of(path),
                                           &(struct listener_options){ .backlog = 1 });
    struct address address;
    int clients[16], len = 0, r;

    (void)state;
    assert_int_equal(address_parse(listener.uri, &address, why, sizeof(why)), 0);
    do {
        assert_true(len < 16);
        clients[len] = sys_socket(AF_UNIX, SOCK_STREAM);
        r = sys_connect(clients[len++], &address.sa, address.len);
    } while (r == 0);
    assert_int_equal(r, -EAGAIN);
    assert_refused(listener.uri, -EADDRINUSE, "the path is in use: a server listens there");
    while (len > 0)
        close(clients[--len]);
    listener_close(&listener);
}

static void a_path_whose_server_died_is_taken_over(void **state)
{
    const char *path = path_named("s");
    struct listener dead = opened(uri_of(path));
    struct listener listener;

    (void)state;
    close(dead.fd);     /* as the kernel does for a killed process: the path stays */
    assert_true(exists(path));
    listener = opened(uri_of(path));
    assert_serves(&listener, listener.uri);
    listener_close(&listener);
    assert_false(exists(path));
}

static void a_file_is_never_taken_for_a_stale_socket(void **state)
{
    const char *path = path_named("file");
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    (void)state;
    close(fd);
    assert_refused(uri_of(path), -EADDRINUSE, "what is at that path is not a socket: "
                   "remove it yourself, or choose another path");
    assert_int_equal(unlink(path), 0);

    assert_int_equal(symlink("nowhere", path), 0);
    assert_refused(uri_of(path), -EADDRINUSE, "what is at that path is not a socket: "
                   "remove it yourself, or choose another path");
    assert_int_equal(unlink(path), 0);
}

static void a_datagram_socket_keeps_its_path(void **state)
{
    const char *path = path_named("d");
    struct address address;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_int_equal(address_parse(uri_of(path), &address, why, sizeof(why)), 0);
    assert_int_equal(bind(fd, &address.sa, address.len), 0);
    assert_refused(uri_of(path), -EADDRINUSE,
                   "the path is in use by a socket that is not a stream socket");
    close(fd);
    assert_int_equal(unlink(path), 0);
}

static void somebody_elses_socket_at_our_path_is_left_alone(void **state)
{
    const char *path = path_named("s");
    struct listener ours = opened(uri_of(path));
    struct listener theirs;

    (void)state;
    assert_int_equal(unlink(path), 0);
    theirs = opened(uri_of(path));
    listener_close(&ours);
    assert_true(exists(path));
    assert_serves(&theirs, theirs.uri);
    listener_close(&theirs);
    assert_false(exists(path));
}

static struct stat stat_of(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    return st;
}

static void a_mode_is_set_whatever_the_umask(void **state)
{
    const char *path = path_named("s");
    mode_t before = umask(0077);
    struct listener listener = opened_with(uri_of(path),
                                           &(struct listener_options){ .mode = 0666 });

    (void)state;
    assert_int_equal(stat_of(path).st_mode & 07777, 0666);
    listener_close(&listener);
    umask(0027);
    listener = opened(uri_of(path));
    umask(before);
    assert_int_equal(stat_of(path).st_mode & 07777, 0750);
    listener_close(&listener);
}

/* Root gives it away; anybody else can only "give" it to himself. */
static void an_owner_is_set(void **state)
{
    bool root = geteuid() == 0;
    const struct listener_options options = {
        .mode = 0640, .set_uid = true, .set_gid = true,
        .uid = root ? 12345 : geteuid(), .gid = root ? 23456 : getegid(),
    };
    const char *path = path_named("s");
    struct listener listener = opened_with(uri_of(path), &options);

    (void)state;
    assert_int_equal(stat_of(path).st_uid, options.uid);
    assert_int_equal(stat_of(path).st_gid, options.gid);
    assert_int_equal(stat_of(path).st_mode & 07777, 0640);
    listener_close(&listener);
}

static void a_group_alone_leaves_the_user(void **state)
{
    bool root = geteuid() == 0;
    const struct listener_options options = { .set_gid = true, .gid = root ? 23456 : getegid() };
    const char *path = path_named("s");
    struct listener listener = opened_with(uri_of(path), &options);

    (void)state;
    assert_int_equal(stat_of(path).st_uid, geteuid());
    assert_int_equal(stat_of(path).st_gid, options.gid);
    listener_close(&listener);
}

/* As another user than root, if we are root. */
static void an_owner_that_may_not_be_set_is_told_and_leaves_nothing(void **state)
{
    const char *path = path_named("s");
    const struct listener_options options = { .set_uid = true, .uid = 0, .keep_path = true };
    const struct listener_options both = { .set_uid = true, .set_gid = true };
    uid_t before = geteuid();

    (void)state;
    if (before == 0) {
        assert_int_equal(chmod(folder, 0777), 0);
        assert_int_equal(seteuid(65534), 0);
    }
    assert_refused_with(uri_of(path), &options, -EPERM, "unix_owner: the socket cannot be given "
                        "to 0: that takes root, or for a group alone, to be in it");
    assert_false(exists(path));
    assert_refused_with(uri_of(path), &both, -EPERM, "unix_owner: the socket cannot be given "
                        "to 0:0: that takes root, or for a group alone, to be in it");
    assert_false(exists(path));
    assert_int_equal(seteuid(before), 0);
}

static void a_path_may_be_kept(void **state)
{
    const struct listener_options keeping = { .keep_path = true };
    const char *path = path_named("s");
    struct listener listener = opened_with(uri_of(path), &keeping);

    (void)state;
    listener_close(&listener);
    assert_true(exists(path));
    /* It is as one that a killed server left behind. */
    listener = opened(uri_of(path));
    listener_close(&listener);
    assert_false(exists(path));
}

/* ---- Unix datagrams ---- */

static void a_datagram_path_exists_while_its_listener_is_open(void **state)
{
    const char *path = path_named("d");
    struct listener listener = opened(datagram_uri_of(path));

    (void)state;
    assert_string_equal(listener.uri, datagram_uri_of(path));
    assert_int_equal(listener.family, AF_UNIX);
    assert_int_equal(listener.type, SOCK_DGRAM);
    assert_true(listener.listens);
    assert_receives(&listener, listener.uri);
    listener_close(&listener);
    assert_false(exists(path));
}

static void an_abstract_datagram_name_needs_no_file(void **state)
{
    char uri[64];
    struct listener listener;

    (void)state;
    snprintf(uri, sizeof(uri), "unixgram:@weir-test-%d", (int)getpid());
    listener = opened(uri);
    assert_string_equal(listener.uri, uri);
    assert_receives(&listener, uri);
    assert_refused(uri, -EADDRINUSE, "the name is in use by another socket");
    listener_close(&listener);
}

/* The kernel then tells of each datagram who has sent it. */
static void the_sender_of_a_unix_datagram_is_known(void **state)
{
    struct listener listener = opened(datagram_uri_of(path_named("d")));
    int client = connected(listener.uri);
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    char byte;
    struct iovec iov = { &byte, 1 };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof(control) };
    struct ucred sender;

    (void)state;
    assert_int_equal(sys_send(client, "x", 1), 1);
    assert_int_equal(recvmsg(listener.fd, &message, MSG_DONTWAIT), 1);
    assert_int_equal(control.header.cmsg_level, SOL_SOCKET);
    assert_int_equal(control.header.cmsg_type, SCM_CREDENTIALS);
    memcpy(&sender, CMSG_DATA(&control.header), sizeof(sender));
    assert_int_equal(sender.pid, getpid());
    assert_int_equal(sender.uid, geteuid());
    assert_int_equal(sender.gid, getegid());
    close(client);
    listener_close(&listener);
}

static void a_datagram_path_that_is_bound_is_in_use(void **state)
{
    const char *path = path_named("d");
    struct listener listener;

    (void)state;
    /* Bound is enough: nobody has to activate it. */
    assert_int_equal(listener_bind(&listener, datagram_uri_of(path), &defaults, why, sizeof(why)),
                     0);
    assert_refused(listener.uri, -EADDRINUSE, "the path is in use: a server is bound there");
    assert_receives(&listener, listener.uri);
    listener_close(&listener);
    assert_false(exists(path));
}

/* With its queue full, and with a peer of its own from which alone it takes. */
static void a_busy_datagram_server_keeps_its_path(void **state)
{
    struct listener listener = opened(datagram_uri_of(path_named("d")));
    struct listener peer = opened(datagram_uri_of(path_named("p")));
    int client = connected(listener.uri);
    struct address address;
    ssize_t r;

    (void)state;
    do
        r = sys_send(client, "x", 1);
    while (r == 1);
    assert_int_equal(r, -EAGAIN);
    assert_refused(listener.uri, -EADDRINUSE, "the path is in use: a server is bound there");
    assert_int_equal(address_parse(peer.uri, &address, why, sizeof(why)), 0);
    assert_int_equal(sys_connect(listener.fd, &address.sa, address.len), 0);
    assert_refused(listener.uri, -EADDRINUSE, "the path is in use: a server is bound there");
    close(client);
    listener_close(&listener);
    listener_close(&peer);
}

static void a_datagram_path_whose_server_died_is_taken_over(void **state)
{
    const char *path = path_named("d");
    struct listener dead = opened(datagram_uri_of(path));
    struct listener listener;

    (void)state;
    close(dead.fd);     /* as the kernel does for a killed process: the path stays */
    assert_true(exists(path));
    listener = opened(datagram_uri_of(path));
    assert_receives(&listener, listener.uri);
    listener_close(&listener);
    assert_false(exists(path));
}

static void a_stream_socket_keeps_its_path(void **state)
{
    const char *path = path_named("s");
    struct listener listener;

    (void)state;
    assert_int_equal(listener_bind(&listener, uri_of(path), &defaults, why, sizeof(why)), 0);
    assert_refused(datagram_uri_of(path), -EADDRINUSE,
                   "the path is in use by a socket that is not a datagram socket");
    assert_int_equal(listener_activate(&listener, 0, why, sizeof(why)), 0);
    assert_refused(datagram_uri_of(path), -EADDRINUSE,
                   "the path is in use by a socket that is not a datagram socket");
    assert_serves(&listener, listener.uri);
    listener_close(&listener);
}

static void a_file_is_never_taken_for_a_stale_datagram_socket(void **state)
{
    const char *path = path_named("file");
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    (void)state;
    close(fd);
    assert_refused(datagram_uri_of(path), -EADDRINUSE, "what is at that path is not a socket: "
                   "remove it yourself, or choose another path");
    assert_int_equal(unlink(path), 0);
}

static void somebody_elses_datagram_socket_at_our_path_is_left_alone(void **state)
{
    const char *path = path_named("d");
    struct listener ours = opened(datagram_uri_of(path));
    struct listener theirs;

    (void)state;
    assert_int_equal(unlink(path), 0);
    theirs = opened(datagram_uri_of(path));
    listener_close(&ours);
    assert_true(exists(path));
    assert_receives(&theirs, theirs.uri);
    listener_close(&theirs);
    assert_false(exists(path));
}

/* The socket's own mode is what limits the file's from the moment that it is there. */
static void a_datagram_path_never_had_more_rights_than_its_mode(void **state)
{
    const struct listener_options options = { .mode = 0620, .keep_path = true };
    const char *path = path_named("d");
    mode_t before = umask(0077);
    struct listener listener = opened_with(datagram_uri_of(path), &options);
    struct stat own;

    (void)state;
    umask(before);
    assert_int_equal(stat_of(path).st_mode & 07777, 0620);
    assert_int_equal(fstat(listener.fd, &own), 0);
    assert_int_equal(own.st_mode & 07777, 0620);
    listener_close(&listener);
    assert_true(exists(path));
    assert_int_equal(unlink(path), 0);
}

static void an_owner_of_a_datagram_path_is_set(void **state)
{
    bool root = geteuid() == 0;
    const struct listener_options options = {
        .set_uid = true, .set_gid = true,
        .uid = root ? 12345 : geteuid(), .gid = root ? 23456 : getegid(),
    };
    const char *path = path_named("d");
    struct listener listener = opened_with(datagram_uri_of(path), &options);

    (void)state;
    assert_int_equal(stat_of(path).st_uid, options.uid);
    assert_int_equal(stat_of(path).st_gid, options.gid);
    listener_close(&listener);
}

/* ---- binding first, listening later ---- */

static struct listener bound(const char *uri)
{
    struct listener listener;

    if (listener_bind(&listener, uri, &defaults, why, sizeof(why)) < 0)
        fail_msg("%s", why);
    return listener;
}

/* Conformance behaviour 3. */
static void nobody_connects_to_what_is_only_bound(void **state)
{
    const char *const uris[] = { "tcp://127.0.0.1:0", uri_of(path_named("s")) };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct listener listener = bound(uris[i]);
        struct address address;
        int fd, r;

        assert_null(strstr(listener.uri, ":0"));
        assert_int_equal(address_parse(listener.uri, &address, why, sizeof(why)), 0);
        fd = sys_socket(address.sa.sa_family, SOCK_STREAM);
        r = sys_connect(fd, &address.sa, address.len);
        if (r == -EINPROGRESS) {
            assert_true(sys_poll_one(fd, POLLOUT, PLENTY_MS) > 0);
            r = sys_socket_error(fd);
        }
        assert_int_equal(r, -ECONNREFUSED);
        close(fd);
        for (int twice = 0; twice < 2; twice++)
            assert_int_equal(listener_activate(&listener, 0, why, sizeof(why)), 0);
        assert_serves(&listener, listener.uri);
        listener_close(&listener);
    }
}

static void a_path_that_was_taken_over_before_listening_is_told(void **state)
{
    const char *path = path_named("s");
    struct listener late = bound(uri_of(path));
    struct listener other = opened(uri_of(path));
    char sentence[400];

    (void)state;
    snprintf(sentence, sizeof(sentence), "%s: the path was removed or taken over after it was "
             "bound, while nobody listened there", uri_of(path));
    assert_int_equal(listener_activate(&late, 0, why, sizeof(why)), -EADDRINUSE);
    assert_string_equal(why, sentence);
    listener_close(&late);
    assert_serves(&other, other.uri);
    listener_close(&other);
}

/* Two sockets may be bound to a port with reuse_address; only one of them may listen. */
static void a_port_that_was_taken_before_listening_is_told(void **state)
{
    struct listener late, other;
    char sentence[400];

    (void)state;
    assert_int_equal(listener_bind(&late, "tcp://127.0.0.1:0", &reusing, why, sizeof(why)), 0);
    other = opened_with(late.uri, &reusing);
    snprintf(sentence, sizeof(sentence), "%s: %s", late.uri, PORT_IN_USE);
    assert_int_equal(listener_activate(&late, 0, why, sizeof(why)), -EADDRINUSE);
    assert_string_equal(why, sentence);
    listener_close(&other);
    assert_int_equal(listener_activate(&late, 0, why, sizeof(why)), 0);
    assert_serves(&late, late.uri);
    listener_close(&late);
}

static void a_folder_that_is_missing_is_told(void **state)
{
    (void)state;
    assert_refused("unix:///no/such/folder/s", -ENOENT, "the folder does not exist");
}

static void a_folder_that_takes_no_files_is_not_called_missing(void **state)
{
    (void)state;
    assert_refused("unix:///proc/s", -ENOENT, "that folder is the kernel's, and takes no files");
}

static void an_abstract_name_needs_no_file(void **state)
{
    char uri[64];
    struct listener listener;

    (void)state;
    snprintf(uri, sizeof(uri), "unix:@weir-test-%d%%01", (int)getpid());
    listener = opened(uri);
    assert_string_equal(listener.uri, uri);
    assert_serves(&listener, uri);
    assert_refused(uri, -EADDRINUSE, "the name is in use by another socket");
    listener_close(&listener);
    listener = opened(uri);
    listener_close(&listener);
}

static void a_name_that_has_no_short_uri_is_refused(void **state)
{
    char uri[400] = "unix:@";

    (void)state;
    snprintf(uri, sizeof(uri), "unix:@weir-test-%d", (int)getpid());
    for (int i = 0; i < 60; i++)
        strcat(uri, "%01");
    assert_refused(uri, -ENAMETOOLONG, "the name has too many bytes that are written %XX");
}

/* ---- inherited descriptors ---- */

static const char *fd_uri(int fd)
{
    static char uri[32];

    snprintf(uri, sizeof(uri), "fd://%d", fd);
    return uri;
}

static void a_listening_descriptor_is_adopted(void **state)
{
    struct listener maker = opened("tcp://127.0.0.1:0");
    struct listener listener;
    int fd = fcntl(maker.fd, F_DUPFD, 0);

    (void)state;
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    listener = opened_with(fd_uri(fd), &(struct listener_options){ .nodelay = true });
    assert_int_equal(listener.fd, fd);
    assert_int_equal(listener.family, AF_INET);
    assert_string_equal(listener.uri, maker.uri);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_not_equal(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 0);
    assert_serves(&listener, listener.uri);
    listener_close(&listener);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    listener_close(&maker);
}

static void the_path_of_an_inherited_socket_stays(void **state)
{
    const char *path = path_named("s");
    struct listener maker = opened(uri_of(path));
    struct listener listener = opened(fd_uri(dup(maker.fd)));

    (void)state;
    assert_string_equal(listener.uri, maker.uri);
    listener_close(&listener);
    assert_true(exists(path));
    listener_close(&maker);
}

/* The caller's descriptor is open after a refusal as it was before. */
static void assert_descriptor_refused(int fd, const char *reason)
{
    char sentence[100];

    snprintf(sentence, sizeof(sentence), reason, fd);
    assert_refused(fd_uri(fd), -EINVAL, sentence);
    assert_int_equal(close(fd), 0);
}

static void a_bound_udp_descriptor_is_adopted(void **state)
{
    struct listener maker = opened("udp://127.0.0.1:0");
    int fd = dup(maker.fd);
    struct listener listener;

    (void)state;
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    listener = opened_with(fd_uri(fd), &(struct listener_options){ .nodelay = true });
    assert_int_equal(listener.fd, fd);
    assert_int_equal(listener.type, SOCK_DGRAM);
    assert_true(listener.listens);
    assert_string_equal(listener.uri, maker.uri);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_receives(&listener, listener.uri);
    listener_close(&listener);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    listener_close(&maker);
}

static void a_bound_unix_datagram_descriptor_is_adopted(void **state)
{
    const char *path = path_named("d");
    int fd = sys_socket(AF_UNIX, SOCK_DGRAM);
    struct address address;
    struct listener listener;

    (void)state;
    assert_int_equal(address_parse(datagram_uri_of(path), &address, why, sizeof(why)), 0);
    assert_int_equal(bind(fd, &address.sa, address.len), 0);
    listener = opened(fd_uri(fd));
    assert_string_equal(listener.uri, datagram_uri_of(path));
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_PASSCRED), 1);
    assert_receives(&listener, listener.uri);
    listener_close(&listener);
    assert_int_equal(unlink(path), 0);      /* its maker's */
}

static void a_descriptor_that_nobody_can_send_to_is_refused(void **state)
{
    static const char unbound[] = "descriptor %d is not bound: the program that opens it must "
                                  "call bind(2)";
    int netlink = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int pair[2];

    (void)state;
    assert_descriptor_refused(sys_socket(AF_INET, SOCK_DGRAM), unbound);
    if (has_ipv6_loopback())
        assert_descriptor_refused(sys_socket(AF_INET6, SOCK_DGRAM), unbound);
    assert_descriptor_refused(sys_socket(AF_UNIX, SOCK_DGRAM), unbound);
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_descriptor_refused(pair[0], unbound);
    close(pair[1]);
    assert_descriptor_refused(netlink, "descriptor %d is neither a UDP nor a Unix socket");
}

static void a_descriptor_that_cannot_be_accepted_from_is_refused(void **state)
{
    int seqpacket = sys_socket(AF_UNIX, SOCK_SEQPACKET);

    (void)state;
    assert_descriptor_refused(sys_socket(AF_INET, SOCK_STREAM), "descriptor %d does not listen: "
                              "the program that opens it must call listen(2)");
    assert_descriptor_refused(open("/dev/null", O_RDONLY | O_CLOEXEC),
                              "descriptor %d is not a socket");
    assert_descriptor_refused(seqpacket, "descriptor %d is neither a stream nor a "
                              "datagram socket");
    assert_refused("fd://1000000", -EINVAL, "descriptor 1000000 is not open");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(port_0_is_resolved),
    cmocka_unit_test(accepting_from_nobody_does_not_wait),
    cmocka_unit_test(an_ipv6_address_takes_ipv6_only),
    cmocka_unit_test(no_host_takes_both_families),
    cmocka_unit_test(a_port_in_use_is_told),
    cmocka_unit_test(reuse_address_binds_over_closing_connections),
    cmocka_unit_test(reuse_port_lets_two_listeners_share_a_port),
    cmocka_unit_test(accepted_sockets_inherit_nodelay),
    cmocka_unit_test(where_there_is_no_ipv6_every_address_is_of_ipv4),
    cmocka_unit_test(permissions_take_no_proc),
    cmocka_unit_test(an_address_of_another_machine_is_refused),
    cmocka_unit_test(a_link_local_address_needs_its_interface),
    cmocka_unit_test(a_wrong_text_opens_nothing),
    cmocka_unit_test(closing_twice_is_harmless),
    cmocka_unit_test(a_udp_socket_receives_from_when_it_is_bound),
    cmocka_unit_test(a_udp_socket_does_not_wait_and_is_not_inherited),
    cmocka_unit_test(an_ipv6_address_takes_ipv6_datagrams_only),
    cmocka_unit_test(no_host_takes_datagrams_of_both_families),
    cmocka_unit_test(a_udp_port_in_use_is_told),
    cmocka_unit_test(reuse_address_lets_two_udp_sockets_share_a_port),
    cmocka_unit_test(reuse_port_lets_two_udp_sockets_share_a_port),
    cmocka_unit_test(a_multicast_group_may_be_bound_to),
    cmocka_unit_test(a_path_exists_while_its_listener_is_open),
    cmocka_unit_test(a_client_of_a_path_has_no_name),
    cmocka_unit_test(a_path_that_is_served_is_in_use),
    cmocka_unit_test(a_busy_server_keeps_its_path),
    cmocka_unit_test(a_path_whose_server_died_is_taken_over),
    cmocka_unit_test(a_file_is_never_taken_for_a_stale_socket),
    cmocka_unit_test(a_datagram_socket_keeps_its_path),
    cmocka_unit_test(somebody_elses_socket_at_our_path_is_left_alone),
    cmocka_unit_test(a_mode_is_set_whatever_the_umask),
    cmocka_unit_test(an_owner_is_set),
    cmocka_unit_test(a_group_alone_leaves_the_user),
    cmocka_unit_test(an_owner_that_may_not_be_set_is_told_and_leaves_nothing),
    cmocka_unit_test(a_path_may_be_kept),
    cmocka_unit_test(a_datagram_path_exists_while_its_listener_is_open),
    cmocka_unit_test(an_abstract_datagram_name_needs_no_file),
    cmocka_unit_test(the_sender_of_a_unix_datagram_is_known),
    cmocka_unit_test(a_datagram_path_that_is_bound_is_in_use),
    cmocka_unit_test(a_busy_datagram_server_keeps_its_path),
    cmocka_unit_test(a_datagram_path_whose_server_died_is_taken_over),
    cmocka_unit_test(a_stream_socket_keeps_its_path),
    cmocka_unit_test(a_file_is_never_taken_for_a_stale_datagram_socket),
    cmocka_unit_test(somebody_elses_datagram_socket_at_our_path_is_left_alone),
    cmocka_unit_test(a_datagram_path_never_had_more_rights_than_its_mode),
    cmocka_unit_test(an_owner_of_a_datagram_path_is_set),
    cmocka_unit_test(nobody_connects_to_what_is_only_bound),
    cmocka_unit_test(a_path_that_was_taken_over_before_listening_is_told),
    cmocka_unit_test(a_port_that_was_taken_before_listening_is_told),
    cmocka_unit_test(a_folder_that_is_missing_is_told),
    cmocka_unit_test(a_folder_that_takes_no_files_is_not_called_missing),
    cmocka_unit_test(an_abstract_name_needs_no_file),
    cmocka_unit_test(a_name_that_has_no_short_uri_is_refused),
    cmocka_unit_test(a_listening_descriptor_is_adopted),
    cmocka_unit_test(the_path_of_an_inherited_socket_stays),
    cmocka_unit_test(a_bound_udp_descriptor_is_adopted),
    cmocka_unit_test(a_bound_unix_datagram_descriptor_is_adopted),
    cmocka_unit_test(a_descriptor_that_nobody_can_send_to_is_refused),
    cmocka_unit_test(a_descriptor_that_cannot_be_accepted_from_is_refused),
};

int main(void)
{
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
