#include "tests/simulation/oracle.h"

#include "engine/base/clock.h"
#include "engine/server/server.h"
#include "tests/simulation/conversation.h"
#include "tests/simulation/datagrams.h"
#include "tests/simulation/report.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/sharer.h"
#include "tests/simulation/streams.h"

#include <stddef.h>

struct oracle_view oracle_view;

/* For its client, or in weir_poll; a cancel and the end of the request end that. */
static bool is_waiting(const struct conversation *talk)
{
    return talk->phase == PHASE_READ || talk->phase == PHASE_WRITE || talk->phase == PHASE_POLL ||
           talk->phase == PHASE_EITHER || talk->phase == PHASE_BOTH;
}

static bool has_input(const struct stream *stream)
{
    return stream_unread(stream) > 0 || stream->end_received;
}

/*
 * What is ready, and nobody sees to it; NULL: nothing. What is written leaves before a handler
 * waits for input, so that a peer without room keeps it from its input.
 */
static const char *what_is_lost(struct stream *stream, const struct conversation *talk)
{
    bool writable = stream_is_writable(stream);

    switch (talk->phase) {
    case PHASE_NEW:
        if (!talk->client_first)
            return "is accepted, and its handler is not begun";
        return has_input(stream) ? "has input, and its handler is not begun" : NULL;
    case PHASE_READ:
        return has_input(stream) && writable ? "has input that its handler waits for" : NULL;
    case PHASE_WRITE:
        return writable ? "has room that its handler waits for" : NULL;
    case PHASE_BOTH:
        if (talk->reads && has_input(stream))
            return "has input that a fiber waits for while another one writes";
        return talk->writes && writable ? "has room that a fiber waits for while another one reads"
                                        : NULL;
    case PHASE_POLL:
        return has_input(stream) ? "has input that its handler's weir_poll waits for" : NULL;
    case PHASE_EITHER:
        if (stream->was_refused)
            return writable ? "has room that its handler waits for" : NULL;
        return has_input(stream) ? "has input that its handler waits for" : NULL;
    case PHASE_IDLE:
        return has_input(stream) && writable ? "has input, and is kept idle" : NULL;
    default:
        return NULL;
    }
}

/* A wait's deadline, and what the engine's timers may add to it. */
struct allowance {
    uint64_t since_ns;
    uint64_t ms;                /* 0: it may take any time */
    uint64_t grain_ms;
    uint64_t holds;             /* how often the time that holds the engine up counts beside that */
    bool is_renewed;            /* ... and whoever was held up for HELD_NS has it anew */
};

/* A timer ends a wait; but idle connections are swept: see engine/accept/housekeeping.c. */
#define GRAIN_MS 3
#define SWEEP_GRAIN_MS 20
#define SWEEP_MIN_MS 10
#define SWEEPS_A_TIMEOUT 8
#define SWEEP_PAUSE 20

static uint64_t later(uint64_t a_ns, uint64_t b_ns)
{
    return a_ns > b_ns ? a_ns : b_ns;
}

/*
 * A call that writes, or that waits and has something to send before. One that may do either (of
 * HTTP) has begun before its last send was refused; the others when they were called.
 */
static struct allowance allowance_for_room(const struct stream *stream,
                                           const struct conversation *talk)
{
    return (struct allowance){
        .since_ns = talk->phase == PHASE_WRITE ? talk->phase_since_ns
                                               : later(talk->phase_since_ns, stream->refused_ns),
        .ms = oracle_view.write_ms, .grain_ms = GRAIN_MS, .holds = 1, .is_renewed = true,
    };
}

/* Each arrival gives a read its time anew, which begins when all that was written has left. */
static struct allowance allowance_for_input(const struct stream *stream,
                                            const struct conversation *talk)
{
    uint64_t since_ns = later(talk->phase_since_ns, stream->sent_ns);

    return (struct allowance){
        .since_ns = later(since_ns, stream->arrived_ns), .ms = oracle_view.read_ms,
        .grain_ms = GRAIN_MS, .holds = 1,
    };
}

/* Twice, for it begins once more when a client took a reply for which there had been no room. */
static struct allowance allowance_for_idle(const struct stream *stream,
                                           const struct conversation *talk)
{
    uint64_t interval_ms = oracle_view.idle_ms / SWEEPS_A_TIMEOUT;

    return (struct allowance){
        .since_ns = later(talk->phase_since_ns, stream->sent_ns), .ms = 2 * oracle_view.idle_ms,
        .grain_ms = GRAIN_MS + SWEEP_GRAIN_MS +
                    (interval_ms > SWEEP_MIN_MS ? interval_ms : SWEEP_MIN_MS),
        .holds = 1 + SWEEP_PAUSE,
    };
}

static struct allowance allowance_of(const struct stream *stream, const struct conversation *talk)
{
    bool lacks_room = stream->was_refused && !stream_is_writable(stream);

    if (stream->connecting)
        return (struct allowance){ 0 };
    switch (talk->phase) {
    case PHASE_WRITE:
        return allowance_for_room(stream, talk);
    case PHASE_READ:
    case PHASE_EITHER:
        return lacks_room ? allowance_for_room(stream, talk) : allowance_for_input(stream, talk);
    case PHASE_IDLE:
        return lacks_room ? allowance_for_room(stream, talk) : allowance_for_idle(stream, talk);
    default:
        return (struct allowance){ 0 };
    }
}

