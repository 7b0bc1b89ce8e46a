/*
 * consumer.c - a program of C that uses each structure and enumeration of weir's headers, and what
 * these promise to be as long as the first version is in use.
 *
 * Prints the addresses of its listeners, of lines and of HTTP, and serves until its input ends.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <weir/http.h>
#include <weir/weir.h>
#include <weir/weir_sync.h>

#define END_OF(type, field) (offsetof(type, field) + sizeof(((type *)NULL)->field))

/* A program that was compiled with the first version counts on these. */
#ifdef __LP64__
_Static_assert(offsetof(struct weir_options, listen) == 16, "options");
_Static_assert(END_OF(struct weir_options, multicast_loop) == 264, "options");
_Static_assert(END_OF(struct weir_options, progress_timeout_ms) == 284, "options");
_Static_assert(END_OF(struct weir_options, offload_threads) == 288, "options");
_Static_assert(END_OF(struct weir_listen, user) == 64, "listen");
_Static_assert(END_OF(struct weir_listen, progress_timeout_ms) == 72, "listen");
_Static_assert(sizeof(struct weir_handler) == 96, "handler");
_Static_assert(END_OF(struct weir_peer, listener_number) == 36, "peer");
_Static_assert(END_OF(struct weir_failure, hint) == 40, "failure");
_Static_assert(END_OF(struct weir_log_line, kind) == 20, "log line");
_Static_assert(END_OF(struct weir_stats, truncated) == 224, "stats");
_Static_assert(END_OF(struct weir_stats, offload_threads) == 248, "stats");
_Static_assert(END_OF(struct weir_stat, kind) == 24, "stats field");
_Static_assert(END_OF(struct weir_http_route, data) == 32, "route");
_Static_assert(sizeof(struct weir_http_site) == 64, "site");
_Static_assert(sizeof(struct weir_mutex) == 16, "mutex");
_Static_assert(sizeof(struct weir_semaphore) == 16, "semaphore");
_Static_assert(sizeof(struct weir_condition) == 16, "condition");
_Static_assert(sizeof(struct weir_wait_group) == 16, "wait group");
_Static_assert(sizeof(struct weir_once_flag) == 16, "once");
_Static_assert(sizeof(struct weir_rwlock) == 16, "read-write lock");
_Static_assert(sizeof(struct weir_channel) == 40, "channel");
_Static_assert(sizeof(struct weir_case) == 32, "case");
#endif
_Static_assert(sizeof(enum weir_concurrency) == 4 && sizeof(enum weir_choice) == 4 &&
               sizeof(enum weir_dispatch) == 4 && sizeof(enum weir_stack) == 4 &&
               sizeof(enum weir_phase) == 4 && sizeof(enum weir_stat_kind) == 4 &&
               sizeof(enum weir_log_kind) == 4 && sizeof(weir_default_no) == 4 &&
               sizeof(enum weir_timeout) == 4 && sizeof(enum weir_when_queued) == 4,
               "enumerations");

static struct weir_mutex lock;
static struct weir_semaphore places;
static struct weir_condition changed;
static struct weir_wait_group group;
static struct weir_once_flag once;
static struct weir_rwlock rwlock;

static int do_nothing(void *arg)
{
    (void)arg;
    return 0;
}

/* Returns true if each of them does what it says. */
static bool share(void)
{
    bool shared = weir_mutex_lock(&lock) == 0 && weir_mutex_try_lock(&lock) < 0 &&
                  weir_semaphore_release(&places, 1) == 0 &&
                  weir_semaphore_acquire(&places) == 0 &&
                  weir_semaphore_try_acquire(&places) < 0 &&
                  weir_semaphore_acquire_within(&places, 1) < 0 &&
                  weir_condition_wait_within(&changed, &lock, 1) < 0 &&
                  weir_wait_group_add(&group, 1) == 0 &&
                  weir_wait_group_wait_within(&group, 1) < 0 &&
                  weir_once(&once, do_nothing, NULL) == 0 &&
                  weir_rwlock_read_lock(&rwlock) == 0 &&
                  weir_rwlock_try_write_lock(&rwlock) < 0;

    weir_condition_signal(&changed);
    weir_condition_broadcast(&changed);
    weir_wait_group_done(&group);
    weir_rwlock_read_unlock(&rwlock);
    weir_mutex_unlock(&lock);
    return shared && weir_mutex_lock_within(&lock, 1) == 0;
}

static int numbers[2];
static struct weir_channel channel = WEIR_CHANNEL(numbers);

