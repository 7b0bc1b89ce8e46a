/* sys_test.c - the leaf system calls: what they return, and what they keep from their callers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/sys.h"

#include "engine/base/clock.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/un.h>
#include <unistd.h>

#define PLENTY_MS 10000

struct pair {
    int ours;
    int theirs;
};

static struct pair make_pair(void)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    return (struct pair){ fds[0], fds[1] };
}

static void close_pair(struct pair pair)
{
    sys_close(pair.ours);
    sys_close(pair.theirs);
}

static void receiving_tells_bytes_nothing_and_the_end_apart(void **state)
{
    struct pair pair = make_pair();
    char buf[8];

    (void)state;
    assert_int_equal(sys_recv(pair.ours, buf, sizeof(buf)), -EAGAIN);
    assert_int_equal(sys_send(pair.theirs, "abc", 3), 3);
    assert_int_equal(sys_recv(pair.ours, buf, sizeof(buf)), 3);
    assert_memory_equal(buf, "abc", 3);
    assert_int_equal(sys_shutdown_write(pair.theirs), 0);
    assert_int_equal(sys_recv(pair.ours, buf, sizeof(buf)), 0);
    close_pair(pair);
}

static void a_vector_arrives_in_order(void **state)
{
    const struct iovec iov[] = { { "ab", 2 }, { "", 0 }, { "cde", 3 } };
    struct pair pair = make_pair();
    char buf[8];

    (void)state;
    assert_int_equal(sys_sendv(pair.ours, iov, 3, 0), 5);
    assert_int_equal(sys_recv(pair.theirs, buf, sizeof(buf)), 5);
    assert_memory_equal(buf, "abcde", 5);
    close_pair(pair);
}

/* SIGPIPE keeps its default action here: it would end the test. */
static void sending_to_nobody_is_an_error_and_no_signal(void **state)
{
    const struct iovec iov = { "x", 1 };
    struct pair pair = make_pair();

    (void)state;
    sys_close(pair.theirs);
    assert_int_equal(sys_send(pair.ours, "x", 1), -EPIPE);
    assert_int_equal(sys_sendv(pair.ours, &iov, 1, 0), -EPIPE);
    sys_close(pair.ours);
}

static void sending_to_a_full_peer_does_not_wait(void **state)
{
    static char block[1 << 16];
    struct pair pair = make_pair();
    ssize_t n;

    (void)state;
    do
        n = sys_send(pair.ours, block, sizeof(block));
    while (n > 0);
    assert_int_equal(n, -EAGAIN);
    close_pair(pair);
}

static int made_file(const char *text)
{
    FILE *file = tmpfile();
    int fd;

    assert_non_null(file);
    assert_int_equal(fputs(text, file) >= 0 && fflush(file) == 0, 1);
    fd = dup(fileno(file));
    fclose(file);
    assert_true(fd >= 0);
    return fd;
}

static void a_file_is_sent_from_the_offset_to_its_end(void **state)
{
    struct pair pair = make_pair();
    int file_fd = made_file("0123456789");
    char buf[16];

    (void)state;
    assert_int_equal(sys_sendfile(pair.ours, file_fd, 4, 100), 6);
    assert_int_equal(sys_recv(pair.theirs, buf, sizeof(buf)), 6);
    assert_memory_equal(buf, "456789", 6);
    assert_int_equal(sys_sendfile(pair.ours, file_fd, 10, 100), 0);
    sys_close(file_fd);
    close_pair(pair);
}

static bool sigpipe_is_in(int (*ask)(sigset_t *set))
{
    sigset_t set;

    assert_int_equal(ask(&set), 0);
    return sigismember(&set, SIGPIPE);
}

static int blocked(sigset_t *ret)
{
    return pthread_sigmask(SIG_BLOCK, NULL, ret);
}

/* SIGPIPE has its default action, and is not blocked but where that is said. */
static void sending_a_file_to_nobody_leaves_the_signal_as_it_was(void **state)
{
    struct pair pair = make_pair();
    int file_fd = made_file("0123456789");
    sigset_t sigpipe;
    int number;

    (void)state;
    sys_close(pair.theirs);
    assert_int_equal(sys_sendfile(pair.ours, file_fd, 0, 10), -EPIPE);
    assert_false(sigpipe_is_in(blocked));
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, NULL);
    assert_int_equal(sys_sendfile(pair.ours, file_fd, 0, 10), -EPIPE);
    assert_false(sigpipe_is_in(sigpending));
    assert_true(sigpipe_is_in(blocked));
    raise(SIGPIPE);             /* the program's own: it stays */
    assert_int_equal(sys_sendfile(pair.ours, file_fd, 0, 10), -EPIPE);
    assert_true(sigpipe_is_in(sigpending));
    assert_int_equal(sigwait(&sigpipe, &number), 0);
    pthread_sigmask(SIG_UNBLOCK, &sigpipe, NULL);
    sys_close(file_fd);
    sys_close(pair.ours);
}

