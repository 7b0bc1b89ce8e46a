/*
 * submit_test.c - connections that a program gives to its server: weir_submit and weir_submit_fd.
 */
#include "tests/stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

/* "x" -> "x!", once for each line, kept in between. */
static int exclaim(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    weir_write(req, line, (size_t)n - 1);
    weir_write(req, "!\n", 2);
    return WEIR_KEEP;
}

static int whisper(struct weir_request *req)
{
    weir_write(req, "psst\n", 5);
    return 0;
}

static const struct weir_handler exclaimer = { .name = "exclaimer", .handle = exclaim };
static const struct weir_handler whisperer = { .name = "whisperer", .handle = whisper };
static struct weir_handler whisperer_of_way;

static int begin(void **state)
{
    whisperer_of_way = whisperer;
    whisperer_of_way.stack = way->stack;
    return stream_begin(state);
}

#define SUBMIT_TEST(test) cmocka_unit_test_setup_teardown(test, begin, stream_end)

static void be_patient(int fd)
{
    const struct timeval plenty = { .tv_sec = PLENTY_MS / 1000 };

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &plenty, sizeof(plenty));
}

static void make_unix_pair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    be_patient(pair[0]);
}

/* pair[0] is the client, pair[1] what was accepted. */
static void make_tcp_pair(int pair[2])
{
    struct sockaddr_in name = { .sin_family = AF_INET };
    socklen_t len = sizeof(name);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (const struct sockaddr *)&name, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&name, &len), 0);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(pair[0], (const struct sockaddr *)&name, len), 0);
    pair[1] = accept(listener, NULL, NULL);
    assert_true(pair[1] >= 0);
    close(listener);
    be_patient(pair[0]);
}

static void make_pair(int pair[2])
{
    if (way->family == AF_UNIX)
        make_unix_pair(pair);
    else
        make_tcp_pair(pair);
}

static void submit(struct weir_server *server, int fd, const struct weir_handler *handler)
{
    if (weir_submit_fd(server, fd, handler) < 0)
        fail_msg("%s", weir_why());
}

/* ------------------------------------------------------------------ being served ------ */

static void it_is_served_as_if_it_had_been_accepted(void **state)
{
    struct weir_server *server = STREAM_SERVE(exclaim);
    int pair[2];

    (void)state;
    make_pair(pair);
    submit(server, pair[1], NULL);
    support_say(pair[0], "one\n");
    support_expect(pair[0], "one!\n");
    SUPPORT_AWAIT(server, idle, == 1);
    support_say(pair[0], "two\n");
    support_expect(pair[0], "two!\n");
    assert_int_equal(support_stats(server).accepted, 1);
    close(pair[0]);
    SUPPORT_AWAIT(server, closed, == 1);
}

static void its_handler_may_be_another(void **state)
{
    struct weir_server *server = STREAM_SERVE(exclaim);
    int pair[2];

    (void)state;
    make_pair(pair);
    submit(server, pair[1], &whisperer_of_way);
    support_expect(pair[0], "psst\n");
    support_expect_end(pair[0]);
    /* It is the server's to close, and it does. */
    SUPPORT_UNTIL(fcntl(pair[1], F_GETFD) < 0);
    close(pair[0]);
}

static int tell_about_itself(struct weir_request *req)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    char text[WEIR_ADDRESS_SIZE];
    int fd = weir_request_fd(req);
    int nodelay = 0;
    socklen_t nodelay_len = sizeof(nodelay);

    note("%s;", weir_peer_text(req, text, sizeof(text)));
    note(fcntl(fd, F_GETFD) & FD_CLOEXEC ? "cloexec;" : "");
    note(fcntl(fd, F_GETFL) & O_NONBLOCK ? "nonblock;" : "");
    if (weir_peer_address(req, &peer, &len) == 0 && peer.ss_family == AF_INET)
        getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &nodelay_len);
    note(nodelay ? "nodelay;" : "");
    return 0;
}

static void its_peer_is_known_and_its_flags_are_set(void **state)
{
    struct weir_server *server = STREAM_SERVE(tell_about_itself, .disable_nagle_algorithm = true);
    struct sockaddr_in name = { 0 };
    socklen_t len = sizeof(name);
    char expect[128] = "unix:;cloexec;nonblock;";
    int pair[2];

    (void)state;
    make_pair(pair);
    getsockname(pair[0], (struct sockaddr *)&name, &len);
    if (way->family == AF_INET)
        snprintf(expect, sizeof(expect), "127.0.0.1:%u;cloexec;nonblock;nodelay;",
                 (unsigned)ntohs(name.sin_port));
    submit(server, pair[1], NULL);
    support_expect_end(pair[0]);
    notes_expect(expect);
    close(pair[0]);
}

