/*
 * connect_test.c - streams that a handler opens to other servers.
 */
#include "tests/stream.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* ------------------------------------------------------------------ the back ---------- */

/* The server that the handlers under test connect to: answers "x" with "X", and ends on "bye". */
static struct weir_server *back;
static char back_address[WEIR_ADDRESS_SIZE];

static int shout(struct weir_request *req)
{
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, 100)) > 0) {
        if (n == 4 && memcmp(line, "bye\n", 4) == 0)
            return 0;
        for (ssize_t i = 0; i < n; i++)
            if (line[i] >= 'a' && line[i] <= 'z')
                line[i] = (char)(line[i] - 0x20);
        weir_write(req, line, (size_t)n);
    }
    return (int)n;
}

static const struct weir_handler shouter = { .name = "shouter", .handle = shout };

static int begin(void **state)
{
    back = support_start(WEIR_OPTIONS(.listen = stream_listen(), .handler = &shouter,
                                      .workers = 2, .dispatch = way->dispatch));
    weir_server_address(back, 0, back_address, sizeof(back_address));
    return stream_begin(state);
}

static int end(void **state)
{
    stream_end(state);
    weir_server_shutdown(back);
    weir_server_cancel(back);
    weir_server_destroy(back);
    return 0;
}

#define CONNECT_TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)

/* ------------------------------------------------------------------ talking ----------- */

static void note_answer(struct weir_request *peer)
{
    char *line;
    ssize_t n = weir_readline(peer, &line, 100);

    if (n > 0)
        note_bytes(line, (size_t)n - 1);
    else
        note("%zd", n);
    note(",");
}

static int ask_the_back(struct weir_request *req)
{
    struct weir_request *peer;
    int r = weir_connect(req, weir_user(req), 0, &peer);

    note("%d,", r);
    if (r < 0)
        return 0;
    weir_write(peer, "hello\n", 6);
    note_answer(peer);
    weir_write(peer, "a\nb\n", 4);
    note_answer(peer);
    note_answer(peer);
    weir_write(peer, "bye\n", 4);
    note_answer(peer);
    weir_hangup(peer);
    note("done");
    return 0;
}

static void a_handler_talks_to_another_server(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(ask_the_back, .user = back_address);
    support_talk(server, 0, "", "");
    notes_expect("0,HELLO,A,B,0,done");
    /* Streams that were opened are not the server's connections. */
    assert_int_equal(support_stats(server).accepted, 1);
    SUPPORT_AWAIT(server, closed, == 1);
}

static int end_output_to_the_back(struct weir_request *req)
{
    struct weir_request *peer;

    if (weir_connect(req, weir_user(req), 0, &peer) < 0)
        return -EIO;
    weir_write(peer, "last\n", 5);
    note("%d,", weir_end_output(peer));
    note_answer(peer);
    /* The back has answered all that came before its end of file, and is done. */
    note_answer(peer);
    weir_write(req, "fine", 4);
    return 0;
}

static void a_stream_may_end_its_output_and_still_be_read(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(end_output_to_the_back, .user = back_address);
    support_talk(server, 0, "", "fine");
    notes_expect("0,LAST,0,");
}

static void names_are_resolved(void **state)
{
    static char address[2 * WEIR_ADDRESS_SIZE];
    char number[WEIR_ADDRESS_SIZE];
    struct weir_server *server;
    struct weir_server *named;

    (void)state;
    if (way->family != AF_INET)
        skip();
    /* It listens where the same name leads, be that IPv4 or IPv6. */
    named = support_start(WEIR_OPTIONS(.listen = "tcp://localhost:0", .handler = &shouter));
    weir_server_address(named, 0, number, sizeof(number));
    snprintf(address, sizeof(address), "tcp://localhost%s", strrchr(number, ':'));
    server = STREAM_SERVE(ask_the_back, .user = address);
    support_talk(server, 0, "", "");
    notes_expect("0,HELLO,A,B,0,done");
    weir_server_shutdown(named);
    weir_server_destroy(named);
}

