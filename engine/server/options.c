#include "engine/server/options.h"

#include "engine/base/cpulist.h"
#include "engine/base/why.h"
#include "engine/fiber/stack.h"
#include "engine/server/places.h"
#include "engine/sync/handoff.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* No memory has room for it; but what is added to it doesn't wrap. */
#define STATE_SIZE_MAX ((size_t)1 << 46)

/*
 * Where the structures of the first version of weir end. A program that was compiled with it says
 * so by these sizes, and therefore they never change once it is out. A later version adds its
 * fields behind.
 */
#define END_OF(type, field) (offsetof(type, field) + sizeof(((type *)NULL)->field))
#define OPTIONS_SIZE_V1 END_OF(struct weir_options, multicast_loop)
#define LISTEN_SIZE_V1 END_OF(struct weir_listen, user)

/* No structure ever grows to that: a size beyond it is what happened to be in memory. */
#define SIZE_MOST 65536

#ifdef __LP64__
_Static_assert(OPTIONS_SIZE_V1 == 264, "a field was put in among those of the first version");
_Static_assert(LISTEN_SIZE_V1 == 64, "a field was put in among those of the first version");
_Static_assert(sizeof(struct weir_handler) == 96, "nothing says its size: a new field takes the "
               "place of reserved bytes");
#endif

/*
 * Behind the last field there is no padding, within the size that a program says it has: a later
 * version's field could lie there, and an older library would not see that it is set. So a new
 * uint32_t brings a uint32_t reserved behind it, which the next one replaces; ENDS_WITH names the
 * last field, and a limit of 0 refuses a reserved one that is set.
 */
#define ENDS_WITH(type, field) \
    _Static_assert(END_OF(type, field) == sizeof(type), #type " ends with padding: put a " \
                   "reserved field behind its last one, or name here the last one")
ENDS_WITH(struct weir_options, offload_threads);
ENDS_WITH(struct weir_listen, reserved);
ENDS_WITH(struct weir_handler, reserved);

struct reading {
    struct weir_options *options;
    char *why;
    size_t why_size;
};

#define REFUSE(reading, ...) \
    why_set((reading)->why, (reading)->why_size, -EINVAL, __VA_ARGS__)

/* Where the first byte is that is set beyond what this version knows; 0: none is. */
static size_t find_unknown(const void *structure, size_t known, size_t size)
{
    const unsigned char *bytes = structure;

    for (size_t i = known; i < size; i++)
        if (bytes[i] != 0)
            return i;
    return 0;
}

