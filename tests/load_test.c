/* load_test.c - tools/load/load.h: that every request is counted and every reply is checked. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bench/child.h"
#include "tools/load/load.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A server of this process that answers as a test wants it to. */
struct rig {
    int fd;
    int (*answers)(struct rig *rig, char *text);    /* to a datagram: see send_back */
    uint32_t seen;                  /* datagrams, or connections */
    uint32_t kept;                  /* connections that only rig_stop closes */
    int fds[16];
    pthread_t thread;
    char address[64];
};

static void rig_open(struct rig *rig, int type)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t len = sizeof(address);

    *rig = (struct rig){ .fd = socket(AF_INET, type, 0) };
    assert_int_equal(bind(rig->fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(rig->fd, (struct sockaddr *)&address, &len), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(rig->fd, 16), 0);
    snprintf(rig->address, sizeof(rig->address), "%s://127.0.0.1:%u",
             type == SOCK_STREAM ? "tcp" : "udp", (unsigned)ntohs(address.sin_port));
}

static void rig_start(struct rig *rig, int type, void *(*serve)(void *arg))
{
    rig_open(rig, type);
    assert_int_equal(pthread_create(&rig->thread, NULL, serve, rig), 0);
}

static void rig_stop(struct rig *rig)
{
    shutdown(rig->fd, SHUT_RDWR);
    pthread_join(rig->thread, NULL);
    while (rig->kept > 0)
        close(rig->fds[--rig->kept]);
    close(rig->fd);
}

/* Sends a datagram back as often as answers says, which may change it. False: no more come. */
static bool send_back(struct rig *rig)
{
    struct sockaddr_in peer;
    socklen_t len = sizeof(peer);
    char text[100];
    ssize_t n = recvfrom(rig->fd, text, sizeof(text), 0, (struct sockaddr *)&peer, &len);

    if (n <= 0)
        return false;
    rig->seen++;
    for (int left = rig->answers(rig, text); left > 0; left--)
        sendto(rig->fd, text, (size_t)n, 0, (struct sockaddr *)&peer, len);
    return true;
}

static void *answer_datagrams(void *rig)
{
    while (send_back(rig))
        ;
    return NULL;
}

static void rig_start_datagrams(struct rig *rig, int (*answers)(struct rig *rig, char *text))
{
    rig_open(rig, SOCK_DGRAM);
    rig->answers = answers;
    assert_int_equal(pthread_create(&rig->thread, NULL, answer_datagrams, rig), 0);
}

static struct load_result run_until(const struct load_options *options, uint32_t ms)
{
    struct load_result result = { 0 };
    struct load *load;

    assert_int_equal(load_create(&load, options), 0);
    assert_int_equal(load_run(load, ms, &result), 0);
    load_destroy(load);
    return result;
}

/* One request a client, and no time for a second. */
static struct load_result run_once(const struct load_options *options)
{
    return run_until(options, 0);
}

static void assert_all_right(const struct load_result *result, uint64_t requests)
{
    assert_null(result->first_error);
    assert_int_equal(result->errors, 0);
    assert_int_equal(result->requests, requests);
    assert_int_equal(result->latency.count, requests);
}

/* ------------------------------------------------------------------ streams ----------- */

static void every_kept_connection_is_asked_on_every_thread(void **state)
{
    struct load_result result;
    struct child server;

    (void)state;
    assert_int_equal(child_start_bare_loop(&server, CHILD_ANY_CPU, BARE_LOOP_LINE, 1), 0);
    result = run_once(&(struct load_options){
        .mode = LOAD_LINE, .address = server.address, .connections = 10, .threads = 3,
    });
    assert_all_right(&result, 10);

    result = run_once(&(struct load_options){
        .mode = LOAD_UPPER, .address = server.address, .connections = 10,
    });
    assert_int_equal(result.errors, 10);
    assert_string_equal(result.first_error, "a wrong reply");
    child_end(&server);
}

