/* prefork_test.c - children that are forked beforehand: shared clients, deaths, orders, counts. */
#include "tests/support.h"

#include "engine/accept/acceptor.h"
#include "engine/base/compiler.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* What handlers in children tell the test. */
static struct board {
    _Atomic int inside;             /* handlers that are at the gate now */
    char address[WEIR_ADDRESS_SIZE];
    _Atomic bool addressed;         /* it is written */
    _Atomic pid_t survivor;         /* all others die when they are to accept; 0: nobody does */
    _Atomic bool dies_at_once;      /* the first that is to accept dies; no other one does */
    _Atomic bool forks_die;         /* whoever is forked dies at once */
    _Atomic bool forks_starve;      /* whoever is forked can open nothing */
    _Atomic bool forks_stop;        /* whoever is forked is stopped at once */
    _Atomic pid_t short_of_memory;  /* it can accept nobody; 0: all can */
    _Atomic bool fills;             /* who is called next is full when it comes to the client */
    _Atomic pid_t filled;           /* it was; 0: nobody yet */
    _Atomic bool empties;           /* it has room again */
    _Atomic unsigned by_workers;    /* clients that workers have accepted, not acceptors */
} *board;

static struct gate gate;            /* an eventfd: children share it */
static _Atomic int told;            /* how often handle_error was told of a child's death */
static _Atomic int services;
static _Atomic int pidfds_left;     /* so many children have one, then one has none; -1: all have */
static _Atomic bool is_late;        /* the parent looks when a child has died, and not earlier */
static _Atomic pid_t dies_behind;   /* it is ended when another child has, and the parent looks */
static _Atomic int errors;          /* of handle_error, about something else */

int __real_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    pid_t survivor = board->survivor;
    int client;

    if (survivor != 0 && survivor != getpid())
        raise(SIGKILL);
    if (atomic_exchange(&board->dies_at_once, false))
        raise(SIGKILL);
    if (board->short_of_memory == getpid()) {
        errno = ENOMEM;
        return -1;
    }
    client = __real_accept4(fd, address, len, flags);
    if (client >= 0 && !acceptor_self())
        board->by_workers++;
    return client;
}

static bool has_called(const struct acceptor *acceptor, const struct epoll_event *events, int n)
{
    for (int i = 0; i < n; i++)
        if (events[i].data.u64 == acceptor->listening[0].token)
            return true;
    return false;
}

/* Between the call and the look for a place a datagram, say, takes the last one. */
static void fill_or_empty(const struct acceptor *acceptor, bool is_called)
{
    struct quota *quota = acceptor->listening[0].endpoint->quota;

    /* It may be full already: of a client that has had its answer, and its end a moment ago. */
    if (is_called && atomic_exchange(&board->fills, false)) {
        if (quota_take(quota, 1) == 1)
            board->filled = getpid();
        else
            board->fills = true;
    }
    if (board->filled == getpid() && atomic_exchange(&board->empties, false))
        connection_table_release(&acceptor->pool->crew.table, quota, 1);
}

int __real_epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms);

int __wrap_epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms)
{
    const struct acceptor *acceptor = acceptor_self();
    int n = __real_epoll_wait(fd, events, max, timeout_ms);

    if (acceptor && fd == acceptor->epoll_fd)
        fill_or_empty(acceptor, has_called(acceptor, events, n));
    return n;
}

int __real_poll(struct pollfd *fds, nfds_t len, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t len, int timeout_ms);

int __wrap_poll(struct pollfd *fds, nfds_t len, int timeout_ms)
{
    siginfo_t died;

    pid_t last = atomic_exchange(&dies_behind, 0);

    if (last != 0 || atomic_exchange(&is_late, false))
        waitid(P_ALL, 0, &died, WEXITED | WNOWAIT);
    if (last != 0) {
        kill(last, SIGKILL);
        waitid(P_PID, (id_t)last, &died, WEXITED | WNOWAIT);
    }
    return __real_poll(fds, len, timeout_ms);
}

int __real_pidfd_open(pid_t pid, unsigned flags);
int __wrap_pidfd_open(pid_t pid, unsigned flags);

