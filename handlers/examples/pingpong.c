/*
 * pingpong.c - parent and child talk through a socketpair. A handler needs no network: the parent
 * submits its end, and a pool of threads serves it. The child is forked first, when weir has
 * started no thread yet.
 *
 * Run:     pingpong [ROUNDS]
 * Python:  parent, child = socket.socketpair(); pid = os.fork()
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/weir.h>

static int pong(struct weir_request *req)
{
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, 64)) > 0)
        weir_printf(req, "pong to %.*s", (int)n, line);
    return (int)n;
}

/* The child: plain blocking calls. Its end of the pair is closed when it ends. */
static int ping(int fd, int rounds)
{
    FILE *parent = fdopen(fd, "r+");
    char line[64];

    for (int i = 1; parent && i <= rounds; i++) {
        fprintf(parent, "ping %d\n", i);
        fflush(parent);
        if (!fgets(line, sizeof(line), parent))
            return 1;
        fputs(line, stdout);
    }
    return 0;
}

static const struct weir_handler handler = {
    .name = "pingpong", .handle = pong, .client_first = true,
};

int main(int argc, char **argv)
{
    struct weir_server *server;
    int status = 0;
    int pair[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || (pid = fork()) < 0) {
        perror("pingpong");
        return 1;
    }
    if (pid == 0) {
        close(pair[0]);
        return ping(pair[1], argc > 1 ? atoi(argv[1]) : 3);
    }
    close(pair[1]);
    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = "unix:@pingpong", .defer = true,      /* needs a name, is never opened */
            .handler = &handler)) < 0 ||
        weir_submit_fd(server, pair[0], NULL) < 0) {
        fprintf(stderr, "pingpong: %s\n", weir_why());
        return 2;
    }
    waitpid(pid, &status, 0);
    weir_server_destroy(server);    /* waits for the handler, which sees the end */
    return status != 0;
}
