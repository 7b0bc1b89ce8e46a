#include "engine/server/places.h"

#include "engine/base/sys.h"
#include "engine/base/why.h"
#include "engine/fiber/stack.h"
#include "engine/pool/connection.h"
#include "engine/server/options.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/resource.h>

/* ------------------------------------------------------------------ what is spent ----- */

/* Its workers are a pool's, if need be in its children. */
static bool is_on_fibers(const struct weir_options *options)
{
    return options->concurrency == WEIR_POOL || options->concurrency == WEIR_PREFORK;
}

static int64_t one(const struct weir_options *options)
{
    (void)options;
    return 1;
}

static int64_t one_if_accepting(const struct weir_options *options)
{
    return options->concurrency != WEIR_PREFORK;
}

static int64_t one_without_workers(const struct weir_options *options)
{
    return options->concurrency != WEIR_POOL;
}

static int64_t one_if_forking(const struct weir_options *options)
{
    return options->concurrency == WEIR_FORK;
}

static int64_t one_if_preforking(const struct weir_options *options)
{
    return options->concurrency == WEIR_PREFORK;
}

static int64_t count_common_sets(const struct weir_options *options)
{
    return options->concurrency == WEIR_POOL && options->dispatch == WEIR_DISPATCH_ACCEPTOR;
}

static int64_t count_childs_common_sets(const struct weir_options *options)
{
    return options->concurrency == WEIR_PREFORK && options->dispatch == WEIR_DISPATCH_ACCEPTOR;
}

/* What is no pool has one that never runs. */
static int64_t count_workers(const struct weir_options *options)
{
    return options->concurrency == WEIR_POOL ? options->workers : 1;
}

static int64_t count_childs_workers(const struct weir_options *options)
{
    return options->concurrency == WEIR_PREFORK ? options->workers : 0;
}

static int64_t count_acceptors(const struct weir_options *options)
{
    return options->acceptors;
}

/* A name may be several sockets, which is known when they are bound. */
static int64_t count_sockets(const struct weir_options *options)
{
    return (int64_t)(options->acceptors * options_listens(options));
}

/* What people call RLIMIT_NOFILE. */
#define OPEN_FILES "the limit of open files (ulimit -n)"

/*
 * Descriptors that are no connections, in the process that has these: a child of WEIR_PREFORK has
 * most of what its parent had when the sockets were bound, and then its own. A client of WEIR_FORK
 * costs the parent one as well, a pidfd.
 */
static const struct spending {
    int each;
    int64_t (*number)(const struct weir_options *options);
    bool to_come;               /* it is opened later than the sockets are bound */
} spendings[] = {
    /* The standard streams. */
    { .each = 3, .number = one },
    /* room_fd and watch_fd of the pool. */
    { .each = 2, .number = one },
    { .each = 1, .number = count_common_sets },
    /* A set and an eventfd. */
    { .each = 2, .number = count_workers },
    /* drain_fd and cancel_fd. */
    { .each = 2, .number = one_without_workers },
    /* A set and two eventfds. */
    { .each = 3, .number = count_acceptors },
    { .each = 1, .number = count_sockets },
    /* The set of children's ends, and a timer. */
    { .each = 2, .number = one_if_forking },
    /* It is reserved for the pidfd of the next child, whose client is open meanwhile. */
    { .each = 1, .number = one_if_forking, .to_come = true },
    /* The set of children's ends, the parent's pidfd, and what children signal to the parent. */
    { .each = 5, .number = one_if_preforking },
    /* The child closes that set and the one of the parent's acceptor. */
    { .each = -2, .number = one_if_preforking, .to_come = true },
    /* The child's orders and done_fd, and room_fd and watch_fd of its pool. */
    { .each = 4, .number = one_if_preforking, .to_come = true },
    { .each = 1, .number = count_childs_common_sets, .to_come = true },
    { .each = 2, .number = count_childs_workers, .to_come = true },
    /* The child's acceptor: a set and two eventfds. */
    { .each = 3, .number = one_if_preforking, .to_come = true },
    /* The doorman's set. */
    { .each = 1, .number = one_if_accepting, .to_come = true },
};

#define SPENDINGS (sizeof(spendings) / sizeof(spendings[0]))

/* A margin for files of the program's and for weir_poll: this, or an eighth of what is left. */
#define SPARE 55

/* Returns how many there are in all, or of those to come. */
static uint64_t count_spent(const struct weir_options *options, bool only_to_come)
{
    int64_t sum = 0;

    for (size_t i = 0; i < SPENDINGS; i++)
        if (spendings[i].to_come || !only_to_come)
            sum += spendings[i].each * spendings[i].number(options);
    return (uint64_t)sum;
}

/* ------------------------------------------------------------------ options are read -- */

/* Returns how many connections that limit allows. */
static uint32_t room_in(rlim_t limit, const struct weir_options *options)
{
    uint64_t own = count_spent(options, false);
    uint64_t room = limit > own ? limit - own : 0;

    if (limit > CONNECTION_TABLE_MAX)
        return CONNECTION_TABLE_MAX;
    return (uint32_t)(room - (room / 8 < SPARE ? room / 8 : SPARE));
}

