/* options_test.c - what a caller may say to weir_server_create, and what is said back. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/server/options.h"
#include "engine/server/places.h"
#include "engine/server/terms.h"
#include "tests/old_kernel.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int handle(struct weir_request *req)
{
    (void)req;
    return 0;
}

static const struct weir_handler handler = { .name = "nothing", .handle = handle };

/* Options that are right but for what the test adds. */
#define OPTIONS(...) WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &handler, __VA_ARGS__)

static void assert_refused_with(const struct weir_options *in, int error, const char *sentence)
{
    struct weir_options out;
    char why[200] = "";

    assert_int_equal(options_read(in, &out, why, sizeof(why)), error);
    assert_string_equal(why, sentence);
}

static void assert_refused(const struct weir_options *in, const char *sentence)
{
    assert_refused_with(in, -EINVAL, sentence);
}

static struct weir_options accepted(const struct weir_options *in)
{
    struct weir_options out;
    char why[200] = "";

    if (options_read(in, &out, why, sizeof(why)) != 0)
        fail_msg("%s", why);
    return out;
}

static void zeros_become_defaults(void **state)
{
    struct weir_options options = accepted(OPTIONS(.user = NULL));
    struct rlimit limit;
    cpu_set_t cpus;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(options.workers, CPU_COUNT(&cpus));
    assert_int_equal(options.acceptors, 1);
    assert_int_equal(options.rbufsize, 8192);
    assert_int_equal(options.wbufsize, 8192);
    assert_int_equal(options.poll_interval_ms, 500);
    assert_int_equal(options.max_packet_size, 8192);
    assert_in_range(options.max_connections, 1, limit.rlim_cur);
}

static uint32_t default_connections(enum weir_concurrency concurrency, bool of_old_kernel)
{
    uint32_t connections;

    old_kernel = of_old_kernel;
    connections = accepted(OPTIONS(.concurrency = concurrency)).max_connections;
    old_kernel = false;
    return connections;
}

/* With as many descriptors as may be had, which are more than stacks in most places. */
static void where_stacks_take_mappings_these_limit_the_connections(void **state)
{
    struct rlimit before;
    struct rlimit most;
    struct weir_options read;
    uint32_t stacks;
    uint32_t asked;
    FILE *file;

    (void)state;
    file = fopen("/proc/sys/vm/max_map_count", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%u", &stacks), 1);
    fclose(file);
    stacks = (stacks - 1000) / 2;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    most = before;
    most.rlim_cur = most.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &most), 0);
    assert_true(default_connections(WEIR_POOL, true) <= stacks);
    assert_true(default_connections(WEIR_PREFORK, true) <= stacks);
    if (most.rlim_cur > stacks + 2000) {
        assert_int_equal(default_connections(WEIR_POOL, true), stacks);
        assert_true(default_connections(WEIR_THREAD, true) > stacks);
        old_kernel = true;
        read = accepted(OPTIONS(.user = NULL));
        assert_string_equal(places_limit(OPTIONS(.user = NULL), &read),
                            "the limit of mappings (vm.max_map_count)");
        old_kernel = false;
    }
    asked = accepted(OPTIONS(.max_connections = 1000000)).max_connections;
    old_kernel = true;
    assert_int_equal(accepted(OPTIONS(.max_connections = 1000000)).max_connections, asked);
    old_kernel = false;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void limit_descriptors(rlim_t soft, rlim_t hard)
{
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(const struct rlimit){ soft, hard }), 0);
}

