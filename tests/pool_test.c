/* pool_test.c - the workers: where they run, whom they help, and what they do without. */
#include "tests/old_kernel.h"
#include "tests/support.h"

#include "engine/base/compiler.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static struct gate gate;

static int open_gate(void **state)
{
    (void)state;
    gate_init(&gate);
    return 0;
}

static int close_gate(void **state)
{
    (void)state;
    gate_fini(&gate);
    return 0;
}

/*
 * Answers words with the number of its worker, and rests:
 *   tell     at once
 *   hold     at once, and then holds its worker until the test opens the gate
 *   wait     at once, and then with the next line, inside of the same call
 */
static int tell_worker(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);
    char word;

    if (n <= 0)
        return (int)n;
    word = line[0];
    weir_printf(req, "%u\n", weir_worker_number(req));
    weir_flush(req);
    if (word == 'h')
        gate_pass(&gate);
    if (word == 'w') {
        n = weir_readline(req, &line, 100);
        if (n <= 0)
            return (int)n;
        weir_printf(req, "%u %.*s", weir_worker_number(req), (int)n, line);
    }
    return WEIR_KEEP;
}

static const struct weir_handler telling = { .name = "telling", .handle = tell_worker };

static unsigned ask(int fd, const char *word)
{
    char answer[3] = "";

    support_say(fd, word);
    support_read_all(fd, answer, 2);
    assert_int_equal(answer[1], '\n');
    return (unsigned)(answer[0] - '0');
}

/* ------------------------------------------------------------------ where they run ---- */

/* Answers with the worker and its CPU, and holds the worker until the test opens the gate. */
static int tell_cpu(struct weir_request *req)
{
    weir_printf(req, "%u %5d\n", weir_worker_number(req), sched_getcpu());
    weir_flush(req);
    gate_pass(&gate);
    return 0;
}

static int ask_cpu(int fd, unsigned *ret_worker)
{
    char answer[sizeof("0 00000\n")] = "";
    int cpu;

    support_read_all(fd, answer, sizeof(answer) - 1);
    assert_int_equal(sscanf(answer, "%u %d", ret_worker, &cpu), 2);
    return cpu;
}

/* Each client's answer comes from a worker that no other client holds. */
static void each_worker_runs_on_its_cpu(void **state)
{
    const struct weir_handler handler = { .name = "cpu", .handle = tell_cpu };
    enum { WORKERS = 3 };
    struct weir_server *server;
    cpu_set_t allowed;
    unsigned seen = 0;
    int fds[WORKERS];
    char list[30];
    int cpus[2];

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    if (CPU_COUNT(&allowed) == 1)
        skip();     /* every thread is on it */
    for (cpus[0] = 0; !CPU_ISSET(cpus[0], &allowed); cpus[0]++)
        ;
    for (cpus[1] = CPU_SETSIZE - 1; !CPU_ISSET(cpus[1], &allowed); cpus[1]--)
        ;
    snprintf(list, sizeof(list), "%d,%d", cpus[1], cpus[0]);
    server = support_start(WEIR_OPTIONS(.listen = support_abstract("cpus"), .handler = &handler,
                                        .workers = WORKERS, .worker_cpus = list));
    for (int i = 0; i < WORKERS; i++) {
        unsigned worker;
        int cpu;

        fds[i] = support_connect(server, 0);
        cpu = ask_cpu(fds[i], &worker);
        assert_in_range(worker, 0, WORKERS - 1);
        assert_int_equal(cpu, cpus[worker % 2 == 0]);
        seen |= 1u << worker;
    }
    assert_int_equal(seen, (1u << WORKERS) - 1);
    gate_open(&gate);
    for (int i = 0; i < WORKERS; i++)
        support_expect_last(fds[i], "");
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ at the same time -- */

static _Atomic int met;

/* Until two are here: neither could wait for the other if they came one after the other. */
static int meet_blocking(struct weir_request *req)
{
    struct support_patience patience = support_patience();

    for (met++; met < 2; usleep(100))
        if (support_now_ms() > patience.until_ms)
            return -ETIMEDOUT;
    weir_printf(req, "met\n");
    return 0;
}

static int meet_parking(struct weir_request *req)
{
    struct support_patience patience = support_patience();

    for (met++; met < 2; weir_sleep(req, 1))
        if (support_now_ms() > patience.until_ms)
            return -ETIMEDOUT;
    weir_printf(req, "met\n");
    return 0;
}

static int meet_yielding(struct weir_request *req)
{
    struct support_patience patience = support_patience();

    for (met++; met < 2; weir_yield(req))
        if (support_now_ms() > patience.until_ms)
            return -ETIMEDOUT;
    weir_printf(req, "met\n");
    return 0;
}

static void assert_two_meet(const struct weir_handler *handler, unsigned workers)
{
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = support_abstract("meet"),
                                                            .handler = handler,
                                                            .workers = workers));
    int one;
    int other;

    met = 0;
    one = support_connect(server, 0);
    other = support_connect(server, 0);
    support_expect(one, "met\n");
    support_expect(other, "met\n");
    close(one);
    close(other);
    weir_server_destroy(server);
}

