#include "engine/base/log.h"

#include "engine/base/clock.h"
#include "engine/base/thread.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <weir/weir.h>

#define LINES 32
#define LINE_SIZE 500
#define FLUSH_MS 1000

struct line {
    size_t len;
    enum weir_log_kind kind;
    char text[LINE_SIZE];
};

/* How many lines of a kind are taken in a period, and what the others are about; NULL: they say
 * the same once more, and statistics count it. */
static const struct limit {
    enum weir_log_kind kind;    /* as the program is told */
    unsigned lines;
    unsigned period_ms;
    const char *about;
} limits[LOG_KINDS] = {
    [LOG_FAILURE] = { WEIR_LOG_FAILURE, 10, 1000, "requests that failed" },
    [LOG_STALL] = { WEIR_LOG_STALL, 10, 1000, "handlers that hold their workers" },
    [LOG_CHILD] = { WEIR_LOG_CHILD, 10, 1000, "child processes" },
    [LOG_SHORTAGE] = { WEIR_LOG_SHORTAGE, 3, 10000, "what there is not enough of" },
    [LOG_FULL] = { WEIR_LOG_FULL, 1, 60000, NULL },
    [LOG_OVERLOAD] = { WEIR_LOG_OVERLOAD, 1, 60000, NULL },
};

struct period {
    _Atomic uint64_t until_ms;  /* 0: none has begun */
    _Atomic unsigned taken;
    _Atomic uint64_t left_out;
};

/* What a process and its children count together; without a lock, which one that is killed would
 * keep. All orders are relaxed, since nothing else is read by these counts. */