static void runs_add_up(void **state)
{
    struct load_result result = { 0 };
    struct child server;
    struct load *load;

    (void)state;
    assert_int_equal(child_start_bare_loop(&server, CHILD_ANY_CPU, BARE_LOOP_HTTP, 1), 0);
    assert_int_equal(load_create(&load, &(struct load_options){
        .mode = LOAD_HTTP, .address = server.address, .connections = 4,
    }), 0);
    assert_int_equal(load_reply_len(load), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(load_run(load, 0, &result), 0);
    assert_all_right(&result, 12);
    assert_int_not_equal(load_reply_len(load), 0);
    load_destroy(load);
    child_end(&server);
}

/* A kernel before 5.11, if a test wants it so. */
static atomic_bool old_kernel;

int __real_epoll_pwait2(int fd, struct epoll_event *events, int max, const struct timespec *timeout,
                        const sigset_t *mask);
int __wrap_epoll_pwait2(int fd, struct epoll_event *events, int max, const struct timespec *timeout,
                        const sigset_t *mask);

int __wrap_epoll_pwait2(int fd, struct epoll_event *events, int max, const struct timespec *timeout,
                        const sigset_t *mask)
{
    /* relaxed: it was set before the lanes' threads began. pairs: none */
    if (!atomic_load_explicit(&old_kernel, memory_order_relaxed))
        return __real_epoll_pwait2(fd, events, max, timeout, mask);
    errno = ENOSYS;
    return -1;
}

static void an_older_kernel_will_do(void **state)
{
    struct load_result result;
    struct child server;

    (void)state;
    atomic_store_explicit(&old_kernel, true, memory_order_relaxed);   /* pairs: none */
    assert_int_equal(child_start_bare_loop(&server, CHILD_ANY_CPU, BARE_LOOP_LINE, 1), 0);
    result = run_once(&(struct load_options){
        .mode = LOAD_LINE, .address = server.address, .connections = 10, .threads = 2,
    });
    assert_all_right(&result, 10);
    result = run_until(&(struct load_options){
        .mode = LOAD_LINE, .address = server.address, .connections = 3, .rate = 1000,
    }, 101);
    assert_all_right(&result, 101);
    child_end(&server);
    atomic_store_explicit(&old_kernel, false, memory_order_relaxed);  /* pairs: none */
}

enum { LINES = 3 };

static void *serve_three_lines(void *arg)
{
    struct rig *rig = arg;
    char line[LOAD_LINE_LEN];
    int fd;

    while ((fd = accept(rig->fd, NULL, NULL)) >= 0) {
        rig->seen++;
        for (int i = 0; i < LINES; i++)
            if (recv(fd, line, sizeof(line), MSG_WAITALL) == sizeof(line))
                send(fd, line, sizeof(line), MSG_NOSIGNAL);
        close(fd);
    }
    return NULL;
}

static void a_connection_gets_all_its_requests_and_ends(void **state)
{
    struct load_result result;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_STREAM, serve_three_lines);
    result = run_once(&(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .connections = 5, .per_connection = LINES,
    });
    rig_stop(&rig);
    assert_all_right(&result, 5 * LINES);
    assert_int_equal(rig.seen, 5);
}

static void a_connection_that_ends_too_soon_is_an_error(void **state)
{
    struct load_result result;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_STREAM, serve_three_lines);
    result = run_once(&(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .connections = 2, .per_connection = LINES + 1,
    });
    rig_stop(&rig);
    assert_int_equal(result.requests, 2 * LINES);
    assert_int_equal(result.errors, 2);
    assert_non_null(result.first_error);
}

static void pipelined_requests_are_each_answered(void **state)
{
    static const enum bare_loop_mode servers[] = { BARE_LOOP_LINE, BARE_LOOP_HTTP };
    static const enum load_mode modes[] = { LOAD_LINE, LOAD_HTTP };
    struct load_result result;
    struct child server;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(child_start_bare_loop(&server, CHILD_ANY_CPU, servers[i], 1), 0);
        result = run_once(&(struct load_options){
            .mode = modes[i], .address = server.address, .connections = 3, .in_flight = 16,
        });
        assert_all_right(&result, 3 * 16);
        result = run_until(&(struct load_options){
            .mode = modes[i], .address = server.address, .connections = 5, .in_flight = 3,
            .threads = 2, .requests = 1001,
        }, UINT32_MAX);
        assert_all_right(&result, 1001);
        child_end(&server);
    }
}

static void the_open_loop_asks_as_often_as_its_rate_says(void **state)
{
    struct load_result result;
    struct child server;

    (void)state;
    assert_int_equal(child_start_bare_loop(&server, CHILD_ANY_CPU, BARE_LOOP_LINE, 1), 0);
    for (uint32_t in_flight = 1; in_flight <= 4; in_flight += 3) {
        result = run_until(&(struct load_options){
            .mode = LOAD_LINE, .address = server.address, .connections = 3, .threads = 2,
            .rate = 1000, .in_flight = in_flight,
        }, 301);
        assert_all_right(&result, 301);
        assert_true(result.elapsed_ns >= 300 * 1000000ull);
    }
    child_end(&server);
}

