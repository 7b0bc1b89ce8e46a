/*
 * overflow_test.c - every fault happens in a child process, whose last words and whose end tell.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/compiler.h"
#include "engine/fiber/fiber.h"
#include "engine/fiber/overflow.h"
#include "engine/fiber/stack.h"
#include "tests/support.h"

/* In the child: what must not fail there. */
static void must(int result)
{
    if (result != 0)
        _exit(99);
}

/* ------------------------------------------------------------------ overflowing ------- */

static volatile int depth_wanted = 1 << 30;

static int recurse(int depth)
{
    volatile char frame[512];

    frame[0] = (char)depth;
    return depth < depth_wanted ? recurse(depth + 1) + frame[0] : frame[0];
}

static void recurse_for_ever(struct fiber *self, void *label)
{
    fiber_set_label(self, label);
    fiber_park(self);
    recurse(0);
}

static void overflow_a_fiber(size_t stack_size, char *label)
{
    struct overflow_stack stack;
    struct stack_arena *arena;
    struct fiber_cache cache;
    struct fiber *fiber;

    must(stack_arena_create(stack_size, 0, &arena));
    must(overflow_install());
    must(overflow_stack_map(&stack));
    overflow_thread_init(&stack);
    fiber_cache_init(&cache, arena, 1);
    fiber = fiber_get(&cache);
    must(fiber_run(fiber, recurse_for_ever, label));
    fiber_resume(fiber);
}

static void overflow_upper(void)
{
    overflow_a_fiber(0, "upper");
}

static void an_overflow_is_one_line_and_an_abort(void **state)
{
    struct support_end end = support_run_in_child(overflow_upper);

    (void)state;
    assert_int_equal(end.status, -SIGABRT);
    assert_string_equal(end.said, "weir: stack overflow in handler 'upper': "
                                  "65536 bytes are not enough; raise stack_size\n");
}

static void overflow_nameless(void)
{
    overflow_a_fiber(STACK_SIZE_MIN, NULL);
}

static void an_overflow_without_a_label_says_so(void **state)
{
    struct support_end end = support_run_in_child(overflow_nameless);

    (void)state;
    assert_int_equal(end.status, -SIGABRT);
    assert_string_equal(end.said, "weir: stack overflow in handler '?': "
                                  "16384 bytes are not enough; raise stack_size\n");
}

static void overflow_longwinded(void)
{
    static char label[1000];

    memset(label, 'x', sizeof(label) - 1);
    overflow_a_fiber(0, label);
}

static void a_long_label_is_cut_and_the_line_is_whole(void **state)
{
    struct support_end end = support_run_in_child(overflow_longwinded);

    (void)state;
    assert_int_equal(end.status, -SIGABRT);
    assert_non_null(strstr(end.said, "xxx': 65536 bytes are not enough; raise stack_size\n"));
}

static void *overflow_on_a_thread(void *unused)
{
    overflow_a_fiber(0, "threaded");
    return unused;
}

static void overflow_elsewhere(void)
{
    pthread_t thread;

    must(pthread_create(&thread, NULL, overflow_on_a_thread, NULL));
    pthread_join(thread, NULL);
}

static void an_overflow_on_any_thread_is_told(void **state)
{
    struct support_end end = support_run_in_child(overflow_elsewhere);

    (void)state;
    assert_int_equal(end.status, -SIGABRT);
    assert_non_null(strstr(end.said, "in handler 'threaded'"));
}

/* ------------------------------------------------------------------ in a server ------- */

static size_t stack_size;

static int overflow_in_handle(struct weir_request *req)
{
    weir_yield(req);
    return recurse(0);
}

static const struct weir_handler deep = { .name = "deep", .handle = overflow_in_handle };

static void overflow_while_serving(void)
{
    struct weir_server *server;

    must(weir_server_create(&server, WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &deep,
                                                  .stack_size = stack_size, .workers = 2)));
    must(weir_server_start(server));
    support_read_all(support_connect(server, 0), (char[1]){ 0 }, 1);
}

/* As programs do that have a thread for their signals. */
static void overflow_with_all_blocked(void)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    overflow_while_serving();
}

