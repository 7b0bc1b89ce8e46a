/*
 * dump_test.c - weir_server_dump: what it says of each wait, in every concurrency, while clients
 * come and go.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support.h"

#include <weir/weir_sync.h>

/* ------------------------------------------------------------------ a dump's text ----- */

#define TEXT_SIZE (1 << 20)

struct text {
    char lines[TEXT_SIZE];
    size_t len;
};

static void append(void *arg, const char *line, size_t len)
{
    struct text *text = arg;

    assert_int_equal(strlen(line), len);
    assert_null(memchr(line, '\n', len));
    assert_memory_equal(line, "weir: dump ", strlen("weir: dump "));
    assert_true(text->len + len + 2 < sizeof(text->lines));
    memcpy(text->lines + text->len, line, len);
    text->len += len;
    text->lines[text->len++] = '\n';
    text->lines[text->len] = '\0';
}

/* The dump as it is now; overwritten by the next. */
static const char *dump(struct weir_server *server, size_t most)
{
    static struct text text;

    text.len = 0;
    assert_int_equal(weir_server_dump(server, most, append, &text), 0);
    return text.lines;
}

static size_t count_of(const char *lines, const char *what)
{
    size_t count = 0;

    for (const char *at = lines; (at = strstr(at, what)); at++)
        count++;
    return count;
}

/* How many connections' lines have these words next to each other. */
static size_t count_in_state(struct weir_server *server, const char *state_and_wait)
{
    const char *lines = dump(server, SIZE_MAX);
    size_t count = 0;

    for (const char *at = lines; (at = strstr(at, "\nweir: dump peer=")); at++) {
        const char *words = strstr(at + 1, state_and_wait);
        const char *end = strchr(at + 1, '\n');

        count += words && words < end;
    }
    return count;
}

static uint64_t number_behind(const char *lines, const char *key)
{
    const char *at = strstr(lines, key);

    assert_non_null(at);
    return strtoull(at + strlen(key), NULL, 10);
}

/* ------------------------------------------------------------------ each wait --------- */

static struct gate gate;
static char silent_uri[WEIR_ADDRESS_SIZE];  /* accepts nobody, and says nothing */
static char full_uri[WEIR_ADDRESS_SIZE];    /* has no room in its backlog */

static int pass_gate(void *unused)
{
    (void)unused;
    gate_pass(&gate);
    return 0;
}

static int wait_at_another(struct weir_request *req, const char *uri)
{
    struct weir_request *peer;
    char byte;
    int r = weir_connect(req, uri, 0, &peer);

    return r < 0 ? r : (int)weir_read(peer, &byte, 1);
}

static int write_for_ever(struct weir_request *req)
{
    static const char much[1 << 16];
    ssize_t r;

    do
        r = weir_write(req, much, sizeof(much));
    while (r >= 0);
    return (int)r;
}

static struct weir_semaphore nothing;

/* The first byte says what for. All of these waits end by a cancel, or by the gate. */
static int wait_as_told(struct weir_request *req)
{
    struct pollfd none = { .fd = gate.fd, .events = POLLPRI };
    char what = ' ';
    ssize_t n = weir_read(req, &what, 1);

    if (n <= 0)
        return (int)n;
    switch (what) {
    case 'r':
        return (int)weir_read(req, &what, 1);
    case 'w':
        return write_for_ever(req);
    case 's':
        return weir_sleep(req, 3600 * 1000);
    case 'p':
        return weir_poll(req, &none, 1, -1);
    case 'o':
        return weir_offload(req, pass_gate, NULL);
    case 'u':
        return wait_at_another(req, silent_uri);
    case 'l':
        return weir_semaphore_acquire(&nothing);
    case 'c':
        return wait_at_another(req, full_uri);
    case 'b':
        return pass_gate(NULL);
    default:
        return WEIR_KEEP;
    }
}

static const struct weir_handler waiting = { .name = "waiting", .handle = wait_as_told };

