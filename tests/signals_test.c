/*
 * signals_test.c - which signals reach a handler, and with which ones blocked a program begins that
 * a handler starts. In every concurrency, on its own stack and on an offload thread.
 */
#include "tests/support.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const struct {
    enum weir_concurrency how;
    const char *name;
} kinds[] = {
    { WEIR_POOL, "pool" },     { WEIR_SERIAL, "serial" },   { WEIR_THREAD, "thread" },
    { WEIR_FORK, "fork" },     { WEIR_PREFORK, "prefork" },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* ------------------------------------------------------------------ programs ---------- */

/* Writes the line that tells which signals it has blocked. */
static char *const asks[] = { "grep", "SigBlk", "/proc/self/status", NULL };

static pid_t spawn(int output)
{
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawnp(&pid, asks[0], &actions, NULL, asks, environ);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static pid_t fork_and_exec(int output)
{
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    dup2(output, STDOUT_FILENO);
    execvp(asks[0], asks);
    _exit(127);
}

/* What a program says that was started so: a line. */
static int ask_started(pid_t (*start)(int output), char *line, size_t size)
{
    int ends[2];
    ssize_t n;
    pid_t pid;

    if (pipe(ends) < 0)
        return -errno;
    pid = start(ends[1]);
    close(ends[1]);
    n = read(ends[0], line, size - 1);
    close(ends[0]);
    line[n > 0 ? n : 0] = '\0';
    return pid > 0 && waitpid(pid, NULL, 0) == pid ? 0 : -ECHILD;
}

static int ask_popened(char *line, size_t size)
{
    FILE *output = popen("exec grep SigBlk /proc/self/status", "r");

    if (!output || !fgets(line, (int)size, output))
        return -ECHILD;
    return pclose(output) == 0 ? 0 : -ECHILD;
}

struct answers {
    char spawned[80];
    char forked[80];
    char popened[80];
};

static int ask_all(void *arg)
{
    struct answers *answers = arg;
    int r = ask_started(spawn, answers->spawned, sizeof(answers->spawned));

    if (r == 0)
        r = ask_started(fork_and_exec, answers->forked, sizeof(answers->forked));
    return r == 0 ? ask_popened(answers->popened, sizeof(answers->popened)) : r;
}

static int start_programs(struct weir_request *req)
{
    struct answers here = { .spawned = "" };
    struct answers offloaded = { .spawned = "" };
    int r = ask_all(&here);

    if (r == 0)
        r = weir_offload(req, ask_all, &offloaded);
    if (r < 0)
        return r;
    weir_printf(req, "%s%s%s", here.spawned, here.forked, here.popened);
    weir_printf(req, "%s%s%s", offloaded.spawned, offloaded.forked, offloaded.popened);
    return 0;
}

static const struct weir_handler starting = {
    .name = "starting", .handle = start_programs, .stack = WEIR_STACK_FIBER,
};

static struct weir_server *serve(enum weir_concurrency how, const struct weir_handler *handler)
{
    return support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = handler,
                                      .concurrency = how, .acceptors = how == WEIR_POOL ? 2 : 1));
}

/* What programs say that a handler starts, and what they say that we start. */
static void expect_our_own_mask(const char *when)
{
    struct answers ours = { .spawned = "" };
    char expected[512];

    assert_int_equal(ask_all(&ours), 0);
    assert_non_null(strstr(ours.spawned, "SigBlk"));
    snprintf(expected, sizeof(expected), "%1$s%2$s%3$s%1$s%2$s%3$s", ours.spawned, ours.forked,
             ours.popened);
    for (size_t i = 0; i < KINDS; i++) {
        struct weir_server *server = serve(kinds[i].how, &starting);
        char said[512];
        int fd = support_connect(server, 0);
        size_t len = support_read_all(fd, said, sizeof(said) - 1);

        said[len] = '\0';
        close(fd);
        weir_server_destroy(server);
        if (strcmp(said, expected) != 0)
            fail_msg("%s, %s: %s", kinds[i].name, when, said);
    }
}

static void block(sigset_t *ret_before, int number)
{
    sigset_t mask;

    sigemptyset(&mask);
    sigaddset(&mask, number);
    pthread_sigmask(SIG_BLOCK, &mask, ret_before);
}

