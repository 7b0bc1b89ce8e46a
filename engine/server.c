/*
 * server.c - the server: put together, served, shut down, closed, taken apart.
 *
 *   state      entered by                              leaves by
 *   FRESH      weir_server_create                      serving -> SERVING; close -> CLOSED
 *   SERVING    weir_serve_forever, weir_server_start   the acceptor's return -> STOPPED
 *   STOPPED    the acceptor's return                   serving -> SERVING; close -> CLOSED
 *   CLOSED     weir_server_close                       weir_server_destroy
 *
 * A stop that comes while FRESH is kept: the next serving returns at once. One that comes while
 * STOPPED is nothing, so that it can't poison the next serving, as Python's does.
 *
 * Apart from that: has it sockets yet (enum opening), and is a thread in weir_handle_request?
 */
#include "engine/weir.h"

#include "engine/acceptor.h"
#include "engine/access.h"
#include "engine/clock.h"
#include "engine/cpulist.h"
#include "engine/crowd.h"
#include "engine/doorman.h"
#include "engine/multicast.h"
#include "engine/mixin.h"
#include "engine/offload.h"
#include "engine/options.h"
#include "engine/owner.h"
#include "engine/pool.h"
#include "engine/request.h"
#include "engine/sys.h"
#include "engine/thread.h"
#include "engine/why.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum server_state { FRESH, SERVING, STOPPED, CLOSED };
enum opening { UNBOUND, BOUND, LISTENING };

struct weir_server {
    struct weir_options options;
    struct acceptor_config acceptor_config;
    struct service service;
    struct pool *pool;
    struct offload *offload;
    struct access_slot access;
    struct crowd *crowd;            /* NULL: addresses aren't counted */
    struct mixin *mixin;            /* WEIR_POOL: NULL */
    struct pool *parents_pool;      /* in a child of WEIR_PREFORK: what it was in the parent, to */
    struct acceptor *parents;       /* reach that by; else NULL */
    struct acceptor *acceptors;
    size_t acceptors_len;
    int cpus[HANDOFF_WORKERS_MAX];
    size_t cpus_len;
    struct owner owner;             /* of Unix paths */
    struct multicast multicast;
    struct weir_listen *listens;    /* with options.defer: a copy, for bind */
    size_t listens_len;
    struct doorman doorman;
    sigset_t signals;               /* blocked where serving was asked for */
    pthread_mutex_t lock;           /* of what follows */
    pthread_cond_t changed;         /* state has */
    _Atomic uint64_t submitted;     /* by weir_submit_fd */
    _Atomic enum server_state state;/* written under the lock, read by weir_server_stop too */
    enum opening opening;
    bool has_doorman;
    bool handling;                  /* somebody is in weir_handle_request */
    bool closing;                   /* somebody is in weir_server_close */
    bool thread_started;            /* weir_server_start's has to be joined */
    pthread_t thread;
};

static _Thread_local char last_why[512];

const char *weir_why(void)
{
    return last_why;
}

/* ------------------------------------------------------------------ putting together -- */

static void tell_of_child(int error)
{
    if (error == -ECHILD)
        fprintf(stderr, "weir: a child process has ended before its time: another takes its "
                "place\n");
    else
        fprintf(stderr, "weir: a child process can't be had yet: %s\n", strerror(-error));
}

static void default_handle_error(struct weir_server *server, const struct weir_failure *failure)
{
    static const char *const phases[] = {
        [WEIR_PHASE_VERIFY] = "verify_request", [WEIR_PHASE_SETUP] = "setup",
        [WEIR_PHASE_HANDLE] = "handle", [WEIR_PHASE_FINISH] = "finish",
        [WEIR_PHASE_PROCESS] = "process_request",
    };

    (void)server;
    /* The server's own doing, to as many as there are: it is counted, not told. */
    if (failure->error == -ECANCELED)
        return;
    if (failure->peer[0] == '\0')
        tell_of_child(failure->error);
    else
        fprintf(stderr, "weir: request from %s: %s of handler '%s' failed: %s\n", failure->peer,
                phases[failure->phase], failure->handler, strerror(-failure->error));
}

static int parse_cpus(struct weir_server *server)
{
    char why[256];
    int n;

    if (!server->options.worker_cpus)
        return 0;
    n = cpulist_parse(server->options.worker_cpus, server->cpus, HANDOFF_WORKERS_MAX, why,
                      sizeof(why));
    if (n < 0)
        return why_set(last_why, sizeof(last_why), n, "worker_cpus: %s", why);
    server->cpus_len = (size_t)n;
    return 0;
}

static int parse_owner(struct weir_server *server)
{
    char why[256];
    int r = 0;

    if (server->options.unix_owner)
        r = owner_parse(server->options.unix_owner, &server->owner, why, sizeof(why));
    return r == 0 ? 0 : why_set(last_why, sizeof(last_why), r, "unix_owner: %s", why);
}

/* Over max_children too, accepting pauses until one has ended. */
static uint32_t most_at_once(const struct weir_options *options)
{
    bool by_children = options->concurrency == WEIR_FORK &&
                       options->max_children < options->max_connections;

    return by_children ? options->max_children : options->max_connections;
}

static int refuse_multicast(int error, const char *reason)
{
    return why_set(last_why, sizeof(last_why), error, "multicast: %s", reason);
}