enum { STALL_EVERY = 250, STALL_MS = 100 };

static void *serve_a_line(void *arg)
{
    struct rig *rig = arg;
    char line[LOAD_LINE_LEN];
    int fd;

    while ((fd = accept(rig->fd, NULL, NULL)) >= 0) {
        if (recv(fd, line, sizeof(line), MSG_WAITALL) == sizeof(line))
            send(fd, line, sizeof(line), MSG_NOSIGNAL);
        close(fd);
    }
    return NULL;
}

/*
 * Each arrival opens a connection here, in the turn that looks for those that wait in vain, and
 * that looked at the clock before.
 */
static void a_connection_that_was_opened_just_now_has_time(void **state)
{
    struct load_result result;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_STREAM, serve_a_line);
    result = run_until(&(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .connections = 8, .per_connection = 1,
        .rate = 200, .timeout_ms = 2000,
    }, 1501);
    rig_stop(&rig);
    assert_all_right(&result, 301);
}

static void *echo_with_stalls(void *arg)
{
    struct rig *rig = arg;
    char line[LOAD_LINE_LEN];
    int fd = accept(rig->fd, NULL, NULL);

    while (recv(fd, line, sizeof(line), MSG_WAITALL) == sizeof(line)) {
        if (++rig->seen % STALL_EVERY == 0)
            usleep(STALL_MS * 1000);
        send(fd, line, sizeof(line), MSG_NOSIGNAL);
    }
    close(fd);
    return NULL;
}

static void a_server_that_stalls_shows_in_the_open_loop_and_not_in_the_closed_one(void **state)
{
    static const uint32_t rates[] = { 0, 1000 };
    static struct load_result results[2];
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        rig_start(&rig, SOCK_STREAM, echo_with_stalls);
        results[i] = run_until(&(struct load_options){
            .mode = LOAD_LINE, .address = rig.address, .connections = 1, .rate = rates[i],
            .requests = 4 * STALL_EVERY,
        }, UINT32_MAX);
        rig_stop(&rig);
        assert_all_right(&results[i], 4 * STALL_EVERY);
        assert_true(results[i].latency.max >= STALL_MS * 1000000ull);
    }
    assert_true(histogram_percentile(&results[0].latency, 0.99) < STALL_MS / 2 * 1000000ull);
    assert_true(histogram_percentile(&results[1].latency, 0.90) >= STALL_MS / 2 * 1000000ull);
}

/* The next connection, which stays. */
static int accept_kept(struct rig *rig)
{
    int fd = accept(rig->fd, NULL, NULL);

    if (fd >= 0)
        rig->fds[rig->kept++] = fd;
    return fd;
}

static void *answer_nothing(void *arg)
{
    while (accept_kept(arg) >= 0)
        ;
    return NULL;
}

static void silence_is_an_error(void **state)
{
    struct load_result result;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_STREAM, answer_nothing);
    result = run_until(&(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .connections = 2, .in_flight = 3,
        .timeout_ms = 50,
    }, 0);
    rig_stop(&rig);
    assert_int_equal(result.requests, 0);
    assert_int_equal(result.errors, 6);
    assert_int_equal(result.errors_by[LOAD_TIMEOUT], 6);
}

static void what_was_due_and_could_not_be_sent_is_an_error(void **state)
{
    struct load_result result;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_STREAM, answer_nothing);
    result = run_until(&(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .connections = 1, .rate = 100,
        .timeout_ms = 100,
    }, 45);
    rig_stop(&rig);
    assert_int_equal(result.errors_by[LOAD_TIMEOUT], 1);
    assert_int_equal(result.errors_by[LOAD_UNSENT], 4);
    assert_int_equal(result.errors, 5);
}

static struct load *to_stop;

enum { STALLED = 5 };

