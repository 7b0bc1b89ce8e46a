/*
 * life.c - what a server is asked to do in a trial, and what has to come of it whichever call
 * fails:
 *
 *   - a call of weir's returns 0, or a negative errno with a sentence; made again, it succeeds
 *   - a client gets its answers exactly, or its connection ends. A single fault costs one client
 *     at most, where children live for several clients those of a child
 *   - once the fault is over, every client is answered
 *   - nothing takes for ever: each wait of a client has an end, and so has the trial
 *   - afterwards there is no descriptor, thread, child, path, block or mapping more than before
 */
#include "tests/faults/life.h"

#include "handlers/http/http.h"
#include "tests/faults/plan.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PATIENCE_MS = 20000,        /* nothing takes so long, unless it hangs */
    RUSH = 48,                  /* clients that come at once */
    DATAGRAM_TRIES = 40,
    DATAGRAM_MS = 500,
    FILE_LEN = 400000,          /* more than a socket takes at once */
    MUCH_LEN = 50000,           /* more than a buffer holds */
};

enum { TCP, HTTP, UNIX, UDP, UNIXGRAM, LISTENERS };

static char folder[] = "/tmp/weir-faults-XXXXXX";
static char unix_path[64], unixgram_path[64], unixgram_client[64], rules_path[64];
static char unix_uri[80], unixgram_uri[80], peer_uri[80];
static int file_fd;
static unsigned lost;
static bool may_be_lost;        /* even if no call fails */

/* ------------------------------------------------------------------ the verdict ------- */

static _Noreturn void complain(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(plan->complaint, sizeof(plan->complaint), format, args);
    va_end(args);
    _exit(1);
}

static void check_reason(int r)
{
    const char *why = weir_why();

    if (r >= 0 || r < -4095)
        complain("%s returned %d", plan->phase, r);
    if (why[0] == '\0' || strchr(why, '\n'))
        complain("%s returned %d without a sentence: '%s'", plan->phase, r, why);
    if (!plan->struck)
        complain("%s failed though no call did: %s", plan->phase, why);
}

static void enter_engine(const char *phase)
{
    plan->phase = phase;
    is_spared = false;
}

static int leave_engine(int r)
{
    is_spared = true;
    return r;
}

/* A call of weir's on this thread, whose own calls may fail. */
#define ENGINE(phase, call) (enter_engine(phase), leave_engine(call))

/* Such a call that may fail once. */
#define ENGINE_TWICE(phase, call) do { \
        int r_ = ENGINE(phase, call); \
        if (r_ < 0) \
            check_reason(r_); \
        if (r_ < 0 && ENGINE(phase " again", call) < 0) \
            complain("%s fails though no call does: %s", phase, weir_why()); \
    } while (0)

/* ------------------------------------------------------------------ handlers ---------- */

static int three(void *arg)
{
    (void)arg;
    return 3;
}

static int answer(struct weir_request *req, const char *text)
{
    ssize_t n = weir_printf(req, "%s\n", text);

    return n < 0 ? (int)n : WEIR_KEEP;
}

static int send_file(struct weir_request *req)
{
    ssize_t n = weir_sendfile(req, file_fd, 0, FILE_LEN);

    return n < 0 ? (int)n : answer(req, "file");
}

/* Another server says what it is told. */
static int ask_peer(struct weir_request *req)
{
    struct weir_request *peer;
    int r = weir_connect(req, peer_uri, PATIENCE_MS, &peer);
    ssize_t n;
    char *line;

    if (r < 0)
        return r;
    n = weir_write(peer, "peer\n", 5);
    if (n > 0)
        n = weir_readline(peer, &line, 100);
    if (n > 0 && (n != 5 || memcmp(line, "peer\n", 5) != 0))
        complain("the peer said something else");
    weir_hangup(peer);
    return n < 0 ? (int)n : n == 0 ? -ECONNRESET : answer(req, "peer");
}

static int look(struct weir_request *req)
{
    struct pollfd none = { .fd = -1 };
    int n = weir_poll(req, &none, 1, 1);

    if (n > 0)
        complain("something happened to nobody");
    return n < 0 ? n : answer(req, "poll");
}

static int offload(struct weir_request *req)
{
    int r = weir_offload(req, three, NULL);

    if (r != 3 && r >= 0)
        complain("what was offloaded returned %d", r);
    return r < 0 ? r : answer(req, "offload");
}

static int nap(struct weir_request *req)
{
    int r = weir_sleep(req, 1);

    return r < 0 ? r : answer(req, "sleep");
}

