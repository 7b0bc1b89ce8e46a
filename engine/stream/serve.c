/*
 * serve.c - what happens around a handler: greeting, setup, handle, finish, and what its end means.
 *
 * Everything that a connection lives through from when it has input until it is idle again or ends,
 * and all that a datagram does.
 */
#include "engine/stream/request.h"

#include "engine/base/clock.h"
#include "engine/pool/errand.h"
#include "engine/pool/goodbye.h"
#include "engine/pool/packet.h"
#include "engine/stream/belongings.h"
#include "engine/stream/check.h"
#include "engine/stream/greeting.h"
#include "engine/stream/rfile.h"
#include "engine/stream/wfile.h"

#include <errno.h>
#include <stdio.h>

/* A reply that its receiver has no room for is tried again, after RETRY_MIN_MS first ... */
#define RETRY_MIN_MS 1
#define RETRY_MAX_MS 32

/* ... until REPLY_TIMEOUT_MS have passed, unless write_timeout_ms says otherwise. */
#define REPLY_TIMEOUT_MS 1000

/* ------------------------------------------------------------------ a handler's calls - */

static void tell_with_hint(struct weir_request *req, enum weir_phase phase, int error,
                           const char *hint)
{
    static const enum tally_kind kinds[] = {
        [WEIR_PHASE_VERIFY] = TALLY_VERIFY_ERRORS, [WEIR_PHASE_SETUP] = TALLY_SETUP_ERRORS,
        [WEIR_PHASE_HANDLE] = TALLY_HANDLE_ERRORS, [WEIR_PHASE_FINISH] = TALLY_FINISH_ERRORS,
    };
    const struct service *service = req->service;
    struct tally *tally = &req->task->worker->tally;
    char peer[WEIR_ADDRESS_SIZE];

    if (phase != WEIR_PHASE_PROCESS)
        tally_add(tally, kinds[phase], 1);
    if (error == -ECANCELED && request_was_cancelled(req))
        tally_add(tally, TALLY_CANCELLED, 1);
    service->handle_error(service->server, &(struct weir_failure){
        .phase = phase,
        .error = error,
        .peer = weir_peer_text(req, peer, sizeof(peer)),
        .handler = req->conn->handler->name,
        .req = req,
        .hint = hint,
    });
}

/* Which timeout has passed. */
static __attribute__((cold, noinline))
void tell_late(struct weir_request *req, enum weir_phase phase)
{
    static const char *const options[] = {
        [WEIR_TIMEOUT_READ] = "read_timeout_ms", [WEIR_TIMEOUT_WRITE] = "write_timeout_ms",
        [WEIR_TIMEOUT_REQUEST] = "request_timeout_ms", [WEIR_TIMEOUT_HEAD] = "head_timeout_ms",
        [WEIR_TIMEOUT_PROGRESS] = "progress_timeout_ms", [WEIR_TIMEOUT_IDLE] = "idle_timeout_ms",
    };
    const struct endpoint *endpoint = req->conn->endpoint;
    enum weir_timeout which = (enum weir_timeout)(req->conn->late - 1);
    uint32_t ms = request_timeout_ms(req, which);
    char hint[WEIR_ADDRESS_SIZE + 64];

    if (ms == endpoint_timeout_ms(endpoint, which))
        snprintf(hint, sizeof(hint), "%s has passed, which is %u for %s", options[which], ms,
                 endpoint->uri);
    else
        snprintf(hint, sizeof(hint), "%s has passed, which the handler has set to %u",
                 options[which], ms);
    tell_with_hint(req, phase, -ETIMEDOUT, hint);
}

/* The greeting of a client that is still to be verified has a deadline of its own. */
static __attribute__((cold, noinline))
void tell_error(struct weir_request *req, enum weir_phase phase, int error)
{
    bool misreturned = phase == WEIR_PHASE_HANDLE && req->conn->misreturned;

    if (error == -ETIMEDOUT && req->conn->ousted)
        tell_with_hint(req, phase, error, "others waited for its place, and it for its client");
    else if (error == -ETIMEDOUT && phase != WEIR_PHASE_VERIFY &&
             req->conn->late != CONNECTION_NOT_LATE)
        tell_late(req, phase);
    else
        tell_with_hint(req, phase, error, misreturned ? "handle returns 0, WEIR_KEEP, "
                       "WEIR_STOP_SERVER or a negative errno" : NULL);
}

