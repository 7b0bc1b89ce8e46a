#include "tests/simulation/world.h"

#include "engine/base/clock.h"
#include "engine/fiber/stack.h"
#include "engine/server/server.h"
#include "engine/weir.h"
#include "tests/simulation/calls.h"
#include "tests/simulation/client.h"
#include "tests/simulation/contents.h"
#include "tests/simulation/epoll.h"
#include "tests/simulation/files.h"
#include "tests/simulation/handler.h"
#include "tests/simulation/hooks.h"
#include "tests/simulation/http_handler.h"
#include "tests/simulation/memory.h"
#include "tests/simulation/oracle.h"
#include "tests/simulation/report.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/sender.h"
#include "tests/simulation/sharer.h"
#include "tests/simulation/streams.h"
#include "tests/simulation/submitter.h"
#include "tests/simulation/threads.h"
#include "tests/simulation/trace.h"
#include "tests/simulation/upstream.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PORT 7
#define UPSTREAM_PORT 9
#define SUBMIT_PORT 11
#define SENDERS_MAX 8
#define CLIENTS_MAX 64
#define RECORDS 8

/* Every client has room for the ten segments that a server may send at once: see linger.c. */
#define WINDOW_MIN ((size_t)16 << 10)

/* Clients that are not done by then make no more pauses, and threads lose the CPU for short. */
#define PATIENCE_NS (20 * 1000 * MS_NS)

/* By then everybody is done, or never will be. */
#define LIFE_NS (3600 * 1000 * MS_NS)

const char *const feature_names[FEATURES] = {
    "preemption", "priorities", "stalls", "time", "waits", "big", "pipelining", "pauses",
    "departures", "timeouts", "limits", "interrupts", "calls", "memory", "stop", "cancel", "rules",
    "options", "datagrams", "modes",
    "rush", "acceptors", "again", "http",
    "files", "upstream", "unix", "submit", "places", "share", "children",
};

/* One run. */
static struct {
    uint64_t seed;
    uint32_t features;
    uint32_t clients_len;
    struct client_manners manners;
    struct weir_options options;
    uint64_t stop_ns;           /* when the server is stopped; 0: when all clients are done */
    uint64_t cancel_ns;
    struct weir_server *server;
    struct client clients[CLIENTS_MAX];
    uint32_t senders_len;
    struct sender_manners sending;
    struct sender senders[SENDERS_MAX];
    struct submitter submitter;
    struct calls_faults calls;
    struct threads_faults threads;
    uint64_t memory_in;
    size_t blocks_before;
    bool lacks_descriptors;
    bool over;
} world;

/* ------------------------------------------------------------------ the seed's word --- */

/* Dice for one feature: what it draws is the same whatever else is in the run. */
static struct dice dice_of(enum feature feature)
{
    struct dice dice;

    dice_init(&dice, world.seed * 131 + feature);
    return dice;
}

/* For what every run has. A number that no feature has had: new ones leave the runs as they are. */
#define DICE_OF_ALL 28

static bool has(enum feature feature)
{
    return world.features >> feature & 1;
}

/* Each of them in about half of the runs, faults in fewer. */
static uint32_t draw_features(void)
{
    static const unsigned in[FEATURES] = {
        [FEATURE_MEMORY] = 6, [FEATURE_CALLS] = 6, [FEATURE_CANCEL] = 6, [FEATURE_STOP] = 4,
        [FEATURE_LIMITS] = 6, [FEATURE_STALLS] = 3, [FEATURE_RULES] = 6, [FEATURE_TIMEOUTS] = 3,
        [FEATURE_DATAGRAMS] = 3, [FEATURE_MODES] = 8, [FEATURE_RUSH] = 3,
        [FEATURE_ACCEPTORS] = 5, [FEATURE_AGAIN] = 5,
        [FEATURE_HTTP] = 4, [FEATURE_FILES] = 4, [FEATURE_UPSTREAM] = 4, [FEATURE_UNIX] = 5,
        [FEATURE_SUBMIT] = 5, [FEATURE_PLACES] = 3, [FEATURE_SHARE] = 4,
        [FEATURE_CHILDREN] = 4,
    };
    uint32_t features = 0;

    for (unsigned i = 0; i < FEATURES; i++) {
        struct dice dice;

        dice_init(&dice, world.seed * 977 + i);
        if (dice_once_in(&dice, in[i] > 0 ? in[i] : 2))
            features |= 1u << i;
    }
    return features;
}