static int say_much(struct weir_request *req)
{
    static const char much[MUCH_LEN];
    ssize_t n = weir_write(req, much, sizeof(much));

    return n < 0 ? (int)n : answer(req, "much");
}

static const struct {
    const char *word;
    int (*handle)(struct weir_request *req);
    size_t before;              /* so many bytes come before the word */
} tasks[] = {
    { "file", send_file, FILE_LEN }, { "peer", ask_peer, 0 }, { "poll", look, 0 },
    { "offload", offload, 0 }, { "sleep", nap, 0 }, { "much", say_much, MUCH_LEN },
};

enum { TASKS = sizeof(tasks) / sizeof(tasks[0]) };

static int handle(struct weir_request *req)
{
    char word[16] = "";
    char *line;
    ssize_t n = weir_readline(req, &line, sizeof(word));

    if (n <= 0)
        return (int)n;
    memcpy(word, line, (size_t)n - 1);
    for (size_t i = 0; i < TASKS; i++)
        if (strcmp(tasks[i].word, word) == 0)
            return tasks[i].handle(req);
    return answer(req, word);
}

static int get(struct weir_http *ex)
{
    return weir_http_reply(ex, 200, "text/plain", "hello\n", 6);
}

static const struct weir_http_route routes[] = {
    { .method = "GET", .path = "/", .call = get },
};
static const struct weir_http_site site = { WEIR_HTTP_ROUTES(routes) };
static const struct weir_handler http_handler = WEIR_HTTP_HANDLER("site", &site);
static const struct weir_handler handler = { .name = "life", .handle = handle };

static void ignore_error(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    if (failure->error >= 0 || failure->error < -4095)
        complain("handle_error is told %d", failure->error);
}

static void say_nothing(void *arg, const struct weir_log_line *line)
{
    (void)arg;
    (void)line;
}

/* ------------------------------------------------------------------ the other server -- */

static int peer_fd;
static pthread_t peer_thread;
static sem_t peer_runs;

static void echo_line(int fd)
{
    char line[16];
    ssize_t n = recv(fd, line, sizeof(line), 0);

    if (n > 0)
        send(fd, line, (size_t)n, MSG_NOSIGNAL);
    close(fd);
}

