/*
 * load.c - see load.h: lanes and their threads, and when requests begin.
 */
#include "tools/load/load.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine/base/cpulist.h"
#include "engine/base/sys.h"
#include "tools/load/load_address.h"
#include "tools/load/load_lane.h"

enum {
    TIMEOUT_MS = 5000,
    REPORT_MS = 1000,
};

struct load {
    struct load_options options;
    struct address address;
    int stop_fd;                /* readable for ever once load_stop was called: wakes lanes */
    atomic_bool stopped;        /* the same, for runs that have not begun */
    struct lane *lanes;
};

/* ------------------------------------------------------------------ requests ---------- */

uint64_t lane_timeout_ns(const struct lane *lane)
{
    return LANE_MS(lane->options->timeout_ms);
}

uint64_t lane_backlog(const struct lane *lane, uint64_t now_ns)
{
    uint64_t due = pace_due(&lane->arrivals,
                            now_ns < lane->deadline_ns ? now_ns : lane->deadline_ns - 1);

    return due < lane->left ? due : lane->left;
}

bool lane_begin(struct lane *lane, uint64_t now_ns, bool first, uint64_t *ret_ns)
{
    if (lane->arrivals.count > 0) {
        if (lane_backlog(lane, now_ns) == 0)
            return false;
        *ret_ns = pace_next_ns(&lane->arrivals);
        lane->arrivals.done++;
        lane->left--;
        return true;
    }
    if (lane->left == 0 || (now_ns >= lane->deadline_ns && (!first || lane->stopped)))
        return false;
    *ret_ns = now_ns;
    lane->left--;
    return true;
}

bool lane_late(const struct lane *lane, uint64_t now_ns)
{
    return lane->run_ms > 0 && now_ns >= lane->deadline_ns &&
           clock_since(lane->deadline_ns, now_ns) >= lane_timeout_ns(lane);
}

void lane_give_up(struct lane *lane, uint64_t now_ns)
{
    uint64_t backlog = lane_backlog(lane, now_ns);

    if (backlog == 0)
        return;
    lane_failed(lane, LOAD_UNSENT, backlog);
    lane->left = 0;
}

/* A backlog is worked off after the time is over, until it is too late for that. */
bool lane_is_over(const struct lane *lane, uint64_t now_ns)
{
    return lane->left == 0 || (now_ns >= lane->deadline_ns && lane_backlog(lane, now_ns) == 0);
}

/* ------------------------------------------------------------------ results ----------- */

const char *load_error_name(enum load_error error)
{
    static const char *const names[LOAD_ERRORS] = {
        [LOAD_CANNOT_CONNECT] = "cannot connect",
        [LOAD_CANNOT_SEND] = "a request could not be sent",
        [LOAD_CLOSED] = "the server closed a connection",
        [LOAD_BROKEN] = "a connection broke",
        [LOAD_TIMEOUT] = "no answer in time",
        [LOAD_WRONG_REPLY] = "a wrong reply",
        [LOAD_WRONG_STATUS] = "a status other than 200",
        [LOAD_WRONG_LENGTH] = "a body of another length",
        [LOAD_UNASKED] = "a reply that nobody asked for",
        [LOAD_UNREADABLE] = "a reply that cannot be read",
        [LOAD_UNSENT] = "every connection was busy for too long",
    };

    return names[error];
}

static void result_add(struct load_result *to, const struct load_result *from)
{
    to->requests += from->requests;
    to->errors += from->errors;
    for (size_t i = 0; i < LOAD_ERRORS; i++)
        to->errors_by[i] += from->errors_by[i];
    to->lost += from->lost;
    to->reopened += from->reopened;
    to->trickled += from->trickled;
    to->hung_up += from->hung_up;
    to->bytes_in += from->bytes_in;
    to->bytes_out += from->bytes_out;
    to->busy_ns += from->busy_ns;
    if (!to->first_error)
        to->first_error = from->first_error;
    histogram_merge(&to->latency, &from->latency);
    histogram_merge(&to->connect, &from->connect);
}