static void a_handler_that_overflows_is_told_whatever_is_blocked(void **state)
{
    static void (*const ways[])(void) = { overflow_while_serving, overflow_with_all_blocked };
    static const struct {
        size_t stack_size;
        size_t told;        /* where pages are not larger */
    } sizes[] = {
        { 0, 65536 }, { STACK_SIZE_MIN * 2, 32768 }, { 1 << 20, 1048576 },
    };
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
        char line[256];
        struct support_end end;

        stack_size = sizes[i / 2].stack_size;
        snprintf(line, sizeof(line), "weir: stack overflow in handler 'deep': %zu bytes are not "
                 "enough; raise stack_size\n", sizes[i / 2].told < page ? page : sizes[i / 2].told);
        end = support_run_in_child(ways[i % 2]);
        assert_string_equal(end.said, line);
        assert_int_equal(end.status, -SIGABRT);
    }
}

/* As a function does whose local array has so many KiB, of which it uses the beginning alone. */
static size_t array_kib;

static int use_large_array(struct weir_request *req)
{
    volatile char *array = (char *)__builtin_frame_address(0) - (array_kib << 10);

    weir_yield(req);
    *array = 1;
    return 0;
}

static const struct weir_handler large = { .name = "large", .handle = use_large_array };

/* Beside others, whose stacks lie around it. */
static void serve_large_arrays(void)
{
    struct weir_server *server;
    int fds[8];

    must(weir_server_create(&server, WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                  .handler = &large, .workers = 1)));
    must(weir_server_start(server));
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        fds[i] = support_connect(server, 0);
    support_read_all(fds[0], (char[1]){ 0 }, 1);
}

static void a_large_array_reaches_nobody_elses_stack(void **state)
{
    static const size_t sizes[] = { 64, 66, 72, 80, 96, 112, 128, 160, 192, 256, 300 };

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct support_end end;

        array_kib = sizes[i];
        end = support_run_in_child(serve_large_arrays);
        assert_string_equal(end.said, "weir: stack overflow in handler 'large': "
                                      "65536 bytes are not enough; raise stack_size\n");
        assert_int_equal(end.status, -SIGABRT);
    }
}

/* ------------------------------------------------------------------ crashes ----------- */