void weir_report(struct weir_request *req, int error, const char *hint)
{
    request_check(req, "weir_report");
    tell_with_hint(request_root(req), WEIR_PHASE_HANDLE, error, hint);
}

/* Of the function of the handler that is running. */
static enum weir_phase running_phase(const struct weir_request *req)
{
    if (!req->conn->began)
        return WEIR_PHASE_SETUP;
    return req->rfile.timing & TIMING_END ? WEIR_PHASE_FINISH : WEIR_PHASE_HANDLE;
}

int weir_fail(struct weir_request *req, int error, const char *hint)
{
    struct weir_request *root;

    request_check(req, "weir_fail");
    root = request_root(req);
    tell_with_hint(root, running_phase(root), error, hint);
    root->rfile.timing |= TIMING_TOLD;
    return error;
}

/* It has gone, or does not take in time what was written for it. */
static bool peer_is_to_blame(int error)
{
    return request_is_end_by_peer(error) || error == -ETIMEDOUT;
}

/*
 * handle() wants the server stopped; or it has returned a number that has no meaning, such as the
 * length that weir_write returned. Returns what handle() is taken to have returned.
 */
static __attribute__((cold, noinline)) int more_than_keep(struct weir_request *req, int r)
{
    if (r == WEIR_STOP_SERVER) {
        req->service->stop(req->service->server);
        return r;
    }
    req->conn->misreturned = true;
    return -ERANGE;
}

/* One call of handle(). */
static WEIR_NO_CANARY int handle_once(struct weir_request *req)
{
    uint32_t timeout_ms = req->conn->endpoint->request_timeout_ms;
    int r;

    /* Up to a tick late, for a clock that costs next to nothing. */
    req->deadline_ms = timeout_ms > 0 ? clock_coarse_ms() + CLOCK_COARSE_LAG_MS + timeout_ms : 0;
    req->rfile.taken = false;
    req->rfile.timing = 0;
    r = req->conn->handler->handle(req);
    if (WEIR_UNLIKELY(req->belongings))
        belongings_end(req, r);
    tally_add(&req->task->worker->tally, TALLY_HANDLED, 1);
    return WEIR_UNLIKELY(r > 0 && r != WEIR_KEEP) ? more_than_keep(req, r) : r;
}

/* Of what has been called last: has weir_fail told handle_error of its error? */
static bool is_told(const struct weir_request *req)
{
    return req->rfile.timing & TIMING_TOLD;
}

static int call_finish(struct weir_request *req, int status)
{
    req->rfile.timing = (uint8_t)((req->rfile.timing & ~TIMING_TOLD) | TIMING_END);
    return req->conn->handler->finish(req, status);
}

/* It has begun and ends: finish, and the one error that is told. Returns that, or 0. */
static int run_finish(struct weir_request *req, int status)
{
    const struct weir_handler *handler = req->conn->handler;
    enum weir_phase phase = WEIR_PHASE_HANDLE;
    int error = status < 0 ? status : 0;
    bool told = is_told(req);

    req->deadline_ms = 0;
    if (handler->finish) {
        int r = call_finish(req, status);
        int flushed;

        if (WEIR_UNLIKELY(req->belongings))
            belongings_end(req, r);
        flushed = weir_flush(req);

        if (r == 0 && flushed < 0 && !peer_is_to_blame(flushed))
            r = flushed;
        if (r < 0) {
            error = r;
            phase = WEIR_PHASE_FINISH;
            told = is_told(req);
        }
    }
    if (error < 0 && !told)
        tell_error(req, phase, error);
    return error;
}