static void handlers_that_block_run_on_several_workers(void **state)
{
    const struct weir_handler fiber = { .name = "meet", .handle = meet_blocking };
    const struct weir_handler thread = {
        .name = "meet", .handle = meet_blocking, .stack = WEIR_STACK_THREAD,
    };

    (void)state;
    assert_two_meet(&fiber, 2);
    assert_two_meet(&thread, 2);
}

static void handlers_that_park_share_a_worker(void **state)
{
    const struct weir_handler parking = { .name = "meet", .handle = meet_parking };
    const struct weir_handler yielding = { .name = "meet", .handle = meet_yielding };

    (void)state;
    assert_two_meet(&parking, 1);
    assert_two_meet(&yielding, 1);
}

/* ------------------------------------------------------------------ in one batch ------ */

#define MIXED 12

/* A fiber goes on with what lies behind it in the batch, as far as that is for fibers. */
static void what_parks_and_what_has_no_fiber_may_share_a_batch(void **state)
{
    const struct weir_handler on_thread = {
        .name = "telling", .handle = tell_worker, .stack = WEIR_STACK_THREAD,
    };
    const struct weir_listen listeners[] = {
        { .address = support_abstract("on fibers") },
        { .address = "tcp://127.0.0.1:0", .handler = &on_thread },
    };
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &telling, .workers = 1));
    int holder = support_connect(server, 0);
    int clients[MIXED];

    (void)state;
    for (int i = 0; i < MIXED; i++) {
        clients[i] = support_connect(server, i % 4 == 2);
        ask(clients[i], "tell\n");
    }
    SUPPORT_AWAIT(server, idle, == MIXED);
    ask(holder, "hold\n");
    for (int i = 0; i < MIXED; i++)
        support_say(clients[i], i % 4 == 1 ? "wait\n" : "tell\n");
    gate_open(&gate);
    for (int i = 0; i < MIXED; i++)
        support_expect(clients[i], "0\n");
    for (int i = 1; i < MIXED; i += 4) {
        support_say(clients[i], "words\n");
        support_expect(clients[i], "0 words\n");
    }
    SUPPORT_AWAIT(server, idle, == MIXED + 1);
    for (int i = 0; i < MIXED; i++)
        close(clients[i]);
    close(holder);
    SUPPORT_AWAIT(server, active, == 0);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ stuck ------------- */

#define KEPT 16
#define WAITING 4

/* The number of the worker that most of the kept connections rest with. */
static unsigned majority(const unsigned *homes)
{
    unsigned ones = 0;

    for (int i = 0; i < KEPT; i++)
        ones += homes[i];
    return ones > KEPT / 2;
}

/* One that rests with this worker, out of the way of the others. */
static int take_from(int *clients, const unsigned *homes, unsigned worker)
{
    for (int i = 0; i < KEPT; i++)
        if (homes[i] == worker) {
            int fd = clients[i];

            clients[i] = -1;
            return fd;
        }
    return -1;
}

