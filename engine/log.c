#include "engine/log.h"

#include "engine/clock.h"
#include "engine/thread.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINES 32
#define LINE_SIZE 500
#define FLUSH_MS 1000

struct line {
    size_t len;
    char text[LINE_SIZE];
};

/* How many lines of a kind are taken in a period, and what the others are about; NULL: they say
 * the same once more, and statistics count it. */
static const struct limit {
    unsigned lines;
    unsigned period_ms;
    const char *about;
} limits[LOG_KINDS] = {
    [LOG_FAILURE] = { 10, 1000, "requests that failed" },
    [LOG_STALL] = { 10, 1000, "handlers that hold their workers" },
    [LOG_CHILD] = { 10, 1000, "child processes" },
    [LOG_SHORTAGE] = { 3, 10000, "what there is not enough of" },
    [LOG_FULL] = { 1, 60000, NULL },
};

struct period {
    uint64_t until_ms;          /* 0: none has begun */
    unsigned taken;
    uint64_t left_out;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;    /* of all below; never held over write */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_cond_t news;     /* for the writer */
static pthread_cond_t written;  /* a line is, or the writer has ended */
static struct line ring[LINES];
static unsigned first;
static unsigned len;            /* with the one that is being written */
static uint64_t lost;           /* for want of room in the ring */
static struct period periods[LOG_KINDS];
static unsigned users;
static bool running;            /* the writer */
static bool ending;             /* it shall end once the ring is empty */
static pthread_t writer;

/* ------------------------------------------------------------------ the ring ---------- */

static struct line *put_locked(void)
{
    if (len == LINES) {
        lost++;
        return NULL;
    }
    return &ring[(first + len++) % LINES];
}

static void say_locked(const char *format, uint64_t count, const char *about)
{
    struct line *line = put_locked();

    if (line)
        line->len = (size_t)snprintf(line->text, sizeof(line->text), format,
                                     (unsigned long long)count, about);
}

/* What has been left out, once it is time to say so. */
static void sum_up_locked(uint64_t now_ms)
{
    for (unsigned kind = 0; kind < LOG_KINDS; kind++) {
        struct period *period = &periods[kind];

        if (period->left_out == 0 || now_ms < period->until_ms)
            continue;
        say_locked("weir: left out: %llu more about %s\n", period->left_out,
                   limits[kind].about);
        *period = (struct period){ 0 };
    }
    if (lost > 0 && len < LINES) {
        uint64_t count = lost;

        lost = 0;
        say_locked("weir: left out: %llu for which standard error had no room%s\n", count, "");
    }
}

static uint64_t next_sum_ms_locked(void)
{
    uint64_t next_ms = CLOCK_NEVER;

    for (unsigned kind = 0; kind < LOG_KINDS; kind++)
        if (periods[kind].left_out > 0)
            next_ms = clock_earlier(next_ms, periods[kind].until_ms);
    return next_ms;
}

static bool may_say(enum log_kind kind)
{
    const struct limit *limit = &limits[kind];
    struct period *period = &periods[kind];
    uint64_t now_ms = clock_ms();
    bool may;

    pthread_mutex_lock(&lock);
    sum_up_locked(now_ms);
    if (now_ms >= period->until_ms)
        *period = (struct period){ .until_ms = now_ms + limit->period_ms };
    may = period->taken < limit->lines;
    if (may)
        period->taken++;
    else if (limit->about && period->left_out++ == 0)
        pthread_cond_signal(&news);     /* there will be a sum */
    pthread_mutex_unlock(&lock);
    return may;
}

/* ------------------------------------------------------------------ writing ----------- */

void log_now(const char *text, size_t size, int wait_ms)
{
    struct pollfd room = { .fd = STDERR_FILENO, .events = POLLOUT };

    /* A pipe that is writable has room for PIPE_BUF bytes, unless somebody takes it just now. One
     * that nobody has open any more has POLLERR, too, and SIGPIPE for who writes. */
    if (poll(&room, 1, wait_ms) == 1 && room.revents == POLLOUT)
        (void)!write(STDERR_FILENO, text, size);
}

/* May take for ever. What can't be written is gone. */
static void write_whole(const struct line *line)
{
    size_t at = 0;

    while (at < line->len) {
        ssize_t n = write(STDERR_FILENO, line->text + at, line->len - at);

        if (n >= 0) {
            at += (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd room = { .fd = STDERR_FILENO, .events = POLLOUT };

            poll(&room, 1, -1);
        } else if (errno != EINTR) {
            return;
        }
    }
}

static void write_one_locked(void)
{
    struct line line = ring[first];

    pthread_mutex_unlock(&lock);
    write_whole(&line);
    pthread_mutex_lock(&lock);
    first = (first + 1) % LINES;
    len--;
    pthread_cond_broadcast(&written);
}

/* False: the time has come. */
static bool wait_locked(pthread_cond_t *cond, uint64_t until_ms)
{
    struct timespec until = {
        .tv_sec = (time_t)(until_ms / 1000), .tv_nsec = (long)(until_ms % 1000) * 1000000,
    };

    if (until_ms == CLOCK_NEVER)
        return pthread_cond_wait(cond, &lock) == 0;
    return pthread_cond_timedwait(cond, &lock, &until) == 0;
}

/* A reader that has gone is nothing to end the program for. */
static void block_sigpipe(void)
{
    sigset_t sigpipe;

    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, NULL);
}

static void *writer_main(void *nothing)
{
    block_sigpipe();
    pthread_mutex_lock(&lock);
    for (;;) {
        sum_up_locked(ending ? CLOCK_NEVER : clock_ms());
        if (len > 0)
            write_one_locked();
        else if (ending)
            break;
        else
            wait_locked(&news, next_sum_ms_locked());
    }
    running = false;
    pthread_cond_broadcast(&written);
    pthread_mutex_unlock(&lock);
    return nothing;
}

/* ------------------------------------------------------------------ begin and end ----- */

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

static void init_conditions(void)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&news, &attr);
    pthread_cond_init(&written, &attr);
    pthread_condattr_destroy(&attr);
}

