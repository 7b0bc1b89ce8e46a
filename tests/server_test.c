/*
 * server_test.c - creating a server, and what it does for each connection: addresses, handlers,
 * their order and their errors, what they are told.
 */
#include "tests/support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/weir-server-XXXXXX";

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

static const char *uri_named(const char *name)
{
    static char uri[120];

    snprintf(uri, sizeof(uri), "unix://%s/%s", folder, name);
    return uri;
}

/* Answers each line with itself, and the handler's data before it. */
static int answer_lines(struct weir_request *req)
{
    const char *prefix = weir_handler_data(req);
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, 100)) > 0)
        weir_printf(req, "%s%.*s", prefix ? prefix : "", (int)n, line);
    return (int)n;
}

static const struct weir_handler lines = { .name = "lines", .handle = answer_lines };

/* ------------------------------------------------------------------ creating ---------- */

static void assert_not_created(const struct weir_options *options, int error, const char *sentence)
{
    struct weir_server *untouched = (struct weir_server *)&lines;
    struct weir_server *server = untouched;

    assert_int_equal(weir_server_create(&server, options), error);
    assert_string_equal(weir_why(), sentence);
    assert_ptr_equal(server, untouched);
}

static void a_wrong_option_is_told_in_a_sentence(void **state)
{
    (void)state;
    assert_not_created(WEIR_OPTIONS(.handler = &lines), -EINVAL,
                       "no address: set options.listen, e.g. \"tcp://127.0.0.1:8080\"");
    assert_not_created(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &lines,
                                    .stack_size = 4096),
                       -EINVAL, "stack_size is 4096: it must be 16 KiB to 256 MiB");
    assert_not_created(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &lines,
                                    .stack_size = (size_t)1 << 40),
                       -EINVAL, "stack_size is 1099511627776: it must be 16 KiB to 256 MiB");
    assert_not_created(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &lines,
                                    .worker_cpus = "1-0"),
                       -EINVAL, "worker_cpus: 1-0: not a list of CPUs such as 0,2-3");
    assert_not_created(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &lines,
                                    .worker_cpus = "1023"),
                       -EINVAL, "worker_cpus: 1023: this process may not run on CPU 1023");
    assert_not_created(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &lines,
                                    .multicast = "10.0.0.1"),
                       -EINVAL, "multicast: 10.0.0.1: it must be the address of a group, 224.0.0.0 "
                       "to 239.255.255.255, or an IPv6 address that begins with ff");
    assert_not_created(WEIR_OPTIONS(.listen = "tcp://:0", .handler = &lines,
                                    .multicast = "224.3.29.71%lo"),
                       -EINVAL, "multicast: 224.3.29.71%lo: no listener can hear it: one must be "
                       "udp://:PORT, udp://0.0.0.0:PORT, or be bound to the group itself");
}

static void a_wrong_address_is_told_in_a_sentence(void **state)
{
    (void)state;
    assert_not_created(WEIR_OPTIONS(.listen = "http://127.0.0.1:0", .handler = &lines), -EINVAL,
                       "http://127.0.0.1:0: an address begins with tcp://, udp://, unix:, "
                       "unixgram: or fd://");
    assert_not_created(WEIR_OPTIONS(.listen = "tcp://127.0.0.1", .handler = &lines), -EINVAL,
                       "tcp://127.0.0.1: the port is missing (with :0 the kernel chooses one)");
    assert_not_created(WEIR_OPTIONS(.listen = "fd://1000000", .handler = &lines), -EINVAL,
                       "fd://1000000: descriptor 1000000 is not open");
}

static void a_port_in_use_is_told(void **state)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                             .handler = &lines));
    char uri[WEIR_ADDRESS_SIZE];
    char sentence[300];

    (void)state;
    assert_true(weir_server_address(server, 0, uri, sizeof(uri)) > 0);
    snprintf(sentence, sizeof(sentence), "%s: the port is in use: a server listens on it, or "
             "connections of one that ran without reuse_address are still closing (wait a "
             "minute)", uri);
    assert_not_created(WEIR_OPTIONS(.listen = uri, .handler = &lines), -EADDRINUSE, sentence);
    assert_not_created(WEIR_OPTIONS(.listen = uri, .handler = &lines, .reuse_address = true),
                       -EADDRINUSE, sentence);
    weir_server_destroy(server);
}

static void assert_told_of_the_first(const char *uri)
{
    char sentence[300];

    snprintf(sentence, sizeof(sentence), "%s: this server's own listeners[0] has that address: "
             "give each of them another one", uri);
    assert_string_equal(weir_why(), sentence);
}

/* Finds a port that was free just now. */
static void free_address(char *buf, size_t size)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                             .handler = &lines));

    assert_true(weir_server_address(server, 0, buf, size) > 0);
    weir_server_destroy(server);
}

static void one_address_for_two_listeners_is_told(void **state)
{
    char uri[WEIR_ADDRESS_SIZE];
    const struct weir_listen tcp[] = { { .address = uri }, { .address = uri } };
    const struct weir_listen named[] = { { .address = uri_named("twice") },
                                         { .address = uri_named("twice") } };
    struct weir_server *server;

    (void)state;
    free_address(uri, sizeof(uri));
    assert_int_equal(weir_server_create(&server, WEIR_OPTIONS(
        .listeners = tcp, .listeners_len = 2, .handler = &lines)), -EADDRINUSE);
    assert_told_of_the_first(uri);
    assert_int_equal(weir_server_create(&server, WEIR_OPTIONS(
        .listeners = named, .listeners_len = 2, .handler = &lines)), -EADDRINUSE);
    assert_told_of_the_first(named[0].address);
    server = support_create(WEIR_OPTIONS(.listeners = tcp, .listeners_len = 2, .handler = &lines,
                                         .defer = true, .reuse_address = true));
    assert_int_equal(weir_server_bind(server), 0);
    assert_int_equal(weir_server_activate(server), -EADDRINUSE);
    assert_told_of_the_first(uri);
    weir_server_destroy(server);
}

