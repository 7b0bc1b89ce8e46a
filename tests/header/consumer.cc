/*
 * consumer.cc - consumer.c in C++: by names where there are designated initializers, and by empty
 * braces, constructions and assignments where there are none.
 */
#include <cstddef>
#include <cstdio>
#include <type_traits>

#include <weir/http.h>
#include <weir/weir.h>
#include <weir/weir_sync.h>

namespace {

weir_mutex lock;
weir_semaphore places;
weir_condition changed;
weir_wait_group group;
weir_once_flag once;
weir_rwlock rwlock;

int do_nothing(void *)
{
    return 0;
}

// Returns true if each of them does what it says.
bool share()
{
    weir_mutex own = {};
    bool shared = weir_mutex_lock(&own) == 0 && weir_mutex_try_lock(&own) < 0 &&
                  weir_semaphore_release(&places, 1) == 0 &&
                  weir_semaphore_acquire(&places) == 0 &&
                  weir_semaphore_try_acquire(&places) < 0 &&
                  weir_semaphore_acquire_within(&places, 1) < 0 &&
                  weir_condition_wait_within(&changed, &own, 1) < 0 &&
                  weir_wait_group_add(&group, 1) == 0 &&
                  weir_wait_group_wait_within(&group, 1) < 0 &&
                  weir_once(&once, do_nothing, nullptr) == 0 &&
                  weir_rwlock_read_lock(&rwlock) == 0 &&
                  weir_rwlock_try_write_lock(&rwlock) < 0;

    weir_condition_signal(&changed);
    weir_condition_broadcast(&changed);
    weir_wait_group_done(&group);
    weir_rwlock_read_unlock(&rwlock);
    weir_mutex_unlock(&own);
    return shared && weir_mutex_lock_within(&lock, 1) == 0;
}

int numbers[2];
weir_channel channel = WEIR_CHANNEL(numbers);

// Returns true if a channel does what it says.
bool pass_on()
{
    const int sent = 7;
    int got = 0;
    weir_case cases[] = { { &channel, nullptr, &got, 0 }, { &channel, &sent, nullptr, 0 } };

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

int echo(weir_request *req)
{
    bool *twice = static_cast<bool *>(weir_state(req));
    char *line;
    const ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return static_cast<int>(n);
    if (!*twice && (!share() || !pass_on()))
        return -1;
    weir_printf(req, "%d ", *twice);
    weir_write(req, line, static_cast<size_t>(n));
    *twice = true;
    return weir_draining(req) ? WEIR_STOP_SERVER : WEIR_KEEP;
}

int hello(weir_http *ex)
{
    return weir_http_reply(ex, 200, "text/plain", weir_http_data(ex), 6);
}

int verify(weir_server *server, const weir_peer *peer)
{
    return server && peer->fd >= 0 && peer->listen[0] == 't' ? 1 : 0;
}

void tell(weir_server *, const weir_failure *failure)
{
    if (failure->phase == WEIR_PHASE_HANDLE)
        std::fprintf(stderr, "%s: %d%s\n", failure->handler, failure->error,
                     failure->hint ? failure->hint : "");
}

void hear(void *, const weir_log_line *line)
{
    if (line->kind != WEIR_LOG_LEFT_OUT)
        std::fprintf(stderr, "%.*s\n", static_cast<int>(line->len), line->text);
}

#ifdef __cpp_designated_initializers

const weir_handler lines = {
    .name = "lines", .handle = echo, .state_size = sizeof(bool), .stack = WEIR_STACK_FIBER,
};
const weir_http_route routes[] = { { .path = "/", .call = hello, .data = "hello\n" } };
const weir_http_site site = { WEIR_HTTP_ROUTES(routes), .body_limit = 100 };

#else

weir_handler make_lines()
{
    weir_handler handler{};

    handler.name = "lines";
    handler.handle = echo;
    handler.state_size = sizeof(bool);
    handler.stack = WEIR_STACK_FIBER;
    return handler;
}

weir_http_site make_site()
{
    static const weir_http_route routes[] = { { nullptr, "/", hello, "hello\n" } };
    weir_http_site site{};

    site.routes = routes;
    site.routes_len = 1;
    site.body_limit = 100;
    return site;
}

const weir_handler lines = make_lines();
const weir_http_site site = make_site();

#endif

const weir_handler http = WEIR_HTTP_HANDLER("http", &site);

/* Each structure by empty braces, with the equals sign and without. */
bool empty_braces_set_sizes_and_nothing_else()
{
    weir_options options = {};
    weir_options no_options{};
    weir_listen listen = {};
    weir_listen no_listen{};
    weir_handler handler = {};
    weir_handler no_handler{};
    weir_http_route route = {};
    weir_http_route no_route{};
    weir_http_site no_site = {};
    weir_stats stats = {};
    weir_peer peer = {};
    weir_failure failure = {};
    weir_log_line line = {};

    return options.size == sizeof(options) && no_options.listener_size == sizeof(listen) &&
           !options.handler && !options.daemon_threads && !listen.address && !no_listen.user &&
           !handler.handle && !no_handler.client_first && !route.call && !no_route.path &&
           no_site.route_size == sizeof(route) && stats.accepted == 0 && peer.fd == 0 &&
           !failure.hint && line.len == 0;
}

/* The two ways, of which the second is every C++'s. */
int create(weir_server **ret_server, const weir_listen *listeners)
{
#ifdef __cpp_designated_initializers
    return weir_server_create(ret_server, WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .verify_request = verify, .handle_error = tell,
        .concurrency = WEIR_POOL, .dispatch = WEIR_DISPATCH_WORKER, .workers = 2,
        .wbufsize = WEIR_UNBUFFERED, .block_on_close = WEIR_DEFAULT, .daemon_threads = true,
        .reuse_address = WEIR_YES, .keep_path = WEIR_NO));
#else
    (void)listeners;
    return weir_server_create(ret_server, nullptr);
#endif
}

int create_by_assignments(weir_server **ret_server, const weir_listen *listeners)
{
    weir_options options{};

    options.listeners = listeners;
    options.listeners_len = 2;
    options.verify_request = verify;
    options.handle_error = tell;
    options.concurrency = WEIR_POOL;
    options.dispatch = WEIR_DISPATCH_WORKER;
    options.workers = 2;
    options.wbufsize = WEIR_UNBUFFERED;
    options.block_on_close = WEIR_DEFAULT;
    options.daemon_threads = true;
    options.reuse_address = WEIR_YES;
    options.keep_path = WEIR_NO;
    return weir_server_create(ret_server, &options);
}

int serve(weir_server *server)
{
    weir_stats stats{};
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_start(server) < 0)
        return 1;
    for (size_t i = 0; weir_server_address(server, i, address, sizeof(address)) > 0; i++)
        std::puts(address);
    std::fflush(stdout);
    while (std::getchar() != EOF)
        ;
    weir_server_shutdown(server);
    if (weir_server_stats(server, &stats, sizeof(stats)) < 0 || stats.accepted == 0 ||
        weir_stats_field(0)->kind != WEIR_STAT_COUNTER)
        return 1;
    return weir_server_destroy(server) < 0;
}

} // namespace