static int read_multicast(struct weir_server *server)
{
    char why[400];
    int r = multicast_read(&server->options, &server->multicast, why, sizeof(why));

    return r == 0 ? 0 : refuse_multicast(r, why);
}

static void fill_in_shared(struct weir_server *server)
{
    const struct weir_options *options = &server->options;

    if (!server->options.handle_error)
        server->options.handle_error = default_handle_error;
    server->acceptor_config = (struct acceptor_config){
        .admission = {
            .server = server,
            .access = &server->access,
            .verify_request = options->verify_request,
            .handle_error = options->handle_error,
        },
        .max_connections = most_at_once(options),
        .poll_interval_ms = options->poll_interval_ms,
        .idle_timeout_ms = options->idle_timeout_ms,
        .service_actions = options->service_actions,
    };
    server->service = (struct service){
        .crew = &server->pool->crew,
        .offload = server->offload,
        .server = server,
        .stop = weir_server_stop,
        .user = options->user,
        .handle_error = options->handle_error,
        .read_timeout_ms = options->read_timeout_ms,
        .write_timeout_ms = options->write_timeout_ms,
        .request_timeout_ms = options->request_timeout_ms,
        .note_idle = options->idle_timeout_ms > 0,
        .unbuffered = options->wbufsize == WEIR_UNBUFFERED,
        .reply_always = options->reply_always,
    };
}

/* Any handler's, since whose sockets carry datagrams is known only when they are open. */
static struct packet_format packet_format(const struct weir_options *options)
{
    struct packet_format format = { .data_size = options->max_packet_size };

    for (size_t i = 0; i < options_listens(options); i++) {
        size_t size = options_listen(options, i).handler->state_size;

        if (size > format.state_size)
            format.state_size = size;
    }
    return format;
}

static int create_pool(struct weir_server *server)
{
    const struct weir_options *options = &server->options;
    int r = pool_create(&(const struct pool_config){
        .workers = options->concurrency == WEIR_POOL ? options->workers : 1,
        .stack_size = options->stack_size,
        .rbufsize = options->rbufsize,
        .wbufsize = options->wbufsize == WEIR_UNBUFFERED ? 0 : options->wbufsize,
        .packet_format = packet_format(options),
        .sockets = options_listens(options),
        .shared_set = options->concurrency == WEIR_POOL &&
                      options->dispatch == WEIR_DISPATCH_ACCEPTOR,
        .threadless = options->concurrency != WEIR_POOL,
        .stall_warn_ms = options->stall_warn_ms,
        .cpus = server->cpus,
        .cpus_len = server->cpus_len,
        .serve = request_serve,
        .service = &server->service,
    }, &server->pool);

    if (r == -EINVAL)
        return why_set(last_why, sizeof(last_why), r,
                       "stack_size is %zu: it must be 16 KiB to 256 MiB", options->stack_size);
    if (r < 0)
        return why_set(last_why, sizeof(last_why), r, "the pool of workers: %s", strerror(-r));
    return 0;
}

/* Who may connect, as the options say. */
static int create_access(struct weir_server *server)
{
    const struct weir_options *options = &server->options;
    struct weir_access *rules;
    char why[400];
    int r = 0;

    if (options->access) {
        r = access_parse(options->access, &rules, why, sizeof(why));
        if (r < 0)
            return why_set(last_why, sizeof(last_why), r, "access: %s", why);
        access_slot_set(&server->access, rules);
    }
    if (options->max_per_address > 0)
        r = crowd_create(options->max_per_address, options->max_connections, &server->crowd);
    server->pool->crew.table.crowd = server->crowd;
    return r == 0 ? 0 : why_set(last_why, sizeof(last_why), r, "max_per_address: %s",
                                strerror(-r));
}

/* What a listener of acceptor i is opened with. Several acceptors share a port by SO_REUSEPORT. */
static struct listener_options listener_options(const struct weir_server *server)
{
    const struct weir_options *options = &server->options;

    return (struct listener_options){
        .backlog = options->backlog,
        .reuse_address = options->reuse_address,
        .reuse_port = options->reuse_port || options->acceptors > 1,
        .nodelay = options->disable_nagle_algorithm,
        .keep_path = options->keep_path,
        .set_uid = server->owner.set_uid,
        .set_gid = server->owner.set_gid,
        .uid = server->owner.uid,
        .gid = server->owner.gid,
        .mode = options->unix_mode,
    };
}

static int refuse_listener(struct listener *listener, const char *uri, int error,
                           const char *reason)
{
    listener->keep_path = false;
    listener_close(listener);
    return why_set(last_why, sizeof(last_why), error, "%s: %s", uri, reason);
}

static int open_listener(struct weir_server *server, struct acceptor *acceptor, const char *uri,
                         const struct weir_handler *handler)
{
    struct listener_options options = listener_options(server);
    struct listener listener;
    int r = server->options.defer
        ? listener_bind(&listener, uri, &options, last_why, sizeof(last_why))
        : listener_open(&listener, uri, &options, last_why, sizeof(last_why));

    if (r < 0)
        return r;
    r = multicast_prepare(&server->multicast, &listener);
    if (r == 0)
        r = acceptor_add(acceptor, &listener, handler);
    return r < 0 ? refuse_listener(&listener, uri, r, strerror(-r)) : 0;
}

/* Only a TCP port that we have bound ourselves can be shared by SO_REUSEPORT. */
static bool can_be_joined(const struct weir_listen *listen)
{
    return strncmp(listen->address, "tcp:", 4) == 0;
}