/* Counts who sends half a line and no more, and ends the load. */
static void *count_halves(void *arg)
{
    struct rig *rig = arg;
    char text[LOAD_LINE_LEN];

    for (int i = 0; i < STALLED; i++)
        rig->seen += recv(accept_kept(rig), text, LOAD_LINE_LEN / 2, MSG_WAITALL) ==
                     LOAD_LINE_LEN / 2;
    for (int i = 0; i < STALLED; i++)
        rig->seen += recv(rig->fds[i], text, sizeof(text), MSG_DONTWAIT) < 0;
    load_stop(to_stop);
    return NULL;
}

static void stalled_clients_send_half_a_request(void **state)
{
    static struct load_result result;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_STREAM, count_halves);
    assert_int_equal(load_create(&to_stop, &(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .stalled = STALLED,
    }), 0);
    assert_int_equal(load_run(to_stop, UINT32_MAX, &result), 0);
    rig_stop(&rig);
    load_destroy(to_stop);
    assert_all_right(&result, 0);
    assert_int_equal(result.connect.count, STALLED);
    assert_int_equal(rig.seen, 2 * STALLED);
}

/* Echoes lines, and ends the load when a third one has begun. */
static void *echo_two_lines(void *arg)
{
    struct rig *rig = arg;
    char text[LOAD_LINE_MIN];
    int fd = accept_kept(rig);

    for (int i = 0; i < 2; i++)
        if (recv(fd, text, sizeof(text), MSG_WAITALL) == sizeof(text))
            send(fd, text, sizeof(text), MSG_NOSIGNAL);
    recv(fd, text, 1, 0);
    load_stop(to_stop);
    return NULL;
}

static void trickled_requests_are_answered_and_a_load_can_be_stopped(void **state)
{
    static struct load_result result;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_STREAM, echo_two_lines);
    assert_int_equal(load_create(&to_stop, &(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .trickled = 1, .size = LOAD_LINE_MIN,
    }), 0);
    assert_int_equal(load_run(to_stop, UINT32_MAX, &result), 0);
    assert_int_equal(result.trickled, 2);
    assert_int_equal(load_run(to_stop, UINT32_MAX, &result), 0);
    rig_stop(&rig);
    load_destroy(to_stop);
    assert_all_right(&result, 0);
    assert_int_equal(result.hung_up, 0);
}

static void *count_connections(void *arg)
{
    struct rig *rig = arg;

    while (accept_kept(rig) >= 0)
        rig->seen++;
    return NULL;
}

static void a_load_that_was_stopped_opens_no_connection(void **state)
{
    static struct load_result result;
    struct load *load;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_STREAM, count_connections);
    assert_int_equal(load_create(&load, &(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .connections = 3, .stalled = 3,
    }), 0);
    load_stop(load);
    assert_int_equal(load_run(load, 1000, &result), 0);
    assert_int_equal(load_run(load, 0, &result), 0);
    load_destroy(load);
    rig_stop(&rig);
    assert_int_equal(rig.seen, 0);
}

static void a_server_that_is_not_there_is_an_error_at_once(void **state)
{
    static struct load_result result;
    struct load *load;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_STREAM, answer_nothing);
    rig_stop(&rig);
    assert_int_equal(load_create(&load, &(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .connections = 2,
    }), 0);
    assert_int_equal(load_run(load, UINT32_MAX, &result), -ECONNREFUSED);
    assert_int_equal(result.errors_by[LOAD_CANNOT_CONNECT], result.errors);
    load_destroy(load);
}

/* ------------------------------------------------------------------ HTTP -------------- */

/* Reads up to the empty line. */
static bool read_request(int fd)
{
    uint32_t last = 0;
    char c;

    while (recv(fd, &c, 1, 0) == 1) {
        last = last << 8 | (unsigned char)c;
        if (last == 0x0d0a0d0a)
            return true;
    }
    return false;
}