void lane_answered(struct lane *lane, uint64_t begun_ns, uint64_t now_ns)
{
    lane->result.requests++;
    histogram_add(&lane->result.latency, clock_since(begun_ns, now_ns));
}

void lane_failed(struct lane *lane, enum load_error what, uint64_t requests)
{
    uint64_t errors = requests > 0 ? requests : 1;

    if (!lane->result.first_error)
        lane->result.first_error = load_error_name(what);
    lane->result.errors += errors;
    lane->result.errors_by[what] += errors;
}

/* ------------------------------------------------------------------ waiting ----------- */

/* Every lane publishes its count, now and then; the first one tells their sum. */
static void report(struct lane *lane)
{
    uint64_t sum = 0;

    /* relaxed: a figure to look at, nothing hangs on it. pairs: the loads below */
    atomic_store_explicit(&lane->answered, lane->result.requests, memory_order_relaxed);
    if (lane->number > 0)
        return;
    for (uint32_t i = 0; i < lane->options->threads; i++)
        /* relaxed: as above. pairs: the store above */
        sum += atomic_load_explicit(&lane->lanes[i].answered, memory_order_relaxed);
    lane->options->progress(lane->options->progress_arg, sum);
}

static void lane_stop(struct lane *lane)
{
    uint64_t now_ns = lane_clock_ns();

    lane->stopped = true;
    if (now_ns < lane->deadline_ns)
        lane->deadline_ns = now_ns;
}

/* Takes what is not the transport's out of the events. */
static int take_stop(struct lane *lane, struct epoll_event *events, int n)
{
    for (int i = 0; i < n; i++)
        if (!events[i].data.ptr) {
            lane_stop(lane);
            events[i] = events[n - 1];
            return n - 1;
        }
    return n;
}

static struct timespec span(uint64_t from_ns, uint64_t to_ns)
{
    uint64_t ns = clock_since(from_ns, to_ns);

    return (struct timespec){
        .tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u),
    };
}

/* A millisecond at most too late, which is better than too early, and again, and again. */
static int wait_in_ms(const struct lane *lane, struct epoll_event *events,
                      const struct timespec *timeout)
{
    int64_t ms = timeout ? timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000 : -1;

    return epoll_wait(lane->epoll_fd, events, LANE_EVENTS_MAX, ms < INT_MAX ? (int)ms : INT_MAX);
}

/* Linux has nanoseconds since 5.11, and sandboxes don't all know the call. */
static int wait_in_ns(const struct lane *lane, struct epoll_event *events,
                      const struct timespec *timeout)
{
    int n = epoll_pwait2(lane->epoll_fd, events, LANE_EVENTS_MAX, timeout, NULL);

    if (n < 0 && (errno == ENOSYS || errno == EPERM))
        n = wait_in_ms(lane, events, timeout);
    return n;
}

int lane_wait(struct lane *lane, struct epoll_event *events, uint64_t now_ns, uint64_t until_ns)
{
    struct timespec timeout;
    int n;

    if (pace_due(&lane->reports, now_ns) > 0) {
        lane->reports.done += pace_due(&lane->reports, now_ns);
        report(lane);
    }
    if (pace_next_ns(&lane->reports) < until_ns)
        until_ns = pace_next_ns(&lane->reports);
    timeout = span(now_ns, until_ns);
    n = wait_in_ns(lane, events, until_ns == PACE_NEVER ? NULL : &timeout);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    return take_stop(lane, events, n);
}

/* ------------------------------------------------------------------ running ----------- */