/* In a child, since a hard limit that is lowered stays so. */
static void connections_are_as_many_as_descriptors_allow(void **state)
{
    int status;
    pid_t child;

    (void)state;
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        limit_descriptors(1024, 2000);
        assert_int_equal(accepted(OPTIONS(.workers = 2)).max_connections, 955);
        assert_int_equal(accepted(OPTIONS(.workers = 2, .max_connections = 1000)).max_connections,
                         1000);
        assert_int_equal(accepted(OPTIONS(.workers = 2, .max_connections = 5000)).max_connections,
                         1931);
        limit_descriptors(54, 54);
        assert_int_equal(accepted(OPTIONS(.workers = 2)).max_connections, 35);
        limit_descriptors(15, 54);
        assert_int_equal(accepted(OPTIONS(.workers = 2)).max_connections, 1);
        limit_descriptors(14, 54);
        assert_refused_with(OPTIONS(.workers = 2), -EMFILE, "Too many open files: the limit of "
                       "descriptors (ulimit -n) is 14, and the server itself takes 14");
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void what_was_said_is_kept(void **state)
{
    struct weir_options options = accepted(OPTIONS(.workers = 3, .acceptors = 2, .rbufsize = 100,
                                                   .wbufsize = WEIR_UNBUFFERED,
                                                   .poll_interval_ms = 7,
                                                   .max_connections = 11));

    (void)state;
    assert_int_equal(options.workers, 3);
    assert_int_equal(options.acceptors, 2);
    assert_int_equal(options.rbufsize, 100);
    assert_true(options.wbufsize == WEIR_UNBUFFERED);
    assert_int_equal(options.poll_interval_ms, 7);
    assert_int_equal(options.max_connections, 11);
}

static void options_without_their_size_are_refused(void **state)
{
    struct weir_options options = *OPTIONS(.workers = 1);

    (void)state;
    options.size = 0;
    assert_refused(&options, "options.size is 0: use WEIR_OPTIONS(...), which sets it");
    options.size = 8;
    assert_refused(&options, "options.size is 8: use WEIR_OPTIONS(...), which sets it");
    options.size = 255;
    assert_refused(&options, "options.size is 255: use WEIR_OPTIONS(...), which sets it");
    options.size = 65537;
    assert_refused(&options, "options.size is 65537: use WEIR_OPTIONS(...), which sets it");
    assert_refused(NULL, "no options: use WEIR_OPTIONS(...)");
}

/* A copy of what there is, with nothing behind it that could be read. */
static void *at_the_end_of_memory(const void *what, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(pages != MAP_FAILED);
    assert_int_equal(mprotect(pages + page, page, PROT_NONE), 0);
    return memcpy(pages + page - size, what, size);
}

/* What a program that was built with the first version hands to this one. */
static void the_first_versions_options_will_do(void **state)
{
    const struct weir_listen first = { .address = "unix:@a" };
    const struct weir_listen second = { .address = "unix:@b", .user = (void *)&handler };
    struct weir_options options = *WEIR_OPTIONS(.handler = &handler, .listeners_len = 2,
                                                .multicast_ttl = 3);
    char listeners[2][64];      /* an array of them there, however large they are now */
    struct weir_options read;

    (void)state;
    memcpy(listeners[0], &first, sizeof(listeners[0]));
    memcpy(listeners[1], &second, sizeof(listeners[1]));
    options.size = 264;
    options.listener_size = sizeof(listeners[0]);
    options.listeners = at_the_end_of_memory(listeners, sizeof(listeners));
    read = accepted(at_the_end_of_memory(&options, 264));
    assert_int_equal(read.multicast_ttl, 3);
    assert_string_equal(options_listen(&read, 0).address, "unix:@a");
    assert_string_equal(options_listen(&read, 1).address, "unix:@b");
    assert_ptr_equal(options_listen(&read, 1).handler, &handler);
    assert_ptr_equal(options_listen(&read, 1).user, &handler);
}

static void less_than_the_first_version_had_is_refused(void **state)
{
    const struct weir_listen listener = { .address = "unix:@a" };
    struct weir_options options = *WEIR_OPTIONS(.handler = &handler, .listeners = &listener,
                                                .listeners_len = 1);

    (void)state;
    options.listener_size = 63;
    assert_refused(&options, "options.listener_size is 63: use WEIR_OPTIONS(...), which sets it");
    options.size = 263;
    assert_refused(&options, "options.size is 263: use WEIR_OPTIONS(...), which sets it");
}

/* What a program that was built with a newer weir hands to this one. */
struct newer_options {
    struct weir_options known;
    uint64_t unknown;
};

static void a_newer_callers_unused_option_does_no_harm(void **state)
{
    struct newer_options newer = { .known = *OPTIONS(.workers = 2) };

    (void)state;
    newer.known.size = sizeof(newer);
    assert_int_equal(accepted(&newer.known).workers, 2);
}

static void a_newer_callers_option_that_is_set_is_refused(void **state)
{
    struct newer_options newer = { .known = *OPTIONS(.workers = 2) };
    char sentence[120];

    (void)state;
    newer.known.size = sizeof(newer);
    ((unsigned char *)&newer.unknown)[3] = 1;
    snprintf(sentence, sizeof(sentence), "an option is set that this version of weir does not "
             "know (byte %zu of the options)", sizeof(struct weir_options) + 3);
    assert_refused_with(&newer.known, -E2BIG, sentence);
}

/* So does the listener of a newer program. */
struct newer_listen {
    struct weir_listen known;
    uint64_t unknown;
};

static struct weir_options with_newer_listeners(const struct newer_listen *listeners, size_t len)
{
    struct weir_options options = *WEIR_OPTIONS(.listeners = &listeners[0].known,
                                                .listeners_len = len);

    options.listener_size = sizeof(*listeners);
    return options;
}

static void listeners_are_as_large_as_their_program_says(void **state)
{
    struct newer_listen newer[] = {
        { .known = { .address = "unix:@a", .handler = &handler } },
        { .known = { .address = "unix:@b", .handler = &handler } },
    };
    struct weir_options options = with_newer_listeners(newer, 2);
    struct weir_options read = accepted(&options);
    char sentence[120];

    (void)state;
    assert_string_equal(options_listen(&read, 0).address, "unix:@a");
    assert_string_equal(options_listen(&read, 1).address, "unix:@b");
    assert_ptr_equal(options_listen(&read, 1).handler, &handler);
    newer[1].unknown = 1;
    snprintf(sentence, sizeof(sentence), "listeners[1]: an option is set that this version of weir "
             "does not know (byte %zu)", sizeof(struct weir_listen));
    assert_refused_with(&options, -E2BIG, sentence);
}

static void listeners_without_their_size_are_refused(void **state)
{
    const struct weir_listen listen = { .address = "unix:@a", .handler = &handler };
    struct weir_options options = *WEIR_OPTIONS(.listeners = &listen, .listeners_len = 1);

    (void)state;
    options.listener_size = 0;
    assert_refused(&options, "options.listener_size is 0: use WEIR_OPTIONS(...), which sets it");
    options.listener_size = 15;
    assert_refused(&options, "options.listener_size is 15: use WEIR_OPTIONS(...), which sets it");
    options.listener_size = 65537;
    assert_refused(&options, "options.listener_size is 65537: use WEIR_OPTIONS(...), which sets "
                             "it");
    assert_refused(WEIR_OPTIONS(.listeners_len = 2), "listeners_len is 2, but listeners is NULL");
    /* Who has no listeners needs no size of them. */
    options = *OPTIONS(.workers = 1);
    options.listener_size = 0;
    accepted(&options);
}

static void there_must_be_an_address(void **state)
{
    const struct weir_listen nowhere = { .handler = &handler };

    (void)state;
    assert_refused(WEIR_OPTIONS(.handler = &handler),
                   "no address: set options.listen, e.g. \"tcp://127.0.0.1:8080\"");
    assert_refused(WEIR_OPTIONS(.listeners = &nowhere, .listeners_len = 1),
                   "listeners[0] has no address");
}

static void listeners_without_their_number_are_refused(void **state)
{
    const struct weir_listen there = { .address = "tcp://:0" };
    static const char sentence[] = "listeners is set, but listeners_len is 0: it says how many "
                                   "they are";

    (void)state;
    assert_refused(WEIR_OPTIONS(.handler = &handler, .listeners = &there), sentence);
    assert_refused(OPTIONS(.listeners = &there), sentence);
}

static void a_mode_is_for_unix_paths(void **state)
{
    static const char *const without[] = { "tcp://:0", "udp://:0", "unix:@x", "unixgram:@x",
                                           "fd://3" };
    const struct weir_listen one_of_two[] = { { .address = "tcp://:0" },
                                              { .address = "unixgram:///x" } };

    (void)state;
    for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); i++)
        assert_refused(WEIR_OPTIONS(.listen = without[i], .handler = &handler, .unix_mode = 0600),
                       "unix_mode is set, but no listener has a Unix path: add one, such as "
                       "unix:///run/weir.sock, or leave it out");
    accepted(WEIR_OPTIONS(.listeners = one_of_two, .listeners_len = 2, .handler = &handler,
                          .unix_mode = 0600));
}

