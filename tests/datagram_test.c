/*
 * datagram_test.c - UDP and Unix datagrams: what a handler sees, and what its sender gets.
 */
#include "tests/support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* Children write here too. */
static struct board {
    _Atomic int setups;
    _Atomic int handles;
    _Atomic int finishes;
    _Atomic int told;
    _Atomic int told_error;
    _Atomic int told_phase;
    _Atomic int truncated;
    _Atomic int waiting;
    _Atomic bool let_go;
    _Atomic int failing;        /* so many receives that would get something fail */
} *board;

/* ------------------------------------------------------------------ system calls ------ */

/* Counted, and made for the engine and for the tests alike. */
static _Atomic int receives;
static _Atomic int sends;

static bool waits_in(int fd)
{
    return recv(fd, &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned len, int flags, struct timespec *timeout)
{
    receives++;
    if (board->failing > 0 && waits_in(fd)) {
        board->failing--;
        errno = ENOMEM;
        return -1;
    }
    return (int)syscall(SYS_recvmmsg, fd, messages, len, flags, timeout);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned len, int flags)
{
    sends++;
    return (int)syscall(SYS_sendmmsg, fd, messages, len, flags);
}

struct name {
    socklen_t len;
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_storage ss;
    };
};

/* ------------------------------------------------------------------ handlers ---------- */

static struct gate gate;

static int note_setup(struct weir_request *req)
{
    int *state = weir_state(req);

    board->setups++;
    return *state == 0 ? 0 : -EPROTO;
}

static int note_finish(struct weir_request *req, int status)
{
    (void)req;
    (void)status;
    board->finishes++;
    return 0;
}

static bool is(const char *word, const char *data, ssize_t len)
{
    return (size_t)len == strlen(word) && memcmp(word, data, (size_t)len) == 0;
}

/* The name of its local end is known, and the peer's. */
static int write_names(struct weir_request *req)
{
    struct sockaddr_storage name;
    socklen_t len;
    char text[WEIR_ADDRESS_SIZE];

    if (weir_local_address(req, &name, &len) < 0 || weir_peer_address(req, &name, &len) < 0)
        return -EIO;
    weir_printf(req, "%s", weir_peer_text(req, text, sizeof(text)));
    return 0;
}

static int write_local_host(struct weir_request *req)
{
    char host[INET6_ADDRSTRLEN];
    struct name name;

    if (weir_local_address(req, &name.ss, &name.len) < 0)
        return -EIO;
    inet_ntop(name.sa.sa_family, name.sa.sa_family == AF_INET ? (void *)&name.in.sin_addr
                                                              : (void *)&name.in6.sin6_addr,
              host, sizeof(host));
    weir_printf(req, "%s", host);
    return 0;
}

static int write_size(struct weir_request *req, size_t len)
{
    char *data = calloc(1, len);
    ssize_t n;

    memset(data, 'b', len);
    n = weir_write(req, data, len);
    free(data);
    return n < 0 ? (int)n : 0;
}

static int obey(struct weir_request *req)
{
    int *state = weir_state(req);
    char *data;
    ssize_t len = weir_peek(req, &data, 100000);

    board->handles++;
    *state = 1;
    if (weir_truncated(req))
        board->truncated++;
    if (len <= 0)
        return (int)len;
    if (is("quiet", data, len))
        return 0;
    if (is("fail", data, len)) {
        weir_write(req, "part", 4);
        return -EBADMSG;
    }
    if (is("who", data, len))
        return write_names(req);
    if (is("where", data, len))
        return write_local_host(req);
    if (is("much", data, len))
        return write_size(req, 65508);
    if (is("far too much", data, len))
        return write_size(req, (1 << 20) + 1);
    if (is("file", data, len))
        return weir_sendfile(req, 0, 0, 1) == -EOPNOTSUPP ? weir_flush(req) : -EIO;
    if (is("end", data, len))
        return weir_try_write(req, "end", 3) == 3 && weir_end_output(req) == -EOPNOTSUPP &&
               weir_end_input(req) == -EOPNOTSUPP ? 0 : -EIO;
    if (is("stop", data, len))
        return WEIR_STOP_SERVER;
    if (is("block", data, len)) {
        board->waiting++;
        gate_pass(&gate);
    }
    if (is("wait", data, len)) {
        board->waiting++;
        while (!board->let_go)
            if (weir_sleep(req, 1) < 0)
                return -ECANCELED;
    }
    weir_consume(req, (size_t)len);
    if (weir_read(req, data, 1) != 0)
        return -EPROTO;
    weir_write(req, data, (size_t)len);
    weir_flush(req);
    weir_write(req, "!", 1);
    return WEIR_KEEP;
}