static const int crashes[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
static const char *const crash_names[] = { "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT" };

#define CRASHES (sizeof(crashes) / sizeof(crashes[0]))

static volatile char *volatile nowhere = (char *)8;
static int crash;
/* Called by a pointer, so that no compiler moves the call, as one from which nothing returns. */
static void (*volatile end_by_abort)(void) = abort;

static __attribute__((noinline)) int crash_here(void)
{
    if (crash == SIGSEGV)
        *nowhere = 1;
    if (crash == SIGABRT)
        end_by_abort();
    raise(crash);
    return *nowhere;            /* behind the call, so that it is no jump */
}

/* As a program's function that calls another, and has something to do after it. */
static __attribute__((noinline)) int crash_below(void)
{
    volatile int before = 1;

    return crash_here() + before;
}

static int crash_in_handle(struct weir_request *req)
{
    weir_yield(req);
    return crash_below();
}

static const struct weir_handler crashing = { .name = "crashing", .handle = crash_in_handle };

/* What cmocka and sanitizers have put there is not the program's. */
static void let_all_be_fatal(void)
{
    for (size_t i = 0; i < CRASHES; i++)
        signal(crashes[i], SIG_DFL);
}

static const char *crash_listen;

static void crash_while_serving(void)
{
    struct weir_server *server;

    must(weir_server_create(&server, WEIR_OPTIONS(.listen = crash_listen, .handler = &crashing,
                                                  .workers = 2)));
    must(weir_server_start(server));
    support_read_all(support_connect(server, 0), (char[1]){ 0 }, 1);
}

static void crash_by_default(void)
{
    let_all_be_fatal();
    crash_while_serving();
}

/* Returns true if one of the frames that were told lies in the function. */
static bool tells_of(const char *said, int (*function)(void))
{
    const char *frame = said;

    while ((frame = strstr(frame, "weir:   #"))) {
        unsigned long address = 0;

        if (sscanf(frame, "weir:   #%*u 0x%lx", &address) == 1 &&
            address - (unsigned long)(uintptr_t)function < 256)
            return true;
        frame++;
    }
    return false;
}

static void expect_crash_report(size_t i, const char *peer)
{
    char begin[128];
    struct support_end end;

    crash = crashes[i];
    snprintf(begin, sizeof(begin), "weir: %s%s in handler 'crashing', which serves %s",
             crash_names[i], crash == SIGSEGV ? " at address 0x8" : "", peer);
    end = support_run_in_child(crash_by_default);
    assert_int_equal(end.status, -crash);
    if (strncmp(end.said, begin, strlen(begin)) != 0)
        fail_msg("not '%s' but '%s'", begin, end.said);
    if (!tells_of(end.said, crash_here) || !tells_of(end.said, crash_below))
        fail_msg("a frame is missing: %s", end.said);
}

static void a_crash_names_the_handler_its_peer_and_its_frames(void **state)
{
    (void)state;
    crash_listen = "tcp://127.0.0.1:0";
    for (size_t i = 0; i < CRASHES; i++)
        expect_crash_report(i, "127.0.0.1:");
}

static bool has_ipv6(void)
{
    const struct sockaddr_in6 loopback = { .sin6_family = AF_INET6,
                                           .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool has = fd >= 0 && bind(fd, (const struct sockaddr *)&loopback, sizeof(loopback)) == 0;

    if (fd >= 0)
        close(fd);
    return has;
}

static void a_crash_names_other_kinds_of_peers(void **state)
{
    (void)state;
    crash_listen = "unix:@weir-overflow-test";
    expect_crash_report(0, "a Unix peer\n");
    crash_listen = "tcp://[::1]:0";
    if (has_ipv6())
        expect_crash_report(0, "[0:0:0:0:0:0:0:1]:");
}

/* ------------------------------------------------------------------ ... elsewhere ----- */

/* A server of whose threads one crashes, once a client has come. */
static struct weir_options crash_options;

static void crash_of_options(void)
{
    struct weir_server *server;

    let_all_be_fatal();
    must(weir_server_create(&server, &crash_options));
    must(weir_server_start(server));
    support_say(support_connect(server, 0), "x");
    for (;;)
        pause();
}

static void expect_crash(const struct weir_options *options, const char *says)
{
    struct support_end end;

    crash_options = *options;
    end = support_run_in_child(crash_of_options);
    assert_int_equal(end.status, -SIGSEGV);
    if (strncmp(end.said, says, strlen(says)) != 0)
        fail_msg("not '%s' but '%s'", says, end.said);
    if (!tells_of(end.said, crash_here))
        fail_msg("a frame is missing: %s", end.said);
}

static int crash_at_once(struct weir_request *req)
{
    (void)req;
    return crash_below();
}

static const struct weir_handler crashing_on_thread = {
    .name = "blocking", .handle = crash_at_once, .stack = WEIR_STACK_THREAD,
};

static void a_crash_on_a_threads_own_stack_names_handler_and_peer(void **state)
{
    static const enum weir_concurrency concurrencies[] = { WEIR_POOL, WEIR_SERIAL, WEIR_THREAD };

    (void)state;
    crash = SIGSEGV;
    for (size_t i = 0; i < sizeof(concurrencies) / sizeof(concurrencies[0]); i++)
        expect_crash(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &crashing_on_thread,
                                  .concurrency = concurrencies[i]),
                     "weir: SIGSEGV at address 0x8 in handler 'blocking', which serves 127.0.0.1:");
}

/* Its child crashes, and goes on to be told of by the parent. */
static void crash_in_a_child_of_ours(void)
{
    struct weir_server *server;
    char line[1];

    let_all_be_fatal();
    must(weir_server_create(&server, &crash_options));
    must(weir_server_start(server));
    support_read_all(support_connect(server, 0), line, 1);
    _exit(0);
}

static void a_crash_in_a_child_names_handler_and_peer(void **state)
{
    static const enum weir_concurrency concurrencies[] = { WEIR_FORK, WEIR_PREFORK };

    (void)state;
    crash = SIGSEGV;
    for (size_t i = 0; i < sizeof(concurrencies) / sizeof(concurrencies[0]); i++) {
        struct support_end end;

        crash_options = *WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &crashing,
                                      .concurrency = concurrencies[i]);
        end = support_run_in_child(crash_in_a_child_of_ours);
        assert_int_equal(end.status, 0);
        assert_non_null(strstr(end.said, "weir: SIGSEGV at address 0x8 in handler 'crashing', "
                                         "which serves 127.0.0.1:"));
    }
}