static void before_the_server_serves_and_after_it_has(void **state)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listen = stream_listen(), .handler = &whisperer_of_way, .workers = 2,
        .dispatch = way->dispatch));
    int before[2];
    int after[2];

    (void)state;
    make_pair(before);
    submit(server, before[1], NULL);
    support_expect(before[0], "psst\n");
    support_expect_end(before[0]);
    assert_int_equal(weir_server_start(server), 0);
    support_talk(server, 0, "", "psst\n");
    weir_server_shutdown(server);
    make_pair(after);
    submit(server, after[1], NULL);
    support_expect(after[0], "psst\n");
    assert_int_equal(weir_server_close(server), 0);
    assert_int_equal(support_stats(server).closed, 3);
    weir_server_destroy(server);
    close(before[0]);
    close(after[0]);
}

static int refuse(struct weir_server *server, const struct weir_peer *peer)
{
    (void)server;
    (void)peer;
    return 0;
}

static void verify_request_is_not_asked(void **state)
{
    struct weir_server *server = STREAM_SERVE(exclaim, .verify_request = refuse);
    int pair[2];

    (void)state;
    make_pair(pair);
    submit(server, pair[1], NULL);
    support_say(pair[0], "hear me\n");
    support_expect(pair[0], "hear me!\n");
    assert_int_equal(support_stats(server).refused, 0);
    close(pair[0]);
}

/* ------------------------------------------------------------------ by whom ----------- */

/* Makes a pair, and sends its client's words on as its own. */
static int ask_a_second_handler(struct weir_request *req)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
        return -EIO;
    note("%d,", weir_submit_fd(weir_request_server(req), pair[1], &whisperer_of_way));
    note("%d", weir_submit_fd(weir_request_server(req), weir_request_fd(req), NULL));
    weir_write(req, "asked\n", 6);
    close(pair[0]);
    return 0;
}

static void a_handler_may_do_it_but_not_with_its_own(void **state)
{
    struct weir_server *server = STREAM_SERVE(ask_a_second_handler);

    (void)state;
    support_talk(server, 0, "", "asked\n");
    notes_expect("0,-16");
    SUPPORT_AWAIT(server, closed, == 2);
}

#define THREADS 4
#define EACH 25

static void *submit_many(void *server)
{
    for (int i = 0; i < EACH; i++) {
        char word[5];
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 ||
            weir_submit_fd(server, pair[1], &whisperer_of_way) < 0 ||
            recv(pair[0], word, sizeof(word), MSG_WAITALL) != sizeof(word))
            note("failed;");
        close(pair[0]);
    }
    return NULL;
}

static void several_threads_may_do_it_at_once(void **state)
{
    struct weir_server *server = STREAM_SERVE(exclaim);
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, server), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    SUPPORT_AWAIT(server, closed, == THREADS * EACH);
    assert_int_equal(support_stats(server).accepted, THREADS * EACH);
    assert_int_equal(notes_len(), 0);
}

/* ------------------------------------------------------------------ with an argument -- */

static const char *arg_text(struct weir_request *req)
{
    const char *arg = weir_arg(req);

    return arg ? arg : "none";
}

static int set_up_arg(struct weir_request *req)
{
    note("setup %s;", arg_text(req));
    return 0;
}

/* Fills the state: the argument is not in it. */
static int tell_arg(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    memset(weir_state(req), 'x', 3);
    weir_printf(req, "%s\n", arg_text(req));
    return WEIR_KEEP;
}

static int finish_arg(struct weir_request *req, int status)
{
    (void)status;
    note("finish %s;", arg_text(req));
    return 0;
}

static struct weir_handler arg_teller = {
    .name = "arg", .setup = set_up_arg, .handle = tell_arg, .finish = finish_arg, .state_size = 3,
};

static int submit_with(struct weir_server *server, const struct weir_handler *handler, void *arg)
{
    int pair[2];

    make_pair(pair);
    if (weir_submit(server, pair[1], handler, arg) < 0)
        fail_msg("%s", weir_why());
    return pair[0];
}

