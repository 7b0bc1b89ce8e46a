/*
 * room.c - who goes, when others wait for a place:
 *
 *   a client that         counts since                                          goes after
 *   has been answered     its last answer                                       FRESH_MS   first
 *   has not spoken yet    it was accepted                                       SILENT_MS* first
 *   is in a head          the first wait of this call of handle()               SILENT_MS* then
 *   sends a body          it has been slower than progress_timeout_ms asks for  SILENT_MS* then
 *   takes a reply         likewise, as of what the kernel still has             SILENT_MS* then
 *   has its end awaited   it was told of the end (linger.c)                     SILENT_MS* then
 *
 * (*: or HURRIED_MS, if others have waited for long.)
 *
 * The first two are IDLE: nothing is lost with them, and what has just come is served. The others
 * are PARKED, and go only if the request is bounded. Of both the longest go first, whichever they
 * are. Without a head_timeout_ms a head counts as its last wait does, and so does a body or a reply
 * without a progress_timeout_ms: such a client may be as slow as it likes while something moves.
 */
#include "engine/pool/room.h"

#include "engine/base/clock.h"
#include "engine/pool/family.h"
#include "engine/pool/transport.h"
#include "engine/pool/worker.h"

#include <errno.h>

/* Ended at a time: of all that are seen an eighth at most, but one in any case. */
#define BATCH 32
#define SHARE 8

/* Between two walks; as many times as long as a walk took, too. */
#define PAUSE_NS 10000000
#define PAUSE_WALKS 10

/* ... after one that has found nobody. */
#define PAUSE_IN_VAIN_NS 50000000

/*
 * A connection that has been idle for less than FRESH_MS makes no room. A client that has connected
 * and not spoken yet is given SILENT_MS: the time that its bytes may take to come on a busy machine
 * or from far away. So is one that its handler waits for. But once others have waited for as long,
 * without a pause of more than PAUSE_MS, it is HURRIED_MS: behind as many such clients as there are
 * places one waits for two rounds of them, and is to be answered within two seconds.
 */
#define FRESH_MS 100
#define SILENT_MS 1000
#define HURRIED_MS 500
#define PAUSE_MS 500

/* In a rank: whoever is idle goes before whoever is in the middle of a request. */
#define IS_AWAITED (UINT64_C(1) << 63)

/* Of those that were seen the first to go. */
struct longest {
    const struct quota *quota;              /* of which they are; NULL: of any */
    uint64_t now_ms;
    uint64_t silent_ms;                     /* SILENT_MS or HURRIED_MS */
    size_t seen;                            /* at all */
    unsigned len;
    struct connection *conns[BATCH];
    uint64_t ranks[BATCH];                  /* since when, and IS_AWAITED; the least goes first */
};

/* Returns true if it has waited for long enough since then; 0: it makes no room. */
static bool is_due(uint64_t since_ms, uint64_t now_ms, uint64_t least_ms)
{
    return since_ms != 0 && now_ms >= since_ms + least_ms;
}

/* Since when its handler waits for the client; 0: it doesn't, or the client may take any time. */
static uint64_t awaited_since_ms(const struct connection *conn)
{
    uint64_t noted = connection_noted(conn);
    bool is_awaited = connection_wait_of(noted) >= CONNECTION_WAITS_FOR_PEER;

    return is_awaited && (noted & CONNECTION_IS_BOUNDED) ? connection_since_ms(noted) : 0;
}

/* CLOCK_NEVER: it makes no room, or has not waited for long enough. */
static uint64_t rank_in(const struct longest *longest, const struct connection *conn)
{
    bool is_awaited = connection_state(conn) == CONNECTION_PARKED;
    bool is_silent = true;
    uint64_t since_ms = is_awaited ? awaited_since_ms(conn)
                                   : connection_idle_since_ms(conn, &is_silent);

    if (!is_due(since_ms, longest->now_ms, is_silent ? longest->silent_ms : FRESH_MS))
        return CLOCK_NEVER;
    return is_awaited ? since_ms | IS_AWAITED : since_ms;
}

static bool waits_for_client(const struct connection *conn)
{
    enum connection_state state = connection_state(conn);

    return conn->kind == CONNECTION_ACCEPTED &&
           (state == CONNECTION_IDLE || state == CONNECTION_PARKED);
}

static void consider(struct connection *conn, void *arg)
{
    struct longest *longest = arg;
    uint64_t rank;
    unsigned at;

    if (!waits_for_client(conn))
        return;
    if (longest->quota && conn->endpoint->quota != longest->quota)
        return;
    longest->seen++;
    rank = rank_in(longest, conn);
    if (rank == CLOCK_NEVER)
        return;
    if (longest->len == BATCH && rank >= longest->ranks[BATCH - 1])
        return;
    at = longest->len < BATCH ? longest->len++ : BATCH - 1;
    for (; at > 0 && longest->ranks[at - 1] > rank; at--) {
        longest->conns[at] = longest->conns[at - 1];
        longest->ranks[at] = longest->ranks[at - 1];
    }
    longest->conns[at] = conn;
    longest->ranks[at] = rank;
}

/*
 * Its handler's wait is over, as if the time for it had passed. However often it is ousted, since a
 * last look may find input, it makes room once, and ends in any case. A handler with children is
 * never ousted: its waits are not bounded, and one that began without children ends without.
 */
static void deliver_ousted(struct worker *worker, struct message *message)
{
    struct connection *conn = caa_container_of(message, struct connection, woken);

    if (!conn->unplaced)
        tally_add(&worker->tally, TALLY_MADE_ROOM, 1);
    conn->ousted = true;
    conn->unplaced = true;
    task_unpark(conn->task, -ETIMEDOUT);
}

