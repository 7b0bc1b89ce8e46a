#include "tests/support.h"

#include "engine/base/log.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ------------------------------------------------------------------ servers ----------- */

struct weir_server *support_create(const struct weir_options *options)
{
    struct weir_server *server;

    if (weir_server_create(&server, options) < 0)
        fail_msg("%s", weir_why());
    return server;
}

struct weir_server *support_start(const struct weir_options *options)
{
    struct weir_server *server = support_create(options);

    if (weir_server_start(server) < 0)
        fail_msg("%s", weir_why());
    return server;
}

const char *support_abstract(const char *name)
{
    static char uri[WEIR_ADDRESS_SIZE];

    snprintf(uri, sizeof(uri), "unix:@weir-%d-%s", (int)getpid(), name);
    return uri;
}

struct weir_stats support_stats(struct weir_server *server)
{
    struct weir_stats stats;

    assert_int_equal(weir_server_stats(server, &stats, sizeof(stats)), 0);
    return stats;
}

/* ------------------------------------------------------------------ clients ----------- */

/* The address in a listener's URI, whose host is a number: all that a server tells. */
static socklen_t parse_uri(const char *uri, struct sockaddr_storage *ret)
{
    struct sockaddr_un *un = (struct sockaddr_un *)ret;
    struct sockaddr_in *in = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
    char host[WEIR_ADDRESS_SIZE];
    unsigned port;

    memset(ret, 0, sizeof(*ret));
    if (strncmp(uri, "unix:", 5) == 0) {
        const char *name = strncmp(uri, "unix://", 7) == 0 ? uri + 7 : uri + 5;
        size_t len = strlen(name);

        un->sun_family = AF_UNIX;
        assert_true(len < sizeof(un->sun_path));
        memcpy(un->sun_path, name, len);
        if (name[0] != '@')
            return sizeof(*un);
        un->sun_path[0] = '\0';
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    }
    if (sscanf(uri, "tcp://[%159[^]]]:%u", host, &port) == 2) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        assert_int_equal(inet_pton(AF_INET6, host, &in6->sin6_addr), 1);
        return sizeof(*in6);
    }
    if (sscanf(uri, "%*3s://%159[^:]:%u", host, &port) != 2)
        fail_msg("%s is no address to connect to", uri);
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)port);
    assert_int_equal(inet_pton(AF_INET, host, &in->sin_addr), 1);
    return sizeof(*in);
}

int support_connect_to(const char *uri)
{
    const struct timeval plenty = { .tv_sec = PLENTY_MS / 1000 };
    struct sockaddr_storage address;
    socklen_t len = parse_uri(uri, &address);
    int fd = socket(address.ss_family,
                    (strncmp(uri, "udp:", 4) == 0 ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &plenty, sizeof(plenty));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &plenty, sizeof(plenty));
    if (connect(fd, (const struct sockaddr *)&address, len) < 0)
        fail_msg("connecting to %s: %s", uri, strerror(errno));
    return fd;
}

int support_connect(struct weir_server *server, size_t i)
{
    char uri[WEIR_ADDRESS_SIZE];

    assert_true(weir_server_address(server, i, uri, sizeof(uri)) > 0);
    return support_connect_to(uri);
}

void support_send(int fd, const void *data, size_t len)
{
    /* To say nothing is no error, even to one that has gone already. */
    if (len > 0)
        assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

void support_say(int fd, const char *text)
{
    support_send(fd, text, strlen(text));
}

/* ------------------------------------------------------------------ a CPU's turn ------ */

static uint64_t has_run_ms(void)
{
    struct timespec run;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &run);
    return (uint64_t)run.tv_sec * 1000 + (uint64_t)run.tv_nsec / 1000000;
}

/* fd -1: is never readable. */
static bool run_until_readable(int fd)
{
    uint64_t until_ms = has_run_ms() + FAIR_MS;
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

    while (has_run_ms() < until_ms)
        if (poll(&poll_fd, 1, 0) > 0)
            return true;
    return false;
}

/*
 * On a busy machine PLENTY_MS may be too short for a worker that is bound to one CPU, where others
 * of a higher priority run. Once this thread has run there, too, each that waited for that CPU has
 * had its share. Returns true if fd is readable, and then at once.
 */
static bool run_on_each_cpu(int fd)
{
    bool readable = false;
    cpu_set_t allowed;
    cpu_set_t one;

    assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE && !readable; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof(one), &one);
        readable = run_until_readable(fd);
    }
    sched_setaffinity(0, sizeof(allowed), &allowed);
    return readable;
}

/* ------------------------------------------------------------------ reading ----------- */

size_t support_read_all(int fd, char *buf, size_t size)
{
    size_t len = 0;

    while (len < size) {
        ssize_t n = recv(fd, buf + len, size - len, 0);

        if (n == 0 || (n < 0 && errno == ECONNRESET))
            break;
        if (n < 0 && (errno == EINTR || (errno == EAGAIN && run_on_each_cpu(fd))))
            continue;
        if (n < 0)
            fail_msg("reading: %s", strerror(errno));
        len += (size_t)n;
    }
    return len;
}

void support_expect(int fd, const char *text)
{
    size_t len = strlen(text);
    char *got = test_malloc(len + 1);

    got[support_read_all(fd, got, len)] = '\0';
    assert_string_equal(got, text);
    test_free(got);
}

void support_expect_end(int fd)
{
    char byte;

    if (support_read_all(fd, &byte, 1) > 0)
        fail_msg("expected the end, got '%c'", byte);
}

bool support_is_silent(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
}

void support_half_close(int fd)
{
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
}

void support_reset(int fd)
{
    const struct linger none = { .l_onoff = 1 };

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
    close(fd);
}

