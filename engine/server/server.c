/*
 * server.c - the server: put together from its options, and freed.
 */
#include "engine/server/server.h"

#include "engine/base/cpulist.h"
#include "engine/base/kernel.h"
#include "engine/base/log.h"
#include "engine/base/misuse.h"
#include "engine/modes/process.h"
#include "engine/server/places.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * With WEIR_CHECK=1 handlers that hold their workers are told of, whether it was asked for or not.
 */
#define CHECKED_STALL_MS 1000

const char *weir_why(void)
{
    return why_last;
}

/* ------------------------------------------------------------------ putting together -- */

static void tell_of_child(int error)
{
    if (error == -ECHILD)
        log_line(LOG_CHILD, "a child process has ended before its time");
    else
        log_line(LOG_CHILD, "a child process can't be had yet: %s", why_error(error));
}

/* The server's own doing, to as many as there are; or any client's, as often as it likes. */
static bool is_only_counted(const struct weir_failure *failure)
{
    if (!failure->req)
        return false;
    return (failure->error == -ECANCELED && request_was_cancelled(failure->req)) ||
           (request_is_end_by_peer(failure->error) && request_was_reset(failure->req));
}

/* As that of a Unix peer without a name does, "unix:". */
static bool ends_in_colon(const char *address)
{
    size_t len = strlen(address);

    return len > 0 && address[len - 1] == ':';
}

static void default_handle_error(struct weir_server *server, const struct weir_failure *failure)
{
    static const char *const phases[] = {
        [WEIR_PHASE_VERIFY] = "verify_request", [WEIR_PHASE_SETUP] = "setup",
        [WEIR_PHASE_HANDLE] = "handle", [WEIR_PHASE_FINISH] = "finish",
        [WEIR_PHASE_PROCESS] = "process_request",
    };
    const char *hint = failure->hint;

    (void)server;
    if (is_only_counted(failure))
        return;
    if (failure->peer[0] == '\0')
        tell_of_child(failure->error);
    else
        log_line(LOG_FAILURE, "request from %s%s %s of handler '%s' failed: %s%s%s%s",
                 failure->peer, ends_in_colon(failure->peer) ? "" : ":", phases[failure->phase],
                 failure->handler, why_error(failure->error), hint ? " (" : "", hint ? hint : "",
                 hint ? ")" : "");
}

static int parse_cpus(struct weir_server *server)
{
    char why[256];
    int n;

    if (!server->options.worker_cpus)
        return 0;
    n = cpulist_parse(server->options.worker_cpus, server->cpus, WEIR_MAX_WORKERS, why,
                      sizeof(why));
    if (n < 0)
        return SERVER_REFUSE(n, "worker_cpus: %s", why);
    server->cpus_len = (size_t)n;
    return 0;
}

static int parse_owner(struct weir_server *server)
{
    char why[256];
    int r;

    if (!server->options.unix_owner)
        return 0;
    r = owner_parse(server->options.unix_owner, &server->owner, why, sizeof(why));
    if (r < 0)
        return SERVER_REFUSE(r, "unix_owner: %s", why);
    if (!options_have_unix_path(&server->options))
        return SERVER_REFUSE(-EINVAL, OPTIONS_NO_UNIX_PATH, "unix_owner");
    return 0;
}

/* What has to be known of a concurrency before its mixin is there; the rest is the mixin's. */
static const struct kind {
    int (*create)(const struct mixin_config *config, struct mixin **ret);
    bool pooled;            /* this process has the workers of a pool */
    bool forks;             /* no other thread looks at what this process's table has */
    bool child_each;        /* a child has each place, and shares the crowds with its parent */
    bool needs_pidfds;
} kinds[] = {
    [WEIR_POOL] = { .create = pooled_create, .pooled = true },
    [WEIR_SERIAL] = { .create = serial_create },
    [WEIR_THREAD] = { .create = threads_create },
    [WEIR_FORK] = { .create = forks_create, .forks = true, .child_each = true },
    [WEIR_PREFORK] = { .create = prefork_create, .forks = true, .needs_pidfds = true },
};

static const struct kind *kind_of(const struct weir_options *options)
{
    return &kinds[options->concurrency];
}

/* Over max_children too, accepting pauses until one has ended. */
static void limit_connections(struct weir_server *server, const struct weir_options *said)
{
    const struct weir_options *options = &server->options;
    bool by_children = kind_of(options)->child_each &&
                       options->max_children < options->max_connections;

    server->quota.max = by_children ? options->max_children : options->max_connections;
    server->quota.limit = by_children ? "max_children" : places_limit(said, options);
}

static int read_multicast(struct weir_server *server)
{
    char why[400];
    int r = multicast_read(&server->options, &server->multicast, why, sizeof(why));

    return r == 0 ? 0 : SERVER_REFUSE(r, "multicast: %s", why);
}