/* A later wait, or that of a child, which the note said nothing of. */
static void deliver_false_alarm(struct worker *worker, struct message *message)
{
    struct connection *conn = caa_container_of(message, struct connection, woken);

    (void)worker;
    family_wake_all(conn);
}

/*
 * How much later its wait counts from than its note says. Linux tells of room in lumps, of which a
 * peer may take for seconds, in one wait: so the kernel is asked what it has taken.
 */
static uint64_t earned_ms(struct connection *conn)
{
    const struct task *task = conn->task;
    size_t unsent;

    if (connection_wait_of(connection_noted(conn)) != CONNECTION_WAITS_WRITE)
        return 0;
    unsent = transport_of(conn)->unsent(conn);
    return unsent < task->unsent ? (task->unsent - (uint64_t)unsent) * task->earns >> 16 : 0;
}

/*
 * Returns true if its handler has waited for too long. Once it has been taken nobody else ends its
 * wait, and that may be a later one, of a client that is in time.
 */
static bool oust(struct connection *conn, const struct longest *longest)
{
    uint64_t since_ms;
    bool still_waits;

    if (!connection_unpark(conn))
        return false;
    since_ms = awaited_since_ms(conn);
    /* Where it is awaited, its task waits and stays as it is. */
    still_waits = since_ms != 0 && is_due(since_ms, longest->now_ms,
                                          longest->silent_ms + earned_ms(conn));
    conn->woken.deliver = still_waits ? deliver_ousted : deliver_false_alarm;
    /* From here on it is its worker's. */
    worker_tell(conn->task->worker, &conn->woken);
    return still_waits;
}

static unsigned end_some(struct crew *crew, const struct longest *longest)
{
    size_t most = longest->seen / SHARE + 1;
    unsigned ousted = 0, queued = 0;

    for (unsigned i = 0; i < longest->len && ousted + queued < most; i++) {
        struct connection *conn = longest->conns[i];

        if (longest->ranks[i] & IS_AWAITED) {
            ousted += oust(conn, longest);
        } else if (connection_claim(conn)) {
            conn->unplaced = true;
            handoff_put(&crew->handoff, conn);
            queued++;
        }
    }
    handoff_call(&crew->handoff, queued);
    return ousted + queued;
}

/* True: nobody else does, and the last walk is long enough ago. */
static bool may_walk(_Atomic uint64_t *walk_next_ns, uint64_t now_ns)
{
    /* relaxed: a moment; of several that see it come, one exchanges. pairs: put_off_walks() */
    uint64_t next_ns = atomic_load_explicit(walk_next_ns, memory_order_relaxed);
    return now_ns >= next_ns &&
           atomic_compare_exchange_strong_explicit(walk_next_ns, &next_ns, CLOCK_NEVER,
                                                   memory_order_relaxed, memory_order_relaxed);
}

static void put_off_walks(_Atomic uint64_t *walk_next_ns, uint64_t began_ns, bool in_vain)
{
    uint64_t now_ns = clock_ns();
    uint64_t pause_ns = clock_since(began_ns, now_ns) * PAUSE_WALKS;
    uint64_t least_ns = in_vain ? PAUSE_IN_VAIN_NS : PAUSE_NS;

    if (pause_ns < least_ns)
        pause_ns = least_ns;
    /* relaxed: a moment. pairs: may_walk() */
    atomic_store_explicit(walk_next_ns, now_ns + pause_ns, memory_order_relaxed);
}

uint64_t room_silent_ms(struct quota_want *want, uint64_t now_ms)
{
    /* acquire: with the moment of the last asker it sees since when there have been any, and not
     * the moment that was noted before a pause. pairs: the release below */
    uint64_t asked_ms = atomic_load_explicit(&want->asked_ms, memory_order_acquire);
    bool begins = clock_since(asked_ms, now_ms) > PAUSE_MS;
    uint64_t since_ms;

    /* relaxed: of several that find a pause each notes its own moment, and any of them will do; the
     * release below passes it on. pairs: the load below */
    if (begins)
        atomic_store_explicit(&want->since_ms, now_ms, memory_order_relaxed);
    /* relaxed: see the acquire above. pairs: the store above */
    since_ms = atomic_load_explicit(&want->since_ms, memory_order_relaxed);
    /* release: who sees that others have just asked sees since when. pairs: the acquire above */
    atomic_store_explicit(&want->asked_ms, now_ms, memory_order_release);
    return !begins && clock_since(since_ms, now_ms) >= SILENT_MS ? HURRIED_MS : SILENT_MS;
}

unsigned room_make(struct crew *crew, struct quota *quota)
{
    struct quota_want *want = quota ? &quota->want : &crew->want;
    uint64_t now_ns = clock_ns();
    uint64_t now_ms = now_ns / 1000000;
    struct longest longest = {
        .quota = quota, .now_ms = now_ms, .silent_ms = room_silent_ms(want, now_ms),
    };
    unsigned ended;

    if (crew->drain_fd >= 0 || !may_walk(&want->walk_next_ns, now_ns))
        return 0;
    /* What the walk has seen must still be there when it is claimed. */
    reclaim_enter();
    connection_table_each(&crew->table, consider, &longest);
    ended = end_some(crew, &longest);
    reclaim_exit();
    put_off_walks(&want->walk_next_ns, now_ns, ended == 0);
    return ended;
}

uint64_t room_next_ms(const struct quota *quota)
{
    /* relaxed: a moment. pairs: none */
    uint64_t next_ns = atomic_load_explicit(&quota->want.walk_next_ns, memory_order_relaxed);

    return next_ns / 1000000 + 1;
}
