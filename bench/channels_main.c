/*
 * channels_main.c - how many items handlers pass through a channel. bench/channels runs it, beside
 * peers/channels.go, which does the same.
 *
 * channels_main WORKERS PAIRS CAPACITY MS: as many senders as receivers, of numbers. Prints how
 * many items there were, and how many a second of CPU time.
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include <weir/weir.h>
#include <weir/weir_sync.h>

#define MAX_PAIRS 16
#define MAX_CAPACITY 4096

static uint64_t slots[MAX_CAPACITY];
static struct weir_channel items = WEIR_CHANNEL(slots);
static struct weir_wait_group senders, receivers;
static double until_s, begun_s;
static unsigned expected;
static _Atomic unsigned arrived;
static _Atomic uint64_t total;

static void fail(const char *what)
{
    fprintf(stderr, "channels_main: %s\n", what);
    exit(1);
}

static double seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A worker for each: who has begun keeps its own until all have, and then the time counts. */
static void spread_out(void)
{
    if (++arrived == expected)
        begun_s = seconds(CLOCK_PROCESS_CPUTIME_ID);
    while (arrived < expected)
        sched_yield();
}

static int send_items(struct weir_request *req)
{
    (void)req;
    spread_out();
    for (uint64_t n = 0; n % 1024 != 0 || seconds(CLOCK_MONOTONIC) < until_s; n++)
        if (weir_channel_send(&items, &n) < 0)
            fail("nothing could be sent");
    weir_wait_group_done(&senders);
    return 0;
}

static int receive_items(struct weir_request *req)
{
    uint64_t item, count = 0;

    (void)req;
    spread_out();
    while (weir_channel_receive(&items, &item) == 0)
        count++;
    total += count;
    weir_wait_group_done(&receivers);
    return 0;
}

static const struct weir_handler sender = { .name = "send", .handle = send_items };
static const struct weir_handler receiver = { .name = "receive", .handle = receive_items };

static void submit(struct weir_server *server, const struct weir_handler *handler)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 ||
        weir_submit_fd(server, ends[0], handler) < 0)
        fail("a handler could not be begun");
}

static struct weir_server *start(uint32_t workers)
{
    struct weir_server *server;
    int r = weir_server_create(&server, WEIR_OPTIONS(.handler = &sender, .workers = workers,
                                            .listen = "tcp://127.0.0.1:0"));

    if (r < 0 || weir_server_start(server) < 0)
        fail(weir_why());
    return server;
}

static void run(struct weir_server *server, unsigned pairs, double ms)
{
    begun_s = seconds(CLOCK_PROCESS_CPUTIME_ID);
    until_s = seconds(CLOCK_MONOTONIC) + ms / 1e3;
    weir_wait_group_add(&senders, pairs);
    weir_wait_group_add(&receivers, pairs);
    for (unsigned i = 0; i < pairs; i++) {
        submit(server, &receiver);
        submit(server, &sender);
    }
    weir_wait_group_wait(&senders);
    weir_channel_close(&items);
    weir_wait_group_wait(&receivers);
    printf("%ju %.0f\n", (uintmax_t)total,
           (double)total / (seconds(CLOCK_PROCESS_CPUTIME_ID) - begun_s));
}

int main(int argc, char **argv)
{
    unsigned long workers = argc == 5 ? strtoul(argv[1], NULL, 10) : 0;
    unsigned long pairs = argc == 5 ? strtoul(argv[2], NULL, 10) : 0;
    unsigned long capacity = argc == 5 ? strtoul(argv[3], NULL, 10) : 0;
    struct weir_server *server;

    if (workers == 0 || pairs == 0 || pairs > MAX_PAIRS || capacity > MAX_CAPACITY)
        fail("WORKERS PAIRS CAPACITY MS");
    items.capacity = (uint32_t)capacity;
    expected = workers == 2 * pairs ? (unsigned)workers : 0;
    server = start((uint32_t)workers);
    run(server, (unsigned)pairs, strtod(argv[4], NULL));
    weir_server_shutdown(server);
    weir_server_destroy(server);
    return 0;
}