static void *be_peer(void *arg)
{
    int fd;

    (void)arg;
    is_spared = true;
    sem_post(&peer_runs);
    while ((fd = accept4(peer_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        echo_line(fd);
    return NULL;
}

static void start_peer(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(at);

    sem_init(&peer_runs, 0, 0);
    peer_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(peer_fd, (const struct sockaddr *)&at, len) < 0 || listen(peer_fd, 16) < 0 ||
        getsockname(peer_fd, (struct sockaddr *)&at, &len) < 0 ||
        pthread_create(&peer_thread, NULL, be_peer, NULL) != 0)
        complain("no peer: %s", strerrordesc_np(errno));
    /* A child that is forked while a thread begins may find locks held, a sanitizer's for one. */
    while (sem_wait(&peer_runs) < 0)
        ;
    snprintf(peer_uri, sizeof(peer_uri), "tcp://127.0.0.1:%u", ntohs(at.sin_port));
}

static void stop_peer(void)
{
    shutdown(peer_fd, SHUT_RDWR);
    pthread_join(peer_thread, NULL);
    close(peer_fd);
}

/* ------------------------------------------------------------------ clients ----------- */

struct client {
    int fd;
    bool ended;                 /* its connection is over, before it was answered */
};

static socklen_t address_of(struct weir_server *server, int i, struct sockaddr_storage *ret)
{
    struct sockaddr_in *in = (struct sockaddr_in *)ret;
    struct sockaddr_un *un = (struct sockaddr_un *)ret;
    char uri[WEIR_ADDRESS_SIZE];

    memset(ret, 0, sizeof(*ret));
    if (i == UNIX || i == UNIXGRAM) {
        un->sun_family = AF_UNIX;
        snprintf(un->sun_path, sizeof(un->sun_path), "%s", i == UNIX ? unix_path : unixgram_path);
        return sizeof(*un);
    }
    if (weir_server_address(server, (size_t)i, uri, sizeof(uri)) < 0)
        complain("there is no address %d", i);
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    in->sin_port = htons((in_port_t)strtoul(strrchr(uri, ':') + 1, NULL, 10));
    return sizeof(*in);
}

static struct client come(struct weir_server *server, int i)
{
    const struct timeval patience = { .tv_sec = PATIENCE_MS / 1000 };
    struct sockaddr_storage to;
    socklen_t len = address_of(server, i, &to);
    struct client client = { .fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0) };

    setsockopt(client.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(client.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (connect(client.fd, (const struct sockaddr *)&to, len) < 0)
        complain("%s: nobody is at address %d: %s", plan->phase, i, strerrordesc_np(errno));
    return client;
}

/* An end of a child interrupts a call that has a timeout, even if nobody handles it. */
static ssize_t receive(int fd, char *buf, size_t len)
{
    ssize_t n;

    do
        n = recv(fd, buf, len, 0);
    while (n < 0 && errno == EINTR);
    return n;
}

static bool is_end(ssize_t n)
{
    return n == 0 || (n < 0 && (errno == ECONNRESET || errno == EPIPE || errno == ENOTCONN));
}

static void say(struct client *client, const char *text)
{
    ssize_t n;

    if (client->ended)
        return;
    n = send(client->fd, text, strlen(text), MSG_NOSIGNAL);
    if (is_end(n))
        client->ended = true;
    else if (n != (ssize_t)strlen(text))
        complain("%s: '%s' can't be sent: %s", plan->phase, text, strerrordesc_np(errno));
}

/* Returns how many of len bytes have come, all of them or those before the end. */
static size_t hear_bytes(struct client *client, char *buf, size_t len, const char *of)
{
    size_t at = 0;

    while (at < len && !client->ended) {
        ssize_t n = receive(client->fd, buf + at, len - at);

        if (is_end(n))
            client->ended = true;
        else if (n < 0)
            complain("%s: no answer to '%s' (%zu of %zu bytes): %s", plan->phase, of, at, len,
                     strerrordesc_np(errno));
        else
            at += (size_t)n;
    }
    return at;
}

static void hear(struct client *client, size_t before, const char *text)
{
    static char buf[FILE_LEN + 64];
    size_t len = before + strlen(text);
    size_t got = hear_bytes(client, buf, len, text);

    for (size_t i = 0; i < got && i < before; i++)
        if (buf[i] != 0)
            complain("%s: byte %zu before '%s' is wrong", plan->phase, i, text);
    if (got > before && memcmp(buf + before, text, got - before) != 0)
        complain("%s: '%.*s' came instead of '%s'", plan->phase, (int)(got - before),
                 buf + before, text);
}

static void leave(struct client *client)
{
    close(client->fd);
    if (may_be_lost)
        return;
    lost += client->ended;
    if (client->ended && !plan->struck)
        complain("%s: a client is lost though no call failed", plan->phase);
}

static void ask(struct client *client, size_t before, const char *word)
{
    char line[32];

    snprintf(line, sizeof(line), "%s\n", word);
    say(client, line);
    hear(client, before, line);
}

static void ask_shortly(struct weir_server *server, int i)
{
    struct client client = come(server, i);

    ask(&client, 0, "short");
    leave(&client);
}

/* Everything that a handler can do, on one connection that is kept. */
static void ask_everything(struct weir_server *server)
{
    struct client client = come(server, TCP);

    for (size_t i = 0; i < TASKS; i++)
        ask(&client, tasks[i].before, tasks[i].word);
    leave(&client);
}

static void browse(struct weir_server *server)
{
    static const char question[] = "GET / HTTP/1.1\r\nHost: weir\r\n\r\n";
    struct client client = come(server, HTTP);
    char reply[1024];

    for (int i = 0; i < 2; i++) {
        size_t len = 0;

        say(&client, question);
        while (!client.ended && !(len > 6 && memcmp(reply + len - 6, "hello\n", 6) == 0))
            len += hear_bytes(&client, reply + len, 1, "GET");
        if (len > 0 && strncmp(reply, "HTTP/1.1 200 OK\r\n", len < 17 ? len : 17) != 0 &&
            strncmp(reply, "HTTP/1.1 5", len < 10 ? len : 10) != 0)
            complain("%s: a reply of HTTP begins with '%.17s'", plan->phase, reply);
    }
    leave(&client);
}

static void rush(struct weir_server *server)
{
    struct client clients[RUSH];

    for (int i = 0; i < RUSH; i++) {
        clients[i] = come(server, TCP);
        say(&clients[i], "rush\n");
    }
    for (int i = 0; i < RUSH; i++) {
        hear(&clients[i], 0, "rush\n");
        leave(&clients[i]);
    }
}

static int datagram_client(int i)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    int fd = socket(i == UDP ? AF_INET : AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memcpy(at.sun_path, unixgram_client, sizeof(unixgram_client));
    if (i == UNIXGRAM && bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0)
        complain("no datagram client: %s", strerrordesc_np(errno));
    return fd;
}

/* A datagram may be lost; its sender then sends another. */
static void ask_by_datagram(struct weir_server *server, int i)
{
    struct pollfd client = { .fd = datagram_client(i), .events = POLLIN };
    struct sockaddr_storage to;
    socklen_t len = address_of(server, i, &to);
    int tries = 0;
    char reply[16];
    ssize_t n;

    do {
        if (tries++ == DATAGRAM_TRIES)
            complain("%s: datagrams are not answered at address %d", plan->phase, i);
        sendto(client.fd, "gram\n", 5, 0, (const struct sockaddr *)&to, len);
    } while (poll(&client, 1, plan->struck ? DATAGRAM_MS : PATIENCE_MS) <= 0);
    n = recv(client.fd, reply, sizeof(reply), 0);
    if (n != 5 || memcmp(reply, "gram\n", 5) != 0)
        complain("%s: a datagram of %zd bytes came", plan->phase, n);
    close(client.fd);
    if (i == UNIXGRAM)
        unlink(unixgram_client);
}

static void serve_everybody(struct weir_server *server, const char *phase)
{
    plan->phase = phase;
    ask_shortly(server, TCP);
    ask_shortly(server, UNIX);
    browse(server);
    ask_by_datagram(server, UDP);
    ask_by_datagram(server, UNIXGRAM);
}

/* ------------------------------------------------------------------ a life ------------ */

static struct weir_server *create(const struct way *way)
{
    const struct weir_listen listeners[] = {
        [TCP] = { .address = "tcp://127.0.0.1:0", .max_connections = 200, .max_per_address = 150 },
        [HTTP] = { .address = "tcp://127.0.0.1:0", .handler = &http_handler },
        [UNIX] = { .address = unix_uri },
        [UDP] = { .address = "udp://127.0.0.1:0" },
        [UNIXGRAM] = { .address = unixgram_uri },
    };
    bool has_pool = way->concurrency == WEIR_POOL || way->concurrency == WEIR_PREFORK;
    struct weir_server *server = NULL;

    ENGINE_TWICE("create", weir_server_create(&server, WEIR_OPTIONS(
            .listeners = listeners, .listeners_len = LISTENERS, .handler = &handler,
            .concurrency = way->concurrency, .dispatch = way->dispatch,
            .acceptors = way->acceptors, .workers = has_pool ? 2 : 0,
            .processes = way->concurrency == WEIR_PREFORK ? 2 : 0, .max_per_address = 100,
            .access = "default allow\n", .handle_error = ignore_error, .unix_mode = 0600,
            .timeout_ms = PATIENCE_MS, .poll_interval_ms = 20, .drain_timeout_ms = 1000)));
    return server;
}

static void read_rules_again(struct weir_server *server)
{
    struct weir_access *rules;

    ENGINE_TWICE("reading rules", weir_access_read(rules_path, &rules));
    ENGINE_TWICE("setting rules", weir_server_set_access(server, rules));
}

/* The end of a pair that stays with us is a client like any other. */
static void submit(struct weir_server *server, const struct way *way)
{
    struct client client = { .fd = -1 };
    int pair[2];

    if (way->concurrency == WEIR_PREFORK)
        return;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        complain("no pair: %s", strerrordesc_np(errno));
    client.fd = pair[0];
    say(&client, "given\n");
    shutdown(client.fd, SHUT_WR);
    ENGINE_TWICE("submit", weir_submit_fd(server, pair[1], NULL));
    hear(&client, 0, "given\n");
    leave(&client);
}

/* Between two servings. If it fails, the client still waits. */
static void handle_one(struct weir_server *server, const struct way *way)
{
    struct client client;

    if (way->concurrency == WEIR_PREFORK)
        return;
    client = come(server, UNIX);
    say(&client, "one\n");
    shutdown(client.fd, SHUT_WR);
    ENGINE_TWICE("handle_request", weir_handle_request(server));
    hear(&client, 0, "one\n");
    leave(&client);
}

static void count(struct weir_server *server)
{
    struct weir_stats stats;

    if (ENGINE("stats", weir_server_stats(server, &stats, sizeof(stats))) < 0)
        complain("no statistics");
}

static void lead(const struct way *way)
{
    struct weir_server *server;

    plan->armed = true;
    server = create(way);
    ENGINE_TWICE("start", weir_server_start(server));
    serve_everybody(server, "serving");
    ask_everything(server);
    if (way->rushes)
        rush(server);
    submit(server, way);
    read_rules_again(server);
    /* A client of prefork may meet a child that ends since it has the old rules. */
    may_be_lost = way->concurrency == WEIR_PREFORK;
    serve_everybody(server, "serving by new rules");
    may_be_lost = false;
    count(server);
    ENGINE_TWICE("shutdown", weir_server_shutdown(server));
    handle_one(server, way);
    ENGINE_TWICE("start anew", weir_server_start(server));
    serve_everybody(server, "serving anew");
    plan->armed = false;
    if (lost > way->losses)
        complain("%u clients are lost by one fault", lost);
    plan->struck = false;       /* from here on nobody may be lost */
    serve_everybody(server, "serving after the fault");
    ask_everything(server);
    plan->struck = true;
    plan->armed = true;
    ENGINE_TWICE("shutdown at the end", weir_server_shutdown(server));
    ENGINE_TWICE("close", weir_server_close(server));
    ENGINE_TWICE("destroy", weir_server_destroy(server));
    plan->armed = false;
}

/* ------------------------------------------------------------------ what is left ------ */

static size_t entries(const char *path)
{
    DIR *listing = opendir(path);
    size_t len = 0;

    while (listing && readdir(listing))
        len++;
    if (listing)
        closedir(listing);
    return len;
}

/* A thread that was joined is there for a moment more. */
static void await_threads(size_t threads)
{
    for (int ms = 0; entries("/proc/self/task") != threads; ms++) {
        if (ms == PATIENCE_MS)
            complain("a thread is left");
        poll(NULL, 0, 1);
    }
}

/* What is kept for the next server is kept in a life without a fault, too. */
static void check_memory(struct plan_balance rest)
{
    if (rest.blocks > plan->rest.blocks)
        complain("%ld blocks are left", rest.blocks - plan->rest.blocks);
    if (rest.mapped > plan->rest.mapped)
        complain("%ld mapped bytes are left", rest.mapped - plan->rest.mapped);
}

static void check_rest(size_t threads, size_t descriptors)
{
    plan->phase = "after the end";
    await_threads(threads);
    /* unlink(2) may be what failed. */
    if (plan->call != UNLINK && plan->call != LSTAT &&
        (access(unix_path, F_OK) == 0 || access(unixgram_path, F_OK) == 0))
        complain("a path is left");
    if (waitpid(-1, NULL, WNOHANG) != -1)
        complain("a child is left");
    if (entries("/proc/self/fd") != descriptors)
        complain("%zd descriptors are left",
                 (ssize_t)(entries("/proc/self/fd") - descriptors));
    if (plan->error == 0)
        plan->rest = plan_balance();
    check_memory(plan_balance());
}

void life_lead(const struct way *way)
{
    size_t threads;
    size_t descriptors;

    is_spared = true;
    weir_set_log(say_nothing, NULL);
    start_peer();
    threads = entries("/proc/self/task");
    descriptors = entries("/proc/self/fd");
    lead(way);
    check_rest(threads, descriptors);
    stop_peer();
}

void life_prepare(void)
{
    static const char rules[] = "default allow\n# who may connect\ndeny 192.0.2.0/24\n";
    FILE *file;

    if (!mkdtemp(folder))
        perror(folder);
    snprintf(unix_path, sizeof(unix_path), "%s/stream", folder);
    snprintf(unixgram_path, sizeof(unixgram_path), "%s/datagrams", folder);
    snprintf(unixgram_client, sizeof(unixgram_client), "%s/client", folder);
    snprintf(unix_uri, sizeof(unix_uri), "unix://%s", unix_path);
    snprintf(unixgram_uri, sizeof(unixgram_uri), "unixgram://%s", unixgram_path);
    snprintf(rules_path, sizeof(rules_path), "%s/rules", folder);
    file = fopen(rules_path, "we");
    if (!file || fputs(rules, file) < 0 || fclose(file) != 0)
        perror(rules_path);
    file_fd = memfd_create("file", MFD_CLOEXEC);
    if (file_fd < 0 || ftruncate(file_fd, FILE_LEN) < 0)
        perror("memfd_create");
}

void life_clear(void)
{
    unlink(unix_path);
    unlink(unixgram_path);
    unlink(unixgram_client);
}

void life_remove(void)
{
    unlink(rules_path);
    rmdir(folder);
    close(file_fd);
}