/* What it is joined by: as it was bound. But no host stays none: [::] alone takes no IPv4. */
static void joining_uri(const struct weir_listen *listen, const char *bound, char *buf,
                        size_t size)
{
    if (strncmp(listen->address, "tcp://:", 7) == 0)
        snprintf(buf, size, "tcp://%s", strrchr(bound, ':'));
    else
        snprintf(buf, size, "%s", bound);
}

/* Each further acceptor binds the address that the first one has bound as its i-th. */
static int join_listener(struct weir_server *server, const struct weir_listen *listen, size_t i)
{
    char uri[WEIR_ADDRESS_SIZE];
    int r = 0;

    joining_uri(listen, server->acceptors[0].listening[i].listener.uri, uri, sizeof(uri));
    for (size_t a = 1; a < server->acceptors_len && r == 0; a++)
        r = open_listener(server, &server->acceptors[a], uri, listen->handler);
    return r;
}

/* The first acceptor's alone, or each of them would be given every datagram. */
static int join_group(struct weir_server *server)
{
    const struct acceptor *first = &server->acceptors[0];
    char why[400];
    int joined = 0;

    if (server->multicast.family == AF_UNSPEC)
        return 0;
    for (size_t i = 0; i < first->listening_len; i++) {
        int r = multicast_join(&server->multicast, &first->listening[i].listener, why,
                               sizeof(why));

        if (r < 0)
            return refuse_multicast(r, why);
        joined += r;
    }
    if (joined > 0)
        return 0;
    return refuse_multicast(multicast_refuse(&server->multicast, why, sizeof(why)), why);
}

/* The first acceptor opens everything; the others join its TCP ports, as they were resolved. */
static int open_listeners(struct weir_server *server)
{
    int r = 0;

    for (size_t i = 0; i < options_listens(&server->options) && r == 0; i++) {
        struct weir_listen listen = options_listen(&server->options, i);

        r = open_listener(server, &server->acceptors[0], listen.address, listen.handler);
        if (r == 0 && can_be_joined(&listen))
            r = join_listener(server, &listen, i);
    }
    return r == 0 ? join_group(server) : r;
}

static const struct child_calls child_calls;

static bool called_from_hook(const struct weir_server *server)
{
    const struct acceptor *acceptor = acceptor_self();

    return acceptor && acceptor->config == &server->acceptor_config;
}

/* What any child does first. */
static void begin_as_child(struct weir_server *server)
{
    /* A thread of weir_server_start's takes no signals; its children do, as its caller does. */
    if (called_from_hook(server))
        pthread_sigmask(SIG_SETMASK, &server->signals, NULL);
    /* Another thread may have held it. */
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->changed, NULL);
    if (server->has_doorman)
        doorman_fini(&server->doorman);
    server->has_doorman = false;
}

static void leave_to_parent(struct weir_server *server)
{
    begin_as_child(server);
    for (size_t i = 0; i < server->acceptors_len; i++)
        acceptor_leave_to_parent(&server->acceptors[i]);
}

/* Before the acceptors, which watch for the end of its children. */
static int create_mixin(struct weir_server *server)
{
    const struct mixin_config config = {
        .server = server,
        .crew = &server->pool->crew,
        .idle_timeout_ms = server->options.idle_timeout_ms,
        .max_children = server->options.max_children,
        .processes = server->options.processes,
        .handle_error = server->options.handle_error,
        .leave_to_parent = leave_to_parent,
        .child_calls = &child_calls,
    };
    int r = 0;

    switch (server->options.concurrency) {
    case WEIR_POOL:
        break;
    case WEIR_SERIAL:
        r = serial_create(&config, &server->mixin);
        break;
    case WEIR_THREAD:
        r = threads_create(&config, &server->mixin);
        break;
    case WEIR_FORK:
        r = forks_create(&config, &server->mixin);
        break;
    case WEIR_PREFORK:
        r = prefork_create(&config, &server->mixin);
        break;
    }
    server->acceptor_config.mixin = server->mixin;
    return r;
}

static int create_acceptors(struct weir_server *server)
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

/* weir_server_bind comes when the caller's own may be gone. */
static int copy_listens(struct weir_server *server)
{
    struct weir_options *options = &server->options;
    size_t len = options_listens(options);

    server->listens = calloc(len, sizeof(*server->listens));
    if (!server->listens)
        return -ENOMEM;
    for (size_t i = 0; i < len; i++) {
        struct weir_listen listen = options_listen(options, i);

        listen.address = strdup(listen.address);
        if (!listen.address)
            return -ENOMEM;
        server->listens[server->listens_len++] = listen;
    }
    options->listen = NULL;
    options->listeners = server->listens;
    options->listeners_len = len;
    return 0;
}

static void free_listens(struct weir_server *server)
{
    while (server->listens_len > 0)
        free((char *)server->listens[--server->listens_len].address);
    free(server->listens);
}