static int listen_silently(const char *name, int backlog, char *ret_uri)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int len = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "weir-%s-%d", name,
                       (int)getpid());

    assert_int_equal(bind(fd, (const struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)),
                     0);
    assert_int_equal(listen(fd, backlog), 0);
    snprintf(ret_uri, WEIR_ADDRESS_SIZE, "unix:@%s", address.sun_path + 1);
    return fd;
}

static void close_all(struct weir_server *server, const int *fds, size_t len)
{
    gate_open(&gate);
    weir_server_cancel(server);
    for (size_t i = 0; i < len; i++)
        close(fds[i]);
    weir_server_destroy(server);
    gate_fini(&gate);
}

static void each_wait_is_told(void **state)
{
    static const struct {
        const char *say, *expect;
    } waits[] = {
        { "r", "state=parked waits=read for_ms=" }, { "w", "state=parked waits=write for_ms=" },
        { "s", "state=running waits=sleep for_ms=" }, { "p", "state=running waits=poll for_ms=" },
        { "o", "state=running waits=offload for_ms=" },
        { "l", "state=running waits=lock for_ms=" },
        { "u", "state=running waits=read_opened for_ms=" },
        { "c", "state=running waits=connect for_ms=" }, { "k", "state=idle waits=idle for_ms=" },
        { "b", "state=running waits=nothing " },
    };
    int silent = listen_silently("silent", 8, silent_uri);
    int full = listen_silently("full", 0, full_uri);
    int fds[sizeof(waits) / sizeof(waits[0])], filling = support_connect_to(full_uri);
    struct weir_server *server;

    (void)state;
    gate_init(&gate);
    server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &waiting,
                                        .workers = 2));
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        fds[i] = support_ask(server, 0, waits[i].say);
        SUPPORT_UNTIL(count_in_state(server, waits[i].expect) == 1);
    }
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++)
        assert_int_equal(count_in_state(server, waits[i].expect), 1);
    close_all(server, fds, sizeof(fds) / sizeof(fds[0]));
    close(filling);
    close(full);
    close(silent);
}

/* One worker, which is held. */
static void who_waits_for_a_worker_is_told(void **state)
{
    struct weir_server *server;
    int fds[3];

    (void)state;
    gate_init(&gate);
    server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &waiting,
                                        .workers = 1, .dispatch = WEIR_DISPATCH_ACCEPTOR));
    fds[0] = support_ask(server, 0, "r");
    SUPPORT_UNTIL(count_in_state(server, "state=parked waits=read for_ms=") == 1);
    fds[1] = support_ask(server, 0, "b");
    SUPPORT_UNTIL(count_in_state(server, "state=running waits=nothing ") == 1);
    fds[2] = support_connect(server, 0);
    SUPPORT_UNTIL(count_in_state(server, "state=queued waits=queue for_ms=") == 1);
    support_say(fds[0], "x");
    SUPPORT_UNTIL(count_in_state(server, "state=running waits=turn for_ms=") == 1);
    close_all(server, fds, 3);
}

/* ------------------------------------------------------------------ the whole --------- */

#define IDLERS 9
#define READERS 3