/* Each of a pool may have a handler that waits. */
static uint32_t room_for_stacks(const struct weir_options *options)
{
    size_t stacks = is_on_fibers(options) ? stack_count_max() : SIZE_MAX;

    return stacks < UINT32_MAX ? (uint32_t)stacks : UINT32_MAX;
}

static uint32_t usable_connections(const struct weir_options *options, rlim_t limit)
{
    uint32_t stacks = room_for_stacks(options);
    uint32_t descriptors = room_in(limit, options);

    return stacks < descriptors ? stacks : descriptors;
}

/* Returns what listeners with limits of their own leave for the server; 0: nothing. */
static uint32_t left_of(uint32_t connections, const struct weir_options *options)
{
    uint64_t aside = options_set_aside(options);

    return aside < connections ? connections - (uint32_t)aside : 0;
}

static int refuse_aside(uint64_t aside, rlim_t limit, char *why, size_t why_size)
{
    return why_set(why, why_size, -EMFILE, "Too many open files: the listeners' max_connections "
                   "are %llu in all, and the limit of descriptors (ulimit -n, %llu) leaves none "
                   "beside them", (unsigned long long)aside, (unsigned long long)limit);
}

int places_reckon(struct weir_options *options, char *why, size_t why_size)
{
    struct rlimit limit = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };
    uint32_t most;

    getrlimit(RLIMIT_NOFILE, &limit);
    most = left_of(room_in(limit.rlim_max, options), options);
    if (room_in(limit.rlim_cur, options) == 0)
        return why_set(why, why_size, -EMFILE, "Too many open files: the limit of descriptors "
                       "(ulimit -n) is %llu, and the server itself takes %llu",
                       (unsigned long long)limit.rlim_cur,
                       (unsigned long long)count_spent(options, false));
    if (options->max_connections == 0)
        options->max_connections = left_of(usable_connections(options, limit.rlim_cur), options);
    if (options->max_connections > most)
        options->max_connections = most;
    if (options->max_connections == 0)
        return refuse_aside(options_set_aside(options), limit.rlim_cur, why, why_size);
    return 0;
}

const char *places_limit(const struct weir_options *said, const struct weir_options *read)
{
    if (said->max_connections == read->max_connections)
        return "max_connections";
    if (read->max_connections == left_of(room_for_stacks(read), read))
        return "the limit of mappings (vm.max_map_count)";
    return OPEN_FILES;
}

/* ------------------------------------------------------------------ sockets are bound - */

/* One poll(2) asks for this many descriptors. */
#define DESCRIPTORS_A_TIME 256

/* Returns how many of the len descriptors from first on are not open, or -errno. */
static int count_free(int first, int len)
{
    struct pollfd fds[DESCRIPTORS_A_TIME];
    int count = 0;
    int r;

    for (int i = 0; i < len; i++)
        fds[i] = (struct pollfd){ .fd = first + i };
    r = sys_poll_now(fds, (size_t)len);
    if (r < 0)
        return r;
    for (int i = 0; i < len; i++)
        count += (fds[i].revents & POLLNVAL) != 0;
    return count;
}

/* Returns how many descriptors below the limit are not open, but no more than are needed. */
static int64_t count_free_below(rlim_t limit, uint64_t needed)
{
    rlim_t end = limit < CONNECTION_TABLE_MAX ? limit : CONNECTION_TABLE_MAX;
    uint64_t sum = 0;

    for (rlim_t fd = 0; fd < end && sum < needed; fd += DESCRIPTORS_A_TIME) {
        /* poll(2) takes no more entries than the limit is. */
        rlim_t len = end - fd < DESCRIPTORS_A_TIME ? end - fd : DESCRIPTORS_A_TIME;
        int n = count_free((int)fd, (int)len);

        if (n < 0)
            return n;
        sum += (uint64_t)n;
    }
    return (int64_t)(sum < needed ? sum : needed);
}

/*
 * Connections that were submitted before have their descriptors already. They are counted after the
 * free ones: one that ends in between is then counted nowhere, rather than twice.
 */
int places_settle(const struct weir_options *options, struct quota *quota, uint64_t aside,
                  char *why, size_t why_size)
{
    uint64_t beside = aside + count_spent(options, true);
    struct rlimit limit;
    int64_t free_ones;
    uint64_t left;

    if (aside == 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    free_ones = count_free_below(limit.rlim_cur, beside + quota->max);
    if (free_ones < 0)
        return why_set(why, why_size, (int)free_ones, "the descriptors can't be counted: %s",
                       why_error((int)free_ones));
    if ((uint64_t)free_ones <= beside)
        return refuse_aside(aside, limit.rlim_cur, why, why_size);
    left = (uint64_t)free_ones - beside + quota_count(quota);
    if (left < quota->max) {
        quota->max = left;
        quota->limit = OPEN_FILES;
    }
    return 0;
}