/*
 * A resolver with a host "many", which has more addresses than one: 127.0.0.2 and so on, at the
 * last of which, 127.0.0.1, the back is. And one without patience: at 127.0.0.2 it has run out at
 * once. A host "nameless" it does not know.
 */
#define MANY 9

int __real_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret);
int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret);
int __real_connect(int fd, const struct sockaddr *name, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *name, socklen_t len);

int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret)
{
    struct addrinfo **link = ret;
    int r = 0;

    if (node && strcmp(node, "nameless") == 0)
        return EAI_NONAME;
    if (!node || strcmp(node, "many") != 0)
        return __real_getaddrinfo(node, service, hints, ret);
    if (hints && hints->ai_flags & AI_NUMERICHOST)
        return EAI_NONAME;
    for (int i = 0; i < MANY && r == 0; i++) {
        char number[32];

        snprintf(number, sizeof(number), "127.0.0.%d", i == MANY - 1 ? 1 : i + 2);
        r = __real_getaddrinfo(number, service, hints, link);
        link = &(*link)->ai_next;
    }
    return r;
}

int __wrap_connect(int fd, const struct sockaddr *name, socklen_t len)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)name;

    if (in->sin_family == AF_INET && in->sin_addr.s_addr == htonl(INADDR_LOOPBACK + 1)) {
        errno = ETIMEDOUT;
        return -1;
    }
    return __real_connect(fd, name, len);
}

static void every_address_of_a_name_is_tried(void **state)
{
    static const char *const names[] = { "many", "localhost" };
    static char address[2 * WEIR_ADDRESS_SIZE];

    (void)state;
    if (way->family != AF_INET)
        skip();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct weir_server *server;

        snprintf(address, sizeof(address), "tcp://%s%s", names[i], strrchr(back_address, ':'));
        server = STREAM_SERVE(ask_the_back, .user = address, .read_timeout_ms = 0);
        support_talk(server, 0, "", "");
        notes_expect("0,HELLO,A,B,0,done");
        stream_end(NULL);
        stream_begin(NULL);
    }
}

/* Writes the sentence of each address that can't be connected to. */
static int connect_in_vain(struct weir_request *req)
{
    static const char *const addresses[] = {
        "127.0.0.1:80", "udp://127.0.0.1:80", "unix:@weir-nobody", "tcp://nameless:1",
    };

    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        struct weir_request *peer;
        int r = weir_connect(req, addresses[i], 0, &peer);

        note("%d %s\n", r, weir_why());
    }
    return 0;
}

static void why_it_was_in_vain_is_told(void **state)
{
    char sentences[600];

    (void)state;
    snprintf(sentences, sizeof(sentences),
             "%d 127.0.0.1:80: an address begins with tcp://, udp://, unix:, unixgram: or fd://\n"
             "%d udp://127.0.0.1:80: weir_connect opens streams: tcp://HOST:PORT, unix:///PATH or "
             "unix:@NAME\n"
             "%d unix:@weir-nobody: Connection refused\n"
             "%d tcp://nameless:1: there is no host of that name: nameless\n",
             -EINVAL, -EINVAL, -ECONNREFUSED, -ENOENT);
    support_talk(STREAM_SERVE(connect_in_vain, .user = NULL), 0, "", "");
    notes_expect(sentences);
}

/* A line from the client to the back, its answer to the client, and so on. */
static int forward(struct weir_request *req)
{
    struct weir_request *peer;
    char *line;
    ssize_t n;
    int r = weir_connect(req, weir_user(req), 0, &peer);

    if (r < 0)
        return r;
    while ((n = weir_readline(req, &line, 100)) > 0) {
        weir_write(peer, line, (size_t)n);
        n = weir_readline(peer, &line, 100);
        if (n <= 0)
            break;
        weir_write(req, line, (size_t)n);
    }
    return (int)n;
}

