/*
 * main.c - lets each call of a server's life fail, one in each life, and says what came of it.
 *
 *   faults [--every N] [--from K]      of all trials the K-th, and every N-th from there
 *          [--way NAME]                in this way only
 *          [--call NAME] [--error NAME] [--nth N]     only these
 *          [--failures N]              it ends behind so many
 *
 * Each trial is a process of its own.
 */
#include "tests/faults/life.h"
#include "tests/faults/plan.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* A trial that takes longer hangs. */
enum { TRIAL_S = 120 };

static const struct way ways[] = {
    { "pool", WEIR_POOL, WEIR_DISPATCH_WORKER, 1, false, 1 },
    { "pool, dispatch by the acceptor", WEIR_POOL, WEIR_DISPATCH_ACCEPTOR, 1, false, 1 },
    { "pool, two acceptors", WEIR_POOL, WEIR_DISPATCH_WORKER, 2, false, 1 },
    { "pool, a rush", WEIR_POOL, WEIR_DISPATCH_WORKER, 1, true, 1 },
    { "serial", WEIR_SERIAL, WEIR_DISPATCH_WORKER, 1, false, 1 },
    { "thread", WEIR_THREAD, WEIR_DISPATCH_WORKER, 1, false, 1 },
    { "fork", WEIR_FORK, WEIR_DISPATCH_WORKER, 1, false, 1 },
    { "prefork", WEIR_PREFORK, WEIR_DISPATCH_WORKER, 1, false, 1 },
};

static struct {
    long every, from, nth, failures;
    const char *way, *call, *error;
} wanted = { .every = 1, .failures = 20 };

static struct {
    long number, made, struck, failed;
} sum;

/* ------------------------------------------------------------------ a trial ----------- */

static const struct way *way;

static _Noreturn void be_trial(int said_fd)
{
    const struct rlimit no_core = { 0 };

    setpgid(0, 0);
    dup2(said_fd, STDERR_FILENO);
    close(said_fd);
    setrlimit(RLIMIT_CORE, &no_core);
    alarm(TRIAL_S);
    life_lead(way);
    _exit(0);
}

static void tell(int status, int said_fd)
{
    char said[4096] = "";

    if (pread(said_fd, said, sizeof(said) - 1, 0) < 0)
        perror("pread");
    printf("FAILED: --way '%s' --call %s --error %s --nth %d: %s, in %s (status %x)\n%s",
           way->name, call_kinds[plan->call].name,
           plan->error ? strerrorname_np(plan->error) : "none", plan->nth,
           WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "it hangs" : plan->complaint,
           plan->phase, (unsigned)status, said);
    fflush(stdout);
}

/* Returns true if the life was led to its end, and nothing was left of it. */
static bool try(void)
{
    int said_fd = memfd_create("said", MFD_CLOEXEC);
    pid_t child;
    int status;

    plan->armed = false;
    plan->struck = false;
    plan->phase = "the beginning";
    memset((void *)plan->made, 0, sizeof(plan->made));
    strcpy(plan->complaint, "it has crashed");
    fflush(NULL);
    child = fork();
    if (child == 0)
        be_trial(said_fd);
    waitpid(child, &status, 0);
    kill(-child, SIGKILL);              /* the children of a server that has failed */
    if (status != 0)
        tell(status, said_fd);
    close(said_fd);
    life_clear();
    return status == 0;
}

/* ------------------------------------------------------------------ all of them ------- */

static bool is_wanted(const char *name, const char *wanted_name)
{
    return !wanted_name || strcmp(name, wanted_name) == 0;
}

static bool is_enough(void)
{
    return sum.failed >= wanted.failures;
}

/* A way is led in two or more threads, so that it makes a few calls more or less each time. */
static void fail_each(enum call call, int error, int made)
{
    for (int nth = 1; nth <= made && !is_enough(); nth++) {
        if (wanted.nth > 0 ? nth != wanted.nth : sum.number++ % wanted.every != wanted.from)
            continue;
        plan->call = call;
        plan->error = error;
        plan->nth = nth;
        sum.made++;
        sum.failed += !try();
        sum.struck += plan->struck;
    }
}

static void fail_kind(enum call call, int made)
{
    const int *errors = call_kinds[call].errors;

    for (int i = 0; i < ERRORS_MAX && errors[i] != 0; i++)
        if (is_wanted(strerrorname_np(errors[i]), wanted.error))
            fail_each(call, errors[i], made);
}

static void lead_all(void)
{
    int made[CALLS];
    long total = 0;

    plan->error = 0;
    if (!try()) {
        sum.failed++;
        return;
    }
    memcpy(made, (void *)plan->made, sizeof(made));
    for (int call = 0; call < CALLS; call++)
        total += made[call];
    printf("%s: %ld calls a life\n", way->name, total);
    for (int call = 0; call < CALLS && !is_enough(); call++)
        if (is_wanted(call_kinds[call].name, wanted.call))
            fail_kind((enum call)call, made[call]);
}

/* ------------------------------------------------------------------ options ----------- */

static _Noreturn void refuse(const char *what, const char *value)
{
    fprintf(stderr, "faults: %s '%s'\n", what, value);
    exit(2);
}

static void read_option(const char *name, const char *value)
{
    static const struct {
        const char *name;
        long *number;
        const char **text;
    } options[] = {
        { "--every", &wanted.every, NULL }, { "--from", &wanted.from, NULL },
        { "--nth", &wanted.nth, NULL }, { "--failures", &wanted.failures, NULL },
        { "--way", NULL, &wanted.way }, { "--call", NULL, &wanted.call },
        { "--error", NULL, &wanted.error },
    };

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        if (strcmp(name, options[i].name) == 0) {
            if (options[i].text)
                *options[i].text = value;
            else
                *options[i].number = strtol(value, NULL, 10);
            return;
        }
    refuse("there is no option", name);
}

int main(int argc, char **argv)
{
    is_spared = true;
    for (int i = 1; i < argc; i += 2)
        read_option(argv[i], argv[i + 1] ? argv[i + 1] : "");
    if (wanted.every < 1)
        refuse("--every is a number from 1 on, not", "0");
    plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    life_prepare();
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]) && !is_enough(); i++) {
        way = &ways[i];
        if (is_wanted(way->name, wanted.way))
            lead_all();
    }
    life_remove();
    printf("%ld lives with a fault, %ld of them struck, %ld failed\n", sum.made, sum.struck,
           sum.failed);
    return sum.failed > 0;
}