void server_fill_in_alike(struct weir_server *server)
{
    const struct weir_options *options = &server->options;

    if (!server->options.handle_error)
        server->options.handle_error = default_handle_error;
    server->acceptor_config = (struct acceptor_config){
        .admission = {
            .server = server,
            .verify_request = options->verify_request,
            .handle_error = options->handle_error,
        },
        .housekeeping = {
            .server = server,
            .poll_interval_ms = options->poll_interval_ms,
            .shortest_idle_ms = server_shortest_idle_ms(server),
            .service_actions = options->service_actions,
        },
    };
    server->service = (struct service){
        .crew = &server->pool->crew,
        .offload = server->offload,
        .names = server->names,
        .server = server,
        .admission = &server->acceptor_config.admission,
        .stop = weir_server_stop,
        .user = options->user,
        .handle_error = options->handle_error,
        .unbuffered = options->wbufsize == WEIR_UNBUFFERED,
        .reply_always = options->reply_always,
    };
}

/* Any handler's, since whose sockets carry datagrams is known only when they are open. */
static struct packet_format packet_format(const struct weir_server *server)
{
    struct packet_format format = { .data_size = server->options.max_packet_size };

    for (size_t i = 0; i < server->listens_len; i++) {
        size_t size = server->listens[i].like.handler->state_size;

        if (size > format.state_size)
            format.state_size = size;
    }
    return format;
}

int server_create_pool(struct weir_server *server)
{
    const struct weir_options *options = &server->options;
    const struct kind *kind = kind_of(options);
    int r = pool_create(&(const struct pool_config){
        .crew = {
            .workers = kind->pooled ? options->workers : 1,
            .stack_size = options->stack_size,
            .rbufsize = options->rbufsize,
            .wbufsize = options->wbufsize == WEIR_UNBUFFERED ? 0 : options->wbufsize,
            .packet_format = packet_format(server),
            .queue_target_ms = options->queue_target_ms,
            .max_queued = options->max_queued,
            .refuses = options->when_queued == WEIR_REFUSE,
            .sockets = server->listens_len * SERVER_ADDRESSES_MAX,
            .common_set = kind->pooled && options->dispatch == WEIR_DISPATCH_ACCEPTOR,
            .threadless = !kind->pooled,
            .private = kind->forks,
            .serve = request_serve,
            .service = &server->service,
        },
        .stall = { .warn_ms = options->stall_warn_ms, .explains = server->checked },
        .cpus = server->cpus,
        .cpus_len = server->cpus_len,
    }, &server->pool);

    if (r < 0)
        return SERVER_REFUSE(r, "the pool of workers: %s", why_error(r));
    server_count_in_table(server);
    return 0;
}

/* WEIR_HALF of these many places; or as many as the program has said. */
static uint32_t limit_of(uint32_t said, size_t places)
{
    if (said != WEIR_HALF)
        return said;
    return places > 1 ? (uint32_t)(places / 2) : 1;
}

int server_create_crowd(const struct weir_server *server, uint32_t said, size_t places,
                        struct crowd **ret)
{
    uint32_t limit = limit_of(said, places);

    /* Who is in a crowd has a place of a quota before. */
    if (kind_of(&server->options)->child_each)
        return crowd_create_shared(limit, (size_t)server->options.max_children +
                                   options_set_aside(&server->options), ret);
    return crowd_create(limit, places, ret);
}

/* The rules and limits for clients, as the options say. */
static int create_access(struct weir_server *server)
{
    const struct weir_options *options = &server->options;
    struct weir_access *rules;
    char why[400];
    int r = 0;

    if (options->access) {
        r = access_parse(options->access, &rules, why, sizeof(why));
        if (r < 0)
            return SERVER_REFUSE(r, "access: %s", why);
        access_slot_set(&server->access, rules);
    }
    if (options->max_per_address > 0 && options->max_per_address != WEIR_ANY_NUMBER)
        r = server_create_crowd(server, options->max_per_address, server->quota.max,
                                &server->crowd);
    return r == 0 ? 0 : SERVER_REFUSE(r, "max_per_address: %s", why_error(r));
}

/* Before the acceptors, which watch for the end of its children. */
int server_create_mixin(struct weir_server *server)
{
    const struct mixin_config config = {
        .server = server,
        .crew = &server->pool->crew,
        .alone = { .stop_fd = -1, .followed = &server->followed,
                   .leave_ms = server_leave_ms(server) },
        .drain_timeout_ms = server->options.drain_timeout_ms,
        .max_children = (uint32_t)server_connections_max(server),
        .processes = server->options.processes,
        .handle_error = server->options.handle_error,
        .leave_to_parent = server_leave_to_parent,
        .child_calls = &server_child_calls,
    };
    int r = kind_of(&server->options)->create(&config, &server->mixin);

    server->acceptor_config.mixin = server->mixin;
    return r;
}

int server_create_acceptors(struct weir_server *server)
{
    /* Their tallies have cache lines of their own. */
    server->acceptors = aligned_alloc(WEIR_CACHE_LINE,
                                      server->options.acceptors * sizeof(*server->acceptors));
    if (!server->acceptors)
        return -ENOMEM;
    while (server->acceptors_len < server->options.acceptors) {
        size_t i = server->acceptors_len;
        int r = acceptor_init(&server->acceptors[i], &server->acceptor_config, server->pool,
                              i == 0);

        if (r < 0)
            return r;
        server->acceptors_len++;
    }
    return 0;
}

