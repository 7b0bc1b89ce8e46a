#include "engine/server/options.h"

#include "engine/base/cpulist.h"
#include "engine/base/why.h"
#include "engine/fiber/stack.h"
#include "engine/sync/handoff.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>

/* No memory has room for it; but what is added to it doesn't wrap. */
#define STATE_SIZE_MAX ((size_t)1 << 46)

/* Descriptors that are not connections: the standard streams, sets, eventfds; and listeners. */
#define DESCRIPTORS_ASIDE 6
#define DESCRIPTORS_PER_WORKER 2
#define DESCRIPTORS_PER_ACCEPTOR 3

/* And a margin for files of the program's and for weir_poll: this, or an eighth of what is left. */
#define DESCRIPTORS_SPARE 55

/*
 * Where the structures of the first version of weir end. A program that was compiled with it says
 * so by these sizes, and therefore they never change once it is out. A later version adds its
 * fields behind, and leaves no hole at the end: a field that an older library does not know would
 * go unseen there.
 */
#define END_OF(type, field) (offsetof(type, field) + sizeof(((type *)NULL)->field))
#define OPTIONS_SIZE_V1 END_OF(struct weir_options, multicast_loop)
#define LISTEN_SIZE_V1 END_OF(struct weir_listen, handler)

/* No structure ever grows to that: a size beyond it is what happened to be in memory. */
#define SIZE_MOST 65536

#ifdef __LP64__
_Static_assert(OPTIONS_SIZE_V1 == 256, "a field was put in among those of the first version");
_Static_assert(LISTEN_SIZE_V1 == 16, "a field was put in among those of the first version");
_Static_assert(sizeof(struct weir_handler) == 96, "nothing says its size: a new field takes the "
               "place of reserved bytes");
#endif

/* The last fields now. */
_Static_assert(END_OF(struct weir_options, multicast_loop) == sizeof(struct weir_options), "a hole");
_Static_assert(END_OF(struct weir_listen, handler) == sizeof(struct weir_listen), "a hole");
_Static_assert(END_OF(struct weir_handler, reserved) == sizeof(struct weir_handler), "a hole");

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
static int copy(const struct weir_options *in, struct reading *reading)
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
    if (!handler->name || !handler->handle)
        return REFUSE(reading, "%s: its handler needs a name and a handle function", address);
    /* What is set there now would mean something to a later version. */
    if (find_unknown(handler, offsetof(struct weir_handler, reserved), sizeof(*handler)) > 0)
        return REFUSE(reading, "handler '%s': reserved is set: leave it 0", handler->name);
    if (handler->state_size > STATE_SIZE_MAX)
        return REFUSE(reading, "handler '%s': state_size is %zu: at most %zu", handler->name,
                      handler->state_size, STATE_SIZE_MAX);
    if (handler->stack != WEIR_STACK_FIBER && handler->stack != WEIR_STACK_THREAD)
        return REFUSE(reading, "handler '%s': stack %d is neither WEIR_STACK_FIBER nor "
                      "WEIR_STACK_THREAD", handler->name, (int)handler->stack);
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

static int check_listen(struct reading *reading, size_t i)
{
    struct weir_listen listen = options_listen(reading->options, i);

    if (!listen.address)
        return REFUSE(reading, "listeners[%zu] has no address", i);
    return check_handler(listen.handler, listen.address, reading);
}

static int check_listens(struct reading *reading)
{
    const struct weir_options *options = reading->options;
    int r = 0;

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

/* ------------------------------------------------------------------ limits ------------ */

/* What an option may be, and what 0 stands for. */
struct limit {
    const char *name;
    size_t at;                  /* in struct weir_options */
    size_t size;                /* of the field, which is a number or an enumeration */
    size_t most;
    size_t least;               /* 0 may be in any case */
    size_t usual;               /* what 0 becomes; 0: that is for somebody else to say */
};

#define LIMIT(field, ...) \
    { #field, offsetof(struct weir_options, field), sizeof(((struct weir_options *)NULL)->field), \
      __VA_ARGS__ }

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
    LIMIT(max_packet_size, .most = WEIR_MAX_PACKET_SIZE, .usual = 8192),
    LIMIT(multicast_ttl, .most = WEIR_MAX_MULTICAST_TTL),
    LIMIT(multicast_loop, .most = WEIR_NO),
};

enum { LIMITS = sizeof(limits) / sizeof(limits[0]) };

/* Other modules have room for so many, and give stacks of these sizes. */
_Static_assert(WEIR_MAX_WORKERS == HANDOFF_WORKERS_MAX, "workers");
_Static_assert(WEIR_MIN_STACK_SIZE == STACK_SIZE_MIN, "stack_size");
_Static_assert(WEIR_MAX_STACK_SIZE == STACK_SIZE_MAX, "stack_size");

