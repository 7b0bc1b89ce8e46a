/*
 * spawn_test.c - a handler with children: more fibers that use its streams, and that it waits for.
 */
#include "engine/weir_sync.h"
#include "tests/stream.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* More than sockets hold. */
#define MUCH ((size_t)8 << 20)
#define PIECE ((size_t)48 << 10)
#define MANY 1000
#define LONG_MS (3600 * 1000)

/* ------------------------------------------------------------------ begin and end ----- */

static int note_name(struct weir_request *req, void *name)
{
    (void)req;
    note("%s,", (const char *)name);
    return (int)strlen(name);
}

static int nap_and_note(struct weir_request *req, void *name)
{
    weir_yield(req);
    return note_name(req, name);
}

static int spawn_two(struct weir_request *req)
{
    int one, two;

    one = weir_spawn(req, note_name, (void *)"a");
    note("spawned %d,", one > 0);
    two = weir_spawn(req, nap_and_note, (void *)"later");
    note("spawned %d,", two > 0 && two != one);
    note("two %d,", weir_join(req, two));
    note("one %d,", weir_join(req, one));
    note("again %d,", weir_join(req, one) == -ESRCH);
    note("none %d", weir_join(req, 12345) == -ESRCH && weir_join(req, -1) == -ESRCH);
    return 0;
}

static void a_child_begins_at_once_and_is_joined_with_its_result(void **state)
{
    (void)state;
    support_talk(STREAM_SERVE(spawn_two), 0, "", "");
    notes_expect("a,spawned 1,spawned 1,later,two 5,one 1,again 1,none 1");
}

static int fail_with(struct weir_request *req, void *error)
{
    weir_yield(req);
    return *(const int *)error;
}

static int join_all_of_them(struct weir_request *req)
{
    static const int results[] = { 3, -EDOM, 0, -ERANGE };

    note("%d,", weir_join(req, WEIR_ALL_CHILDREN));
    for (size_t i = 0; i < 4; i++)
        weir_spawn(req, fail_with, (void *)&results[i]);
    note("%d,", weir_join(req, WEIR_ALL_CHILDREN) == -EDOM);
    note("%d", weir_join(req, WEIR_ALL_CHILDREN));
    return 0;
}

static void of_all_children_the_first_that_failed_is_told(void **state)
{
    (void)state;
    support_talk(STREAM_SERVE(join_all_of_them), 0, "", "");
    notes_expect("0,1,0");
}

static int spawn_a_grandchild(struct weir_request *req, void *name)
{
    weir_spawn(req, nap_and_note, name);
    note("child,");
    return 0;
}

static int leave_children(struct weir_request *req)
{
    char name[] = "grandchild";     /* of this frame: nobody may need it any more behind it */

    weir_join(req, weir_spawn(req, spawn_a_grandchild, name));
    note("joined,");
    weir_spawn(req, nap_and_note, (void *)"late");
    note("handle,");
    return 0;
}

static int note_finish(struct weir_request *req, int status)
{
    (void)req;
    note("finish %d", status);
    return 0;
}

static void nobody_ends_before_its_children(void **state)
{
    const struct weir_handler handler = {
        .name = "leave_children", .handle = leave_children, .finish = note_finish,
    };

    (void)state;
    support_talk(stream_serve(&handler, WEIR_OPTIONS(.user = NULL)), 0, "", "");
    notes_expect("child,grandchild,joined,handle,late,finish 0");
}

static int not_mine(struct weir_request *req, void *number)
{
    return weir_join(req, *(int *)number);
}

static int join_of_another(struct weir_request *req)
{
    int one = weir_spawn(req, nap_and_note, (void *)"a");

    note("%d,", weir_join(req, weir_spawn(req, not_mine, &one)) == -ESRCH);
    note("%d", weir_join(req, one));
    return 0;
}

static void only_who_has_spawned_a_child_joins_it(void **state)
{
    (void)state;
    support_talk(STREAM_SERVE(join_of_another), 0, "", "");
    notes_expect("1,a,1");
}

static int count_up(struct weir_request *req, void *count)
{
    weir_sleep(req, 1);
    ++*(unsigned *)count;
    return 0;
}

static int spawn_many(struct weir_request *req)
{
    unsigned count = 0, begun = 0;

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++)
            begun += weir_spawn(req, count_up, &count) > 0;
        weir_join(req, WEIR_ALL_CHILDREN);
    }
    weir_printf(req, "%u of %u", count, begun);
    return 0;
}