static struct scheduler_options draw_schedule(void)
{
    struct dice dice = dice_of(FEATURE_PREEMPTION);
    struct dice time = dice_of(FEATURE_TIME);
    struct dice stalls = dice_of(FEATURE_STALLS);
    static const uint32_t spans[] = { 20, 60, 200, 600, 2000, 6000 };
    struct scheduler_options options = {
        .seed = world.seed, .span = 4000, .call_weight = 40, .actor_in = 3,
    };

    options.actor_in = (uint32_t)dice_between(&dice, 1, 8);
    options.span = spans[dice_below(&dice, 6)];
    if (has(FEATURE_PREEMPTION)) {
        options.atomic_weight = (uint32_t)dice_between(&dice, 1, 20);
        options.plain_weight = (uint32_t)dice_below(&dice, 2);
    }
    options.by_priority = has(FEATURE_PRIORITIES);
    if (has(FEATURE_TIME))
        options.step_ns = (uint32_t)dice_around(&time, UINT64_C(1) << dice_between(&time, 4, 14));
    if (has(FEATURE_STALLS)) {
        options.stall_in = (uint32_t)dice_around(&stalls, 300);
        options.stall_ns = UINT64_C(1) << dice_between(&stalls, 14, 26);
    }
    if (has(FEATURE_PLACES))
        hooks_choose_places(world.seed * 5683);
    return options;
}

static void draw_rush(void)
{
    struct dice dice = dice_of(FEATURE_RUSH);

    if (!has(FEATURE_RUSH))
        return;
    world.clients_len = (uint32_t)dice_between(&dice, 20, CLIENTS_MAX);
    world.manners.requests = (uint32_t)dice_between(&dice, 1, 10);
    world.manners.rush_ns = UINT64_C(1) << dice_between(&dice, 18, 25);
}

/* What lines don't say; and some more room for it. */
static void draw_http(char *says)
{
    static const char *const letters[] = {
        "", "HO", "HON", "EU", "EUk", "DNM", "vQ", "HEUVDNOQMx",
    };
    struct dice dice = dice_of(FEATURE_HTTP);

    world.manners.http = true;
    strcat(says, letters[dice_below(&dice, sizeof(letters) / sizeof(letters[0]))]);
}

static void draw_share(char *says)
{
    strcat(says, "mm");
    if (world.manners.wait_ms == 0)
        world.manners.wait_ms = 10;
}

static void add_what_few_say(char *says)
{
    if (has(FEATURE_FILES))
        strcat(says, "g");
    if (has(FEATURE_UPSTREAM))
        strcat(says, "t");
    if (has(FEATURE_SHARE))
        draw_share(says);
    if (has(FEATURE_CHILDREN) && !has(FEATURE_HTTP))
        strcat(says, "dd");
}

