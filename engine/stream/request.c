/* request.c - the calls of weir.h's request section, and how a request waits. */
#include "engine/stream/request.h"

#include "engine/base/clock.h"
#include "engine/base/sys.h"
#include "engine/base/why.h"
#include "engine/net/address.h"
#include "engine/pool/packet.h"
#include "engine/stream/belongings.h"
#include "engine/stream/rfile.h"
#include "engine/stream/wfile.h"

#include <errno.h>
#include <stdlib.h>

/* ------------------------------------------------------------------ whose it is ------- */

static void check_that_it_lives(const struct weir_request *req, const char *call)
{
    if (!req)
        misuse_die("%s on a request that is NULL", call);
    if (misuse_has_ended(req))
        misuse_die("%s on a request that is over: a request is its handler's until that returns, "
                   "and one of weir_connect's until weir_hangup (see weir.h: what parks)", call);
}

static bool is_its_handlers(const struct weir_request *req)
{
    const struct task *task = request_task(req);

    return task->fiber ? fiber_is_here(task->fiber) : task->worker == worker_self();
}

/* Returns true if the task, which may be NULL, is its handler's or that of a child. */
static bool has_offloaded(const struct weir_request *req, const struct task *task)
{
    return task == req->task || (task && task->family && task->family->main == req->task);
}

void request_check_now(const struct weir_request *req, const char *call)
{
    check_that_it_lives(req, call);
    if (!is_its_handlers(req))
        task_die_of_misuse(req->task, call);
}

void request_check_asked_now(const struct weir_request *req, const char *call)
{
    check_that_it_lives(req, call);
    /* In this order: which of the handler's fibers is on, its worker's thread alone may ask. */
    if (!has_offloaded(req, offload_task_self()) && !is_its_handlers(req))
        task_die_of_misuse(req->task, call);
}

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

/* Returns true if its handler, or else its listener, bounds how long it may take in all. */
static bool is_bounded(struct weir_request *req)
{
    return request_timeout_ms(request_root(req), WEIR_TIMEOUT_REQUEST) > 0;
}

static void check_direction(const struct task *user, const struct task *here, const char *verb)
{
    if (user && user != here)
        misuse_die("two fibers of handler '%s' %s one stream at once: one of them may read while "
                   "another one writes (see weir.h: weir_spawn)", here->conn->handler->name, verb);
}

void request_check_reading_now(const struct weir_request *req, const char *call)
{
    request_check_now(req, call);
    if (request_has_family(req))
        check_direction(req->reader, request_task(req), "read from");
}

void request_check_writing_now(const struct weir_request *req, const char *call)
{
    request_check_now(req, call);
    if (request_has_family(req))
        check_direction(req->writer, request_task(req), "write to");
}

/*
 * Of several fibers: others run until end_use(). Whose read or write is in the middle then is noted
 * for as long, so that nobody else begins one.
 */
static const struct task **begin_use(struct weir_request *req, uint32_t events)
{
    const struct task **user = events & EPOLLIN ? &req->reader : &req->writer;
    const struct task *here = request_task(req);

    check_direction(*user, here, events & EPOLLIN ? "read from" : "write to");
    *user = here;
    return user;
}

static int wait_in_family(struct weir_request *req, uint32_t events, uint64_t deadline_ms,
                          uint64_t since)
{
    const struct task **user = begin_use(req, events);
    int r = task_wait(request_task(req), req->conn, events, deadline_ms, since);

    *user = NULL;
    return r;
}

static int yield_in_family(struct weir_request *req, uint32_t events)
{
    const struct task **user = events != 0 ? begin_use(req, events) : NULL;
    int r = task_yield(request_task(req));

    if (user)
        *user = NULL;
    return r;
}

int request_wait(struct weir_request *req, uint32_t events, uint64_t deadline_ms,
                 uint64_t since_ms)
{
    uint64_t since = is_bounded(req) ? since_ms | CONNECTION_IS_BOUNDED : since_ms;

    /* Of an earlier wait, after which its client had spoken after all. */
    req->conn->ousted = false;
    /* A wait that is late ends with a look, and is the last: else a trickle outran the deadline. */
    if (deadline_ms != 0 && clock_coarse_ms() >= deadline_ms)
        return -ETIMEDOUT;
    if (request_has_family(req))
        return wait_in_family(req, events, deadline_ms, since);
    return task_wait(req->task, req->conn, events, deadline_ms, since);
}