/* Of those whose fibers have begun, the others can't run them: they wait, and are not lost. */
static void assert_others_are_served(struct weir_server *server)
{
    unsigned homes[KEPT];
    int clients[KEPT];
    int waiting[WAITING];
    unsigned stuck;
    int holder;

    for (int i = 0; i < KEPT; i++) {
        clients[i] = support_connect(server, 0);
        homes[i] = ask(clients[i], "tell\n");
    }
    for (int i = 0; i < WAITING; i++) {
        waiting[i] = support_connect(server, 0);
        ask(waiting[i], "wait\n");
    }
    SUPPORT_AWAIT(server, idle, == KEPT);
    SUPPORT_AWAIT(server, parked, == WAITING);

    holder = take_from(clients, homes, majority(homes));
    stuck = ask(holder, "hold\n");
    for (int i = 0; i < KEPT; i++)
        if (clients[i] >= 0)
            assert_int_equal(ask(clients[i], "tell\n"), !stuck);
    for (int i = 0; i < WAITING; i++)
        support_say(waiting[i], "words\n");

    gate_open(&gate);
    for (int i = 0; i < WAITING; i++) {
        char answer[9] = "";

        support_read_all(waiting[i], answer, 8);
        assert_string_equal(answer + 1, " words\n");
        close(waiting[i]);
    }
    for (int i = 0; i < KEPT; i++)
        if (clients[i] >= 0) {
            ask(clients[i], "tell\n");
            close(clients[i]);
        }
    ask(holder, "tell\n");
    close(holder);
    SUPPORT_AWAIT(server, active, == 0);
}

static void connections_of_a_stuck_worker_are_served_by_another(void **state)
{
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &telling, .workers = 2));

    (void)state;
    assert_others_are_served(server);
    assert_true(support_stats(server).rescued > 0);
    weir_server_destroy(server);
}

static void a_common_set_needs_no_rescue(void **state)
{
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &telling, .workers = 2,
        .dispatch = WEIR_DISPATCH_ACCEPTOR));

    (void)state;
    assert_others_are_served(server);
    weir_server_destroy(server);
}