/* The last of several listeners is refused: everything before it was made already. */
static void a_failed_creation_leaves_nothing_open(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" }, { .address = uri_named("left") },
        { .address = "unix:///no/such/folder/here" },
    };
    size_t before = support_open_descriptors();

    (void)state;
    for (int i = 0; i < 1024; i++) {
        struct weir_server *server;

        assert_int_equal(weir_server_create(&server, WEIR_OPTIONS(
            .listeners = listeners, .listeners_len = 3, .handler = &lines, .workers = 2,
            .dispatch = i % 2)), -ENOENT);
    }
    assert_int_equal(support_open_descriptors(), before);
}

static void creation_fails_cleanly_whichever_descriptor_is_lacking(void **state)
{
    size_t before = support_open_descriptors();
    unsigned spare = 0;
    int r;

    (void)state;
    do {
        struct rlimit limit = support_leave_descriptors(spare++);
        struct weir_server *server = NULL;

        r = weir_server_create(&server, WEIR_OPTIONS(
            .listen = "tcp://127.0.0.1:0", .handler = &lines, .workers = 3, .acceptors = 2,
            .dispatch = WEIR_DISPATCH_ACCEPTOR));
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_true(r == 0 || r == -EMFILE);
        assert_int_equal(r == 0, server != NULL);
        if (r < 0)
            assert_non_null(strstr(weir_why(), "Too many open files"));
        weir_server_destroy(server);
        assert_int_equal(support_open_descriptors(), before);
    } while (r < 0);
    /* A set and a wake-up for each worker, a set, a wake-up and a listener for each acceptor. */
    assert_true(spare > 3 * 2 + 2 * 3);
}

static void a_server_that_never_served_leaves_nothing_open(void **state)
{
    size_t before = support_open_descriptors();

    (void)state;
    weir_server_destroy(support_create(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                    .handler = &lines, .acceptors = 3)));
    assert_int_equal(support_open_descriptors(), before);
    weir_server_destroy(NULL);
}

static void a_server_that_served_leaves_nothing_open(void **state)
{
    size_t before = support_open_descriptors();
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                            .handler = &lines, .acceptors = 3));

    (void)state;
    support_talk(server, 0, "a\n", "a\n");
    weir_server_destroy(server);
    assert_int_equal(support_open_descriptors(), before);
}

static void a_program_without_standard_streams_serves_beside_their_numbers(void **state)
{
    static const enum weir_concurrency ways[] = { WEIR_POOL, WEIR_THREAD };
    int saved = dup(STDIN_FILENO);

    (void)state;
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct weir_server *server;
        int fd;

        close(STDIN_FILENO);
        server = support_start(WEIR_OPTIONS(
            .listen = "tcp://127.0.0.1:0", .handler = &lines, .concurrency = ways[i]));
        /* Nobody is there: the client's own socket comes next. */
        fd = support_connect(server, 0);
        assert_int_equal(fd, STDIN_FILENO);
        support_say(fd, "x\n");
        support_expect(fd, "x\n");
        close(fd);
        SUPPORT_AWAIT(server, closed, == 1);
        weir_server_destroy(server);
        assert_int_equal(fcntl(STDIN_FILENO, F_GETFD), -1);
    }
    if (saved >= 0) {
        dup2(saved, STDIN_FILENO);
        close(saved);
    }
}

static void strings_and_arrays_may_go_once_it_is_created(void **state)
{
    char address[] = "tcp://127.0.0.1:0";
    char cpus[] = "0";
    struct weir_listen listeners[] = { { .address = address, .handler = &lines } };
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 1, .worker_cpus = cpus, .workers = 1));

    (void)state;
    memset(address, 'x', sizeof(address) - 1);
    memset(cpus, 'x', sizeof(cpus) - 1);
    memset(listeners, 0xff, sizeof(listeners));
    assert_int_equal(weir_server_start(server), 0);
    support_talk(server, 0, "a\n", "a\n");
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ addresses --------- */

static void port_0_is_resolved(void **state)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                             .handler = &lines));
    char uri[WEIR_ADDRESS_SIZE];
    unsigned port;
    int len;

    (void)state;
    len = weir_server_address(server, 0, uri, sizeof(uri));
    assert_int_equal(len, strlen(uri));
    assert_int_equal(sscanf(uri, "tcp://127.0.0.1:%u", &port), 1);
    assert_true(port > 0);
    weir_server_destroy(server);
}

static bool has_ipv6_loopback(void)
{
    const struct sockaddr_in6 name = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool has = fd >= 0 && bind(fd, (const struct sockaddr *)&name, sizeof(name)) == 0;

    if (fd >= 0)
        close(fd);
    return has;
}

/* The port of an address, with its colon. */
static const char *port_at(struct weir_server *server, size_t i)
{
    static char address[WEIR_ADDRESS_SIZE];

    assert_true(weir_server_address(server, i, address, sizeof(address)) > 0);
    return strrchr(address, ':');
}

static void a_name_is_listened_on_at_each_of_its_addresses(void **state)
{
    size_t addresses = has_ipv6_loopback() ? 2 : 1;
    char address[WEIR_ADDRESS_SIZE];
    char port[8];

    (void)state;
    for (uint32_t acceptors = 1; acceptors <= 2; acceptors++) {
        struct weir_server *server = support_start(WEIR_OPTIONS(
            .listeners = (const struct weir_listen[]){
                { .address = "tcp://localhost:0" }, { .address = "unix:@weir-server-test" },
            }, .listeners_len = 2, .handler = &lines, .acceptors = acceptors));

        snprintf(port, sizeof(port), "%s", port_at(server, 0));
        for (size_t i = 0; i < addresses; i++) {
            assert_string_equal(port_at(server, i), port);
            support_talk(server, i, "a\n", "a\n");
        }
        weir_server_address(server, addresses, address, sizeof(address));
        assert_string_equal(address, "unix:@weir-server-test");
        assert_int_equal(weir_server_address(server, addresses + 1, address, sizeof(address)),
                         -ERANGE);
        weir_server_destroy(server);
    }
}

