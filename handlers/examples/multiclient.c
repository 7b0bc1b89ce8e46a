/*
 * multiclient.c - one client on several connections at once. weir without a listener: the only
 * "client" of this server is an end of a socketpair, whose handler opens the connections, waits
 * for all of them with weir_poll, and writes its report to the pair.
 *
 * Run:     multiclient [ADDRESS [CONNECTIONS]]
 * Try:     multiclient tcp://127.0.0.1:9999 5              (beside upper)
 * Python:  for i in range(n): sel.register(sock, EVENT_READ | EVENT_WRITE, data); sel.select()
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <weir/weir.h>

enum { CONNECTIONS_MAX = 64 };

struct job {
    const char *address;
    int connections;
    int answered;
};

/* One answer, in the report. The connection is done. */
static int report(struct weir_request *req, int i, struct weir_request *peer)
{
    char *line;
    ssize_t n = weir_readline(peer, &line, 256);

    if (n <= 0)
        return n < 0 ? (int)n : -ECONNRESET;
    weir_printf(req, "connection %d received '%.*s'\n", i, (int)n - 1, line);
    weir_hangup(peer);
    return 0;
}

static int ask_all(struct weir_request *req)
{
    struct job *job = weir_arg(req);
    struct weir_request *peers[CONNECTIONS_MAX];
    struct pollfd fds[CONNECTIONS_MAX];
    int r;

    for (int i = 0; i < job->connections; i++) {
        r = weir_connect(req, job->address, 5000, &peers[i]);
        if (r < 0)
            return r;
        weir_printf(peers[i], "message %d\n", i);
        fds[i] = (struct pollfd){ .fd = weir_request_fd(peers[i]), .events = POLLIN };
    }
    while (job->answered < job->connections) {
        r = weir_poll(req, fds, (size_t)job->connections, 5000);
        if (r <= 0)
            return r < 0 ? r : -ETIMEDOUT;
        for (int i = 0; i < job->connections; i++) {
            if (fds[i].fd < 0 || !fds[i].revents)
                continue;
            r = report(req, i, peers[i]);
            if (r < 0)
                return r;
            fds[i].fd = -1;                 /* poll(2) passes over it from now on */
            job->answered++;
        }
    }
    return 0;
}

static const struct weir_handler handler = { .name = "multiclient", .handle = ask_all };

int main(int argc, char **argv)
{
    struct job job = {
        .address = argc > 1 ? argv[1] : "tcp://127.0.0.1:9999",
        .connections = argc > 2 ? atoi(argv[2]) : 2,
    };
    struct weir_server *server;
    char text[4096];
    ssize_t n;
    int pair[2];

    if (job.connections < 1 || job.connections > CONNECTIONS_MAX) {
        fprintf(stderr, "usage: multiclient [ADDRESS [CONNECTIONS]]\n");
        return 2;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        perror("multiclient");
        return 2;
    }
    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = "unix:@multiclient", .defer = true,   /* needs a name, is never opened */
            .handler = &handler)) < 0 ||
        weir_submit(server, pair[0], NULL, &job) < 0) {
        fprintf(stderr, "multiclient: %s\n", weir_why());
        return 2;
    }
    while ((n = read(pair[1], text, sizeof(text))) > 0)     /* up to the end of the handler */
        fwrite(text, 1, (size_t)n, stdout);
    weir_server_destroy(server);
    return job.answered == job.connections ? 0 : 1;
}