static bool is_end_by_peer(const struct weir_request *req, int error)
{
    return request_is_end_by_peer(error) && !request_is_own_end(req, error);
}

bool request_was_cancelled(const struct weir_request *req)
{
    struct worker *worker = req->task->worker;

    return crew_cancelled(worker->crew) || worker_hear_orders(worker) == -ECANCELED;
}

bool request_was_reset(const struct weir_request *req)
{
    return is_end_by_peer(req, req->rfile.error) || is_end_by_peer(req, req->wfile.error);
}

void request_note_end_by_peer(const struct weir_request *req, int error)
{
    bool counted = req->opener || request_was_reset(req);

    if (is_end_by_peer(req, error) && !counted)
        tally_add(&req->task->worker->tally, TALLY_RESETS, 1);
}

/* Of what the handler has opened only the request's is noted: it is the client who is told of. */
static void note_late(struct weir_request *req, uint64_t deadline_ms, enum connection_late own)
{
    struct weir_request *root = request_root(req);

    if (root->deadline_ms != 0 && deadline_ms >= root->deadline_ms)
        root->conn->late = CONNECTION_REQUEST_LATE;
    else if (req == root)
        root->conn->late = own & 7u;
}

int request_timed_out(struct weir_request *req, uint64_t deadline_ms, enum connection_late own)
{
    /* It has had less time than that, and counts as one that has made room. */
    if (req->conn->ousted)
        return -ETIMEDOUT;
    note_late(req, deadline_ms, own);
    tally_add(&req->task->worker->tally, TALLY_TIMEOUTS, 1);
    return -ETIMEDOUT;
}

int request_give_way(struct weir_request *req, uint32_t events)
{
    if (++req->task->streak < TASK_STREAK_MAX)
        return 0;
    if (req->deadline_ms != 0 && clock_ms() >= req->deadline_ms)
        return request_timed_out(req, req->deadline_ms, CONNECTION_NOT_LATE);
    return request_has_family(req) ? yield_in_family(req, events) : task_yield(req->task);
}

/* ------------------------------------------------------------------ own timeouts ------ */

/* Until its first change a request has its endpoint's. */
static void begin_own_timeouts(struct weir_request *req)
{
    const struct endpoint *endpoint = req->conn->endpoint;

    if (req->rfile.timing & TIMING_OWN)
        return;
    for (unsigned i = 0; i < WEIR_TIMEOUT_IDLE; i++)
        req->own_timeouts_ms[i] = endpoint_timeout_ms(endpoint, (enum weir_timeout)i);
    req->rfile.timing |= TIMING_OWN;
}

uint32_t request_timeout_ms(const struct weir_request *req, enum weir_timeout which)
{
    if (which == WEIR_TIMEOUT_IDLE)
        return connection_idle_limit_ms(req->conn, false);
    return req->rfile.timing & TIMING_OWN ? req->own_timeouts_ms[which]
                                          : endpoint_timeout_ms(req->conn->endpoint, which);
}

/* What the handler has opened ends with its own request. */
static void set_deadline_of_all(struct weir_request *root, uint64_t deadline_ms)
{
    root->deadline_ms = deadline_ms;
    for (struct weir_request *peer = belongings_opened(root); peer; peer = peer->next_opened)
        peer->deadline_ms = deadline_ms;
}

/* Of the connection, which is idle beyond any call of handle(). */
static void set_idle_timeout(struct weir_request *root, uint32_t ms)
{
    connection_set_idle_timeout(root->conn, ms);
    crew_want_sweeps(root->task->worker->crew);
}