static int crash_in_job(void *unused)
{
    (void)unused;
    return crash_below();
}

static int crash_by_offload(struct weir_request *req)
{
    return weir_offload(req, crash_in_job, NULL);
}

static const struct weir_handler offloading = { .name = "offloading", .handle = crash_by_offload };

static void a_crash_of_what_is_offloaded_names_handler_and_peer(void **state)
{
    (void)state;
    crash = SIGSEGV;
    expect_crash(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &offloading),
                 "weir: SIGSEGV at address 0x8 in what is offloaded by handler 'offloading', which "
                 "serves 127.0.0.1:");
}

static int crash_in_hook(struct weir_server *server, const struct weir_peer *peer)
{
    (void)server;
    (void)peer;
    return crash_below();
}

static void a_crash_of_a_hook_names_the_thread(void **state)
{
    (void)state;
    crash = SIGSEGV;
    expect_crash(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &crashing,
                              .verify_request = crash_in_hook),
                 "weir: SIGSEGV at address 0x8 in the thread that accepts\n");
}

static void crash_in_interrupt(int signal_number)
{
    (void)signal_number;
    crash_below();
}

static int interrupt(struct weir_request *req)
{
    struct sigaction action = { .sa_handler = crash_in_interrupt, .sa_flags = SA_ONSTACK };

    (void)req;
    sigaction(SIGUSR1, &action, NULL);
    return raise(SIGUSR1);
}

static const struct weir_handler interrupted = { .name = "interrupted", .handle = interrupt };

static void a_crash_of_a_signal_handler_names_who_was_interrupted(void **state)
{
    (void)state;
    /* ThreadSanitizer blocks every signal in a program's handlers, and then faults kill at once. */
    if (WEIR_TSAN)
        skip();
    crash = SIGSEGV;
    expect_crash(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &interrupted),
                 "weir: SIGSEGV at address 0x8 in what has interrupted handler 'interrupted'\n");
}

static void *crash_on_a_thread(void *unused)
{
    crash_below();
    return unused;
}

static void crash_on_a_thread_of_the_programs(void)
{
    struct weir_server *server;
    pthread_t thread;

    let_all_be_fatal();
    must(weir_server_create(&server, WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                  .handler = &crashing)));
    must(weir_server_start(server));
    must(pthread_create(&thread, NULL, crash_on_a_thread, NULL));
    pthread_join(thread, NULL);
}

static void a_crash_on_a_thread_of_the_programs_is_its_own_business(void **state)
{
    struct support_end end;

    (void)state;
    crash = SIGSEGV;
    end = support_run_in_child(crash_on_a_thread_of_the_programs);
    assert_int_equal(end.status, -SIGSEGV);
    assert_string_equal(end.said, "");
}

static void crash_of_a_datagram(void)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    let_all_be_fatal();
    must(weir_server_create(&server, WEIR_OPTIONS(.listen = "udp://127.0.0.1:0",
                                                  .handler = &crashing)));
    must(weir_server_start(server));
    must(weir_server_address(server, 0, address, sizeof(address)) < 0);
    to.sin_port = htons((uint16_t)strtoul(strrchr(address, ':') + 1, NULL, 10));
    must(sendto(fd, "x", 1, 0, (const struct sockaddr *)&to, sizeof(to)) != 1);
    for (;;)
        pause();
}