static void draw_manners(void)
{
    static const char *const letters[] = { "e", "ef", "efy", "eeeek", "er", "efyrk" };
    static char says[40];
    struct dice dice = dice_of(DICE_OF_ALL);
    struct dice big = dice_of(FEATURE_BIG);
    struct dice pauses = dice_of(FEATURE_PAUSES);
    struct dice leave = dice_of(FEATURE_DEPARTURES);
    struct dice waits = dice_of(FEATURE_WAITS);
    struct client_manners *manners = &world.manners;

    world.clients_len = (uint32_t)dice_between(&dice, 1, dice_once_in(&dice, 4) ? 40 : 10);
    *manners = (struct client_manners){
        .port = PORT, .connections = (uint32_t)dice_between(&dice, 1, 6),
        .requests = (uint32_t)dice_between(&dice, 1, 60), .pipelined = 1,
        .text_len = (uint32_t)dice_between(&dice, 1, 60), .big_len = 60,
        .piece = UINT32_C(1) << dice_between(&dice, 2, 12), .says = says,
        .think_ns = dice_once_in(&dice, 3) ? 0 : UINT64_C(1) << dice_between(&dice, 8, 22),
        .half_close_in = 4,
    };
    strcpy(says, letters[dice_below(&dice, sizeof(letters) / sizeof(letters[0]))]);
    if (has(FEATURE_BIG)) {
        manners->big_len = UINT32_C(1) << dice_between(&big, 6, 15);
        strcat(says, dice_once_in(&big, 2) ? "b" : "bvrk");
    }
    if (has(FEATURE_WAITS)) {
        static const char *const kinds[] = { "s", "o", "p", "sop", "syp", "c", "cs" };

        strcat(says, kinds[dice_below(&waits, sizeof(kinds) / sizeof(kinds[0]))]);
        manners->wait_ms = (uint32_t)dice_between(&waits, 1, 30);
    }
    if (has(FEATURE_PIPELINING))
        manners->pipelined = (uint32_t)dice_between(&dice, 2, CLIENT_PHRASES);
    if (has(FEATURE_PAUSES)) {
        manners->pause_in = dice_between(&pauses, 10, 500);
        manners->pause_ns = UINT64_C(1) << dice_between(&pauses, 18, 29);
    }
    if (has(FEATURE_DEPARTURES)) {
        manners->reset_in = dice_between(&leave, 20, 1000);
        manners->leave_in = dice_between(&leave, 20, 1000);
        manners->half_close_in = 2;
        strcat(says, "x");
    }
    if (has(FEATURE_UNIX)) {
        struct dice unix_dice = dice_of(FEATURE_UNIX);

        manners->port = STREAMS_UNIX_PORT;
        manners->descriptors_in = dice_between(&unix_dice, 0, 20);
    }
    if (has(FEATURE_SUBMIT))
        manners->other_port = SUBMIT_PORT;
    if (has(FEATURE_HTTP))
        draw_http(says);
    add_what_few_say(says);
    draw_rush();
}

/* Mostly one of them alone, so that its end is nobody else's. Clients pause for about as long. */
static void draw_timeouts(struct weir_options *options)
{
    struct dice dice = dice_of(FEATURE_TIMEOUTS);
    uint32_t ms = (uint32_t)dice_between(&dice, 1, 200);
    uint64_t which = dice_below(&dice, 7);

    if (!has(FEATURE_TIMEOUTS))
        return;
    if (which == 0 || which == 4)
        options->read_timeout_ms = ms;
    if (which == 1 || which == 4)
        options->write_timeout_ms = (uint32_t)dice_between(&dice, 1, 200);
    if (which == 2 || which == 4)
        options->idle_timeout_ms = (uint32_t)dice_between(&dice, 1, 200);
    if (which == 3 || which == 4)
        options->request_timeout_ms = ms + 20;
    if (which == 5 || which == 4)
        options->head_timeout_ms = ms;
    if (which == 6 || which == 4)
        options->progress_timeout_ms = ms;
    if (has(FEATURE_PAUSES) && dice_once_in(&dice, 2))
        world.manners.pause_ns = 2 * (ms + 1) * MS_NS;
}

static struct weir_handler *handler_of_clients(void)
{
    return has(FEATURE_HTTP) ? &handler_http : &handler_lines;
}

static const char *address_of_clients(void)
{
    return has(FEATURE_UNIX) ? "unix:@simulation" : "tcp://127.0.0.1:7";
}

