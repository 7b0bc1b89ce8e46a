/* load_test.c - bench/load.h: that every request is counted and every reply is checked. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bench/child.h"
#include "bench/load.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A server of this process that answers as a test wants it to. */
struct rig {
    int fd;
    void *(*serve)(void *arg);
    uint32_t seen;                  /* datagrams, or connections */
    pthread_t thread;
    char address[64];
};

static void rig_start(struct rig *rig, int type, void *(*serve)(void *arg))
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t len = sizeof(address);

    *rig = (struct rig){ .fd = socket(AF_INET, type, 0), .serve = serve };
    assert_int_equal(bind(rig->fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(rig->fd, (struct sockaddr *)&address, &len), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(rig->fd, 16), 0);
    snprintf(rig->address, sizeof(rig->address), "%s://127.0.0.1:%u",
             type == SOCK_STREAM ? "tcp" : "udp", (unsigned)ntohs(address.sin_port));
    assert_int_equal(pthread_create(&rig->thread, NULL, serve, rig), 0);
}

static void rig_stop(struct rig *rig)
{
    shutdown(rig->fd, SHUT_RDWR);
    pthread_join(rig->thread, NULL);
    close(rig->fd);
}

/* Sends a datagram back as often as answers says, which may change it. 0: there are no more. */
static ssize_t send_back(struct rig *rig, int (*answers)(struct rig *rig, char *text))
{
    struct sockaddr_in peer;
    socklen_t len = sizeof(peer);
    char text[100];
    ssize_t n = recvfrom(rig->fd, text, sizeof(text), 0, (struct sockaddr *)&peer, &len);

    if (n <= 0)
        return 0;
    rig->seen++;
    for (int left = answers(rig, text); left > 0; left--)
        sendto(rig->fd, text, (size_t)n, 0, (struct sockaddr *)&peer, len);
    return n;
}

/* One request a client, and no time for a second. */
static struct load_result run_once(const struct load_options *options)
{
    struct load_result result = { 0 };
    struct load *load;

    assert_int_equal(load_create(&load, options), 0);
    assert_int_equal(load_run(load, 0, &result), 0);
    load_destroy(load);
    return result;
}

static void assert_all_right(const struct load_result *result, uint64_t requests)
{
    uint64_t latencies = 0;

    for (size_t i = 0; i < LOAD_BUCKETS; i++)
        latencies += result->latency[i];
    assert_null(result->first_error);
    assert_int_equal(result->errors, 0);
    assert_int_equal(result->requests, requests);
    assert_int_equal(latencies, requests);
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

/* ------------------------------------------------------------------ datagrams --------- */

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

static void *lose_six(void *arg)
{
    while (send_back(arg, nothing_at_first) > 0)
        ;
    return NULL;
}

static void what_is_lost_is_sent_again(void **state)
{
    struct load_result result;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_DGRAM, lose_six);
    result = run_once(&(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .connections = 2, .in_flight = 3,
    });
    rig_stop(&rig);
    assert_all_right(&result, 6);
    assert_in_range(result.lost, 6, rig.seen);
}

static int twice(struct rig *rig, char *text)
{
    (void)rig;
    (void)text;
    return 2;
}

static void *answer_twice(void *arg)
{
    while (send_back(arg, twice) > 0)
        ;
    return NULL;
}

static void a_second_answer_does_not_count(void **state)
{
    struct load_result result = { 0 };
    struct load *load;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_DGRAM, answer_twice);
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

static void *answer_wrongly(void *arg)
{
    while (send_back(arg, changed) > 0)
        ;
    return NULL;
}

static void a_datagram_that_was_changed_is_an_error(void **state)
{
    struct load_result result;
    struct rig rig;

    (void)state;
    rig_start(&rig, SOCK_DGRAM, answer_wrongly);
    result = run_once(&(struct load_options){
        .mode = LOAD_LINE, .address = rig.address, .connections = 2, .in_flight = 1,
    });
    rig_stop(&rig);
    assert_int_equal(result.requests, 0);
    assert_int_equal(result.errors, 2);
    assert_string_equal(result.first_error, "a wrong reply");
}

/* ------------------------------------------------------------------ refusals ---------- */

static void what_makes_no_sense_is_refused(void **state)
{
    static const struct load_options options[] = {
        { .mode = LOAD_LINE, .address = "nonsense", .connections = 1 },
        { .mode = LOAD_HTTP, .address = "udp://127.0.0.1:1", .connections = 1 },
        { .mode = LOAD_LINE, .address = "udp://127.0.0.1:1", .connections = 1, .in_flight = 9999 },
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
        cmocka_unit_test(a_connection_gets_all_its_requests_and_ends),
        cmocka_unit_test(a_connection_that_ends_too_soon_is_an_error),
        cmocka_unit_test(every_datagram_under_way_is_answered),
        cmocka_unit_test(what_is_lost_is_sent_again),
        cmocka_unit_test(a_second_answer_does_not_count),
        cmocka_unit_test(a_datagram_that_was_changed_is_an_error),
        cmocka_unit_test(what_makes_no_sense_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