static void an_eventfd_is_readable_until_it_is_cleared(void **state)
{
    int fd = sys_eventfd();

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(sys_poll_one(fd, POLLIN, 0), 0);
    sys_eventfd_signal(fd);
    sys_eventfd_signal(fd);
    assert_int_equal(sys_poll_one(fd, POLLIN, PLENTY_MS), POLLIN);
    sys_eventfd_clear(fd);
    assert_int_equal(sys_poll_one(fd, POLLIN, 0), 0);
    sys_eventfd_clear(fd);
    sys_close(fd);
}

static void epoll_gives_back_the_data(void **state)
{
    const uint64_t data = 0xfedcba9876543210;
    int epfd = sys_epoll_create();
    int fd = sys_eventfd();
    struct epoll_event events[2];

    (void)state;
    assert_int_equal(sys_epoll_ctl(epfd, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, data), 0);
    assert_int_equal(sys_epoll_ctl(epfd, EPOLL_CTL_ADD, fd, EPOLLIN, data), -EEXIST);
    assert_int_equal(sys_epoll_wait(epfd, events, 2, 0), 0);
    sys_eventfd_signal(fd);
    assert_int_equal(sys_epoll_wait(epfd, events, 2, PLENTY_MS), 1);
    assert_true(events[0].data.u64 == data);
    assert_int_equal(events[0].events, EPOLLIN);
    assert_int_equal(sys_epoll_wait(epfd, events, 2, 0), 0);
    sys_close(fd);
    sys_close(epfd);
}

static void wrong_descriptors_are_errors(void **state)
{
    struct epoll_event event;
    char c;

    (void)state;
    assert_int_equal(sys_recv(-1, &c, 1), -EBADF);
    assert_int_equal(sys_send(-1, &c, 1), -EBADF);
    assert_int_equal(sys_epoll_wait(-1, &event, 1, 0), -EBADF);
    assert_int_equal(sys_epoll_ctl(-1, EPOLL_CTL_ADD, 0, EPOLLIN, 0), -EBADF);
    assert_int_equal(sys_socket_error(-1), -EBADF);
    assert_int_equal(sys_shutdown_write(-1), -EBADF);
    assert_int_equal(sys_shutdown_read(-1), -EBADF);
    assert_int_equal(sys_set_nodelay(-1), -EBADF);
    assert_int_equal(sys_socket(-1, SOCK_STREAM), -EAFNOSUPPORT);
}