static void draw_server(void)
{
    struct dice dice = dice_of(FEATURE_OPTIONS);
    struct dice limits = dice_of(FEATURE_LIMITS);
    struct dice modes = dice_of(FEATURE_MODES);
    struct dice acceptors = dice_of(FEATURE_ACCEPTORS);
    struct weir_options *options = &world.options;
    struct weir_handler *handler = handler_of_clients();
    static const size_t sizes[] = { 16, 100, 512, 4096, 8192 };

    *options = (struct weir_options){
        .size = sizeof(*options), .listener_size = sizeof(struct weir_listen),
        .listen = address_of_clients(), .handler = handler,
        .workers = (uint32_t)dice_between(&dice, 1, 4),
    };
    draw_timeouts(options);
    if (has(FEATURE_ACCEPTORS) && !has(FEATURE_MODES))
        options->acceptors = (uint32_t)dice_between(&acceptors, 2, 4);
    if (has(FEATURE_MODES))
        options->concurrency = dice_once_in(&modes, 3) ? WEIR_SERIAL : WEIR_THREAD;
    if (has(FEATURE_OPTIONS)) {
        options->rbufsize = sizes[dice_below(&dice, 5)];
        options->wbufsize = dice_once_in(&dice, 4) ? WEIR_UNBUFFERED : sizes[dice_below(&dice, 5)];
        options->dispatch = dice_once_in(&dice, 3) ? WEIR_DISPATCH_ACCEPTOR : WEIR_DISPATCH_WORKER;
        handler->client_first = dice_once_in(&dice, 2);
        if (dice_once_in(&dice, 8))
            handler->stack = WEIR_STACK_THREAD;
    }
    if (has(FEATURE_LIMITS)) {
        /* With few places all of them are taken, and each that is given back counts. */
        uint64_t most = (has(FEATURE_RUSH) ? 40 : 8) >> dice_below(&limits, 4);

        if (dice_once_in(&limits, 2))
            options->max_connections = (uint32_t)dice_between(&limits, 1, most);
        else
            world.lacks_descriptors = true;
        /* There has to be one for a client beside those that the servers have for themselves. */
        if (world.lacks_descriptors)
            files_limit((unsigned)dice_between(&limits, 24, 40) + (has(FEATURE_SUBMIT) ? 16 : 0));
    }
    if (has(FEATURE_STOP) && dice_once_in(&dice, 2))
        options->drain_timeout_ms = (uint32_t)dice_between(&dice, 1, 100);
}

static void draw_faults(void)
{
    struct dice calls = dice_of(FEATURE_CALLS);
    struct dice interrupts = dice_of(FEATURE_INTERRUPTS);
    struct dice memory = dice_of(FEATURE_MEMORY);

    if (has(FEATURE_INTERRUPTS)) {
        world.calls.interrupt_in = dice_between(&interrupts, 5, 200);
        world.calls.send_in = dice_between(&interrupts, 5, 200);
        world.calls.false_alarm_in = dice_between(&interrupts, 10, 200);
        world.threads.spurious_in = dice_between(&interrupts, 3, 50);
        world.threads.interrupt_in = dice_between(&interrupts, 3, 50);
    }
    if (has(FEATURE_CALLS)) {
        world.calls.accept_in = dice_between(&calls, 5, 100);
        world.calls.watch_in = dice_between(&calls, 5, 200);
        world.calls.file_in = dice_between(&calls, 2, 50);
        world.calls.open_in = dice_between(&calls, 20, 500);
        world.calls.map_in = dice_between(&calls, 20, 500);
        world.threads.create_in = dice_between(&calls, 10, 100);
    }
    if (has(FEATURE_MEMORY))
        world.memory_in = dice_between(&memory, 10, 1000);
}

static void draw_network(void)
{
    struct dice dice = dice_of(DICE_OF_ALL);
    struct streams_options streams = { .size = (size_t)1 << dice_between(&dice, 7, 16) };

    streams.window = streams.size >> dice_below(&dice, 3);
    if (streams.window < WINDOW_MIN)
        streams.window = WINDOW_MIN;
    streams_set(&streams);
}

static void draw_upstream(void)
{
    struct dice dice = dice_of(FEATURE_UPSTREAM);
    struct upstream_manners manners = {
        .port = UPSTREAM_PORT, .think_ns = UINT64_C(1) << dice_between(&dice, 6, 20),
    };

    if (dice_once_in(&dice, 2))
        manners.refuse_in = dice_between(&dice, 2, 10);
    if (dice_once_in(&dice, 2))
        manners.ignore_in = dice_between(&dice, 2, 10);
    if (dice_once_in(&dice, 2))
        manners.spoil_in = dice_between(&dice, 2, 50);
    upstream_begin(&manners, world.seed * 4447);
    handler_upstream = "tcp://127.0.0.1:9";
}