static void many_children_wait_at_once(void **state)
{
    (void)state;
    support_talk(STREAM_SERVE(spawn_many), 0, "", "2000 of 2000");
}

static int no_fibers(struct weir_request *req)
{
    note("%d,", weir_spawn(req, note_name, (void *)"never") == -EOPNOTSUPP);
    note("%d,", weir_join(req, WEIR_ALL_CHILDREN));
    note("%d", weir_join(req, 1) == -ESRCH);
    weir_cancel_others(req);
    return 0;
}

static void without_fibers_there_are_no_children(void **state)
{
    (void)state;
    support_talk(STREAM_SERVE(no_fibers), 0, "", "");
    notes_expect("1,0,1");
}

/* ------------------------------------------------------------------ both directions --- */

static unsigned char byte_at(size_t i, unsigned seed)
{
    return (unsigned char)(i * 7 + i / 251 + seed);
}

static void fill(unsigned char *data, size_t len, size_t at, unsigned seed)
{
    for (size_t i = 0; i < len; i++)
        data[i] = byte_at(at + i, seed);
}

/* Returns true if the bytes are as they should be. */
static bool are_right(const unsigned char *data, size_t len, size_t at, unsigned seed)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != byte_at(at + i, seed))
            return false;
    return true;
}

static int write_much(struct weir_request *req, void *unused)
{
    (void)unused;
    for (size_t done = 0; done < MUCH; done += PIECE) {
        size_t len = MUCH - done < PIECE ? MUCH - done : PIECE;
        unsigned char *data = malloc(len);
        ssize_t n;

        fill(data, len, done, 1);
        n = weir_write(req, data, len);
        free(data);
        if (n < 0)
            return (int)n;
    }
    return weir_end_output(req);
}

/* 1 if all came, and as it should. */
static int read_much(struct weir_request *req)
{
    size_t done = 0;
    char *data;
    ssize_t n;

    while ((n = weir_peek(req, &data, 1)) > 0) {
        if (!are_right((unsigned char *)data, (size_t)n, done, 2))
            return 0;
        done += (size_t)n;
        weir_consume(req, (size_t)n);
    }
    return n == 0 && done == MUCH;
}

static int read_while_a_child_writes(struct weir_request *req)
{
    int child = weir_spawn(req, write_much, NULL);
    int read = read_much(req);

    note("%d,%d", read, weir_join(req, child));
    return 0;
}

struct upload {
    int fd;
    bool sent;
};

static void *send_much(void *arg)
{
    struct upload *upload = arg;
    unsigned char piece[PIECE];
    size_t done = 0;

    while (done < MUCH) {
        size_t len = MUCH - done < sizeof(piece) ? MUCH - done : sizeof(piece);
        ssize_t n;

        fill(piece, len, done, 2);
        n = send(upload->fd, piece, len, MSG_NOSIGNAL);
        if (n < 0)
            return NULL;
        done += (size_t)n;
    }
    shutdown(upload->fd, SHUT_WR);
    upload->sent = true;
    return NULL;
}

static void receive_much(int fd)
{
    unsigned char piece[PIECE];
    size_t done = 0;
    size_t n;

    while ((n = support_read_all(fd, (char *)piece, sizeof(piece))) > 0) {
        assert_true(are_right(piece, n, done, 1));
        done += n;
    }
    assert_int_equal(done, MUCH);
}

static void talk_much(struct weir_server *server, bool reads_last)
{
    struct upload upload = { .fd = support_connect(server, 0) };
    pthread_t sender;

    if (reads_last) {
        send_much(&upload);
        receive_much(upload.fd);
    } else {
        assert_int_equal(pthread_create(&sender, NULL, send_much, &upload), 0);
        receive_much(upload.fd);
        pthread_join(sender, NULL);
    }
    close(upload.fd);
    assert_true(upload.sent);
}

static void one_fiber_reads_while_another_writes(void **state)
{
    (void)state;
    talk_much(STREAM_SERVE(read_while_a_child_writes), false);
    notes_expect("1,0");
}

/* With one fiber that reads and writes by turns nothing would move any more. */
static void a_client_that_sends_all_before_it_reads_is_served(void **state)
{
    (void)state;
    talk_much(STREAM_SERVE(read_while_a_child_writes), true);
    notes_expect("1,0");
}

static int read_in_child(struct weir_request *req, void *unused)
{
    (void)unused;
    return read_much(req);
}

static int write_while_a_child_reads(struct weir_request *req)
{
    int child = weir_spawn(req, read_in_child, NULL);
    int r = write_much(req, NULL);

    note("%d,%d", weir_join(req, child), r);
    return 0;
}