static void groups_come_first_and_then_the_longest_waits(void **state)
{
    struct weir_server *server;
    int fds[IDLERS + READERS];
    const char *lines, *at;
    uint64_t before_ms = UINT64_MAX;

    (void)state;
    gate_init(&gate);
    server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &waiting,
                                        .workers = 2));
    for (size_t i = 0; i < IDLERS + READERS; i++)
        fds[i] = support_ask(server, 0, i < IDLERS ? "k" : "r");
    SUPPORT_AWAIT(server, idle, == IDLERS);
    SUPPORT_AWAIT(server, parked, == READERS);
    SUPPORT_UNTIL(count_in_state(server, "state=parked waits=read for_ms=") == READERS);
    lines = dump(server, READERS + 2);
    assert_ptr_equal(strstr(lines, "weir: dump connections=12 datagrams=0 silent_children=0 "
                                   "shown=5\n"), lines);
    assert_int_equal(count_of(lines, "\n"), 1 + 2 + READERS + 2);
    assert_int_equal(count_of(lines, "weir: dump count=9 state=idle waits=idle longest_ms="), 1);
    assert_int_equal(count_of(lines, "weir: dump count=3 state=parked waits=read longest_ms="), 1);
    at = strstr(lines, "\nweir: dump peer=127.0.0.1:");
    for (size_t i = 0; i < READERS; i++) {
        uint64_t for_ms = number_behind(at, " for_ms=");

        assert_non_null(strstr(at, "state=parked waits=read"));
        assert_true(for_ms <= before_ms);
        assert_true(number_behind(at, " age_ms=") + 200 >= for_ms);
        before_ms = for_ms;
        at = strstr(at + 1, "\nweir: dump peer=127.0.0.1:");
    }
    assert_memory_equal(strstr(at, " state=") + 1, "state=idle", strlen("state=idle"));
    assert_int_equal(count_of(dump(server, 0), "peer="), 0);
    assert_int_equal(count_of(dump(server, SIZE_MAX), "\nweir: dump peer="), IDLERS + READERS);
    close_all(server, fds, IDLERS + READERS);
}

static void a_server_that_nobody_is_connected_to_says_so(void **state)
{
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                            .handler = &waiting));

    (void)state;
    assert_string_equal(dump(server, SIZE_MAX),
                        "weir: dump connections=0 datagrams=0 silent_children=0 shown=0\n");
    weir_server_destroy(server);
}

static const struct weir_handler with_a_long_name = {
    .name = "a-name-that-is-longer-than-the-forty-seven-bytes-that-an-entry-has-room-for",
    .handle = wait_as_told,
};

static void listeners_and_handlers_are_named(void **state)
{
    const char *const unix_uri = support_abstract("dump");
    struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0", .handler = &with_a_long_name },
        { .address = unix_uri },
    };
    struct weir_server *server;
    int fds[2];

    (void)state;
    gate_init(&gate);
    server = support_start(WEIR_OPTIONS(.listeners = listeners, .listeners_len = 2,
                                        .handler = &waiting));
    fds[0] = support_ask(server, 0, "k");
    fds[1] = support_ask(server, 1, "k");
    SUPPORT_AWAIT(server, idle, == 2);
    assert_int_equal(count_of(dump(server, SIZE_MAX), " handler=a-name-that-is-longer-than-the-"
                                                      "forty-seven-byte\n"), 2);
    assert_int_equal(count_of(dump(server, SIZE_MAX), "weir: dump peer=unix: "), 1);
    assert_int_equal(count_of(dump(server, SIZE_MAX), " listen=unix:@"), 2);
    close_all(server, fds, 2);
}

/* ------------------------------------------------------------------ concurrencies ----- */

static void every_concurrency_tells(void **state)
{
    static const struct {
        enum weir_concurrency concurrency;
        const char *reads;
        bool is_ours;
        bool serves_two;
    } kinds[] = {
        { WEIR_POOL, "state=parked waits=read for_ms=", true, true },
        { WEIR_SERIAL, "state=running waits=read for_ms=", true, false },
        { WEIR_THREAD, "state=running waits=read for_ms=", true, true },
        { WEIR_FORK, "state=running waits=read for_ms=", false, true },
        { WEIR_PREFORK, "state=parked waits=read for_ms=", false, true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct weir_server *server;
        int fds[2] = { -1, -1 };
        uint64_t pid;

        gate_init(&gate);
        server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &waiting,
                                            .concurrency = kinds[i].concurrency));
        fds[0] = support_ask(server, 0, "r");
        SUPPORT_UNTIL(count_in_state(server, kinds[i].reads) == 1);
        pid = number_behind(dump(server, SIZE_MAX), " pid=");
        assert_int_equal(pid == (uint64_t)getpid(), kinds[i].is_ours);
        assert_int_equal(count_of(dump(server, 1), "weir: dump peer=127.0.0.1:"), 1);
        if (kinds[i].serves_two) {
            fds[1] = support_ask(server, 0, "k");
            SUPPORT_UNTIL(count_in_state(server, "state=idle waits=idle for_ms=") == 1);
            assert_int_equal(number_behind(dump(server, 0), "connections="), 2);
        }
        close_all(server, fds, 2);
    }
}