static void a_name_of_which_one_address_is_taken_is_not_listened_on_at_the_other(void **state)
{
    struct weir_server *four = support_create(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &lines));
    size_t before = support_open_descriptors();
    char address[WEIR_ADDRESS_SIZE];

    (void)state;
    snprintf(address, sizeof(address), "tcp://localhost%s", port_at(four, 0));
    assert_int_equal(weir_server_create(&(struct weir_server *){ NULL }, WEIR_OPTIONS(
        .listen = address, .handler = &lines)), -EADDRINUSE);
    assert_non_null(strstr(weir_why(), "tcp://127.0.0.1"));
    assert_int_equal(support_open_descriptors(), before);
    weir_server_destroy(four);
}

static void an_address_that_does_not_fit_or_exist_is_told(void **state)
{
    const char *given = support_abstract("fits");
    size_t len = strlen(given);
    struct weir_server *server = support_create(WEIR_OPTIONS(.listen = given, .handler = &lines,
                                                             .workers = 1));
    char uri[WEIR_ADDRESS_SIZE];

    (void)state;
    assert_int_equal(weir_server_address(server, 1, uri, sizeof(uri)), -ERANGE);
    assert_int_equal(weir_server_address(server, 0, uri, 5), -ENOSPC);
    assert_string_equal(uri, "unix");
    assert_int_equal(weir_server_address(server, 0, uri, len), -ENOSPC);
    assert_int_equal(weir_server_address(server, 0, uri, len + 1), len);
    assert_string_equal(uri, given);
    weir_server_destroy(server);
}

static void several_listeners_have_handlers_of_their_own(void **state)
{
    const struct weir_handler tcp = { .name = "tcp", .handle = answer_lines, .data = "tcp " };
    const struct weir_handler path = { .name = "path", .handle = answer_lines, .data = "path " };
    const struct weir_handler rest = { .name = "rest", .handle = answer_lines, .data = "rest " };
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0", .handler = &tcp },
        { .address = uri_named("own"), .handler = &path },
        { .address = support_abstract("own") },
        { .address = "tcp://[::1]:0" },
    };
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 4, .handler = &rest));

    (void)state;
    support_talk(server, 0, "a\n", "tcp a\n");
    support_talk(server, 1, "b\n", "path b\n");
    support_talk(server, 2, "c\n", "rest c\n");
    support_talk(server, 3, "d\n", "rest d\n");
    weir_server_destroy(server);
}

static void a_path_is_gone_once_its_server_is(void **state)
{
    const char *uri = uri_named("gone");
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = uri, .handler = &lines));
    struct stat status;

    (void)state;
    assert_int_equal(stat(uri + strlen("unix://"), &status), 0);
    support_talk(server, 0, "a\n", "a\n");
    weir_server_destroy(server);
    assert_int_equal(stat(uri + strlen("unix://"), &status), -1);
}

static void an_inherited_descriptor_is_served(void **state)
{
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct weir_server *server;
    char uri[20];

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
    assert_int_equal(listen(fd, 5), 0);
    snprintf(uri, sizeof(uri), "fd://%d", fd);
    server = support_start(WEIR_OPTIONS(.listen = uri, .handler = &lines, .acceptors = 2));
    support_talk(server, 0, "a\n", "a\n");
    weir_server_destroy(server);
}

static void reuse_port_lets_two_servers_share_a_port(void **state)
{
    struct weir_server *first = support_start(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &lines, .reuse_port = true));
    struct weir_server *second;
    char uri[WEIR_ADDRESS_SIZE];

    (void)state;
    assert_true(weir_server_address(first, 0, uri, sizeof(uri)) > 0);
    second = support_start(WEIR_OPTIONS(.listen = uri, .handler = &lines, .reuse_port = true));
    SUPPORT_UNTIL((support_talk(first, 0, "a\n", "a\n"), support_stats(first).accepted > 0 &&
                                                         support_stats(second).accepted > 0));
    weir_server_destroy(second);
    weir_server_destroy(first);
}

/* ------------------------------------------------------------------ the order --------- */

/* What the hooks and the handler's functions did, one letter each. */
static struct {
    pthread_mutex_t lock;
    char text[200];
    struct weir_failure failure;
    char peer[60];
    int status;             /* finish's */
    int setup_returns;
    int handle_returns;
    int finish_returns;
    int verify_returns;
} trace = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void trace_add(const char *what)
{
    pthread_mutex_lock(&trace.lock);
    strncat(trace.text, what, sizeof(trace.text) - strlen(trace.text) - 1);
    pthread_mutex_unlock(&trace.lock);
}

static int trace_verify(struct weir_server *server, const struct weir_peer *peer)
{
    (void)server;
    (void)peer;
    trace_add("verify ");
    return trace.verify_returns;
}

static void trace_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    trace_add("error ");
    trace.failure = *failure;
    snprintf(trace.peer, sizeof(trace.peer), "%s", failure->peer);
}

static int trace_setup(struct weir_request *req)
{
    (void)req;
    trace_add("setup ");
    return trace.setup_returns;
}

static int trace_handle(struct weir_request *req)
{
    trace_add("handle ");
    weir_printf(req, "handled\n");
    return trace.handle_returns;
}

static int trace_finish(struct weir_request *req, int status)
{
    (void)req;
    trace_add("finish ");
    trace.status = status;
    return trace.finish_returns;
}

static const struct weir_handler traced = {
    .name = "traced", .setup = trace_setup, .handle = trace_handle, .finish = trace_finish,
};