static void a_child_reads_while_its_handler_writes(void **state)
{
    (void)state;
    talk_much(STREAM_SERVE(write_while_a_child_reads), true);
    notes_expect("1,0");
}

static int gather(struct weir_request *req, void *fd)
{
    uint64_t none;

    weir_write(req, "gathered", 8);
    /* Waits for something else than the client. */
    weir_poll(req, &(struct pollfd){ .fd = *(int *)fd, .events = POLLIN }, 1, -1);
    return (int)read(*(int *)fd, &none, sizeof(none));
}

static int gather_in_child(struct weir_request *req)
{
    int fd = eventfd(0, EFD_NONBLOCK);
    char byte;
    ssize_t n;

    weir_spawn(req, gather, &fd);
    n = weir_read(req, &byte, 1);
    eventfd_write(fd, 1);
    weir_join(req, WEIR_ALL_CHILDREN);
    close(fd);
    return n < 0 ? (int)n : 0;
}

static void a_read_sends_what_another_fiber_has_gathered(void **state)
{
    int fd;

    (void)state;
    fd = support_connect(STREAM_SERVE(gather_in_child), 0);
    support_expect(fd, "gathered");
    support_say(fd, "x");
    support_expect_end(fd);
    close(fd);
}

static int echo_lines(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);
    int child;

    if (n <= 0)
        return (int)n;
    child = weir_spawn(req, note_name, (void *)"k");
    weir_write(req, line, (size_t)n);
    return weir_join(req, child) == 1 ? WEIR_KEEP : -EINVAL;
}

static void each_call_of_a_kept_connection_has_children_of_its_own(void **state)
{
    int fd;

    (void)state;
    fd = support_connect(STREAM_SERVE(echo_lines), 0);
    for (int i = 0; i < 3; i++) {
        support_say(fd, "line\n");
        support_expect(fd, "line\n");
    }
    support_half_close(fd);
    support_expect_end(fd);
    close(fd);
    notes_expect("k,k,k,");
}

/* ------------------------------------------------------------------ the end of waits -- */

static int note_result(const char *what, ssize_t r)
{
    note("%s%s,", what, r == -ECANCELED ? "C" : r == -ETIMEDOUT ? "T" : r < 0 ? "E" : "0");
    return (int)r;
}

static int read_and_note(struct weir_request *req, void *unused)
{
    char byte;

    (void)unused;
    return note_result("r", weir_read(req, &byte, 1));
}

static int sleep_and_note(struct weir_request *req, void *unused)
{
    (void)unused;
    return note_result("s", weir_sleep(req, LONG_MS));
}

static int write_and_note(struct weir_request *req, void *unused)
{
    ssize_t r;
    static const char much[1 << 16];

    (void)unused;
    do
        r = weir_write(req, much, sizeof(much));
    while (r >= 0);
    return note_result("w", r);
}

static int wait_in_three_ways(struct weir_request *req)
{
    int read = weir_spawn(req, read_and_note, NULL);
    int write = weir_spawn(req, write_and_note, NULL);
    int sleep = weir_spawn(req, sleep_and_note, NULL);

    note("%d,", read > 0 && write > 0 && sleep > 0);
    weir_join(req, read);
    weir_join(req, write);
    weir_join(req, sleep);
    note("joined");
    return 0;
}

static size_t count_of(const char *text, const char *what)
{
    size_t count = 0;

    while ((text = strstr(text, what))) {
        count++;
        text++;
    }
    return count;
}

/* In whatever order: each of the three has ended by that. */
static void expect_ends(char how)
{
    char text[3][4] = { "rX,", "wX,", "sX," };
    const char *notes;

    notes = notes_wait(strlen("1,rX,wX,sX,joined"));
    for (int i = 0; i < 3; i++) {
        text[i][1] = how;
        assert_int_equal(count_of(notes, text[i]), 1);
    }
    assert_string_equal(notes + strlen(notes) - strlen("joined"), "joined");
}

static void the_deadline_of_a_request_ends_the_waits_of_its_children(void **state)
{
    int fd;

    (void)state;
    fd = support_connect(STREAM_SERVE(wait_in_three_ways, .request_timeout_ms = 50), 0);
    expect_ends('T');
    close(fd);
}

static int receive_and_note(struct weir_request *req, void *unused)
{
    static char slots[1];
    static struct weir_channel empty = WEIR_CHANNEL(slots);
    char item;

    (void)req;
    (void)unused;
    return note_result("c", weir_channel_receive(&empty, &item));
}