static void a_crash_names_the_sender_of_a_datagram(void **state)
{
    static const char says[] = "weir: SIGSEGV at address 0x8 in handler 'crashing', which serves "
                               "127.0.0.1:";
    struct support_end end;

    (void)state;
    crash = SIGSEGV;
    end = support_run_in_child(crash_of_a_datagram);
    assert_int_equal(end.status, -SIGSEGV);
    if (strncmp(end.said, says, strlen(says)) != 0)
        fail_msg("not '%s' but '%s'", says, end.said);
}

/* ------------------------------------------------------------------ ... badly --------- */

/* As an overrun array leaves the frames of its callers. */
static __attribute__((noinline, no_sanitize("address"))) int crash_over_ruins(void)
{
    volatile uintptr_t *frame = __builtin_frame_address(0);

    for (int i = 1; i < 40; i++)
        frame[i] = 0x4141414141414141;
    raise(crash);
    return *nowhere;
}

static int ruin(struct weir_request *req)
{
    weir_yield(req);
    return crash_over_ruins();
}

static const struct weir_handler ruining = { .name = "ruining", .handle = ruin };

static void a_damaged_stack_ends_the_process_by_its_own_signal(void **state)
{
    (void)state;
    crash_options = *WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &ruining);
    for (size_t i = 0; i < CRASHES; i++) {
        struct support_end end;

        crash = crashes[i];
        end = support_run_in_child(crash_of_options);
        assert_int_equal(end.status, -crash);
        assert_non_null(strstr(end.said, " in handler 'ruining', which serves 127.0.0.1:"));
        assert_non_null(strstr(end.said, "weir:   #0 "));
    }
}

static int (*volatile no_function)(void);

static __attribute__((noinline)) int crash_by_null(struct weir_request *req)
{
    weir_yield(req);
    return no_function() + 1;
}

static const struct weir_handler calling_null = { .name = "null", .handle = crash_by_null };

static void a_call_of_null_names_its_caller(void **state)
{
    struct support_end end;
    const char *caller;
    unsigned long address = 0;

    (void)state;
    crash = SIGSEGV;
    crash_options = *WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &calling_null);
    end = support_run_in_child(crash_of_options);
    assert_int_equal(end.status, -SIGSEGV);
    caller = strstr(end.said, "weir:   #0 0x0\nweir:   #1 0x");
    assert_non_null(caller);
    sscanf(strchr(caller, '\n'), " weir: #1 0x%lx", &address);
    assert_true(address - (unsigned long)(uintptr_t)crash_by_null < 256);
}

/* The lowest page of another's stack has a guard below it; so has this one's. */
static volatile char *volatile others_guard;

static int touch_anothers_guard(struct weir_request *req)
{
    char *line;

    if (!others_guard) {
        others_guard = (volatile char *)__builtin_frame_address(0) - (128 << 10);
        return weir_readline(req, &line, 1) < 0 ? -EIO : 0;
    }
    *others_guard = 1;
    return 0;
}

static const struct weir_handler wild = { .name = "wild", .handle = touch_anothers_guard };

static void touch_from_a_second_handler(void)
{
    struct weir_server *server;
    int first;

    let_all_be_fatal();
    must(weir_server_create(&server, WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &wild,
                                                  .workers = 1)));
    must(weir_server_start(server));
    first = support_connect(server, 0);
    SUPPORT_AWAIT(server, parked, == 1);
    support_read_all(support_connect(server, 0), (char[1]){ 0 }, 1);
    close(first);
}

static void a_wild_pointer_into_anothers_guard_is_no_overflow(void **state)
{
    struct support_end end = support_run_in_child(touch_from_a_second_handler);

    (void)state;
    assert_int_equal(end.status, -SIGSEGV);
    assert_non_null(strstr(end.said, "weir: SIGSEGV at address 0x"));
    assert_non_null(strstr(end.said, " in handler 'wild', which serves 127.0.0.1:"));
}

/* ------------------------------------------------------------------ the program's own -- */

static sigjmp_buf way_out;
static volatile int caught;

static void leave_by_jump(int signal_number)
{
    (void)signal_number;
    caught++;
    siglongjmp(way_out, 1);
}