static void every_call_of_its_handler_has_its_argument(void **state)
{
    struct weir_server *server = STREAM_SERVE(exclaim);
    char one[] = "one";
    char two[] = "two";
    int first;
    int second;

    (void)state;
    arg_teller.stack = way->stack;
    first = submit_with(server, &arg_teller, one);
    support_say(first, "x\n");
    support_expect(first, "one\n");
    second = submit_with(server, &arg_teller, two);
    support_say(second, "x\n");
    support_expect(second, "two\n");
    SUPPORT_AWAIT(server, idle, == 2);
    support_say(first, "x\n");
    support_expect(first, "one\n");
    close(first);
    SUPPORT_AWAIT(server, closed, == 1);
    close(second);
    notes_expect("setup one;setup two;finish one;finish two;");
}

static void without_one_it_is_null(void **state)
{
    struct weir_server *server;
    int accepted;
    int pair[2];

    (void)state;
    arg_teller.stack = way->stack;
    server = stream_serve(&arg_teller, WEIR_OPTIONS(.workers = 2));
    accepted = support_ask(server, 0, "x\n");
    support_expect(accepted, "none\n");
    make_pair(pair);
    submit(server, pair[1], NULL);
    support_say(pair[0], "x\n");
    support_expect(pair[0], "none\n");
    close(accepted);
    close(pair[0]);
    notes_expect("setup none;setup none;finish none;finish none;");
}

/* ------------------------------------------------------------------ being refused ----- */

static void expect_refused(struct weir_server *server, int fd, const struct weir_handler *handler,
                           int error, const char *why)
{
    assert_int_equal(weir_submit_fd(server, fd, handler), error);
    if (!strstr(weir_why(), why))
        fail_msg("\"%s\" does not say \"%s\"", weir_why(), why);
}

static void what_is_no_connected_stream_is_refused(void **state)
{
    struct weir_server *server = STREAM_SERVE(exclaim);
    int lonely = socket(AF_INET, SOCK_STREAM, 0);
    int datagrams[2];
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams), 0);
    expect_refused(server, -1, NULL, -EBADF, "descriptor -1 can't be served");
    expect_refused(server, ends[0], NULL, -ENOTSOCK, "");
    expect_refused(server, datagrams[0], NULL, -EPROTOTYPE, "it is no stream socket");
    expect_refused(server, lonely, NULL, -ENOTCONN, "");
    assert_int_equal(support_stats(server).accepted, 0);
    /* Each is still ours. */
    assert_int_equal(close(lonely) | close(ends[0]) | close(ends[1]) | close(datagrams[0]) |
                     close(datagrams[1]), 0);
}

static void a_handler_that_is_none_is_refused(void **state)
{
    const struct weir_handler nameless = { .handle = exclaim };
    const struct weir_handler huge = { .name = "h", .handle = exclaim, .state_size = SIZE_MAX };
    const struct weir_listen listens[] = { { .address = stream_listen(), .handler = &exclaimer } };
    struct weir_server *server = support_start(WEIR_OPTIONS(.listeners = listens,
                                                            .listeners_len = 1));
    int pair[2];

    (void)state;
    make_pair(pair);
    expect_refused(server, pair[1], &nameless, -EINVAL, "has no name");
    assert_int_equal(weir_submit(server, pair[1], &nameless, server), -EINVAL);
    assert_non_null(strstr(weir_why(), "weir_submit: "));
    expect_refused(server, pair[1], &huge, -EINVAL, "state_size");
    expect_refused(server, pair[1], NULL, -EINVAL, "no handler");
    weir_server_shutdown(server);
    weir_server_destroy(server);
    close(pair[0]);
    close(pair[1]);
}

static void max_connections_count(void **state)
{
    struct weir_server *server = STREAM_SERVE(exclaim, .max_connections = 1);
    int first[2];
    int second[2];

    (void)state;
    make_pair(first);
    make_pair(second);
    submit(server, first[1], NULL);
    expect_refused(server, second[1], NULL, -EAGAIN, "max_connections are open");
    close(first[0]);
    SUPPORT_UNTIL(weir_submit_fd(server, second[1], NULL) == 0);
    support_say(second[0], "now\n");
    support_expect(second[0], "now!\n");
    close(second[0]);
}

struct submission {
    struct weir_server *server;
    int fd;
};

static void *submit_and_serve(void *arg)
{
    const struct submission *submission = arg;

    weir_submit_fd(submission->server, submission->fd, NULL);
    return NULL;
}

static void *shut_down(void *server)
{
    weir_server_shutdown(server);
    return NULL;
}

