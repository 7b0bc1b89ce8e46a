/*
 * backend.c - the conformance suite's back end on weir: see protocol.md.
 *
 * The main thread reads the driver's lines. What may block gets a thread of its own; everything
 * else is done here, in order.
 */
#include <weir/weir.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/conformance/backend_host.h"
#include "tests/conformance/backend_tell.h"
#include "tests/conformance/backend_words.h"

enum { POLLED_MAX = 8, NOBODY = 65534 };

/* A line of the driver's, until it is answered. */
struct errand {
    char *line;
    struct words words;
    const struct verb *verb;
    struct host *host;          /* that of server=N, or NULL */
    struct host *polled[POLLED_MAX];
    size_t polled_len;
    char result[256];           /* what follows "ok" */
};

struct verb {
    const char *name;
    int (*run)(struct errand *errand);
    bool blocks;
};

#define RESULT(errand, ...) snprintf((errand)->result, sizeof((errand)->result), " " __VA_ARGS__)

/* ------------------------------------------------------------------ servers ----------- */

static int do_bind(struct errand *errand)
{
    return weir_server_bind(errand->host->server);
}

static int do_activate(struct errand *errand)
{
    return weir_server_activate(errand->host->server);
}

static int do_address(struct errand *errand)
{
    char uri[WEIR_ADDRESS_SIZE];
    int r = weir_server_address(errand->host->server, 0, uri, sizeof(uri));

    if (r >= 0)
        RESULT(errand, "address=%s", uri);
    return r;
}

static int do_serve(struct errand *errand)
{
    return weir_serve_forever(errand->host->server);
}

static int do_handle_request(struct errand *errand)
{
    return weir_handle_request(errand->host->server);
}

static int do_shutdown(struct errand *errand)
{
    return weir_server_shutdown(errand->host->server);
}

static int do_stop(struct errand *errand)
{
    weir_server_stop(errand->host->server);
    return 0;
}

static int do_close(struct errand *errand)
{
    return weir_server_close(errand->host->server);
}

static int do_destroy(struct errand *errand)
{
    weir_server_destroy(errand->host->server);
    return 0;
}

static int do_release(struct errand *errand)
{
    return sem_post(&errand->host->released) == 0 ? 0 : -errno;
}

static int do_stats(struct errand *errand)
{
    struct weir_stats stats;
    /* relaxed: a count. pairs: handle_error() */
    uint64_t errors = atomic_load_explicit(&errand->host->errors, memory_order_relaxed);
    int r = weir_server_stats(errand->host->server, &stats, sizeof(stats));

    if (r == 0)
        RESULT(errand, "accepted=%llu refused=%llu errors=%llu accept_errors=%llu",
               (unsigned long long)stats.accepted, (unsigned long long)stats.refused,
               (unsigned long long)errors, (unsigned long long)stats.accept_errors);
    return r;
}

/* ------------------------------------------------------------------ several servers --- */

static void find_polled(struct errand *errand)
{
    char *rest = (char *)(uintptr_t)words_need(&errand->words, "servers");
    char *word;

    while ((word = strsep(&rest, ","))) {
        if (errand->polled_len == POLLED_MAX)
            mistake("more than %d servers", POLLED_MAX);
        errand->polled[errand->polled_len++] = host_find(word);
    }
}

/* How many requests were handled, at most `most`, or -errno. */
static int handle_ready(const struct errand *errand, const struct pollfd *fds, uint64_t most)
{
    int handled = 0;

    for (size_t i = 0; i < errand->polled_len && (uint64_t)handled < most; i++) {
        int r = fds[i].revents ? weir_handle_request(errand->polled[i]->server) : 0;

        if (r < 0)
            return r;
        handled += r;
    }
    return handled;
}

static int do_poll_loop(struct errand *errand)
{
    uint64_t left = words_number(&errand->words, "requests");
    struct pollfd fds[POLLED_MAX];

    for (size_t i = 0; i < errand->polled_len; i++) {
        fds[i] = (struct pollfd){
            .fd = weir_server_fileno(errand->polled[i]->server), .events = POLLIN };
        if (fds[i].fd < 0)
            return fds[i].fd;
    }
    while (left > 0) {
        int handled = 0;

        if (poll(fds, errand->polled_len, -1) > 0)
            handled = handle_ready(errand, fds, left);
        if (handled < 0)
            return handled;
        left -= (uint64_t)handled;
    }
    return 0;
}

/* ------------------------------------------------------------------ the process ------- */

static int limit(int kind, const char *soft)
{
    struct rlimit limit;

    if (!soft)
        return 0;
    if (getrlimit(kind, &limit) < 0)
        return -errno;
    limit.rlim_cur = number_of(soft, 10);
    return setrlimit(kind, &limit) == 0 ? 0 : -errno;
}