static void one_way_to_give_addresses_is_enough(void **state)
{
    const struct weir_listen there = { .address = "unix:@there", .handler = &handler };

    (void)state;
    assert_refused(OPTIONS(.listeners = &there, .listeners_len = 1),
                   "listen and listeners are both set: use one of them");
}

static void each_address_needs_a_handler(void **state)
{
    const struct weir_handler nameless = { .handle = handle };
    const struct weir_handler idle = { .name = "idle" };
    const struct weir_handler huge = { .name = "huge", .handle = handle, .state_size = SIZE_MAX };
    const struct weir_listen listeners[] = {
        { .address = "unix:@a", .handler = &handler }, { .address = "unix:@b" },
    };

    (void)state;
    assert_refused(WEIR_OPTIONS(.listen = "unix:@a"),
                   "unix:@a: no handler: set options.handler or the listener's");
    assert_refused(WEIR_OPTIONS(.listeners = listeners, .listeners_len = 2),
                   "unix:@b: no handler: set options.handler or the listener's");
    assert_refused(WEIR_OPTIONS(.listen = "unix:@a", .handler = &nameless),
                   "unix:@a: its handler has no name: set name, which messages call it by");
    assert_refused(WEIR_OPTIONS(.listen = "unix:@a", .handler = &idle),
                   "unix:@a: its handler 'idle' has no handle function: set handle");
    assert_refused(WEIR_OPTIONS(.listen = "unix:@a", .handler = &huge),
                   "handler 'huge': state_size is 18446744073709551615: at most 70368744177664");
}