/* How often the wait may have begun: a timer may be late by itself, which adds to what holds it. */
static uint64_t beginnings(const struct allowance *allowance, uint64_t held_ns)
{
    return allowance->is_renewed ? 1 + (held_ns + GRAIN_MS * MS_NS) / HELD_NS : 1;
}

static void look_at_wait(const struct stream *stream, const struct conversation *talk)
{
    struct allowance allowance = allowance_of(stream, talk);
    uint64_t held_ns = scheduler_held_ns() - talk->phase_held_ns;
    uint64_t waited_ns = scheduler_now_ns() - allowance.since_ns;
    uint64_t once_ns = (allowance.ms + allowance.grain_ms) * MS_NS;

    if (allowance.ms > 0 && waited_ns > beginnings(&allowance, held_ns) * once_ns +
                                            allowance.holds * held_ns)
        report_failure("all is quiet, and conversation %u has waited for %llu us, in phase %d, "
                       "which is over %llu ms", talk->number,
                       (unsigned long long)waited_ns / 1000, talk->phase,
                       (unsigned long long)allowance.ms);
}

/* Of one call of handle() of a client's: where it waits for that client, or in weir_poll. */
static void look_at_request(const struct conversation *talk)
{
    uint64_t held_ns = scheduler_held_ns() - talk->handled_held_ns;
    uint64_t handled_ns = scheduler_now_ns() - talk->handled_since_ns;
    uint64_t most_ms = oracle_view.request_ms + CLOCK_COARSE_LAG_MS + GRAIN_MS;

    if (oracle_view.request_ms > 0 && talk->handled_since_ns > 0 && is_waiting(talk) &&
        handled_ns > most_ms * MS_NS + held_ns)
        report_failure("all is quiet, and conversation %u has been handled for %llu us, in phase "
                       "%d, which is over %u ms", talk->number,
                       (unsigned long long)handled_ns / 1000, talk->phase, oracle_view.request_ms);
}

static void look_at_deadline(struct stream *stream, void *arg)
{
    const struct conversation *talk = stream->user;

    (void)arg;
    look_at_wait(stream, talk);
    look_at_request(talk);
}

static void look_at_stream(struct stream *stream, void *arg)
{
    const struct conversation *talk = stream->user;
    const char *lost = what_is_lost(stream, talk);

    (void)arg;
    if (lost && !stream->connecting)
        report_failure("all is quiet, and conversation %u %s", talk->number, lost);
}

/* A drain ends who is idle, by its walk or because who keeps him looks. */
static void look_for_kept(struct stream *stream, void *arg)
{
    const struct conversation *talk = stream->user;
    bool is_idle = talk->phase == PHASE_IDLE || (talk->phase == PHASE_NEW && talk->client_first);

    (void)arg;
    if (is_idle && stream_is_writable(stream))
        report_failure("all is quiet, the server drains, and conversation %u is kept",
                       talk->number);
}

/* A cancel has returned: it ends each wait. */
static void look_for_waiting(struct stream *stream, void *arg)
{
    const struct conversation *talk = stream->user;

    (void)arg;
    if (is_waiting(talk))
        report_failure("all is quiet, the server is cancelled, and conversation %u waits",
                       talk->number);
}

/* What is in the ready queue is anybody's who has nothing to do. */
static void look_at_queue(void)
{
    const struct handoff *handoff = &oracle_view.server->pool->crew.handoff;

    /* What the handler's worker would have seen to waits for the tick: also a socket that an edge
     * has put there, whose datagrams hold their worker. */
    if (oracle_view.spares || (oracle_view.computing > 0 && oracle_view.datagrams))
        return;
    if (ready_queue_len(&handoff->queue) > 0 && handoff_anyone_asleep(handoff))
        report_failure("all is quiet, and %zu connections are in the ready queue beside a worker "
                       "that sleeps", ready_queue_len(&handoff->queue));
}

bool oracle_drain_is_seen(void)
{
    return oracle_view.server && crew_draining(&oracle_view.server->pool->crew);
}

void oracle_look(void)
{
    if (oracle_view.server)
        look_at_queue();
    sharer_look_at_rest();
    if (oracle_view.cancelled && !oracle_view.starves && !oracle_view.spares &&
        oracle_view.computing == 0)
        streams_each(look_for_waiting, NULL);
    if (oracle_view.drains && !oracle_view.spares && oracle_view.computing == 0)
        streams_each(look_for_kept, NULL);
    if (oracle_view.spares || oracle_view.is_ending || oracle_view.computing > 0)
        return;
    streams_each(look_at_stream, NULL);
    if (!oracle_view.computes && !oracle_view.starves)
        streams_each(look_at_deadline, NULL);
    /* Whoever waits for room is told when there is some. */
    if (!oracle_view.serves || quota_is_used_up(&oracle_view.server->quota))
        return;
    if (datagrams_waiting() > 0)
        report_failure("all is quiet, and %u datagrams wait to be received", datagrams_waiting());
    if (streams_waiting() > 0)
        report_failure("all is quiet, and %u clients wait to be accepted", streams_waiting());
}