/* A child of WEIR_PREFORK that doesn't answer is waited for no longer than others. */
static void a_silent_child_is_counted(void **state)
{
    struct weir_server *server;
    pid_t pid;
    int fd;

    (void)state;
    gate_init(&gate);
    server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &waiting,
                                        .concurrency = WEIR_PREFORK, .processes = 1));
    fd = support_ask(server, 0, "k");
    SUPPORT_UNTIL(count_in_state(server, "state=idle waits=idle for_ms=") == 1);
    pid = (pid_t)number_behind(dump(server, SIZE_MAX), " pid=");
    kill(pid, SIGSTOP);
    SUPPORT_UNTIL(number_behind(dump(server, 0), "silent_children=") == 1);
    assert_int_equal(number_behind(dump(server, 0), "connections="), 0);
    kill(pid, SIGCONT);
    SUPPORT_UNTIL(number_behind(dump(server, 0), "silent_children=") == 0);
    assert_int_equal(number_behind(dump(server, 0), "connections="), 1);
    close_all(server, &fd, 1);
}

static void a_copy_tells_nothing(void **state)
{
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                            .handler = &waiting));
    pid_t pid = fork();

    (void)state;
    if (pid == 0)
        _exit(weir_server_dump(server, 1, append, NULL) == -ESRCH ? 42 : 43);
    assert_int_equal(support_status_of(pid), 42);
    weir_server_destroy(server);
}

/* ------------------------------------------------------------------ in motion --------- */

#define COMERS 3
#define VISITS 60

static void *come_and_go(void *server)
{
    for (int i = 0; i < VISITS; i++)
        close(support_ask(server, 0, i % 2 == 0 ? "k" : "r"));
    return NULL;
}

static void it_tells_while_clients_come_and_go(void **state)
{
    struct weir_server *server;
    pthread_t comers[COMERS];
    size_t dumps = 0;

    (void)state;
    gate_init(&gate);
    server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &waiting,
                                        .workers = 2));
    for (size_t i = 0; i < COMERS; i++)
        pthread_create(&comers[i], NULL, come_and_go, server);
    while (support_stats(server).closed < (uint64_t)COMERS * VISITS) {
        const char *lines = dump(server, SIZE_MAX);

        assert_int_equal(number_behind(lines, "connections="), count_of(lines, " peer="));
        dumps++;
    }
    for (size_t i = 0; i < COMERS; i++)
        pthread_join(comers[i], NULL);
    assert_true(dumps > 0);
    assert_int_equal(number_behind(dump(server, 0), "connections="), 0);
    close_all(server, NULL, 0);
}

/* A handler may ask, too, and finds itself at work. */
static int tell_of_oneself(struct weir_request *req)
{
    static struct text text;

    text.len = 0;
    if (weir_server_dump(weir_request_server(req), SIZE_MAX, append, &text) < 0)
        return -EIO;
    return weir_printf(req, "%zu", count_of(text.lines, "state=running waits=nothing ")) < 0
        ? -EIO : 0;
}

static const struct weir_handler asking = { .name = "asking", .handle = tell_of_oneself };

static void a_handler_may_ask(void **state)
{
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                            .handler = &asking));

    (void)state;
    support_talk(server, 0, "", "2");   /* its group, and itself */
    weir_server_destroy(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_wait_is_told),
        cmocka_unit_test(who_waits_for_a_worker_is_told),
        cmocka_unit_test(groups_come_first_and_then_the_longest_waits),
        cmocka_unit_test(a_server_that_nobody_is_connected_to_says_so),
        cmocka_unit_test(listeners_and_handlers_are_named),
        cmocka_unit_test(every_concurrency_tells),
        cmocka_unit_test(a_silent_child_is_counted),
        cmocka_unit_test(a_copy_tells_nothing),
        cmocka_unit_test(it_tells_while_clients_come_and_go),
        cmocka_unit_test(a_handler_may_ask),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