void support_expect_last(int fd, const char *text)
{
    support_expect(fd, text);
    support_expect_end(fd);
    close(fd);
}

int support_ask(struct weir_server *server, size_t i, const char *say)
{
    int fd = support_connect(server, i);

    support_say(fd, say);
    return fd;
}

void support_talk(struct weir_server *server, size_t i, const char *say, const char *expect)
{
    int fd = support_ask(server, i, say);

    support_half_close(fd);
    support_expect_last(fd, expect);
}

/* ------------------------------------------------------------------ waiting ----------- */

uint64_t support_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct support_patience support_patience(void)
{
    return (struct support_patience){ .until_ms = support_now_ms() + PLENTY_MS };
}

void support_be_patient(struct support_patience *patience, const char *what, const char *file,
                        int line)
{
    if (patience->last_look)
        fail_msg("%s:%d: it never came true: %s", file, line, what);
    patience->last_look = support_now_ms() > patience->until_ms;
    if (patience->last_look)
        run_on_each_cpu(-1);
    else
        poll(NULL, 0, 1);
}

size_t support_open_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    size_t count = 0;

    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count - 3;   /* ".", ".." and the folder's own */
}

struct rlimit support_leave_descriptors(unsigned spare)
{
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct rlimit before;
    struct rlimit tight;

    assert_true(lowest >= 0);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = before;
    tight.rlim_cur = (rlim_t)lowest + spare;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    return before;
}

void gate_init(struct gate *gate)
{
    gate->fd = eventfd(0, EFD_CLOEXEC);
    assert_true(gate->fd >= 0);
}

void gate_fini(struct gate *gate)
{
    close(gate->fd);
}

void gate_open(const struct gate *gate)
{
    eventfd_write(gate->fd, 1);
}

void gate_pass(const struct gate *gate)
{
    struct pollfd waits = { .fd = gate->fd, .events = POLLIN };
    uint64_t until_ms = support_now_ms() + GATE_MS;

    /* A signal, such as the watchdog's SIGURG, opens no gate. */
    while (poll(&waits, 1, GATE_MS) < 0 && errno == EINTR && support_now_ms() < until_ms)
        ;
}

/* ------------------------------------------------------------------ scenes ------------ */

void support_come_to_gate(struct weir_server *server, int *fds, int len)
{
    for (int i = 0; i < len; i++)
        fds[i] = support_ask(server, 0, "gate\n");
}

void support_pass_gate(const struct gate *gate, const int *fds, int len)
{
    gate_open(gate);
    for (int i = 0; i < len; i++)
        support_expect_last(fds[i], "passed\n");
}

void *support_board(size_t size)
{
    void *board = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sigset_t sigchld;

    if (board == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    sigemptyset(&sigchld);
    sigaddset(&sigchld, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &sigchld, NULL);
    return board;
}

const char *support_long_line(void)
{
    static char text[SUPPORT_LONG + 1];

    memset(text, 'x', SUPPORT_LONG - 1);
    text[SUPPORT_LONG - 1] = '\n';
    return text;
}

int support_echo(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    weir_printf(req, "%.*s", (int)n, line);
    return WEIR_KEEP;
}

int support_answer_long(struct weir_request *req, size_t len)
{
    weir_consume(req, len);
    weir_write(req, "!", 1);
    return WEIR_KEEP;
}

int support_peek_for_one_more(struct weir_request *req)
{
    char *data;
    ssize_t n = 0;

    do {
        ssize_t more = weir_peek(req, &data, (size_t)n + 1);

        if (more <= n)
            return 0;
        n = more;
    } while (data[n - 1] != '\n');
    return support_answer_long(req, (size_t)n);
}

int support_peek_at_all(struct weir_request *req)
{
    char *data;

    if (weir_peek(req, &data, SUPPORT_LONG) < SUPPORT_LONG)
        return 0;
    return support_answer_long(req, SUPPORT_LONG);
}

/* ------------------------------------------------------------------ standard error ---- */

void capture_begin(struct capture *capture)
{
    fflush(stderr);
    capture->saved_fd = dup(STDERR_FILENO);
    capture->file_fd = memfd_create("stderr", MFD_CLOEXEC);
    assert_true(capture->saved_fd >= 0 && capture->file_fd >= 0);
    dup2(capture->file_fd, STDERR_FILENO);
}

size_t capture_end(struct capture *capture, char *buf, size_t size)
{
    ssize_t n;

    fflush(stderr);
    log_flush();
    dup2(capture->saved_fd, STDERR_FILENO);
    close(capture->saved_fd);
    n = pread(capture->file_fd, buf, size - 1, 0);
    close(capture->file_fd);
    assert_true(n >= 0);
    buf[n] = '\0';
    return (size_t)n;
}

/* ------------------------------------------------------------------ children ---------- */

static int status_from(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int support_status_of(pid_t child)
{
    int status = -1;

    SUPPORT_UNTIL(waitpid(child, &status, WNOHANG) == child);
    return status_from(status);
}

static _Noreturn void run_body(void (*body)(void), int said_fd)
{
    const struct rlimit no_core = { 0 };

    dup2(said_fd, STDERR_FILENO);
    close(said_fd);
    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGSEGV, SIG_DFL);           /* cmocka and sanitizers have handlers of their own */
    signal(SIGABRT, SIG_DFL);
    body();
    _exit(0);
}

struct support_end support_run_in_child(void (*body)(void))
{
    int said_fd = memfd_create("said", MFD_CLOEXEC);
    struct support_end end = { .said = "" };
    pid_t child;
    int status;

    assert_true(said_fd >= 0);
    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        run_body(body, said_fd);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(pread(said_fd, end.said, sizeof(end.said) - 1, 0) >= 0);
    close(said_fd);
    end.status = status_from(status);
    return end;
}