static size_t lines_in(const char *text)
{
    size_t lines = 0;

    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

static struct weir_server *stalling_server;

/* Longer than a busy machine keeps a thread from what it is about to do. */
#define STALL_MS 300

/* Holds its worker until that is told, and for longer than stall_warn_ms again, many times over. */
static int stall(struct weir_request *req)
{
    uint64_t before = support_stats(stalling_server).stalls;
    uint64_t until_ms = support_now_ms() + PLENTY_MS;

    while (support_stats(stalling_server).stalls == before && support_now_ms() < until_ms)
        usleep(1000);
    until_ms = support_now_ms() + 3 * STALL_MS;
    while (support_now_ms() < until_ms)
        usleep(1000);
    weir_printf(req, "done\n");
    return 0;
}

static void each_stall_is_told_once(void **state)
{
    const struct weir_handler stalling = { .name = "stalling", .handle = stall };
    char written[2000];
    struct capture capture;

    (void)state;
    for (unsigned workers = 1; workers <= 2; workers++) {
        struct weir_server *server = support_start(WEIR_OPTIONS(
            .listen = support_abstract("stall"), .handler = &stalling, .workers = workers,
            .stall_warn_ms = STALL_MS));

        stalling_server = server;
        capture_begin(&capture);
        support_talk(server, 0, "", "done\n");
        support_talk(server, 0, "", "done\n");
        capture_end(&capture, written, sizeof(written));
        assert_int_equal(support_stats(server).stalls, 2);
        assert_int_equal(lines_in(written), 2);
        assert_non_null(strstr(written, "weir: handler 'stalling' has held worker "));
        assert_non_null(strstr(written, " ms without waiting: what blocks, or computes for long, "
                               "belongs in weir_offload, and a pause is weir_sleep\n"));
        weir_server_destroy(server);
    }
}

static __attribute__((noinline)) int hold_in_sleep(void)
{
    struct timespec pause = { .tv_sec = 0, .tv_nsec = 200 * 1000 * 1000 };
    uint64_t before = support_stats(stalling_server).stalls;
    uint64_t until_ms = support_now_ms() + PLENTY_MS;
    int r;

    do
        r = nanosleep(&pause, NULL);
    while (r == 0 && support_stats(stalling_server).stalls == before &&
           support_now_ms() < until_ms);
    return r == 0 ? 1 : 2;      /* nobody has cut it short */
}

static __attribute__((noinline)) int hold_in_loop(void)
{
    uint64_t before = support_stats(stalling_server).stalls;
    uint64_t until_ms = support_now_ms() + PLENTY_MS;
    volatile int rounds = 0;

    while (support_stats(stalling_server).stalls == before && support_now_ms() < until_ms)
        for (volatile int i = 0; i < 2000000; i++)
            rounds++;
    return rounds > 0 ? 1 : 2;
}

static int (*volatile hold)(void);

static int hold_worker(struct weir_request *req)
{
    return weir_printf(req, "%d\n", hold()) < 0 ? -EIO : 0;
}

/* Returns true if one of the addresses that the line tells, as "+0x", lies in the function. */
static bool tells_of(const char *line, const void *base, int (*function)(void))
{
    for (const char *at = line; (at = strstr(at, "+0x")); at++) {
        uintptr_t address = (uintptr_t)base + strtoul(at + 3, NULL, 16);

        if (address - (uintptr_t)function < 512)
            return true;
    }
    return false;
}

static void a_stall_names_the_peer_and_tells_where_it_is(void **state)
{
    static int (*const ways[])(void) = { hold_in_sleep, hold_in_loop };
    const struct weir_handler holding = { .name = "holding", .handle = hold_worker };
    char written[2000];
    struct capture capture;
    Dl_info program;

    (void)state;
    assert_int_not_equal(dladdr((const void *)(uintptr_t)hold_in_sleep, &program), 0);
    /* ThreadSanitizer lets no signal come in the midst of a loop. */
    for (size_t i = 0; i < (WEIR_TSAN ? 1 : 2); i++) {
        struct weir_server *server = support_start(WEIR_OPTIONS(
            .listen = "tcp://127.0.0.1:0", .handler = &holding, .workers = 1,
            .stall_warn_ms = STALL_MS));

        stalling_server = server;
        hold = ways[i];
        capture_begin(&capture);
        support_talk(server, 0, "", "1\n");
        capture_end(&capture, written, sizeof(written));
        assert_int_not_equal(lines_in(written), 0);
        *strchr(written, '\n') = '\0';
        assert_non_null(strstr(written, "weir: handler 'holding' has held worker 0 for "
                                        "127.0.0.1:"));
        assert_true((strstr(written, ", in clock_nanosleep(2) at ") != NULL) == (i == 0));
        if (!tells_of(written, program.dli_fbase, ways[i]))
            fail_msg("no frame is in the function: %s", written);
        weir_server_destroy(server);
    }
}

/* A Unix peer seldom has a name. */
static void a_stall_for_a_unix_peer_is_told_in_whole_words(void **state)
{
    const struct weir_handler holding = { .name = "holding", .handle = hold_worker };
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = support_abstract("stall"), .handler = &holding, .workers = 1,
        .stall_warn_ms = STALL_MS));
    char written[1000];
    struct capture capture;

    (void)state;
    stalling_server = server;
    hold = hold_in_sleep;
    capture_begin(&capture);
    support_talk(server, 0, "", "1\n");
    capture_end(&capture, written, sizeof(written));
    assert_non_null(strstr(written, "weir: handler 'holding' has held worker 0 for a Unix peer, in "
                                    "clock_nanosleep(2) at "));
    weir_server_destroy(server);
}

/* Of a datagram nothing is told but where its handler is. */
static void a_stall_without_a_peer_is_told_in_whole_words(void **state)
{
    const struct weir_handler holding = { .name = "holding", .handle = hold_worker };
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = "udp://127.0.0.1:0", .handler = &holding, .workers = 1,
        .stall_warn_ms = STALL_MS));
    int client = support_connect(server, 0);
    char written[1000];
    struct capture capture;

    (void)state;
    stalling_server = server;
    hold = hold_in_sleep;
    capture_begin(&capture);
    assert_int_equal(send(client, "?", 1, 0), 1);
    SUPPORT_AWAIT(server, stalls, == 1);
    capture_end(&capture, written, sizeof(written));
    if (!strstr(written, "weir: handler 'holding' has held worker 0, in clock_nanosleep(2)") ||
        !strstr(written, ", for "))
        fail_msg("%s", written);
    close(client);
    weir_server_destroy(server);
}