static void a_listener_without_a_handler_takes_the_servers(void **state)
{
    static const struct weir_handler other = { .name = "other", .handle = handle };
    const struct weir_listen listeners[] = {
        { .address = "unix:@a", .handler = &other }, { .address = "unix:@b" },
    };
    struct weir_options options = accepted(WEIR_OPTIONS(.listeners = listeners,
                                                        .listeners_len = 2,
                                                        .handler = &handler));

    (void)state;
    assert_int_equal(options_listens(&options), 2);
    assert_ptr_equal(options_listen(&options, 0).handler, &other);
    assert_ptr_equal(options_listen(&options, 1).handler, &handler);
    assert_string_equal(options_listen(&options, 1).address, "unix:@b");
}

static void assert_terms(const struct endpoint *terms, const struct endpoint *expected)
{
    assert_ptr_equal(terms->handler, expected->handler);
    assert_int_equal(terms->read_timeout_ms, expected->read_timeout_ms);
    assert_int_equal(terms->write_timeout_ms, expected->write_timeout_ms);
    assert_int_equal(terms->idle_timeout_ms, expected->idle_timeout_ms);
    assert_int_equal(terms->request_timeout_ms, expected->request_timeout_ms);
    assert_int_equal(terms->head_timeout_ms, expected->head_timeout_ms);
    assert_int_equal(terms->progress_timeout_ms, expected->progress_timeout_ms);
    assert_int_equal(terms->backlog, expected->backlog);
    assert_int_equal(terms->nodelay, expected->nodelay);
    assert_ptr_equal(terms->user, expected->user);
    assert_int_equal(terms->number, WEIR_NO_LISTENER);
    assert_null(terms->quota);
    assert_null(terms->access);
    assert_null(terms->crowd);
}

static void a_listener_has_what_it_says_and_else_what_the_server_does(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "unix:@a" },
        { .address = "unix:@b", .read_timeout_ms = 5, .write_timeout_ms = 6, .idle_timeout_ms = 7,
          .request_timeout_ms = 8, .backlog = 9, .disable_nagle_algorithm = WEIR_NO,
          .user = (void *)&handler, .head_timeout_ms = 11, .progress_timeout_ms = 12 },
        { .address = "unix:@c", .read_timeout_ms = WEIR_FOREVER, .write_timeout_ms = WEIR_FOREVER,
          .idle_timeout_ms = WEIR_FOREVER, .request_timeout_ms = WEIR_FOREVER,
          .head_timeout_ms = WEIR_FOREVER, .progress_timeout_ms = WEIR_FOREVER },
    };
    const struct endpoint expected[] = {
        { .handler = &handler, .read_timeout_ms = 1, .write_timeout_ms = 2, .idle_timeout_ms = 3,
          .request_timeout_ms = 4, .head_timeout_ms = 13, .progress_timeout_ms = 14,
          .backlog = 10, .nodelay = true },
        { .handler = &handler, .read_timeout_ms = 5, .write_timeout_ms = 6, .idle_timeout_ms = 7,
          .request_timeout_ms = 8, .head_timeout_ms = 11, .progress_timeout_ms = 12,
          .backlog = 9, .user = (void *)&handler },
        { .handler = &handler, .backlog = 10, .nodelay = true },
    };
    struct weir_options options = accepted(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 3, .handler = &handler, .read_timeout_ms = 1,
        .write_timeout_ms = 2, .idle_timeout_ms = 3, .request_timeout_ms = 4, .backlog = 10,
        .disable_nagle_algorithm = true, .head_timeout_ms = 13, .progress_timeout_ms = 14));

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct weir_listen listen = options_listen(&options, i);
        struct endpoint terms = terms_of(&options, &listen);

        assert_terms(&terms, &expected[i]);
    }
}

/* The options that are no by default, in the order of struct weir_options. */
static void set_choices(struct weir_options *options, enum weir_choice choice)
{
    options->daemon_threads = choice;
    options->defer = choice;
    options->reuse_address = choice;
    options->reuse_port = choice;
    options->disable_nagle_algorithm = choice;
    options->keep_path = choice;
    options->reply_always = choice;
}