static void free_server(struct weir_server *server)
{
    if (server->has_doorman)
        doorman_fini(&server->doorman);
    while (server->acceptors_len > 0)
        acceptor_fini(&server->acceptors[--server->acceptors_len]);
    free(server->acceptors);
    free_listens(server);
    if (server->mixin)
        server->mixin->destroy(server->mixin);
    offload_destroy(server->offload);
    pool_destroy(server->pool);
    crowd_destroy(server->crowd);
    access_slot_fini(&server->access);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

static int build(struct weir_server *server)
{
    int r = parse_cpus(server);

    if (r == 0)
        r = parse_owner(server);
    if (r == 0)
        r = read_multicast(server);
    if (r < 0)
        return r;
    r = create_pool(server);
    if (r == 0)
        r = create_access(server);
    if (r < 0)
        return r;
    server->offload = offload_create();
    fill_in_shared(server);
    r = server->offload ? create_mixin(server) : -ENOMEM;
    if (r == 0)
        r = create_acceptors(server);
    if (r == 0 && server->options.defer)
        r = copy_listens(server);
    if (r < 0)
        return why_set(last_why, sizeof(last_why), r, "the server: %s", strerror(-r));
    if (server->options.defer)
        return 0;
    server->opening = LISTENING;
    return open_listeners(server);
}

int weir_server_create(struct weir_server **ret_server, const struct weir_options *options)
{
    struct weir_server *server = calloc(1, sizeof(*server));
    int r;

    if (!server)
        return why_set(last_why, sizeof(last_why), -ENOMEM, "the server: %s", strerror(ENOMEM));
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->changed, NULL);
    r = options_read(options, &server->options, last_why, sizeof(last_why));
    if (r == 0)
        r = build(server);
    if (r < 0) {
        free_server(server);
        return r;
    }
    *ret_server = server;
    return 0;
}

/* ------------------------------------------------------------------ its state --------- */

static enum server_state state_of(const struct weir_server *server)
{
    /* acquire: what the thread that changed it did before. pairs: enter_state_locked() */
    return atomic_load_explicit(&server->state, memory_order_acquire);
}

static void enter_state_locked(struct weir_server *server, enum server_state state)
{
    /* release: see state_of(). pairs: state_of() */
    atomic_store_explicit(&server->state, state, memory_order_release);
    pthread_cond_broadcast(&server->changed);
}

/* On one of this server's workers, that is: in a handler. */
static bool called_from_handler(const struct weir_server *server)
{
    const struct worker *worker = worker_self();

    return worker && worker->crew == &server->pool->crew;
}

static bool is_closed_locked(const struct weir_server *server)
{
    return state_of(server) == CLOSED || server->closing;
}

/* Are clients accepted, by whomever? */
static bool is_busy_locked(const struct weir_server *server)
{
    return state_of(server) == SERVING || server->handling;
}

/* May clients be accepted from now on? */
static int check_idle_locked(const struct weir_server *server)
{
    if (is_busy_locked(server))
        return -EBUSY;
    if (is_closed_locked(server))
        return -EBADF;
    return server->opening == LISTENING ? 0 : -EINVAL;
}

static int could_not(struct weir_server *server, const char *what, int r)
{
    bool listens;

    pthread_mutex_lock(&server->lock);
    listens = server->opening == LISTENING;
    pthread_mutex_unlock(&server->lock);
    return why_set(last_why, sizeof(last_why), r, "the server can't %s: %s", what,
                   r == -EBUSY ? "it does already" :
                   r == -EBADF ? "it was closed" :
                   r == -EDEADLK ? "this is one of its handlers" :
                   r == -EOPNOTSUPP ? "it is WEIR_PREFORK: its children accept" :
                   r == -EPERM ? "it is WEIR_PREFORK, and another weir server serves in this "
                                 "program" :
                   r == -EINVAL && !listens ? "it does not listen yet: weir_server_bind and "
                                              "weir_server_activate come first" : strerror(-r));
}

/* ------------------------------------------------------------------ bind, activate ---- */

static int refuse_step(int r, const char *what, const char *reason)
{
    return why_set(last_why, sizeof(last_why), r, "the server can't %s: %s", what, reason);
}

/* All of them, or none. */
static int bind_locked(struct weir_server *server)
{
    int r;

    if (is_closed_locked(server))
        return refuse_step(-EBADF, "bind", "it was closed");
    if (server->opening != UNBOUND)
        return refuse_step(-EALREADY, "bind", "it has done that already");
    r = open_listeners(server);
    if (r == 0)
        server->opening = BOUND;
    for (size_t i = 0; i < server->acceptors_len && r < 0; i++)
        acceptor_drop_listeners(&server->acceptors[i]);
    return r;
}

static int activate_listeners(struct weir_server *server, struct acceptor *acceptor)
{
    int r = 0;

    for (size_t i = 0; i < acceptor->listening_len && r == 0; i++)
        r = listener_activate(&acceptor->listening[i].listener, server->options.backlog, last_why,
                              sizeof(last_why));
    return r;
}

static int activate_locked(struct weir_server *server)
{
    int r = 0;

    if (is_closed_locked(server))
        return refuse_step(-EBADF, "listen", "it was closed");
    if (server->opening == UNBOUND)
        return refuse_step(-EINVAL, "listen", "weir_server_bind comes first");
    if (server->opening == LISTENING)
        return refuse_step(-EALREADY, "listen", "it does already");
    for (size_t i = 0; i < server->acceptors_len && r == 0; i++)
        r = activate_listeners(server, &server->acceptors[i]);
    if (r == 0)
        server->opening = LISTENING;
    return r;
}

int weir_server_bind(struct weir_server *server)
{
    int r;

    pthread_mutex_lock(&server->lock);
    r = bind_locked(server);
    pthread_mutex_unlock(&server->lock);
    return r;
}