static int exclaim_line(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n > 0)
        weir_printf(req, "%.*s!\n", (int)n - 1, line);
    return n < 0 ? (int)n : 0;
}

static const struct weir_handler exclaimer = { .name = "exclaim", .handle = exclaim_line };

/* Asks the server at options.user what the datagram asks. */
static int relay(struct weir_request *req)
{
    struct weir_request *other;
    char *data;
    ssize_t len = weir_peek(req, &data, 100);
    int r = len < 0 ? (int)len : weir_connect(req, weir_user(req), 0, &other);

    if (r < 0)
        return r;
    weir_printf(other, "%.*s\n", (int)len, data);
    len = weir_readline(other, &data, 100);
    if (len > 0)
        weir_write(req, data, (size_t)len);
    return len < 0 ? (int)len : 0;
}

static const struct weir_handler relaying = { .name = "relay", .handle = relay };

static const struct weir_handler handler = {
    .name = "obey", .setup = note_setup, .handle = obey, .finish = note_finish,
    .state_size = sizeof(int),
};

static const struct weir_handler on_a_thread = {
    .name = "obey", .setup = note_setup, .handle = obey, .finish = note_finish,
    .state_size = sizeof(int), .stack = WEIR_STACK_THREAD,
};

static void note_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    board->told_error = failure->error;
    board->told_phase = (int)failure->phase;
    board->told++;
}

/* ------------------------------------------------------------------ servers and clients  */

/* How a server of the group serves. */
static struct weir_options how;

static int begin(void **state)
{
    (void)state;
    memset(board, 0, sizeof(*board));
    receives = 0;
    sends = 0;
    gate_init(&gate);
    return 0;
}

static int end(void **state)
{
    (void)state;
    gate_fini(&gate);
    return 0;
}

#define OPTIONS(...) (*WEIR_OPTIONS( \
        .handler = &handler, .handle_error = note_error, \
        .concurrency = how.concurrency, .workers = how.workers, .dispatch = how.dispatch, \
        __VA_ARGS__))
#define START(...) support_start(&OPTIONS(__VA_ARGS__))
#define CREATE(...) support_create(&OPTIONS(__VA_ARGS__))

static void finish(struct weir_server *server)
{
    struct weir_stats stats;

    weir_server_shutdown(server);
    assert_int_equal(weir_server_close(server), 0);
    stats = support_stats(server);
    assert_int_equal(stats.accepted, stats.closed + stats.refused);
    assert_int_equal(stats.active, 0);
    weir_server_destroy(server);
}

static void be_patient(int fd)
{
    const struct timeval plenty = { .tv_sec = PLENTY_MS / 1000 };

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &plenty, sizeof(plenty)), 0);
}

static struct name name_of(const char *uri)
{
    struct name name = { 0 };

    if (strncmp(uri, "udp://[", 7) == 0) {
        name.in6 = (struct sockaddr_in6){
            .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(strrchr(uri, ':') + 1)),
            .sin6_addr = IN6ADDR_LOOPBACK_INIT,
        };
        name.len = sizeof(name.in6);
    } else if (strncmp(uri, "udp:", 4) == 0) {
        name.in = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(strrchr(uri, ':') + 1)),
            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
        name.len = sizeof(name.in);
    } else {
        const char *text = strchr(uri, ':') + 1;

        name.un.sun_family = AF_UNIX;
        if (text[0] == '@')
            strcpy(name.un.sun_path + 1, text + 1);
        else
            strcpy(name.un.sun_path, text + 2);
        name.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
                               (text[0] == '@' ? strlen(text) : strlen(text) - 1));
    }
    return name;
}

/* Of this process only: others may run the same test. */
static const char *unix_name(void)
{
    static char uri[64];

    snprintf(uri, sizeof(uri), "unixgram:@weir-datagram-test-%d", (int)getpid());
    return uri;
}

