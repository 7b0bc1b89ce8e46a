#include "tests/simulation/runs.h"

#include "tests/simulation/epoll.h"
#include "tests/simulation/report.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/trace.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* A run takes milliseconds; one that loops without end is given so long. */
#define PATIENCE_S 120

static struct {
    pid_t pid;
    struct run run;
} slots[RUNS_JOBS];

static struct world_result *results;    /* one a slot, shared with the processes */

void *__real_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);

void runs_prepare(void)
{
    results = __real_mmap(NULL, sizeof(*results) * RUNS_JOBS, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (results == MAP_FAILED)
        abort();
    scheduler_prepare();
}

static _Noreturn void live(const struct run *run, struct world_result *result)
{
    /* Of CPU time: a run waits for nothing but the CPU, which others may have for long. */
    setrlimit(RLIMIT_CPU, &(struct rlimit){ PATIENCE_S, RLIM_INFINITY });
    report_prepare(run->events, result->why, sizeof(result->why));
    report_crashes();
    if (run->aloud)
        trace_aloud(stdout);
    epoll_drop_once_in(run->drop_in);
    world_run(run->seed, run->with, run->without, run->clients, result);
    fflush(stdout);
    _exit(0);
}

static void start(unsigned slot, const struct run *run)
{
    results[slot] = (struct world_result){ 0 };
    slots[slot].run = *run;
    fflush(stdout);
    slots[slot].pid = fork();
    if (slots[slot].pid < 0)
        abort();
    if (slots[slot].pid == 0)
        live(run, &results[slot]);
}

static bool has_passed(int status, struct world_result *result)
{
    if (status == 0)
        return true;
    if (WIFSIGNALED(status))
        snprintf(result->why, sizeof(result->why), "%s",
                 WTERMSIG(status) == SIGXCPU ? "it does not come to an end"
                                             : strsignal(WTERMSIG(status)));
    return false;
}

/* The slot of a process that has ended. */
static unsigned wait_for_one(int *ret_status)
{
    pid_t pid;

    do
        pid = waitpid(-1, ret_status, 0);
    while (pid < 0 && errno == EINTR);
    for (unsigned slot = 0; slot < RUNS_JOBS; slot++)
        if (pid > 0 && slots[slot].pid == pid) {
            slots[slot].pid = 0;
            return slot;
        }
    abort();
}

bool runs_one(const struct run *run, struct world_result *ret)
{
    unsigned slot;
    bool passed;
    int status;

    start(0, run);
    slot = wait_for_one(&status);
    passed = has_passed(status, &results[slot]);
    *ret = results[slot];
    return passed;
}

void runs_many(const struct runs_many *many)
{
    unsigned running = 0;
    bool more = true;
    struct run run;
    int status;

    while (more || running > 0) {
        for (unsigned slot = 0; more && slot < many->jobs; slot++) {
            if (slots[slot].pid != 0)
                continue;
            more = many->next(many->arg, &run);
            if (!more)
                break;
            start(slot, &run);
            running++;
        }
        if (running > 0) {
            unsigned slot = wait_for_one(&status);
            bool passed = has_passed(status, &results[slot]);

            running--;
            many->over(many->arg, &slots[slot].run, passed, &results[slot]);
        }
    }
}