static uint64_t thread_cpu_ns(void)
{
    struct timespec used;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

/* The n-th of `threads` shares of a number. */
static uint64_t share_of_thread(uint64_t number, uint32_t threads, uint32_t n)
{
    return number / threads + (n < number % threads);
}

static void begin_lane(struct lane *lane)
{
    const struct load_options *options = lane->options;

    memset(&lane->result, 0, sizeof(lane->result));
    /* relaxed: a stop that comes now is told by stop_fd. pairs: load_stop() */
    lane->stopped = atomic_load_explicit(lane->stop, memory_order_relaxed);
    lane->start_ns = lane_clock_ns();
    lane->deadline_ns = lane->start_ns + LANE_MS(lane->run_ms);
    if (lane->run_ms == UINT32_MAX)
        lane->deadline_ns = PACE_NEVER;
    if (lane->stopped)
        lane->deadline_ns = lane->start_ns;
    /* relaxed: a figure to look at. pairs: report() of the first lane */
    atomic_store_explicit(&lane->answered, 0, memory_order_relaxed);
    lane->left = options->requests > 0
        ? share_of_thread(options->requests, options->threads, lane->number) : UINT64_MAX;
    /* Each lane has every threads-th arrival. */
    lane->arrivals = (struct pace){
        .count = options->rate, .per_ns = 1000000000ull * options->threads,
    };
    if (options->rate > 0)
        lane->arrivals.start_ns = lane->start_ns +
                                  pace_scale(lane->number, 1000000000u, options->rate);
    lane->reports = (struct pace){
        .start_ns = lane->start_ns + LANE_MS(REPORT_MS),
        .per_ns = LANE_MS(REPORT_MS), .count = options->progress ? 1 : 0,
    };
}

static void *lane_run(void *arg)
{
    struct lane *lane = arg;
    uint64_t cpu_ns = thread_cpu_ns();

    begin_lane(lane);
    lane->error = lane->kind->run(lane);
    lane->result.busy_ns = thread_cpu_ns() - cpu_ns;
    return NULL;
}

/* A thread that waits until a request is due wants to be woken then, not 50 us later. */
static void prepare_thread(const struct lane *lane)
{
    const struct load_options *options = lane->options;
    cpu_set_t *cpu;
    size_t size;

    if (options->rate > 0)
        prctl(PR_SET_TIMERSLACK, 1ul);
    if (options->cpus_len == 0)
        return;
    cpu = cpulist_set_of(options->cpus[lane->number % options->cpus_len], &size);
    if (!cpu)
        return;
    pthread_setaffinity_np(pthread_self(), size, cpu);
    CPU_FREE(cpu);
}

static void *lane_main(void *arg)
{
    prepare_thread(arg);
    return lane_run(arg);
}

/* Starts all lanes but the first, as many as there can be. Returns 0 or -errno. */
static int start_threads(struct load *load, uint32_t *ret_started)
{
    int r = 0;

    for (*ret_started = 0; *ret_started + 1 < load->options.threads; ++*ret_started) {
        struct lane *lane = &load->lanes[*ret_started + 1];

        r = -pthread_create(&lane->thread, NULL, lane_main, lane);
        if (r < 0)
            break;
    }
    return r;
}

static int gather_results(const struct load *load, struct load_result *result)
{
    int error = 0;

    for (uint32_t i = 0; i < load->options.threads; i++) {
        if (error == 0)
            error = load->lanes[i].error;
        result_add(result, &load->lanes[i].result);
    }
    return error;
}

int load_run(struct load *load, uint32_t ms, struct load_result *result)
{
    uint64_t start_ns = lane_clock_ns();
    uint32_t started;
    int r;

    for (uint32_t i = 0; i < load->options.threads; i++)
        load->lanes[i].run_ms = ms;
    r = start_threads(load, &started);
    if (r == 0)
        lane_main(&load->lanes[0]);
    else
        load_stop(load);
    for (uint32_t i = 1; i <= started; i++)
        pthread_join(load->lanes[i].thread, NULL);
    if (r == 0)
        r = gather_results(load, result);
    result->elapsed_ns += lane_clock_ns() - start_ns;
    return r;
}

void load_stop(struct load *load)
{
    const uint64_t one = 1;
    int error = errno;

    /* relaxed: it says nothing about anything else. pairs: begin_lane() */
    atomic_store_explicit(&load->stopped, true, memory_order_relaxed);
    /* It fails only if it was called 2^64 - 1 times before. */
    if (write(load->stop_fd, &one, sizeof(one)) < 0)
        errno = error;
}

size_t load_reply_len(const struct load *load)
{
    return load->lanes[0].reply_len;
}

/* ------------------------------------------------------------------ creating ---------- */

static int lane_create(struct load *load, const struct lane_kind *kind, uint32_t number)
{
    const struct load_options *options = &load->options;
    /* Edge-triggered: each lane is told once. */
    struct epoll_event stop = { .events = EPOLLIN | EPOLLET, .data.ptr = NULL };
    struct lane *lane = &load->lanes[number];

    *lane = (struct lane){
        .kind = kind,
        .options = options,
        .address = &load->address,
        .lanes = load->lanes,
        .stop = &load->stopped,
        .number = number,
        .clients = (uint32_t)share_of_thread(options->connections, options->threads, number),
        .stalled = (uint32_t)share_of_thread(options->stalled, options->threads, number),
        .trickled = (uint32_t)share_of_thread(options->trickled, options->threads, number),
    };
    lane->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (lane->epoll_fd < 0 ||
        epoll_ctl(lane->epoll_fd, EPOLL_CTL_ADD, load->stop_fd, &stop) < 0)
        return -errno;
    return kind->create(lane);
}

static int open_lanes(struct load *load)
{
    const struct lane_kind *kind = load->address.type == SOCK_DGRAM ? &lane_of_datagrams
                                                                    : &lane_of_streams;
    int r = 0;

    load->lanes = calloc(load->options.threads, sizeof(*load->lanes));
    if (!load->lanes)
        return -ENOMEM;
    for (uint32_t i = 0; i < load->options.threads && r == 0; i++)
        r = lane_create(load, kind, i);
    return r;
}

static int complete_load(struct load_options *options)
{
    if (options->threads == 0 || options->connections == 0)
        options->threads = 1;
    else if (options->threads > options->connections)
        options->threads = options->connections;    /* or who sends the others' share? */
    if (options->in_flight == 0)
        options->in_flight = 1;
    if (options->timeout_ms == 0)
        options->timeout_ms = TIMEOUT_MS;
    if (!options->path)
        options->path = "/";
    if (!options->headers)
        options->headers = "";
    if (options->in_flight > LOAD_IN_FLIGHT_MAX)
        return -EINVAL;
    if (options->mode != LOAD_HTTP && options->size > 0 &&
        (options->size < LOAD_LINE_MIN || options->size > LOAD_LINE_MAX))
        return -EINVAL;
    return 0;
}

int load_create(struct load **ret_load, const struct load_options *options)
{
    struct load *load = calloc(1, sizeof(*load));
    int r;

    if (!load)
        return -ENOMEM;
    load->options = *options;
    load->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    r = load->stop_fd < 0 ? -errno : complete_load(&load->options);
    if (r == 0)
        r = load_find_address(&load->options, &load->address);
    if (r == 0)
        r = open_lanes(load);
    if (r < 0) {
        load_destroy(load);
        return r;
    }
    load->options.address = NULL;
    *ret_load = load;
    return 0;
}

void load_destroy(struct load *load)
{
    if (!load)
        return;
    for (uint32_t i = 0; load->lanes && i < load->options.threads; i++) {
        struct lane *lane = &load->lanes[i];

        if (!lane->kind)
            continue;
        lane->kind->destroy(lane);
        sys_close(lane->epoll_fd);
    }
    sys_close(load->stop_fd);
    free(load->lanes);
    free(load);
}