/* Its own name is chosen by the kernel. */
static int client_of(struct weir_server *server, size_t i)
{
    char uri[WEIR_ADDRESS_SIZE];
    struct name name;
    int fd;

    assert_true(weir_server_address(server, i, uri, sizeof(uri)) > 0);
    name = name_of(uri);
    fd = socket(name.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (name.sa.sa_family == AF_UNIX)
        assert_int_equal(bind(fd, &(struct sockaddr){ .sa_family = AF_UNIX },
                              sizeof(sa_family_t)), 0);
    assert_int_equal(connect(fd, &name.sa, name.len), 0);
    be_patient(fd);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
}

static void say_to(int fd, const char *uri, const char *text)
{
    struct name name = name_of(uri);

    assert_int_equal(sendto(fd, text, strlen(text), 0, &name.sa, name.len), strlen(text));
}

static void expect(int fd, const char *text)
{
    char buf[256];
    ssize_t n = recv(fd, buf, sizeof(buf) - 1, 0);

    assert_true(n >= 0);
    buf[n] = '\0';
    assert_string_equal(buf, text);
}

/* What was asked before it has been answered, or won't be. */
static void expect_nothing_but(int fd, const char *text)
{
    char buf[16];

    expect(fd, text);
    assert_int_equal(recv(fd, buf, sizeof(buf), MSG_DONTWAIT), -1);
}

static void talk(int fd, const char *question, const char *answer)
{
    say(fd, question);
    expect(fd, answer);
}

/* ------------------------------------------------------------------ however it serves - */

#define UDP .listen = "udp://127.0.0.1:0"

static void a_datagram_is_answered_over_every_transport(void **state)
{
    char path[64];
    char uri[80];
    struct weir_listen listeners[] = {
        { .address = "udp://127.0.0.1:0" }, { .address = "udp://[::1]:0" },
        { .address = uri }, { .address = unix_name() },
    };
    struct weir_server *server;

    (void)state;
    snprintf(path, sizeof(path), "/tmp/weir-datagram-%d", (int)getpid());
    snprintf(uri, sizeof(uri), "unixgram://%s", path);
    server = START(.listeners = listeners, .listeners_len = 4);
    for (size_t i = 0; i < 4; i++) {
        int fd = client_of(server, i);

        talk(fd, "hello", "hello!");
        talk(fd, "again", "again!");
        close(fd);
    }
    finish(server);
    assert_int_equal(access(path, F_OK), -1);
}

static void each_datagram_is_a_request_of_its_own(void **state)
{
    struct weir_server *server = START(UDP);
    int fd = client_of(server, 0);

    (void)state;
    for (int i = 0; i < 3; i++)
        talk(fd, "x", "x!");
    finish(server);
    assert_int_equal(board->setups, 3);
    assert_int_equal(board->handles, 3);
    assert_int_equal(board->finishes, 3);
    assert_int_equal(board->told, 0);
    close(fd);
}

static void what_has_no_reply_is_answered_with_nothing(void **state)
{
    struct weir_server *server = START(UDP);
    int fd = client_of(server, 0);

    (void)state;
    say(fd, "quiet");
    say(fd, "");
    say(fd, "fail");
    SUPPORT_AWAIT(server, closed, == 3);
    say(fd, "x");
    expect_nothing_but(fd, "x!");
    finish(server);
    assert_int_equal(board->handles, 4);
    assert_int_equal(board->told, 1);
    close(fd);
}

static void an_empty_and_a_failed_reply_are_sent_when_asked_for(void **state)
{
    struct weir_server *server = START(UDP, .reply_always = true);
    int fd = client_of(server, 0);

    (void)state;
    talk(fd, "quiet", "");
    talk(fd, "", "");
    talk(fd, "fail", "part");
    finish(server);
    close(fd);
}

static void a_long_datagram_is_cut_and_said_to_be(void **state)
{
    struct weir_server *server = START(UDP, .max_packet_size = 5);
    int fd = client_of(server, 0);

    (void)state;
    talk(fd, "12345", "12345!");
    assert_int_equal(board->truncated, 0);
    talk(fd, "123456", "12345!");
    assert_int_equal(board->truncated, 1);
    assert_int_equal(support_stats(server).truncated, 1);
    finish(server);
    close(fd);
}

static void the_largest_datagram_makes_the_round_trip(void **state)
{
    static char sent[65506], received[65507];
    struct weir_server *server = START(UDP, .max_packet_size = 65507);
    int fd = client_of(server, 0);
    ssize_t n;

    (void)state;
    memset(sent, 'a', sizeof(sent));
    assert_int_equal(send(fd, sent, sizeof(sent), 0), sizeof(sent));
    n = recv(fd, received, sizeof(received), 0);
    assert_int_equal(n, 65507);
    assert_memory_equal(sent, received, sizeof(sent));
    assert_int_equal(received[65506], '!');
    finish(server);
    close(fd);
}

static void a_reply_that_is_too_long_is_an_error(void **state)
{
    struct weir_server *server = START(UDP);
    int fd = client_of(server, 0);

    (void)state;
    say(fd, "much");
    SUPPORT_UNTIL(board->told == 1);
    assert_int_equal(board->told_error, -EMSGSIZE);
    say(fd, "far too much");
    SUPPORT_UNTIL(board->told == 2);
    assert_int_equal(board->told_error, -EMSGSIZE);
    say(fd, "x");
    expect_nothing_but(fd, "x!");
    finish(server);
    close(fd);
}

static void both_ends_have_names(void **state)
{
    struct weir_server *server = START(UDP);
    int fd = client_of(server, 0);
    struct sockaddr_in name;
    socklen_t len = sizeof(name);
    char text[64];

    (void)state;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &len), 0);
    snprintf(text, sizeof(text), "127.0.0.1:%d", ntohs(name.sin_port));
    talk(fd, "who", text);
    finish(server);
    close(fd);
}