/* The text of one conversation's trace, and the peer's address as the client knows it. */
static const char *trace_of_one(int verify, int setup, int handled, int finish, char *ret_peer,
                                size_t size)
{
    struct weir_server *server;
    struct sockaddr_in own;
    socklen_t len = sizeof(own);
    int fd;

    trace.text[0] = '\0';
    trace.failure = (struct weir_failure){ 0 };
    trace.status = 99;
    trace.verify_returns = verify;
    trace.setup_returns = setup;
    trace.handle_returns = handled;
    trace.finish_returns = finish;
    server = support_start(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &traced, .verify_request = trace_verify,
        .handle_error = trace_error));
    fd = support_connect(server, 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &len), 0);
    snprintf(ret_peer, size, "127.0.0.1:%u", ntohs(own.sin_port));
    if (verify == 1 && setup == 0)
        support_expect(fd, "handled\n");
    support_expect_end(fd);
    close(fd);
    weir_server_destroy(server);
    return trace.text;
}

static void assert_failure(enum weir_phase phase, int error, const char *peer)
{
    assert_int_equal(trace.failure.phase, phase);
    assert_int_equal(trace.failure.error, error);
    assert_string_equal(trace.peer, peer);
    assert_string_equal(trace.failure.handler, "traced");
    assert_int_equal(trace.failure.req == NULL, phase == WEIR_PHASE_VERIFY);
}

static void a_connection_is_verified_set_up_handled_and_finished(void **state)
{
    char peer[60];

    (void)state;
    assert_string_equal(trace_of_one(1, 0, 0, 0, peer, sizeof(peer)),
                        "verify setup handle finish ");
    assert_int_equal(trace.status, 0);
}

static void a_refused_connection_has_no_handler(void **state)
{
    char peer[60];

    (void)state;
    assert_string_equal(trace_of_one(0, 0, 0, 0, peer, sizeof(peer)), "verify ");
}

static void a_failed_verification_refuses_and_is_told(void **state)
{
    char peer[60];

    (void)state;
    assert_string_equal(trace_of_one(-EACCES, 0, 0, 0, peer, sizeof(peer)), "verify error ");
    assert_failure(WEIR_PHASE_VERIFY, -EACCES, peer);
}

static void a_failed_setup_is_told_and_nothing_else_is_called(void **state)
{
    char peer[60];

    (void)state;
    assert_string_equal(trace_of_one(1, -EPERM, 0, 0, peer, sizeof(peer)), "verify setup error ");
    assert_failure(WEIR_PHASE_SETUP, -EPERM, peer);
}

static void a_failed_handler_is_finished_and_told(void **state)
{
    char peer[60];

    (void)state;
    assert_string_equal(trace_of_one(1, 0, -EBADMSG, 0, peer, sizeof(peer)),
                        "verify setup handle finish error ");
    assert_failure(WEIR_PHASE_HANDLE, -EBADMSG, peer);
    assert_int_equal(trace.status, -EBADMSG);
}

static void a_failed_finish_is_told(void **state)
{
    char peer[60];

    (void)state;
    assert_string_equal(trace_of_one(1, 0, 0, -EIO, peer, sizeof(peer)),
                        "verify setup handle finish error ");
    assert_failure(WEIR_PHASE_FINISH, -EIO, peer);
}

static void of_two_errors_the_finish_is_told(void **state)
{
    char peer[60];

    (void)state;
    assert_string_equal(trace_of_one(1, 0, -EBADMSG, -EIO, peer, sizeof(peer)),
                        "verify setup handle finish error ");
    assert_failure(WEIR_PHASE_FINISH, -EIO, peer);
    assert_int_equal(trace.status, -EBADMSG);
}

static int answer_one_line(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    weir_printf(req, "%.*s", (int)n, line);
    return 0;
}

/* One segment less for a short connection. In two, the end is now and then seen a moment later. */
static void the_end_comes_with_the_last_bytes(void **state)
{
    const struct weir_handler one_line = { .name = "one line", .handle = answer_one_line };
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                            .handler = &one_line));

    (void)state;
    for (int i = 0; i < 200; i++) {
        int client = support_ask(server, 0, "bytes\n");
        struct pollfd pollfd = { .fd = client, .events = POLLIN | POLLRDHUP };

        assert_int_equal(poll(&pollfd, 1, PLENTY_MS), 1);
        assert_int_equal(pollfd.revents & (POLLIN | POLLRDHUP), POLLIN | POLLRDHUP);
        support_expect_last(client, "bytes\n");
    }
    weir_server_destroy(server);
}

static void finish_is_given_what_handle_returned(void **state)
{
    char peer[60];

    (void)state;
    assert_string_equal(trace_of_one(1, 0, WEIR_STOP_SERVER, 0, peer, sizeof(peer)),
                        "verify setup handle finish ");
    assert_int_equal(trace.status, WEIR_STOP_SERVER);
}

static void a_handler_may_stop_the_server(void **state)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &traced, .handle_error = trace_error));
    int fd = support_connect(server, 0);

    (void)state;
    trace.text[0] = '\0';
    trace.setup_returns = trace.finish_returns = 0;
    trace.handle_returns = WEIR_STOP_SERVER;
    assert_int_equal(weir_serve_forever(server), 0);
    support_expect(fd, "handled\n");
    support_expect_end(fd);
    close(fd);
    weir_server_destroy(server);
    assert_string_equal(trace.text, "setup handle finish ");
}

static int fail_at_once(struct weir_request *req)
{
    (void)req;
    return -EBADMSG;
}

static void the_default_error_hook_writes_one_line(void **state)
{
    const struct weir_handler failing = { .name = "failing", .handle = fail_at_once };
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = support_abstract("line"),
                                                            .handler = &failing));
    struct capture capture;
    char written[300];

    (void)state;
    capture_begin(&capture);
    support_talk(server, 0, "", "");
    weir_server_destroy(server);
    capture_end(&capture, written, sizeof(written));
    assert_string_equal(written, "weir: request from unix: handle of handler 'failing' failed: "
                                 "Bad message\n");
}