static int receive_in_child(struct weir_request *req)
{
    weir_join(req, weir_spawn(req, receive_and_note, NULL));
    return 0;
}

static void the_deadline_of_a_request_ends_what_its_children_wait_for_in_others(void **state)
{
    int fd;

    (void)state;
    fd = support_connect(STREAM_SERVE(receive_in_child, .request_timeout_ms = 50), 0);
    notes_expect("cT,");
    close(fd);
}

static void a_cancel_ends_the_waits_of_children(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(wait_in_three_ways);
    fd = support_connect(server, 0);
    notes_wait(strlen("1,"));
    weir_server_cancel(server);
    expect_ends('C');
    close(fd);
}

static void a_drain_waits_for_children_and_then_cancels_them(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(wait_in_three_ways, .drain_timeout_ms = 50);
    fd = support_connect(server, 0);
    notes_wait(strlen("1,"));
    weir_server_shutdown(server);
    weir_server_close(server);
    expect_ends('C');
    close(fd);
}

static int tell_of_a_drain(struct weir_request *req, void *unused)
{
    (void)unused;
    while (!weir_draining(req))
        weir_sleep(req, 1);
    note("drains,");
    return 0;
}

static int await_a_drain(struct weir_request *req)
{
    weir_spawn(req, tell_of_a_drain, NULL);
    note("begun,");
    return 0;
}

static void a_child_may_ask_for_a_drain(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(await_a_drain);
    fd = support_connect(server, 0);
    notes_wait(strlen("begun,"));
    weir_server_shutdown(server);
    weir_server_close(server);
    notes_expect("begun,drains,");
    support_expect_end(fd);
    close(fd);
}

static int fail_and_end_all(struct weir_request *req, void *unused)
{
    (void)unused;
    weir_yield(req);
    weir_cancel_others(req);
    /* Its own waits go on. */
    note("mine %d,", weir_sleep(req, 1));
    return -EPROTO;
}

static int end_all(struct weir_request *req)
{
    int failing = weir_spawn(req, fail_and_end_all, NULL);
    char byte;

    weir_spawn(req, write_and_note, NULL);
    weir_spawn(req, sleep_and_note, NULL);
    note_result("main", weir_read(req, &byte, 1));
    note_result("yield", weir_yield(req));
    note_result("sleep", weir_sleep(req, LONG_MS));
    note("%d", weir_join(req, failing) == -EPROTO);
    return 0;
}

static void an_error_of_one_can_end_all(void **state)
{
    const char *notes;
    int fd;

    (void)state;
    fd = support_connect(STREAM_SERVE(end_all), 0);
    notes = notes_wait(strlen("mainC,wC,sC,yieldC,sleepC,mine 0,1"));
    assert_int_equal(count_of(notes, "wC,"), 1);
    assert_int_equal(count_of(notes, "sC,"), 1);
    assert_int_equal(count_of(notes, "mainC,"), 1);
    assert_int_equal(count_of(notes, "yieldC,"), 1);
    assert_int_equal(count_of(notes, "sleepC,"), 1);
    assert_int_equal(count_of(notes, "mine 0,"), 1);
    close(fd);
}

static int sleep_and_spawn(struct weir_request *req, void *unused)
{
    (void)unused;
    note_result("child", weir_sleep(req, LONG_MS));
    return weir_join(req, weir_spawn(req, sleep_and_note, NULL));
}

static int end_a_child_that_spawns(struct weir_request *req)
{
    int child = weir_spawn(req, sleep_and_spawn, NULL);

    weir_cancel_others(req);
    weir_join(req, child);
    note("joined");
    return 0;
}

static void what_a_cancelled_fiber_spawns_is_cancelled(void **state)
{
    (void)state;
    support_talk(STREAM_SERVE(end_a_child_that_spawns), 0, "", "");
    notes_expect("childC,sC,joined");
}

static int cancelled_once(struct weir_request *req, void *unused)
{
    (void)unused;
    weir_cancel_others(req);
    return 0;
}

static int wait_again_next_time(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    note("%d,", weir_sleep(req, 1));
    weir_write(req, line, (size_t)n);
    weir_join(req, weir_spawn(req, cancelled_once, NULL));
    note_result("", weir_sleep(req, 1));
    return WEIR_KEEP;
}

static void a_cancel_of_fibers_is_over_with_the_call(void **state)
{
    int fd;

    (void)state;
    fd = support_connect(STREAM_SERVE(wait_again_next_time), 0);
    for (int i = 0; i < 2; i++) {
        support_say(fd, "line\n");
        support_expect(fd, "line\n");
    }
    close(fd);
    notes_expect("0,C,0,C,");
}