int __wrap_pidfd_open(pid_t pid, unsigned flags)
{
    if (pid == getpid() || pidfds_left < 0 || pidfds_left-- > 0)
        return __real_pidfd_open(pid, flags);
    pidfds_left = -1;
    errno = EMFILE;
    return -1;
}

/* In each child of fork(2), before that returns. */
static void stop_where_told(void)
{
    if (board->forks_die)
        raise(SIGKILL);
    if (board->forks_stop)
        raise(SIGSTOP);
    if (board->forks_starve)
        /* It has the standard streams, and poll(2) takes as many descriptors. */
        setrlimit(RLIMIT_NOFILE, &(const struct rlimit){ 3, 3 });
}

static int begin(void **state)
{
    (void)state;
    pidfds_left = -1;
    dies_behind = 0;
    gate_init(&gate);
    memset(board, 0, sizeof(*board));
    told = 0;
    services = 0;
    return 0;
}

static int end(void **state)
{
    (void)state;
    gate_fini(&gate);
    return 0;
}

static void note_death(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    if (failure->phase == WEIR_PHASE_PROCESS && failure->error == -ECHILD &&
        failure->peer[0] == '\0' && failure->handler[0] == '\0')
        told++;
    else
        errors++;
}

/* Has all descriptors that the child may have, until the gate is open. */
static int hoard_descriptors(void)
{
    int fds[64];
    size_t len = 0;

    support_leave_descriptors(32);
    while (len < sizeof(fds) / sizeof(fds[0]) && (fds[len] = dup(STDIN_FILENO)) >= 0)
        len++;
    if (len == sizeof(fds) / sizeof(fds[0]))
        return -EPROTO;
    board->inside++;
    gate_pass(&gate);
    while (len > 0)
        close(fds[--len]);
    return 0;
}

static int answer(struct weir_request *req, char question)
{
    switch (question) {
    case 'p':
        weir_printf(req, "%d\n", (int)getpid());
        return 0;
    case 'k':
        weir_printf(req, "%d\n", (int)getpid());
        return WEIR_KEEP;
    case 'g':
        board->inside++;
        gate_pass(&gate);
        board->inside--;
        weir_printf(req, "passed\n");
        return 0;
    case 'h':
        weir_printf(req, "%d\n", (int)getpid());
        weir_flush(req);
        return hoard_descriptors();
    case 'd':
        return kill(getpid(), SIGKILL);
    case 'e':
        _exit(3);
    case 'c':
        weir_printf(req, "%d\n", sched_getcpu());
        return 0;
    default:
        return -EPROTO;
    }
}

static int handle(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    return n <= 0 ? (int)n : answer(req, line[0]);
}

static const struct weir_handler handler = {
    .name = "children", .handle = handle, .stack = WEIR_STACK_THREAD,
};

#define OPTIONS(...) WEIR_OPTIONS( \
        .listen = "tcp://127.0.0.1:0", .handler = &handler, .concurrency = WEIR_PREFORK, \
        .handle_error = note_death, __VA_ARGS__)
#define START(...) support_start(OPTIONS(__VA_ARGS__))

static void finish(struct weir_server *server)
{
    assert_int_equal(weir_server_shutdown(server), 0);
    weir_server_destroy(server);
}

/* Which child says so. */
static pid_t number_from(int fd)
{
    char text[32] = "";

    for (size_t len = 0; len < sizeof(text) - 1; len++)
        if (support_read_all(fd, text + len, 1) == 0 || text[len] == '\n')
            break;
    return atoi(text);
}

static pid_t child_of(struct weir_server *server)
{
    int fd = support_ask(server, 0, "pid\n");
    pid_t pid = number_from(fd);

    support_expect_end(fd);
    close(fd);
    return pid;
}

static void kill_one(struct weir_server *server, const char *how)
{
    int before = told;

    support_expect_last(support_ask(server, 0, how), "");
    SUPPORT_UNTIL(told == before + 1);
}

/* ------------------------------------------------------------------ together ---------- */

struct answers {
    pid_t pid;
    unsigned count;
};

static void note_answer(struct answers *answers, pid_t pid)
{
    while (answers->pid != 0 && answers->pid != pid)
        answers++;
    answers->pid = pid;
    answers->count++;
}