static void send_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

        if (n < 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

/* Answers as reply says, which is told which request on the connection it is; false: no more. */
static void *serve_http(struct rig *rig, bool (*reply)(int fd, uint32_t number))
{
    int fd;

    while ((fd = accept(rig->fd, NULL, NULL)) >= 0) {
        uint32_t number = 0;

        while (read_request(fd) && reply(fd, number++))
            rig->seen++;
        close(fd);
    }
    return NULL;
}

/* Reads what has come, too, so that it is no reset. */
static bool close_at_the_third(int fd, uint32_t number)
{
    static const char keep[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    static const char last[] =
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";

    if (number < 2) {
        send_all(fd, keep, sizeof(keep) - 1);
        return true;
    }
    send_all(fd, last, sizeof(last) - 1);
    shutdown(fd, SHUT_WR);
    while (read_request(fd))
        ;
    return false;
}

static void *serve_three_and_close(void *arg)
{
    return serve_http(arg, close_at_the_third);
}

static void a_connection_that_is_closed_with_notice_is_opened_again(void **state)
{
    struct load_result result;
    struct rig rig;

    (void)state;
    for (uint32_t in_flight = 1; in_flight <= 4; in_flight++) {
        rig_start(&rig, SOCK_STREAM, serve_three_and_close);
        result = run_until(&(struct load_options){
            .mode = LOAD_HTTP, .address = rig.address, .connections = 1, .requests = 20,
            .in_flight = in_flight,
        }, UINT32_MAX);
        rig_stop(&rig);
        assert_all_right(&result, 20);
        assert_int_equal(result.reopened, 6);
    }
}

enum { BODY_LEN = 1 << 20 };

/* The head a byte at a time, the body in one piece. */
static bool reply_in_pieces(int fd, uint32_t number)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n";
    static char body[BODY_LEN];

    (void)number;
    for (size_t i = 0; i < sizeof(head) - 1; i++)
        send_all(fd, head + i, 1);
    send_all(fd, body, sizeof(body));
    return true;
}

static void *serve_in_pieces(void *arg)
{
    return serve_http(arg, reply_in_pieces);
}

static void replies_come_in_pieces_and_are_read_in_full(void **state)
{
    struct load_result result;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_STREAM, serve_in_pieces);
    result = run_until(&(struct load_options){
        .mode = LOAD_HTTP, .address = rig.address, .connections = 1, .requests = 3,
        .in_flight = 2, .size = BODY_LEN,
    }, UINT32_MAX);
    assert_all_right(&result, 3);
    assert_true(result.bytes_in > 3 * BODY_LEN);

    result = run_once(&(struct load_options){
        .mode = LOAD_HTTP, .address = rig.address, .connections = 1, .size = BODY_LEN - 1,
    });
    rig_stop(&rig);
    assert_int_equal(result.errors_by[LOAD_WRONG_LENGTH], 1);
}

static bool reply_not_found(int fd, uint32_t number)
{
    static const char reply[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

    (void)number;
    send_all(fd, reply, sizeof(reply) - 1);
    return true;
}

static void *serve_nothing_found(void *arg)
{
    return serve_http(arg, reply_not_found);
}

static bool reply_in_chunks(int fd, uint32_t number)
{
    static const char reply[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";

    (void)number;
    send_all(fd, reply, sizeof(reply) - 1);
    return true;
}

static void *serve_chunks(void *arg)
{
    return serve_http(arg, reply_in_chunks);
}

static bool reply_after_others(int fd, uint32_t number)
{
    static const char *const texts[] = {
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    };
    const char *text = texts[number % 2];

    /* In one piece and byte by byte. */
    if (number % 4 < 2)
        send_all(fd, text, strlen(text));
    else
        for (; *text; text++)
            send_all(fd, text, 1);
    return true;
}

static void *serve_after_others(void *arg)
{
    return serve_http(arg, reply_after_others);
}

static void what_comes_before_the_answer_is_none(void **state)
{
    struct load_result result;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_STREAM, serve_after_others);
    for (uint32_t in_flight = 1; in_flight <= 3; in_flight += 2) {
        result = run_until(&(struct load_options){
            .mode = LOAD_HTTP, .address = rig.address, .connections = 1, .requests = 20,
            .in_flight = in_flight,
        }, UINT32_MAX);
        assert_all_right(&result, 20);
    }
    rig_stop(&rig);
}

/* Behind it is no HTTP any more. */
static bool reply_switched(int fd, uint32_t number)
{
    static const char reply[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";

    (void)number;
    send_all(fd, reply, sizeof(reply) - 1);
    return true;
}

static void *serve_another_protocol(void *arg)
{
    return serve_http(arg, reply_switched);
}

static void other_replies_are_errors_by_name(void **state)
{
    static void *(*const servers[])(void *) = {
        serve_nothing_found, serve_chunks, serve_another_protocol };
    static const enum load_error errors[] = {
        LOAD_WRONG_STATUS, LOAD_UNREADABLE, LOAD_WRONG_STATUS };
    struct load_result result;
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        rig_start(&rig, SOCK_STREAM, servers[i]);
        result = run_once(&(struct load_options){
            .mode = LOAD_HTTP, .address = rig.address, .connections = 1,
        });
        rig_stop(&rig);
        assert_int_equal(result.errors, 1);
        assert_int_equal(result.errors_by[errors[i]], 1);
        assert_string_equal(result.first_error, load_error_name(errors[i]));
    }
}

/* A body of two bytes, and the end of the connection is its end. */
static bool reply_until_the_end(int fd, uint32_t number)
{
    static const char reply[] = "HTTP/1.1 200 OK\r\n\r\nhi";

    (void)number;
    send_all(fd, reply, sizeof(reply) - 1);
    return false;
}

static void *serve_until_the_end(void *arg)
{
    return serve_http(arg, reply_until_the_end);
}

static void a_body_that_ends_with_the_connection_has_a_length_too(void **state)
{
    struct load_options options = { .mode = LOAD_HTTP, .connections = 1, .size = 2 };
    struct load_result result;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_STREAM, serve_until_the_end);
    options.address = rig.address;
    result = run_once(&options);
    assert_all_right(&result, 1);
    options.size = 3;
    result = run_once(&options);
    rig_stop(&rig);
    assert_int_equal(result.errors, 1);
    assert_int_equal(result.errors_by[LOAD_WRONG_LENGTH], 1);
}