/* The engine asks whether they are 0. */
static void assert_choices(const struct weir_options *options, int expected)
{
    assert_int_equal(options->daemon_threads, expected);
    assert_int_equal(options->defer, expected);
    assert_int_equal(options->reuse_address, expected);
    assert_int_equal(options->reuse_port, expected);
    assert_int_equal(options->disable_nagle_algorithm, expected);
    assert_int_equal(options->keep_path, expected);
    assert_int_equal(options->reply_always, expected);
}

static bool has_nodelay(const struct weir_options *options)
{
    struct weir_listen listen = options_listen(options, 0);

    return terms_of(options, &listen).nodelay;
}

static void no_is_no_for_each_option(void **state)
{
    struct weir_options in = *OPTIONS(.user = NULL);
    struct weir_options out;

    (void)state;
    set_choices(&in, WEIR_NO);
    out = accepted(&in);
    assert_choices(&out, 0);
    assert_false(has_nodelay(&out));
    set_choices(&in, WEIR_YES);
    out = accepted(&in);
    assert_choices(&out, 1);
    assert_true(has_nodelay(&out));
    out = accepted(OPTIONS(.daemon_threads = true, .defer = 1, .reuse_address = true,
                           .reuse_port = 1, .disable_nagle_algorithm = true, .keep_path = 1,
                           .reply_always = true));
    assert_choices(&out, 1);
    out = accepted(OPTIONS(.daemon_threads = false, .defer = 0, .keep_path = false));
    assert_choices(&out, 0);
}

static void what_is_neither_yes_nor_no_is_refused(void **state)
{
    const struct weir_handler unsure = { .name = "unsure", .handle = handle, .client_first = 3 };
    const struct weir_handler waits = { .name = "sure", .handle = handle, .client_first = WEIR_NO };

    (void)state;
    assert_refused(OPTIONS(.daemon_threads = 3), "daemon_threads is 3: at most 2");
    assert_refused(OPTIONS(.defer = 3), "defer is 3: at most 2");
    assert_refused(OPTIONS(.reuse_address = 3), "reuse_address is 3: at most 2");
    assert_refused(OPTIONS(.reuse_port = 3), "reuse_port is 3: at most 2");
    assert_refused(OPTIONS(.disable_nagle_algorithm = 256),
                   "disable_nagle_algorithm is 256: at most 2");
    assert_refused(OPTIONS(.keep_path = 3), "keep_path is 3: at most 2");
    assert_refused(OPTIONS(.reply_always = 3), "reply_always is 3: at most 2");
    assert_refused(WEIR_OPTIONS(.listen = "unix:@a", .handler = &unsure),
                   "handler 'unsure': client_first is 3: at most 2");
    accepted(WEIR_OPTIONS(.listen = "unix:@a", .handler = &waits));
}

static void for_ever_is_as_long_as_0_is(void **state)
{
    struct weir_options options = accepted(OPTIONS(
        .read_timeout_ms = WEIR_FOREVER, .write_timeout_ms = WEIR_FOREVER,
        .idle_timeout_ms = WEIR_FOREVER, .request_timeout_ms = WEIR_FOREVER,
        .drain_timeout_ms = WEIR_FOREVER, .timeout_ms = WEIR_FOREVER,
        .head_timeout_ms = WEIR_FOREVER, .progress_timeout_ms = WEIR_FOREVER));

    (void)state;
    assert_int_equal(options.head_timeout_ms, 0);
    assert_int_equal(options.progress_timeout_ms, 0);
    assert_int_equal(options.read_timeout_ms, 0);
    assert_int_equal(options.write_timeout_ms, 0);
    assert_int_equal(options.idle_timeout_ms, 0);
    assert_int_equal(options.request_timeout_ms, 0);
    assert_int_equal(options.drain_timeout_ms, 0);
    assert_int_equal(options.timeout_ms, 0);
}

static void a_listeners_options_have_limits_as_well(void **state)
{
    const struct weir_listen too_long = { .address = "unix:@a", .backlog = 3000000000 };
    const struct weir_listen no_choice = { .address = "unix:@b",
                                           .disable_nagle_algorithm = (enum weir_choice)3 };

    (void)state;
    assert_refused(WEIR_OPTIONS(.handler = &handler, .listeners = &too_long, .listeners_len = 1),
                   "unix:@a: backlog is 3000000000: at most 2147483647");
    assert_refused(WEIR_OPTIONS(.handler = &handler, .listeners = &no_choice, .listeners_len = 1),
                   "unix:@b: disable_nagle_algorithm is 3: at most 2");
}

/* What the server is left with of so many, with a listener that has its own. */
static uint32_t left_by(uint32_t own, uint32_t servers)
{
    const struct weir_listen listeners[] = {
        { .address = "unix:@a" }, { .address = "unix:@b", .max_connections = own },
    };

    return accepted(WEIR_OPTIONS(.handler = &handler, .listeners = listeners, .listeners_len = 2,
                                 .workers = 2, .max_connections = servers)).max_connections;
}

