/*
 * request.c - what happens around a handler, and the calls of weir.h's request section.
 */
#include "engine/request.h"

#include "engine/address.h"
#include "engine/clock.h"
#include "engine/sys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void hang_up_all(struct weir_request *req);

/* Calls that find something at once, before others get their turn. */
#define STREAK_MAX 16

/* ------------------------------------------------------------------ waiting ----------- */

uint64_t request_deadline_ms(const struct weir_request *req, uint32_t timeout_ms)
{
    uint64_t deadline_ms;

    if (timeout_ms == 0)
        return req->deadline_ms;
    /* clock_ms rounds down: one more, so that no less than timeout_ms passes. */
    deadline_ms = clock_ms() + timeout_ms + 1;
    return req->deadline_ms != 0 && req->deadline_ms < deadline_ms ? req->deadline_ms
                                                                    : deadline_ms;
}

int request_wait(struct weir_request *req, uint32_t events, uint64_t deadline_ms)
{
    int r = task_wait(req->task, req->conn, events, deadline_ms);

    return WEIR_UNLIKELY(r == -ETIMEDOUT) ? request_timed_out(req) : r;
}

int request_timed_out(const struct weir_request *req)
{
    tally_add(&req->task->worker->tally, TALLY_TIMEOUTS, 1);
    return -ETIMEDOUT;
}

int request_give_way(struct weir_request *req)
{
    if (++req->rfile.streak < STREAK_MAX)
        return 0;
    req->rfile.streak = 0;
    if (req->deadline_ms != 0 && clock_ms() >= req->deadline_ms)
        return request_timed_out(req);
    return task_yield(req->task);
}

/* ------------------------------------------------------------------ serving ----------- */

static void tell_error(struct weir_request *req, enum weir_phase phase, int error)
{
    static const enum tally_kind kinds[] = {
        [WEIR_PHASE_VERIFY] = TALLY_VERIFY_ERRORS, [WEIR_PHASE_SETUP] = TALLY_SETUP_ERRORS,
        [WEIR_PHASE_HANDLE] = TALLY_HANDLE_ERRORS, [WEIR_PHASE_FINISH] = TALLY_FINISH_ERRORS,
    };
    const struct service *service = req->service;
    struct tally *tally = &req->task->worker->tally;
    char peer[WEIR_ADDRESS_SIZE];

    tally_add(tally, kinds[phase], 1);
    if (error == -ECANCELED)
        tally_add(tally, TALLY_CANCELLED, 1);
    service->handle_error(service->server, &(struct weir_failure){
        .phase = phase,
        .error = error,
        .peer = weir_peer_text(req, peer, sizeof(peer)),
        .handler = req->conn->handler->name,
        .req = req,
    });
}

static bool peer_is_gone(int error)
{
    return error == -EPIPE || error == -ECONNRESET;
}

/* One call of handle(). */
static int handle(struct weir_request *req)
{
    const struct service *service = req->service;
    int r;

    req->deadline_ms = 0;
    req->deadline_ms = request_deadline_ms(req, service->request_timeout_ms);
    req->rfile.taken = false;
    r = req->conn->handler->handle(req);
    hang_up_all(req);
    tally_add(&req->task->worker->tally, TALLY_HANDLED, 1);
    if (WEIR_UNLIKELY(r == WEIR_STOP_SERVER))
        service->stop(service->server);
    return r;
}

/* There is no input: the connection is kept, unless the server drains. */
static int rest(struct weir_request *req)
{
    int r;

    if (worker_draining(req->task->worker))
        return 0;
    r = task_watch(req->task);
    if (r < 0)
        return r;
    req->conn->kept = true;
    return WEIR_KEEP;
}

/*
 * handle() until it's done, or the connection may rest, and what it wrote: the answers to all that
 * had arrived leave together. What handle returned at last, or the error of that.
 */
static int handle_while_there_is_input(struct weir_request *req)
{
    const struct rfile *rfile = &req->rfile;
    int flushed;
    int r;

    do {
        r = handle(req);
    } while (r == WEIR_KEEP && !rfile->eof && !rfile->error && rfile_has_more(req));
    /* What was written goes out even if handle() failed: it may say why. */
    flushed = weir_flush(req);
    /* A peer that went without its last answer is nobody's error: socketserver ignores it too. */
    if (r >= 0 && flushed < 0)
        return peer_is_gone(flushed) ? 0 : flushed;
    if (r != WEIR_KEEP)
        return r;
    return rfile->eof || rfile->error ? 0 : rest(req);
}