/* A handler may have coroutines of its own, whose stacks end where it likes. */
static ucontext_t handlers_own, coroutine;
static int held_there;

static void hold_there(void)
{
    held_there = hold_in_sleep();
}

static int hold_on_small_stack(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = 64 << 10;
    /* Far below the stack of the thread, which else would be where it is taken to end. */
    uintptr_t low = ((uintptr_t)__builtin_frame_address(0) - ((uintptr_t)1 << 30)) & -page;
    char *stack = mmap((void *)low, size + page, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(stack, MAP_FAILED);
    assert_int_equal(munmap(stack + size, page), 0);
    assert_int_equal(getcontext(&coroutine), 0);
    coroutine.uc_stack.ss_sp = stack;
    coroutine.uc_stack.ss_size = size;
    coroutine.uc_link = &handlers_own;
    makecontext(&coroutine, hold_there, 0);
    assert_int_equal(swapcontext(&handlers_own, &coroutine), 0);
    assert_int_equal(munmap(stack, size), 0);
    return held_there;
}

static void a_stall_on_a_stack_of_the_handlers_own_is_told(void **state)
{
    const struct weir_handler holding = { .name = "holding", .handle = hold_worker };
    struct weir_server *server;

    (void)state;
    /* Who changes stacks has to tell ThreadSanitizer. */
    if (WEIR_TSAN)
        skip();
    server = support_start(WEIR_OPTIONS(.listen = support_abstract("own"), .handler = &holding,
                                        .workers = 1, .stall_warn_ms = STALL_MS));
    stalling_server = server;
    hold = hold_on_small_stack;
    support_talk(server, 0, "", "1\n");
    assert_int_equal(support_stats(server).stalls, 1);
    weir_server_destroy(server);
}

/* A program that has SIGURG for itself is not asked, and its handler stays. */
static void note_urge(int signal_number)
{
    (void)signal_number;
}

static void a_program_keeps_its_own_sigurg(void **state)
{
    const struct weir_handler holding = { .name = "holding", .handle = hold_worker };
    const struct sigaction own = { .sa_handler = note_urge };
    struct sigaction before, now;
    struct weir_server *server;

    (void)state;
    assert_int_equal(sigaction(SIGURG, &own, &before), 0);
    server = support_start(WEIR_OPTIONS(.listen = support_abstract("urge"), .handler = &holding,
                                        .workers = 1, .stall_warn_ms = 20));
    stalling_server = server;
    hold = hold_in_loop;
    support_talk(server, 0, "", "1\n");
    assert_int_equal(support_stats(server).stalls, 1);
    weir_server_destroy(server);
    assert_int_equal(sigaction(SIGURG, &before, &now), 0);
    assert_ptr_equal(now.sa_handler, note_urge);
}

static void waiting_is_no_stall(void **state)
{
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = support_abstract("waiting"), .handler = &telling, .workers = 1,
        .stall_warn_ms = 20));
    int waiting = support_connect(server, 0);
    uint64_t before;
    uint64_t until_ms;

    (void)state;
    ask(waiting, "wait\n");
    SUPPORT_AWAIT(server, parked, == 1);
    before = support_stats(server).stalls;
    until_ms = support_now_ms() + 100;
    SUPPORT_UNTIL(support_now_ms() > until_ms);
    assert_int_equal(support_stats(server).stalls, before);
    close(waiting);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ want -------------- */

