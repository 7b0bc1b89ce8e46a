/* access_test.c - rules as text, whom they let in, and their replacement while clients come. */
#include "tests/support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ------------------------------------------------------------------ texts ------------- */

static void assert_bad(const char *text, const char *sentence)
{
    struct weir_access *access = NULL;

    assert_int_equal(weir_access_parse(text, &access), -EINVAL);
    assert_string_equal(weir_why(), sentence);
    assert_null(access);
}

static struct weir_access *parsed(const char *text)
{
    struct weir_access *access;

    if (weir_access_parse(text, &access) != 0)
        fail_msg("%s", weir_why());
    return access;
}

static void blanks_comments_and_any_line_end_are_understood(void **state)
{
    (void)state;
    weir_access_free(parsed(""));
    weir_access_free(parsed("# nothing"));
    weir_access_free(parsed("\n\n  \t\n"));
    weir_access_free(parsed("  allow\t10.0.0.0/8   # us\r\ndeny uid 0\r\ndefault allow"));
    weir_access_free(NULL);
}

static void a_bad_line_is_named_with_its_reason(void **state)
{
    char text[400] = "allow ";

    (void)state;
    assert_bad("permit ::1", "line 1: 'permit' is neither allow nor deny");
    assert_bad("\n# x\nallow", "line 3: allow what? A network such as 10.0.0.0/8, or uid or gid "
                               "and a number");
    assert_bad("allow user 1", "line 1: allow what? A network such as 10.0.0.0/8, or uid or gid "
                               "and a number");
    assert_bad("allow uid 1 2", "line 1: allow what? A network such as 10.0.0.0/8, or uid or gid "
                                "and a number");
    assert_bad("default", "line 1: 'default' is neither allow nor deny");
    assert_bad("default maybe", "line 1: 'maybe' is neither allow nor deny");
    assert_bad("default deny\ndefault deny", "line 2: there is a default already");
    assert_bad("allow ::1\ndeny ::1/128", "line 2: ::1/128 has a rule already");
    assert_bad("allow uid 7\ndeny gid 7\ndeny uid 7", "line 3: uid 7 has a rule already");
    assert_bad("allow uid root", "line 1: uid 'root' is not a number from 0 to 4294967294");
    assert_bad("allow gid 4294967295",
               "line 1: gid '4294967295' is not a number from 0 to 4294967294");
    assert_bad("allow 10.0.0.1/8", "line 1: 10.0.0.1/8: the address has bits behind its prefix of "
                                   "8: write the network's address, or a longer prefix");
    memset(text + strlen(text), '1', 300);
    assert_bad(text, "line 1: longer than 255 bytes");
}

static void write_file(const char *path, const void *data, size_t len)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void a_file_is_read_whole_or_refused_by_name(void **state)
{
    enum { LINES = 3000 };
    char path[] = "/tmp/weir_access_XXXXXX";
    struct weir_access *access;
    char sentence[200];
    char *text = calloc(LINES, 32);
    size_t len = 0;
    int fd = mkstemp(path);

    (void)state;
    assert_non_null(text);
    assert_true(fd >= 0);
    close(fd);
    for (unsigned i = 0; i < LINES; i++)
        len += (size_t)sprintf(text + len, "allow 10.%u.%u.0/24\n", i / 256, i % 256);
    write_file(path, text, len);
    assert_int_equal(weir_access_read(path, &access), 0);
    weir_access_free(access);
    len += (size_t)sprintf(text + len, "allow me");
    write_file(path, text, len);
    assert_int_equal(weir_access_read(path, &access), -EINVAL);
    snprintf(sentence, sizeof(sentence), "%s: line 3001: me: not an IPv4 or IPv6 address or "
             "network", path);
    assert_string_equal(weir_why(), sentence);
    write_file(path, "allow ::1\0\n", 11);
    assert_int_equal(weir_access_read(path, &access), -EINVAL);
    snprintf(sentence, sizeof(sentence), "%s: it is not text", path);
    assert_string_equal(weir_why(), sentence);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(weir_access_read(path, &access), -ENOENT);
    assert_int_equal(weir_access_read("/", &access), -EISDIR);
    assert_string_equal(weir_why(), "/: Is a directory");
    assert_int_equal(mkfifo(path, 0600), 0);    /* neither opening nor reading it may wait */
    assert_int_equal(weir_access_read(path, &access), -EINVAL);
    snprintf(sentence, sizeof(sentence), "%s: it is no regular file", path);
    assert_string_equal(weir_why(), sentence);
    assert_int_equal(unlink(path), 0);
    free(text);
}