int weir_server_activate(struct weir_server *server)
{
    int r;

    pthread_mutex_lock(&server->lock);
    r = activate_locked(server);
    pthread_mutex_unlock(&server->lock);
    return r;
}

/* ------------------------------------------------------------------ serving ----------- */

static void *acceptor_main(void *acceptor)
{
    acceptor_run(acceptor);
    return NULL;
}

/* The first acceptor on this thread, each further one on its own. */
static int run_acceptors(struct weir_server *server)
{
    pthread_t threads[OPTIONS_ACCEPTORS_MAX];
    size_t started = 1;
    int r = 0;

    while (r == 0 && started < server->acceptors_len) {
        r = thread_start(&threads[started], -1, acceptor_main, &server->acceptors[started]);
        if (r == 0)
            started++;
    }
    if (r == 0)
        r = acceptor_run(&server->acceptors[0]);
    for (size_t i = 1; i < started; i++) {
        acceptor_stop(&server->acceptors[i]);
        pthread_join(threads[i], NULL);
    }
    return r;
}

static void join_thread(struct weir_server *server)
{
    if (server->thread_started)
        pthread_join(server->thread, NULL);
    server->thread_started = false;
}

static int begin_serving_locked(struct weir_server *server)
{
    int r = check_idle_locked(server);

    if (r == 0)
        r = pool_start(server->pool);
    if (r < 0)
        return r;
    pthread_sigmask(SIG_BLOCK, NULL, &server->signals);
    /* A stop that came too late for the last serving is not for this one. */
    if (state_of(server) == STOPPED)
        acceptor_forget_stop(&server->acceptors[0]);
    /* It has ended, and shall not be there when something is forked. */
    join_thread(server);
    enter_state_locked(server, SERVING);
    return 0;
}

static void change_state(struct weir_server *server, enum server_state state)
{
    pthread_mutex_lock(&server->lock);
    enter_state_locked(server, state);
    pthread_mutex_unlock(&server->lock);
}

static int begin_serving(struct weir_server *server)
{
    enum server_state before;
    int r;

    pthread_mutex_lock(&server->lock);
    before = state_of(server);
    r = begin_serving_locked(server);
    pthread_mutex_unlock(&server->lock);
    if (r < 0 || !server->mixin || !server->mixin->begin)
        return r;
    r = server->mixin->begin(server->mixin);
    if (r < 0)
        change_state(server, before);
    return r;
}

static int serve(struct weir_server *server)
{
    int r = run_acceptors(server);

    change_state(server, STOPPED);
    return r;
}

int weir_serve_forever(struct weir_server *server)
{
    int r = called_from_handler(server) ? -EDEADLK : begin_serving(server);

    if (r == 0)
        r = serve(server);
    return r < 0 ? could_not(server, "serve", r) : 0;
}

static void *serve_main(void *server)
{
    serve(server);
    return NULL;
}

int weir_server_start(struct weir_server *server)
{
    int r = called_from_handler(server) ? -EDEADLK : begin_serving(server);

    if (r < 0)
        return could_not(server, "serve", r);
    r = thread_start(&server->thread, -1, serve_main, server);
    server->thread_started = r == 0;
    if (r == 0)
        return 0;
    if (server->mixin && server->mixin->end)
        server->mixin->end(server->mixin);
    change_state(server, STOPPED);
    return could_not(server, "serve", r);
}

void weir_server_stop(struct weir_server *server)
{
    enum server_state state = state_of(server);

    if (server->parents)
        acceptor_stop(&server->parents[0]);
    else if (state == FRESH || state == SERVING)
        acceptor_stop(&server->acceptors[0]);
}

int weir_server_shutdown(struct weir_server *server)
{
    if (called_from_handler(server) || called_from_hook(server))
        return why_set(last_why, sizeof(last_why), -EDEADLK, "the server can't be shut down by "
                       "its own handler or hook: use weir_server_stop");
    weir_server_stop(server);
    pthread_mutex_lock(&server->lock);
    while (state_of(server) == SERVING)
        pthread_cond_wait(&server->changed, &server->lock);
    pthread_mutex_unlock(&server->lock);
    return 0;
}

/* ------------------------------------------------------------------ one by one -------- */

static int call_doorman_locked(struct weir_server *server)
{
    int r = 0;

    if (!server->has_doorman)
        r = doorman_init(&server->doorman, server->acceptors, server->acceptors_len);
    if (r == 0)
        server->has_doorman = true;
    return r;
}

/* What only a server can do that accepts in this process. */
static int check_accepts(const struct weir_server *server)
{
    return server->mixin && !server->mixin->process ? -EOPNOTSUPP : 0;
}

static int begin_handling(struct weir_server *server)
{
    int r = check_accepts(server);

    if (r < 0)
        return r;
    pthread_mutex_lock(&server->lock);
    r = check_idle_locked(server);
    if (r == 0)
        r = pool_start(server->pool);
    if (r == 0)
        r = call_doorman_locked(server);
    if (r == 0)
        server->handling = true;
    pthread_mutex_unlock(&server->lock);
    return r;
}

static void end_handling(struct weir_server *server)
{
    pthread_mutex_lock(&server->lock);
    server->handling = false;
    pthread_mutex_unlock(&server->lock);
}

int weir_handle_request(struct weir_server *server)
{
    int r = called_from_handler(server) ? -EDEADLK : begin_handling(server);

    if (r < 0)
        return could_not(server, "serve", r);
    r = doorman_serve_one(&server->doorman, server->options.timeout_ms);
    end_handling(server);
    if (r < 0)
        return could_not(server, "accept", r);
    if (r == 0 && server->options.handle_timeout)
        server->options.handle_timeout(server);
    return r;
}