/* The first in line would have them all, if it did not go to its end. */
static void children_take_turns_at_the_clients(void **state)
{
    struct weir_server *server = START(.processes = 3);
    struct answers answers[3] = { { 0 } };

    (void)state;
    while (answers[0].count < 10 || answers[1].count < 10 || answers[2].count < 10) {
        pid_t pid = child_of(server);

        assert_int_not_equal(pid, getpid());
        note_answer(answers, pid);
        assert_true(answers[0].count < 1000);
    }
    finish(server);
}

enum { CROWD = 200 };

static void answer_crowd(struct weir_server *server, struct answers *answers)
{
    int fds[CROWD];

    for (int i = 0; i < CROWD; i++)
        fds[i] = support_ask(server, 0, "pid\n");
    for (int i = 0; i < CROWD; i++) {
        pid_t pid = number_from(fds[i]);

        assert_int_not_equal(pid, 0);
        note_answer(answers, pid);
        support_expect_last(fds[i], "");
    }
}

/* Whether a crowd is a rush is also a matter of who else has the CPU. */
static void in_a_rush_the_workers_of_all_children_accept(void **state)
{
    struct weir_server *server = START(.processes = 2, .workers = 1);
    struct answers answers[3] = { { 0 } };
    unsigned crowds = 0;

    (void)state;
    SUPPORT_UNTIL((answer_crowd(server, answers), crowds++,
                   board->by_workers >= CROWD && answers[0].count > CROWD / 4 &&
                   answers[1].count > CROWD / 4));
    assert_int_equal(answers[0].count + answers[1].count, crowds * CROWD);
    SUPPORT_AWAIT(server, closed, == crowds * CROWD);
    assert_int_equal(support_stats(server).accepted, crowds * CROWD);
    finish(server);
}

/* Both children may have lent their listener: they hear of the death, and look again. */
static void in_a_rush_a_client_of_a_dead_child_is_served_by_another(void **state)
{
    struct weir_server *server = START(.processes = 2, .workers = 1);
    struct answers answers[8] = { { 0 } };

    (void)state;
    SUPPORT_UNTIL((answer_crowd(server, answers), board->by_workers > 0));
    for (int i = 0; i < 4; i++) {
        int before = told;

        support_expect_last(support_ask(server, 0, "die\n"), "");
        answer_crowd(server, (struct answers[8]){ { 0 } });
        SUPPORT_UNTIL(told == before + 1);
    }
    finish(server);
}

static void who_has_no_room_leaves_clients_to_the_others(void **state)
{
    struct weir_server *server = START(.processes = 2, .workers = 1, .max_connections = 1);
    int fds[5];

    (void)state;
    support_come_to_gate(server, fds, 5);
    SUPPORT_UNTIL(board->inside == 2);
    SUPPORT_AWAIT(server, active, == 2);
    support_pass_gate(&gate, fds, 5);
    finish(server);
}

/* Returns once a client has been served by the first child, and another by the second. */
static void expect_both_serve(struct weir_server *server, pid_t first)
{
    SUPPORT_UNTIL(child_of(server) == first);
    SUPPORT_UNTIL(child_of(server) != first);
}

/* It has been called alone, and has no place before another child has served the client. */
static void who_is_full_when_it_is_called_has_another_serve(void **state)
{
    struct weir_server *server = START(.processes = 2, .workers = 1, .max_connections = 1);
    pid_t other;

    (void)state;
    expect_both_serve(server, child_of(server));
    board->fills = true;
    /* Who looks because another was full a moment ago has not been called. */
    SUPPORT_UNTIL((other = child_of(server), board->filled != 0));
    assert_int_not_equal(board->filled, other);
    board->empties = true;
    /* A child that is stopped before it has looked would wait for that place for ever. */
    SUPPORT_UNTIL(!board->empties);
    finish(server);
}

static void a_client_for_whom_the_dead_was_called_is_served_by_another(void **state)
{
    struct weir_server *server = START(.processes = 2);
    pid_t survivor = child_of(server);

    (void)state;
    board->survivor = survivor;
    while (told < 2)
        assert_int_equal(child_of(server), survivor);
    board->survivor = 0;
    finish(server);
}

