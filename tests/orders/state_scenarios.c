/* The state word: no edge is lost, and a connection has one owner at a time. */
#include "engine/pool/pool.h"
#include "engine/pool/room.h"
#include "tests/orders/events.h"
#include "tests/orders/memory.h"
#include "tests/orders/scenarios.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { CAPACITY = 2 };

static struct pool pool;
static struct connection *conn;
static _Alignas(WEIR_CACHE_LINE) unsigned char room[2 * WEIR_CACHE_LINE + 64];
static struct connection *_Atomic slots[1];
static int socket_event;            /* its signal: bytes have come, and are not read */
static int woken;                   /* a message in the worker's inbox */
static int timer;
static unsigned served;             /* turns that the connection has had */

static void begin(enum connection_state state)
{
    events_reset();
    memset(&pool, 0, sizeof(pool));
    scenario_make_queue(&pool.crew.handoff.queue, CAPACITY);
    pool.crew.drain_fd = -1;
    pool.crew.cancel_fd = -1;
    pool.crew.table.private = true;     /* the walk needs no grace period: nothing is freed */
    pool.crew.table.slots = slots;
    pool.crew.table.size = 1;
    atomic_init(&pool.crew.table.used, 1);
    memset(room, 0, sizeof(room));
    conn = (struct connection *)(void *)room;
    atomic_init(&conn->state, state);
    atomic_init(&slots[0], conn);
    socket_event = event_create();
    woken = event_create();
    timer = event_create();
    served = 0;
    memory_name(&conn->state, "state");
    memory_name(&pool.crew.order, "order");
    memory_name(&slots[0], "table");
    memory_name(&pool.crew.handoff.sleeping[0], "sleeping");
}

/* ------------------------------------------------------------------ parking ----------- */

static bool has_read;

/* As rfile's wait: the owner reads until there is something, and parks when there is not. */
static void read_and_park(void *unused)
{
    (void)unused;
    while (!event_look(socket_event)) {
        conn->drained = true;
        if (!connection_park(conn))
            continue;
        event_wait(woken);
        conn->drained = false;
    }
    has_read = true;
}

/* Bytes come, and a thread sees the edge: as dispatch(). */
static void arrive(void *unused)
{
    (void)unused;
    event_signal(socket_event);
    if (connection_ready(conn, EPOLLIN) != CONNECTION_RESUME)
        return;
    conn->late = CONNECTION_NOT_LATE;   /* for this moment it is ours */
    event_signal(woken);
}

static void begin_park(void)
{
    begin(CONNECTION_RUNNING);
    has_read = false;
    explorer_add(read_and_park, NULL);
    explorer_add(arrive, NULL);
}

static void end_park(void)
{
    if (!has_read)
        explorer_fail("bytes have come, and the reader sleeps");
}

const struct scenario state_park = {
    .name = "state_park",
    .what = "bytes come while a reader parks: it reads them",
    .begin = begin_park,
    .end = end_park,
};

/* The same with a timer, whose worker may take the connection back itself. */
static bool waits_on(void)
{
    if (event_look(timer) && connection_unpark(conn))
        return false;
    /* The message that says that it is ready is on its way. */
    event_wait(woken);
    return true;
}

static void read_with_timer(void *unused)
{
    (void)unused;
    while (!event_look(socket_event)) {
        conn->drained = true;
        if (!connection_park(conn))
            continue;
        has_read = true;        /* whatever comes first: it goes on */
        if (!waits_on()) {
            conn->late = CONNECTION_READ_LATE;
            return;
        }
        conn->drained = false;
    }
    has_read = true;
}

static void expire(void *unused)
{
    (void)unused;
    event_signal(timer);
}

static void begin_timer(void)
{
    begin(CONNECTION_RUNNING);
    has_read = false;
    explorer_add(read_with_timer, NULL);
    explorer_add(arrive, NULL);
    explorer_add(expire, NULL);
}

static void end_timer(void)
{
    if (!explorer_has_ended(0))
        explorer_fail("the reader sleeps, although bytes have come");
}

const struct scenario state_timer = {
    .name = "state_timer",
    .what = "bytes and a timer at once: one of them wakes the reader",
    .begin = begin_timer,
    .end = end_timer,
};

/* ------------------------------------------------------------------ idle -------------- */

/* A worker that pops the connection, and has it for a turn. */
static void serve(void)
{
    struct connection *popped = ready_queue_pop(&pool.crew.handoff.queue);

    if (!popped)
        return;
    connection_start(popped);
    popped->began = true;
    served++;
}

static void keep(void *unused)
{
    (void)unused;
    conn->sent = 1;
    if (connection_keep(conn))
        return;
    conn->sent = 2;
    served++;
}