/* It begins anew, from now on or with the next wait. ms of 0: it never passes. */
static void set_own_timeout(struct weir_request *req, enum weir_timeout which, uint32_t ms)
{
    uint64_t until_ms = ms > 0 ? clock_ms() + ms + 1 : 0;

    begin_own_timeouts(req);
    req->own_timeouts_ms[which] = ms;
    if (which == WEIR_TIMEOUT_REQUEST)
        set_deadline_of_all(req, until_ms);
    if (which == WEIR_TIMEOUT_HEAD) {
        req->patience.head_until_ms = until_ms;
        req->rfile.timing |= TIMING_HEAD;
    }
    if (which == WEIR_TIMEOUT_PROGRESS)
        req->rfile.timing &= (uint8_t)~TIMING_CREDIT;
}

int weir_set_timeout(struct weir_request *req, enum weir_timeout which, uint32_t ms)
{
    request_check(req, "weir_set_timeout");

    if (which > WEIR_TIMEOUT_IDLE || ms == 0)
        return -EINVAL;
    if (which == WEIR_TIMEOUT_IDLE)
        set_idle_timeout(request_root(req), ms);
    else
        set_own_timeout(which < WEIR_TIMEOUT_REQUEST ? req : request_root(req), which,
                        ms == WEIR_FOREVER ? 0 : ms);
    return 0;
}

/* ------------------------------------------------------------------ who and where ----- */

int weir_peer_address(struct weir_request *req, struct sockaddr_storage *ret, socklen_t *ret_len)
{
    request_check(req, "weir_peer_address");
    const struct packet *packet = packet_of(req->conn);
    socklen_t len = sizeof(*ret);

    if (packet) {
        *ret = packet->peer;
        *ret_len = packet->peer_len;
        return 0;
    }
    if (req->conn->kind == CONNECTION_ACCEPTED && req->conn->family != AF_UNIX) {
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
    request_check(req, "weir_local_address");
    const struct packet *packet = packet_of(req->conn);
    socklen_t len = sizeof(*ret);

    if (getsockname(req->conn->fd, (struct sockaddr *)ret, &len) < 0)
        return -errno;
    if (WEIR_UNLIKELY(packet))
        packet_local_address(packet, ret);
    *ret_len = len;
    return 0;
}

const char *weir_peer_text(struct weir_request *req, char *buf, size_t size)
{
    request_check(req, "weir_peer_text");
    struct sockaddr_storage peer;
    socklen_t len;

    if (weir_peer_address(req, &peer, &len) < 0)
        connection_peer(req->conn, &peer, &len);
    return address_text((const struct sockaddr *)&peer, len, buf, size);
}

bool weir_truncated(struct weir_request *req)
{
    request_check(req, "weir_truncated");
    const struct packet *packet = packet_of(request_root(req)->conn);

    return packet && packet->truncated;
}

int weir_request_fd(struct weir_request *req)
{
    request_check_asked(req, "weir_request_fd");
    return req->conn->fd;
}

void *weir_state(struct weir_request *req)
{
    request_check_asked(req, "weir_state");
    struct connection *conn = request_root(req)->conn;

    return conn->handler->state_size > 0 ? conn->user_state : NULL;
}

const void *weir_handler_data(struct weir_request *req)
{
    request_check_asked(req, "weir_handler_data");
    return request_root(req)->conn->handler->data;
}

void *weir_arg(struct weir_request *req)
{
    request_check_asked(req, "weir_arg");
    return connection_arg(request_root(req)->conn);
}

void *weir_user(struct weir_request *req)
{
    request_check_asked(req, "weir_user");
    return req->service->user;
}

struct weir_server *weir_request_server(struct weir_request *req)
{
    request_check_asked(req, "weir_request_server");
    return req->service->server;
}

uint32_t weir_worker_number(struct weir_request *req)
{
    request_check_asked(req, "weir_worker_number");
    return req->task->worker->index;
}

uint32_t weir_listener_number(struct weir_request *req)
{
    request_check_asked(req, "weir_listener_number");
    return request_root(req)->conn->endpoint->number;
}

void *weir_listener_user(struct weir_request *req)
{
    request_check_asked(req, "weir_listener_user");
    return request_root(req)->conn->endpoint->user;
}

bool weir_draining(struct weir_request *req)
{
    request_check(req, "weir_draining");
    return worker_takes_leave(req->task->worker);
}

/* ------------------------------------------------------------------ other waits ------- */

int weir_sleep(struct weir_request *req, uint32_t ms)
{
    request_check(req, "weir_sleep");
    uint64_t until_ms = clock_ms() + ms + 1;
    uint64_t limit_ms = request_root(req)->deadline_ms;
    bool cut = limit_ms != 0 && limit_ms < until_ms;
    int r = task_sleep(request_task(req), cut ? limit_ms : until_ms);

    return r < 0 || !cut ? r : request_timed_out(req, limit_ms, CONNECTION_NOT_LATE);
}

int weir_yield(struct weir_request *req)
{
    request_check(req, "weir_yield");
    return task_yield(request_task(req));
}

int weir_offload(struct weir_request *req, int (*fn)(void *arg), void *arg)
{
    request_check(req, "weir_offload");
    return offload_run(req->service->offload, request_task(req), fn, arg);
}

/* ------------------------------------------------------------------ outgoing ---------- */

/* A hangup's wait for a peer that takes nothing, unless write_timeout_ms says otherwise. */
#define HANGUP_TIMEOUT_MS 5000

/* A name may have several addresses, of which the server perhaps listens on one. */
struct resolving {
    const char *uri;
    struct address *addresses;
    char why[WHY_LAST_SIZE];    /* what is wrong with the address, if that is it; or "" */
};

/* How many addresses there are, or -errno. */
static int resolve_offloaded(void *arg)
{
    struct resolving *resolving = arg;

    return address_parse_all(resolving->uri, &resolving->addresses, resolving->why,
                             sizeof(resolving->why));
}

/* A Unix listener whose backlog is full refuses a non-blocking connect: asks until it's in. */
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
        r = task_sleep(request_task(peer), clock_ms() + 2);
        if (r < 0)
            return r;
    }
    while (r == -EINPROGRESS) {
        bool late;

        r = request_wait(peer, EPOLLOUT, deadline_ms, 0);
        late = r == -ETIMEDOUT;
        if (r < 0 && !late)
            return r;
        r = sys_socket_error(peer->conn->fd);
        /* It may be refused only now, and then this call takes the error. */
        if (r == 0)
            r = sys_connect(peer->conn->fd, &address->sa, address->len);
        if (r == -EISCONN)
            r = 0;
        /* A false alarm: it still has no peer. */
        if (r == -EALREADY)
            r = late ? request_timed_out(peer, deadline_ms, CONNECTION_NOT_LATE) : -EINPROGRESS;
    }
    return r;
}