/* ------------------------------------------------------------------ in force ---------- */

static int answer(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    weir_write(req, line, (size_t)n);
    return WEIR_KEEP;
}

static const struct weir_handler handler = { .name = "answer", .handle = answer };

#define OPTIONS(...) WEIR_OPTIONS(.handler = &handler, .workers = 2, __VA_ARGS__)

/* A client of a TCP server on 127.0.0.1 that comes from an address of its own choice. */
static int connect_from(struct weir_server *server, const char *from)
{
    struct sockaddr_in to = { .sin_family = AF_INET };
    struct sockaddr_in own = { .sin_family = AF_INET };
    char uri[WEIR_ADDRESS_SIZE];
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_true(weir_server_address(server, 0, uri, sizeof(uri)) > 0);
    assert_int_equal(inet_pton(AF_INET, from, &own.sin_addr), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)atoi(strrchr(uri, ':') + 1));
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void assert_let_in(int fd)
{
    support_say(fd, "in\n");
    support_expect(fd, "in\n");
    support_half_close(fd);
    support_expect_end(fd);
    close(fd);
}

static void assert_kept_out(int fd)
{
    support_expect_end(fd);
    close(fd);
}

static void set(struct weir_server *server, const char *text)
{
    assert_int_equal(weir_server_set_access(server, parsed(text)), 0);
}

static void the_longest_prefix_decides_who_is_let_in(void **state)
{
    struct weir_server *server = support_start(OPTIONS(
        .listen = "tcp://127.0.0.1:0",
        .access = "default deny\nallow 127.0.0.0/16\ndeny 127.0.0.8/30\nallow 127.0.0.9\n"));

    (void)state;
    assert_let_in(connect_from(server, "127.0.0.1"));
    assert_kept_out(connect_from(server, "127.0.0.8"));
    assert_let_in(connect_from(server, "127.0.0.9"));
    assert_kept_out(connect_from(server, "127.1.0.1"));
    assert_int_equal(support_stats(server).refused, 2);
    assert_int_equal(support_stats(server).accepted, 4);
    weir_server_destroy(server);
}

static void an_ipv4_client_of_an_ipv6_listener_counts_as_ipv4(void **state)
{
    struct weir_server *server = support_start(OPTIONS(
        .listen = "tcp://:0", .access = "default deny\nallow ::/0\nallow 127.0.0.2"));

    (void)state;
    assert_let_in(connect_from(server, "127.0.0.2"));
    assert_kept_out(connect_from(server, "127.0.0.1"));
    weir_server_destroy(server);
}

static void rules_are_replaced_and_taken_away_while_it_serves(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.listen = "tcp://127.0.0.1:0"));
    struct weir_access *rules = parsed("default deny");
    int stays = support_connect(server, 0);

    (void)state;
    support_say(stays, "a\n");
    support_expect(stays, "a\n");
    assert_int_equal(weir_server_set_access(server, rules), 0);
    assert_int_equal(weir_server_set_access(server, rules), -EBUSY);
    assert_string_equal(weir_why(), "the access rules are a server's already: parse the text "
                                    "anew");
    assert_kept_out(support_connect(server, 0));
    set(server, "allow 127.0.0.1");
    assert_let_in(support_connect(server, 0));
    set(server, "");
    assert_kept_out(support_connect(server, 0));
    assert_int_equal(weir_server_set_access(server, NULL), 0);
    assert_let_in(support_connect(server, 0));
    /* Who is in stays in. */
    assert_let_in(stays);
    weir_server_destroy(server);
}

static void bad_rules_are_refused_at_creation(void **state)
{
    struct weir_server *server = NULL;

    (void)state;
    assert_int_equal(weir_server_create(&server, OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                         .access = "allow all")), -EINVAL);
    assert_string_equal(weir_why(),
                        "access: line 1: all: not an IPv4 or IPv6 address or network");
    assert_null(server);
}