/* ------------------------------------------------------------------ threads ----------- */

static atomic_int threads_left = INT_MAX;       /* that there can be */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *arg),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *arg),
                          void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *arg),
                          void *arg)
{
    /* relaxed: threads are begun by the test's own thread alone. pairs: none */
    if (atomic_fetch_sub_explicit(&threads_left, 1, memory_order_relaxed) <= 0)
        return EAGAIN;
    return __real_pthread_create(thread, attr, run, arg);
}

/* Without an end of its own: only the thread that is not there can end it. */
static void a_thread_that_can_not_be_had_ends_the_run_at_once(void **state)
{
    struct load_result result = { 0 };
    struct load *load;
    struct child server;

    (void)state;
    assert_int_equal(child_start_bare_loop(&server, CHILD_ANY_CPU, BARE_LOOP_LINE, 1), 0);
    for (int there = 0; there < 3; there++) {
        assert_int_equal(load_create(&load, &(struct load_options){
            .mode = LOAD_LINE, .address = server.address, .connections = 8, .threads = 4,
        }), 0);
        /* pairs: none */
        atomic_store_explicit(&threads_left, there, memory_order_relaxed);
        assert_int_equal(load_run(load, UINT32_MAX, &result), -EAGAIN);
        /* pairs: none */
        atomic_store_explicit(&threads_left, INT_MAX, memory_order_relaxed);
        load_destroy(load);
    }
    assert_int_equal(result.requests, 0);
    child_end(&server);
}

/* ------------------------------------------------------------------ datagrams --------- */

static void datagrams_have_open_loops_and_sizes_too(void **state)
{
    static const int families[] = { AF_INET, AF_UNIX };
    struct load_result result;
    struct child server;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(child_start_bare_datagrams(&server, CHILD_ANY_CPU, families[i]), 0);
        result = run_until(&(struct load_options){
            .mode = LOAD_LINE, .address = server.address, .connections = 3, .in_flight = 2,
            .threads = 2, .rate = 1000, .size = 30,
        }, 101);
        assert_all_right(&result, 101);
        assert_int_equal(result.bytes_in / 30, result.requests);
        child_end(&server);
    }
}

static void every_datagram_under_way_is_answered(void **state)
{
    static const int families[] = { AF_INET, AF_UNIX };
    struct load_result result;
    struct child server;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(child_start_bare_datagrams(&server, CHILD_ANY_CPU, families[i]), 0);
        result = run_once(&(struct load_options){
            .mode = LOAD_LINE, .address = server.address, .connections = 3, .in_flight = 2,
            .threads = 2,
        });
        assert_all_right(&result, 6);
        child_end(&server);
    }
}

static int nothing_at_first(struct rig *rig, char *text)
{
    (void)text;
    return rig->seen > 6;
}

static void what_is_lost_is_sent_again(void **state)
{
    struct load_result result;
    struct rig rig;

    (void)state;
    rig_start_datagrams(&rig, nothing_at_first);
    result = run_once(&(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .connections = 2, .in_flight = 3,
    });
    rig_stop(&rig);
    assert_all_right(&result, 6);
    assert_in_range(result.lost, 6, rig.seen);
}