static rlim_t used_address_space(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long pages = 0;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu", &pages), 1);
    fclose(file);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* Stacks so large that three are all that the arena maps at a time. */
static void a_connection_without_memory_for_a_stack_is_refused(void **state)
{
    struct weir_server *server;
    struct weir_stats stats;
    struct rlimit before;
    struct rlimit tight;
    struct capture capture;
    char said[2000];
    int clients[5];

    (void)state;
    if (WEIR_ASAN || WEIR_TSAN)
        skip();     /* their shadows need more address space than a limit leaves */
    capture_begin(&capture);
    server = support_start(WEIR_OPTIONS(.listen = support_abstract("stacks"), .handler = &telling,
                                        .workers = 1, .stack_size = (size_t)256 << 20));
    for (int i = 0; i < 3; i++) {
        clients[i] = support_connect(server, 0);
        ask(clients[i], "wait\n");
    }
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    tight = before;
    tight.rlim_cur = used_address_space() + ((rlim_t)64 << 20);
    assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
    clients[3] = support_connect(server, 0);
    support_expect_end(clients[3]);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    clients[4] = support_connect(server, 0);
    ask(clients[4], "tell\n");
    for (int i = 0; i < 5; i++)
        close(clients[i]);
    SUPPORT_AWAIT(server, active, == 0);
    stats = support_stats(server);
    assert_int_equal(stats.accepted, 5);
    assert_int_equal(stats.refused, 1);
    assert_int_equal(stats.closed, 4);
    assert_int_equal(stats.no_memory, 1);
    assert_int_equal(stats.timeouts, 0);
    assert_int_equal(stats.setup_errors + stats.handle_errors, 0);
    capture_end(&capture, said, sizeof(said));
    assert_non_null(strstr(said, "weir: no memory for a handler's stack of 268435456 bytes\n"));
    assert_non_null(strstr(said, ": process_request of handler 'telling' failed: "
                           "Cannot allocate memory\n"));
    weir_server_destroy(server);
}

static atomic_int timer_calls;

static void count_timer_call(struct weir_request *req, void *arg)
{
    (void)req;
    (void)arg;
    atomic_fetch_add_explicit(&timer_calls, 1, memory_order_relaxed);
}

/* Nor does it hold up the end of the server. */
static void a_timer_without_memory_for_a_stack_makes_no_call(void **state)
{
    struct weir_server *server;
    struct weir_timer *timer;
    struct rlimit before;
    struct rlimit tight;
    struct capture capture;
    char said[2000];

    (void)state;
    if (WEIR_ASAN || WEIR_TSAN)
        skip();
    capture_begin(&capture);
    server = support_start(WEIR_OPTIONS(.listen = support_abstract("stacks"), .handler = &telling,
                                        .workers = 1, .stack_size = (size_t)256 << 20));
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    tight = before;
    tight.rlim_cur = used_address_space() + ((rlim_t)64 << 20);
    assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
    assert_int_equal(weir_timer_every(server, 1, count_timer_call, NULL, &timer), 0);
    assert_int_equal(weir_timer_every(server, 1, count_timer_call, NULL, NULL), 0);
    SUPPORT_AWAIT(server, no_memory, == 2);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(weir_timer_cancel(timer), 0);
    weir_server_destroy(server);
    capture_end(&capture, said, sizeof(said));
    assert_non_null(strstr(said, ": process_request of handler 'timer' failed: "
                           "Cannot allocate memory\n"));
    /* relaxed: the server is gone. pairs: none */
    assert_int_equal(atomic_load_explicit(&timer_calls, memory_order_relaxed), 0);
}

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);