static int fail_with_children(struct weir_request *req)
{
    weir_spawn(req, read_and_note, NULL);
    weir_spawn(req, sleep_and_note, NULL);
    return -EPROTO;
}

static void a_handler_that_fails_ends_the_waits_of_its_children(void **state)
{
    int fd;

    (void)state;
    fd = support_connect(STREAM_SERVE(fail_with_children), 0);
    assert_int_equal(count_of(notes_wait(strlen("rC,sC,")), "C,"), 2);
    support_expect_end(fd);
    close(fd);
}

static int never_called(struct weir_request *req)
{
    (void)req;
    note("handle");
    return 0;
}

static int fail_while_a_child_reads(struct weir_request *req)
{
    weir_spawn(req, read_and_note, NULL);
    return -EPROTO;
}

static int fail_while_a_child_writes(struct weir_request *req)
{
    weir_spawn(req, write_and_note, NULL);
    return -EPROTO;
}

static void note_failure(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    note("%s", failure->phase == WEIR_PHASE_SETUP ? "setup" : "else");
}

static int connect_to_setup(int (*setup)(struct weir_request *req))
{
    const struct weir_handler handler = {
        .name = "failing", .setup = setup, .handle = never_called,
    };

    return support_connect(stream_serve(&handler, WEIR_OPTIONS(.handle_error = note_failure)), 0);
}

static void a_setup_that_fails_ends_a_child_that_reads(void **state)
{
    int fd;

    (void)state;
    fd = connect_to_setup(fail_while_a_child_reads);
    notes_expect("rC,setup");
    support_expect_end(fd);
    close(fd);
}

static void a_setup_that_fails_ends_a_child_that_writes(void **state)
{
    int fd;

    (void)state;
    fd = connect_to_setup(fail_while_a_child_writes);
    notes_expect("wC,setup");
    close(fd);
}

/* ------------------------------------------------------------------ one of two -------- */

/* So that MUCH does not fit into the sockets, however large they may grow. */
static void hold_little(struct weir_request *req)
{
    int size = 64 << 10;

    setsockopt(weir_request_fd(req), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static int read_late_then_tell(struct weir_request *req)
{
    char byte;
    int child;
    ssize_t n;

    hold_little(req);
    weir_set_timeout(req, WEIR_TIMEOUT_READ, 20);
    child = weir_spawn(req, write_much, NULL);
    n = weir_read(req, &byte, 1);
    note("%d,", n == -ETIMEDOUT);
    note("%d", weir_join(req, child));
    return 0;
}

/* The reader leaves the connection's wait, in which the writer stays. */
static void a_read_times_out_while_another_fiber_waits_to_write(void **state)
{
    int fd;

    (void)state;
    fd = support_connect(STREAM_SERVE(read_late_then_tell), 0);
    notes_expect("1,");
    receive_much(fd);
    close(fd);
    notes_expect("1,0");
}

static int write_late_then_tell(struct weir_request *req)
{
    int child;

    hold_little(req);
    weir_set_timeout(req, WEIR_TIMEOUT_WRITE, 20);
    child = weir_spawn(req, read_and_note, NULL);
    note("%d,", write_much(req, NULL) == -ETIMEDOUT);
    note("%d", weir_join(req, child));
    return 0;
}

static void a_write_times_out_while_another_fiber_waits_to_read(void **state)
{
    int fd;

    (void)state;
    fd = support_connect(STREAM_SERVE(write_late_then_tell), 0);
    notes_expect("1,");
    support_say(fd, "x");
    notes_expect("1,r0,1");
    close(fd);
}

/* ------------------------------------------------------------------ other streams ----- */

static struct weir_server *back;
static char back_address[WEIR_ADDRESS_SIZE];

static int begin_with_back(void **state)
{
    static struct weir_handler handler = {
        .name = "back", .handle = read_while_a_child_writes,
    };

    back = support_start(WEIR_OPTIONS(.listen = stream_listen(), .handler = &handler,
                                      .workers = 1, .dispatch = way->dispatch));
    weir_server_address(back, 0, back_address, sizeof(back_address));
    return stream_begin(state);
}

static int end_with_back(void **state)
{
    stream_end(state);
    weir_server_shutdown(back);
    weir_server_cancel(back);
    weir_server_destroy(back);
    return 0;
}

struct relay {
    struct weir_request *from, *to;
};

static int relay_one_way(struct weir_request *req, void *arg)
{
    const struct relay *relay = arg;
    char *data;
    ssize_t n;

    (void)req;
    while ((n = weir_peek(relay->from, &data, 1)) > 0) {
        ssize_t sent = weir_write(relay->to, data, (size_t)n);

        weir_consume(relay->from, (size_t)n);
        if (sent >= 0)
            sent = weir_flush(relay->to);
        if (sent < 0)
            return (int)sent;
    }
    return n < 0 ? (int)n : weir_end_output(relay->to);
}

static int relay_both_ways(struct weir_request *req)
{
    struct weir_request *peer;
    struct relay up = { .from = req }, down = { .to = req };
    int r = weir_connect(req, back_address, 0, &peer);

    if (r < 0)
        return r;
    up.to = peer;
    down.from = peer;
    r = weir_spawn(req, relay_one_way, &up);
    if (r < 0)
        return r;
    note("%d", relay_one_way(req, &down) + weir_join(req, r));
    return 0;
}

static void two_fibers_relay_both_ways(void **state)
{
    (void)state;
    talk_much(STREAM_SERVE(relay_both_ways), true);
    assert_int_equal(count_of(notes_wait(strlen("1,00")), "1,0"), 1);
}

static int connect_and_read(struct weir_request *req, void *address)
{
    struct weir_request *peer;
    char byte;
    ssize_t n;
    int r = weir_connect(req, address, 0, &peer);

    if (r < 0)
        return r;
    n = weir_read(peer, &byte, 1);
    weir_hangup(peer);
    return n == 1 && (unsigned char)byte == byte_at(0, 1);
}

static int ask_from_each_child(struct weir_request *req)
{
    int sum = 0;
    int children[8];

    for (int i = 0; i < 8; i++)
        children[i] = weir_spawn(req, connect_and_read, weir_user(req));
    for (int i = 0; i < 8; i++)
        sum += weir_join(req, children[i]);
    weir_printf(req, "%d", sum);
    return 0;
}

static void each_child_opens_a_stream_of_its_own(void **state)
{
    (void)state;
    support_talk(STREAM_SERVE(ask_from_each_child, .user = back_address), 0, "", "8");
}

/* A resolver with a host "named", so that no other resolver is asked for it: 127.0.0.1. */
int __real_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret);
int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret);