/* As one does that hands on what weir_write returned: as many bytes as weir_user says. */
static int return_a_length(struct weir_request *req)
{
    const size_t *len = weir_user(req);

    return (int)weir_write(req, "hello\n", *len);
}

static void a_length_is_an_error(size_t len)
{
    const struct weir_handler counting = { .name = "counting", .handle = return_a_length };
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = support_abstract("count"),
                                                            .handler = &counting, .user = &len));
    struct capture capture;
    char written[300];
    char answer[8] = "";

    capture_begin(&capture);
    memcpy(answer, "hello\n", len);
    support_talk(server, 0, "", answer);
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(support_stats(server).handle_errors, 1);
    weir_server_destroy(server);
    capture_end(&capture, written, sizeof(written));
    assert_string_equal(written, "weir: request from unix: handle of handler 'counting' failed: "
                                 "Numerical result out of range (handle returns 0, WEIR_KEEP, "
                                 "WEIR_STOP_SERVER or a negative errno)\n");
}

static void a_number_that_has_no_meaning_is_an_error(void **state)
{
    (void)state;
    for (size_t len = 1; len <= 6; len++)
        a_length_is_an_error(len);
}

/* What a handler returns by itself, and what handle_error and finish are told of it. */
static void told_of_return(int returned, int expected, const char *hint)
{
    char peer[60];

    assert_string_equal(trace_of_one(1, 0, returned, 0, peer, sizeof(peer)),
                        "verify setup handle finish error ");
    assert_failure(WEIR_PHASE_HANDLE, expected, peer);
    assert_int_equal(trace.status, expected);
    if (hint)
        assert_string_equal(trace.failure.hint, hint);
    else
        assert_null(trace.failure.hint);
}

static void only_a_number_without_a_meaning_gets_a_hint(void **state)
{
    char peer[60];

    (void)state;
    told_of_return(7, -ERANGE, "handle returns 0, WEIR_KEEP, WEIR_STOP_SERVER or a negative errno");
    told_of_return(-ERANGE, -ERANGE, NULL);
    trace_of_one(1, 0, 7, -ERANGE, peer, sizeof(peer));
    assert_failure(WEIR_PHASE_FINISH, -ERANGE, peer);
    assert_null(trace.failure.hint);
}

/* Reports, and serves on. */
static int report_and_answer(struct weir_request *req)
{
    char *line;

    if (weir_readline(req, &line, 10) <= 0)
        return 0;
    weir_report(req, -EPROTO, *line == 'h' ? "the line begins with h" : NULL);
    weir_write(req, "on\n", 3);
    return WEIR_KEEP;
}

static void what_a_handler_reports_is_told_and_its_connection_goes_on(void **state)
{
    const struct weir_handler reporter = { .name = "reporter", .handle = report_and_answer };
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = support_abstract("report"),
                                                            .handler = &reporter));
    struct capture capture;
    char written[400];

    (void)state;
    capture_begin(&capture);
    support_talk(server, 0, "h\nx\n", "on\non\n");
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(support_stats(server).handle_errors, 2);
    weir_server_destroy(server);
    capture_end(&capture, written, sizeof(written));
    assert_string_equal(written, "weir: request from unix: handle of handler 'reporter' failed: "
                                 "Protocol error (the line begins with h)\n"
                                 "weir: request from unix: handle of handler 'reporter' failed: "
                                 "Protocol error\n");
}

/* Which of a handler's functions fail with a hint: one bit each. */
static unsigned failing_functions;

static int fail_in(struct weir_request *req, enum weir_phase phase, const char *hint)
{
    return failing_functions & 1u << phase ? weir_fail(req, -EBADMSG, hint) : 0;
}

static int setup_or_fail(struct weir_request *req)
{
    return fail_in(req, WEIR_PHASE_SETUP, "in setup");
}

static int handle_or_fail(struct weir_request *req)
{
    return fail_in(req, WEIR_PHASE_HANDLE, "in handle");
}

static int finish_or_fail(struct weir_request *req, int status)
{
    weir_printf(req, "finish %d\n", status);
    return fail_in(req, WEIR_PHASE_FINISH, "in finish");
}

static char told[400];
static int told_len;

static void write_down(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    told_len += snprintf(told + told_len, sizeof(told) - (size_t)told_len, "%d %d %s\n",
                         (int)failure->phase, failure->error,
                         failure->hint ? failure->hint : "(null)");
}

static void expect_told(unsigned functions, const char *answer, const char *expected)
{
    const struct weir_handler failing = {
        .name = "failing", .setup = setup_or_fail, .handle = handle_or_fail,
        .finish = finish_or_fail,
    };
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = support_abstract("fail"), .handler = &failing, .handle_error = write_down));
    struct weir_stats stats;

    failing_functions = functions;
    told_len = 0;
    told[0] = '\0';
    support_talk(server, 0, "", answer);
    SUPPORT_AWAIT(server, closed, == 1);
    stats = support_stats(server);
    weir_server_destroy(server);
    assert_string_equal(told, expected);
    assert_int_equal(stats.setup_errors + stats.handle_errors + stats.finish_errors,
                     __builtin_popcount(functions));
}

static void who_fails_with_a_hint_is_told_once(void **state)
{
    (void)state;
    expect_told(1u << WEIR_PHASE_SETUP, "", "1 -74 in setup\n");
    expect_told(1u << WEIR_PHASE_HANDLE, "finish -74\n", "2 -74 in handle\n");
    expect_told(1u << WEIR_PHASE_FINISH, "finish 0\n", "3 -74 in finish\n");
    expect_told(1u << WEIR_PHASE_HANDLE | 1u << WEIR_PHASE_FINISH, "finish -74\n",
                "2 -74 in handle\n3 -74 in finish\n");
}