static void draw_datagrams(void)
{
    static const char *const letters[] = { "e", "eeeeeeees", "ey", "eeeeo", "eeeeeeeec" };
    static struct weir_listen listens[] = {
        { .address = NULL },
        { .address = "udp://127.0.0.1:7", .handler = &handler_datagrams },
    };
    struct dice dice = dice_of(FEATURE_DATAGRAMS);

    if (!has(FEATURE_DATAGRAMS))
        return;
    listens[0].address = address_of_clients();
    world.options.listen = NULL;
    world.options.listeners = listens;
    world.options.listeners_len = 2;
    world.senders_len = (uint32_t)dice_between(&dice, 1, SENDERS_MAX);
    world.sending = (struct sender_manners){
        .port = PORT, .datagrams = (uint32_t)dice_between(&dice, 1, 400), .wait_ms = 5,
        .think_ns = UINT64_C(1) << dice_between(&dice, 6, 20),
        .says = letters[dice_below(&dice, 5)],
        /* A handler on its worker's stack may wait there for a slow client as long as it takes. */
        .may_lose = has(FEATURE_CALLS) || has(FEATURE_MEMORY) || has(FEATURE_LIMITS) ||
                    has(FEATURE_CANCEL) || has(FEATURE_TIMEOUTS) || has(FEATURE_MODES) ||
                    handler_of_clients()->stack == WEIR_STACK_THREAD,
    };
    world.sending.patience_ns = (world.sending.may_lose ? 100 : 30 * 1000) * MS_NS;
    if (has(FEATURE_CALLS))
        world.calls.datagram_in = dice_between(&dice, 5, 100);
    oracle_view.computes = strchr(world.sending.says, SAY_COMPUTE) != NULL;
}

static void draw_ends(void)
{
    struct dice stop = dice_of(FEATURE_STOP);
    struct dice cancel = dice_of(FEATURE_CANCEL);

    if (has(FEATURE_STOP))
        world.stop_ns = dice_around(&stop, UINT64_C(1) << dice_between(&stop, 14, 28));
    if (has(FEATURE_CANCEL))
        world.cancel_ns = dice_around(&cancel, UINT64_C(1) << dice_between(&cancel, 14, 28));
}

/* ------------------------------------------------------------------ faults ------------ */

static void begin_faults(void)
{
    calls_inject(&world.calls);
    threads_inject(&world.threads);
    memory_fail_once_in(world.memory_in);
}

static void end_faults(void)
{
    calls_inject(&(const struct calls_faults){ 0 });
    threads_inject(&(const struct threads_faults){ 0 });
    memory_fail_once_in(0);
}

/* ------------------------------------------------------------------ who disturbs ------ */

static void *cancel_main(void *nothing)
{
    (void)nothing;
    scheduler_block(&world.cancel_ns, scheduler_now_ns() + world.cancel_ns);
    if (world.over)
        return NULL;
    client_excuses.cancelled = true;
    oracle_view.is_ending = true;
    trace_note("thread", scheduler_self(), "cancels", 0, 0, 0);
    weir_server_cancel(world.server);
    oracle_view.cancelled = true;
    return NULL;
}

/* Everybody may connect, whichever rules hold. */
static void *rules_main(void *nothing)
{
    struct dice dice = dice_of(FEATURE_RULES);

    (void)nothing;
    while (!world.over) {
        struct weir_access *access = NULL;

        scheduler_block(&world.over, scheduler_now_ns() + dice_around(&dice, 2 * MS_NS));
        if (world.over)
            break;
        if (dice_once_in(&dice, 3) ||
            weir_access_parse("default allow\nallow 10.0.0.0/8\ndeny 192.0.2.0/24\n", &access) < 0)
            access = NULL;
        if (weir_server_set_access(world.server, access) < 0)
            weir_access_free(access);
    }
    return NULL;
}