static void a_refused_connection_is_told_once(void **state)
{
    struct sockaddr_in in = { .sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct sockaddr *addr = (struct sockaddr *)&in;
    socklen_t len = sizeof(in);
    int bound = sys_socket(AF_INET, SOCK_STREAM);    /* has the port, but does not listen */
    int fd = sys_socket(AF_INET, SOCK_STREAM);
    int r;

    (void)state;
    assert_int_equal(bind(bound, addr, len), 0);
    assert_int_equal(getsockname(bound, addr, &len), 0);
    r = sys_connect(fd, addr, len);
    if (r == -EINPROGRESS) {
        assert_true(sys_poll_one(fd, POLLOUT, PLENTY_MS) & POLLERR);
        r = sys_socket_error(fd);
    }
    assert_int_equal(r, -ECONNREFUSED);
    assert_int_equal(sys_socket_error(fd), 0);
    sys_close(fd);
    sys_close(bound);
}

static void waiting_lasts_at_least_as_long_as_asked(void **state)
{
    struct pair pair = make_pair();
    uint64_t start = clock_ns();

    (void)state;
    assert_int_equal(sys_poll_one(pair.ours, POLLIN, 20), 0);
    assert_true(clock_ns() - start >= 20000000);
    close_pair(pair);
}

static atomic_int signals_left;
static int answer_fd;

/* The last of the signals makes the descriptor readable: the wait must get there through all. */
static void count_signal(int number)
{
    (void)number;
    /* relaxed: a count that nothing else hangs on. pairs: none */
    if (atomic_fetch_sub_explicit(&signals_left, 1, memory_order_relaxed) == 1)
        sys_eventfd_signal(answer_fd);
}

static void *interrupt(void *waiter)
{
    /* relaxed: as above. pairs: none */
    while (atomic_load_explicit(&signals_left, memory_order_relaxed) > 0)
        pthread_kill(*(pthread_t *)waiter, SIGUSR1);
    return NULL;
}

static void a_signal_does_not_end_a_poll(void **state)
{
    const struct sigaction counting = { .sa_handler = count_signal };
    pthread_t self = pthread_self(), interrupter;

    (void)state;
    answer_fd = sys_eventfd();
    /* relaxed: pthread_create shows it to the other thread. pairs: none */
    atomic_store_explicit(&signals_left, 20, memory_order_relaxed);
    assert_int_equal(sigaction(SIGUSR1, &counting, NULL), 0);
    assert_int_equal(pthread_create(&interrupter, NULL, interrupt, &self), 0);
    assert_int_equal(sys_poll_one(answer_fd, POLLIN, PLENTY_MS), POLLIN);
    assert_int_equal(pthread_join(interrupter, NULL), 0);
    sys_close(answer_fd);
}

static void the_clocks_agree_and_milliseconds_round_down(void **state)
{
    uint64_t before = clock_ns();
    uint64_t ms = clock_ms();
    uint64_t after = clock_ns();

    (void)state;
    assert_true(before / 1000000 <= ms);
    assert_true(ms <= after / 1000000);
}

/* Calls it while standard input is closed; the descriptor it returned, closed, too. */
#define WITHOUT_STDIN(call) __extension__ ({ \
        int saved_ = dup(STDIN_FILENO); \
        int fd_; \
        sys_close(STDIN_FILENO); \
        fd_ = (call); \
        sys_close(fd_); \
        if (saved_ >= 0) { \
            dup2(saved_, STDIN_FILENO); \
            sys_close(saved_); \
        } \
        fd_; \
    })

static void no_descriptor_of_ours_has_a_standard_streams_number(void **state)
{
    const struct sockaddr_un name = { .sun_family = AF_UNIX };      /* the kernel names it */
    struct sockaddr_storage from;
    struct sockaddr_un bound;
    socklen_t len = sizeof(bound);
    int listener = sys_socket(AF_UNIX, SOCK_STREAM);
    int client = sys_socket(AF_UNIX, SOCK_STREAM);

    (void)state;
    assert_int_equal(bind(listener, (const struct sockaddr *)&name, sizeof(sa_family_t)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&bound, &len), 0);
    assert_int_equal(sys_connect(client, (const struct sockaddr *)&bound, len), 0);
    assert_true(WITHOUT_STDIN(sys_accept(listener, &from, &len)) > 2);
    assert_true(WITHOUT_STDIN(sys_socket(AF_INET, SOCK_STREAM)) > 2);
    assert_true(WITHOUT_STDIN(sys_epoll_create()) > 2);
    assert_true(WITHOUT_STDIN(sys_eventfd()) > 2);
    assert_true(WITHOUT_STDIN(sys_timerfd()) > 2);
    assert_true(WITHOUT_STDIN(sys_pidfd_open(getpid())) > 2);
    sys_close(client);
    sys_close(listener);
}

static void to_close_no_descriptor_is_no_system_call(void **state)
{
    (void)state;
    errno = 0;
    sys_close(-1);
    sys_close(-EMFILE);
    assert_int_equal(errno, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(receiving_tells_bytes_nothing_and_the_end_apart),
        cmocka_unit_test(a_vector_arrives_in_order),
        cmocka_unit_test(sending_to_nobody_is_an_error_and_no_signal),
        cmocka_unit_test(sending_to_a_full_peer_does_not_wait),
        cmocka_unit_test(a_file_is_sent_from_the_offset_to_its_end),
        cmocka_unit_test(sending_a_file_to_nobody_leaves_the_signal_as_it_was),
        cmocka_unit_test(an_eventfd_is_readable_until_it_is_cleared),
        cmocka_unit_test(epoll_gives_back_the_data),
        cmocka_unit_test(wrong_descriptors_are_errors),
        cmocka_unit_test(a_refused_connection_is_told_once),
        cmocka_unit_test(waiting_lasts_at_least_as_long_as_asked),
        cmocka_unit_test(a_signal_does_not_end_a_poll),
        cmocka_unit_test(the_clocks_agree_and_milliseconds_round_down),
        cmocka_unit_test(no_descriptor_of_ours_has_a_standard_streams_number),
        cmocka_unit_test(to_close_no_descriptor_is_no_system_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