static void programs_begin_with_the_mask_that_serving_began_with(void **state)
{
    sigset_t before;

    (void)state;
    expect_our_own_mask("nothing blocked");
    block(&before, SIGUSR2);
    block(&(sigset_t){ 0 }, SIGPIPE);
    expect_our_own_mask("USR2 and PIPE blocked");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ------------------------------------------------------------------ sent to us -------- */

static int answer(struct weir_request *req)
{
    weir_write(req, "done\n", 5);
    return 0;
}

static int answer_offloaded(void *arg)
{
    return *(int *)arg;
}

static int answer_by_others(struct weir_request *req)
{
    int five = 5;

    return weir_offload(req, answer_offloaded, &five) == five ? answer(req) : -EIO;
}

static const struct weir_handler answering = { .name = "answering", .handle = answer_by_others };

static void what_was_blocked_before_serving_reaches_none_of_the_threads(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct weir_server *server;
        sigset_t before;
        sigset_t usr1;
        int number = 0;

        block(&before, SIGUSR1);
        server = serve(kinds[i].how, &answering);
        support_talk(server, 0, "", "done\n");
        kill(getpid(), SIGUSR1);    /* ends the process if any thread takes it */
        sigemptyset(&usr1);
        sigaddset(&usr1, SIGUSR1);
        assert_int_equal(sigwait(&usr1, &number), 0);
        assert_int_equal(number, SIGUSR1);
        weir_server_destroy(server);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
}

static _Thread_local bool is_handlers;
static _Atomic int samples_there;

static void sample(int number)
{
    (void)number;
    atomic_fetch_add(&samples_there, is_handlers);
}

/* Works until it was sampled at work. */
static int work(struct weir_request *req)
{
    struct support_patience patience = support_patience();

    is_handlers = true;
    while (atomic_load(&samples_there) == 0 && support_now_ms() < patience.until_ms)
        ;
    is_handlers = false;
    return answer(req);
}

static const struct weir_handler working = { .name = "working", .handle = work };

/* Whoever uses the time is asked first. */
static void a_profiler_samples_the_thread_that_works(void **state)
{
    const struct itimerval often = { { 0, 1000 }, { 0, 1000 } };
    const struct itimerval never = { 0 };

    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct weir_server *server;
        struct sigaction before;

        if (kinds[i].how == WEIR_FORK || kinds[i].how == WEIR_PREFORK)
            continue;           /* a child has no timer of its parent's */
        samples_there = 0;
        assert_int_equal(sigaction(SIGPROF, &(struct sigaction){ .sa_handler = sample,
                                                                 .sa_flags = SA_RESTART },
                                   &before), 0);
        server = serve(kinds[i].how, &working);
        setitimer(ITIMER_PROF, &often, NULL);
        support_talk(server, 0, "", "done\n");
        setitimer(ITIMER_PROF, &never, NULL);
        weir_server_destroy(server);
        sigaction(SIGPROF, &before, NULL);
        assert_true(samples_there > 0);
    }
}

/* ------------------------------------------------------------------ faults ------------ */

static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT };

#define FAULTS (sizeof(faults) / sizeof(faults[0]))

static volatile char *volatile nowhere = (char *)8;
static int fault;
static bool by_offload;

/* The program's crash reporter. */
static void report(int number)
{
    _exit(number == fault ? 42 : 43);
}

/* As the kernel does it: one that is blocked would kill. */
static int do_fault(void *arg)
{
    if (fault == SIGABRT)
        abort();
    if (fault == SIGSEGV)
        *nowhere = 1;
    raise(fault);
    return arg != NULL;
}

static int fault_there(struct weir_request *req)
{
    return by_offload ? weir_offload(req, do_fault, NULL) : do_fault(NULL);
}

static const struct weir_handler faulting = { .name = "faulting", .handle = fault_there };

/* In a child, where the program has blocked whatever can be. */
static _Noreturn void serve_until_it_faults(enum weir_concurrency how)
{
    const struct rlimit no_core = { 0 };
    struct sigaction action = { .sa_handler = report };
    struct weir_server *server;
    sigset_t all;
    int fd;

    setrlimit(RLIMIT_CORE, &no_core);
    sigaction(fault, &action, NULL);
    sigfillset(&all);
    if (how != WEIR_SERIAL)     /* its thread is ours, and so is its mask */
        pthread_sigmask(SIG_SETMASK, &all, NULL);
    server = serve(how, &faulting);
    fd = support_connect(server, 0);
    support_read_all(fd, (char[1]){ 0 }, 1);
    _exit(44);
}

static void expect_report(enum weir_concurrency how, const char *name)
{
    pid_t child = fork();
    int status;

    if (child == 0)
        serve_until_it_faults(how);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 42)
        fail_msg("%s, %s%s: status 0x%x", name, strsignal(fault), by_offload ? ", offloaded" : "",
                 status);
}

static void a_fault_in_a_handler_reaches_the_programs_own_reporter(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * FAULTS; i++) {
        fault = faults[i % FAULTS];
        by_offload = i >= FAULTS;
        expect_report(WEIR_POOL, "pool");
    }
    fault = SIGSEGV;
    by_offload = false;
    expect_report(WEIR_SERIAL, "serial");
    expect_report(WEIR_THREAD, "thread");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_begin_with_the_mask_that_serving_began_with),
        cmocka_unit_test(what_was_blocked_before_serving_reaches_none_of_the_threads),
        cmocka_unit_test(a_profiler_samples_the_thread_that_works),
        cmocka_unit_test(a_fault_in_a_handler_reaches_the_programs_own_reporter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