static void stop_serving(void)
{
    oracle_view.serves = false;
    /* A stop of WEIR_SERIAL ends what is kept, and it does not linger for who still sends. */
    if (world.options.concurrency == WEIR_SERIAL)
        client_excuses.cancelled = true;
    weir_server_shutdown(world.server);
}

static bool may_serve_at_once(void)
{
    return !world.lacks_descriptors && !has(FEATURE_CALLS) && !has(FEATURE_MEMORY);
}

static void serve_again(void)
{
    int r;

    while ((r = weir_server_start(world.server)) < 0 && !world.over) {
        if (may_serve_at_once())
            report_failure("the server does not start again: %s", weir_why());
        scheduler_block(&world.over, scheduler_now_ns() + MS_NS);
    }
    trace_note("thread", scheduler_self(), "serves again: %ld", r, 0, 0);
    oracle_view.serves = may_serve_at_once();
}

/* Nobody is accepted for a while, and those who were are served. */
static void *again_main(void *nothing)
{
    struct dice dice = dice_of(FEATURE_AGAIN);
    uint64_t pause_ns = UINT64_C(1) << dice_between(&dice, 14, 24);

    (void)nothing;
    while (!world.over) {
        scheduler_block(&world.over, scheduler_now_ns() + dice_around(&dice, pause_ns));
        if (world.over)
            break;
        trace_note("thread", scheduler_self(), "stops serving", 0, 0, 0);
        stop_serving();
        scheduler_block(&world.over, scheduler_now_ns() + dice_around(&dice, pause_ns));
        serve_again();
    }
    return NULL;
}

/* ------------------------------------------------------------------ the run ----------- */

static void wait_for_clients(void)
{
    uint64_t begin_ns = scheduler_now_ns();
    uint64_t until_ns = scheduler_now_ns() + (world.stop_ns > 0 ? world.stop_ns : LIFE_NS);

    while (!clients_are_done() && scheduler_now_ns() < until_ns) {
        scheduler_block(&clients_reason, clock_earlier(until_ns, scheduler_now_ns() + PATIENCE_NS));
        if (scheduler_now_ns() > begin_ns + PATIENCE_NS) {
            clients_hurry();
            scheduler_stall_no_more();
        }
    }
    if (world.stop_ns > 0 || clients_are_done())
        return;
    for (unsigned i = 0; i < world.clients_len; i++)
        client_print(&world.clients[i]);
    report_failure("an hour has passed, and clients still wait");
}

static void stop_server(void)
{
    trace_note("thread", scheduler_self(), "shuts the server down", 0, 0, 0);
    stop_serving();
    /* From here on nobody is kept: what has arrived is answered, and nothing else need be. */
    client_excuses.stopped_ns = scheduler_now_ns();
    oracle_view.is_ending = true;
    for (unsigned i = 0; i < world.clients_len; i++) {
        client_note_stop(&world.clients[i]);
        client_give_up(&world.clients[i]);
    }
    clients_hurry();
    senders_stop();
    trace_note("thread", scheduler_self(), "closes the server", 0, 0, 0);
    oracle_view.drains = true;
    weir_server_close(world.server);
}

/* Records of mappings are kept for the handler of SIGSEGV for ever: as many as a run can need. */
static void make_records(void)
{
    struct stack_arena *arenas[RECORDS];

    for (unsigned i = 0; i < RECORDS; i++) {
        stack_arena_create(0, 0, &arenas[i]);
        stack_arena_put(arenas[i], stack_arena_get(arenas[i]));
    }
    for (unsigned i = 0; i < RECORDS; i++)
        stack_arena_destroy(arenas[i]);
    world.blocks_before = memory_blocks();
}

static void check_nothing_is_left(void)
{
    /* The reclaimer and what is detached may still be about to end. */
    for (unsigned i = 0; i < 50 && (files_open() > 0 || memory_blocks() > world.blocks_before); i++)
        scheduler_block(&world.over, scheduler_now_ns() + 1000 * MS_NS);
    memory_check();
    if (files_open() > 0) {
        files_print_open();
        report_failure("%u descriptors are left open", files_open());
    }
    if (memory_blocks() > world.blocks_before) {
        memory_print_left();
        report_failure("%zu blocks of memory are left, %zu bytes", memory_blocks(),
                       memory_bytes());
    }
}