static int fail_without_end(struct weir_request *req)
{
    char *line;

    if (weir_readline(req, &line, 10) <= 0)
        return 0;
    if (line[0] == 'e')
        return -EBADMSG;
    weir_fail(req, -EPROTO, "it goes on");
    return WEIR_KEEP;
}

/* What a call of handle() has told is no excuse for the next one. */
static void the_next_calls_error_is_told_all_the_same(void **state)
{
    const struct weir_handler failing = { .name = "failing", .handle = fail_without_end };
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = support_abstract("next"), .handler = &failing, .handle_error = write_down));

    (void)state;
    told_len = 0;
    support_talk(server, 0, "a\ne\n", "");
    SUPPORT_AWAIT(server, closed, == 1);
    weir_server_destroy(server);
    assert_string_equal(told, "2 -71 it goes on\n2 -74 (null)\n");
}

static int error_of_its_own;

static int fail_by_its_own(struct weir_request *req)
{
    (void)req;
    return error_of_its_own;
}

/* Nobody has cancelled this server, and its clients have not reset anything. */
static void a_handlers_own_error_is_told_even_if_it_is_one_of_weirs(void **state)
{
    const struct weir_handler own = { .name = "own", .handle = fail_by_its_own };
    const struct { int error; const char *text; } errors[] = {
        { -ERANGE, "Numerical result out of range" }, { -ECANCELED, "Operation canceled" },
        { -ECONNRESET, "Connection reset by peer" }, { -EPIPE, "Broken pipe" },
        { -ECHILD, "No child processes" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct weir_server *server = support_start(WEIR_OPTIONS(.listen = support_abstract("own"),
                                                                .handler = &own));
        struct capture capture;
        char written[300];
        char expected[300];

        error_of_its_own = errors[i].error;
        capture_begin(&capture);
        support_talk(server, 0, "", "");
        SUPPORT_AWAIT(server, closed, == 1);
        assert_int_equal(support_stats(server).cancelled, 0);
        weir_server_destroy(server);
        capture_end(&capture, written, sizeof(written));
        snprintf(expected, sizeof(expected), "weir: request from unix: handle of handler 'own' "
                 "failed: %s\n", errors[i].text);
        assert_string_equal(written, expected);
    }
}

static void ignore_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    (void)failure;
}

/* socketserver's legend has it that a dying handler ends a server of non-daemon threads. */
static void a_thousand_failed_handlers_do_no_harm(void **state)
{
    const struct weir_handler failing = { .name = "failing", .handle = fail_at_once };

    (void)state;
    for (int daemon = 0; daemon < 2; daemon++) {
        struct weir_server *server = support_start(WEIR_OPTIONS(
            .listen = support_abstract("1000"), .handler = &failing, .handle_error = ignore_error,
            .daemon_threads = daemon));

        for (int i = 0; i < 1000; i++) {
            int fd = support_connect(server, 0);

            support_expect_end(fd);
            close(fd);
        }
        SUPPORT_AWAIT(server, closed, == 1000);
        assert_int_equal(support_stats(server).handle_errors, 1000);
        weir_server_destroy(server);
    }
}

/* ------------------------------------------------------------------ what it is told --- */

static struct {
    struct sockaddr_storage address;
    socklen_t address_len;
    char listen[WEIR_ADDRESS_SIZE];
    int nodelay;
    void *user;
} seen;

static int look(struct weir_server *server, const struct weir_peer *peer)
{
    socklen_t len = sizeof(seen.nodelay);

    memcpy(&seen.address, peer->address, peer->address_len);
    seen.address_len = peer->address_len;
    snprintf(seen.listen, sizeof(seen.listen), "%s", peer->listen);
    getsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &seen.nodelay, &len);
    seen.user = weir_server_user(server);
    return 1;
}

static void verify_request_is_shown_the_peer(void **state)
{
    int user;
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = "tcp://[::1]:0", .handler = &lines, .verify_request = look, .user = &user,
        .disable_nagle_algorithm = true));
    struct sockaddr_in6 own;
    socklen_t len = sizeof(own);
    char uri[WEIR_ADDRESS_SIZE];
    int fd = support_connect(server, 0);

    (void)state;
    getsockname(fd, (struct sockaddr *)&own, &len);
    support_half_close(fd);
    support_expect_end(fd);
    close(fd);
    weir_server_address(server, 0, uri, sizeof(uri));
    weir_server_destroy(server);
    assert_int_equal(seen.address_len, sizeof(own));
    assert_memory_equal(&seen.address, &own, sizeof(own));
    assert_string_equal(seen.listen, uri);
    assert_int_equal(seen.nodelay, 1);
    assert_ptr_equal(seen.user, &user);
}

static int tell_what_is_known(struct weir_request *req)
{
    struct sockaddr_storage peer;
    struct sockaddr_storage local;
    socklen_t peer_len;
    socklen_t local_len;
    char text[60];
    int nodelay = -1;
    socklen_t len = sizeof(nodelay);

    if (weir_peer_address(req, &peer, &peer_len) < 0 ||
        weir_local_address(req, &local, &local_len) < 0)
        return -EIO;
    getsockopt(weir_request_fd(req), IPPROTO_TCP, TCP_NODELAY, &nodelay, &len);
    weir_printf(req, "%s|%u|%u|%s|%s|%d|%d|%d|%d\n", weir_peer_text(req, text, sizeof(text)),
                ntohs(((struct sockaddr_in *)&peer)->sin_port),
                ntohs(((struct sockaddr_in *)&local)->sin_port), (const char *)weir_user(req),
                (const char *)weir_handler_data(req), weir_worker_number(req) == 0,
                weir_draining(req), weir_state(req) == NULL, nodelay);
    return 0;
}