static int open_request(struct weir_request *root, int family, struct weir_request **ret)
{
    struct weir_request *peer = belongings_have(root) ? calloc(1, sizeof(*peer)) : NULL;
    int fd;

    if (!peer)
        return -ENOMEM;
    fd = sys_socket(family, SOCK_STREAM);
    if (fd < 0) {
        free(peer);
        return fd;
    }
    peer->conn = connection_create_opened(&root->service->crew->table, fd, family,
                                          root->conn->endpoint, root->task);
    if (!peer->conn) {
        sys_close(fd);
        free(peer);
        return -ENOMEM;
    }
    peer->service = root->service;
    peer->task = root->task;
    peer->deadline_ms = root->deadline_ms;
    peer->opener = root;
    if (WEIR_UNLIKELY(misuse_is_looked_for))
        misuse_note_begin(peer);
    peer->next_opened = root->belongings->opened;
    root->belongings->opened = peer;
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

/* The kernel's own patience with one address ends by itself, and says the same as ours. */
static bool ends_the_trying(int error, uint64_t deadline_ms)
{
    if (error == -ETIMEDOUT)
        return deadline_ms != 0 && clock_ms() >= deadline_ms;
    return error == 0 || error == -ECANCELED;
}

static int connect_to_any(struct weir_request *root, const struct address *addresses, int len,
                          uint64_t deadline_ms, struct weir_request **ret_peer)
{
    int r = -EINVAL;

    for (int i = 0; i < len; i++) {
        r = open_connected(root, &addresses[i], deadline_ms, ret_peer);
        if (ends_the_trying(r, deadline_ms))
            break;
    }
    return r;
}

static int refuse_connect(const char *address, int error, const char *reason)
{
    return why_set(why_last, sizeof(why_last), error, "%s: %s", address, reason);
}

static int open_stream(struct weir_request *root, const char *address, uint32_t timeout_ms,
                       struct weir_request **ret_peer)
{
    struct resolving resolving = { .uri = address };
    uint32_t like_a_read_ms = request_timeout_ms(root, WEIR_TIMEOUT_READ);
    uint64_t deadline_ms = request_deadline_ms(root, timeout_ms ? timeout_ms : like_a_read_ms);
    int len = address_is_literal(address)
        ? resolve_offloaded(&resolving)
        : offload_run(root->service->names, request_task(root), resolve_offloaded, &resolving);
    int r;

    if (len < 0 && resolving.why[0] != '\0')
        return why_set(why_last, sizeof(why_last), len, "%s", resolving.why);
    if (len < 0)
        return refuse_connect(address, len, why_error(len));
    if (resolving.addresses[0].type != SOCK_STREAM) {
        free(resolving.addresses);
        return refuse_connect(address, -EINVAL, "weir_connect opens streams: tcp://HOST:PORT, "
                              "unix:///PATH or unix:@NAME");
    }
    r = connect_to_any(root, resolving.addresses, len, deadline_ms, ret_peer);
    free(resolving.addresses);
    return r < 0 ? refuse_connect(address, r, why_error(r)) : 0;
}

int weir_connect(struct weir_request *req, const char *address, uint32_t timeout_ms,
                 struct weir_request **ret_peer)
{
    request_check(req, "weir_connect");
    struct weir_request *root = request_root(req);
    struct task *task = request_task(root);
    int r;

    task->connects = true;
    r = open_stream(root, address, timeout_ms, ret_peer);
    task->connects = false;
    return r;
}

/* What was gathered. For a peer that has failed already nobody waits. */
static void send_last(struct weir_request *peer)
{
    uint32_t timeout_ms = request_timeout_ms(peer, WEIR_TIMEOUT_WRITE);

    if (peer->rfile.error)
        wfile_push(peer);
    else
        wfile_flush_until(peer, request_deadline_ms(peer, timeout_ms > 0 ? timeout_ms
                                                                         : HANGUP_TIMEOUT_MS));
}

/* In any build, for it would follow a list that is not there. */
static void require_opened(const struct weir_request *peer)
{
    if (WEIR_UNLIKELY(!peer->opener))
        misuse_die("weir_hangup on a request of handler '%s' that weir_connect did not open: its "
                   "connection ends when the handler returns", peer->conn->handler->name);
}

/* Its fiber would wake in what is freed. */
static void require_unused(const struct weir_request *peer)
{
    if (request_has_family(peer) && (peer->reader || peer->writer))
        misuse_die("weir_hangup on a stream that another fiber of handler '%s' waits in: join it "
                   "before (see weir.h: weir_spawn)", peer->task->conn->handler->name);
}

/* While its last bytes leave, no other fiber may begin a wait in it. */
static void keep_others_out(struct weir_request *peer)
{
    if (!request_has_family(peer))
        return;
    peer->reader = request_task(peer);
    peer->writer = peer->reader;
}

void weir_hangup(struct weir_request *peer)
{
    struct weir_request **link;

    if (!peer)
        return;
    request_check(peer, "weir_hangup");
    require_opened(peer);
    require_unused(peer);
    keep_others_out(peer);
    link = &peer->opener->belongings->opened;
    while (*link != peer)
        link = &(*link)->next_opened;
    *link = peer->next_opened;
    send_last(peer);
    wfile_fini(peer);
    rfile_fini(peer);
    connection_close(&peer->service->crew->table, peer->conn);
    if (WEIR_UNLIKELY(misuse_is_looked_for)) {
        misuse_note_end(peer);
        misuse_free(peer);
    } else {
        free(peer);
    }
}