static void check_stats(void)
{
    struct weir_stats stats;

    weir_server_stats(world.server, &stats, sizeof(stats));
    if (stats.active != 0 || stats.idle != 0 || stats.parked != 0 || stats.running != 0)
        report_failure("the server is closed, and %llu connections are active",
                       (unsigned long long)stats.active);
    if (stats.accepted != stats.closed + stats.refused)
        report_failure("%llu connections were accepted, %llu closed and %llu refused",
                       (unsigned long long)stats.accepted, (unsigned long long)stats.closed,
                       (unsigned long long)stats.refused);
    if (quota_count(&world.server->quota) != 0)
        report_failure("the server is closed, and %zu places are taken",
                       quota_count(&world.server->quota));
}

/* All clients have gone: what was theirs is freed, though nobody comes any more. */
static void check_connections_are_freed(size_t before)
{
    for (unsigned i = 0; i < 100 && memory_aligned_blocks() > before; i++)
        scheduler_block(&world.over, scheduler_now_ns() + 1000 * MS_NS);
    if (memory_aligned_blocks() <= before)
        return;
    memory_print_left();
    report_failure("all clients have gone, and the memory of %zu connections is not freed",
                   memory_aligned_blocks() - before);
}

static int begin_submitting(void)
{
    world.submitter = (struct submitter){
        .server = world.server, .port = SUBMIT_PORT,
        /* A thread for each connection may be more than SCHEDULER_THREADS. */
        .may_refuse = has(FEATURE_LIMITS) || has(FEATURE_CALLS) || has(FEATURE_MEMORY) ||
                      has(FEATURE_MODES),
    };
    submitter_listen(&world.submitter);
    return scheduler_start(submitter_main, &world.submitter, false);
}

static void end_submitting(int thread)
{
    submitter_stop(&world.submitter);
    scheduler_join((unsigned)thread);
}

static void end_sharing(int thread)
{
    sharer_stop();
    scheduler_join((unsigned)thread);
    sharer_look();
}

static void serve(void)
{
    size_t before = memory_aligned_blocks();
    void *(*const mains[])(void *) = {
        world.cancel_ns > 0 ? cancel_main : NULL, has(FEATURE_RULES) ? rules_main : NULL,
        has(FEATURE_AGAIN) ? again_main : NULL,
    };
    int threads[3], submitter = -1, sharer = -1;

    oracle_view.server = world.server;
    oracle_view.datagrams = world.senders_len > 0;
    oracle_view.serves = may_serve_at_once();
    /* Those that are still to be handed on have no place yet. */
    streams_accept_at_most(has(FEATURE_SUBMIT) ? 0 : world.options.max_connections);
    clients_expect(world.clients_len + world.senders_len);
    for (unsigned i = 0; i < world.senders_len; i++)
        sender_init(&world.senders[i], i, &world.sending, world.seed * 6007);
    for (unsigned i = 0; i < world.clients_len; i++)
        client_init(&world.clients[i], i, &world.manners, world.seed * 7919);
    for (unsigned i = 0; i < 3; i++)
        threads[i] = mains[i] ? scheduler_start(mains[i], NULL, false) : -1;
    if (has(FEATURE_SUBMIT))
        submitter = begin_submitting();
    if (has(FEATURE_SHARE))
        sharer = scheduler_start(sharer_main, NULL, false);
    wait_for_clients();
    end_faults();
    world.over = true;
    scheduler_wake(&world.over, true);
    scheduler_wake(&world.cancel_ns, true);
    for (unsigned i = 0; i < 3; i++)
        if (threads[i] >= 0)
            scheduler_join((unsigned)threads[i]);
    if (clients_are_done() && world.senders_len == 0)
        check_connections_are_freed(before);
    stop_server();
    if (submitter >= 0)
        end_submitting(submitter);
    if (sharer >= 0)
        end_sharing(sharer);
    check_stats();
}