/* The connection has begun and ends: finish, and the one error that is told. */
static void finish(struct weir_request *req, int status)
{
    const struct weir_handler *handler = req->conn->handler;
    enum weir_phase phase = WEIR_PHASE_HANDLE;
    int error = status < 0 ? status : 0;

    req->deadline_ms = 0;
    if (handler->finish) {
        int r = handler->finish(req, status);
        int flushed = weir_flush(req);

        if (r == 0 && flushed < 0 && !peer_is_gone(flushed))
            r = flushed;
        if (r < 0) {
            error = r;
            phase = WEIR_PHASE_FINISH;
        }
    }
    if (error < 0)
        tell_error(req, phase, error);
}

static int setup(struct weir_request *req)
{
    const struct weir_handler *handler = req->conn->handler;
    int r = handler->setup ? handler->setup(req) : 0;

    if (r < 0) {
        weir_flush(req);
        tell_error(req, WEIR_PHASE_SETUP, r);
        return r;
    }
    req->conn->began = true;
    return 0;
}

static void serve_accepted(struct weir_request *req)
{
    struct connection *conn = req->conn;
    bool was_kept = conn->kept;
    int status = 0;

    conn->kept = false;
    if (!conn->began && (conn->expired || setup(req) < 0))
        return;
    if (conn->expired)
        tally_add(&req->task->worker->tally, TALLY_TIMEOUTS, 1);
    else if (was_kept && !rfile_has_more(req))
        /* Drained, or a false alarm: the event told of what the last call has read already. */
        status = rest(req);
    else
        status = handle_while_there_is_input(req);
    if (!conn->kept)
        finish(req, status);
    else if (req->service->note_idle)
        /* relaxed: for the sweep, which isn't exact. pairs: acceptor.c's idle_for_too_long() */
        atomic_store_explicit(&conn->idle_since_ms, clock_coarse_ms(), memory_order_relaxed);
}

void request_serve(struct task *task)
{
    struct weir_request req = {
        .service = task->worker->crew->service, .task = task, .conn = task->conn,
    };

    serve_accepted(&req);
    hang_up_all(&req);
    wfile_fini(&req);
    rfile_fini(&req);
}

/* ------------------------------------------------------------------ who and where ----- */

int weir_peer_address(struct weir_request *req, struct sockaddr_storage *ret, socklen_t *ret_len)
{
    socklen_t len = sizeof(*ret);

    if (!req->conn->opened && req->conn->family != AF_UNIX) {
        connection_peer(req->conn, ret, ret_len);
        return 0;
    }
    if (getpeername(req->conn->fd, (struct sockaddr *)ret, &len) < 0)
        return -errno;
    *ret_len = len;
    return 0;
}

int weir_local_address(struct weir_request *req, struct sockaddr_storage *ret, socklen_t *ret_len)
{
    socklen_t len = sizeof(*ret);

    if (getsockname(req->conn->fd, (struct sockaddr *)ret, &len) < 0)
        return -errno;
    *ret_len = len;
    return 0;
}

const char *weir_peer_text(struct weir_request *req, char *buf, size_t size)
{
    struct sockaddr_storage peer;
    socklen_t len;

    if (weir_peer_address(req, &peer, &len) < 0)
        connection_peer(req->conn, &peer, &len);
    return address_text((const struct sockaddr *)&peer, len, buf, size);
}

int weir_request_fd(struct weir_request *req)
{
    return req->conn->fd;
}

void *weir_state(struct weir_request *req)
{
    struct connection *conn = request_root(req)->conn;

    return conn->handler->state_size > 0 ? conn->user_state : NULL;
}

const void *weir_handler_data(struct weir_request *req)
{
    return request_root(req)->conn->handler->data;
}

void *weir_user(struct weir_request *req)
{
    return req->service->user;
}

struct weir_server *weir_request_server(struct weir_request *req)
{
    return req->service->server;
}

uint32_t weir_worker_number(struct weir_request *req)
{
    return req->task->worker->index;
}

bool weir_draining(struct weir_request *req)
{
    return worker_draining(req->task->worker);
}

/* ------------------------------------------------------------------ other waits ------- */

int weir_sleep(struct weir_request *req, uint32_t ms)
{
    uint64_t until_ms = clock_ms() + ms + 1;
    uint64_t limit_ms = request_root(req)->deadline_ms;
    bool cut = limit_ms != 0 && limit_ms < until_ms;
    int r = task_sleep(req->task, cut ? limit_ms : until_ms);

    return r < 0 || !cut ? r : request_timed_out(req);
}