int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret)
{
    if (!node || strcmp(node, "named") != 0)
        return __real_getaddrinfo(node, service, hints, ret);
    if (hints && hints->ai_flags & AI_NUMERICHOST)
        return EAI_NONAME;
    return __real_getaddrinfo("127.0.0.1", service, hints, ret);
}

static void children_look_names_up(void **state)
{
    static char address[2 * WEIR_ADDRESS_SIZE];

    (void)state;
    if (way->family != AF_INET)
        skip();
    snprintf(address, sizeof(address), "tcp://named%s", strrchr(back_address, ':'));
    support_talk(STREAM_SERVE(ask_from_each_child, .user = address), 0, "", "8");
}

/* ------------------------------------------------------------------ other calls ------- */

static int twice(void *arg)
{
    return 2 * *(int *)arg;
}

static int offload_in_child(struct weir_request *req, void *arg)
{
    return weir_offload(req, twice, arg);
}

static int offload_in_two(struct weir_request *req)
{
    int numbers[] = { 3, 4 };
    int one = weir_spawn(req, offload_in_child, &numbers[0]);
    int two = weir_spawn(req, offload_in_child, &numbers[1]);

    weir_printf(req, "%d %d", weir_join(req, one), weir_join(req, two));
    return 0;
}

static void children_offload(void **state)
{
    (void)state;
    support_talk(STREAM_SERVE(offload_in_two), 0, "", "6 8");
}

struct asking {
    struct weir_request *req;
    int ended;          /* an eventfd: the children have */
};

static int nap_and_end(struct weir_request *req, void *asking)
{
    weir_sleep(req, 1);
    weir_join(req, weir_spawn(req, nap_and_note, (void *)"n"));
    return eventfd_write(((struct asking *)asking)->ended, 1);
}

/* 0: all answers were right. */
static int ask_until_they_have_ended(void *arg)
{
    const struct asking *asking = arg;
    int wrong = 0;
    uint64_t ended;

    do
        wrong += weir_user(asking->req) != asking;
    while (read(asking->ended, &ended, sizeof(ended)) < 0);
    /* The last child's fiber ends behind what it has told. */
    for (int i = 0; i < 1000; i++)
        wrong += weir_user(asking->req) != asking;
    return wrong;
}