/* In a child, as above. The server itself takes 15 descriptors. */
static void a_listeners_own_connections_are_set_aside(void **state)
{
    const struct weir_listen greedy[] = {
        { .address = "unix:@a", .max_connections = 900 },
        { .address = "unix:@b", .max_connections = 54 },
    };
    int status;
    pid_t child;

    (void)state;
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        limit_descriptors(1024, 2000);
        assert_int_equal(left_by(0, 0), 954);
        assert_int_equal(left_by(100, 0), 854);
        assert_int_equal(left_by(100, 1000), 1000);
        assert_int_equal(left_by(100, 5000), 1830);
        assert_int_equal(left_by(953, 0), 1);
        assert_refused_with(WEIR_OPTIONS(.handler = &handler, .listeners = greedy,
                                         .listeners_len = 2, .workers = 2), -EMFILE,
                            "Too many open files: the listeners' max_connections are 954 in all, "
                            "and the limit of descriptors (ulimit -n, 1024) leaves none beside "
                            "them");
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void children_for_listeners_count_as_children(void **state)
{
    const struct weir_listen listen = { .address = "unix:@a", .max_connections = 4057 };

    (void)state;
    assert_refused(WEIR_OPTIONS(.handler = &handler, .listeners = &listen, .listeners_len = 1,
                                .concurrency = WEIR_FORK),
                   "max_children and the listeners' max_connections are 4097 in all: at most 4096");
}

static void a_stack_of_an_unknown_kind_is_refused(void **state)
{
    const struct weir_handler odd = { .name = "odd", .handle = handle, .stack = 2 };

    (void)state;
    assert_refused(WEIR_OPTIONS(.listen = "unix:@a", .handler = &odd),
                   "handler 'odd': stack 2 is neither WEIR_STACK_FIBER nor WEIR_STACK_THREAD");
}

static void what_is_reserved_must_be_0(void **state)
{
    struct weir_handler odd = { .name = "odd", .handle = handle };

    (void)state;
    for (size_t i = 0; i < sizeof(odd.reserved); i++) {
        odd.reserved[i] = 1;
        assert_refused(WEIR_OPTIONS(.listen = "unix:@a", .handler = &odd),
                       "handler 'odd': reserved is set: leave it 0");
        odd.reserved[i] = 0;
    }
    accepted(WEIR_OPTIONS(.listen = "unix:@a", .handler = &odd));
}

/* Its data says what is wrong with it. */
static const char *check(const struct weir_handler *checked)
{
    return checked->data;
}

static void a_handler_may_say_what_is_wrong_with_it(void **state)
{
    const struct weir_handler right = { .name = "right", .handle = handle, .check = check };
    const struct weir_handler wrong = { .name = "wrong", .handle = handle, .check = check,
                                        .data = "it has no teapot" };

    (void)state;
    accepted(WEIR_OPTIONS(.listen = "unix:@a", .handler = &right));
    assert_refused(WEIR_OPTIONS(.listen = "unix:@a", .handler = &wrong),
                   "handler 'wrong': it has no teapot");
}

static void goodbye_and_its_length_go_together(void **state)
{
    const struct weir_handler endless = { .name = "odd", .handle = handle, .goodbye = "bye" };
    const struct weir_handler silent = { .name = "odd", .handle = handle, .goodbye_len = 3 };
    const struct weir_handler right = { .name = "right", .handle = handle, .goodbye = "bye",
                                        .goodbye_len = 3 };
    const char *why = "handler 'odd': goodbye and goodbye_len go together: set both, or neither";

    (void)state;
    assert_refused(WEIR_OPTIONS(.listen = "unix:@a", .handler = &endless), why);
    assert_refused(WEIR_OPTIONS(.listen = "unix:@a", .handler = &silent), why);
    accepted(WEIR_OPTIONS(.listen = "unix:@a", .handler = &right));
}

static void a_queue_that_refuses_has_an_end(void **state)
{
    (void)state;
    assert_refused(OPTIONS(.when_queued = WEIR_REFUSE), "when_queued is WEIR_REFUSE, but "
                   "max_queued is 0: it says from how many on");
    assert_refused(OPTIONS(.when_queued = 2), "when_queued is 2: at most 1");
    assert_int_equal(accepted(OPTIONS(.when_queued = WEIR_REFUSE, .max_queued = 1)).max_queued, 1);
    assert_int_equal(accepted(OPTIONS(.queue_target_ms = WEIR_FOREVER)).queue_target_ms, 0);
    assert_int_equal(accepted(OPTIONS(.queue_target_ms = 5)).queue_target_ms, 5);
}

static void a_queue_is_a_pools(void **state)
{
    static const enum weir_concurrency others[] = { WEIR_SERIAL, WEIR_THREAD, WEIR_FORK };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        assert_refused(OPTIONS(.concurrency = others[i], .queue_target_ms = 5),
                       "queue_target_ms is 5: under WEIR_SERIAL, WEIR_THREAD and WEIR_FORK no "
                       "connection waits for a worker");
        assert_refused(OPTIONS(.concurrency = others[i], .max_queued = 2),
                       "max_queued is 2: under WEIR_SERIAL, WEIR_THREAD and WEIR_FORK no "
                       "connection waits for a worker");
        accepted(OPTIONS(.concurrency = others[i], .queue_target_ms = WEIR_FOREVER));
    }
    accepted(OPTIONS(.concurrency = WEIR_PREFORK, .queue_target_ms = 5, .max_queued = 2));
}