/* Nobody comes behind a client, for whom the other child would be called. */
static void who_has_no_descriptors_leaves_clients_to_the_others(void **state)
{
    struct weir_server *server = START(.processes = 2);
    int fd = support_ask(server, 0, "hoard\n");
    pid_t hoarder = number_from(fd);

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    for (int i = 0; i < 50 || support_stats(server).accept_errors == 0; i++)
        assert_int_not_equal(child_of(server), hoarder);
    gate_open(&gate);
    support_expect_last(fd, "");
    expect_both_serve(server, hoarder);
    finish(server);
}

/* It stands in line again and again, for nothing tells it whether there is memory. */
static void who_has_no_memory_leaves_clients_to_the_others(void **state)
{
    struct weir_server *server = START(.processes = 2);
    pid_t poor = child_of(server);

    (void)state;
    board->short_of_memory = poor;
    while (support_stats(server).accept_errors < 3)
        assert_int_not_equal(child_of(server), poor);
    board->short_of_memory = 0;
    expect_both_serve(server, poor);
    finish(server);
}

static void counts_are_summed_and_outlive_the_children(void **state)
{
    struct weir_server *server = START(.processes = 2);
    struct weir_stats stats;

    (void)state;
    for (int i = 0; i < 20; i++)
        child_of(server);
    assert_int_equal(support_stats(server).workers, 2);
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_close(server), 0);
    stats = support_stats(server);
    assert_int_equal(stats.accepted, 20);
    assert_int_equal(stats.handled, 20);
    assert_int_equal(stats.closed, 20);
    assert_int_equal(stats.active, 0);
    assert_int_equal(stats.bytes_in, 20 * 4);
    assert_int_equal(stats.workers, 0);
    weir_server_destroy(server);
}

static void what_has_to_be_accepted_here_is_refused(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.processes = 1));
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(weir_handle_request(server), -EOPNOTSUPP);
    assert_non_null(strstr(weir_why(), "its children accept"));
    assert_int_equal(weir_server_fileno(server), -EOPNOTSUPP);
    assert_int_equal(weir_submit_fd(server, pair[0], NULL), -EOPNOTSUPP);
    assert_non_null(strstr(weir_why(), "its children serve"));
    close(pair[0]);
    close(pair[1]);
    weir_server_destroy(server);
}

/* Whichever two CPUs there are. */
static bool two_cpus(int *ret_cpus)
{
    cpu_set_t cpus;
    int found = 0;

    assert_int_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
        if (CPU_ISSET(cpu, &cpus))
            ret_cpus[found++] = cpu;
    return found == 2;
}

static bool runs_on(struct weir_server *server, int cpu)
{
    int fd = support_ask(server, 0, "cpu\n");
    int number = number_from(fd);

    close(fd);
    return number == cpu;
}

static void workers_of_children_are_bound_to_the_cpus_in_turn(void **state)
{
    struct weir_server *server;
    char list[32];
    int cpus[2];

    (void)state;
    if (!two_cpus(cpus))
        skip();
    snprintf(list, sizeof(list), "%d,%d", cpus[0], cpus[1]);
    server = START(.processes = 2, .workers = 1, .worker_cpus = list);
    SUPPORT_UNTIL(runs_on(server, cpus[0]));
    SUPPORT_UNTIL(runs_on(server, cpus[1]));
    finish(server);
}

/* ------------------------------------------------------------------ one that dies ----- */

static void a_child_that_dies_is_replaced(void **state)
{
    struct weir_server *server;
    struct capture capture;
    char text[200];
    pid_t first;
    pid_t second;

    (void)state;
    server = START(.processes = 1);
    first = child_of(server);
    capture_begin(&capture);
    kill_one(server, "die\n");
    capture_end(&capture, text, sizeof(text));
    assert_non_null(strstr(text, "was ended by signal 9"));
    second = child_of(server);
    assert_int_not_equal(second, first);
    /* So is one that a handler has ended. */
    kill_one(server, "exit\n");
    assert_int_not_equal(child_of(server), second);
    assert_int_equal(support_stats(server).workers, 1);
    finish(server);
}

static void who_dies_young_is_replaced_later_each_time(void **state)
{
    struct weir_server *server;

    (void)state;
    server = START(.processes = 1);
    for (uint64_t pause_ms = 100; pause_ms <= 400; pause_ms *= 2) {
        uint64_t began_ms = support_now_ms();

        kill_one(server, "die\n");
        child_of(server);
        assert_true(support_now_ms() - began_ms >= pause_ms);
    }
    finish(server);
}