static int do_limit(struct errand *errand)
{
    const char *nproc = words_find(&errand->words, "nproc");
    int r = limit(RLIMIT_NOFILE, words_find(&errand->words, "nofile"));

    if (r == 0 && nproc && getuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) < 0)
        r = -errno;
    return r < 0 ? r : limit(RLIMIT_NPROC, nproc);
}

static int do_spawn(struct errand *errand)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(7);
    if (pid < 0)
        return -errno;
    RESULT(errand, "pid=%d", (int)pid);
    return 0;
}

static int do_reap(struct errand *errand)
{
    pid_t pid = (pid_t)words_number(&errand->words, "pid");
    int status;
    pid_t reaped;

    do
        reaped = waitpid(pid, &status, 0);
    while (reaped < 0 && errno == EINTR);
    RESULT(errand, "status=%d", reaped < 0 ? -1 : WEXITSTATUS(status));
    return 0;
}

static int do_ping(struct errand *errand)
{
    (void)errand;
    return 0;
}

/* ------------------------------------------------------------------ errands ----------- */

static int do_create(struct errand *errand)
{
    return host_create(&errand->words);
}

static const struct verb verbs[] = {
    { "create", do_create, false },
    { "bind", do_bind, false },
    { "activate", do_activate, false },
    { "address", do_address, false },
    { "serve", do_serve, true },
    { "handle_request", do_handle_request, true },
    { "shutdown", do_shutdown, true },
    { "stop", do_stop, false },
    { "close", do_close, true },
    { "destroy", do_destroy, true },
    { "release", do_release, false },
    { "stats", do_stats, false },
    { "poll_loop", do_poll_loop, true },
    { "limit", do_limit, false },
    { "spawn", do_spawn, false },
    { "reap", do_reap, false },
    { "ping", do_ping, false },
};

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    mistake("what is '%s'?", name);
}

/* What it is about. Whoever is to be destroyed is gone from here on. */
static void find_host(struct errand *errand)
{
    const char *server = words_find(&errand->words, "server");

    if (errand->verb->run == do_poll_loop)
        find_polled(errand);
    if (!server || errand->verb->run == do_create)
        return;
    errand->host = host_find(server);
    errand->host->gone = errand->verb->run == do_destroy;
}

static void run(struct errand *errand)
{
    int r = errand->verb->run(errand);

    if (r < 0)
        tell("%s error %s", errand->words.tag, error_name(r));
    else
        tell("%s ok%s", errand->words.tag, errand->result);
    free(errand->line);
    free(errand);
}

/* How many errands are on threads of their own. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t returned = PTHREAD_COND_INITIALIZER;
static size_t out;

static void *run_on_a_thread(void *errand)
{
    sigset_t usr1;

    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
    run(errand);
    pthread_mutex_lock(&lock);
    out--;
    pthread_cond_signal(&returned);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void send_out(struct errand *errand)
{
    pthread_t thread;

    pthread_mutex_lock(&lock);
    out++;
    pthread_mutex_unlock(&lock);
    if (pthread_create(&thread, NULL, run_on_a_thread, errand) != 0)
        mistake("no thread for %s", errand->verb->name);
    pthread_detach(thread);
}

static void await_all(void)
{
    pthread_mutex_lock(&lock);
    while (out > 0)
        pthread_cond_wait(&returned, &lock);
    pthread_mutex_unlock(&lock);
}

static void dispatch(struct errand *errand)
{
    errand->verb = find_verb(errand->words.verb);
    find_host(errand);
    if (errand->verb->blocks)
        send_out(errand);
    else
        run(errand);
}

/* The next line as an errand; NULL: there is none, or it says exit. */
static struct errand *read_errand(void)
{
    struct errand *errand = calloc(1, sizeof(*errand));
    size_t size = 0;

    if (!errand)
        mistake("no memory");
    if (getline(&errand->line, &size, stdin) > 0) {
        words_split(&errand->words, errand->line);
        if (strcmp(errand->words.verb, "exit") != 0)
            return errand;
    }
    free(errand->line);
    free(errand);
    return NULL;
}

/* ------------------------------------------------------------------ main -------------- */

static void do_nothing(int number)
{
    (void)number;
}

static void prepare_signals(void)
{
    const struct sigaction interrupt = { .sa_handler = do_nothing };
    sigset_t usr1;

    sigaction(SIGUSR1, &interrupt, NULL);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, NULL);
}

int main(void)
{
    struct errand *errand;
    struct host *host;

    prepare_signals();
    while ((errand = read_errand()))
        dispatch(errand);
    for (host = host_next(NULL); host; host = host_next(host))
        weir_server_shutdown(host->server);
    await_all();
    for (host = host_next(NULL); host; host = host_next(host))
        weir_server_destroy(host->server);
    return 0;
}
