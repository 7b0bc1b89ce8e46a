/*
 * serving.c - its states: served, shut down, served again; and clients one by one.
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
#include "engine/server/server.h"

#include "engine/base/sys.h"
#include "engine/base/thread.h"
#include "engine/modes/process.h"
#include "engine/pool/offload.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum server_state server_state(const struct weir_server *server)
{
    /* acquire: what the thread that changed it did before. pairs: server_enter_locked() */
    return atomic_load_explicit(&server->state, memory_order_acquire);
}

void server_enter_locked(struct weir_server *server, enum server_state state)
{
    /* release: see server_state(). pairs: server_state() */
    atomic_store_explicit(&server->state, state, memory_order_release);
    pthread_cond_broadcast(&server->changed);
}

/* On one of this server's workers, that is: in a handler. */
bool server_called_from_handler(const struct weir_server *server)
{
    const struct worker *worker = worker_self();

    while (worker && worker->crew != &server->pool->crew)
        worker = worker->outer;
    return worker != NULL;
}

/* In what one of its handlers has offloaded, and waits for. */
bool server_called_from_offload(const struct weir_server *server)
{
    return offload_self() == server->offload;
}

pid_t server_served_by(const struct weir_server *server)
{
    /* relaxed: a process's number, and nothing behind it. pairs: server_claim_locked() */
    return atomic_load_explicit(&server->served_by, memory_order_relaxed);
}

/* Its threads, and what they were changing at the fork, are in another process. */
bool server_is_copy(const struct weir_server *server)
{
    pid_t served_by = server_served_by(server);

    return served_by != 0 && served_by != process_self();
}

/* What nobody has served yet may be what another process is going to serve. */
bool server_is_anothers(const struct weir_server *server)
{
    if (server_served_by(server) != 0)
        return server_is_copy(server);
    return server->forks != process_forks();
}

int server_claim_locked(struct weir_server *server)
{
    if (server_served_by(server) == 0)
        /* relaxed: as above. pairs: server_served_by() */
        atomic_store_explicit(&server->served_by, process_self(), memory_order_relaxed);
    return server_served_by(server) == process_self() ? 0 : -ESRCH;
}

bool server_is_closed_locked(const struct weir_server *server)
{
    return server_state(server) == CLOSED || server->closing;
}

/* Returns true if clients are accepted, by whichever thread or child. */
bool server_is_busy_locked(const struct weir_server *server)
{
    return server_state(server) == SERVING || server->handling;
}

/* Returns 0 if clients may be accepted from now on, or the -errno of the call that asks. */
static int check_idle_locked(const struct weir_server *server)
{
    if (server_is_busy_locked(server))
        return -EBUSY;
    if (server_is_closed_locked(server))
        return -EBADF;
    return server->opening == LISTENING ? 0 : -EINVAL;
}

static const char *why_not(int error, bool listens)
{
    switch (error) {
    case -EBUSY:
        return "it does already";
    case -EBADF:
        return "it was closed";
    case -EDEADLK:
        return "this is one of its handlers";
    case -EOPNOTSUPP:
        return "it is WEIR_PREFORK: its children accept";
    case -EAGAIN:
        return "no thread or process can be had: raise the limit of a user's processes (ulimit "
               "-u), the container's of pids, or the limits of memory (ulimit -v, -d)";
    case -ESRCH:
        return "it is another process's, of which this one is a fork: make one here";
    case -EMFILE:
        return "Too many open files: raise the limit of descriptors (ulimit -n)";
    case -ECHILD:
        return "its children end before they accept";
    case -EINVAL:
        if (!listens)
            return "it does not listen yet: weir_server_bind and weir_server_activate come first";
        break;
    }
    return why_error(error);
}

static int could_not(struct weir_server *server, const char *what, int r)
{
    bool listens;

    pthread_mutex_lock(&server->lock);
    listens = server->opening == LISTENING;
    pthread_mutex_unlock(&server->lock);
    return SERVER_REFUSE(r, "the server can't %s: %s", what, why_not(r, listens));
}

bool server_called_from_hook(const struct weir_server *server)
{
    const struct acceptor *acceptor = acceptor_self();

    while (acceptor && acceptor->config != &server->acceptor_config)
        acceptor = acceptor->outer;
    return acceptor != NULL;
}

/* ------------------------------------------------------------------ serving ----------- */

static void *acceptor_main(void *acceptor)
{
    acceptor_run(acceptor);
    return NULL;
}

static void stop_further_acceptors(struct weir_server *server)
{
    while (server->acceptors_running > 0) {
        size_t i = server->acceptors_running--;

        acceptor_stop(&server->acceptors[i]);
        pthread_join(server->acceptor_threads[i - 1], NULL);
    }
}