static void numbers_beyond_their_ends_are_refused(void **state)
{
    (void)state;
    assert_refused(OPTIONS(.workers = 257), "workers is 257: at most 256");
    assert_refused(OPTIONS(.acceptors = 65), "acceptors is 65: at most 64");
    assert_refused(OPTIONS(.offload_threads = 4097), "offload_threads is 4097: at most 4096");
    assert_refused(OPTIONS(.backlog = 1u << 31), "backlog is 2147483648: at most 2147483647");
    assert_refused(OPTIONS(.rbufsize = ((size_t)1 << 30) + 1),
                   "rbufsize is 1073741825: at most 1073741824");
    assert_refused(OPTIONS(.wbufsize = ((size_t)1 << 30) + 1),
                   "wbufsize is 1073741825: at most 1073741824");
    assert_refused(OPTIONS(.max_packet_size = ((size_t)1 << 20) + 1),
                   "max_packet_size is 1048577: at most 1048576");
    assert_refused(OPTIONS(.multicast_ttl = 256), "multicast_ttl is 256: at most 255");
    assert_refused(OPTIONS(.multicast_loop = 3), "multicast_loop is 3: at most 2");
    assert_int_equal(accepted(OPTIONS(.multicast_ttl = 255)).multicast_ttl, 255);
    assert_int_equal(accepted(OPTIONS(.max_packet_size = 1 << 20)).max_packet_size, 1 << 20);
    assert_refused(OPTIONS(.dispatch = 2), "dispatch is 2: at most 1");
    assert_refused(OPTIONS(.block_on_close = 3), "block_on_close is 3: at most 2");
    assert_refused(OPTIONS(.unix_mode = 01000), "unix_mode is 01000: permissions are at most 0777");
    assert_int_equal(accepted(WEIR_OPTIONS(.listen = "unix:///x", .handler = &handler,
                                           .unix_mode = 0777)).unix_mode, 0777);
    assert_int_equal(accepted(OPTIONS(.max_per_address = UINT32_MAX)).max_per_address, UINT32_MAX);
    assert_refused(OPTIONS(.concurrency = 5), "concurrency is 5: at most 4");
    assert_refused(OPTIONS(.concurrency = WEIR_PREFORK, .processes = 257),
                   "processes is 257: at most 256");
    assert_refused(OPTIONS(.concurrency = WEIR_FORK, .max_children = 4097),
                   "max_children is 4097: at most 4096");
}

static void numbers_at_their_ends_are_taken(void **state)
{
    struct weir_options options = accepted(OPTIONS(
        .workers = WEIR_MAX_WORKERS, .acceptors = WEIR_MAX_ACCEPTORS, .backlog = INT32_MAX,
        .rbufsize = WEIR_MAX_BUFSIZE, .wbufsize = WEIR_MAX_BUFSIZE,
        .stack_size = WEIR_MAX_STACK_SIZE, .block_on_close = WEIR_NO, .multicast_loop = WEIR_NO,
        .dispatch = WEIR_DISPATCH_ACCEPTOR, .poll_interval_ms = UINT32_MAX,
        .offload_threads = WEIR_MAX_OFFLOAD_THREADS));

    (void)state;
    assert_int_equal(options.workers, 256);
    assert_int_equal(options.acceptors, 64);
    assert_int_equal(options.backlog, INT32_MAX);
    assert_int_equal(options.rbufsize, 1 << 30);
    assert_int_equal(options.wbufsize, 1 << 30);
    assert_int_equal(options.stack_size, 256 << 20);
    assert_int_equal(options.poll_interval_ms, UINT32_MAX);
    assert_int_equal(options.offload_threads, 4096);
    assert_int_equal(accepted(OPTIONS(.workers = 1)).offload_threads, 64);
    assert_int_equal(accepted(OPTIONS(.stack_size = WEIR_MIN_STACK_SIZE)).stack_size, 16 << 10);
    assert_refused(OPTIONS(.stack_size = WEIR_MIN_STACK_SIZE - 1),
                   "stack_size is 16383: it must be 16 KiB to 256 MiB");
}