static void live(void *nothing)
{
    int r;

    (void)nothing;
    make_records();
    handler_file = contents_open();
    begin_faults();
    r = weir_server_create(&world.server, &world.options);
    if (r == 0)
        r = weir_server_start(world.server);
    trace_note("thread", 0, "the server starts: %ld", r, 0, 0);
    if (r == 0) {
        serve();
    } else if (!has(FEATURE_CALLS) && !has(FEATURE_MEMORY) && !has(FEATURE_LIMITS)) {
        report_failure("the server does not start: %s", weir_why());
    }
    end_faults();
    oracle_view.server = NULL;
    weir_server_destroy(world.server);
    world.server = NULL;
    /* Clients see the end, and whatever was sent to them before. */
    clients_hurry();
    while (r == 0 && !clients_are_done())
        scheduler_block(&clients_reason, SCHEDULER_NEVER);
    file_close(handler_file);
    check_nothing_is_left();
}

static void tell_excuses(void)
{
    client_excuses = (struct client_excuses){
        .faults = has(FEATURE_CALLS) || has(FEATURE_MEMORY), .limits = has(FEATURE_LIMITS),
        .idle_ms = world.options.idle_timeout_ms, .read_ms = world.options.read_timeout_ms,
        .write_ms = world.options.write_timeout_ms,
        .request_ms = world.options.request_timeout_ms,
        .head_ms = world.options.head_timeout_ms,
        .progress_ms = world.options.progress_timeout_ms,
        .drain_ms = world.options.drain_timeout_ms,
        .nobody_lingers = handler_of_clients()->stack == WEIR_STACK_THREAD ||
                          world.options.concurrency == WEIR_SERIAL,
    };
    handler_deadlines = (struct handler_deadlines){
        .read_ms = world.options.read_timeout_ms, .write_ms = world.options.write_timeout_ms,
        .request_ms = world.options.request_timeout_ms, .grain_ms = 1,
        .head_ms = world.options.head_timeout_ms,
        .progress_ms = world.options.progress_timeout_ms,
        .rest_ms = world.options.idle_timeout_ms,
    };
    oracle_view.computes = oracle_view.computes || strchr(world.manners.says, SAY_COMPUTE);
    client_buffer_len = world.options.rbufsize > 0 ? world.options.rbufsize : 8192;
    world.manners.client_first = handler_of_clients()->client_first;
    oracle_view.read_ms = world.options.read_timeout_ms;
    oracle_view.write_ms = world.options.write_timeout_ms;
    oracle_view.request_ms = world.options.request_timeout_ms;
    /* While it does not serve, nobody sweeps; and who has swept pauses for long if it took long. */
    oracle_view.idle_ms = has(FEATURE_AGAIN) || has(FEATURE_TIME) || has(FEATURE_STALLS) ||
                                  has(FEATURE_PLACES)
                              ? 0 : world.options.idle_timeout_ms;
    oracle_view.lacks_threads = has(FEATURE_CALLS);
    oracle_view.starves = has(FEATURE_CALLS) || has(FEATURE_MEMORY);
    oracle_view.spares = handler_of_clients()->stack == WEIR_STACK_THREAD || has(FEATURE_MODES);
}

void world_run(uint64_t seed, uint32_t with, uint32_t without, uint32_t clients,
               struct world_result *ret)
{
    struct scheduler_options schedule;

    world.seed = seed;
    world.features = (draw_features() | with) & ~without;
    ret->features = world.features;
    schedule = draw_schedule();
    hooks_weigh(schedule.plain_weight, schedule.atomic_weight);
    draw_manners();
    draw_server();
    draw_faults();
    draw_network();
    draw_ends();
    draw_datagrams();
    draw_upstream();
    if (clients > 0 && clients < world.clients_len)
        world.clients_len = clients;
    if (clients > 0 && clients < world.senders_len)
        world.senders_len = clients;
    tell_excuses();
    scheduler_on_quiet = oracle_look;
    scheduler_run(&schedule, live, NULL);
    ret->requests = clients_answered;
    ret->events = trace_len();
    ret->hash = trace_hash();
}