/* Each but the first on a thread of its own. 0, or -errno and none runs. */
static int start_further_acceptors(struct weir_server *server)
{
    int r = 0;

    while (r == 0 && server->acceptors_running + 1 < server->acceptors_len) {
        size_t i = server->acceptors_running + 1;

        /* It may have seen its last stop before that was written to its descriptor. */
        acceptor_forget_stop(&server->acceptors[i]);
        r = thread_start(&server->acceptor_threads[i - 1], -1, acceptor_main,
                         &server->acceptors[i]);
        if (r == 0)
            server->acceptors_running = i;
    }
    if (r < 0)
        stop_further_acceptors(server);
    return r;
}

void server_join_thread(struct weir_server *server)
{
    if (server->thread_started)
        pthread_join(server->thread, NULL);
    server->thread_started = false;
}

/*
 * What was taken over is ours from the first serving on: a successor that fails before leaves paths
 * and clients to the server that is still there. A weir_server_hand_on that came before is void.
 */
static void take_over_locked(struct weir_server *server)
{
    if (server->servings > 0)
        return;
    for (size_t i = 0; i < server->acceptors_len; i++)
        acceptor_take_over(&server->acceptors[i]);
    server_note_followed_locked(server);
}

static int begin_serving_locked(struct weir_server *server)
{
    int r = server_claim_locked(server);

    if (r == 0)
        r = check_idle_locked(server);
    if (r == 0)
        r = pool_start(server->pool);
    if (r == 0)
        r = acceptor_prepare(&server->acceptors[0]);
    if (r < 0)
        return r;
    /* A stop that came too late for the last serving is not for this one. */
    if (server_state(server) == STOPPED)
        acceptor_forget_stop(&server->acceptors[0]);
    /* It has ended, and shall not be there when something is forked. */
    server_join_thread(server);
    take_over_locked(server);
    server->servings++;
    server_enter_locked(server, SERVING);
    return 0;
}

void server_change_state(struct weir_server *server, enum server_state state)
{
    pthread_mutex_lock(&server->lock);
    server_enter_locked(server, state);
    pthread_mutex_unlock(&server->lock);
}

static bool has_stream_listener(const struct weir_server *server)
{
    const struct acceptor *first = &server->acceptors[0];

    for (size_t i = 0; i < first->listening_len; i++)
        if (first->listening[i].listener.type == SOCK_STREAM)
            return true;
    return false;
}

/*
 * Returns -EMFILE or the like if there is no descriptor for a client, nor anything open that may
 * give one back: the server would listen and serve nobody.
 */
static int check_room_for_a_client(struct weir_server *server)
{
    int r;

    if (!server->mixin->accepts_here || !has_stream_listener(server) ||
        pool_open_count(server->pool) > 0)
        return 0;
    r = server->mixin->prepare(server->mixin);
    return r < 0 ? r : sys_check_descriptors();
}

/* What begin_accepting has begun, for who does not run the first acceptor after all. */
static void end_accepting(struct weir_server *server)
{
    stop_further_acceptors(server);
    server->mixin->end(server->mixin);
}

/* All that may fail. */
static int begin_accepting(struct weir_server *server)
{
    int r = server->mixin->begin(server->mixin);

    if (r < 0)
        return r;
    /* Before anybody accepts, who takes a place to look whether a client waits. */
    r = check_room_for_a_client(server);
    if (r == 0)
        r = start_further_acceptors(server);
    if (r < 0)
        end_accepting(server);
    return r;
}

/* There is no serving after all: the server is as it was before. */
static void give_up_serving(struct weir_server *server, enum server_state before)
{
    acceptor_give_up(&server->acceptors[0]);
    server_change_state(server, before);
}

/* 0, or -errno and the server is as it was before. */
static int begin_serving(struct weir_server *server, enum server_state *ret_before)
{
    int r;

    pthread_mutex_lock(&server->lock);
    *ret_before = server_state(server);
    r = begin_serving_locked(server);
    pthread_mutex_unlock(&server->lock);
    if (r < 0)
        return r;
    r = begin_accepting(server);
    if (r < 0)
        give_up_serving(server, *ret_before);
    return r;
}

int server_begin_serving(struct weir_server *server)
{
    enum server_state before;

    return begin_serving(server, &before);
}

void server_serve(struct weir_server *server)
{
    acceptor_run(&server->acceptors[0]);
    stop_further_acceptors(server);
    server_change_state(server, STOPPED);
}