/* The first client may have crashed it: that it could accept is known all the same. */
static void who_dies_before_the_parent_has_looked_is_replaced(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    assert_int_equal(weir_server_create(&server, OPTIONS(.processes = 1)), 0);
    fd = support_ask(server, 0, "pid\n");
    board->dies_at_once = true;
    is_late = true;
    assert_int_equal(weir_server_start(server), 0);
    assert_true(number_from(fd) > 0);
    close(fd);
    assert_false(board->dies_at_once);
    assert_int_equal(told, 1);
    finish(server);
}

/* It could accept, but the next serving's children can't. */
static void who_was_an_earlier_servings_is_no_beginning(void **state)
{
    struct weir_server *server = START(.processes = 1, .workers = 2);
    pid_t old = child_of(server);
    int fd = support_ask(server, 0, "gate\n");

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(kill(old, SIGKILL), 0);
    support_expect_end(fd);
    close(fd);
    board->forks_die = true;
    assert_int_equal(weir_server_start(server), -ECHILD);
    board->forks_die = false;
    weir_server_destroy(server);
    assert_int_equal(told, 1);
}

/* Its end is not why the next serving's children can't accept. */
static void who_was_an_earlier_servings_does_not_say_why_a_later_fails(void **state)
{
    struct weir_server *server = START(.processes = 1, .workers = 2);
    pid_t old = child_of(server);
    int fd = support_ask(server, 0, "gate\n");

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    assert_int_equal(weir_server_shutdown(server), 0);
    board->forks_starve = true;
    dies_behind = old;
    assert_int_equal(weir_server_start(server), -EMFILE);
    board->forks_starve = false;
    support_expect_end(fd);
    close(fd);
    weir_server_destroy(server);
    assert_int_equal(told, 1);
}

static void connections_of_a_dead_child_are_counted_as_closed(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = START(.processes = 1, .workers = 2);
    fd = support_ask(server, 0, "gate\n");
    SUPPORT_UNTIL(board->inside == 1);
    SUPPORT_AWAIT(server, active, == 1);
    kill_one(server, "die\n");
    support_expect_end(fd);
    close(fd);
    SUPPORT_AWAIT(server, active, == 0);
    assert_int_equal(support_stats(server).closed, support_stats(server).accepted);
    finish(server);
}

/* ------------------------------------------------------------------ orders ------------ */

static void after_a_shutdown_children_finish_and_others_serve(void **state)
{
    struct weir_server *server = START(.processes = 1, .workers = 2);
    int fd = support_ask(server, 0, "gate\n");
    int kept = support_ask(server, 0, "keep\n");
    pid_t first = number_from(kept);

    (void)state;
    SUPPORT_UNTIL(board->inside == 1);
    assert_int_equal(weir_server_shutdown(server), 0);
    support_expect_end(kept);
    close(kept);
    assert_int_equal(weir_server_start(server), 0);
    assert_int_not_equal(child_of(server), first);
    SUPPORT_AWAIT(server, workers, == 2);
    gate_open(&gate);
    support_expect_last(fd, "passed\n");
    SUPPORT_AWAIT(server, workers, == 1);
    finish(server);
}

static bool is_refused(struct weir_server *server)
{
    int fd = support_ask(server, 0, "pid\n");
    pid_t pid = number_from(fd);

    close(fd);
    return pid == 0;
}

static void new_rules_come_with_new_children(void **state)
{
    struct weir_server *server;
    pid_t first;
    struct weir_access *access;

    (void)state;
    server = START(.processes = 2);
    first = child_of(server);
    assert_int_equal(weir_access_parse("default deny\n", &access), 0);
    assert_int_equal(weir_server_set_access(server, access), 0);
    SUPPORT_UNTIL(is_refused(server));
    SUPPORT_AWAIT(server, workers, == 2);
    assert_int_equal(weir_server_set_access(server, NULL), 0);
    SUPPORT_UNTIL(!is_refused(server));
    assert_int_not_equal(child_of(server), first);
    SUPPORT_AWAIT(server, workers, == 2);
    assert_int_equal(told, 0);
    finish(server);
}