int weir_yield(struct weir_request *req)
{
    return task_yield(req->task);
}

int weir_offload(struct weir_request *req, int (*fn)(void *arg), void *arg)
{
    return offload_run(req->service->offload, req->task, fn, arg);
}

/* ------------------------------------------------------------------ outgoing ---------- */

/* A name may have several addresses, of which the server perhaps listens on one. */
#define ADDRESSES_MAX 4

struct resolving {
    const char *uri;
    struct address addresses[ADDRESSES_MAX];
};

/* How many addresses there are, or -errno. */
static int resolve(void *arg)
{
    struct resolving *resolving = arg;

    return address_parse_all(resolving->uri, resolving->addresses, ADDRESSES_MAX, NULL, 0);
}

/* A Unix listener whose backlog is full refuses a non-blocking connect: asks again until it's in. */
static int connect_by(struct weir_request *peer, const struct address *address,
                      uint64_t deadline_ms)
{
    int r;

    for (;;) {
        r = sys_connect(peer->conn->fd, &address->sa, address->len);
        if (r != -EAGAIN)
            break;
        if (deadline_ms != 0 && clock_ms() >= deadline_ms)
            return -ETIMEDOUT;
        r = task_sleep(peer->task, clock_ms() + 2);
        if (r < 0)
            return r;
    }
    while (r == -EINPROGRESS) {
        r = request_wait(peer, EPOLLOUT, deadline_ms);
        if (r < 0)
            return r;
        r = sys_socket_error(peer->conn->fd);
        /* A false alarm, if it still has no peer. */
        if (r == 0 && sys_connect(peer->conn->fd, &address->sa, address->len) == -EALREADY)
            r = -EINPROGRESS;
    }
    return r;
}

static int open_request(struct weir_request *root, int family, struct weir_request **ret)
{
    struct weir_request *peer = calloc(1, sizeof(*peer));
    int fd;

    if (!peer)
        return -ENOMEM;
    fd = sys_socket(family, SOCK_STREAM);
    if (fd < 0) {
        free(peer);
        return fd;
    }
    peer->conn = connection_create_opened(&root->service->crew->table, fd, family, root->task);
    if (!peer->conn) {
        sys_close(fd);
        free(peer);
        return -ENOMEM;
    }
    peer->service = root->service;
    peer->task = root->task;
    peer->deadline_ms = root->deadline_ms;
    peer->opener = root;
    peer->next_opened = root->opened;
    root->opened = peer;
    *ret = peer;
    return 0;
}

static int open_connected(struct weir_request *root, const struct address *address,
                          uint64_t deadline_ms, struct weir_request **ret_peer)
{
    struct weir_request *peer;
    int r = open_request(root, address->sa.sa_family, &peer);

    if (r < 0)
        return r;
    r = connect_by(peer, address, deadline_ms);
    if (r < 0) {
        weir_hangup(peer);
        return r;
    }
    *ret_peer = peer;
    return 0;
}

int weir_connect(struct weir_request *req, const char *address, uint32_t timeout_ms,
                 struct weir_request **ret_peer)
{
    struct weir_request *root = request_root(req);
    struct resolving resolving = { .uri = address };
    uint64_t deadline_ms = request_deadline_ms(root, timeout_ms ? timeout_ms
                                                                 : root->service->read_timeout_ms);
    int len = address_is_literal(address) ? resolve(&resolving)
                                          : weir_offload(req, resolve, &resolving);
    int r = len;

    if (len < 0)
        return len;
    if (resolving.addresses[0].type != SOCK_STREAM)
        return -EINVAL;
    for (int i = 0; i < len; i++) {
        r = open_connected(root, &resolving.addresses[i], deadline_ms, ret_peer);
        if (r == 0 || r == -ETIMEDOUT || r == -ECANCELED)
            break;
    }
    return r;
}

void weir_hangup(struct weir_request *peer)
{
    struct weir_request **link = &peer->opener->opened;

    while (*link != peer)
        link = &(*link)->next_opened;
    *link = peer->next_opened;
    weir_flush(peer);
    wfile_fini(peer);
    rfile_fini(peer);
    connection_close(&peer->service->crew->table, peer->conn);
    free(peer);
}

static void hang_up_all(struct weir_request *req)
{
    while (req->opened)
        weir_hangup(req->opened);
}