static bool is_a_size(size_t size, size_t least)
{
    return size >= least && size <= SIZE_MOST;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* An older program's options are shorter: what it does not know is 0. */
static int copy_options(const struct weir_options *in, struct reading *reading)
{
    size_t known = sizeof(*reading->options);
    size_t unknown;

    if (!in)
        return REFUSE(reading, "no options: use WEIR_OPTIONS(...)");
    if (!is_a_size(in->size, OPTIONS_SIZE_V1))
        return REFUSE(reading, "options.size is %zu: use WEIR_OPTIONS(...), which sets it",
                      in->size);
    unknown = find_unknown(in, known, in->size);
    if (unknown > 0)
        return why_set(reading->why, reading->why_size, -E2BIG,
                       "an option is set that this version of weir does not know "
                       "(byte %zu of the options)", unknown);
    memset(reading->options, 0, known);
    memcpy(reading->options, in, smaller(known, in->size));
    return 0;
}

/* Its own data it knows itself. */
static int ask_handler(const struct weir_handler *handler, struct reading *reading)
{
    const char *wrong = handler->check ? handler->check(handler) : NULL;

    return wrong ? REFUSE(reading, "handler '%s': %s", handler->name, wrong) : 0;
}

static int check_handler(const struct weir_handler *handler, const char *address,
                         struct reading *reading)
{
    if (!handler)
        return REFUSE(reading, "%s: no handler: set options.handler or the listener's", address);
    if (!handler->name)
        return REFUSE(reading, "%s: its handler has no name: set name, which messages call it by",
                      address);
    if (!handler->handle)
        return REFUSE(reading, "%s: its handler '%s' has no handle function: set handle", address,
                      handler->name);
    /* What is set there now would mean something to a later version. */
    if (find_unknown(handler, offsetof(struct weir_handler, reserved), sizeof(*handler)) > 0)
        return REFUSE(reading, "handler '%s': reserved is set: leave it 0", handler->name);
    if (handler->state_size > STATE_SIZE_MAX)
        return REFUSE(reading, "handler '%s': state_size is %zu: at most %zu", handler->name,
                      handler->state_size, STATE_SIZE_MAX);
    if (handler->stack != WEIR_STACK_FIBER && handler->stack != WEIR_STACK_THREAD)
        return REFUSE(reading, "handler '%s': stack %d is neither WEIR_STACK_FIBER nor "
                      "WEIR_STACK_THREAD", handler->name, (int)handler->stack);
    if (handler->client_first > WEIR_NO)
        return REFUSE(reading, "handler '%s': client_first is %u: at most %d", handler->name,
                      (unsigned)handler->client_first, WEIR_NO);
    if ((handler->goodbye != NULL) != (handler->goodbye_len > 0))
        return REFUSE(reading, "handler '%s': goodbye and goodbye_len go together: set both, or "
                      "neither", handler->name);
    return ask_handler(handler, reading);
}

int options_check_handler(const struct weir_handler *handler, const char *what, char *why,
                          size_t why_size)
{
    return check_handler(handler, what, &(struct reading){ .why = why, .why_size = why_size });
}

static const void *listener_at(const struct weir_options *options, size_t i)
{
    return (const char *)options->listeners + i * options->listener_size;
}

/* An older program's listener is shorter, as its options are. */
static struct weir_listen listen_as_said(const struct weir_options *options, size_t i)
{
    struct weir_listen listen = { .address = options->listen };

    if (!options->listen)
        memcpy(&listen, listener_at(options, i), smaller(sizeof(listen), options->listener_size));
    return listen;
}

/* That the array is one of structures whose size is known. */
static int check_listeners(struct reading *reading)
{
    const struct weir_options *options = reading->options;

    if (!options->listeners)
        return REFUSE(reading, "listeners_len is %zu, but listeners is NULL",
                      options->listeners_len);
    if (!is_a_size(options->listener_size, LISTEN_SIZE_V1))
        return REFUSE(reading, "options.listener_size is %zu: use WEIR_OPTIONS(...), which sets it",
                      options->listener_size);
    for (size_t i = 0; i < options->listeners_len; i++) {
        size_t unknown = find_unknown(listener_at(options, i), sizeof(struct weir_listen),
                                      options->listener_size);

        if (unknown > 0)
            return why_set(reading->why, reading->why_size, -E2BIG, "listeners[%zu]: an option is "
                           "set that this version of weir does not know (byte %zu)", i, unknown);
    }
    return 0;
}

/* ------------------------------------------------------------------ limits ------------ */

/* What an option may be, and what 0 stands for. */
struct limit {
    const char *name;
    size_t at;                  /* in struct weir_options or struct weir_listen */
    size_t size;                /* of the field, which is a number or an enumeration */
    size_t most;
    size_t least;               /* 0 may be in any case */
    size_t usual;               /* what 0 becomes; 0: that is for somebody else to say */
};

#define LIMIT_OF(type, field, ...) \
    { #field, offsetof(type, field), sizeof(((type *)NULL)->field), __VA_ARGS__ }
#define LIMIT(field, ...) LIMIT_OF(struct weir_options, field, __VA_ARGS__)

static const struct limit limits[] = {
    LIMIT(poll_interval_ms, .most = UINT32_MAX, .usual = 500),
    LIMIT(concurrency, .most = WEIR_PREFORK),
    LIMIT(dispatch, .most = WEIR_DISPATCH_ACCEPTOR),
    LIMIT(workers, .most = WEIR_MAX_WORKERS),
    LIMIT(processes, .most = WEIR_MAX_PROCESSES),
    LIMIT(max_children, .most = WEIR_MAX_CHILDREN, .usual = 40),
    LIMIT(acceptors, .most = WEIR_MAX_ACCEPTORS, .usual = 1),
    LIMIT(stack_size, .most = WEIR_MAX_STACK_SIZE, .least = WEIR_MIN_STACK_SIZE),
    LIMIT(backlog, .most = INT32_MAX),
    LIMIT(rbufsize, .most = WEIR_MAX_BUFSIZE, .usual = 8192),
    LIMIT(wbufsize, .most = WEIR_MAX_BUFSIZE, .usual = 8192),
    LIMIT(block_on_close, .most = WEIR_NO),
    LIMIT(daemon_threads, .most = WEIR_NO),
    LIMIT(defer, .most = WEIR_NO),
    LIMIT(reuse_address, .most = WEIR_NO),
    LIMIT(reuse_port, .most = WEIR_NO),
    LIMIT(disable_nagle_algorithm, .most = WEIR_NO),
    LIMIT(keep_path, .most = WEIR_NO),
    LIMIT(reply_always, .most = WEIR_NO),
    LIMIT(max_packet_size, .most = WEIR_MAX_PACKET_SIZE, .usual = 8192),
    LIMIT(multicast_ttl, .most = WEIR_MAX_MULTICAST_TTL),
    LIMIT(multicast_loop, .most = WEIR_NO),
    LIMIT(when_queued, .most = WEIR_REFUSE),
    LIMIT(offload_threads, .most = WEIR_MAX_OFFLOAD_THREADS, .usual = 64),
};

enum { LIMITS = sizeof(limits) / sizeof(limits[0]) };

static const struct limit listen_limits[] = {
    LIMIT_OF(struct weir_listen, backlog, .most = INT32_MAX),
    LIMIT_OF(struct weir_listen, disable_nagle_algorithm, .most = WEIR_NO),
    LIMIT_OF(struct weir_listen, taken_over, .most = WEIR_NO),
    LIMIT_OF(struct weir_listen, reserved, .most = 0),
};

enum { LISTEN_LIMITS = sizeof(listen_limits) / sizeof(listen_limits[0]) };

/* The public limits are those of the modules that have the room, and give the stacks. */
_Static_assert(WEIR_MAX_WORKERS == HANDOFF_WORKERS_MAX, "workers");
_Static_assert(WEIR_MIN_STACK_SIZE == STACK_SIZE_MIN, "stack_size");
_Static_assert(WEIR_MAX_STACK_SIZE == STACK_SIZE_MAX, "stack_size");

/* In the structure that the limit is of. */
static size_t value_of_limit(const void *structure, const struct limit *limit)
{
    const char *at = (const char *)structure + limit->at;
    uint32_t number;
    size_t value;

    if (limit->size == sizeof(number)) {
        memcpy(&number, at, sizeof(number));
        return number;
    }
    memcpy(&value, at, sizeof(value));
    return value;
}

static void set_value(struct weir_options *options, const struct limit *limit, size_t value)
{
    char *at = (char *)options + limit->at;
    uint32_t number = (uint32_t)value;

    if (limit->size == sizeof(number))
        memcpy(at, &number, sizeof(number));
    else
        memcpy(at, &value, sizeof(value));
}

static int check_limit(struct reading *reading, const struct limit *limit)
{
    size_t value = value_of_limit(reading->options, limit);
    bool unbuffered = limit->at == offsetof(struct weir_options, wbufsize) &&
                      value == WEIR_UNBUFFERED;

    if (value == 0 || unbuffered || (value >= limit->least && value <= limit->most))
        return 0;
    if (limit->least > 0)
        return REFUSE(reading, "%s is %zu: it must be %zu KiB to %zu MiB", limit->name, value,
                      limit->least >> 10, limit->most >> 20);
    return REFUSE(reading, "%s is %zu: at most %zu", limit->name, value, limit->most);
}

static int check_limits(struct reading *reading)
{
    int r = 0;

    for (size_t i = 0; i < LIMITS && r == 0; i++)
        r = check_limit(reading, &limits[i]);
    return r;
}

static int check_listen_limits(struct reading *reading, const struct weir_listen *listen)
{
    for (size_t i = 0; i < LISTEN_LIMITS; i++) {
        const struct limit *limit = &listen_limits[i];
        size_t value = value_of_limit(listen, limit);

        if (value > limit->most)
            return REFUSE(reading, "%s: %s is %zu: at most %zu", listen->address, limit->name,
                          value, limit->most);
    }
    return 0;
}

static int check_listen(struct reading *reading, size_t i)
{
    const struct weir_options *options = reading->options;
    struct weir_listen listen = listen_as_said(options, i);
    int r;

    if (!listen.address)
        return REFUSE(reading, "listeners[%zu] has no address", i);
    r = check_handler(options_listen(options, i).handler, listen.address, reading);
    return r < 0 ? r : check_listen_limits(reading, &listen);
}

static int check_listens(struct reading *reading)
{
    const struct weir_options *options = reading->options;
    int r = 0;

    if (options->listeners && options->listeners_len == 0)
        return REFUSE(reading, "listeners is set, but listeners_len is 0: it says how many they "
                      "are");
    if (options->listen && options->listeners_len > 0)
        return REFUSE(reading, "listen and listeners are both set: use one of them");
    if (!options->listen && options->listeners_len == 0)
        return REFUSE(reading, "no address: set options.listen, e.g. \"tcp://127.0.0.1:8080\"");
    if (!options->listen)
        r = check_listeners(reading);
    for (size_t i = 0; i < options_listens(options) && r == 0; i++)
        r = check_listen(reading, i);
    return r;
}

static void set_usual_values(struct weir_options *options)
{
    for (size_t i = 0; i < LIMITS; i++)
        if (value_of_limit(options, &limits[i]) == 0 && limits[i].usual > 0)
            set_value(options, &limits[i], limits[i].usual);
}

static int check_mode(struct reading *reading)
{
    uint32_t mode = reading->options->unix_mode;

    if (mode > 0777)
        return REFUSE(reading, "unix_mode is 0%o: permissions are at most 0777", (unsigned)mode);
    if (mode > 0 && !options_have_unix_path(reading->options))
        return REFUSE(reading, OPTIONS_NO_UNIX_PATH, "unix_mode");
    return 0;
}

static int check_concurrency(struct reading *reading)
{
    const struct weir_options *options = reading->options;
    enum weir_concurrency how = options->concurrency;

    if (options->max_children > 0 && how != WEIR_FORK)
        return REFUSE(reading, "max_children is %u, but concurrency is not WEIR_FORK",
                      options->max_children);
    if (options->processes > 0 && how != WEIR_PREFORK)
        return REFUSE(reading, "processes is %u, but concurrency is not WEIR_PREFORK",
                      options->processes);
    if (options->acceptors > 1 && how != WEIR_POOL && how != WEIR_THREAD)
        return REFUSE(reading, "acceptors is %u: WEIR_SERIAL, WEIR_FORK and each child of "
                      "WEIR_PREFORK accept on one thread", options->acceptors);
    return 0;
}

static uint32_t share_of_cpus(uint32_t cpus, uint32_t processes)
{
    return cpus > processes ? cpus / processes : 1;
}

/* From here on 0 is for ever, however it was said. */
static void set_no_timeouts(struct weir_options *options)
{
    uint32_t *timeouts[] = {
        &options->read_timeout_ms, &options->write_timeout_ms, &options->idle_timeout_ms,
        &options->request_timeout_ms, &options->drain_timeout_ms, &options->timeout_ms,
        &options->queue_target_ms, &options->head_timeout_ms, &options->progress_timeout_ms,
    };

    for (size_t i = 0; i < sizeof(timeouts) / sizeof(timeouts[0]); i++)
        if (*timeouts[i] == WEIR_FOREVER)
            *timeouts[i] = 0;
}

/* From here on 0 is no, and anything else yes, where no is the default. */
static void set_no_choices(struct weir_options *options)
{
    weir_default_no *choices[] = {
        &options->daemon_threads, &options->defer, &options->reuse_address, &options->reuse_port,
        &options->disable_nagle_algorithm, &options->keep_path, &options->reply_always,
    };

    for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++)
        if (*choices[i] == WEIR_NO)
            *choices[i] = WEIR_DEFAULT;
}

/* Once it is known how many there may be. */
static int check_children(struct reading *reading)
{
    const struct weir_options *options = reading->options;
    uint64_t children = options->max_children + options_set_aside(options);

    if (options->concurrency != WEIR_FORK || children <= WEIR_MAX_CHILDREN)
        return 0;
    return REFUSE(reading, "max_children and the listeners' max_connections are %llu in all: at "
                  "most %d", (unsigned long long)children, WEIR_MAX_CHILDREN);
}

/* Where there is no pool. */
static int refuse_of_queue(struct reading *reading, const char *name, uint32_t value)
{
    return REFUSE(reading, "%s is %u: under WEIR_SERIAL, WEIR_THREAD and WEIR_FORK no connection "
                  "waits for a worker", name, value);
}

/* Only a pool has a queue; and one that refuses has an end from which on it does. */
static int check_queue(struct reading *reading)
{
    const struct weir_options *options = reading->options;
    bool queues = options->concurrency == WEIR_POOL || options->concurrency == WEIR_PREFORK;

    if (!queues && options->queue_target_ms > 0 && options->queue_target_ms != WEIR_FOREVER)
        return refuse_of_queue(reading, "queue_target_ms", options->queue_target_ms);
    if (!queues && options->max_queued > 0)
        return refuse_of_queue(reading, "max_queued", options->max_queued);
    if (options->when_queued == WEIR_REFUSE && options->max_queued == 0)
        return REFUSE(reading, "when_queued is WEIR_REFUSE, but max_queued is 0: it says from how "
                      "many on");
    return 0;
}

static int complete_options(struct reading *reading)
{
    struct weir_options *options = reading->options;
    uint32_t cpus = cpulist_count_allowed();
    int r;

    set_usual_values(options);
    set_no_timeouts(options);
    set_no_choices(options);
    if (options->processes == 0)
        options->processes = cpus < WEIR_MAX_PROCESSES ? cpus : WEIR_MAX_PROCESSES;
    if (options->workers == 0)
        options->workers = options->concurrency == WEIR_PREFORK
            ? share_of_cpus(cpus, options->processes) : cpus;
    if (options->workers > WEIR_MAX_WORKERS)
        options->workers = WEIR_MAX_WORKERS;
    r = check_children(reading);
    return r < 0 ? r : places_reckon(options, reading->why, reading->why_size);
}

int options_read(const struct weir_options *in, struct weir_options *ret, char *why,
                 size_t why_size)
{
    struct reading reading = { .options = ret, .why = why, .why_size = why_size };
    int r = copy_options(in, &reading);

    if (r == 0)
        r = check_listens(&reading);
    if (r == 0)
        r = check_limits(&reading);
    if (r == 0)
        r = check_mode(&reading);
    if (r == 0)
        r = check_concurrency(&reading);
    if (r == 0)
        r = check_queue(&reading);
    if (r == 0)
        r = complete_options(&reading);
    return r;
}

size_t options_listens(const struct weir_options *options)
{
    return options->listen ? 1 : options->listeners_len;
}

bool options_have_unix_path(const struct weir_options *options)
{
    static const char stream[] = "unix:/", datagram[] = "unixgram:/";

    for (size_t i = 0; i < options_listens(options); i++) {
        struct weir_listen listen = listen_as_said(options, i);
        const char *address = listen.address;

        /* Whoever has bound it may have heeded the options then. */
        if (listen.taken_over == WEIR_YES)
            return true;
        if (strncmp(address, stream, strlen(stream)) == 0 ||
            strncmp(address, datagram, strlen(datagram)) == 0)
            return true;
    }
    return false;
}

struct weir_listen options_listen(const struct weir_options *options, size_t i)
{
    struct weir_listen listen = listen_as_said(options, i);

    if (!listen.handler)
        listen.handler = options->handler;
    return listen;
}

uint64_t options_set_aside(const struct weir_options *options)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < options_listens(options); i++)
        sum += listen_as_said(options, i).max_connections;
    return sum;
}