static struct name name_of_host(const char *host, uint16_t port)
{
    struct name name = { 0 };

    if (inet_pton(AF_INET, host, &name.in.sin_addr) == 1) {
        name.in.sin_family = AF_INET;
        name.in.sin_port = port;
        name.len = sizeof(name.in);
    } else {
        assert_int_equal(inet_pton(AF_INET6, host, &name.in6.sin6_addr), 1);
        name.in6.sin6_family = AF_INET6;
        name.in6.sin6_port = port;
        name.len = sizeof(name.in6);
    }
    return name;
}

static uint16_t port_of(struct weir_server *server)
{
    char uri[WEIR_ADDRESS_SIZE];

    assert_true(weir_server_address(server, 0, uri, sizeof(uri)) > 0);
    return htons((uint16_t)atoi(strrchr(uri, ':') + 1));
}

/* A client that takes replies from the address that it has asked, and from no other. */
static int client_of_host(const char *host, uint16_t port)
{
    struct name name = name_of_host(host, port);
    int fd = socket(name.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, &name.sa, name.len), 0);
    be_patient(fd);
    return fd;
}

static void ask_host(uint16_t port, const char *host, const char *local)
{
    int fd = client_of_host(host, port);

    talk(fd, "hello", "hello!");
    talk(fd, "where", local);
    close(fd);
}

/* Nobody can answer from there: any address will do. */
static void ask_all(uint16_t port)
{
    struct name name = name_of_host("127.255.255.255", port);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &(int){ 1 }, sizeof(int));
    be_patient(fd);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sendto(fd, "x", 1, 0, &name.sa, name.len), 1);
    for (int i = 0; i < 3; i++)
        expect(fd, "x!");
    close(fd);
}

static bool has_ipv6(void)
{
    struct name name = name_of_host("::1", 0);
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind(fd, &name.sa, name.len) == 0;

    if (fd >= 0)
        close(fd);
    return has;
}

static void the_reply_comes_from_the_address_that_was_asked(void **state)
{
    struct weir_server *server = START(.listen = "udp://0.0.0.0:0");

    (void)state;
    ask_host(port_of(server), "127.0.0.1", "127.0.0.1");
    ask_host(port_of(server), "127.0.0.2", "127.0.0.2");
    ask_all(port_of(server));
    finish(server);
    server = START(.listen = "udp://:0");
    if (has_ipv6()) {
        ask_host(port_of(server), "127.0.0.2", "::ffff:127.0.0.2");
        ask_host(port_of(server), "::1", "::1");
    } else {
        ask_host(port_of(server), "127.0.0.2", "127.0.0.2");
    }
    ask_all(port_of(server));
    finish(server);
    assert_int_equal(board->told, 0);
}