static size_t value_of(const struct weir_options *options, const struct limit *limit)
{
    const char *at = (const char *)options + limit->at;
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
    size_t value = value_of(reading->options, limit);
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

static void set_usual_values(struct weir_options *options)
{
    for (size_t i = 0; i < LIMITS; i++)
        if (value_of(options, &limits[i]) == 0 && limits[i].usual > 0)
            set_value(options, &limits[i], limits[i].usual);
}

static int check_mode(struct reading *reading)
{
    uint32_t mode = reading->options->unix_mode;

    return mode <= 0777 ? 0 : REFUSE(reading, "unix_mode is 0%o: permissions are at most 0777",
                                     (unsigned)mode);
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

/* What the server itself needs. */
static rlim_t own_descriptors(const struct weir_options *options)
{
    bool pool = options->concurrency == WEIR_POOL || options->concurrency == WEIR_PREFORK;

    return DESCRIPTORS_ASIDE + (pool ? options->workers : 1) * DESCRIPTORS_PER_WORKER +
           options->acceptors * (DESCRIPTORS_PER_ACCEPTOR + options_listens(options));
}

/* So many connections that limit allows. */
static uint32_t room_in(rlim_t limit, const struct weir_options *options)
{
    rlim_t own = own_descriptors(options);
    rlim_t room = limit > own ? limit - own : 0;

    if (limit > INT32_MAX)
        return INT32_MAX;
    return (uint32_t)(room - (room / 8 < DESCRIPTORS_SPARE ? room / 8 : DESCRIPTORS_SPARE));
}

/* Each of a pool may have a handler that waits. */
static uint32_t usable_connections(const struct weir_options *options, rlim_t limit)
{
    bool on_fibers = options->concurrency == WEIR_POOL || options->concurrency == WEIR_PREFORK;
    size_t stacks = on_fibers ? stack_count_max() : SIZE_MAX;
    uint32_t descriptors = room_in(limit, options);

    return stacks < descriptors ? (uint32_t)stacks : descriptors;
}

/* Beyond the hard limit nobody can be accepted. */
static int complete_max_connections(struct reading *reading)
{
    struct weir_options *options = reading->options;
    struct rlimit limit = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };
    uint32_t most;

    getrlimit(RLIMIT_NOFILE, &limit);
    most = room_in(limit.rlim_max, options);
    if (room_in(limit.rlim_cur, options) == 0)
        return why_set(reading->why, reading->why_size, -EMFILE, "Too many open files: the limit of "
                       "descriptors (ulimit -n) is %llu, and the server itself takes %llu",
                       (unsigned long long)limit.rlim_cur,
                       (unsigned long long)own_descriptors(options));
    if (options->max_connections == 0)
        options->max_connections = usable_connections(options, limit.rlim_cur);
    if (options->max_connections > most)
        options->max_connections = most;
    return 0;
}

static uint32_t share_of(uint32_t cpus, uint32_t processes)
{
    return cpus > processes ? cpus / processes : 1;
}

static int complete(struct reading *reading)
{
    struct weir_options *options = reading->options;
    uint32_t cpus = cpulist_count_allowed();

    set_usual_values(options);
    if (options->processes == 0)
        options->processes = cpus < WEIR_MAX_PROCESSES ? cpus : WEIR_MAX_PROCESSES;
    if (options->workers == 0)
        options->workers = options->concurrency == WEIR_PREFORK
            ? share_of(cpus, options->processes) : cpus;
    if (options->workers > WEIR_MAX_WORKERS)
        options->workers = WEIR_MAX_WORKERS;
    return complete_max_connections(reading);
}

int options_read(const struct weir_options *in, struct weir_options *ret, char *why,
                 size_t why_size)
{
    struct reading reading = { .options = ret, .why = why, .why_size = why_size };
    int r = copy(in, &reading);

    if (r == 0)
        r = check_listens(&reading);
    if (r == 0)
        r = check_limits(&reading);
    if (r == 0)
        r = check_mode(&reading);
    if (r == 0)
        r = check_concurrency(&reading);
    if (r == 0)
        r = complete(&reading);
    return r;
}

size_t options_listens(const struct weir_options *options)
{
    return options->listen ? 1 : options->listeners_len;
}

struct weir_listen options_listen(const struct weir_options *options, size_t i)
{
    struct weir_listen listen = { .address = options->listen };

    if (!options->listen)
        memcpy(&listen, listener_at(options, i), smaller(sizeof(listen), options->listener_size));
    if (!listen.handler)
        listen.handler = options->handler;
    return listen;
}