static unsigned unix_queue_len(void)
{
    FILE *file = fopen("/proc/sys/net/unix/max_dgram_qlen", "re");
    unsigned len = 0;

    if (file) {
        if (fscanf(file, "%u", &len) != 1)
            len = 0;
        fclose(file);
    }
    return len;
}

/* Answers datagrams of Unix sockets, but only once none fits into its queue any more. */
static void *answer_when_full(void *arg)
{
    struct rig *rig = arg;
    struct sockaddr_un peer;
    socklen_t len = sizeof(peer);
    struct pollfd probe = { .fd = rig->fds[0], .events = POLLOUT };
    char text[100];
    ssize_t n;

    while (poll(&probe, 1, 0) > 0)
        sched_yield();
    while ((n = recvfrom(rig->fd, text, sizeof(text), 0, (struct sockaddr *)&peer, &len)) > 0) {
        rig->seen++;
        sendto(rig->fd, text, (size_t)n, 0, (struct sockaddr *)&peer, len);
        len = sizeof(peer);
    }
    return NULL;
}

/* What sends to it, too, has room in its own buffer; so it is writable unless the queue is full. */
static void rig_start_full(struct rig *rig)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    socklen_t len = sizeof(address);

    *rig = (struct rig){ .fd = socket(AF_UNIX, SOCK_DGRAM, 0), .kept = 1 };
    rig->fds[0] = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(rig->fd, (struct sockaddr *)&address, sizeof(address.sun_family)), 0);
    assert_int_equal(getsockname(rig->fd, (struct sockaddr *)&address, &len), 0);
    assert_int_equal(connect(rig->fds[0], (struct sockaddr *)&address, len), 0);
    snprintf(rig->address, sizeof(rig->address), "unixgram:@%.*s",
             (int)(len - offsetof(struct sockaddr_un, sun_path) - 1), address.sun_path + 1);
    assert_int_equal(pthread_create(&rig->thread, NULL, answer_when_full, rig), 0);
}

/* Sent again after 100 ms it would count as lost; a server that sleeps so long loses a queue. */
static void what_a_full_queue_refuses_goes_out_when_there_is_room(void **state)
{
    struct load_result result;
    struct rig rig;
    unsigned full = unix_queue_len() + 1;

    (void)state;
    if (full == 1 || full > 1000)
        skip();
    rig_start_full(&rig);
    result = run_once(&(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .connections = 4, .in_flight = full,
    });
    rig_stop(&rig);
    assert_all_right(&result, 4 * full);
    assert_in_range(result.lost, 0, full);
    assert_int_equal(result.bytes_out, (4 * full + result.lost) * LOAD_LINE_LEN);
}

static int twice(struct rig *rig, char *text)
{
    (void)rig;
    (void)text;
    return 2;
}

static void a_second_answer_does_not_count(void **state)
{
    struct load_result result = { 0 };
    struct load *load;
    struct rig rig;

    (void)state;
    rig_start_datagrams(&rig, twice);
    assert_int_equal(load_create(&load, &(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .connections = 1, .in_flight = 4,
    }), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(load_run(load, 0, &result), 0);
    load_destroy(load);
    rig_stop(&rig);
    assert_all_right(&result, 12);
}

static int changed(struct rig *rig, char *text)
{
    (void)rig;
    text[LOAD_LINE_LEN - 2] ^= 1;
    return 1;
}

static void a_datagram_that_was_changed_is_an_error(void **state)
{
    struct load_result result;
    struct rig rig;

    (void)state;
    rig_start_datagrams(&rig, changed);
    result = run_once(&(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .connections = 2, .in_flight = 1,
    });
    rig_stop(&rig);
    assert_int_equal(result.requests, 0);
    assert_int_equal(result.errors, 2);
    assert_string_equal(result.first_error, "a wrong reply");
}

/* A resolver with a host "two", which has 127.0.0.2 and 127.0.0.1. */
int __real_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret);
int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret);

int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret)
{
    int r;

    if (!node || strcmp(node, "two") != 0)
        return __real_getaddrinfo(node, service, hints, ret);
    r = __real_getaddrinfo("127.0.0.2", service, hints, ret);
    if (r != 0)
        return r;
    return __real_getaddrinfo("127.0.0.1", service, hints, &(*ret)->ai_next);
}

