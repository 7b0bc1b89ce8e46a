/*
 * follow.c - a handler that waits for two things at once: what a program prints, which it passes
 * on, and its client, who ends it by a word or by hanging up. The program is spawned, not forked:
 * beside threads, a forked child may call next to nothing until it execs.
 *
 * Run:     follow ADDRESS PROGRAM [ARGUMENT...]
 * Try:     follow tcp://127.0.0.1:10000 tail -f /var/log/syslog, and nc 127.0.0.1 10000
 * Python:  poller.register(fd, POLLIN | POLLHUP); for fd, flag in poller.poll(): ...
 */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

extern char **environ;

/* Starts the program and gives our end of the pair that is its standard output. */
static int start(char **command, pid_t *ret_pid, int *ret_output)
{
    posix_spawn_file_actions_t actions;
    int pair[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pair[1], STDOUT_FILENO);
    r = posix_spawnp(ret_pid, command[0], &actions, NULL, command, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pair[1]);
    if (r != 0) {
        close(pair[0]);
        return -r;
    }
    *ret_output = pair[0];
    return 0;
}

static int pass_on(struct weir_request *req, int output)
{
    struct pollfd fds[] = {
        { .fd = weir_request_fd(req), .events = POLLIN },
        { .fd = output, .events = POLLIN },
    };
    char data[4096];
    ssize_t n;
    int r;

    while ((r = weir_poll(req, fds, 2, -1)) > 0 && !fds[0].revents) {
        n = read(output, data, sizeof(data));
        if (n <= 0)
            return 0;           /* the program has ended */
        weir_write(req, data, (size_t)n);
    }
    return r < 0 ? r : 0;
}

static int follow(struct weir_request *req)
{
    pid_t pid;
    int output = -1;
    int r = start(weir_user(req), &pid, &output);

    if (r < 0)
        return r;
    r = pass_on(req, output);
    close(output);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);      /* it ends at once */
    return r;
}

static const struct weir_handler handler = { .name = "follow", .handle = follow };

int main(int argc, char **argv)
{
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (argc < 3) {
        fprintf(stderr, "usage: follow ADDRESS PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argv[1],
            .handler = &handler,
            .user = argv + 2,
            .reuse_address = true)) < 0) {
        fprintf(stderr, "follow: %s\n", weir_why());
        return 2;
    }
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "follow: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "follow: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