static void options_of_another_concurrency_are_refused(void **state)
{
    (void)state;
    assert_int_equal(accepted(OPTIONS(.concurrency = WEIR_FORK)).max_children, 40);
    assert_int_equal(accepted(OPTIONS(.concurrency = WEIR_THREAD, .acceptors = 2)).acceptors, 2);
    assert_refused(OPTIONS(.concurrency = WEIR_THREAD, .max_children = 2),
                   "max_children is 2, but concurrency is not WEIR_FORK");
    assert_refused(OPTIONS(.concurrency = WEIR_SERIAL, .acceptors = 2),
                   "acceptors is 2: WEIR_SERIAL, WEIR_FORK and each child of WEIR_PREFORK accept "
                   "on one thread");
    assert_refused(OPTIONS(.concurrency = WEIR_FORK, .acceptors = 3),
                   "acceptors is 3: WEIR_SERIAL, WEIR_FORK and each child of WEIR_PREFORK accept "
                   "on one thread");
    assert_refused(OPTIONS(.concurrency = WEIR_PREFORK, .acceptors = 4),
                   "acceptors is 4: WEIR_SERIAL, WEIR_FORK and each child of WEIR_PREFORK accept "
                   "on one thread");
    assert_refused(OPTIONS(.concurrency = WEIR_FORK, .processes = 2),
                   "processes is 2, but concurrency is not WEIR_PREFORK");
    assert_true(accepted(OPTIONS(.concurrency = WEIR_PREFORK)).processes > 0);
    /* The CPUs are shared out: the more processes, the fewer workers has each. */
    assert_int_equal(accepted(OPTIONS(.concurrency = WEIR_PREFORK, .processes = 256)).workers, 1);
    assert_int_equal(accepted(OPTIONS(.concurrency = WEIR_PREFORK, .processes = 1)).workers,
                     accepted(OPTIONS(.user = NULL)).workers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeros_become_defaults),
        cmocka_unit_test(where_stacks_take_mappings_these_limit_the_connections),
        cmocka_unit_test(connections_are_as_many_as_descriptors_allow),
        cmocka_unit_test(what_was_said_is_kept),
        cmocka_unit_test(options_without_their_size_are_refused),
        cmocka_unit_test(a_newer_callers_unused_option_does_no_harm),
        cmocka_unit_test(a_newer_callers_option_that_is_set_is_refused),
        cmocka_unit_test(the_first_versions_options_will_do),
        cmocka_unit_test(less_than_the_first_version_had_is_refused),
        cmocka_unit_test(listeners_are_as_large_as_their_program_says),
        cmocka_unit_test(listeners_without_their_size_are_refused),
        cmocka_unit_test(there_must_be_an_address),
        cmocka_unit_test(listeners_without_their_number_are_refused),
        cmocka_unit_test(a_mode_is_for_unix_paths),
        cmocka_unit_test(one_way_to_give_addresses_is_enough),
        cmocka_unit_test(each_address_needs_a_handler),
        cmocka_unit_test(a_listener_without_a_handler_takes_the_servers),
        cmocka_unit_test(a_listener_has_what_it_says_and_else_what_the_server_does),
        cmocka_unit_test(no_is_no_for_each_option),
        cmocka_unit_test(what_is_neither_yes_nor_no_is_refused),
        cmocka_unit_test(for_ever_is_as_long_as_0_is),
        cmocka_unit_test(a_listeners_options_have_limits_as_well),
        cmocka_unit_test(a_listeners_own_connections_are_set_aside),
        cmocka_unit_test(children_for_listeners_count_as_children),
        cmocka_unit_test(a_stack_of_an_unknown_kind_is_refused),
        cmocka_unit_test(what_is_reserved_must_be_0),
        cmocka_unit_test(goodbye_and_its_length_go_together),
        cmocka_unit_test(a_queue_that_refuses_has_an_end),
        cmocka_unit_test(a_queue_is_a_pools),
        cmocka_unit_test(a_handler_may_say_what_is_wrong_with_it),
        cmocka_unit_test(numbers_beyond_their_ends_are_refused),
        cmocka_unit_test(numbers_at_their_ends_are_taken),
        cmocka_unit_test(options_of_another_concurrency_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