static_assert(std::is_standard_layout<weir_options>::value, "C has it, too");
static_assert(std::is_trivially_copyable<weir_options>::value, "C has it, too");
static_assert(std::is_standard_layout<weir_handler>::value, "C has it, too");
static_assert(std::is_standard_layout<weir_http_site>::value, "C has it, too");

int main()
{
    weir_listen listeners[2]{};
    weir_server *server = nullptr;
    weir_server *other = nullptr;

    listeners[0].address = "tcp://127.0.0.1:0";
    listeners[0].handler = &lines;
    listeners[0].idle_timeout_ms = WEIR_FOREVER;
    listeners[1].address = "tcp://127.0.0.1:0";
    listeners[1].handler = &http;
    listeners[1].disable_nagle_algorithm = WEIR_YES;
    if (!empty_braces_set_sizes_and_nothing_else())
        return 1;
    weir_set_log(hear, nullptr);
    if (create_by_assignments(&server, listeners) < 0) {
        std::fprintf(stderr, "consumer: %s\n", weir_why());
        return 1;
    }
#ifdef __cpp_designated_initializers
    weir_server_destroy(server);
    if (create(&server, listeners) < 0) {
        std::fprintf(stderr, "consumer: %s\n", weir_why());
        return 1;
    }
#else
    if (create(&other, listeners) == 0)
        return 1;
#endif
    (void)other;
    return serve(server);
}