static void the_same_of_an_inherited_socket(void **state)
{
    struct name name = name_of_host("0.0.0.0", 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct weir_server *server;
    char listen[32];

    (void)state;
    assert_int_equal(bind(fd, &name.sa, name.len), 0);
    snprintf(listen, sizeof(listen), "fd://%d", fd);
    server = START(.listen = listen);
    ask_host(port_of(server), "127.0.0.3", "127.0.0.3");
    finish(server);
}

static void who_has_no_name_gets_no_reply_and_harms_nobody(void **state)
{
    const char *uri = unix_name();
    struct weir_server *server = START(.listen = uri);
    int nameless = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int named = client_of(server, 0);

    (void)state;
    say_to(nameless, uri, "quiet");
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(board->told, 0);
    say_to(nameless, uri, "x");
    SUPPORT_UNTIL(board->told == 1);
    assert_int_equal(board->told_error, -EDESTADDRREQ);
    talk(named, "x", "x!");
    close(nameless);
    close(named);
    finish(server);
}

static void a_file_can_not_be_sent_as_a_reply(void **state)
{
    struct weir_server *server = START(UDP);
    int fd = client_of(server, 0);

    (void)state;
    say(fd, "file");
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(board->told, 0);
    finish(server);
    close(fd);
}

static void a_reply_has_no_output_to_end(void **state)
{
    struct weir_server *server = START(UDP);
    int fd = client_of(server, 0);

    (void)state;
    talk(fd, "end", "end");
    /* The socket is as it was, for everybody. */
    talk(fd, "x", "x!");
    assert_int_equal(board->told, 0);
    finish(server);
    close(fd);
}

static void a_handler_can_stop_the_server(void **state)
{
    struct weir_server *server = CREATE(UDP);
    int fd = client_of(server, 0);

    (void)state;
    say(fd, "stop");
    assert_int_equal(weir_serve_forever(server), 0);
    finish(server);
    close(fd);
}

static void what_comes_after_a_shutdown_waits_for_the_next_serving(void **state)
{
    struct weir_server *server = START(UDP);
    int fd = client_of(server, 0);

    (void)state;
    talk(fd, "x", "x!");
    assert_int_equal(weir_server_shutdown(server), 0);
    say(fd, "y");
    say(fd, "y");
    assert_int_equal(support_stats(server).accepted, 1);
    assert_int_equal(weir_server_start(server), 0);
    expect(fd, "y!");
    expect(fd, "y!");
    finish(server);
    close(fd);
}

static void refused_senders_are_passed_over(void **state)
{
    struct weir_listen listeners[] = {
        { .address = "udp://127.0.0.1:0" }, { .address = unix_name() },
    };
    char rules[64];
    struct weir_server *server;
    int in, un;

    (void)state;
    snprintf(rules, sizeof(rules), "deny uid %d\ndeny 127.0.0.0/8\ndefault allow\n", (int)getuid());
    server = START(.listeners = listeners, .listeners_len = 2, .access = rules);
    in = client_of(server, 0);
    un = client_of(server, 1);
    say(in, "x");
    say(un, "x");
    SUPPORT_AWAIT(server, refused, == 2);
    assert_int_equal(weir_server_set_access(server, NULL), 0);
    say(in, "y");
    expect_nothing_but(in, "y!");
    say(un, "y");
    expect_nothing_but(un, "y!");
    assert_int_equal(board->handles, 2);
    finish(server);
    close(in);
    close(un);
}

static int verify(struct weir_server *server, const struct weir_peer *peer)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)peer->address;

    (void)server;
    if (peer->address_len != sizeof(*in) || in->sin_family != AF_INET ||
        strncmp(peer->listen, "udp://127.0.0.1:", 16) != 0)
        return -EPROTO;
    return board->let_go;
}

static void each_datagram_is_verified(void **state)
{
    struct weir_server *server = START(UDP, .verify_request = verify);
    int fd = client_of(server, 0);

    (void)state;
    say(fd, "x");
    SUPPORT_AWAIT(server, refused, == 1);
    board->let_go = true;
    say(fd, "y");
    expect_nothing_but(fd, "y!");
    finish(server);
    assert_int_equal(board->told, 0);
    close(fd);
}

static void handle_request_serves_exactly_one(void **state)
{
    struct weir_server *server = CREATE(UDP, .timeout_ms = 20);
    int fd = client_of(server, 0);

    (void)state;
    for (int i = 0; i < 3; i++)
        say(fd, "x");
    assert_int_equal(weir_handle_request(server), 1);
    expect(fd, "x!");
    assert_int_equal(support_stats(server).accepted, 1);
    assert_int_equal(weir_handle_request(server), 1);
    assert_int_equal(weir_handle_request(server), 1);
    assert_int_equal(weir_handle_request(server), 0);
    expect(fd, "x!");
    expect(fd, "x!");
    finish(server);
    close(fd);
}

/* The socket is told of once, and nobody has to send anything more. */
static void what_could_not_be_received_is_tried_again(void **state)
{
    struct weir_server *server;
    struct capture capture;
    char said[1000];
    int fd;

    (void)state;
    capture_begin(&capture);
    server = START(.listen = "udp://127.0.0.1:0");
    fd = client_of(server, 0);
    talk(fd, "before", "before!");
    board->failing = 3;
    talk(fd, "at last", "at last!");
    assert_int_equal(board->failing, 0);
    assert_int_equal(support_stats(server).accept_errors, 3);
    finish(server);
    capture_end(&capture, said, sizeof(said));
    close(fd);
    assert_non_null(strstr(said, "pauses: Cannot allocate memory\n"));
    assert_int_equal(strchr(said, '\n')[1], '\0');
}