static void join_in_time(pthread_t thread)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PLENTY_MS / 1000;
    assert_int_equal(pthread_timedjoin_np(thread, NULL, &until), 0);
}

/* A serial server, what a thread has submitted to it, and the client that waits behind that one. */
struct queue {
    struct submission submission;
    pthread_t submitter;
    int kept;
    int next;
};

/* Its acceptor has a client in hand, and waits behind the submitted one that is kept. */
static void line_up(struct queue *queue, uint32_t drain_timeout_ms, bool submits_first)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listen = support_abstract("submit"), .handler = &exclaimer,
        .concurrency = WEIR_SERIAL, .drain_timeout_ms = drain_timeout_ms));
    int pair[2];

    make_pair(pair);
    queue->kept = pair[0];
    queue->submission = (struct submission){ .server = server, .fd = pair[1] };
    if (!submits_first)
        assert_int_equal(weir_server_start(server), 0);
    assert_int_equal(pthread_create(&queue->submitter, NULL, submit_and_serve,
                                    &queue->submission), 0);
    support_say(queue->kept, "kept\n");
    support_expect(queue->kept, "kept!\n");
    if (submits_first)
        assert_int_equal(weir_server_start(server), 0);
    queue->next = support_ask(server, 0, "next\n");
    /* The submitted one counts once it has been served. */
    SUPPORT_AWAIT(server, accepted, == 1);
}

/* Expects that a shutdown returns, and that who waited has been served by then. */
static void stop_and_destroy(struct queue *queue, unsigned cancelled)
{
    struct weir_server *server = queue->submission.server;
    pthread_t closer;

    assert_int_equal(pthread_create(&closer, NULL, shut_down, server), 0);
    join_in_time(closer);
    join_in_time(queue->submitter);
    support_expect_end(queue->kept);
    support_expect(queue->next, "next!\n");
    assert_int_equal(support_stats(server).cancelled, cancelled);
    close(queue->kept);
    close(queue->next);
    weir_server_destroy(server);
}

static void a_stop_ends_one_that_a_serial_server_keeps(void **state)
{
    struct queue queue;

    (void)state;
    line_up(&queue, PLENTY_MS, false);
    stop_and_destroy(&queue, 0);
}

static void a_stop_ends_one_that_was_submitted_before_serving(void **state)
{
    struct queue queue;

    (void)state;
    line_up(&queue, PLENTY_MS, true);
    stop_and_destroy(&queue, 0);
}

/* Its handler waits for the rest of a line, which does not come. */
static void a_stop_cancels_one_that_waits_in_its_handler(void **state)
{
    struct queue queue;

    (void)state;
    line_up(&queue, 50, false);
    support_say(queue.kept, "unfinished");
    stop_and_destroy(&queue, 1);
}

static void a_closed_server_takes_none(void **state)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listen = stream_listen(), .handler = &exclaimer));
    int pair[2];

    (void)state;
    make_pair(pair);
    assert_int_equal(weir_server_close(server), 0);
    expect_refused(server, pair[1], NULL, -ESHUTDOWN, "the server was closed");
    weir_server_destroy(server);
    close(pair[0]);
    assert_int_equal(close(pair[1]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SUBMIT_TEST(it_is_served_as_if_it_had_been_accepted),
        SUBMIT_TEST(its_handler_may_be_another),
        SUBMIT_TEST(its_peer_is_known_and_its_flags_are_set),
        SUBMIT_TEST(before_the_server_serves_and_after_it_has),
        SUBMIT_TEST(verify_request_is_not_asked),
        SUBMIT_TEST(a_handler_may_do_it_but_not_with_its_own),
        SUBMIT_TEST(several_threads_may_do_it_at_once),
        SUBMIT_TEST(every_call_of_its_handler_has_its_argument),
        SUBMIT_TEST(without_one_it_is_null),
        SUBMIT_TEST(what_is_no_connected_stream_is_refused),
        SUBMIT_TEST(a_handler_that_is_none_is_refused),
        SUBMIT_TEST(max_connections_count),
        SUBMIT_TEST(a_stop_ends_one_that_a_serial_server_keeps),
        SUBMIT_TEST(a_stop_ends_one_that_was_submitted_before_serving),
        SUBMIT_TEST(a_stop_cancels_one_that_waits_in_its_handler),
        SUBMIT_TEST(a_closed_server_takes_none),
    };

    return STREAM_RUN(tests, WAYS);
}