static int run_setup(struct weir_request *req)
{
    const struct weir_handler *handler = req->conn->handler;
    int r = handler->setup ? handler->setup(req) : 0;

    if (r < 0) {
        if (req->belongings)
            belongings_end(req, r);
        weir_flush(req);
        if (!is_told(req))
            tell_error(req, WEIR_PHASE_SETUP, r);
        return r;
    }
    req->conn->began = true;
    return 0;
}

/* ------------------------------------------------------------------ a connection ------ */

/* The server drains, or others wait for this connection's place. */
static WEIR_ALWAYS_INLINE bool is_to_end(const struct weir_request *req)
{
    return worker_draining(req->task->worker) || req->conn->unplaced;
}

static int keep(struct weir_request *req)
{
    int r = task_watch(req->task);

    if (r < 0)
        return r;
    req->conn->kept = true;
    return WEIR_KEEP;
}

/* A wait for the rest of what the last call has left is part of no call: the peer is idle. */
static uint64_t idle_deadline_ms(const struct weir_request *req)
{
    uint32_t timeout_ms = connection_idle_limit_ms(req->conn, false);

    return timeout_ms > 0 ? clock_ms() + timeout_ms + 1 : 0;
}

/*
 * Of what has arrived or arrives just now. Before a look for the latter all answers leave, within
 * the deadline of the call that wrote them, which is over then.
 */
static WEIR_NO_CANARY bool input_is_left(struct weir_request *req)
{
    const struct rfile *rfile = &req->rfile;
    bool is_empty = rfile->start == rfile->end;

    if (rfile->eof || rfile->error)
        return false;
    if (!is_empty && rfile->taken)
        return true;
    if (wfile_flush(req, 0) < 0)
        return false;
    req->deadline_ms = is_empty ? 0 : idle_deadline_ms(req);
    return rfile_has_more(req);
}

/*
 * Of a connection that is to end: what is buffered is served, then what a last look at the socket
 * brings into a buffer, and the request that either breaks off in. What comes with the rest of such
 * a request has been that look. Nothing else is received, or a client that sends without a pause
 * would stay for ever. Returns true if there may be more to serve.
 */
static WEIR_NOINLINE bool may_serve_the_last(struct weir_request *req)
{
    struct rfile *rfile = &req->rfile;
    bool is_empty = rfile->start == rfile->end;

    if (rfile->last == RFILE_GOES_ON) {
        rfile->last = RFILE_LAST_TO_COME;
        rfile->received = false;
    } else if (rfile->last == RFILE_LAST_LOOK) {
        /* What the look has brought had arrived. */
        rfile->last = RFILE_LAST_BUFFER;
        rfile->received = false;
    }
    if (!is_empty && !(rfile->received && rfile->taken))
        return true;
    if (rfile->last == RFILE_LAST_BUFFER)
        return false;
    rfile->last = RFILE_LAST_LOOK;
    if (is_empty) {
        /* All of a buffer, and though the edge that tells of more may be still to come. */
        rfile_let_go(req);
        req->conn->drained = false;
    }
    return true;
}

/* After a call of handle() that wants to be kept. Returns true if it is called again at once. */
static bool goes_on(struct weir_request *req)
{
    return (WEIR_LIKELY(!is_to_end(req)) || may_serve_the_last(req)) && input_is_left(req);
}

/* After handle() has returned r: is the end the very next thing? It leaves in the same segment. */
static bool ends_now(const struct weir_request *req, int r)
{
    bool ends = r != WEIR_KEEP || req->rfile.eof || req->rfile.error;

    return ends && r >= 0 && !req->conn->handler->finish;
}

/* A drain may have begun behind the look that has found no input, and nothing tells of more. */
static WEIR_NOINLINE bool has_last_input(struct weir_request *req)
{
    return may_serve_the_last(req) && rfile_has_more(req);
}

/*
 * handle() until it's done, or the connection may be kept, and what it wrote: the answers to all
 * that had arrived leave together. What handle returned at last, or the error of that.
 */
