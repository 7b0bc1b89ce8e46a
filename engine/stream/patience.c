#include "engine/stream/patience.h"

#include "engine/base/clock.h"
#include "engine/pool/transport.h"

/* More than a kernel ever has, so that no difference is below 0. */
#define TAKEN_BASE (UINT64_C(1) << 63)

/* ------------------------------------------------------------------ a head ------------ */

/* Set once: what comes of a head, byte by byte, does not put it off. */
static uint64_t head_until_ms(struct weir_request *req)
{
    uint32_t timeout_ms;

    if (req->rfile.timing & TIMING_HEAD)
        return req->patience.head_until_ms;
    timeout_ms = request_timeout_ms(req, WEIR_TIMEOUT_HEAD);
    req->patience.head_until_ms = timeout_ms > 0 ? clock_ms() + timeout_ms + 1 : 0;
    req->rfile.timing |= TIMING_HEAD;
    return req->patience.head_until_ms;
}

void weir_end_head(struct weir_request *req)
{
    request_check(req, "weir_end_head");

    if (req->rfile.timing & TIMING_BODY)
        return;
    req->patience.came = 0;
    req->rfile.timing |= TIMING_BODY;
}

/* ------------------------------------------------------------------ progress ---------- */

static uint64_t whole_credit(uint32_t timeout_ms)
{
    return (uint64_t)timeout_ms << PATIENCE_STEP_BITS;
}

static void begin_credit(struct weir_request *req, uint32_t timeout_ms)
{
    if (req->rfile.timing & TIMING_CREDIT)
        return;
    req->patience.credit = whole_credit(timeout_ms);
    req->patience.taken = 0;
    req->rfile.timing |= TIMING_CREDIT;
}

/* So many bytes have moved. */
static void earn_credit(struct weir_request *req, uint32_t timeout_ms, uint64_t bytes)
{
    uint64_t whole = whole_credit(timeout_ms);
    uint64_t earned = bytes < PATIENCE_STEP ? bytes * timeout_ms : whole;
    uint64_t *credit = &req->patience.credit;

    *credit = earned < whole - *credit ? *credit + earned : whole;
}

static struct waiting wait_on_credit(const struct weir_request *req, uint32_t timeout_ms)
{
    uint64_t now_ms = clock_ms();
    uint64_t left_ms = req->patience.credit >> PATIENCE_STEP_BITS;

    /* clock_ms rounds down: one more, so that no less than what is left passes. */
    return (struct waiting){
        .began_ms = now_ms, .until_ms = now_ms + left_ms + (left_ms > 0),
        .since_ms = now_ms - (timeout_ms - left_ms), .late = CONNECTION_PROGRESS_LATE,
    };
}

/*
 * What the kernel still has, the peer has not taken. Counted from TAKEN_BASE, for a kept connection
 * may have forgotten how much it had sent before, and the kernel has not.
 */
static uint64_t taken_by_peer(const struct weir_request *req, size_t unsent)
{
    return TAKEN_BASE + req->wfile.sent - unsent;
}

static struct waiting patience_with_body(struct weir_request *req)
{
    uint32_t timeout_ms = request_timeout_ms(req, WEIR_TIMEOUT_PROGRESS);

    if (timeout_ms == 0)
        return (struct waiting){ 0 };
    begin_credit(req, timeout_ms);
    earn_credit(req, timeout_ms, req->patience.came);
    req->patience.came = 0;
    return wait_on_credit(req, timeout_ms);
}

static struct waiting patience_with_head(struct weir_request *req)
{
    uint64_t until_ms = head_until_ms(req);
    uint64_t began_ms = until_ms - request_timeout_ms(req, WEIR_TIMEOUT_HEAD) - 1;

    return (struct waiting){
        .until_ms = until_ms, .since_ms = until_ms > 0 ? began_ms : 0,
        .late = CONNECTION_HEAD_LATE,
    };
}

/* It has no client; or several fibers wait for one at once, of which none has the whole credit. */
static bool asks_nobody(const struct weir_request *req)
{
    return req->opener || request_has_family(req);
}

struct waiting patience_for_input(struct weir_request *req)
{
    if (asks_nobody(req) || req->rfile.timing & TIMING_REST)
        return (struct waiting){ 0 };
    if (req->rfile.timing & TIMING_BODY)
        return patience_with_body(req);
    return patience_with_head(req);
}

/* What is taken during the wait counts as it will behind it; without a timeout, any byte does. */
static void note_for_room(struct task *task, uint32_t timeout_ms, size_t unsent)
{
    _Static_assert(PATIENCE_STEP_BITS == 16, "a byte earns 65,536ths of the timeout");
    task->earns = timeout_ms > 0 ? timeout_ms : UINT32_MAX;
    task->unsent = (uint32_t)unsent;
}

struct waiting patience_for_room(struct weir_request *req)
{
    uint32_t timeout_ms = request_timeout_ms(req, WEIR_TIMEOUT_PROGRESS);
    size_t unsent;
    uint64_t taken;

    if (asks_nobody(req))
        return (struct waiting){ 0 };
    unsent = transport_of(req->conn)->unsent(req->conn);
    note_for_room(req->task, timeout_ms, unsent);
    if (timeout_ms == 0)
        return (struct waiting){ 0 };
    begin_credit(req, timeout_ms);
    taken = taken_by_peer(req, unsent);
    if (taken > req->patience.taken) {
        earn_credit(req, timeout_ms, taken - req->patience.taken);
        req->patience.taken = taken;
    }
    return wait_on_credit(req, timeout_ms);
}

/*
 * A wait whose end we saw late, for we were held up by another handler or with the whole process,
 * tells nothing of the client: the credit begins anew.
 */
void patience_waited(struct weir_request *req, const struct waiting *waiting)
{
    uint64_t now_ms, used;

    if (waiting->began_ms == 0 || !(req->rfile.timing & TIMING_CREDIT))
        return;
    now_ms = clock_ms();
    if (now_ms >= waiting->until_ms + REQUEST_HELD_MS) {
        req->rfile.timing &= (uint8_t)~TIMING_CREDIT;
        return;
    }
    used = (now_ms - waiting->began_ms) << PATIENCE_STEP_BITS;
    req->patience.credit -= used < req->patience.credit ? used : req->patience.credit;
}