int weir_serve_forever(struct weir_server *server)
{
    int r = server_called_from_handler(server) ? -EDEADLK : server_begin_serving(server);

    if (r < 0)
        return could_not(server, "serve", r);
    server_serve(server);
    return 0;
}

static void *serve_main(void *server)
{
    server_serve(server);
    return NULL;
}

/* Until it's noted that the thread is there, it can't end this serving, nor another begin. */
static int start_thread(struct weir_server *server)
{
    int r;

    pthread_mutex_lock(&server->lock);
    r = thread_start(&server->thread, -1, serve_main, server);
    server->thread_started = r == 0;
    pthread_mutex_unlock(&server->lock);
    return r;
}

int weir_server_start(struct weir_server *server)
{
    enum server_state before;
    int r = server_called_from_handler(server) ? -EDEADLK : begin_serving(server, &before);

    if (r < 0)
        return could_not(server, "serve", r);
    r = start_thread(server);
    if (r == 0)
        return 0;
    end_accepting(server);
    give_up_serving(server, before);
    return could_not(server, "serve", r);
}

void weir_server_stop(struct weir_server *server)
{
    enum server_state state = server_state(server);

    if (server->parents)
        acceptor_stop(&server->parents[0]);
    else if (state == FRESH || state == SERVING)
        acceptor_stop(&server->acceptors[0]);
}

/* What nobody has served yet may be served by another process too, which would see the order. */
static void stop_locked(struct weir_server *server)
{
    if (server_is_anothers(server))
        acceptor_stop_here(&server->acceptors[0]);
    else
        weir_server_stop(server);
}

int weir_server_shutdown(struct weir_server *server)
{
    uint64_t serving;

    if (server_called_from_handler(server) || server_called_from_hook(server))
        return SERVER_REFUSE(-EDEADLK, "the server can't be shut down by "
                             "its own handler or hook: use weir_server_stop");
    /* Nothing of it serves here, nor ever will. */
    if (server_is_copy(server))
        return 0;
    pthread_mutex_lock(&server->lock);
    /* This serving's end: whoever serves in a loop is in the next one before we are awake. The stop
     * is for this one as well, since none begins while we hold the lock. */
    serving = server->servings;
    stop_locked(server);
    while (server_state(server) == SERVING && server->servings == serving)
        pthread_cond_wait(&server->changed, &server->lock);
    pthread_mutex_unlock(&server->lock);
    return 0;
}

/* ------------------------------------------------------------------ handed on --------- */

static int hand_on_locked(struct weir_server *server)
{
    if (server_is_anothers(server))
        return -ESRCH;
    if (server_is_closed_locked(server))
        return -EBADF;
    if (server->opening != LISTENING)
        return -EINVAL;
    for (size_t i = 0; i < server->acceptors_len; i++)
        acceptor_hand_on(&server->acceptors[i]);
    server_note_followed_locked(server);
    server->mixin->hand_on(server->mixin);
    return 0;
}

int weir_server_hand_on(struct weir_server *server)
{
    int r;

    pthread_mutex_lock(&server->lock);
    r = hand_on_locked(server);
    pthread_mutex_unlock(&server->lock);
    return r < 0 ? could_not(server, "be handed on", r) : 0;
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
int server_check_accepts(const struct weir_server *server)
{
    return server->mixin->accepts_here ? 0 : -EOPNOTSUPP;
}

static int begin_handling(struct weir_server *server)
{
    int r = server_check_accepts(server);

    if (r < 0)
        return r;
    pthread_mutex_lock(&server->lock);
    r = server_claim_locked(server);
    if (r == 0)
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
    void (*handle_timeout)(struct weir_server *server);
    int r = server_called_from_handler(server) ? -EDEADLK : begin_handling(server);

    if (r < 0)
        return could_not(server, "serve", r);
    r = doorman_serve_one(&server->doorman, server->options.timeout_ms);
    handle_timeout = server->options.handle_timeout;
    end_handling(server);
    if (r < 0)
        return could_not(server, "accept", r);
    if (r == 0 && handle_timeout)
        handle_timeout(server);
    return r;
}

int weir_server_fileno(struct weir_server *server)
{
    int r;

    pthread_mutex_lock(&server->lock);
    if (server_is_closed_locked(server))
        r = -EBADF;
    else if (server->opening != LISTENING)
        r = -EINVAL;
    else
        r = server_check_accepts(server);
    if (r == 0)
        r = server_claim_locked(server);
    if (r == 0)
        r = call_doorman_locked(server);
    pthread_mutex_unlock(&server->lock);
    return r < 0 ? could_not(server, "be polled", r) : server->doorman.fd;
}