#define CLIENTS 20

static void a_proxy_between_many_clients_and_another_server(void **state)
{
    struct weir_server *server;
    int fds[CLIENTS];

    (void)state;
    if (way->stack == WEIR_STACK_THREAD)
        skip();
    server = STREAM_SERVE(forward, .user = back_address);
    for (size_t i = 0; i < CLIENTS; i++)
        fds[i] = support_connect(server, 0);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < CLIENTS; i++)
            support_say(fds[i], "ping\nagain\n");
        for (size_t i = 0; i < CLIENTS; i++)
            support_expect(fds[i], "PING\nAGAIN\n");
    }
    for (size_t i = 0; i < CLIENTS; i++)
        close(fds[i]);
    /* Each stream to the back ends with its handler. */
    SUPPORT_AWAIT(server, closed, == CLIENTS);
    SUPPORT_AWAIT(back, closed, == CLIENTS);
}

#define SEVERAL 5

/* Asks all before it reads any answer, last one first; closes some, and leaves the others. */
static int ask_several(struct weir_request *req)
{
    struct weir_request *peers[SEVERAL];

    for (int i = 0; i < SEVERAL; i++) {
        if (weir_connect(req, weir_user(req), 0, &peers[i]) < 0)
            return -EIO;
        weir_printf(peers[i], "from %d\n", i);
        weir_flush(peers[i]);
    }
    for (int i = SEVERAL; i-- > 0; )
        note_answer(peers[i]);
    weir_hangup(peers[2]);
    weir_hangup(peers[4]);
    weir_hangup(peers[0]);
    return 0;
}

static void several_may_be_open_and_are_closed_with_the_handler(void **state)
{
    struct weir_server *server;
    size_t before = support_open_descriptors();

    (void)state;
    server = STREAM_SERVE(ask_several, .user = back_address);
    support_talk(server, 0, "", "");
    notes_expect("FROM 4,FROM 3,FROM 2,FROM 1,FROM 0,");
    SUPPORT_AWAIT(back, closed, == SEVERAL);
    stream_end(state);
    SUPPORT_UNTIL(support_open_descriptors() == before);
}

static int leave_words(struct weir_request *req)
{
    struct weir_request *peer;
    struct weir_request *other;

    if (weir_connect(req, weir_user(req), 0, &peer) < 0 ||
        weir_connect(req, weir_user(req), 0, &other) < 0)
        return -EIO;
    weir_write(peer, "by hangup", 9);
    weir_hangup(peer);
    weir_write(other, "by return", 9);
    return 0;
}

static void what_was_written_leaves_when_it_is_closed(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(leave_words, .user = back_address);
    support_talk(server, 0, "", "");
    SUPPORT_AWAIT(back, bytes_in, == 18);
}

/* More than any socket holds. */
#define WORDS ((size_t)16 << 20)

static int leave_words_to_the_deaf(struct weir_request *req)
{
    static const char words[WORDS];
    struct weir_request *peer;

    if (weir_connect(req, weir_user(req), 0, &peer) < 0)
        return -EIO;
    weir_write(peer, words, sizeof(words));
    weir_hangup(peer);
    note("rid of it");
    return 0;
}