static _Atomic unsigned verified;

static int count_and_refuse(struct weir_server *server, const struct weir_peer *peer)
{
    (void)server;
    (void)peer;
    /* relaxed: a count. pairs: none */
    atomic_fetch_add_explicit(&verified, 1, memory_order_relaxed);
    return 0;
}

static void rules_come_before_verify_request(void **state)
{
    struct weir_server *server = support_start(OPTIONS(
        .listen = "tcp://127.0.0.1:0", .access = "allow 127.0.0.2",
        .verify_request = count_and_refuse));

    (void)state;
    assert_kept_out(connect_from(server, "127.0.0.1"));
    assert_int_equal(verified, 0);
    assert_kept_out(connect_from(server, "127.0.0.2"));
    assert_int_equal(verified, 1);
    SUPPORT_AWAIT(server, refused, == 2);
    weir_server_destroy(server);
}

static void rules_hold_for_clients_that_are_handled_one_by_one(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                        .access = "allow 127.0.0.2"));
    int denied = connect_from(server, "127.0.0.1");
    int allowed = connect_from(server, "127.0.0.2");

    (void)state;
    assert_int_equal(weir_handle_request(server), 1);
    assert_int_equal(weir_handle_request(server), 1);
    assert_kept_out(denied);
    assert_let_in(allowed);
    assert_int_equal(support_stats(server).refused, 1);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ Unix peers -------- */

/* A child that is somebody else connects, and tells by its status whether it was answered. */
static bool is_let_in_as(struct weir_server *server, uid_t uid, gid_t gid)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        struct sockaddr_un to = { .sun_family = AF_UNIX };
        char uri[WEIR_ADDRESS_SIZE];
        char reply = 0;
        size_t len;
        int fd;

        /* By hand: a failed assertion would go on as a second copy of the test. */
        if (setgid(gid) < 0 || setuid(uid) < 0 ||
            weir_server_address(server, 0, uri, sizeof(uri)) < 0)
            _exit(2);
        len = strlen(uri + strlen("unix:@"));
        memcpy(to.sun_path + 1, uri + strlen("unix:@"), len);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&to,
                    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)) < 0)
            _exit(2);
        _exit(send(fd, "x\n", 2, MSG_NOSIGNAL) == 2 && recv(fd, &reply, 1, 0) == 1 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status) == 0;
}

static void users_come_before_groups_and_these_before_the_default(void **state)
{
    struct weir_server *server;

    (void)state;
    if (geteuid() != 0)
        skip();
    server = support_start(OPTIONS(
        .listen = support_abstract("access"),
        .access = "allow uid 1001\ndeny uid 1002\nallow gid 2000\ndeny gid 2001\n"
                  "default allow\ndeny 0.0.0.0/0\ndeny ::/0"));
    assert_true(is_let_in_as(server, 1001, 2001));
    assert_false(is_let_in_as(server, 1002, 2000));
    assert_true(is_let_in_as(server, 1003, 2000));
    assert_false(is_let_in_as(server, 1003, 2001));
    assert_true(is_let_in_as(server, 1003, 2002));
    set(server, "allow uid 1001\nallow 0.0.0.0/0");
    assert_true(is_let_in_as(server, 1001, 2001));
    assert_false(is_let_in_as(server, 1003, 2001));
    weir_server_destroy(server);
}

static void a_unix_peer_is_who_it_says_without_being_root(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.listen = support_abstract("own")));
    char rule[64];

    (void)state;
    snprintf(rule, sizeof(rule), "allow uid %u", (unsigned)geteuid());
    set(server, rule);
    assert_let_in(support_connect(server, 0));
    snprintf(rule, sizeof(rule), "default allow\ndeny gid %u", (unsigned)getegid());
    set(server, rule);
    assert_kept_out(support_connect(server, 0));
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ under load -------- */

enum { CLIENTS = 3, TALKS = 200, REPLACEMENTS = 300 };