int weir_server_fileno(struct weir_server *server)
{
    int r;

    pthread_mutex_lock(&server->lock);
    if (is_closed_locked(server))
        r = -EBADF;
    else if (server->opening != LISTENING)
        r = -EINVAL;
    else
        r = check_accepts(server);
    if (r == 0)
        r = call_doorman_locked(server);
    pthread_mutex_unlock(&server->lock);
    return r < 0 ? could_not(server, "be polled", r) : server->doorman.fd;
}

/* ------------------------------------------------------------------ submitting -------- */

static int check_room_locked(struct weir_server *server, int fd)
{
    const struct connection_table *table = &server->pool->crew.table;

    if (state_of(server) == CLOSED || server->closing)
        return -ESHUTDOWN;
    if (connection_table_open(table) >= server->acceptor_config.max_connections)
        return -EAGAIN;
    return connection_table_has(table, fd) ? -EBUSY : 0;
}

static int begin_submitting_locked(struct weir_server *server, const struct accepted *accepted)
{
    int r = check_room_locked(server, accepted->fd);

    if (r == 0)
        r = pool_start(server->pool);
    if (r == 0)
        r = sys_set_nonblocking(accepted->fd);
    if (r == 0 && server->options.disable_nagle_algorithm && accepted->peer->sa_family != AF_UNIX)
        sys_set_nodelay(accepted->fd);
    return r;
}

static int submit_to_pool_locked(struct weir_server *server, const struct accepted *accepted)
{
    struct crew *crew = &server->pool->crew;
    struct connection *conn = accepted_connect(accepted, &crew->table);

    if (!conn)
        return -ENOMEM;
    handoff_put(&crew->handoff, conn);
    handoff_call(&crew->handoff, 1);
    return 0;
}

/* The table is held, so nobody takes the server apart. */
static int submit_to_mixin(struct weir_server *server, const struct accepted *accepted)
{
    int r;

    reclaim_thread_init();
    r = server->mixin->process(server->mixin, accepted);
    reclaim_thread_fini();
    connection_table_release(&server->pool->crew.table, 1);
    return r;
}

/* What is begun under the lock is served; who closes the server sees it, or has it refused. */
static int submit(struct weir_server *server, const struct accepted *accepted)
{
    int r;

    pthread_mutex_lock(&server->lock);
    r = begin_submitting_locked(server, accepted);
    if (r == 0 && server->mixin)
        connection_table_hold(&server->pool->crew.table, 1);
    else if (r == 0)
        r = submit_to_pool_locked(server, accepted);
    pthread_mutex_unlock(&server->lock);
    if (r == 0 && server->mixin)
        r = submit_to_mixin(server, accepted);
    if (r == 0)
        /* relaxed: a count. pairs: weir_server_stats() */
        atomic_fetch_add_explicit(&server->submitted, 1, memory_order_relaxed);
    return r;
}

/* Only one thread serves there, or a process that has left all the others to its parent. */
static bool submits_from_own_handler(const struct weir_server *server)
{
    enum weir_concurrency how = server->options.concurrency;

    return (how == WEIR_SERIAL || how == WEIR_FORK) && called_from_handler(server);
}

static int could_not_submit(int fd, int r)
{
    return why_set(last_why, sizeof(last_why), r, "descriptor %d can't be served: %s", fd,
                   r == -ESHUTDOWN ? "the server was closed" :
                   r == -EAGAIN ? "max_connections are open, or no thread or child "
                                  "could be had" :
                   r == -EBUSY ? "the server has it already" :
                   r == -EOPNOTSUPP ? "the server is WEIR_PREFORK: its children serve" :
                   r == -EDEADLK ? "a handler of a server that is WEIR_SERIAL or WEIR_FORK "
                                   "can't submit to it" :
                   r == -EPROTOTYPE ? "it is no stream socket" : strerror(-r));
}

int weir_submit_fd(struct weir_server *server, int fd, const struct weir_handler *handler)
{
    struct sockaddr_storage peer;
    struct accepted accepted = {
        .fd = fd, .peer = (const struct sockaddr *)&peer, .listen = "fd:", .stop_fd = -1,
        .handler = handler ? handler : server->options.handler,
    };
    int r = options_check_handler(accepted.handler, "weir_submit_fd", last_why, sizeof(last_why));

    if (r < 0)
        return r;
    r = submits_from_own_handler(server) ? -EDEADLK : check_accepts(server);
    if (r == 0)
        r = sys_stream_peer(fd, &peer, &accepted.peer_len);
    if (r == 0)
        r = submit(server, &accepted);
    return r < 0 ? could_not_submit(fd, r) : 0;
}

/* ------------------------------------------------------------------ closing ----------- */

void weir_server_cancel(struct weir_server *server)
{
    if (server->parents_pool)
        pool_cancel(server->parents_pool);
    pool_cancel(server->pool);
}