static void a_hangup_does_not_wait_for_ever(void **state)
{
    static char address[WEIR_ADDRESS_SIZE];
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(addr);
    int deaf = socket(AF_INET, SOCK_STREAM, 0);
    struct weir_server *server;
    int fd;

    (void)state;
    /* It takes five seconds. */
    if (way != ways)
        skip();
    assert_int_equal(bind(deaf, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(deaf, 1), 0);
    getsockname(deaf, (struct sockaddr *)&addr, &len);
    snprintf(address, sizeof(address), "tcp://127.0.0.1:%d", ntohs(addr.sin_port));
    server = STREAM_SERVE(leave_words_to_the_deaf, .user = address, .wbufsize = WORDS + 1);
    fd = support_connect(server, 0);
    notes_expect("rid of it");
    close(fd);
    close(deaf);
}

static int note_belongings(struct weir_request *req)
{
    char text[WEIR_ADDRESS_SIZE];
    struct weir_request *peer;
    struct weir_request *second;

    if (weir_connect(req, weir_user(req), 0, &peer) < 0 ||
        weir_connect(peer, weir_user(req), 0, &second) < 0)
        return -EIO;
    note("%s,", weir_peer_text(second, text, sizeof(text)));
    note(weir_user(second) == weir_user(req) ? "user " : "");
    note(weir_handler_data(peer) == weir_handler_data(req) ? "data " : "");
    note(weir_worker_number(peer) == weir_worker_number(req) ? "worker " : "");
    note(weir_request_fd(peer) != weir_request_fd(second) ? "fds" : "");
    return 0;
}

static void an_opened_stream_is_a_request_of_the_same_handler(void **state)
{
    char expect[2 * WEIR_ADDRESS_SIZE];
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(note_belongings, .user = back_address);
    support_talk(server, 0, "", "");
    snprintf(expect, sizeof(expect), "%s,user data worker fds",
             way->family == AF_INET ? back_address + strlen("tcp://") : back_address);
    notes_expect(expect);
}

/* ------------------------------------------------------------------ failing ----------- */

static int note_connect(struct weir_request *req)
{
    struct weir_request *untouched = req;
    struct weir_request *peer = untouched;

    note("%d", weir_connect(req, weir_user(req), 50, &peer));
    note(peer == untouched ? "" : "touched");
    return 0;
}

static void expect_no_connection(char *address, const char *error)
{
    size_t before = support_open_descriptors();
    struct weir_server *server = STREAM_SERVE(note_connect, .user = address);

    support_talk(server, 0, "", "");
    notes_expect(error);
    stream_end(NULL);
    stream_begin(NULL);
    SUPPORT_UNTIL(support_open_descriptors() == before);
}

static void what_is_no_address_is_refused(void **state)
{
    static char *const wrong[] = {
        "", "localhost:80", "tcp://127.0.0.1", "tcp://127.0.0.1:65536", "unix:relative", "fd://0",
        "udp://127.0.0.1:80", "udp://localhost:80", "unixgram:///x", "unixgram:@x",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        expect_no_connection(wrong[i], "-22");
}

static void an_address_where_nobody_listens_is_refused(void **state)
{
    (void)state;
    weir_server_shutdown(back);
    weir_server_close(back);
    expect_no_connection(back_address, "-111");
    expect_no_connection("unix:///nowhere/at/all", "-2");
}

/* A listener that nobody accepts from, filled with connections until there is room for no more. */
struct full {
    int listener;
    int clients[64];
    size_t clients_len;
    char address[64];
};

static void fill(struct full *full)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    socklen_t len;
    int fd;

    snprintf(full->address, sizeof(full->address), "unix:@weir-full-%d", (int)getpid());
    len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(full->address) - 5);
    memcpy(name.sun_path, full->address + 5, strlen(full->address) - 5);
    name.sun_path[0] = '\0';
    full->clients_len = 0;
    full->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(full->listener, (const struct sockaddr *)&name, len), 0);
    assert_int_equal(listen(full->listener, 1), 0);
    for (;;) {
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connect(fd, (const struct sockaddr *)&name, len) < 0)
            break;
        full->clients[full->clients_len++] = fd;
        assert_true(full->clients_len < 64);
    }
    assert_int_equal(errno, EAGAIN);
    close(fd);
}

static void empty(struct full *full)
{
    while (full->clients_len > 0)
        close(full->clients[--full->clients_len]);
    close(full->listener);
}

static void a_full_listener_ends_the_connecting_in_time(void **state)
{
    static struct full full;
    uint64_t began_ms = support_now_ms();

    (void)state;
    fill(&full);
    expect_no_connection(full.address, "-110");
    assert_true(support_now_ms() - began_ms >= 50);
    empty(&full);
}