/* What is in the ring is the parent's, and so is the writer. */
static void after_fork_in_child(void)
{
    init_conditions();
    memset(periods, 0, sizeof(periods));
    len = 0;
    lost = 0;
    running = false;
    ending = false;
    pthread_mutex_unlock(&lock);
}

static void init(void)
{
    init_conditions();
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
    atexit(log_flush);
}

/* Until the ring is empty, and if the writer is ending, it has. */
static bool wait_until_written_locked(void)
{
    uint64_t until_ms = clock_ms() + FLUSH_MS;

    while (running && (ending || len > 0))
        if (!wait_locked(&written, until_ms))
            return false;
    return true;
}

void log_flush(void)
{
    pthread_mutex_lock(&lock);
    wait_until_written_locked();
    pthread_mutex_unlock(&lock);
}

void log_open(void)
{
    pthread_once(&once, init);
    pthread_mutex_lock(&lock);
    users++;
    pthread_mutex_unlock(&lock);
}

/* False: it is stuck in a write, and goes on for who opens next. No other is made meanwhile. */
static bool end_writer_locked(void)
{
    bool ended;

    ending = true;
    pthread_cond_signal(&news);
    ended = wait_until_written_locked();
    ending = false;
    return ended;
}

void log_close(void)
{
    bool ended = false;
    pthread_t thread;

    pthread_mutex_lock(&lock);
    if (--users == 0 && running) {
        /* Somebody else may be ending it, who has closed before we opened: one of us joins it. */
        if (ending)
            wait_until_written_locked();
        else
            ended = end_writer_locked();
    }
    if (users == 0)
        memset(periods, 0, sizeof(periods));
    thread = writer;
    pthread_mutex_unlock(&lock);
    if (ended)
        pthread_join(thread, NULL);
}

/* ------------------------------------------------------------------ a line ------------ */

/* False: there is no writer. */
static bool give_to_writer(const struct line *said)
{
    struct line *line;
    bool given;

    pthread_mutex_lock(&lock);
    if (!running)
        running = users > 0 && !ending && thread_start(&writer, -1, writer_main, NULL) == 0;
    given = running;
    line = given ? put_locked() : NULL;
    if (line)
        *line = *said;
    pthread_cond_signal(&news);
    pthread_mutex_unlock(&lock);
    return given;
}

void log_line(enum log_kind kind, const char *format, ...)
{
    struct line line = { .len = 0 };
    va_list args;
    int n;

    if (!may_say(kind))
        return;
    va_start(args, format);
    n = snprintf(line.text, sizeof(line.text), "weir: ");
    n += vsnprintf(line.text + n, sizeof(line.text) - (size_t)n, format, args);
    va_end(args);
    line.len = (size_t)n < sizeof(line.text) ? (size_t)n : sizeof(line.text) - 1;
    line.text[line.len++] = '\n';
    if (!give_to_writer(&line))
        log_now(line.text, line.len, 0);
}