static void bind_and_activate_are_apart(void **state)
{
    struct weir_server *server = CREATE(UDP, .defer = true);
    int fd;

    (void)state;
    assert_int_equal(weir_server_bind(server), 0);
    assert_int_equal(weir_server_start(server), -EINVAL);
    assert_int_equal(weir_server_activate(server), 0);
    fd = client_of(server, 0);
    assert_int_equal(weir_server_start(server), 0);
    talk(fd, "x", "x!");
    finish(server);
    close(fd);
}

static void an_inherited_socket_is_served(void **state)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct name name = name_of("udp://127.0.0.1:0");
    struct weir_server *server;
    char uri[32];
    int client;

    (void)state;
    assert_int_equal(bind(fd, &name.sa, name.len), 0);
    snprintf(uri, sizeof(uri), "fd://%d", fd);
    server = START(.listen = uri);
    client = client_of(server, 0);
    talk(client, "x", "x!");
    finish(server);
    close(client);
}

static void nothing_is_left_open_behind_a_server(void **state)
{
    size_t before = support_open_descriptors();
    char uri[WEIR_ADDRESS_SIZE];
    struct weir_server *server;
    int fd;

    (void)state;
    server = START(UDP);
    fd = client_of(server, 0);
    talk(fd, "x", "x!");
    close(fd);
    weir_server_address(server, 0, uri, sizeof(uri));
    weir_server_shutdown(server);
    assert_int_equal(weir_server_close(server), 0);
    /* The port is free as soon as it is closed. */
    weir_server_destroy(START(.listen = uri));
    weir_server_destroy(server);
    assert_int_equal(support_open_descriptors(), before);
}

/* ------------------------------------------------------------------ side by side ------ */

static void handlers_run_side_by_side(void **state)
{
    struct weir_server *server = START(UDP);
    int fd = client_of(server, 0);

    (void)state;
    for (int i = 0; i < 3; i++)
        say(fd, "wait");
    SUPPORT_UNTIL(board->waiting == 3);
    talk(fd, "x", "x!");
    board->let_go = true;
    for (int i = 0; i < 3; i++)
        expect(fd, "wait!");
    finish(server);
    close(fd);
}

static void a_handler_may_ask_another_server(void **state)
{
    static char streams[WEIR_ADDRESS_SIZE];
    const struct weir_listen listeners[] = {
        { .address = "udp://127.0.0.1:0", .handler = &relaying },
        { .address = streams, .handler = &exclaimer },
    };
    struct weir_server *server;
    int fd;

    (void)state;
    snprintf(streams, sizeof(streams), "unix:@weir-datagram-streams-%d", (int)getpid());
    server = START(.listeners = listeners, .listeners_len = 2, .user = streams);
    fd = client_of(server, 0);
    talk(fd, "hello", "hello!\n");
    finish(server);
    close(fd);
}

static void close_waits_for_handlers_whose_replies_still_go_out(void **state)
{
    struct weir_server *server = START(UDP);
    int fd = client_of(server, 0);

    (void)state;
    say(fd, "block");
    SUPPORT_UNTIL(board->waiting == 1);
    weir_server_shutdown(server);
    gate_open(&gate);
    finish(server);
    expect(fd, "block!");
    close(fd);
}

static void daemon_handlers_are_cancelled(void **state)
{
    struct weir_server *server = START(UDP, .daemon_threads = true);
    int fd = client_of(server, 0);

    (void)state;
    say(fd, "wait");
    SUPPORT_UNTIL(board->waiting == 1);
    weir_server_shutdown(server);
    assert_int_equal(weir_server_close(server), 0);
    SUPPORT_AWAIT(server, cancelled, == 1);
    weir_server_destroy(server);
    close(fd);
}

static void beyond_max_connections_datagrams_wait_in_the_socket(void **state)
{
    struct weir_server *server = START(UDP, .max_connections = 2);
    int first = client_of(server, 0);
    int second = client_of(server, 0);

    (void)state;
    for (int i = 0; i < 2; i++)
        say(first, "wait");
    SUPPORT_UNTIL(board->waiting == 2);
    for (int i = 0; i < 8; i++)
        say(second, "x");
    assert_int_equal(board->handles, 2);
    SUPPORT_AWAIT(server, active, == 2);
    board->let_go = true;
    for (int i = 0; i < 2; i++)
        expect(first, "wait!");
    for (int i = 0; i < 8; i++)
        expect(second, "x!");
    finish(server);
    close(first);
    close(second);
}

/* ------------------------------------------------------------------ the pool ---------- */