/* Until no accepted connection is left (0), or until_ms (-ETIMEDOUT). */
static int wait_until_empty(struct weir_server *server, uint64_t until_ms)
{
    struct connection_table *table = &server->pool->crew.table;
    struct pollfd fds[] = {
        { .fd = table->room_fd, .events = POLLIN },
        { .fd = server->mixin ? server->mixin->ended_fd : -1, .events = POLLIN },
    };

    for (;;) {
        int timeout_ms = clock_timeout_ms(until_ms, clock_ms());

        connection_table_want_room(table, 1);
        if (connection_table_open(table) == 0)
            return 0;
        if (timeout_ms == 0)
            return -ETIMEDOUT;
        sys_poll(fds, sizeof(fds) / sizeof(fds[0]), timeout_ms);
        sys_eventfd_clear(table->room_fd);
        if (fds[1].revents)
            server->mixin->reap(server->mixin);
    }
}

static void wait_for_handlers(struct weir_server *server)
{
    uint32_t timeout_ms = server->options.drain_timeout_ms;

    if (timeout_ms > 0 && wait_until_empty(server, clock_ms() + timeout_ms) < 0)
        weir_server_cancel(server);
    wait_until_empty(server, CLOCK_NEVER);
}

/* By the close policy: see weir.h. */
static void end_connections(struct weir_server *server)
{
    const struct weir_options *options = &server->options;

    pool_drain(server->pool);
    if (options->daemon_threads)
        weir_server_cancel(server);
    else if (options->block_on_close != WEIR_NO)
        wait_for_handlers(server);
}

static int begin_closing(struct weir_server *server)
{
    int r = 0;

    pthread_mutex_lock(&server->lock);
    if (is_busy_locked(server))
        r = -EBUSY;
    else if (server->closing)
        r = -EALREADY;
    else
        server->closing = true;
    pthread_mutex_unlock(&server->lock);
    return r;
}

/* Nobody is left who might send a reply: else it is done when the server is taken apart. */
static void close_sockets(struct weir_server *server)
{
    pool_stop(server->pool);
    for (size_t i = 0; i < server->acceptors_len; i++)
        acceptor_close_sockets(&server->acceptors[i]);
}

int weir_server_close(struct weir_server *server)
{
    int r;

    if (called_from_handler(server))
        return why_set(last_why, sizeof(last_why), -EDEADLK, "the server can't be closed by its "
                       "own handler: use weir_server_stop");
    r = begin_closing(server);
    if (r == -EALREADY) {
        if (state_of(server) != CLOSED)
            weir_server_cancel(server);
        return 0;
    }
    if (r < 0)
        return why_set(last_why, sizeof(last_why), r, "the server can't be closed: it serves; "
                       "shut it down first");
    if (server->has_doorman)
        doorman_leave(&server->doorman);
    for (size_t i = 0; i < server->acceptors_len; i++)
        acceptor_close_listeners(&server->acceptors[i]);
    end_connections(server);
    if (connection_table_open(&server->pool->crew.table) == 0)
        close_sockets(server);
    change_state(server, CLOSED);
    return 0;
}

static void *wait_and_free(void *arg)
{
    struct weir_server *server = arg;

    wait_until_empty(server, CLOCK_NEVER);
    pool_stop(server->pool);
    free_server(server);
    return NULL;
}

void weir_server_destroy(struct weir_server *server)
{
    if (!server)
        return;
    weir_server_shutdown(server);
    join_thread(server);
    weir_server_close(server);
    /* Daemon handlers that still run are left behind, with a thread that waits for them. */
    if (server->options.daemon_threads &&
        connection_table_open(&server->pool->crew.table) > 0 &&
        thread_start_detached(wait_and_free, server) == 0)
        return;
    wait_and_free(server);
}

/* ------------------------------------------------------------------ who may connect --- */

int weir_access_parse(const char *text, struct weir_access **ret_access)
{
    return access_parse(text, ret_access, last_why, sizeof(last_why));
}

int weir_access_read(const char *path, struct weir_access **ret_access)
{
    return access_read(path, ret_access, last_why, sizeof(last_why));
}

void weir_access_free(struct weir_access *access)
{
    access_free(access);
}

int weir_server_set_access(struct weir_server *server, struct weir_access *access)
{
    int r = access_slot_set(&server->access, access);

    if (r == 0 && server->mixin && server->mixin->renew)
        server->mixin->renew(server->mixin);
    return r == 0 ? 0 : why_set(last_why, sizeof(last_why), r, "the access rules are a server's "
                                "already: parse the text anew");
}

/* ------------------------------------------------------------------ asking ------------ */

void *weir_server_user(struct weir_server *server)
{
    return server->options.user;
}

int weir_server_address(struct weir_server *server, size_t i, char *buf, size_t size)
{
    const struct acceptor *first = &server->acceptors[0];
    int len;

    if (i >= first->listening_len)
        return -ERANGE;
    len = snprintf(buf, size, "%s", first->listening[i].listener.uri);
    return (size_t)len < size ? len : -ENOSPC;
}

static void add_tally(void *arg, const struct tally *tally)
{
    struct weir_stats *stats = arg;

    stats->accepted += tally_read(tally, TALLY_ACCEPTED);
    stats->refused += tally_read(tally, TALLY_REFUSED);
    stats->handled += tally_read(tally, TALLY_HANDLED);
    stats->closed += tally_read(tally, TALLY_CLOSED);
    stats->setup_errors += tally_read(tally, TALLY_SETUP_ERRORS);
    stats->handle_errors += tally_read(tally, TALLY_HANDLE_ERRORS);
    stats->finish_errors += tally_read(tally, TALLY_FINISH_ERRORS);
    stats->verify_errors += tally_read(tally, TALLY_VERIFY_ERRORS);
    stats->timeouts += tally_read(tally, TALLY_TIMEOUTS);
    stats->cancelled += tally_read(tally, TALLY_CANCELLED);
    stats->accept_errors += tally_read(tally, TALLY_ACCEPT_ERRORS);
    stats->bytes_in += tally_read(tally, TALLY_BYTES_IN);
    stats->bytes_out += tally_read(tally, TALLY_BYTES_OUT);
    stats->busy_ns += tally_read(tally, TALLY_BUSY_NS);
    stats->rescued += tally_read(tally, TALLY_RESCUED);
    stats->stalls += tally_read(tally, TALLY_STALLS);
}