struct counts {
    struct period periods[LOG_KINDS];
    _Atomic uint64_t lost;      /* for want of room, in the ring or in standard error */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  /* of all below; never held over write */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_cond_t news;     /* for the writer */
static pthread_cond_t written;  /* a line is, the program's function returned, the writer ended */
static struct line ring[LINES];
static unsigned first;
static unsigned len;            /* with the one that is being written */
static struct counts own;       /* until there is memory to share, and if there is none */
static struct counts *counts = &own;
static bool alone;              /* no writer here: see log_alone */
static struct log_hook {
    void (*log)(void *arg, const struct weir_log_line *line);   /* NULL: standard error */
    void *arg;
} hook;
static bool calling;            /* the program's function is */
static pthread_t caller;        /* ... by this thread */
static unsigned calls;          /* how often it has been */
static unsigned users;
static bool running;            /* the writer */
static bool ending;             /* it shall end once the ring is empty */
static pthread_t writer;

static bool wake_writer_locked(void);

/* ------------------------------------------------------------------ the ring ---------- */

static void count_lost_locked(void)
{
    /* relaxed: a count. pairs: sum_up_locked() */
    atomic_fetch_add_explicit(&counts->lost, 1, memory_order_relaxed);
}

static struct line *put_locked(void)
{
    if (len == LINES) {
        count_lost_locked();
        return NULL;
    }
    return &ring[(first + len++) % LINES];
}

/* What was counted, by whichever process takes it first. */
static void say_locked(const char *format, _Atomic uint64_t *count, const char *about)
{
    /* relaxed: a count, of which nobody takes the same twice. pairs: may_say_locked() */
    uint64_t n = atomic_exchange_explicit(count, 0, memory_order_relaxed);
    struct line *line = n > 0 ? put_locked() : NULL;

    if (!line)
        return;
    line->kind = WEIR_LOG_LEFT_OUT;
    line->len = (size_t)snprintf(line->text, sizeof(line->text), format, (unsigned long long)n,
                                 about);
}

/* When the sum of a kind is due; CLOCK_NEVER: nothing was left out. */
static uint64_t sum_ms_locked(const struct period *period)
{
    /* relaxed: at worst a sum is told by the clock of the period before. pairs: may_say_locked() */
    if (atomic_load_explicit(&period->left_out, memory_order_relaxed) == 0)
        return CLOCK_NEVER;
    return atomic_load_explicit(&period->until_ms, memory_order_relaxed);
}

/* What has been left out, once it is time to say so, or at once. */
static void sum_up_locked(uint64_t now_ms)
{
    for (unsigned kind = 0; kind < LOG_KINDS; kind++) {
        uint64_t due_ms = sum_ms_locked(&counts->periods[kind]);

        if (due_ms != CLOCK_NEVER && now_ms >= due_ms)
            say_locked("weir: left out: %llu more about %s\n", &counts->periods[kind].left_out,
                       limits[kind].about);
    }
    /* Once there is room again. */
    if (len == 0)
        say_locked("weir: left out: %llu for which %s had no room\n", &counts->lost,
                   hook.log ? "the program's log" : "standard error");
}

static uint64_t next_sum_ms_locked(void)
{
    uint64_t next_ms = CLOCK_NEVER;

    for (unsigned kind = 0; kind < LOG_KINDS; kind++)
        next_ms = clock_earlier(next_ms, sum_ms_locked(&counts->periods[kind]));
    return next_ms;
}

/*
 * Of several processes that find the period over one begins the next. Lines that the others take
 * before that one has set the counts to 0 are not counted: a line more or less.
 */
static void begin_period_locked(struct period *period, uint64_t now_ms, unsigned period_ms)
{
    /* relaxed: as said. pairs: the same in another process */
    uint64_t until_ms = atomic_load_explicit(&period->until_ms, memory_order_relaxed);

    /* relaxed: as said. pairs: the same in another process */
    if (now_ms >= until_ms &&
        atomic_compare_exchange_strong_explicit(&period->until_ms, &until_ms, now_ms + period_ms,
                                                memory_order_relaxed, memory_order_relaxed))
        atomic_store_explicit(&period->taken, 0, memory_order_relaxed);
}

static bool may_say_locked(enum log_kind kind)
{
    const struct limit *limit = &limits[kind];
    struct period *period = &counts->periods[kind];
    uint64_t now_ms = clock_ms();

    /* A child's sums are its parent's to tell. */
    if (!alone)
        sum_up_locked(now_ms);
    begin_period_locked(period, now_ms, limit->period_ms);
    /* relaxed: counts. pairs: the same in another process, sum_up_locked() */
    if (atomic_fetch_add_explicit(&period->taken, 1, memory_order_relaxed) < limit->lines)
        return true;
    if (limit->about &&
        atomic_fetch_add_explicit(&period->left_out, 1, memory_order_relaxed) == 0)
        wake_writer_locked();       /* there will be a sum */
    return false;
}

static bool may_say(enum log_kind kind)
{
    bool may;

    pthread_mutex_lock(&lock);
    may = may_say_locked(kind);
    pthread_mutex_unlock(&lock);
    return may;
}

/* ------------------------------------------------------------------ writing ----------- */

/* A reader that has gone is nothing to end the program for. */
static void block_sigpipe(sigset_t *ret_sigpipe, sigset_t *ret_old)
{
    sigemptyset(ret_sigpipe);
    sigaddset(ret_sigpipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, ret_sigpipe, ret_old);
}

/* The signal of a write is the thread's: it is taken back, unless another was pending before. */
static bool write_without_sigpipe(const char *text, size_t size)
{
    const struct timespec at_once = { 0 };
    sigset_t sigpipe;
    sigset_t pending;
    sigset_t old;
    bool written_now;

    sigpending(&pending);
    block_sigpipe(&sigpipe, &old);
    written_now = write(STDERR_FILENO, text, size) >= 0;
    if (!written_now && errno == EPIPE && !sigismember(&pending, SIGPIPE))
        sigtimedwait(&sigpipe, NULL, &at_once);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return written_now;
}

bool log_now(const char *text, size_t size, int wait_ms)
{
    struct pollfd room = { .fd = STDERR_FILENO, .events = POLLOUT };

    /* A pipe that is writable has room for PIPE_BUF bytes, unless somebody takes it just now. One
     * that nobody has open any more has POLLERR, too. */
    return poll(&room, 1, wait_ms) == 1 && room.revents == POLLOUT &&
           write_without_sigpipe(text, size);
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

/* Without the lock, so that it may say something itself, and a line never waits for it. */
static void call_hook_locked(struct line *line)
{
    struct log_hook called = hook;
    struct weir_log_line told = { .text = line->text, .len = line->len - 1, .kind = line->kind };

    line->text[told.len] = '\0';
    calling = true;
    caller = pthread_self();
    calls++;
    pthread_mutex_unlock(&lock);
    called.log(called.arg, &told);
    pthread_mutex_lock(&lock);
    calling = false;
    pthread_cond_broadcast(&written);
}

static void write_one_locked(void)
{
    struct line line = ring[first];

    if (hook.log) {
        call_hook_locked(&line);
    } else {
        pthread_mutex_unlock(&lock);
        write_whole(&line);
        pthread_mutex_lock(&lock);
    }
    first = (first + 1) % LINES;
    len--;
    pthread_cond_broadcast(&written);
}

/* False: the time has come. */
static bool wait_locked(pthread_cond_t *cond, uint64_t until_ms)
{
    struct timespec until = clock_timespec(until_ms);

    if (until_ms == CLOCK_NEVER)
        return pthread_cond_wait(cond, &lock) == 0;
    return pthread_cond_timedwait(cond, &lock, &until) == 0;
}

static void *writer_main(void *nothing)
{
    sigset_t sigpipe;

    block_sigpipe(&sigpipe, NULL);
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

/* Makes it, if there is none yet. False: there can't be one. */
static bool wake_writer_locked(void)
{
    if (!running)
        running = !alone && users > 0 && !ending &&
                  thread_start(&writer, -1, writer_main, NULL) == 0;
    pthread_cond_signal(&news);
    return running;
}

static bool has_sum_locked(void)
{
    /* relaxed: a count. pairs: count_lost_locked() */
    return atomic_load_explicit(&counts->lost, memory_order_relaxed) > 0 ||
           next_sum_ms_locked() != CLOCK_NEVER;
}

void log_sum_up(void)
{
    pthread_mutex_lock(&lock);
    if (has_sum_locked())
        wake_writer_locked();
    pthread_mutex_unlock(&lock);
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

/*
 * What is in the ring is the parent's, and so is the writer. If that was calling the program's
 * function, a lock that it has taken is held for ever here: the child can't call it.
 */
static void after_fork_in_child(void)
{
    init_conditions();
    if (calling)
        hook.log = NULL;
    calling = false;
    len = 0;
    running = false;
    ending = false;
    pthread_mutex_unlock(&lock);
}

static void share_counts(void)
{
    void *memory = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                        -1, 0);

    pthread_mutex_lock(&lock);
    if (memory != MAP_FAILED)
        counts = memory;
    pthread_mutex_unlock(&lock);
}

static void end_with_program(void);

/*
 * Around a fork it looks after its lock by itself, and not by process.c, which only begins with the
 * first server: a thread may be in weir_set_log, or the writer in a line, before that.
 */
static void init_log(void)
{
    init_conditions();
    share_counts();
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
    atexit(end_with_program);
}

/* Until the ring is empty, and if the writer is ending, it has. */
static bool wait_until_written_locked(uint64_t until_ms)
{
    while (running && (ending || len > 0))
        if (!wait_locked(&written, until_ms))
            return false;
    return true;
}

void log_flush(void)
{
    pthread_mutex_lock(&lock);
    wait_until_written_locked(clock_ms() + FLUSH_MS);
    pthread_mutex_unlock(&lock);
}

/* Puts another function in place, and waits for the call that is under way: of the one before. */
static void set_hook_locked(struct log_hook new, uint64_t until_ms)
{
    unsigned call = calls;

    hook = new;
    while (calling && calls == call && !pthread_equal(caller, pthread_self()))
        if (!wait_locked(&written, until_ms))
            return;
}

/* What the program's function uses may be gone soon: the program's own atexit functions free it. */
static void end_with_program(void)
{
    uint64_t until_ms = clock_ms() + FLUSH_MS;

    pthread_mutex_lock(&lock);
    wait_until_written_locked(until_ms);
    set_hook_locked((struct log_hook){ 0 }, until_ms);
    pthread_mutex_unlock(&lock);
}

void weir_set_log(void (*log)(void *arg, const struct weir_log_line *line), void *arg)
{
    pthread_once(&once, init_log);
    pthread_mutex_lock(&lock);
    set_hook_locked((struct log_hook){ .log = log, .arg = arg }, CLOCK_NEVER);
    pthread_mutex_unlock(&lock);
}

void log_alone(void)
{
    pthread_mutex_lock(&lock);
    alone = true;
    pthread_mutex_unlock(&lock);
}

void log_open(void)
{
    pthread_once(&once, init_log);
    pthread_mutex_lock(&lock);
    users++;
    pthread_mutex_unlock(&lock);
}

/* Children take anew, too. */
static void forget_periods_locked(void)
{
    for (unsigned kind = 0; kind < LOG_KINDS; kind++)
        /* relaxed: a period that is over. pairs: begin_period_locked() */
        atomic_store_explicit(&counts->periods[kind].until_ms, 0, memory_order_relaxed);
}

/*
 * Ends the writer. False: it is stuck in a write, and serves the next log_open. No other writer is
 * made meanwhile.
 */
static bool end_writer_locked(void)
{
    bool ended;

    ending = true;
    pthread_cond_signal(&news);
    ended = wait_until_written_locked(clock_ms() + FLUSH_MS);
    ending = false;
    return ended;
}

void log_close(void)
{
    bool ended = false;
    pthread_t thread;

    pthread_mutex_lock(&lock);
    if (users == 1 && has_sum_locked())
        wake_writer_locked();
    if (--users == 0 && running) {
        /* Another thread may be ending it, having closed before we opened: one of us joins it. */
        if (ending)
            wait_until_written_locked(clock_ms() + FLUSH_MS);
        else
            ended = end_writer_locked();
    }
    if (users == 0)
        forget_periods_locked();
    thread = writer;
    pthread_mutex_unlock(&lock);
    if (ended)
        pthread_join(thread, NULL);
}

/* ------------------------------------------------------------------ a line ------------ */

static void count_lost(void)
{
    pthread_mutex_lock(&lock);
    count_lost_locked();
    pthread_mutex_unlock(&lock);
}

/* False: there is no writer. */
static bool give_to_writer(const struct line *said)
{
    struct line *line;
    bool given;

    pthread_mutex_lock(&lock);
    given = wake_writer_locked();
    line = given ? put_locked() : NULL;
    if (line)
        *line = *said;
    pthread_mutex_unlock(&lock);
    return given;
}

/*
 * For a process without a writer. The program's function is called only in a child that is alone:
 * elsewhere it would hold up a worker, which waits for no line.
 */
static bool say_at_once(struct line *line)
{
    bool call;

    pthread_mutex_lock(&lock);
    call = alone && hook.log && !calling;
    if (call)
        call_hook_locked(line);
    pthread_mutex_unlock(&lock);
    return call || log_now(line->text, line->len, 0);
}

void log_line(enum log_kind kind, const char *format, ...)
{
    struct line line = { .kind = limits[kind].kind };
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
    if (!give_to_writer(&line) && !say_at_once(&line))
        count_lost();
}