static int connect_patiently(struct weir_request *req)
{
    struct weir_request *peer;

    note("tries,");
    note("%d", weir_connect(req, weir_user(req), 0, &peer));
    return 0;
}

static void a_full_listener_lets_it_in_when_there_is_room(void **state)
{
    static struct full full;
    struct weir_server *server;
    int fd;

    (void)state;
    fill(&full);
    server = STREAM_SERVE(connect_patiently, .user = full.address);
    fd = support_connect(server, 0);
    notes_expect("tries,");
    close(accept(full.listener, NULL, NULL));
    notes_expect("tries,0");
    close(fd);
    empty(&full);
}

static void a_cancel_ends_the_connecting(void **state)
{
    static struct full full;
    struct weir_server *server;
    int fd;

    (void)state;
    fill(&full);
    server = STREAM_SERVE(connect_patiently, .user = full.address);
    fd = support_connect(server, 0);
    notes_expect("tries,");
    weir_server_cancel(server);
    notes_expect("tries,-125");
    close(fd);
    empty(&full);
}

/* The other side resets: an error of that stream; the client's own goes on. */
static int survive(struct weir_request *req)
{
    struct weir_request *peer;
    ssize_t n;

    if (weir_connect(req, weir_user(req), 0, &peer) < 0)
        return -EIO;
    weir_write(peer, "bye\n", 4);
    note_answer(peer);
    do
        n = weir_printf(peer, "are you there?\n") < 0 ? -1 : weir_flush(peer);
    while (n >= 0);
    note(weir_flush(peer) == -EPIPE || weir_flush(peer) == -ECONNRESET ? "gone" : "?");
    weir_write(req, "fine", 4);
    return 0;
}

static void an_opened_stream_that_breaks_harms_no_other(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(survive, .user = back_address);
    support_talk(server, 0, "", "fine");
    notes_expect("0,gone");
    assert_int_equal(support_stats(server).handle_errors, 0);
}

static int wait_for_nothing(struct weir_request *req)
{
    struct weir_request *peer;
    char *line;

    if (weir_connect(req, weir_user(req), 0, &peer) < 0)
        return -EIO;
    note("%zd,", weir_readline(peer, &line, 100));
    note("%zd,", weir_readline(peer, &line, 100));
    note("%zd", weir_readline(req, &line, 100));
    return 0;
}

static void reading_from_an_opened_stream_times_out_too(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(wait_for_nothing, .user = back_address, .read_timeout_ms = 50);
    fd = support_connect(server, 0);
    support_say(fd, "x\n");
    notes_expect("-110,-110,2");
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONNECT_TEST(a_handler_talks_to_another_server),
        CONNECT_TEST(a_stream_may_end_its_output_and_still_be_read),
        CONNECT_TEST(names_are_resolved),
        CONNECT_TEST(every_address_of_a_name_is_tried),
        CONNECT_TEST(why_it_was_in_vain_is_told),
        CONNECT_TEST(a_proxy_between_many_clients_and_another_server),
        CONNECT_TEST(several_may_be_open_and_are_closed_with_the_handler),
        CONNECT_TEST(what_was_written_leaves_when_it_is_closed),
        CONNECT_TEST(a_hangup_does_not_wait_for_ever),
        CONNECT_TEST(an_opened_stream_is_a_request_of_the_same_handler),
        CONNECT_TEST(what_is_no_address_is_refused),
        CONNECT_TEST(an_address_where_nobody_listens_is_refused),
        CONNECT_TEST(a_full_listener_ends_the_connecting_in_time),
        CONNECT_TEST(a_full_listener_lets_it_in_when_there_is_room),
        CONNECT_TEST(a_cancel_ends_the_connecting),
        CONNECT_TEST(an_opened_stream_that_breaks_harms_no_other),
        CONNECT_TEST(reading_from_an_opened_stream_times_out_too),
    };

    return STREAM_RUN(tests, WAYS);
}