static void a_handler_knows_both_ends_its_data_and_its_worker(void **state)
{
    const struct weir_handler knowing = {
        .name = "knowing", .handle = tell_what_is_known, .data = "data",
    };
    char user[] = "user";
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &knowing, .user = user, .workers = 1));
    struct sockaddr_in own;
    struct sockaddr_in its;
    socklen_t len = sizeof(own);
    char expected[200];
    int fd = support_connect(server, 0);

    (void)state;
    getsockname(fd, (struct sockaddr *)&own, &len);
    getpeername(fd, (struct sockaddr *)&its, &len);
    snprintf(expected, sizeof(expected), "127.0.0.1:%u|%u|%u|user|data|1|0|1|0\n",
             ntohs(own.sin_port), ntohs(own.sin_port), ntohs(its.sin_port));
    support_expect(fd, expected);
    close(fd);
    weir_server_destroy(server);
}

/* Counts the lines of a connection, from setup to finish, in its state. */
struct count {
    int lines;
    int set_up;
};

static int count_setup(struct weir_request *req)
{
    struct count *count = weir_state(req);

    if (count->lines != 0 || count->set_up != 0)
        return -EIO;
    count->set_up = 1;
    return 0;
}

static int count_line(struct weir_request *req)
{
    struct count *count = weir_state(req);
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    weir_printf(req, "%d%d\n", count->set_up, ++count->lines);
    return WEIR_KEEP;
}

static int count_finish(struct weir_request *req, int status)
{
    const struct count *count = weir_state(req);

    (void)status;
    weir_printf(req, "bye %d\n", count->lines);
    return 0;
}

static const struct weir_handler counting = {
    .name = "counting", .setup = count_setup, .handle = count_line, .finish = count_finish,
    .state_size = sizeof(struct count),
};

static void state_begins_with_zeros_and_stays_across_keep(void **state)
{
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                            .handler = &counting));

    (void)state;
    for (int i = 0; i < 3; i++) {
        int fd = support_connect(server, 0);

        support_say(fd, "a\n");
        support_expect(fd, "11\n");
        SUPPORT_AWAIT(server, idle, == 1);
        support_say(fd, "b\nc\n");
        support_expect(fd, "12\n13\n");
        support_half_close(fd);
        support_expect(fd, "bye 3\n");
        support_expect_end(fd);
        close(fd);
        SUPPORT_AWAIT(server, active, == 0);
    }
    /* Each line is a call, and so is the end of the file. */
    assert_int_equal(support_stats(server).handled, 3 * 4);
    weir_server_destroy(server);
}

static _Atomic int service_calls;
static uint64_t service_first_ms;
static uint64_t service_third_ms;

static void serve_other_things(struct weir_server *server)
{
    int calls = ++service_calls;

    (void)server;
    if (calls == 1)
        service_first_ms = support_now_ms();
    if (calls == 3)
        service_third_ms = support_now_ms();
}

static void service_actions_come_at_their_interval(void **state)
{
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = support_abstract("service"), .handler = &lines, .poll_interval_ms = 20,
        .service_actions = serve_other_things));

    (void)state;
    SUPPORT_UNTIL(service_calls >= 4);
    weir_server_destroy(server);
    assert_true(service_third_ms - service_first_ms >= 2 * 20);
}

/* ------------------------------------------------------------------ counting ---------- */

static void statistics_add_up(void **state)
{
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &counting, .workers = 3));
    struct weir_stats stats;
    int kept = support_connect(server, 0);
    int waiting;

    (void)state;
    for (int i = 0; i < 10; i++)
        support_talk(server, 0, "abc\n", "11\nbye 1\n");
    support_say(kept, "abc\n");
    support_expect(kept, "11\n");
    waiting = support_connect(server, 0);
    SUPPORT_AWAIT(server, closed, == 10);
    SUPPORT_AWAIT(server, idle, == 1);
    SUPPORT_AWAIT(server, parked, == 1);
    stats = support_stats(server);
    assert_int_equal(stats.accepted, 12);
    assert_int_equal(stats.active, 2);
    assert_int_equal(stats.queued + stats.running, 0);
    assert_int_equal(stats.refused, 0);
    assert_int_equal(stats.handled, 21);
    assert_int_equal(stats.bytes_in, 11 * 4);
    assert_int_equal(stats.bytes_out, 10 * 9 + 3);
    assert_int_equal(stats.workers, 3);
    assert_true(stats.busy_ns > 0);
    close(kept);
    close(waiting);
    SUPPORT_AWAIT(server, closed, == 12);
    weir_server_destroy(server);
}

static void an_older_caller_gets_the_counts_that_it_knows(void **state)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(.listen = support_abstract("older"),
                                                             .handler = &lines, .workers = 1));
    struct weir_stats stats;

    (void)state;
    memset(&stats, 0xff, sizeof(stats));
    assert_int_equal(weir_server_stats(server, &stats, 8), 0);
    assert_int_equal(stats.accepted, 0);
    assert_true(stats.refused == UINT64_MAX);
    weir_server_destroy(server);
}

static void a_newer_caller_gets_0_for_the_counts_that_only_it_knows(void **state)
{
    struct newer { struct weir_stats known; uint64_t unknown[40], behind; } newer;
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = support_abstract("newer"),
                                                            .handler = &lines, .workers = 1));

    (void)state;
    support_talk(server, 0, "a\n", "a\n");
    memset(&newer, 0xff, sizeof(newer));
    assert_int_equal(weir_server_stats(server, &newer.known, offsetof(struct newer, behind)), 0);
    assert_int_equal(newer.known.accepted, 1);
    assert_int_equal(newer.known.truncated, 0);
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(newer.unknown[i], 0);
    assert_true(newer.behind == UINT64_MAX);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ all the same ------ */