/* Returns true if a channel does what it says. */
static bool pass_on(void)
{
    int sent = 7, got = 0;
    struct weir_case cases[] = { { .channel = &channel, .receive = &got },
                                 { .channel = &channel, .send = &sent } };

    return weir_select(cases, 2, 1) == 1 && cases[1].result == 0 &&
           weir_channel_receive(&channel, &got) == 0 &&
           weir_channel_send(&channel, &sent) == 0 &&
           weir_channel_send_within(&channel, &sent, 1) == 0 &&
           weir_channel_try_send(&channel, &sent) < 0 &&
           weir_channel_receive(&channel, &got) == 0 && got == sent &&
           weir_channel_receive_within(&channel, &got, 1) == 0 &&
           weir_channel_try_receive(&channel, &got) < 0 && weir_channel_close(&channel) == 0 &&
           weir_channel_receive(&channel, &got) < 0;
}

static int echo(struct weir_request *req)
{
    bool *twice = weir_state(req);
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    if (!*twice && (!share() || !pass_on()))
        return -1;
    weir_printf(req, "%d ", *twice + (int)weir_listener_number(req));
    weir_write(req, line, (size_t)n);
    *twice = true;
    return weir_draining(req) ? WEIR_STOP_SERVER : WEIR_KEEP;
}

static int hello(struct weir_http *ex)
{
    return weir_http_reply(ex, 200, "text/plain", weir_http_data(ex), 6);
}

static int verify(struct weir_server *server, const struct weir_peer *peer)
{
    return server && peer->fd >= 0 && peer->listen[0] == 't' ? 1 : 0;
}

static void tell(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    if (failure->phase == WEIR_PHASE_HANDLE)
        fprintf(stderr, "%s: %d%s\n", failure->handler, failure->error,
                failure->hint ? failure->hint : "");
}

static void hear(void *arg, const struct weir_log_line *line)
{
    if (line->kind != WEIR_LOG_LEFT_OUT)
        fprintf(arg, "%.*s\n", (int)line->len, line->text);
}

static const struct weir_handler lines = {
    .name = "lines", .handle = echo, .state_size = sizeof(bool), .stack = WEIR_STACK_FIBER,
};
static const struct weir_http_route routes[] = {
    { .path = "/", .call = hello, .data = "hello\n" },
};
static const struct weir_http_site site = { WEIR_HTTP_ROUTES(routes), .body_limit = 100 };
static const struct weir_handler http = WEIR_HTTP_HANDLER("http", &site);
static const struct weir_listen listeners[] = {
    { .address = "tcp://127.0.0.1:0", .idle_timeout_ms = WEIR_FOREVER },
    { .address = "tcp://127.0.0.1:0", .handler = &http, .max_per_address = WEIR_ANY_NUMBER },
};

static int create(struct weir_server **ret_server)
{
    return weir_server_create(ret_server, WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &lines,
        .verify_request = verify, .handle_error = tell,
        .concurrency = WEIR_POOL, .dispatch = WEIR_DISPATCH_WORKER, .workers = 2,
        .wbufsize = WEIR_UNBUFFERED, .block_on_close = WEIR_DEFAULT, .daemon_threads = true,
        .reuse_address = WEIR_YES, .keep_path = WEIR_NO));
}

/* Options that nobody gave a size are refused by a sentence that names what does. */
static int refuse_bare(void)
{
    struct weir_server *server = NULL;
    struct weir_options options;

    memset(&options, 0, sizeof(options));
    options.listeners = listeners;
    options.listeners_len = 2;
    options.handler = &lines;
    if (weir_server_create(&server, &options) == 0 || !strstr(weir_why(), "WEIR_OPTIONS"))
        return -1;
    options.size = sizeof(options);
    if (weir_server_create(&server, &options) == 0 || !strstr(weir_why(), "WEIR_OPTIONS"))
        return -1;
    return 0;
}

int main(void)
{
    struct weir_server *server = NULL;
    struct weir_stats stats;
    char address[WEIR_ADDRESS_SIZE];

    weir_set_log(hear, stderr);
    if (refuse_bare() < 0 || create(&server) < 0 || weir_server_start(server) < 0) {
        fprintf(stderr, "consumer: %s\n", weir_why());
        return 1;
    }
    for (size_t i = 0; weir_server_address(server, i, address, sizeof(address)) > 0; i++)
        puts(address);
    fflush(stdout);
    while (getchar() != EOF)
        ;
    weir_server_shutdown(server);
    if (weir_server_stats(server, &stats, sizeof(stats)) < 0 || stats.accepted == 0 ||
        weir_stats_field(0)->offset != offsetof(struct weir_stats, accepted))
        return 1;
    return weir_server_destroy(server) < 0;
}