static void a_batch_costs_few_system_calls(void **state)
{
    struct weir_server *server = CREATE(UDP);
    int fd = client_of(server, 0);

    (void)state;
    for (int i = 0; i < 64; i++)
        say(fd, "x");
    assert_int_equal(weir_server_start(server), 0);
    for (int i = 0; i < 64; i++)
        expect(fd, "x!");
    SUPPORT_AWAIT(server, closed, == 64);
    assert_int_equal(weir_server_shutdown(server), 0);
    /* Two full batches, and the looks that find nothing more. */
    assert_in_range(receives, 2, 6);
    assert_in_range(sends, 2, 6);
    finish(server);
    close(fd);
}

static void what_is_behind_a_stuck_handler_is_rescued(void **state)
{
    struct weir_server *server = CREATE(UDP);
    int fds[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        fds[i] = client_of(server, 0);
    say(fds[0], "before");
    say(fds[1], "block");
    say(fds[2], "behind");
    assert_int_equal(weir_server_start(server), 0);
    SUPPORT_UNTIL(board->waiting == 1);
    /* One reply lies in the stuck worker's outbox, one datagram in its batch. */
    expect(fds[0], "before!");
    expect(fds[2], "behind!");
    assert_true(support_stats(server).rescued > 0);
    gate_open(&gate);
    expect(fds[1], "block!");
    finish(server);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}

static void a_handler_may_use_the_workers_own_stack(void **state)
{
    const struct weir_listen listener = { .address = "udp://127.0.0.1:0", .handler = &on_a_thread };
    struct weir_server *server = START(.listeners = &listener, .listeners_len = 1);
    int fd = client_of(server, 0);

    (void)state;
    talk(fd, "x", "x!");
    talk(fd, "y", "y!");
    finish(server);
    close(fd);
}

/*
 * A Unix socket whose queue is bounded: the kernel lets a peer that it is connected to send more.
 */
static int lazy_client(void)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, &(struct sockaddr){ .sa_family = AF_UNIX }, sizeof(sa_family_t)),
                     0);
    be_patient(fd);
    return fd;
}

/* More than such a queue holds. */
static int too_many(void)
{
    FILE *file = fopen("/proc/sys/net/unix/max_dgram_qlen", "re");
    int len = 0;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%d", &len), 1);
    fclose(file);
    return len + 20;
}

static void a_peer_that_does_not_read_delays_nobody(void **state)
{
    struct weir_server *server = START(.listen = unix_name(),
                                       .write_timeout_ms = PLENTY_MS);
    int lazy = lazy_client();
    int other = client_of(server, 0);
    int many = too_many();

    (void)state;
    for (int i = 0; i < many; i++) {
        say_to(lazy, unix_name(), "x");
        talk(other, "y", "y!");
    }
    SUPPORT_AWAIT(server, handled, == 2 * (uint64_t)many);
    assert_true(support_stats(server).active > 0);
    for (int i = 0; i < many; i++)
        expect(lazy, "x!");
    finish(server);
    assert_int_equal(board->told, 0);
    close(lazy);
    close(other);
}

static void a_peer_that_never_reads_is_given_up(void **state)
{
    struct weir_server *server = START(.listen = unix_name(),
                                       .write_timeout_ms = 20);
    int lazy = lazy_client();
    int many = too_many();

    (void)state;
    for (int i = 0; i < many; i++)
        say_to(lazy, unix_name(), "x");
    SUPPORT_AWAIT(server, closed, == (uint64_t)many);
    assert_true(board->told > 0);
    assert_int_equal(board->told_error, -ETIMEDOUT);
    assert_int_equal(support_stats(server).timeouts, board->told);
    finish(server);
    close(lazy);
}

static void a_peer_that_is_gone_is_told_of(void **state)
{
    struct weir_server *server = START(.listen = unix_name());
    int fd = client_of(server, 0);

    (void)state;
    say(fd, "wait");
    SUPPORT_UNTIL(board->waiting == 1);
    close(fd);
    board->let_go = true;
    SUPPORT_UNTIL(board->told == 1);
    assert_int_equal(board->told_error, -ECONNREFUSED);
    finish(server);
}

#define CLIENTS 8
#define ROUNDS 500

static void *ask_again_and_again(void *arg)
{
    int fd = *(int *)arg;
    char question[32], reply[40];

    for (int i = 0; i < ROUNDS; i++) {
        int len = snprintf(question, sizeof(question), "%d", i);

        if (send(fd, question, (size_t)len, 0) != len ||
            recv(fd, reply, sizeof(reply), 0) != len + 1 || memcmp(question, reply, (size_t)len))
            return "a reply that belongs to another question";
    }
    return NULL;
}