static void count_service(struct weir_server *server)
{
    (void)server;
    services++;
}

static void service_actions_are_the_parents(void **state)
{
    struct weir_server *server = START(.processes = 2, .poll_interval_ms = 1,
                                       .service_actions = count_service);

    (void)state;
    SUPPORT_UNTIL(services >= 3);
    finish(server);
}

static void a_unix_path_is_the_parents(void **state)
{
    char path[64];
    char uri[80];
    struct weir_server *server;

    (void)state;
    snprintf(path, sizeof(path), "/tmp/weir-prefork-%d", (int)getpid());
    snprintf(uri, sizeof(uri), "unix://%s", path);
    server = support_start(WEIR_OPTIONS(.listen = uri, .handler = &handler, .processes = 1,
                                        .concurrency = WEIR_PREFORK,
                                        .handle_error = note_death));
    kill_one(server, "die\n");
    assert_true(child_of(server) > 0);
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_start(server), 0);
    assert_true(child_of(server) > 0);
    finish(server);
    assert_int_equal(access(path, F_OK), -1);
}

static void expect_answers(int fd)
{
    char text[32];

    for (int i = 0; i < 50; i++) {
        ssize_t n;

        assert_int_equal(send(fd, "pid\n", 4, 0), 4);
        n = recv(fd, text, sizeof(text) - 1, 0);
        assert_true(n > 0);
        text[n] = '\0';
        assert_true(atoi(text) > 0 && atoi(text) != getpid());
    }
}

static void datagrams_are_answered(void **state)
{
    const struct timeval plenty = { .tv_sec = PLENTY_MS / 1000 };
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct weir_server *server;
    char uri[WEIR_ADDRESS_SIZE];
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)state;
    server = support_start(WEIR_OPTIONS(.listen = "udp://127.0.0.1:0", .handler = &handler,
                                        .concurrency = WEIR_PREFORK, .processes = 2));
    weir_server_address(server, 0, uri, sizeof(uri));
    in.sin_port = htons((uint16_t)atoi(strrchr(uri, ':') + 1));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &plenty, sizeof(plenty));
    assert_int_equal(connect(fd, (const struct sockaddr *)&in, sizeof(in)), 0);
    expect_answers(fd);
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_start(server), 0);
    expect_answers(fd);
    SUPPORT_AWAIT(server, closed, == 100);
    finish(server);
    close(fd);
}

/* ------------------------------------------------------------------ the parent's end -- */

static pid_t program;       /* 0: there is none */

/* A program that serves until it is killed, by the test or by what follows a test that failed. */
static void start_program(void)
{
    struct weir_server *server;

    fflush(NULL);
    program = fork();
    assert_true(program >= 0);
    if (program != 0)
        return;
    if (weir_server_create(&server, OPTIONS(.processes = 2, .workers = 2)) < 0)
        _exit(1);
    weir_server_address(server, 0, board->address, sizeof(board->address));
    board->addressed = true;
    weir_serve_forever(server);
    _exit(2);
}

static void kill_program(void)
{
    int status;

    kill(program, SIGKILL);
    assert_int_equal(waitpid(program, &status, 0), program);
    program = 0;
}

static int end_program(void **state)
{
    if (program > 0)
        kill_program();
    return end(state);
}

/* To the program's server, or -errno. */
static int reach(void)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        .sin_port = htons((uint16_t)atoi(strrchr(board->address, ':') + 1)),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connect(fd, (const struct sockaddr *)&in, sizeof(in)) == 0)
        return fd;
    close(fd);
    return -ECONNREFUSED;
}

static bool nobody_listens(void)
{
    int fd = reach();

    if (fd >= 0)
        close(fd);
    return fd < 0;
}

static void children_end_with_their_parent(void **state)
{
    int blocked;
    int kept;

    (void)state;
    start_program();
    SUPPORT_UNTIL(board->addressed);
    kept = reach();
    support_say(kept, "keep\n");
    assert_true(number_from(kept) > 0);
    blocked = reach();
    support_say(blocked, "gate\n");
    SUPPORT_UNTIL(board->inside == 1);
    kill_program();
    SUPPORT_UNTIL(nobody_listens());
    support_expect_end(kept);
    /* Even who blocks, after a while. */
    support_expect_end(blocked);
    close(kept);
    close(blocked);
}