/* The mask is left as it is: the program's handler asks for its signal not to be blocked. */
static int fault_thrice(struct weir_request *req)
{
    (void)req;
    for (volatile int i = 0; i < 3; i++)
        if (sigsetjmp(way_out, 0) == 0)
            *nowhere = 1;
    _exit(caught == 3 ? 42 : 43);
}

static const struct weir_handler thrice = { .name = "thrice", .handle = fault_thrice };

static void fault_with_a_handler_that_jumps(void)
{
    const struct sigaction jumping = { .sa_handler = leave_by_jump, .sa_flags = SA_NODEFER };
    struct weir_server *server;

    must(sigaction(SIGSEGV, &jumping, NULL));
    must(weir_server_create(&server, WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                  .handler = &thrice)));
    must(weir_server_start(server));
    support_read_all(support_connect(server, 0), (char[1]){ 0 }, 1);
}

static void a_handler_that_is_not_to_be_blocked_is_not(void **state)
{
    struct support_end end;

    (void)state;
    /* ThreadSanitizer blocks every signal in a program's handlers, whatever they ask for. */
    if (WEIR_TSAN)
        skip();
    end = support_run_in_child(fault_with_a_handler_that_jumps);
    assert_int_equal(end.status, 42);
    assert_string_equal(end.said, "");
}

static void count_and_return(int signal_number)
{
    (void)signal_number;
    if (++caught > 1)
        _exit(43);
}

static int fault_for_good(struct weir_request *req)
{
    (void)req;
    *nowhere = 1;
    return 0;
}

static const struct weir_handler faulting = { .name = "faulting", .handle = fault_for_good };

/* It returns, so the same instruction faults once more. */
static void fault_with_a_handler_for_once(void)
{
    const struct sigaction once = { .sa_handler = count_and_return, .sa_flags = (int)SA_RESETHAND };
    struct weir_server *server;

    must(sigaction(SIGSEGV, &once, NULL));
    must(weir_server_create(&server, WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                  .handler = &faulting)));
    must(weir_server_start(server));
    support_read_all(support_connect(server, 0), (char[1]){ 0 }, 1);
}

static void a_handler_for_once_is_called_once(void **state)
{
    struct support_end end = support_run_in_child(fault_with_a_handler_for_once);

    (void)state;
    assert_int_equal(end.status, -SIGSEGV);
}

static void note_and_leave(int signal_number)
{
    _exit(signal_number == crash ? 42 : 43);
}

static void crash_with_a_handler_of_the_programs(void)
{
    let_all_be_fatal();
    signal(crash, note_and_leave);
    crash_while_serving();
}

static void a_program_that_handles_crashes_itself_is_asked_alone(void **state)
{
    (void)state;
    crash_listen = "tcp://127.0.0.1:0";
    for (size_t i = 0; i < CRASHES; i++) {
        struct support_end end;

        crash = crashes[i];
        end = support_run_in_child(crash_with_a_handler_of_the_programs);
        assert_int_equal(end.status, 42);
        assert_string_equal(end.said, "");
    }
}

static void come_and_go(void)
{
    struct sigaction now;

    let_all_be_fatal();
    signal(SIGFPE, SIG_IGN);
    must(overflow_install());
    must(sigaction(SIGFPE, NULL, &now));
    must(now.sa_handler != SIG_IGN);
    overflow_uninstall();
    for (size_t i = 0; i < CRASHES; i++) {
        must(sigaction(crashes[i], NULL, &now));
        must(now.sa_handler != (crashes[i] == SIGFPE ? SIG_IGN : SIG_DFL));
    }
    _exit(49);
}

static void no_signal_is_handled_after_the_last_uninstall(void **state)
{
    struct support_end end = support_run_in_child(come_and_go);

    (void)state;
    assert_int_equal(end.status, 49);
}

/* ------------------------------------------------------------------ other faults ------ */

static volatile char *forbidden;

static void touch_forbidden(void)
{
    forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(forbidden == MAP_FAILED);
    *forbidden = 1;
}

static void fault_with_the_default_below(void)
{
    must(overflow_install());
    touch_forbidden();
}

static void another_fault_kills_as_it_would_have(void **state)
{
    struct support_end end = support_run_in_child(fault_with_the_default_below);

    (void)state;
    assert_int_equal(end.status, -SIGSEGV);
    assert_string_equal(end.said, "");
}