static void *talk(void *arg)
{
    struct weir_server *server = arg;

    for (int i = 0; i < TALKS; i++) {
        char reply[2];
        int fd = support_connect(server, 0);

        /* Refused or served: both happen, neither may hang. */
        if (send(fd, "x\n", 2, MSG_NOSIGNAL) == 2)
            (void)!recv(fd, reply, sizeof(reply), MSG_WAITALL);
        close(fd);
    }
    return NULL;
}

static void rules_are_replaced_under_load(void **state)
{
    struct weir_server *server = support_start(OPTIONS(
        .listen = "tcp://127.0.0.1:0", .acceptors = 2, .max_per_address = 2));
    pthread_t clients[CLIENTS];
    struct weir_stats stats;
    int late[2];

    (void)state;
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&clients[i], NULL, talk, server), 0);
    for (int i = 0; i < REPLACEMENTS; i++)
        set(server, i % 2 ? "allow 127.0.0.0/8\ndeny 127.0.0.2" : "allow 10.0.0.0/8\nallow ::1");
    assert_int_equal(weir_server_set_access(server, NULL), 0);
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_join(clients[i], NULL), 0);
    SUPPORT_AWAIT(server, accepted, == CLIENTS * TALKS);
    SUPPORT_AWAIT(server, active, == 0);
    stats = support_stats(server);
    assert_int_equal(stats.accepted, stats.closed + stats.refused);
    /* Nobody has been left in the count. */
    late[0] = support_connect(server, 0);
    late[1] = support_connect(server, 0);
    assert_let_in(late[0]);
    assert_let_in(late[1]);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ per address ------- */

static void no_more_than_max_per_address_are_open_at_once(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                       .max_per_address = 2));
    int first = connect_from(server, "127.0.0.1");
    int second = connect_from(server, "127.0.0.1");

    (void)state;
    support_say(second, "x\n");
    support_expect(second, "x\n");
    assert_kept_out(connect_from(server, "127.0.0.1"));
    assert_let_in(connect_from(server, "127.0.0.2"));
    assert_let_in(first);
    assert_let_in(connect_from(server, "127.0.0.1"));
    close(second);
    SUPPORT_AWAIT(server, active, == 0);
    assert_int_equal(support_stats(server).refused, 1);
    weir_server_destroy(server);
}

/* The server has counted it off before it says so: who sees the end may come again at once. */
static void who_sees_the_end_may_come_again_at_once(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                       .max_per_address = 1));

    (void)state;
    for (int i = 0; i < 300; i++)
        assert_let_in(support_connect(server, 0));
    assert_int_equal(support_stats(server).refused, 0);
    weir_server_destroy(server);
}

static void unix_peers_are_not_counted(void **state)
{
    struct weir_server *server = support_start(OPTIONS(.listen = support_abstract("many"),
                                                       .max_per_address = 1));
    int clients[5];

    (void)state;
    for (int i = 0; i < 5; i++)
        clients[i] = support_connect(server, 0);
    for (int i = 0; i < 5; i++)
        assert_let_in(clients[i]);
    weir_server_destroy(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blanks_comments_and_any_line_end_are_understood),
        cmocka_unit_test(a_bad_line_is_named_with_its_reason),
        cmocka_unit_test(a_file_is_read_whole_or_refused_by_name),
        cmocka_unit_test(the_longest_prefix_decides_who_is_let_in),
        cmocka_unit_test(an_ipv4_client_of_an_ipv6_listener_counts_as_ipv4),
        cmocka_unit_test(rules_are_replaced_and_taken_away_while_it_serves),
        cmocka_unit_test(bad_rules_are_refused_at_creation),
        cmocka_unit_test(rules_come_before_verify_request),
        cmocka_unit_test(rules_hold_for_clients_that_are_handled_one_by_one),
        cmocka_unit_test(users_come_before_groups_and_these_before_the_default),
        cmocka_unit_test(a_unix_peer_is_who_it_says_without_being_root),
        cmocka_unit_test(rules_are_replaced_under_load),
        cmocka_unit_test(no_more_than_max_per_address_are_open_at_once),
        cmocka_unit_test(who_sees_the_end_may_come_again_at_once),
        cmocka_unit_test(unix_peers_are_not_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