static int ask_meanwhile(struct weir_request *req)
{
    struct asking *asking = weir_user(req);

    asking->req = req;
    weir_spawn(req, nap_and_end, asking);
    note("%d", weir_offload(req, ask_until_they_have_ended, asking));
    return 0;
}

static void what_is_offloaded_asks_while_children_come_and_go(void **state)
{
    struct asking asking = { .ended = eventfd(0, EFD_NONBLOCK) };

    (void)state;
    support_talk(STREAM_SERVE(ask_meanwhile, .user = &asking), 0, "", "");
    notes_expect("n,0");
    close(asking.ended);
}

static void find_wait(void *arg, const char *text, size_t len)
{
    (void)len;
    if (strstr(text, "waits=children"))
        *(bool *)arg = true;
}

static void a_dump_tells_of_a_handler_that_waits_for_its_children(void **state)
{
    struct weir_server *server;
    bool found = false;
    int fd;

    (void)state;
    server = STREAM_SERVE(wait_in_three_ways);
    fd = support_connect(server, 0);
    SUPPORT_UNTIL(weir_server_dump(server, SIZE_MAX, find_wait, &found) == 0 && found);
    close(fd);
    weir_server_cancel(server);
    notes_wait(strlen("1,rX,wX,sX,joined"));
}

/* ------------------------------------------------------------------ elsewhere --------- */

static int add_children(struct weir_request *req)
{
    static const int numbers[] = { 3, 4 };
    int one = weir_spawn(req, fail_with, (void *)&numbers[0]);
    int two = weir_spawn(req, fail_with, (void *)&numbers[1]);

    weir_printf(req, "%d", weir_join(req, one) + weir_join(req, two));
    return 0;
}

static const struct weir_handler adding = { .name = "add_children", .handle = add_children };

static void the_children_of_prefork_have_children(void **state)
{
    struct weir_server *server;

    (void)state;
    server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &adding,
                                        .concurrency = WEIR_PREFORK, .processes = 1,
                                        .workers = 1));
    support_talk(server, 0, "", "7");
    weir_server_destroy(server);
}

static void a_datagrams_handler_has_children(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = support_start(WEIR_OPTIONS(.listen = "udp://127.0.0.1:0", .handler = &adding));
    fd = support_ask(server, 0, "x");
    support_expect(fd, "7");
    close(fd);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ misuse ------------ */

static int read_too(struct weir_request *req)
{
    char byte;

    weir_spawn(req, read_and_note, NULL);
    return (int)weir_read(req, &byte, 1);
}

static int write_too(struct weir_request *req)
{
    weir_spawn(req, write_and_note, NULL);
    return write_much(req, NULL);
}

static int read_from_peer(struct weir_request *req, void *peer)
{
    char byte;

    (void)req;
    return (int)weir_read(peer, &byte, 1);
}

static int hang_up_too(struct weir_request *req)
{
    struct weir_request *peer;

    if (weir_connect(req, weir_user(req), 0, &peer) < 0)
        return -EIO;
    weir_spawn(req, read_from_peer, peer);
    weir_hangup(peer);
    return 0;
}

static int hang_up(struct weir_request *req, void *peer)
{
    (void)req;
    weir_hangup(peer);
    return 0;
}

/* A child is in a hangup, since the peer, a Unix socket, takes no more. */
static struct weir_request *hang_up_in_child(struct weir_request *req)
{
    static const char text[4096];
    struct weir_request *peer;

    if (weir_connect(req, weir_user(req), 0, &peer) < 0)
        return NULL;
    while (weir_try_write(peer, text, sizeof(text)) > 0)
        continue;
    weir_spawn(req, hang_up, peer);
    return peer;
}

static int read_while_it_is_hung_up(struct weir_request *req)
{
    return read_from_peer(req, hang_up_in_child(req));
}

static int hang_up_twice(struct weir_request *req)
{
    weir_hangup(hang_up_in_child(req));
    return 0;
}

static int (*misuse)(struct weir_request *req);

static void serve_misuse(void)
{
    struct weir_handler silent = { .name = "silent", .handle = await_a_drain };
    struct weir_handler handler = { .name = "misused", .handle = misuse };
    char address[WEIR_ADDRESS_SIZE];
    struct weir_server *server;

    snprintf(address, sizeof(address), "unix:@weir-silent-%d", (int)getpid());
    support_start(WEIR_OPTIONS(.listen = address, .handler = &silent));
    server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &handler,
                                        .user = address));
    support_connect(server, 0);
    /* The process ends meanwhile. */
    poll(NULL, 0, PLENTY_MS);
}