/* Conformance behaviour 79: whatever the pool looks like, clients see the same. */
static void assert_three_clients_are_served(const struct weir_options *options)
{
    struct weir_server *server = support_start(options);
    int slow = support_connect(server, 0);

    support_say(slow, "half a ");
    for (int i = 0; i < 3; i++)
        support_talk(server, 0, "hello\nworld\nthe rest", "hello\nworld\nthe rest");
    support_say(slow, "line\n");
    support_expect(slow, "half a line\n");
    support_half_close(slow);
    support_expect_end(slow);
    close(slow);
    weir_server_destroy(server);
}

static void workers_dispatch_and_acceptors_change_nothing_for_clients(void **state)
{
    (void)state;
    for (unsigned workers = 1; workers <= 4; workers++)
        for (int dispatch = WEIR_DISPATCH_WORKER; dispatch <= WEIR_DISPATCH_ACCEPTOR; dispatch++)
            for (unsigned acceptors = 1; acceptors <= 3; acceptors++)
                assert_three_clients_are_served(WEIR_OPTIONS(
                    .listen = "tcp://127.0.0.1:0", .handler = &lines, .workers = workers,
                    .dispatch = dispatch, .acceptors = acceptors));
}

static void handlers_on_the_workers_own_stack_do_the_same(void **state)
{
    const struct weir_handler blocking = {
        .name = "blocking", .handle = answer_lines, .stack = WEIR_STACK_THREAD,
    };
    const struct weir_handler kept = {
        .name = "kept", .setup = count_setup, .handle = count_line, .finish = count_finish,
        .state_size = sizeof(struct count), .stack = WEIR_STACK_THREAD,
    };

    (void)state;
    for (int dispatch = WEIR_DISPATCH_WORKER; dispatch <= WEIR_DISPATCH_ACCEPTOR; dispatch++) {
        struct weir_server *server = support_start(WEIR_OPTIONS(
            .listen = "tcp://127.0.0.1:0", .handler = &kept, .workers = 1,
            .dispatch = dispatch));
        int fd = support_connect(server, 0);

        assert_three_clients_are_served(WEIR_OPTIONS(
            .listen = "tcp://127.0.0.1:0", .handler = &blocking, .workers = 2,
            .dispatch = dispatch));
        support_say(fd, "a\n");
        support_expect(fd, "11\n");
        SUPPORT_AWAIT(server, idle, == 1);
        support_say(fd, "b\n");
        support_expect(fd, "12\n");
        support_half_close(fd);
        support_expect(fd, "bye 2\n");
        close(fd);
        weir_server_destroy(server);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_option_is_told_in_a_sentence),
        cmocka_unit_test(a_wrong_address_is_told_in_a_sentence),
        cmocka_unit_test(a_port_in_use_is_told),
        cmocka_unit_test(one_address_for_two_listeners_is_told),
        cmocka_unit_test(a_failed_creation_leaves_nothing_open),
        cmocka_unit_test(creation_fails_cleanly_whichever_descriptor_is_lacking),
        cmocka_unit_test(a_server_that_never_served_leaves_nothing_open),
        cmocka_unit_test(a_server_that_served_leaves_nothing_open),
        cmocka_unit_test(a_program_without_standard_streams_serves_beside_their_numbers),
        cmocka_unit_test(strings_and_arrays_may_go_once_it_is_created),
        cmocka_unit_test(port_0_is_resolved),
        cmocka_unit_test(a_name_is_listened_on_at_each_of_its_addresses),
        cmocka_unit_test(a_name_of_which_one_address_is_taken_is_not_listened_on_at_the_other),
        cmocka_unit_test(an_address_that_does_not_fit_or_exist_is_told),
        cmocka_unit_test(several_listeners_have_handlers_of_their_own),
        cmocka_unit_test(a_path_is_gone_once_its_server_is),
        cmocka_unit_test(an_inherited_descriptor_is_served),
        cmocka_unit_test(reuse_port_lets_two_servers_share_a_port),
        cmocka_unit_test(a_connection_is_verified_set_up_handled_and_finished),
        cmocka_unit_test(a_refused_connection_has_no_handler),
        cmocka_unit_test(a_failed_verification_refuses_and_is_told),
        cmocka_unit_test(a_failed_setup_is_told_and_nothing_else_is_called),
        cmocka_unit_test(a_failed_handler_is_finished_and_told),
        cmocka_unit_test(a_failed_finish_is_told),
        cmocka_unit_test(of_two_errors_the_finish_is_told),
        cmocka_unit_test(the_end_comes_with_the_last_bytes),
        cmocka_unit_test(finish_is_given_what_handle_returned),
        cmocka_unit_test(a_handler_may_stop_the_server),
        cmocka_unit_test(the_default_error_hook_writes_one_line),
        cmocka_unit_test(a_number_that_has_no_meaning_is_an_error),
        cmocka_unit_test(only_a_number_without_a_meaning_gets_a_hint),
        cmocka_unit_test(what_a_handler_reports_is_told_and_its_connection_goes_on),
        cmocka_unit_test(who_fails_with_a_hint_is_told_once),
        cmocka_unit_test(the_next_calls_error_is_told_all_the_same),
        cmocka_unit_test(a_handlers_own_error_is_told_even_if_it_is_one_of_weirs),
        cmocka_unit_test(a_thousand_failed_handlers_do_no_harm),
        cmocka_unit_test(verify_request_is_shown_the_peer),
        cmocka_unit_test(a_handler_knows_both_ends_its_data_and_its_worker),
        cmocka_unit_test(state_begins_with_zeros_and_stays_across_keep),
        cmocka_unit_test(service_actions_come_at_their_interval),
        cmocka_unit_test(statistics_add_up),
        cmocka_unit_test(an_older_caller_gets_the_counts_that_it_knows),
        cmocka_unit_test(a_newer_caller_gets_0_for_the_counts_that_only_it_knows),
        cmocka_unit_test(workers_dispatch_and_acceptors_change_nothing_for_clients),
        cmocka_unit_test(handlers_on_the_workers_own_stack_do_the_same),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