static int handle_while_there_is_input(struct weir_request *req)
{
    int flushed;
    int r;

    do {
        do
            r = handle_once(req);
        while (r == WEIR_KEEP && goes_on(req));
        /* What was written goes out even if handle() failed: it may say why. */
        flushed = wfile_flush(req, ends_now(req, r) ? MSG_MORE : 0);
        /*
         * A peer without its last answer is nobody's error, as it is none in socketserver, which
         * ignores what comes of its last flush. A time-out has been counted.
         */
        if (r >= 0 && flushed < 0)
            return peer_is_to_blame(flushed) ? 0 : flushed;
        if (r != WEIR_KEEP)
            return r;
        if (req->rfile.eof || req->rfile.error)
            return 0;
        if (WEIR_LIKELY(!is_to_end(req)))
            return keep(req);
    } while (has_last_input(req));
    return 0;
}

/*
 * Looks for input on a connection that was idle, or whose client is to speak first. Returns bytes,
 * 0 at end of file, or an error; -EAGAIN if the event was stale: its bytes have been read already.
 * Without memory it's the handler's read that fails.
 */
static WEIR_ALWAYS_INLINE ssize_t look_for_input(struct weir_request *req)
{
    return rfile_open(req) ? rfile_receive(req) : 1;
}

/*
 * The look has found no input: the connection stays idle, unless it was for too long, or is to end.
 * A drain may have begun behind the look, and what had arrived by then is served: so there is one
 * more. Returns as look_for_input; for -EAGAIN *ret_status is what serve_input returns.
 */
static WEIR_NOINLINE ssize_t keep_on_or_look_again(struct weir_request *req, int *ret_status)
{
    *ret_status = 0;
    if (req->conn->expired) {
        tally_add(&req->task->worker->tally, TALLY_TIMEOUTS, 1);
        return -EAGAIN;
    }
    if (is_to_end(req))
        return may_serve_the_last(req) ? look_for_input(req) : -EAGAIN;
    *ret_status = keep(req);
    return -EAGAIN;
}

/*
 * Looks for input. Returns true if that, its end or an error is for the handler; else *ret_status
 * is what serve_input returns. is_silent: the client is to speak first, and has not. If it goes
 * without a byte, nobody has to know that it was there.
 */
static WEIR_ALWAYS_INLINE bool finds_input(struct weir_request *req, bool is_silent,
                                           int *ret_status)
{
    ssize_t n = look_for_input(req);

    if (n == -EAGAIN)
        n = keep_on_or_look_again(req, ret_status);
    if (n == -EAGAIN)
        return false;
    if (n <= 0 && is_silent) {
        *ret_status = 0;
        return false;
    }
    return true;
}

/*
 * Returns true if the greeting has let the client in; else the connection ends, refused. Clients
 * that the program keeps out, and clients that left by themselves, are reported to nobody.
 */
static bool is_greeted(struct weir_request *req)
{
    int r = greeting_run(req);

    req->conn->greets = false;
    if (r == 0)
        return true;
    req->conn->refused = true;
    if (r == -ENOMEM)
        tally_add(&req->task->worker->tally, TALLY_NO_MEMORY, 1);
    if (r == -EUSERS)
        goodbye_say(req->conn->fd, req->conn->handler);
    if (r != -EACCES && r != -EUSERS && !request_is_end_by_peer(r))
        tell_error(req, r == -ENOMEM ? WEIR_PHASE_PROCESS : WEIR_PHASE_VERIFY, r);
    return false;
}

/*
 * Returns true if it is greeted and its handler's turn; else *ret_status is what serve_input
 * returns. By itself, so that connections without a greeting have no frame for it.
 */
static WEIR_NOINLINE bool begins_greeted(struct weir_request *req, int *ret_status)
{
    *ret_status = 0;
    if (!is_greeted(req))
        return false;
    /* What the greeting has read too much is the handler's input. */
    if (rfile_holds_any(req) || req->conn->handler->client_first != WEIR_YES)
        return true;
    rfile_let_go(req);
    return finds_input(req, true, ret_status);
}

