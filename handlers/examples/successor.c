/*
 * successor.c - a restart that refuses nobody: at SIGUSR2 it starts the program anew, as it is
 * installed now, and gives its socket to that process. When the successor says that it serves, this
 * process finishes with its clients and ends; if it fails, this process serves on. At no moment is
 * nobody there who accepts. This is what `weir serve` does at SIGUSR2.
 *
 * Run:     successor [ADDRESS]
 * Try:     kill -USR2 the process that it names, while printf 'a\n' | nc -N 127.0.0.1 9999 again
 *          and again
 * Python:  os.set_inheritable(fd, True); os.posix_spawnp(sys.argv[0], sys.argv, os.environ)
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

extern char **environ;

#define PATIENCE_MS (30 * 1000)

/* What the successor is told: the socket, as an address, and the pipe that it answers by. */
#define SOCKET "SUCCESSOR_SOCKET"
#define PIPE "SUCCESSOR_PIPE"

static int number_line(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 1024);

    if (n <= 0)
        return (int)n;
    n = weir_printf(req, "%d: %.*s", (int)getpid(), (int)n, line);
    return n < 0 ? (int)n : WEIR_KEEP;
}

static const struct weir_handler handler = {
    .name = "successor", .handle = number_line, .client_first = true,
};

/* ------------------------------------------------------------------ the successor's --- */

static void say_ready(void)
{
    const char *number = getenv(PIPE);

    if (!number)
        return;
    if (write(atoi(number), "1", 1) < 0)
        perror("successor: the process before this one");
    close(atoi(number));
    unsetenv(SOCKET);
    unsetenv(PIPE);
}

/* ------------------------------------------------------------------ the predecessor's - */

/* All of them: each acceptor has one, with clients that wait in a backlog of its own. */
static int pass_sockets(struct weir_server *server, posix_spawn_file_actions_t *actions)
{
    char address[256] = "fd://";
    size_t len = strlen(address);
    uint32_t number;
    int fd;

    for (size_t i = 0; (fd = weir_server_listen_fd(server, i, &number)) >= 0; i++) {
        len += (size_t)snprintf(address + len, sizeof(address) - len, "%s%d", i > 0 ? "," : "", fd);
        /* They are close-on-exec; one that is duplicated to its own number is not. */
        if (len >= sizeof(address) || posix_spawn_file_actions_adddup2(actions, fd, fd) != 0)
            return -ENOMEM;
    }
    return setenv(SOCKET, address, 1);
}

/* Returns 0 and its number, or a negative errno. The child writes to fds[1], the end of a pipe. */
static int spawn(struct weir_server *server, char **argv, const int *fds, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    char number[16];
    int r;

    snprintf(number, sizeof(number), "%d", fds[1]);
    posix_spawn_file_actions_init(&actions);
    r = pass_sockets(server, &actions);
    if (r == 0)
        r = -posix_spawn_file_actions_addclose(&actions, fds[0]);
    if (r == 0)
        r = setenv(PIPE, number, 1);
    if (r == 0)
        r = -posix_spawnp(ret_pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    /* They were for the child alone, not for what else this process may start. */
    unsetenv(SOCKET);
    unsetenv(PIPE);
    return r;
}

/* Until it says so, ends, or has had its time. */
static int wait_until_ready(int fd, pid_t pid)
{
    struct pollfd said = { .fd = fd, .events = POLLIN };
    char byte;
    int r;

    /* A signal that has a handler, in a program like this one, says nothing of the child. */
    do
        r = poll(&said, 1, PATIENCE_MS);
    while (r < 0 && errno == EINTR);
    if (r > 0 && read(fd, &byte, 1) == 1)
        return 0;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return -ECHILD;
}

/* Returns 0 if another process serves from now on; else nothing has changed. */
static int hand_on(struct weir_server *server, char **argv)
{
    int fds[2];
    pid_t pid;
    int r;

    if (pipe(fds) < 0)
        return -errno;
    r = spawn(server, argv, fds, &pid);
    close(fds[1]);
    if (r == 0)
        r = wait_until_ready(fds[0], pid);
    close(fds[0]);
    return r == 0 ? weir_server_hand_on(server) : r;
}

/* ------------------------------------------------------------------ both -------------- */

/* The signals are blocked in all threads, and taken here. Returns when the server is to end. */
static void obey(struct weir_server *server, char **argv, const sigset_t *signals)
{
    int number = 0;

    while (sigwait(signals, &number) == 0 && number == SIGUSR2) {
        int r = hand_on(server, argv);

        if (r == 0)
            return;
        fprintf(stderr, "successor: none serves (%s): %d serves on\n", strerror(-r), (int)getpid());
    }
}

int main(int argc, char **argv)
{
    const char *handed = getenv(SOCKET);
    const struct weir_listen listener = {
        .address = handed ? handed : argc > 1 ? argv[1] : "tcp://127.0.0.1:9999",
        .taken_over = handed != NULL,   /* nobody keeps it: a Unix path is ours to remove */
    };
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (weir_server_create(&server, WEIR_OPTIONS(
            .listeners = &listener, .listeners_len = 1,
            .handler = &handler,
            .idle_timeout_ms = 60 * 1000,
            .drain_timeout_ms = 30 * 1000)) < 0 ||
        weir_server_start(server) < 0) {
        fprintf(stderr, "successor: %s\n", weir_why());
        return 1;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "successor: listening on %s\n", address);
    fprintf(stderr, "successor: process %d serves\n", (int)getpid());
    say_ready();
    obey(server, argv, &signals);
    weir_server_destroy(server);        /* drains */
    return 0;
}