void server_free(struct weir_server *server)
{
    process_remove_heir(&server->heir);
    if (server->has_doorman)
        doorman_fini(&server->doorman);
    while (server->acceptors_len > 0)
        acceptor_fini(&server->acceptors[--server->acceptors_len]);
    free(server->acceptors);
    mixin_destroy(server->mixin);
    offload_destroy(server->names);
    offload_destroy(server->offload);
    pool_destroy(server->pool);
    server_free_timers(server);
    server_free_endpoints(server);
    server_free_listens(server);
    crowd_destroy(server->crowd);
    access_slot_fini(&server->access);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->timers.lock);
    pthread_mutex_destroy(&server->lock);
    free(server);
    log_close();
}

static int could_not_build(const struct weir_server *server, int r)
{
    bool refused = r == -ENOSYS || r == -EPERM || r == -EACCES;

    if (refused && kind_of(&server->options)->needs_pidfds)
        return SERVER_REFUSE(r, "WEIR_PREFORK needs pidfd_open(2), which Linux has since 5.3 and "
                             "containers may forbid: %s", why_error(r));
    return SERVER_REFUSE(r, "the server: %s", why_error(r));
}

/* All that is not a copy has been read: another look at the options shall notice. */
static void forget_callers_strings(struct weir_options *options)
{
    options->worker_cpus = NULL;
    options->access = NULL;
    options->multicast = NULL;
    options->unix_owner = NULL;
}

static int build(struct weir_server *server)
{
    enum weir_concurrency how = server->options.concurrency;
    int r = process_init();

    if (r < 0)
        return SERVER_REFUSE(r, "the server: %s", why_error(r));
    r = kernel_check(how == WEIR_FORK || how == WEIR_PREFORK, why_last, sizeof(why_last));
    if (r == 0)
        r = parse_cpus(server);

    if (r == 0)
        r = parse_owner(server);
    if (r == 0)
        r = read_multicast(server);
    if (r < 0)
        return r;
    r = create_access(server);
    if (r < 0)
        return r;
    r = server_copy_listens(server);
    if (r < 0)
        return r;
    r = server_create_pool(server);
    if (r < 0)
        return r;
    server->offload = offload_create(server->options.offload_threads);
    server->names = offload_create(OFFLOAD_NAMES_MAX);
    server_fill_in_alike(server);
    r = server->offload && server->names ? server_create_mixin(server) : -ENOMEM;
    if (r == 0)
        r = server_create_acceptors(server);
    if (r < 0)
        return could_not_build(server, r);
    forget_callers_strings(&server->options);
    if (server->options.defer)
        return 0;
    server->opening = LISTENING;
    return server_open_listeners(server);
}

int weir_server_create(struct weir_server **ret_server, const struct weir_options *options)
{
    struct weir_server *server = calloc(1, sizeof(*server));
    int r;

    if (!server)
        return SERVER_REFUSE(-ENOMEM, "the server: %s", why_error(-ENOMEM));
    log_open();
    pthread_mutex_init(&server->lock, NULL);
    pthread_mutex_init(&server->timers.lock, NULL);
    pthread_cond_init(&server->changed, NULL);
    r = options_read(options, &server->options, why_last, sizeof(why_last));
    server->checked = misuse_read_environment();
    if (server->checked && server->options.stall_warn_ms == 0)
        server->options.stall_warn_ms = CHECKED_STALL_MS;
    if (r == 0) {
        limit_connections(server, options);
        r = build(server);
    }
    if (r < 0) {
        server_free(server);
        return r;
    }
    server->heir.in_child = server_begin_in_child;
    process_add_heir(&server->heir);
    server->forks = process_forks();
    *ret_server = server;
    return 0;
}

void *weir_server_user(struct weir_server *server)
{
    return server->options.user;
}

/* ------------------------------------------------------------------ who may connect --- */

int weir_access_parse(const char *text, struct weir_access **ret_access)
{
    return access_parse(text, ret_access, why_last, sizeof(why_last));
}

int weir_access_read(const char *path, struct weir_access **ret_access)
{
    return access_read(path, ret_access, why_last, sizeof(why_last));
}

void weir_access_free(struct weir_access *access)
{
    access_free(access);
}

int weir_server_set_access(struct weir_server *server, struct weir_access *access)
{
    int r;

    /* A copy accepts nobody; the process that does has rules of its own. */
    if (server_is_copy(server))
        return SERVER_REFUSE(-ESRCH, "the access rules can't be changed: the server is another "
                             "process's, of which this one is a fork");
    r = access_slot_set(&server->access, access);
    if (r == 0)
        server->mixin->renew(server->mixin);
    return r == 0 ? 0 : SERVER_REFUSE(r, "the access rules are a server's "
                                      "already: parse the text anew");
}