static int once(struct rig *rig, char *text)
{
    (void)rig;
    (void)text;
    return 1;
}

/* A socket at 127.0.0.2 and a port: it takes datagrams, and answers none. */
static int open_silent(uint16_t port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1), .sin_port = port,
    };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* The first refuses datagrams, then it answers none. */
static void of_a_name_the_address_that_answers_is_asked(void **state)
{
    struct load_result result;
    struct rig rig;

    (void)state;
    rig_start_datagrams(&rig, once);
    for (int silent = 0; silent < 2; silent++) {
        const char *port = strrchr(rig.address, ':') + 1;
        int fd = silent ? open_silent(htons((uint16_t)atoi(port))) : -1;
        char address[64];

        snprintf(address, sizeof(address), "udp://two:%s", port);
        result = run_once(&(struct load_options){
            .mode = LOAD_LINE, .address = address, .connections = 3,
        });
        assert_all_right(&result, 3);
        if (silent)
            close(fd);
    }
    rig_stop(&rig);
}

/* ------------------------------------------------------------------ refusals ---------- */

static void what_makes_no_sense_is_refused(void **state)
{
    static const struct load_options options[] = {
        { .mode = LOAD_LINE, .address = "nonsense", .connections = 1 },
        { .mode = LOAD_HTTP, .address = "udp://127.0.0.1:1", .connections = 1 },
        { .mode = LOAD_LINE, .address = "udp://127.0.0.1:1", .connections = 1, .in_flight = 9999 },
        { .mode = LOAD_LINE, .address = "udp://127.0.0.1:1", .connections = 1, .stalled = 1 },
        { .mode = LOAD_LINE, .address = "udp://127.0.0.1:1", .connections = 1, .size = 65508 },
        { .mode = LOAD_LINE, .address = "tcp://127.0.0.1:1", .connections = 1, .size = 15 },
        { .mode = LOAD_LINE, .address = "fd://0", .connections = 1 },
    };
    struct load *load = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        assert_int_equal(load_create(&load, &options[i]), -EINVAL);
    assert_null(load);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kept_connection_is_asked_on_every_thread),
        cmocka_unit_test(runs_add_up),
        cmocka_unit_test(an_older_kernel_will_do),
        cmocka_unit_test(a_connection_gets_all_its_requests_and_ends),
        cmocka_unit_test(a_connection_that_ends_too_soon_is_an_error),
        cmocka_unit_test(pipelined_requests_are_each_answered),
        cmocka_unit_test(the_open_loop_asks_as_often_as_its_rate_says),
        cmocka_unit_test(a_connection_that_was_opened_just_now_has_time),
        cmocka_unit_test(a_server_that_stalls_shows_in_the_open_loop_and_not_in_the_closed_one),
        cmocka_unit_test(silence_is_an_error),
        cmocka_unit_test(what_was_due_and_could_not_be_sent_is_an_error),
        cmocka_unit_test(stalled_clients_send_half_a_request),
        cmocka_unit_test(trickled_requests_are_answered_and_a_load_can_be_stopped),
        cmocka_unit_test(a_load_that_was_stopped_opens_no_connection),
        cmocka_unit_test(a_server_that_is_not_there_is_an_error_at_once),
        cmocka_unit_test(a_connection_that_is_closed_with_notice_is_opened_again),
        cmocka_unit_test(replies_come_in_pieces_and_are_read_in_full),
        cmocka_unit_test(what_comes_before_the_answer_is_none),
        cmocka_unit_test(other_replies_are_errors_by_name),
        cmocka_unit_test(a_body_that_ends_with_the_connection_has_a_length_too),
        cmocka_unit_test(a_thread_that_can_not_be_had_ends_the_run_at_once),
        cmocka_unit_test(datagrams_have_open_loops_and_sizes_too),
        cmocka_unit_test(every_datagram_under_way_is_answered),
        cmocka_unit_test(what_is_lost_is_sent_again),
        cmocka_unit_test(what_a_full_queue_refuses_goes_out_when_there_is_room),
        cmocka_unit_test(a_second_answer_does_not_count),
        cmocka_unit_test(a_datagram_that_was_changed_is_an_error),
        cmocka_unit_test(of_a_name_the_address_that_answers_is_asked),
        cmocka_unit_test(what_makes_no_sense_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