static void exit_if_told_the_address(int signal_number, siginfo_t *info, void *context)
{
    _exit(signal_number == SIGSEGV && info->si_addr == forbidden && context ? 42 : 43);
}

static void fault_with_a_handler_below(void)
{
    struct sigaction action = { .sa_flags = SA_SIGINFO };

    action.sa_sigaction = exit_if_told_the_address;
    must(sigaction(SIGSEGV, &action, NULL));
    must(overflow_install());
    touch_forbidden();
}

static void another_fault_reaches_the_handler_from_before(void **state)
{
    struct support_end end = support_run_in_child(fault_with_a_handler_below);

    (void)state;
    assert_int_equal(end.status, 42);
}

static void exit_44(int signal_number)
{
    _exit(signal_number == SIGSEGV ? 44 : 45);
}

static void fault_with_a_plain_handler_below(void)
{
    signal(SIGSEGV, exit_44);
    must(overflow_install());
    touch_forbidden();
}

static void a_handler_without_siginfo_is_reached_too(void **state)
{
    struct support_end end = support_run_in_child(fault_with_a_plain_handler_below);

    (void)state;
    assert_int_equal(end.status, 44);
}

static void send_with_the_default_below(void)
{
    must(overflow_install());
    raise(SIGSEGV);
}

static void a_signal_that_was_sent_kills_as_well(void **state)
{
    struct support_end end = support_run_in_child(send_with_the_default_below);

    (void)state;
    assert_int_equal(end.status, -SIGSEGV);
}

static void send_to_one_who_ignores_it(void)
{
    signal(SIGSEGV, SIG_IGN);
    must(overflow_install());
    raise(SIGSEGV);
    raise(SIGSEGV);
    _exit(46);
}

static void a_signal_that_was_sent_is_ignored_if_it_was_before(void **state)
{
    struct support_end end = support_run_in_child(send_to_one_who_ignores_it);

    (void)state;
    assert_int_equal(end.status, 46);
}

/* ------------------------------------------------------------------ coming and going -- */

static struct sigaction current(void)
{
    struct sigaction action;

    must(sigaction(SIGSEGV, NULL, &action));
    return action;
}

static void uninstall_restores(void)
{
    signal(SIGSEGV, exit_44);
    must(overflow_install());
    must(overflow_install());
    overflow_uninstall();
    must(current().sa_handler == exit_44);
    overflow_uninstall();
    must(current().sa_handler != exit_44);
    _exit(47);
}

static void the_last_uninstall_restores_the_handler_from_before(void **state)
{
    struct support_end end = support_run_in_child(uninstall_restores);

    (void)state;
    assert_int_equal(end.status, 47);
}

static struct sigaction covered;

static void pass_down(int signal_number, siginfo_t *info, void *context)
{
    covered.sa_sigaction(signal_number, info, context);
}

/* A program puts its handler on ours, and a server comes and goes and comes below it. */
static void cover_and_come_again(void)
{
    struct sigaction action = { .sa_flags = SA_SIGINFO | SA_ONSTACK };

    signal(SIGSEGV, exit_44);
    must(overflow_install());
    action.sa_sigaction = pass_down;
    must(sigaction(SIGSEGV, &action, &covered));
    overflow_uninstall();
    must(current().sa_sigaction != pass_down);
    must(overflow_install());
    touch_forbidden();
}

static void a_handler_put_on_top_stays_and_makes_no_circle(void **state)
{
    struct support_end end = support_run_in_child(cover_and_come_again);

    (void)state;
    assert_int_equal(end.status, 44);
}

static void a_thread_gets_its_alternate_stack_back(void **state)
{
    struct overflow_stack stack;
    stack_t before, during, after;

    (void)state;
    assert_int_equal(sigaltstack(NULL, &before), 0);
    assert_int_equal(overflow_stack_map(&stack), 0);
    overflow_thread_init(&stack);
    assert_int_equal(sigaltstack(NULL, &during), 0);
    assert_int_equal(during.ss_flags & SS_DISABLE, 0);
    assert_ptr_not_equal(during.ss_sp, before.ss_sp);
    overflow_thread_fini(&stack);
    overflow_stack_unmap(&stack);
    assert_int_equal(sigaltstack(NULL, &after), 0);
    assert_ptr_equal(after.ss_sp, before.ss_sp);
    assert_int_equal(after.ss_flags, before.ss_flags);
}