/* The old kernel says that it has few mappings, so that few clients are many. */
FILE *__wrap_fopen(const char *path, const char *mode)
{
    static char few[] = "2100\n";

    if (old_kernel && strcmp(path, "/proc/sys/vm/max_map_count") == 0)
        return fmemopen(few, sizeof(few) - 1, "r");
    return __real_fopen(path, mode);
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Half as many as the few mappings have room for. */
enum { MANY = 275 };

static struct taken {
    void **pages;
    size_t len;
} taken;

/* More than a process may have where mappings_have_an_end(). */
#define TAKEN_MAX ((size_t)4 << 20)

/* All mappings that the process may still have. Neighbours differ, so none is one with another. */
static void take_mappings(void)
{
    size_t page = page_size();
    void *at;

    taken.len = 0;
    taken.pages = mmap(NULL, TAKEN_MAX * sizeof(*taken.pages), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(taken.pages != MAP_FAILED);
    while ((at = mmap(NULL, page, taken.len % 2 ? PROT_NONE : PROT_READ,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED) {
        assert_true(taken.len < TAKEN_MAX);
        taken.pages[taken.len++] = at;
    }
    assert_int_equal(errno, ENOMEM);
}

static void give_mappings_back(void)
{
    for (size_t i = 0; i < taken.len; i++)
        munmap(taken.pages[i], page_size());
    munmap(taken.pages, TAKEN_MAX * sizeof(*taken.pages));
}

static void who_has_no_mapping_for_a_stack_is_told_of_the_sysctl(void **state)
{
    struct weir_server *server;
    struct capture capture;
    char said[2000];
    int clients[MANY];
    int refused;

    (void)state;
    if (WEIR_ASAN || WEIR_TSAN || !mappings_have_an_end())
        skip();     /* sanitizers need mappings themselves */
    old_kernel = true;
    capture_begin(&capture);
    server = support_start(WEIR_OPTIONS(.listen = support_abstract("mappings"),
                                        .handler = &telling, .workers = 1));
    for (int i = 0; i < MANY; i++) {
        clients[i] = support_connect(server, 0);
        ask(clients[i], "wait\n");
    }
    take_mappings();
    refused = support_connect(server, 0);
    support_expect_end(refused);
    give_mappings_back();
    close(refused);
    for (int i = 0; i < MANY; i++)
        close(clients[i]);
    SUPPORT_AWAIT(server, active, == 0);
    support_talk(server, 0, "tell\n", "0\n");
    assert_int_equal(support_stats(server).refused, 1);
    assert_int_equal(support_stats(server).no_memory, 1);
    capture_end(&capture, said, sizeof(said));
    assert_non_null(strstr(said, "raise the sysctl vm.max_map_count, or lower max_connections\n"));
    assert_null(strstr(said, "no memory for a handler's stack"));
    weir_server_destroy(server);
    old_kernel = false;
}

enum { BURST = 200, IDLE_STACKS = 64 };

static _Atomic uintptr_t pages[BURST];     /* one of each handler's stack */
static atomic_size_t pages_len;

static int note_page(struct weir_request *req)
{
    uintptr_t page = (uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)(page_size() - 1);
    char *line;

    atomic_store(&pages[atomic_fetch_add(&pages_len, 1)], page);
    return weir_readline(req, &line, 10) > 0 ? 0 : -EPROTO;
}

static size_t resident_pages(void)
{
    size_t count = 0;

    for (size_t i = 0; i < BURST; i++) {
        unsigned char resident;

        assert_int_equal(mincore((void *)atomic_load(&pages[i]), page_size(),
                                 &resident), 0);
        count += resident & 1;
    }
    return count;
}

static void a_bursts_stacks_go_back_to_the_kernel(void **state)
{
    static const struct weir_handler noting = { .name = "noting", .handle = note_page };
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &noting, .workers = 1));
    int clients[BURST];

    (void)state;
    for (size_t i = 0; i < BURST; i++)
        clients[i] = support_connect(server, 0);
    SUPPORT_AWAIT(server, parked, == BURST);
    assert_int_equal(resident_pages(), BURST);
    for (size_t i = 0; i < BURST; i++)
        support_say(clients[i], "go\n");
    for (size_t i = 0; i < BURST; i++)
        support_expect_last(clients[i], "");
    SUPPORT_UNTIL(resident_pages() <= IDLE_STACKS);
    weir_server_destroy(server);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_gate, close_gate)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_worker_runs_on_its_cpu),
        TEST(handlers_that_block_run_on_several_workers),
        TEST(handlers_that_park_share_a_worker),
        TEST(what_parks_and_what_has_no_fiber_may_share_a_batch),
        TEST(connections_of_a_stuck_worker_are_served_by_another),
        TEST(a_common_set_needs_no_rescue),
        TEST(each_stall_is_told_once),
        TEST(a_stall_names_the_peer_and_tells_where_it_is),
        TEST(a_stall_for_a_unix_peer_is_told_in_whole_words),
        TEST(a_stall_without_a_peer_is_told_in_whole_words),
        TEST(a_stall_on_a_stack_of_the_handlers_own_is_told),
        TEST(a_program_keeps_its_own_sigurg),
        TEST(waiting_is_no_stall),
        TEST(a_connection_without_memory_for_a_stack_is_refused),
        TEST(a_timer_without_memory_for_a_stack_makes_no_call),
        TEST(who_has_no_mapping_for_a_stack_is_told_of_the_sysctl),
        TEST(a_bursts_stacks_go_back_to_the_kernel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
