/* Sleep and wake-up: nothing is left in the queue beside a worker that sleeps. */
#include "engine/sync/handoff.h"
#include "tests/orders/events.h"
#include "tests/orders/memory.h"
#include "tests/orders/scenarios.h"

#include <string.h>

enum { WORKERS = 2, ITEMS = 2 };

struct item {
    _Alignas(READY_QUEUE_ALIGNMENT) int served;
};

static struct handoff handoff;
static struct epoll_set sets[WORKERS];
static struct item items[ITEMS];
static unsigned workers;
static bool is_stuck[WORKERS];      /* in a handler, for ever */
static int never;                   /* an event that nobody signals */

static void begin(unsigned workers_len, bool watched)
{
    events_reset();
    memset(&handoff, 0, sizeof(handoff));
    memset(items, 0, sizeof(items));
    memset(is_stuck, 0, sizeof(is_stuck));
    workers = workers_len;
    scenario_make_queue(&handoff.queue, ITEMS);
    handoff.sets = sets;
    handoff.workers = workers;
    handoff.watched = watched;
    handoff.watch_fd = event_create();
    for (unsigned i = 0; i < workers; i++)
        handoff.wake_fds[i] = event_create();
    never = event_create();
    atomic_init(&handoff.watching, !watched);
    memory_name(&handoff.sleeping[0], "sleeping");
    memory_name(&handoff.watching, "watching");
}

static void serve(unsigned self, struct item *item, bool sticks)
{
    item->served++;
    if (!sticks)
        return;
    is_stuck[self] = true;
    event_wait(never);
}

/* As worker.c's sleep_or_take_events() and run_queue(). */
static void wake_up(unsigned self, bool sticks)
{
    bool called = handoff_awake(&handoff, self);
    struct item *item = (struct item *)ready_queue_pop(&handoff.queue);

    if (called)
        handoff_pass_on(&handoff);
    if (item)
        serve(self, item, sticks);
}

static void turn(unsigned self, bool sticks)
{
    handoff_sleep(&handoff, self);
    if (ready_queue_empty(&handoff.queue))
        event_wait(handoff.wake_fds[self]);
    else
        event_look(handoff.wake_fds[self]);
    wake_up(self, sticks);
}

static void work(void *arg)
{
    unsigned self = *(unsigned *)arg;

    for (;;)
        turn(self, false);
}

static void work_and_stick(void *arg)
{
    unsigned self = *(unsigned *)arg;

    for (;;)
        turn(self, true);
}

static void put(void *arg)
{
    struct item *item = arg;

    item->served = 0;
    handoff_put(&handoff, (struct connection *)item);
    handoff_call(&handoff, 1);
}

static void put_both(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < ITEMS; i++)
        handoff_put(&handoff, (struct connection *)&items[i]);
    handoff_call(&handoff, ITEMS);
}

static void put_one_by_one(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < ITEMS; i++)
        put(&items[i]);
}

static unsigned numbers[WORKERS] = { 0, 1 };

static void begin_one_worker(void)
{
    begin(1, false);
    explorer_add(work, &numbers[0]);
    explorer_add(put_one_by_one, NULL);
}

/* Nobody can go on: whoever is not stuck sleeps, and then nothing may be queued. */
static void end_quiet(void)
{
    unsigned stuck = 0;

    for (unsigned i = 0; i < workers; i++)
        stuck += is_stuck[i];
    if (stuck < workers && ready_queue_len(&handoff.queue) > 0)
        explorer_fail("something is queued, and a worker sleeps");
}

const struct scenario handoff_one_worker = {
    .name = "handoff_one_worker",
    .what = "two are put, one after another: the worker does not sleep beside one",
    .begin = begin_one_worker,
    .end = end_quiet,
};

/* The first one called goes into a handler for ever: another serves what is left. */
static void begin_stuck(void)
{
    begin(2, false);
    explorer_add(work_and_stick, &numbers[0]);
    explorer_add(work_and_stick, &numbers[1]);
    explorer_add(put_both, NULL);
}

const struct scenario handoff_stuck = {
    .name = "handoff_stuck",
    .what = "two are put at once, and whoever serves one never comes back",
    .begin = begin_stuck,
    .end = end_quiet,
};

/* The acceptor stops ticking when all sleep; the first one that wakes calls it. */
static bool watcher_ticks;

static void watch(void *unused)
{
    (void)unused;
    watcher_ticks = true;
    if (!handoff_unwatch(&handoff))
        return;
    watcher_ticks = false;
    event_wait(handoff.watch_fd);
    watcher_ticks = true;
}

static void begin_watch(void)
{
    begin(1, true);
    watcher_ticks = false;
    atomic_init(&handoff.watching, true);
    explorer_add(work_and_stick, &numbers[0]);
    explorer_add(put, &items[0]);
    explorer_add(watch, NULL);
}

static void end_watch(void)
{
    end_quiet();
    if (is_stuck[0] && !watcher_ticks)
        explorer_fail("a worker is in a handler for ever, and the acceptor sleeps");
}

const struct scenario handoff_watch = {
    .name = "handoff_watch",
    .what = "the acceptor rests only while every worker sleeps",
    .begin = begin_watch,
    .end = end_watch,
};

/*
 * One is put before and one after a worker looks, which then sticks with the first one: the second
 * one's call finds it, or the other worker, which sleeps from the beginning.
 */
static void sleep_and_stick(void *arg)
{
    unsigned self = *(unsigned *)arg;

    event_wait(handoff.wake_fds[self]);
    wake_up(self, true);
    turn(self, true);
}

static void begin_stuck_later(void)
{
    begin(2, false);
    atomic_init(&handoff.sleeping[0], 1u << 1);
    explorer_add(work_and_stick, &numbers[0]);
    explorer_add(sleep_and_stick, &numbers[1]);
    explorer_add(put_one_by_one, NULL);
}

const struct scenario handoff_stuck_later = {
    .name = "handoff_stuck_later",
    .what = "two are put one after another, and whoever serves one never comes back",
    .begin = begin_stuck_later,
    .end = end_quiet,
};