/* Until it is idle or ends. What handle returned, or the error of what was done without it. */
static int serve_input(struct weir_request *req, bool was_kept)
{
    struct connection *conn = req->conn;
    bool is_silent = !conn->began && conn->handler->client_first == WEIR_YES;
    int status;

    if (was_kept || is_silent) {
        if (!finds_input(req, is_silent, &status))
            return status;
        conn->expired = false;
    }
    if (!conn->began) {
        if (WEIR_UNLIKELY(conn->greets) && !begins_greeted(req, &status))
            return status;
        if (run_setup(req) < 0)
            return 0;
    }
    return handle_while_there_is_input(req);
}

static void note_idle(const struct weir_request *req)
{
    /* Its peer may not have all of it even when the connection ends. */
    req->conn->sent = req->wfile.sent < UINT16_MAX ? (uint16_t)req->wfile.sent : UINT16_MAX;
    connection_note_idle(req->conn, clock_coarse_ms());
}

/* Nobody tells its client, which is closed without a byte. */
static void starve(struct weir_request *req)
{
    tally_add(&req->task->worker->tally, TALLY_NO_MEMORY, 1);
    req->conn->refused = !req->conn->began;
    if (req->conn->began)
        run_finish(req, -ENOMEM);
    else
        tell_error(req, WEIR_PHASE_PROCESS, -ENOMEM);
}

static void end_connection(struct weir_request *req, int status)
{
    run_finish(req, status);
    request_linger(req);
}

/* One test of one byte, for all that few connections are. */
static bool is_unusual(const struct connection *conn)
{
    return conn->expired || conn->unplaced || conn->starved;
}

static void serve_accepted(struct weir_request *req)
{
    struct connection *conn = req->conn;
    bool was_kept = conn->kept;
    int status;

    conn->kept = false;
    if (WEIR_UNLIKELY(is_unusual(conn))) {
        if (conn->starved) {
            starve(req);
            return;
        }
        /* Not those that have been idle for long when the server takes leave. */
        if (conn->unplaced && crew_order(req->service->crew) == CREW_KEEPS)
            tally_add(&req->task->worker->tally, TALLY_MADE_ROOM, 1);
    }
    status = serve_input(req, was_kept);
    if (conn->kept)
        note_idle(req);
    else if (conn->began)
        end_connection(req, status);
    else if (status < 0)
        tell_error(req, WEIR_PHASE_SETUP, status);
}

/* ------------------------------------------------------------------ a datagram -------- */

/* The end of a fiber's packet puts the reply into its worker's outbox. */
static void leave_reply(struct weir_request *req, struct packet *packet)
{
    packet->reply = wfile_take(req, &packet->reply_len, &packet->reply_size);
    packet->answered = true;
}

static int send_reply(struct weir_request *req, struct packet *packet)
{
    uint32_t timeout_ms = req->conn->endpoint->write_timeout_ms;
    uint64_t deadline_ms = clock_ms() + (timeout_ms > 0 ? timeout_ms : REPLY_TIMEOUT_MS);
    uint32_t wait_ms = RETRY_MIN_MS;
    int r;

    /* No event tells when a Unix peer has read some of what it has. */
    while ((r = packet_send(packet)) == -EAGAIN) {
        if (clock_ms() >= deadline_ms)
            return request_timed_out(req, deadline_ms, timeout_ms > 0 ? CONNECTION_WRITE_LATE
                                                                      : CONNECTION_NOT_LATE);
        r = task_sleep(req->task, clock_ms() + wait_ms);
        if (r < 0)
            return r;
        wait_ms = wait_ms < RETRY_MAX_MS ? wait_ms * 2 : RETRY_MAX_MS;
    }
    return r;
}

/* Until it's sent, or never will be. */
static void deliver(struct weir_request *req, struct packet *packet)
{
    int r = req->conn->starved ? -ENOMEM : send_reply(req, packet);

    packet->answered = false;
    if (r < 0)
        tell_error(req, WEIR_PHASE_FINISH, r);
    else
        tally_add(&req->task->worker->tally, TALLY_BYTES_OUT, packet->reply_len);
}

