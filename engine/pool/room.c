#include "engine/pool/room.h"

#include "engine/base/clock.h"

/* Ended at a time: of all that are idle an eighth at most, but one in any case. */
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
 * or from far away.
 */
#define FRESH_MS 100
#define SILENT_MS 1000

/* The longest idle of those that were seen, the longest first. */
struct longest {
    const struct quota *quota;              /* of which they are; NULL: of any */
    uint64_t now_ms;
    size_t idle;                            /* seen at all */
    unsigned len;
    struct connection *conns[BATCH];
    uint64_t since_ms[BATCH];
};

/* Since when it is idle; CLOCK_NEVER: not long enough to make room. */
static uint64_t may_go_since_ms(const struct longest *longest, const struct connection *conn)
{
    bool is_silent;
    uint64_t since_ms = connection_idle_since_ms(conn, &is_silent);

    if (since_ms == 0 || longest->now_ms < since_ms + (is_silent ? SILENT_MS : FRESH_MS))
        return CLOCK_NEVER;
    return since_ms;
}

static void consider(struct connection *conn, void *arg)
{
    struct longest *longest = arg;
    uint64_t since_ms;
    unsigned at;

    if (conn->kind != CONNECTION_ACCEPTED || connection_state(conn) != CONNECTION_IDLE)
        return;
    if (longest->quota && conn->endpoint->quota != longest->quota)
        return;
    longest->idle++;
    since_ms = may_go_since_ms(longest, conn);
    if (since_ms == CLOCK_NEVER)
        return;
    if (longest->len == BATCH && since_ms >= longest->since_ms[BATCH - 1])
        return;
    at = longest->len < BATCH ? longest->len++ : BATCH - 1;
    for (; at > 0 && longest->since_ms[at - 1] > since_ms; at--) {
        longest->conns[at] = longest->conns[at - 1];
        longest->since_ms[at] = longest->since_ms[at - 1];
    }
    longest->conns[at] = conn;
    longest->since_ms[at] = since_ms;
}

static unsigned end_some(struct crew *crew, const struct longest *longest)
{
    size_t most = longest->idle / SHARE + 1;
    unsigned ended = 0;

    for (unsigned i = 0; i < longest->len && ended < most; i++) {
        struct connection *conn = longest->conns[i];

        if (!connection_claim(conn))
            continue;
        conn->unplaced = true;
        handoff_put(&crew->handoff, conn);
        ended++;
    }
    handoff_call(&crew->handoff, ended);
    return ended;
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

unsigned room_make(struct crew *crew, struct quota *quota)
{
    _Atomic uint64_t *walk_next_ns = quota ? &quota->room_next_ns : &crew->room_next_ns;
    uint64_t now_ns = clock_ns();
    struct longest longest = { .quota = quota, .now_ms = now_ns / 1000000 };
    unsigned ended;

    if (crew->drain_fd >= 0 || !may_walk(walk_next_ns, now_ns))
        return 0;
    /* What the walk has seen must still be there when it is claimed. */
    reclaim_enter();
    connection_table_each(&crew->table, consider, &longest);
    ended = end_some(crew, &longest);
    reclaim_exit();
    put_off_walks(walk_next_ns, now_ns, ended == 0);
    return ended;
}

uint64_t room_next_ms(const struct quota *quota)
{
    /* relaxed: a moment. pairs: none */
    uint64_t next_ns = atomic_load_explicit(&quota->room_next_ns, memory_order_relaxed);

    return next_ns / 1000000 + 1;
}
