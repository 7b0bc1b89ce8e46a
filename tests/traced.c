#include "tests/traced.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX 64
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL)

struct traced {
    pid_t pid;
    int go_fd;                      /* the child waits for a byte */
    pthread_t tracer;               /* only it may ask anything of the child */
    pthread_mutex_t lock;           /* of what follows; who has it holds the child, too */
    struct traced_calls calls;
    int begun;                      /* threads that were told of, less those that were met */
    size_t threads_len;
    struct thread {
        pid_t tid;
        bool asleep;                /* in a call that waits */
    } threads[THREADS_MAX];
    bool ended;
};

/* ------------------------------------------------------------------ the tracer -------- */

static struct thread *thread_of(struct traced *traced, pid_t tid)
{
    size_t i = 0;

    while (i < traced->threads_len && traced->threads[i].tid != tid)
        i++;
    if (i == THREADS_MAX)
        abort();
    if (i == traced->threads_len) {
        traced->threads[traced->threads_len++] = (struct thread){ .tid = tid };
        traced->begun--;
    }
    return &traced->threads[i];
}

static void forget_thread(struct traced *traced, pid_t tid)
{
    struct thread *gone = thread_of(traced, tid);

    *gone = traced->threads[--traced->threads_len];
}

/* Returns true if the server sleeps in such a call until something happens. */
static bool waits(const struct __ptrace_syscall_info *info)
{
    uint64_t futex_op = info->entry.args[1] & (uint64_t)FUTEX_CMD_MASK;

    switch (info->entry.nr) {
    case TRACED_EPOLL_WAIT:
        return (int)info->entry.args[3] < 0;
    case SYS_futex:
        return futex_op == FUTEX_WAIT || futex_op == FUTEX_WAIT_BITSET;
#ifdef SYS_poll
    case SYS_poll:
#endif
    case SYS_ppoll:
        return true;
    default:
        return false;
    }
}

static void note_call(struct traced *traced, pid_t tid)
{
    struct __ptrace_syscall_info info;
    struct thread *thread = thread_of(traced, tid);

    if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) <= 0)
        return;
    thread->asleep = info.op == PTRACE_SYSCALL_INFO_ENTRY && waits(&info);
    /* A call only on machines without a clock that can be read from user space. */
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr == SYS_clock_gettime)
        return;
    traced->calls.all++;
    if (info.entry.nr < TRACED_CALLS)
        traced->calls.by_number[info.entry.nr]++;
}

/* A thread has stopped, or ended. */
static void note(struct traced *traced, pid_t tid, int status)
{
    int signal = 0;

    if (!WIFSTOPPED(status)) {
        forget_thread(traced, tid);
        traced->ended = tid == traced->pid;
        return;
    }
    if (WSTOPSIG(status) == (SIGTRAP | 0x80))
        note_call(traced, tid);
    else if (status >> 16 == 0)
        signal = WSTOPSIG(status);
    else if (status >> 16 == PTRACE_EVENT_CLONE)
        traced->begun++;
    else
        thread_of(traced, tid);
    ptrace(PTRACE_SYSCALL, tid, NULL, signal);
}

static void *trace(void *arg)
{
    struct traced *traced = arg;
    int status;
    pid_t tid;

    if (ptrace(PTRACE_SEIZE, traced->pid, NULL, OPTIONS) < 0 ||
        ptrace(PTRACE_INTERRUPT, traced->pid, NULL, NULL) < 0)
        fprintf(stderr, "ptrace: %s\n", strerror(errno));
    if (write(traced->go_fd, "", 1) < 0)
        abort();
    while (!traced->ended && (tid = waitpid(-1, &status, __WALL)) > 0) {
        pthread_mutex_lock(&traced->lock);
        note(traced, tid, status);
        pthread_mutex_unlock(&traced->lock);
    }
    return NULL;
}

/* ------------------------------------------------------------------ the test ---------- */

static void serve(struct weir_server *server, int go_fd)
{
    char byte;

    if (read(go_fd, &byte, 1) == 1)
        weir_serve_forever(server);
    _exit(0);
}

struct traced *traced_start(struct weir_server *server)
{
    struct traced *traced = calloc(1, sizeof(*traced));
    int go[2];

    assert_non_null(traced);
    assert_int_equal(pipe(go), 0);
    traced->go_fd = go[1];
    traced->begun = 1;
    pthread_mutex_init(&traced->lock, NULL);
    traced->pid = fork();
    assert_true(traced->pid >= 0);
    if (traced->pid == 0)
        serve(server, go[0]);
    close(go[0]);
    assert_int_equal(pthread_create(&traced->tracer, NULL, trace, traced), 0);
    return traced;
}

void traced_end(struct traced *traced)
{
    kill(traced->pid, SIGKILL);
    pthread_join(traced->tracer, NULL);
    close(traced->go_fd);
    pthread_mutex_destroy(&traced->lock);
    free(traced);
}

/* One that has been woken isn't, although its stop has yet to be told. */
static bool sleeps(const struct traced *traced, const struct thread *thread)
{
    char path[64];
    char state = '?';
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)traced->pid, (int)thread->tid);
    file = fopen(path, "re");
    if (!file)
        return false;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = '?';
    fclose(file);
    return thread->asleep && state == 'S';
}

/* A thread may end before its maker's stop tells of it. */
static bool all_sleep(const struct traced *traced)
{
    if (traced->begun != 0)
        return false;
    for (size_t i = 0; i < traced->threads_len; i++)
        if (!sleeps(traced, &traced->threads[i]))
            return false;
    return true;
}

/* Returns what was counted, and begins anew; or not yet. */
static bool count_if_all_sleep(struct traced *traced, struct traced_calls *ret_calls)
{
    bool they_do;

    pthread_mutex_lock(&traced->lock);
    they_do = all_sleep(traced);
    if (they_do) {
        *ret_calls = traced->calls;
        traced->calls = (struct traced_calls){ .all = 0 };
    }
    pthread_mutex_unlock(&traced->lock);
    return they_do;
}

static struct traced_calls count(struct traced *traced)
{
    struct traced_calls calls;

    SUPPORT_UNTIL(count_if_all_sleep(traced, &calls));
    return calls;
}

void traced_begin(struct traced *traced)
{
    count(traced);
}

struct traced_calls traced_count(struct traced *traced)
{
    return count(traced);
}

void traced_hold(struct traced *traced)
{
    pthread_mutex_lock(&traced->lock);
}

void traced_let_go(struct traced *traced)
{
    pthread_mutex_unlock(&traced->lock);
}