static void everybody_gets_the_reply_to_his_own_question(void **state)
{
    struct weir_listen listeners[] = {
        { .address = "udp://127.0.0.1:0" }, { .address = unix_name() },
    };
    struct weir_server *server = START(.listeners = listeners, .listeners_len = 2);
    pthread_t threads[CLIENTS];
    int fds[CLIENTS];

    (void)state;
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = client_of(server, (size_t)i % 2);
        assert_int_equal(pthread_create(&threads[i], NULL, ask_again_and_again, &fds[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        void *wrong;

        pthread_join(threads[i], &wrong);
        assert_null(wrong);
        close(fds[i]);
    }
    SUPPORT_AWAIT(server, closed, == CLIENTS * ROUNDS);
    finish(server);
    assert_int_equal(board->handles, CLIENTS * ROUNDS);
}

/* ------------------------------------------------------------------ main -------------- */

#define TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)
#define HOWEVER \
        TEST(a_datagram_is_answered_over_every_transport), \
        TEST(each_datagram_is_a_request_of_its_own), \
        TEST(what_has_no_reply_is_answered_with_nothing), \
        TEST(an_empty_and_a_failed_reply_are_sent_when_asked_for), \
        TEST(a_long_datagram_is_cut_and_said_to_be), \
        TEST(the_largest_datagram_makes_the_round_trip), \
        TEST(a_reply_that_is_too_long_is_an_error), \
        TEST(both_ends_have_names), \
        TEST(the_reply_comes_from_the_address_that_was_asked), \
        TEST(the_same_of_an_inherited_socket), \
        TEST(who_has_no_name_gets_no_reply_and_harms_nobody), \
        TEST(a_file_can_not_be_sent_as_a_reply), TEST(a_reply_has_no_output_to_end), \
        TEST(a_handler_can_stop_the_server), \
        TEST(what_comes_after_a_shutdown_waits_for_the_next_serving), \
        TEST(refused_senders_are_passed_over), \
        TEST(each_datagram_is_verified), \
        TEST(handle_request_serves_exactly_one), \
        TEST(what_could_not_be_received_is_tried_again), \
        TEST(bind_and_activate_are_apart), \
        TEST(an_inherited_socket_is_served), \
        TEST(nothing_is_left_open_behind_a_server)
#define SIDE_BY_SIDE \
        TEST(handlers_run_side_by_side), \
        TEST(a_handler_may_ask_another_server), \
        TEST(close_waits_for_handlers_whose_replies_still_go_out), \
        TEST(daemon_handlers_are_cancelled), \
        TEST(beyond_max_connections_datagrams_wait_in_the_socket)
#define POOLED \
        TEST(a_handler_may_use_the_workers_own_stack), \
        TEST(a_peer_that_does_not_read_delays_nobody), \
        TEST(a_peer_that_never_reads_is_given_up), \
        TEST(a_peer_that_is_gone_is_told_of), \
        TEST(everybody_gets_the_reply_to_his_own_question)

static int run(const char *name, struct weir_options options, const struct CMUnitTest *tests,
               size_t len)
{
    how = options;
    return _cmocka_run_group_tests(name, tests, len, NULL, NULL);
}

#define RUN(name, tests, ...) \
        run(name, (struct weir_options){ __VA_ARGS__ }, tests, sizeof(tests) / sizeof(tests[0]))

int main(void)
{
    const struct CMUnitTest serial[] = { HOWEVER };
    const struct CMUnitTest side_by_side[] = { HOWEVER, SIDE_BY_SIDE };
    const struct CMUnitTest pool[] = { HOWEVER, SIDE_BY_SIDE, POOLED };
    const struct CMUnitTest pool_of_one[] = {
        HOWEVER, SIDE_BY_SIDE, POOLED, TEST(a_batch_costs_few_system_calls),
    };
    const struct CMUnitTest pool_of_several[] = {
        HOWEVER, SIDE_BY_SIDE, POOLED, TEST(what_is_behind_a_stuck_handler_is_rescued),
    };
    int failed;

    board = support_board(sizeof(*board));
    failed = RUN("fork", side_by_side, .concurrency = WEIR_FORK);
    failed += RUN("serial", serial, .concurrency = WEIR_SERIAL);
    failed += RUN("thread", side_by_side, .concurrency = WEIR_THREAD);
    failed += RUN("one worker", pool_of_one, .workers = 1);
    failed += RUN("three workers", pool_of_several, .workers = 3);
    failed += RUN("dispatch by the acceptor", pool, .workers = 2,
                  .dispatch = WEIR_DISPATCH_ACCEPTOR);
    return failed;
}