/* An edge finds it, in whatever state. */
static void become_ready(void *unused)
{
    (void)unused;
    event_signal(socket_event);
    if (connection_ready(conn, EPOLLIN) != CONNECTION_QUEUE)
        return;
    conn->sent++;
    handoff_put(&pool.crew.handoff, conn);
    serve();
}

/* A sweep ends it, if it is idle. */
static void sweep(void *unused)
{
    (void)unused;
    if (!connection_claim(conn))
        return;
    conn->sent++;
    handoff_put(&pool.crew.handoff, conn);
    serve();
}

static void begin_keep(void)
{
    begin(CONNECTION_RUNNING);
    explorer_add(keep, NULL);
    explorer_add(become_ready, NULL);
    explorer_add(sweep, NULL);
}

static void end_keep(void)
{
    if (served == 0)
        explorer_fail("bytes have come to an idle connection, and nobody has served it");
}

const struct scenario state_keep = {
    .name = "state_keep",
    .what = "a connection is kept while bytes come and a sweep looks: it has one owner",
    .begin = begin_keep,
    .end = end_keep,
};

/* ------------------------------------------------------------------ draining ---------- */

/* As worker.c's settle(). */
static void keep_before_drain(void *unused)
{
    (void)unused;
    conn->sent = 1;
    connection_keep(conn);
    if (crew_draining(&pool.crew))
        crew_queue_idle(&pool.crew, NULL, NULL);
}

static void drain(void *unused)
{
    (void)unused;
    pool_drain(&pool);
}

static void begin_drain(void)
{
    begin(CONNECTION_RUNNING);
    explorer_add(keep_before_drain, NULL);
    explorer_add(drain, NULL);
}

static void end_drain(void)
{
    if (connection_state(conn) == CONNECTION_IDLE)
        explorer_fail("a connection is idle, and the drain has passed it by");
    if (ready_queue_len(&pool.crew.handoff.queue) != 1)
        explorer_fail("a connection was queued %zu times",
                      ready_queue_len(&pool.crew.handoff.queue));
}

const struct scenario state_drain = {
    .name = "state_drain",
    .what = "a connection becomes idle as a drain begins: it is ended",
    .begin = begin_drain,
    .end = end_drain,
};

/* The next owner does what a worker does with one that a sweep has queued. */
static void requeue(void *unused)
{
    (void)unused;
    conn->sent = 7;
    connection_requeue(conn);
    handoff_put(&pool.crew.handoff, conn);
}

static void serve_once(void *unused)
{
    (void)unused;
    serve();
}

static void mark(void *unused)
{
    (void)unused;
    connection_ready(conn, EPOLLIN);
}

static void begin_requeue(void)
{
    begin(CONNECTION_RUNNING);
    explorer_add(requeue, NULL);
    explorer_add(serve_once, NULL);
    explorer_add(mark, NULL);
}

const struct scenario state_requeue = {
    .name = "state_requeue",
    .what = "a connection passes from one worker to the next while an edge comes",
    .begin = begin_requeue,
};

/* ------------------------------------------------------------------ the table --------- */

static struct connection *created;
static struct endpoint endpoint;
static int family_seen;

static void create(void *unused)
{
    (void)unused;
    created = connection_create_opened(&pool.crew.table, 0, AF_INET, &endpoint, NULL);
}

static void note_family(struct connection *found, void *unused)
{
    (void)unused;
    family_seen = found->family;
}

static void walk(void *unused)
{
    (void)unused;
    family_seen = AF_INET;
    connection_table_each(&pool.crew.table, note_family, NULL);
    if (family_seen != AF_INET)
        explorer_fail("a walk has found a connection that is not made yet");
}

static void begin_enter(void)
{
    begin(CONNECTION_CLOSED);
    free(created);
    created = NULL;
    atomic_init(&slots[0], NULL);
    explorer_add(create, NULL);
    explorer_add(walk, NULL);
}

const struct scenario state_enter = {
    .name = "state_enter",
    .what = "a walk finds a connection that enters the table whole, or not at all",
    .begin = begin_enter,
};

/* ------------------------------------------------------------------ a batch ----------- */

static _Alignas(WEIR_CACHE_LINE) struct worker worker;
static bool is_taken[MEMORY_THREADS];

static void take_from_batch(void *unused)
{
    struct connection *got = worker_take_from_batch(&worker, 0);

    (void)unused;
    if (!got)
        return;
    got->sent++;
    is_taken[explorer_thread()] = true;
}