static void add_connection(struct connection *conn, void *arg)
{
    struct weir_stats *stats = arg;

    if (conn->kind != CONNECTION_ACCEPTED)
        return;
    switch (connection_state(conn)) {
    case CONNECTION_QUEUED:
        stats->queued++;
        break;
    case CONNECTION_RUNNING:
        stats->running++;
        break;
    case CONNECTION_PARKED:
        stats->parked++;
        break;
    case CONNECTION_IDLE:
        stats->idle++;
        break;
    case CONNECTION_CLOSED:
        break;
    }
}

int weir_server_stats(struct weir_server *server, struct weir_stats *ret_stats, size_t size)
{
    struct weir_stats stats = {
        /* relaxed: a count. pairs: submit() */
        .accepted = atomic_load_explicit(&server->submitted, memory_order_relaxed),
        .workers = server->pool->workers_len,
    };
    struct mixin *mixin = server->mixin;

    if (size > sizeof(stats))
        return -EINVAL;
    for (size_t i = 0; i < server->acceptors_len; i++)
        add_tally(&stats, &server->acceptors[i].tally);
    for (unsigned i = 0; i < server->pool->workers_len; i++)
        add_tally(&stats, &server->pool->workers[i].tally);
    add_tally(&stats, &server->pool->tally);
    stats.wakeups = handoff_wakeups(&server->pool->crew.handoff);
    connection_table_each(&server->pool->crew.table, add_connection, &stats);
    if (mixin && mixin->tallies)
        stats.workers = mixin->tallies(mixin, add_tally, &stats);
    if (mixin && mixin->add_stats)
        mixin->add_stats(mixin, &stats);
    else
        stats.running += connection_table_lent(&server->pool->crew.table);
    stats.active = stats.queued + stats.running + stats.parked + stats.idle;
    memcpy(ret_stats, &stats, size);
    return 0;
}

/* ------------------------------------------------------------------ a forked child ---- */

/* Each child's workers are bound to the CPUs that come after those of the one before. */
static void turn_cpus(struct weir_server *server, unsigned number)
{
    int cpus[HANDOFF_WORKERS_MAX];
    size_t len = server->cpus_len;

    memcpy(cpus, server->cpus, sizeof(cpus));
    for (size_t i = 0; i < len; i++)
        server->cpus[i] = cpus[(i + (size_t)number * server->options.workers) % len];
}

/* The parent's listeners, whose paths stay the parent's. */
static int inherit_listeners(struct weir_server *server)
{
    const struct acceptor *parent = &server->parents[0];
    int r = 0;

    for (size_t i = 0; i < parent->listening_len && r == 0; i++) {
        struct listener listener = parent->listening[i].listener;

        listener.path[0] = '\0';
        r = acceptor_add(&server->acceptors[0], &listener, parent->listening[i].handler);
    }
    return r;
}

/*
 * From here on it is a server of a pool. What it was stays as it is, for it holds the descriptors
 * that stop and cancel the parent. Rules and addresses are as they were in the parent.
 */
static int become_pool(struct weir_server *server, unsigned number)
{
    int r;

    begin_as_child(server);
    turn_cpus(server, number);
    server->parents_pool = server->pool;
    server->parents = server->acceptors;
    sys_close(server->parents[0].epoll_fd);
    server->acceptors = NULL;
    server->acceptors_len = 0;
    server->mixin = NULL;
    server->options.concurrency = WEIR_POOL;
    server->options.service_actions = NULL;
    enter_state_locked(server, FRESH);
    r = create_pool(server);
    if (r < 0)
        return r;
    server->pool->crew.table.crowd = server->crowd;
    fill_in_shared(server);
    server->acceptor_config.shared = true;
    r = create_acceptors(server);
    return r == 0 ? inherit_listeners(server) : r;
}

static int accept_until_stopped(struct weir_server *server)
{
    int r = begin_serving(server);

    return r == 0 ? serve(server) : r;
}

/* When to cancel is for the parent to say. */
static void drain_and_close(struct weir_server *server)
{
    acceptor_close_listeners(&server->acceptors[0]);
    pool_drain(server->pool);
    wait_until_empty(server, CLOCK_NEVER);
    close_sockets(server);
}

static void stop_accepting(struct weir_server *server)
{
    acceptor_stop(&server->acceptors[0]);
}

static void cancel_pool(struct weir_server *server)
{
    pool_cancel(server->pool);
}

static void read_stats(struct weir_server *server, struct weir_stats *ret_stats)
{
    weir_server_stats(server, ret_stats, sizeof(*ret_stats));
}

static const struct child_calls child_calls = {
    .become = become_pool, .accept = accept_until_stopped, .drain = drain_and_close,
    .stop = stop_accepting, .cancel = cancel_pool, .stats = read_stats,
};