static void map_without_memory(void)
{
    const struct rlimit none = { .rlim_cur = 1 << 16, .rlim_max = RLIM_INFINITY };
    struct overflow_stack stack = { .used = true };

    must(setrlimit(RLIMIT_AS, &none));
    must(overflow_stack_map(&stack) != -ENOMEM || !stack.used);
    _exit(48);
}

static void a_thread_that_can_have_none_is_refused_before_it_starts(void **state)
{
    struct support_end end = support_run_in_child(map_without_memory);

    (void)state;
    assert_int_equal(end.status, 48);
}

static void what_no_thread_has_used_is_not_put_back(void **state)
{
    struct overflow_stack stack;
    stack_t before, after;

    (void)state;
    assert_int_equal(overflow_stack_map(&stack), 0);
    assert_int_equal(sigaltstack(NULL, &before), 0);
    overflow_thread_fini(&stack);
    assert_int_equal(sigaltstack(NULL, &after), 0);
    assert_ptr_equal(after.ss_sp, before.ss_sp);
    overflow_stack_unmap(&stack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_overflow_is_one_line_and_an_abort),
        cmocka_unit_test(an_overflow_without_a_label_says_so),
        cmocka_unit_test(a_long_label_is_cut_and_the_line_is_whole),
        cmocka_unit_test(an_overflow_on_any_thread_is_told),
        cmocka_unit_test(a_handler_that_overflows_is_told_whatever_is_blocked),
        cmocka_unit_test(a_large_array_reaches_nobody_elses_stack),
        cmocka_unit_test(a_crash_names_the_handler_its_peer_and_its_frames),
        cmocka_unit_test(a_crash_names_other_kinds_of_peers),
        cmocka_unit_test(a_crash_on_a_threads_own_stack_names_handler_and_peer),
        cmocka_unit_test(a_crash_in_a_child_names_handler_and_peer),
        cmocka_unit_test(a_crash_of_what_is_offloaded_names_handler_and_peer),
        cmocka_unit_test(a_crash_of_a_hook_names_the_thread),
        cmocka_unit_test(a_crash_of_a_signal_handler_names_who_was_interrupted),
        cmocka_unit_test(a_crash_on_a_thread_of_the_programs_is_its_own_business),
        cmocka_unit_test(a_crash_names_the_sender_of_a_datagram),
        cmocka_unit_test(a_damaged_stack_ends_the_process_by_its_own_signal),
        cmocka_unit_test(a_call_of_null_names_its_caller),
        cmocka_unit_test(a_wild_pointer_into_anothers_guard_is_no_overflow),
        cmocka_unit_test(a_handler_that_is_not_to_be_blocked_is_not),
        cmocka_unit_test(a_handler_for_once_is_called_once),
        cmocka_unit_test(a_program_that_handles_crashes_itself_is_asked_alone),
        cmocka_unit_test(no_signal_is_handled_after_the_last_uninstall),
        cmocka_unit_test(another_fault_kills_as_it_would_have),
        cmocka_unit_test(another_fault_reaches_the_handler_from_before),
        cmocka_unit_test(a_handler_without_siginfo_is_reached_too),
        cmocka_unit_test(a_signal_that_was_sent_kills_as_well),
        cmocka_unit_test(a_signal_that_was_sent_is_ignored_if_it_was_before),
        cmocka_unit_test(the_last_uninstall_restores_the_handler_from_before),
        cmocka_unit_test(a_handler_put_on_top_stays_and_makes_no_circle),
        cmocka_unit_test(a_thread_gets_its_alternate_stack_back),
        cmocka_unit_test(a_thread_that_can_have_none_is_refused_before_it_starts),
        cmocka_unit_test(what_no_thread_has_used_is_not_put_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