static void fill_batch(void *unused)
{
    conn->sent = 1;
    worker_put_into_batch(&worker, 0, conn);
    take_from_batch(unused);
}

static void begin_batch(void)
{
    begin(CONNECTION_QUEUED);
    memset(&worker, 0, sizeof(worker));
    memset(is_taken, 0, sizeof(is_taken));
    memory_name(&worker.batch[0], "batch");
    explorer_add(fill_batch, NULL);
    explorer_add(take_from_batch, NULL);
    explorer_add(take_from_batch, NULL);
}

static void end_batch(void)
{
    if (is_taken[0] + is_taken[1] + is_taken[2] != 1)
        explorer_fail("%d have taken it", is_taken[0] + is_taken[1] + is_taken[2]);
}

const struct scenario state_batch = {
    .name = "state_batch",
    .what = "the owner of a batch and two rescuers: one of them gets what is in it",
    .begin = begin_batch,
    .end = end_batch,
};

/* ------------------------------------------------------------------ places ------------ */

static struct quota quota;
static bool found_place;
static int state_of_handler;

/* As accepting does when the server is full. */
static void wait_for_place(void *unused)
{
    (void)unused;
    while (quota_take(&quota, 1) == 0) {
        connection_table_want_room(&pool.crew.table, SIZE_MAX);
        if (quota_take(&quota, 1) > 0)
            break;
        event_wait(pool.crew.table.room_fd);
    }
    found_place = true;
    state_of_handler++;
}

static void give_place(void *unused)
{
    (void)unused;
    state_of_handler++;
    connection_table_release(&pool.crew.table, &quota, 1);
}

static void give_back_in_vain(void *unused)
{
    (void)unused;
    connection_table_give_back(&pool.crew.table, &quota, 1);
}

static void begin_places(unsigned taken)
{
    begin(CONNECTION_QUEUED);
    memset(&quota, 0, sizeof(quota));
    quota.max = 1;
    atomic_init(&quota.count, taken);
    atomic_init(&pool.crew.table.room_below, 0);
    pool.crew.table.room_fd = event_create();
    found_place = false;
    state_of_handler = 0;
    memory_name(&quota.count, "places taken");
    memory_name(&quota.lacked, "lacked");
    memory_name(&pool.crew.table.room_below, "room wanted");
}

static void begin_release(void)
{
    begin_places(1);
    explorer_add(wait_for_place, NULL);
    explorer_add(give_place, NULL);
}

static void end_places(void)
{
    if (!found_place)
        explorer_fail("a place is free, and who waits for one sleeps");
}

const struct scenario places_release = {
    .name = "places_release",
    .what = "a connection ends while somebody waits for its place",
    .begin = begin_release,
    .end = end_places,
};

static void begin_give_back(void)
{
    begin_places(1);
    explorer_add(wait_for_place, NULL);
    explorer_add(give_back_in_vain, NULL);
}

const struct scenario places_give_back = {
    .name = "places_give_back",
    .what = "a place taken in vain goes back while somebody waits for one",
    .begin = begin_give_back,
    .end = end_places,
};

/* Of one place, two takers. */
static unsigned takers;

static void take_place(void *unused)
{
    (void)unused;
    if (quota_take(&quota, 1) == 0)
        return;
    takers++;
    if (takers > 1)
        explorer_fail("two have taken one place");
    takers--;
    connection_table_release(&pool.crew.table, &quota, 1);
}

static void begin_takers(void)
{
    begin_places(0);
    takers = 0;
    explorer_add(take_place, NULL);
    explorer_add(take_place, NULL);
}

const struct scenario places_takers = {
    .name = "places_takers",
    .what = "two take one place, one after the other",
    .begin = begin_takers,
};

/* ------------------------------------------------------------------ others wait ------- */

/* Once others have waited for long, clients have less time than this. */
enum { LONG_AGO_MS = 1000, SILENT_MS = 1000, HOUR_MS = 3600000 };

static struct quota_want want;

static void find_no_place(void *unused)
{
    (void)unused;
    if (room_silent_ms(&want, LONG_AGO_MS + HOUR_MS) != SILENT_MS)
        explorer_fail("clients are hurried, and nobody has waited for long");
}

static void begin_want(void)
{
    atomic_init(&want.asked_ms, LONG_AGO_MS);
    atomic_init(&want.since_ms, LONG_AGO_MS);
    memory_name(&want.asked_ms, "asked");
    memory_name(&want.since_ms, "since");
    explorer_add(find_no_place, NULL);
    explorer_add(find_no_place, NULL);
}

const struct scenario places_want = {
    .name = "places_want",
    .what = "two find no place after an hour in which nobody waited",
    .begin = begin_want,
};
