/*
 * poll_test.c - weir_poll, against poll(2) itself wherever that can be asked.
 */
#include "tests/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

/* ------------------------------------------------------------------ what poll(2) says -- */

/* Descriptors in every state that makes a difference. The first one of a pair is polled. */
struct zoo {
    struct pollfd fds[32];
    size_t len;
    int others[32];
    size_t others_len;
};

static void add(struct zoo *zoo, int fd)
{
    zoo->fds[zoo->len++].fd = fd;
}

static void keep(struct zoo *zoo, int fd)
{
    zoo->others[zoo->others_len++] = fd;
}

static void make_pair(int pair[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        note("no socketpair");
}

static void fill_up(int fd)
{
    static const char block[4096];

    while (write(fd, block, sizeof(block)) > 0)
        ;
}

static void add_sockets(struct zoo *zoo)
{
    enum { IDLE, INPUT, FULL, HALF_CLOSED, SHUT_DOWN, CLOSED, CLOSED_WITH_INPUT, KINDS };

    for (int kind = IDLE; kind < KINDS; kind++) {
        int pair[2];

        make_pair(pair);
        add(zoo, pair[0]);
        if (kind == INPUT || kind == CLOSED_WITH_INPUT)
            send(pair[1], "x", 1, 0);
        if (kind == FULL)
            fill_up(pair[0]);
        if (kind == HALF_CLOSED)
            shutdown(pair[1], SHUT_WR);
        if (kind == SHUT_DOWN)
            shutdown(pair[1], SHUT_RDWR);
        if (kind == CLOSED || kind == CLOSED_WITH_INPUT)
            close(pair[1]);
        else
            keep(zoo, pair[1]);
    }
}

static void add_pipes(struct zoo *zoo)
{
    for (int kind = 0; kind < 4; kind++) {
        int ends[2];

        if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
            note("no pipe");
        if (kind == 1)
            fill_up(ends[1]);
        add(zoo, ends[kind == 3]);
        if (kind < 2)
            add(zoo, ends[1]);
        else
            close(ends[kind == 2]);
    }
}

static void add_files(struct zoo *zoo)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    int ready = eventfd(1, EFD_CLOEXEC);

    add(zoo, eventfd(0, EFD_CLOEXEC));
    add(zoo, ready);
    add(zoo, memfd_create("file", MFD_CLOEXEC));
    add(zoo, open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    add(zoo, open("/dev/null", O_RDWR | O_CLOEXEC));
    add(zoo, epoll_create1(EPOLL_CLOEXEC));
    add(zoo, set);
    epoll_ctl(set, EPOLL_CTL_ADD, ready, &(struct epoll_event){ .events = EPOLLIN });
}

static void add_listeners(struct zoo *zoo)
{
    for (int kind = 0; kind < 2; kind++) {
        const struct sockaddr_un any = { .sun_family = AF_UNIX };
        struct sockaddr_un name;
        socklen_t len = sizeof(name);
        int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (bind(fd, (const struct sockaddr *)&any, sizeof(sa_family_t)) < 0 ||
            listen(fd, 4) < 0 || getsockname(fd, (struct sockaddr *)&name, &len) < 0)
            note("no listener");
        if (kind == 1 && connect(client, (const struct sockaddr *)&name, len) < 0)
            note("no client");
        add(zoo, fd);
        add(zoo, client);
    }
}

static void open_zoo(struct zoo *zoo)
{
    int gone = dup(STDERR_FILENO);

    *zoo = (struct zoo){ .len = 0 };
    add_sockets(zoo);
    add_pipes(zoo);
    add_files(zoo);
    add_listeners(zoo);
    close(gone);
    add(zoo, -1);
    add(zoo, -7);
    add(zoo, 19999);
}

static void close_zoo(struct zoo *zoo)
{
    for (size_t i = 0; i < zoo->len; i++)
        if (zoo->fds[i].fd >= 0)
            close(zoo->fds[i].fd);
    for (size_t i = 0; i < zoo->others_len; i++)
        close(zoo->others[i]);
}

static const short interests[] = {
    0, POLLIN, POLLOUT, POLLPRI, POLLRDHUP, POLLIN | POLLOUT, POLLRDNORM | POLLWRNORM, POLLNVAL,
    POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLERR | POLLHUP,
};

/* Asks both the same, and notes where they differ. */
static void compare(struct weir_request *req, struct pollfd *fds, size_t n, int timeout_ms)
{
    struct pollfd expected[64];
    int want;
    int got;

    memcpy(expected, fds, n * sizeof(*fds));
    for (size_t i = 0; i < n; i++)
        fds[i].revents = 0x55;
    want = poll(expected, n, 0);
    got = weir_poll(req, fds, n, timeout_ms);
    if (want != got)
        note("%d instead of %d;", got, want);
    for (size_t i = 0; i < n; i++)
        if (fds[i].revents != expected[i].revents || fds[i].events != expected[i].events ||
            fds[i].fd != expected[i].fd)
            note("fd %d for %#x: %#x instead of %#x;", fds[i].fd, (unsigned)fds[i].events,
                 (unsigned)fds[i].revents, (unsigned)expected[i].revents);
}

static int compare_each(struct weir_request *req)
{
    struct zoo zoo;

    open_zoo(&zoo);
    for (size_t k = 0; k < sizeof(interests) / sizeof(interests[0]); k++)
        for (size_t i = 0; i < zoo.len; i++) {
            zoo.fds[i].events = interests[k];
            compare(req, &zoo.fds[i], 1, 0);
            compare(req, &zoo.fds[i], 1, 1);
        }
    close_zoo(&zoo);
    note("done");
    return 0;
}

static int compare_all(struct weir_request *req)
{
    struct zoo zoo;

    open_zoo(&zoo);
    for (size_t k = 0; k < sizeof(interests) / sizeof(interests[0]); k++) {
        for (size_t i = 0; i < zoo.len; i++)
            zoo.fds[i].events = interests[(k + i) % (sizeof(interests) / sizeof(interests[0]))];
        compare(req, zoo.fds, zoo.len, -1);
    }
    close_zoo(&zoo);
    note("done");
    return 0;
}

static int compare_errors(struct weir_request *req)
{
    note("%d,", weir_poll(req, NULL, 1, 0));
    note("%d,", weir_poll(req, NULL, 10000000, 0));
    note("%d,", weir_poll(req, NULL, 0, 0));
    return 0;
}

/* Serves one client and waits until it's gone: what it noted is complete. */
static void visit(struct weir_server *server, const char *expect)
{
    support_talk(server, 0, "", "");
    notes_expect(expect);
    SUPPORT_AWAIT(server, closed, == 1);
}

static void each_descriptor_is_what_poll_says(void **state)
{
    size_t before = support_open_descriptors();

    (void)state;
    visit(STREAM_SERVE(compare_each), "done");
    stream_end(state);
    SUPPORT_UNTIL(support_open_descriptors() == before);
}

static void all_descriptors_at_once_are_what_poll_says(void **state)
{
    (void)state;
    visit(STREAM_SERVE(compare_all), "done");
}

static void errors_are_those_of_poll(void **state)
{
    (void)state;
    visit(STREAM_SERVE(compare_errors), "-14,-22,0,");
}

/* ------------------------------------------------------------------ waking up --------- */

static int event_fd;

static int wait_for_event(struct weir_request *req)
{
    struct pollfd fds[3] = {
        { .fd = -1, .events = POLLIN }, { .fd = event_fd, .events = POLLIN },
        { .fd = weir_request_fd(req), .events = POLLIN },
    };
    int r = weir_poll(req, fds, 3, -1);

    note("%d:%x,%x,%x;", r, (unsigned)fds[0].revents, (unsigned)fds[1].revents,
         (unsigned)fds[2].revents);
    return 0;
}

/* A handler that waits holds one more descriptor: its set. */
static int connect_and_see_it_wait(struct weir_server *server)
{
    size_t before = support_open_descriptors();
    int fd = support_connect(server, 0);

    SUPPORT_UNTIL(support_open_descriptors() == before + 3);
    return fd;
}

static int begin(void **state)
{
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return stream_begin(state);
}

static int end(void **state)
{
    stream_end(state);
    close(event_fd);
    return 0;
}

#define POLL_TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)

static void what_gets_ready_wakes_it(void **state)
{
    struct weir_server *server = STREAM_SERVE(wait_for_event);
    int fd = connect_and_see_it_wait(server);

    (void)state;
    eventfd_write(event_fd, 1);
    notes_expect("1:0,1,0;");
    close(fd);
}

static void its_own_client_wakes_it(void **state)
{
    struct weir_server *server = STREAM_SERVE(wait_for_event);
    int fd = connect_and_see_it_wait(server);

    (void)state;
    support_say(fd, "x");
    notes_expect("1:0,0,1;");
    close(fd);
}

static int pair_of_test[2];

/* Nothing, and what cannot be refused: that the other end is gone. */
static int wait_for_hangup(struct weir_request *req)
{
    struct pollfd fds[2] = { { .fd = pair_of_test[0] }, { .fd = pair_of_test[0] } };
    int r;

    r = weir_poll(req, fds, 2, -1);
    note("%d:%x,%x", r, (unsigned)fds[0].revents, (unsigned)fds[1].revents);
    close(pair_of_test[0]);
    r = weir_poll(req, fds, 1, -1);
    note(" %d:%x", r, (unsigned)fds[0].revents);
    return 0;
}

static void hangups_come_unasked_and_closed_ones_at_once(void **state)
{
    struct weir_server *server = STREAM_SERVE(wait_for_hangup);
    int fd;

    (void)state;
    make_pair(pair_of_test);
    fd = connect_and_see_it_wait(server);
    close(pair_of_test[1]);
    notes_expect("2:10,10 1:20");
    close(fd);
}

/* The same descriptor for reading and, apart from that, for writing. */
static int wait_twice(struct weir_request *req)
{
    struct pollfd fds[2] = {
        { .fd = pair_of_test[0], .events = POLLIN }, { .fd = pair_of_test[0], .events = POLLOUT },
    };
    int r;

    fill_up(pair_of_test[0]);
    r = weir_poll(req, fds, 2, -1);
    note("%d:%x,%x;", r, (unsigned)fds[0].revents, (unsigned)fds[1].revents);
    /* Without the one that is ready now, and then with it again. */
    fds[0].events = 0;
    r = weir_poll(req, fds, 2, -1);
    note("%d:%x,%x;", r, (unsigned)fds[0].revents, (unsigned)fds[1].revents);
    fds[0].events = POLLIN;
    r = weir_poll(req, fds, 1, -1);
    note("%d:%x;", r, (unsigned)fds[0].revents);
    return 0;
}

static void a_descriptor_may_be_listed_twice_and_its_interest_may_change(void **state)
{
    struct weir_server *server = STREAM_SERVE(wait_twice);
    static char bin[4096];
    int fd;

    (void)state;
    make_pair(pair_of_test);
    fd = connect_and_see_it_wait(server);
    send(pair_of_test[1], "x", 1, 0);
    notes_expect("1:1,0;");
    while (recv(pair_of_test[1], bin, sizeof(bin), 0) > 0)
        ;
    notes_expect("1:1,0;1:0,4;1:1;");
    close(fd);
    close(pair_of_test[0]);
    close(pair_of_test[1]);
}

/* ------------------------------------------------------------------ time -------------- */

static int wait_a_while(struct weir_request *req)
{
    struct pollfd fds[2] = { { .fd = event_fd, .events = POLLIN }, { .fd = -1 } };
    uint64_t began_ms = support_now_ms();

    note("%d,", weir_poll(req, fds, 2, 30));
    note("%d,", weir_poll(req, &fds[1], 1, 30));
    note("%d,", weir_poll(req, NULL, 0, 30));
    note(support_now_ms() - began_ms >= 90 ? "late" : "early");
    return 0;
}

static void time_passes_and_is_never_cut_short(void **state)
{
    (void)state;
    visit(STREAM_SERVE(wait_a_while, .read_timeout_ms = 1), "0,0,0,late");
}

static int wait_too_long(struct weir_request *req)
{
    struct pollfd fds = { .fd = event_fd, .events = POLLIN };

    note("%d,", weir_poll(req, &fds, 1, 1));
    note("%d,", weir_poll(req, &fds, 1, -1));
    note("%d,", weir_poll(req, &fds, 1, 10000));
    /* What is ready is told all the same. */
    eventfd_write(event_fd, 1);
    note("%d", weir_poll(req, &fds, 1, -1));
    return 0;
}

static void the_request_timeout_ends_it(void **state)
{
    struct weir_server *server = STREAM_SERVE(wait_too_long, .request_timeout_ms = 50);

    (void)state;
    visit(server, "0,-110,-110,1");
    assert_int_equal(support_stats(server).timeouts, 2);
}

static int wait_until_cancelled(struct weir_request *req)
{
    struct pollfd fds = { .fd = event_fd, .events = POLLIN };
    int r = weir_poll(req, &fds, 1, -1);

    note("%d,", r);
    note("%d", weir_poll(req, &fds, 1, 10000));
    return r;
}

static void a_cancel_ends_it(void **state)
{
    size_t before = support_open_descriptors();
    struct weir_server *server = STREAM_SERVE(wait_until_cancelled);
    int fd = connect_and_see_it_wait(server);

    weir_server_cancel(server);
    notes_expect("-125,-125");
    SUPPORT_AWAIT(server, cancelled, == 1);
    close(fd);
    stream_end(state);
    SUPPORT_UNTIL(support_open_descriptors() == before);
}

/* ------------------------------------------------------------------ streams ----------- */

/* More than any socket holds, and all of it gathered when the polls begin. */
#define GATHERED ((size_t)16 << 20)

static int poll_while_the_peer_stalls(struct weir_request *req)
{
    static const char much[GATHERED];
    struct pollfd fds = { .fd = weir_request_fd(req), .events = POLLIN };
    char *line;

    weir_write(req, much, sizeof(much));
    note("%d,", weir_poll(req, &fds, 1, 0));
    note("%d,", weir_poll(req, &fds, 1, 20));
    note("%d,", weir_poll(req, &fds, 1, -1));
    note("%zd", weir_readline(req, &line, 100));
    return 0;
}

static void who_takes_nothing_holds_no_poll_up(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(poll_while_the_peer_stalls, .wbufsize = GATHERED + 1);
    fd = support_connect(server, 0);
    notes_expect("0,0,");
    support_say(fd, "one\n");
    notes_expect("0,0,1,4");
    close(fd);
}

static int poll_for_thanks(struct weir_request *req)
{
    static const char much[GATHERED];
    struct pollfd fds = { .fd = weir_request_fd(req), .events = POLLIN };

    weir_write(req, much, sizeof(much));
    note("%d", weir_poll(req, &fds, 1, -1));
    return 0;
}

static void what_was_gathered_leaves_while_a_poll_waits(void **state)
{
    struct weir_server *server;
    char *got = test_malloc(GATHERED);
    int fd;

    (void)state;
    server = STREAM_SERVE(poll_for_thanks, .wbufsize = GATHERED + 1);
    fd = support_connect(server, 0);
    assert_int_equal(support_read_all(fd, got, GATHERED), GATHERED);
    assert_int_equal(notes_len(), 0);
    support_say(fd, "thanks\n");
    notes_expect("1");
    test_free(got);
    close(fd);
}

static int greet_and_wait(struct weir_request *req)
{
    struct pollfd fds = { .fd = weir_request_fd(req), .events = POLLIN };
    char *data;

    weir_write(req, "hello\n", 6);
    note("%d,", weir_poll(req, &fds, 1, -1));
    /* Both lines are read from the socket: for poll(2) there is no input any more. */
    note("%zd,", weir_readline(req, &data, 100));
    note("%d,", weir_poll(req, &fds, 1, 1));
    note("%zd", weir_peek(req, &data, 0));
    return 0;
}

static void what_was_written_leaves_first_and_what_was_read_is_not_input(void **state)
{
    struct weir_server *server = STREAM_SERVE(greet_and_wait);
    int fd = support_connect(server, 0);

    (void)state;
    support_expect(fd, "hello\n");
    support_say(fd, "one\ntwo\n");
    notes_expect("1,4,0,4");
    close(fd);
}

static int shout(struct weir_request *req)
{
    char buf[100];
    ssize_t n;

    while ((n = weir_read(req, buf, sizeof(buf))) > 0) {
        for (ssize_t i = 0; i < n; i++)
            if (buf[i] >= 'a' && buf[i] <= 'z')
                buf[i] = (char)(buf[i] - 0x20);
        weir_write(req, buf, (size_t)n);
    }
    return (int)n;
}

static const struct weir_handler shouter = { .name = "shouter", .handle = shout };
static char back_address[WEIR_ADDRESS_SIZE];

#define UPSTREAMS 4

/* Passes on what has come from one stream to another. False: it has ended. */
static bool pass_on(struct weir_request *from, struct weir_request *to)
{
    char buf[100];
    ssize_t n = weir_read(from, buf, sizeof(buf));

    if (n > 0)
        weir_write(to, buf, (size_t)n);
    return n > 0;
}

/* Its client's input goes to each upstream in turn, and what any of these says to the client. */
static int relay(struct weir_request *req)
{
    struct weir_request *streams[1 + UPSTREAMS] = { req };
    struct pollfd fds[1 + UPSTREAMS];
    size_t turn = 0;

    for (size_t i = 0; i <= UPSTREAMS; i++) {
        if (i > 0 && weir_connect(req, weir_user(req), 0, &streams[i]) < 0)
            return -EIO;
        fds[i] = (struct pollfd){ .fd = weir_request_fd(streams[i]), .events = POLLIN };
    }
    for (;;) {
        int n = weir_poll(req, fds, 1 + UPSTREAMS, -1);

        if (n < 0)
            return n;
        for (size_t i = 0; i <= UPSTREAMS; i++) {
            char *data;

            /* All that has come: what stays in the buffer, no poll(2) tells of. */
            if (fds[i].revents == 0)
                continue;
            do
                if (!pass_on(streams[i], i > 0 ? req : streams[1 + turn++ % UPSTREAMS]))
                    return 0;
            while (weir_peek(streams[i], &data, 0) > 0);
        }
    }
}

#define CLIENTS 16

static void one_handler_relays_between_its_client_and_several_streams(void **state)
{
    struct weir_server *back = support_start(WEIR_OPTIONS(
        .listen = stream_listen(), .handler = &shouter, .workers = 2, .dispatch = way->dispatch));
    struct weir_server *server;
    size_t clients = way->stack == WEIR_STACK_THREAD ? 2 : CLIENTS;
    int fds[CLIENTS];

    weir_server_address(back, 0, back_address, sizeof(back_address));
    server = STREAM_SERVE(relay, .user = back_address);
    for (size_t i = 0; i < clients; i++)
        fds[i] = support_connect(server, 0);
    for (int round = 0; round < 4 * UPSTREAMS; round++) {
        for (size_t i = 0; i < clients; i++)
            support_say(fds[i], "hither and thither\n");
        for (size_t i = 0; i < clients; i++)
            support_expect(fds[i], "HITHER AND THITHER\n");
    }
    for (size_t i = 0; i < clients; i++)
        close(fds[i]);
    SUPPORT_AWAIT(server, closed, == clients);
    SUPPORT_AWAIT(back, closed, == clients * UPSTREAMS);
    stream_end(state);
    weir_server_shutdown(back);
    weir_server_destroy(back);
}

/* ------------------------------------------------------------------ others ------------ */

static void many_wait_for_the_same_one_on_one_worker(void **state)
{
    struct weir_server *server;
    int fds[CLIENTS];

    (void)state;
    if (way->stack == WEIR_STACK_THREAD)
        skip();
    server = STREAM_SERVE(wait_for_event, .workers = 1);
    for (size_t i = 0; i < CLIENTS; i++)
        fds[i] = connect_and_see_it_wait(server);
    eventfd_write(event_fd, 1);
    SUPPORT_AWAIT(server, closed, == CLIENTS);
    for (size_t i = 0; i < CLIENTS; i++)
        close(fds[i]);
}

static _Atomic bool enough;

/* The first client's finds something ready for ever, the second's ends that. */
static int find_ready_or_end_it(struct weir_request *req)
{
    struct pollfd fds = { .fd = event_fd, .events = POLLOUT };
    char *line;

    if (weir_readline(req, &line, 100) == 4) {
        atomic_store(&enough, true);
        return 0;
    }
    while (!atomic_load(&enough))
        if (weir_poll(req, &fds, 1, -1) != 1)
            return -EIO;
    note("enough");
    return 0;
}

static void who_always_finds_something_lets_others_go_on(void **state)
{
    struct weir_server *server;
    int busy;
    int other;

    (void)state;
    if (way->stack == WEIR_STACK_THREAD)
        skip();
    atomic_store(&enough, false);
    server = STREAM_SERVE(find_ready_or_end_it, .workers = 1);
    busy = support_connect(server, 0);
    other = support_connect(server, 0);
    support_say(busy, "x\n");
    support_say(other, "end\n");
    notes_expect("enough");
    close(busy);
    close(other);
}

static int lack_descriptors(struct weir_request *req)
{
    struct pollfd fds = { .fd = event_fd, .events = POLLIN };
    struct rlimit before = support_leave_descriptors(0);

    note("%d,", weir_poll(req, &fds, 1, 10));
    setrlimit(RLIMIT_NOFILE, &before);
    note("%d", weir_poll(req, &fds, 1, 10));
    return 0;
}

static void without_a_descriptor_it_fails_and_works_again_later(void **state)
{
    (void)state;
    visit(STREAM_SERVE(lack_descriptors), "-24,0");
}

#define SETS_MAX 600

/* Puts a descriptor into as many sets of a set as Linux allows. */
static size_t crowd(int fd, int outer, int sets[SETS_MAX])
{
    struct epoll_event event = { .events = EPOLLIN };

    for (size_t len = 0; len < SETS_MAX; len++) {
        sets[len] = epoll_create1(EPOLL_CLOEXEC);
        epoll_ctl(sets[len], EPOLL_CTL_ADD, fd, &event);
        if (epoll_ctl(outer, EPOLL_CTL_ADD, sets[len], &event) < 0)
            return len + 1;
    }
    return SETS_MAX;
}

static void what_too_many_wait_for_is_noticed_all_the_same(void **state)
{
    struct weir_server *server = STREAM_SERVE(wait_for_event);
    int outer = epoll_create1(EPOLL_CLOEXEC);
    int sets[SETS_MAX];
    size_t len = crowd(event_fd, outer, sets);
    int fd;

    (void)state;
    assert_true(len < SETS_MAX);
    fd = connect_and_see_it_wait(server);
    eventfd_write(event_fd, 1);
    notes_expect("1:0,1,0;");
    close(fd);
    while (len > 0)
        close(sets[--len]);
    close(outer);
}

static int wait_a_while_in_a_crowd(struct weir_request *req)
{
    struct pollfd fds = { .fd = event_fd, .events = POLLIN };
    uint64_t began_ms = support_now_ms();

    note("%d,", weir_poll(req, &fds, 1, 35));
    note(support_now_ms() - began_ms >= 35 ? "late," : "early,");
    note("%d", weir_poll(req, &fds, 1, -1));
    return 0;
}

static void in_a_crowd_deadlines_and_cancels_hold_as_well(void **state)
{
    struct weir_server *server = STREAM_SERVE(wait_a_while_in_a_crowd);
    int outer = epoll_create1(EPOLL_CLOEXEC);
    int sets[SETS_MAX];
    size_t len = crowd(event_fd, outer, sets);
    int fd = support_connect(server, 0);

    (void)state;
    notes_expect("0,late,");
    weir_server_cancel(server);
    notes_expect("0,late,-125");
    close(fd);
    while (len > 0)
        close(sets[--len]);
    close(outer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POLL_TEST(each_descriptor_is_what_poll_says),
        POLL_TEST(all_descriptors_at_once_are_what_poll_says),
        POLL_TEST(errors_are_those_of_poll),
        POLL_TEST(what_gets_ready_wakes_it),
        POLL_TEST(its_own_client_wakes_it),
        POLL_TEST(hangups_come_unasked_and_closed_ones_at_once),
        POLL_TEST(a_descriptor_may_be_listed_twice_and_its_interest_may_change),
        POLL_TEST(time_passes_and_is_never_cut_short),
        POLL_TEST(the_request_timeout_ends_it),
        POLL_TEST(a_cancel_ends_it),
        POLL_TEST(who_takes_nothing_holds_no_poll_up),
        POLL_TEST(what_was_gathered_leaves_while_a_poll_waits),
        POLL_TEST(what_was_written_leaves_first_and_what_was_read_is_not_input),
        POLL_TEST(one_handler_relays_between_its_client_and_several_streams),
        POLL_TEST(many_wait_for_the_same_one_on_one_worker),
        POLL_TEST(who_always_finds_something_lets_others_go_on),
        POLL_TEST(without_a_descriptor_it_fails_and_works_again_later),
        POLL_TEST(what_too_many_wait_for_is_noticed_all_the_same),
        POLL_TEST(in_a_crowd_deadlines_and_cancels_hold_as_well),
    };

    return STREAM_RUN(tests, WAYS);
}