/* ------------------------------------------------------------------ beside others ----- */

static void it_serves_beside_another_server(void **state)
{
    struct weir_server *pool;
    struct weir_server *server;

    (void)state;
    /* It can't follow a process with threads into a child that starts one. */
    if (WEIR_TSAN)
        skip();
    pool = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &handler));
    assert_int_equal(child_of(pool), getpid());
    server = START(.processes = 2);
    for (int i = 0; i < 30; i++) {
        assert_int_not_equal(child_of(server), getpid());
        assert_int_equal(child_of(pool), getpid());
    }
    kill_one(server, "die\n");
    assert_int_not_equal(child_of(server), getpid());
    finish(pool);
    finish(server);
}

static _Atomic bool replaced_enough;

static void *replace_rules(void *server)
{
    while (!replaced_enough) {
        struct weir_access *access;

        if (weir_access_parse("default allow\n", &access) == 0)
            weir_server_set_access(server, access);
        weir_server_stats(server, &(struct weir_stats){ 0 }, sizeof(struct weir_stats));
    }
    return NULL;
}

/* It might be stopped, as by a debugger, and would never see that it is to end. */
static void a_child_without_a_pidfd_is_waited_for_in_no_case(void **state)
{
    struct weir_server *server = support_create(OPTIONS(.processes = 1, .workers = 1));

    (void)state;
    pidfds_left = 0;
    board->forks_stop = true;
    assert_int_equal(weir_server_start(server), -EMFILE);
    board->forks_stop = false;
    assert_int_equal(pidfds_left, -1);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(support_stats(server).workers, 0);
    assert_int_equal(weir_server_start(server), 0);
    child_of(server);
    finish(server);
}

/* Whoever is in one of the server's calls when a child is forked hinders nobody. */
static void rules_are_replaced_while_children_are_forked(void **state)
{
    struct weir_server *server = START(.processes = 2, .workers = 1);
    pthread_t threads[2];

    (void)state;
    replaced_enough = false;
    errors = 0;
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, replace_rules, server), 0);
    for (int i = 0; i < 20; i++)
        child_of(server);
    replaced_enough = true;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    SUPPORT_AWAIT(server, workers, == 2);
    assert_int_equal(errors, 0);
    finish(server);
}

/* ------------------------------------------------------------------ main -------------- */

#define TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(children_end_with_their_parent, begin, end_program),
        TEST(children_take_turns_at_the_clients),
        TEST(in_a_rush_the_workers_of_all_children_accept),
        TEST(in_a_rush_a_client_of_a_dead_child_is_served_by_another),
        TEST(who_has_no_room_leaves_clients_to_the_others),
        TEST(who_is_full_when_it_is_called_has_another_serve),
        TEST(who_has_no_descriptors_leaves_clients_to_the_others),
        TEST(who_has_no_memory_leaves_clients_to_the_others),
        TEST(a_client_for_whom_the_dead_was_called_is_served_by_another),
        TEST(counts_are_summed_and_outlive_the_children),
        TEST(what_has_to_be_accepted_here_is_refused),
        TEST(workers_of_children_are_bound_to_the_cpus_in_turn),
        TEST(a_child_that_dies_is_replaced),
        TEST(who_dies_young_is_replaced_later_each_time),
        TEST(who_dies_before_the_parent_has_looked_is_replaced),
        TEST(who_was_an_earlier_servings_is_no_beginning),
        TEST(who_was_an_earlier_servings_does_not_say_why_a_later_fails),
        TEST(connections_of_a_dead_child_are_counted_as_closed),
        TEST(after_a_shutdown_children_finish_and_others_serve),
        TEST(new_rules_come_with_new_children),
        TEST(service_actions_are_the_parents),
        TEST(a_unix_path_is_the_parents),
        TEST(datagrams_are_answered),
        TEST(it_serves_beside_another_server),
        TEST(rules_are_replaced_while_children_are_forked),
        TEST(a_child_without_a_pidfd_is_waited_for_in_no_case),
    };


    board = support_board(sizeof(*board));
    if (pthread_atfork(NULL, NULL, stop_where_told) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