static void expect_death(int (*handle)(struct weir_request *req), const char *words)
{
    struct support_end end;

    misuse = handle;
    end = support_run_in_child(serve_misuse);
    assert_int_equal(end.status, -SIGABRT);
    if (!strstr(end.said, words))
        assert_string_equal(end.said, words);
}

static void two_fibers_in_one_direction_are_misuse(void **state)
{
    (void)state;
    expect_death(read_too, "two fibers of handler 'misused' read from one stream at once");
    expect_death(write_too, "two fibers of handler 'misused' write to one stream at once");
}

static void a_stream_that_another_fiber_is_in_is_not_hung_up(void **state)
{
    (void)state;
    expect_death(hang_up_too, "weir_hangup on a stream that another fiber of handler 'misused'");
    expect_death(hang_up_twice, "weir_hangup on a stream that another fiber of handler 'misused'");
}

static void nobody_waits_in_a_stream_that_is_hung_up(void **state)
{
    (void)state;
    expect_death(read_while_it_is_hung_up, "two fibers of handler 'misused' read from one stream");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STREAM_TEST(a_child_begins_at_once_and_is_joined_with_its_result),
        STREAM_TEST(of_all_children_the_first_that_failed_is_told),
        STREAM_TEST(nobody_ends_before_its_children),
        STREAM_TEST(only_who_has_spawned_a_child_joins_it),
        STREAM_TEST(many_children_wait_at_once),
        STREAM_TEST(one_fiber_reads_while_another_writes),
        STREAM_TEST(a_client_that_sends_all_before_it_reads_is_served),
        STREAM_TEST(a_child_reads_while_its_handler_writes),
        STREAM_TEST(a_read_sends_what_another_fiber_has_gathered),
        STREAM_TEST(each_call_of_a_kept_connection_has_children_of_its_own),
        STREAM_TEST(the_deadline_of_a_request_ends_the_waits_of_its_children),
        STREAM_TEST(the_deadline_of_a_request_ends_what_its_children_wait_for_in_others),
        STREAM_TEST(a_cancel_ends_the_waits_of_children),
        STREAM_TEST(a_drain_waits_for_children_and_then_cancels_them),
        STREAM_TEST(a_child_may_ask_for_a_drain),
        STREAM_TEST(an_error_of_one_can_end_all),
        STREAM_TEST(what_a_cancelled_fiber_spawns_is_cancelled),
        STREAM_TEST(a_cancel_of_fibers_is_over_with_the_call),
        STREAM_TEST(a_handler_that_fails_ends_the_waits_of_its_children),
        STREAM_TEST(a_setup_that_fails_ends_a_child_that_reads),
        STREAM_TEST(a_setup_that_fails_ends_a_child_that_writes),
        STREAM_TEST(a_read_times_out_while_another_fiber_waits_to_write),
        STREAM_TEST(a_write_times_out_while_another_fiber_waits_to_read),
        cmocka_unit_test_setup_teardown(two_fibers_relay_both_ways, begin_with_back,
                                        end_with_back),
        cmocka_unit_test_setup_teardown(each_child_opens_a_stream_of_its_own, begin_with_back,
                                        end_with_back),
        cmocka_unit_test_setup_teardown(children_look_names_up, begin_with_back, end_with_back),
        STREAM_TEST(children_offload),
        STREAM_TEST(what_is_offloaded_asks_while_children_come_and_go),
        STREAM_TEST(a_dump_tells_of_a_handler_that_waits_for_its_children),
    };
    const struct CMUnitTest elsewhere[] = {
        STREAM_TEST(without_fibers_there_are_no_children),
    };
    const struct CMUnitTest others[] = {
        cmocka_unit_test(the_children_of_prefork_have_children),
        cmocka_unit_test(a_datagrams_handler_has_children),
        STREAM_TEST(two_fibers_in_one_direction_are_misuse),
        STREAM_TEST(a_stream_that_another_fiber_is_in_is_not_hung_up),
        STREAM_TEST(nobody_waits_in_a_stream_that_is_hung_up),
    };
    int failed = STREAM_RUN(tests, FIBER_WAYS);

    for (way = ways + FIBER_WAYS; way < ways + WAYS; way++)
        failed += cmocka_run_group_tests_name(way->name, elsewhere, NULL, NULL);
    way = ways;
    return failed + cmocka_run_group_tests(others, NULL, NULL);
}