static void answer_packet(struct weir_request *req, struct packet *packet, int error)
{
    bool wanted = req->service->reply_always || (error == 0 && req->wfile.len > 0);

    if (!wanted)
        return;
    if (!packet_has_return_address(packet)) {
        tell_error(req, WEIR_PHASE_FINISH, -EDESTADDRREQ);
        return;
    }
    leave_reply(req, packet);
    if (!req->task->fiber)
        deliver(req, packet);
}

static void serve_packet(struct weir_request *req)
{
    struct packet *packet = packet_of(req->conn);
    int status;

    if (packet->answered) {
        deliver(req, packet);
        return;
    }
    if (WEIR_UNLIKELY(req->conn->starved)) {
        starve(req);
        return;
    }
    req->rfile = (struct rfile){ .data = packet->data, .end = packet->len, .eof = true };
    if (run_setup(req) < 0)
        return;
    status = handle_once(req);
    if (status >= 0 && req->wfile.error)
        status = req->wfile.error;
    answer_packet(req, packet, run_finish(req, status));
}

/* ------------------------------------------------------------------ an errand --------- */

void request_call(struct weir_request *req, void (*fn)(struct weir_request *req, void *arg),
                  void *arg)
{
    req->deadline_ms = 0;
    req->rfile.timing = 0;
    fn(req, arg);
    if (WEIR_UNLIKELY(req->belongings))
        belongings_end(req, 0);
}

static void serve_errand(struct weir_request *req)
{
    struct errand *errand = errand_of(req->conn);

    if (WEIR_UNLIKELY(req->conn->starved)) {
        starve(req);
        return;
    }
    req->rfile.error = -ENOTCONN;
    req->wfile.error = -ENOTCONN;
    errand->run(errand, req);
}

/* ------------------------------------------------------------------ any of them ------- */

static WEIR_NOINLINE void serve_unlisted(struct weir_request *req)
{
    if (req->conn->kind == CONNECTION_ERRAND)
        serve_errand(req);
    else
        serve_packet(req);
}

/* Field by field: gcc clears so large a struct by an instruction that is slow to start. */
static void init_request(struct weir_request *req, struct task *task)
{
    req->service = task->worker->crew->service;
    req->task = task;
    req->conn = task->conn;
    req->rfile = (struct rfile){ 0 };
    req->wfile = (struct wfile){ .sent = task->conn->sent };
    req->deadline_ms = 0;
    req->belongings = NULL;
    req->next_opened = NULL;
    req->opener = NULL;
}

/* Where calls are looked at. On the stack the next request would have the address of this one. */
static __attribute__((cold, noinline)) struct weir_request *begin_looked_for(
    struct weir_request *own, struct task *task)
{
    struct weir_request *req = misuse_allocate(sizeof(*req));

    if (!req)
        req = own;
    task->request = req;
    misuse_note_begin(req);
    if (misuse_is_thorough())
        check_begin(task);
    return req;
}

static __attribute__((cold, noinline)) void end_looked_for(struct weir_request *req,
                                                           const struct weir_request *own)
{
    if (misuse_is_thorough())
        check_end(req);
    wfile_fini(req);
    rfile_fini(req);
    misuse_note_end(req);
    if (req != own)
        misuse_free(req);
}

static void serve_one(struct task *task, struct weir_request *own)
{
    struct weir_request *req = own;

    if (WEIR_UNLIKELY(misuse_is_looked_for))
        req = begin_looked_for(own, task);
    init_request(req, task);
    if (WEIR_UNLIKELY(task->conn->kind >= CONNECTION_PACKET))
        serve_unlisted(req);
    else
        serve_accepted(req);
    if (WEIR_UNLIKELY(req->belongings))
        belongings_end(req, 0);
    if (WEIR_UNLIKELY(misuse_is_looked_for)) {
        end_looked_for(req, own);
        return;
    }
    wfile_fini(req);
    rfile_fini(req);
}

void request_serve(struct task *task)
{
    struct weir_request own;

    task->request = &own;
    do
        serve_one(task, &own);
    while (worker_next(task));
}
