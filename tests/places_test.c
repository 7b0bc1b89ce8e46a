/*
 * places_test.c - there are never more connections, datagrams or submitted descriptors at a time
 * than places, whoever lets them in and however many do; and no place is lost.
 */
#include "tests/support.h"

#include "engine/server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

/* What handlers note where children's handlers can reach it, too. */
static struct board {
    _Atomic unsigned open;
    _Atomic unsigned most;          /* open at once */
    _Atomic size_t free;            /* descriptors, in the process of a handler */
} *board;

static void note_most(unsigned open)
{
    unsigned most = board->most;

    while (open > most && !atomic_compare_exchange_weak(&board->most, &most, open))
        ;
}

static int come(struct weir_request *req)
{
    (void)req;
    note_most(++board->open);
    return 0;
}

static int answer(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n > 0)
        weir_printf(req, "%.*s", (int)n, line);
    return n < 0 ? (int)n : 0;
}

/* Stays for a moment, so that whoever lets in too many has them meet. */
static int stay(struct weir_request *req)
{
    int r = weir_sleep(req, 1);

    return r < 0 ? r : answer(req);
}

static int go(struct weir_request *req, int status)
{
    (void)req;
    (void)status;
    board->open--;
    return 0;
}

static const struct weir_handler staying = {
    .name = "staying", .setup = come, .handle = stay, .finish = go,
};

static const struct weir_handler quick = {
    .name = "quick", .setup = come, .handle = answer, .finish = go,
};

static int clear_board(void **state)
{
    (void)state;
    board->open = 0;
    board->most = 0;
    return 0;
}

#define OPTIONS(...) WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &staying, __VA_ARGS__)

/* Nobody has a place any more, nor had more than there are. Ends the server. */
static void assert_all_given_back(struct weir_server *server, unsigned max)
{
    assert_int_equal(weir_server_shutdown(server), 0);
    assert_int_equal(weir_server_close(server), 0);
    assert_int_equal(quota_count(&server->quota), 0);
    for (size_t i = 0; i < server->listens_len; i++)
        assert_int_equal(quota_count(&server->listens[i].quota), 0);
    weir_server_destroy(server);
    assert_int_equal(board->open, 0);
    assert_in_range(board->most, 1, max);
}

/* ------------------------------------------------------------------ by listeners ------ */

#define CLIENTS 120

/* All of them wait when it begins to serve. */
static void come_in_a_rush(struct weir_server *server)
{
    int clients[CLIENTS];

    for (int i = 0; i < CLIENTS; i++)
        clients[i] = support_ask(server, (size_t)i % server->listens_len, "in\n");
    assert_int_equal(weir_server_start(server), 0);
    for (int i = 0; i < CLIENTS; i++)
        support_expect_last(clients[i], "in\n");
}

static void assert_never_exceeded(const struct weir_options *options)
{
    static const unsigned maxes[] = { 1, 3, 20 };

    for (size_t i = 0; i < sizeof(maxes) / sizeof(maxes[0]); i++) {
        struct weir_options limited = *options;
        struct weir_server *server;

        clear_board(NULL);
        limited.max_connections = maxes[i];
        server = support_create(&limited);
        come_in_a_rush(server);
        assert_all_given_back(server, maxes[i]);
    }
}

static void a_pool_has_no_more_than_its_places(void **state)
{
    (void)state;
    assert_never_exceeded(OPTIONS(.acceptors = 4, .workers = 4));
    assert_never_exceeded(OPTIONS(.acceptors = 4, .workers = 2,
                                  .dispatch = WEIR_DISPATCH_ACCEPTOR));
}

static void threads_are_no_more_than_the_places(void **state)
{
    (void)state;
    assert_never_exceeded(OPTIONS(.acceptors = 4, .concurrency = WEIR_THREAD));
}

static void one_by_one_there_are_no_more(void **state)
{
    (void)state;
    assert_never_exceeded(OPTIONS(.concurrency = WEIR_SERIAL));
}

static void children_are_no_more_than_the_places(void **state)
{
    (void)state;
    assert_never_exceeded(OPTIONS(.concurrency = WEIR_FORK));
}

static void a_child_that_was_forked_beforehand_has_no_more(void **state)
{
    (void)state;
    assert_never_exceeded(OPTIONS(.concurrency = WEIR_PREFORK, .processes = 1, .workers = 4));
}

/* The board counts them together. */
static void a_listener_has_no_more_than_its_own_places(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .max_connections = 2 },
    };
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &staying, .max_connections = 1,
        .acceptors = 4, .workers = 4));

    (void)state;
    come_in_a_rush(server);
    assert_all_given_back(server, 3);
}

static void datagrams_are_no_more_than_the_places(void **state)
{
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listen = "udp://127.0.0.1:0", .handler = &staying, .max_connections = 3, .workers = 4));
    int clients[40];

    (void)state;
    for (int i = 0; i < 40; i++)
        clients[i] = support_ask(server, 0, "in\n");
    assert_int_equal(weir_server_start(server), 0);
    for (int i = 0; i < 40; i++) {
        support_expect(clients[i], "in\n");
        close(clients[i]);
    }
    assert_all_given_back(server, 3);
}

/* ------------------------------------------------------------------ taken in vain ----- */

#define LISTENERS 60
#define CALLERS 4
#define CALLS 1500

static struct weir_server *create_with_many_listeners(const struct weir_options *options)
{
    struct weir_listen listeners[LISTENERS] = { { NULL } };
    struct weir_options many = *options;

    for (size_t i = 0; i < LISTENERS; i++)
        listeners[i].address = "tcp://127.0.0.1:0";
    many.listen = NULL;
    many.listeners = listeners;
    many.listeners_len = LISTENERS;
    many.handler = &quick;
    return support_create(&many);
}

/* Returns NULL if each client was served. */
static void *call_at_listeners_in_turn(void *arg)
{
    struct weir_server *server = arg;

    for (size_t i = 0; i < CALLS; i++) {
        int fd = support_ask(server, i % LISTENERS, "in\n");
        char answer[4] = "";

        if (read(fd, answer, sizeof(answer)) != 3)
            return arg;
        close(fd);
    }
    return NULL;
}

/*
 * Each acceptor that looks at a listener takes the only place, mostly in vain, and gives it back.
 * Another one that rests meanwhile has nobody else to wake it.
 */
static void assert_nobody_rests_for_ever(const struct weir_options *options)
{
    struct weir_server *server = create_with_many_listeners(options);
    pthread_t threads[CALLERS];
    void *failed;

    clear_board(NULL);
    assert_int_equal(weir_server_start(server), 0);
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_at_listeners_in_turn, server), 0);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_all_given_back(server, options->max_connections);
}

static void a_place_that_was_taken_in_vain_is_found_by_who_rests(void **state)
{
    (void)state;
    assert_nobody_rests_for_ever(OPTIONS(.acceptors = 2, .max_connections = 1,
                                         .concurrency = WEIR_THREAD));
    assert_nobody_rests_for_ever(OPTIONS(.acceptors = 2, .max_connections = 1, .workers = 2));
}

/* ------------------------------------------------------------------ submitted --------- */

#define SUBMITTERS 4
#define SUBMITTED 40

/* Until it has a place: returns 0, or another error than -EAGAIN. */
static int submit_patiently(struct weir_server *server, int fd)
{
    struct support_patience patience = support_patience();
    int r;

    while ((r = weir_submit_fd(server, fd, NULL)) == -EAGAIN)
        support_be_patient(&patience, "a place", __FILE__, __LINE__);
    return r;
}

static void *submit_many(void *arg)
{
    struct weir_server *server = arg;

    for (int i = 0; i < SUBMITTED; i++) {
        char answer[4] = "";
        int fds[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
            return arg;
        support_say(fds[0], "in\n");
        if (submit_patiently(server, fds[1]) < 0 || read(fds[0], answer, 3) != 3)
            return arg;
        close(fds[0]);
    }
    return NULL;
}

/* Beside clients that come by acceptors. */
static void assert_submitted_are_no_more(const struct weir_options *options)
{
    struct weir_server *server = support_create(options);
    pthread_t threads[SUBMITTERS];
    void *failed;

    clear_board(NULL);
    for (int i = 0; i < SUBMITTERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, server), 0);
    come_in_a_rush(server);
    for (int i = 0; i < SUBMITTERS; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_all_given_back(server, options->max_connections);
}

static void who_is_submitted_needs_a_place(void **state)
{
    (void)state;
    assert_submitted_are_no_more(OPTIONS(.max_connections = 2, .acceptors = 2, .workers = 2));
    assert_submitted_are_no_more(OPTIONS(.max_connections = 2, .acceptors = 2,
                                         .concurrency = WEIR_THREAD));
}

/* ------------------------------------------------------------------ settled ----------- */

/* Of a server of few descriptors, to which some connections were submitted before it was bound. */
static size_t places_beside(int submitted)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .max_connections = 5 },
    };
    struct rlimit before = support_leave_descriptors(100);
    struct weir_server *server = support_create(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &staying, .max_connections = 1000,
        .workers = 1, .defer = WEIR_YES));
    int peers[10];
    size_t max;

    for (int i = 0; i < submitted; i++) {
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(weir_submit_fd(server, fds[1], NULL), 0);
        peers[i] = fds[0];
    }
    assert_int_equal(weir_server_bind(server), 0);
    max = server->quota.max;
    assert_true(quota_count(&server->quota) <= max);
    for (int i = 0; i < submitted; i++)
        close(peers[i]);
    weir_server_destroy(server);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    return max;
}

/* Each has a descriptor and a place already, and costs the others one: its peer's, here. */
static void who_was_submitted_before_the_bind_is_counted_once(void **state)
{
    (void)state;
    assert_int_equal(places_beside(6), places_beside(1) - 5);
}

/* ------------------------------------------------------------------ limits ------------ */

static const char *const open_files = "the limit of open files (ulimit -n)";

static void assert_limited_by(const char *limit, const struct weir_options *options)
{
    struct weir_server *server = support_create(options);

    assert_string_equal(server->quota.limit, limit);
    weir_server_destroy(server);
}

static void what_limits_connections_has_a_name(void **state)
{
    struct rlimit before;

    (void)state;
    assert_limited_by("max_connections", OPTIONS(.max_connections = 2));
    assert_limited_by("max_connections", OPTIONS(.max_connections = 2, .max_children = 3,
                                                 .concurrency = WEIR_FORK));
    assert_limited_by("max_children", OPTIONS(.max_connections = 3, .max_children = 2,
                                              .concurrency = WEIR_FORK));
    before = support_leave_descriptors(100);
    assert_limited_by(open_files, OPTIONS(.workers = 1));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void a_listeners_own_limit_has_a_name_too(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .max_connections = 5 },
    };
    const struct weir_options *options = WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &staying, .max_connections = 1000,
        .workers = 1);
    struct rlimit before = support_leave_descriptors(100);
    struct weir_server *server = support_create(options);

    (void)state;
    assert_string_equal(server->listens[1].quota.limit, "this listener's max_connections");
    /* What they leave, once the sockets are bound. */
    assert_string_equal(server->quota.limit, open_files);
    weir_server_destroy(server);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* ------------------------------------------------------------------ reckoned ---------- */

#define OWN_PLACES 5

static size_t count_free_descriptors(void)
{
    struct rlimit limit;
    size_t count = 0;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int fd = 0; fd < (int)limit.rlim_cur; fd++)
        count += fcntl(fd, F_GETFD) < 0;
    return count;
}

/* A child's. */
static int tell_free(struct weir_request *req)
{
    board->free = count_free_descriptors();
    weir_printf(req, "told\n");
    return 0;
}

static const struct weir_handler telling = { .name = "telling", .handle = tell_free };

/* All that the server ever opens beside connections is open soon. */
static void have_all_opened(struct weir_server *server)
{
    if (server->options.concurrency != WEIR_PREFORK)
        assert_true(weir_server_fileno(server) >= 0);
    assert_int_equal(weir_server_start(server), 0);
    support_talk(server, 0, "", "told\n");
}

/* In the process that has the connections: a child had one when it told. */
static size_t count_free_beside(const struct weir_server *server)
{
    return server->options.concurrency == WEIR_PREFORK ? board->free + 1
                                                       : count_free_descriptors();
}

static void end_and_restore(struct weir_server *server, const struct rlimit *before)
{
    assert_int_equal(weir_server_shutdown(server), 0);
    weir_server_destroy(server);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, before), 0);
}

/* By the options alone it reckons with standard streams, with what it opens and with a margin. */
static void assert_reckons_with_what_it_opens(const struct weir_options *options)
{
    struct rlimit before = support_leave_descriptors(600);
    size_t free_before = count_free_descriptors();
    struct weir_server *server = support_create(options);
    struct rlimit limit;
    size_t reckoned;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    reckoned = limit.rlim_cur - server->options.max_connections;
    have_all_opened(server);
    SUPPORT_UNTIL(3 + free_before - count_free_beside(server) + 55 == reckoned);
    end_and_restore(server, &before);
}

/* With its sockets bound it leaves none free, and lacks none. */
static void assert_leaves_no_descriptor(const struct weir_options *options)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .max_connections = OWN_PLACES },
    };
    struct rlimit before = support_leave_descriptors(100);
    struct weir_options tight = *options;
    struct weir_server *server;

    tight.listen = NULL;
    tight.listeners = listeners;
    tight.listeners_len = 2;
    tight.max_connections = 500;
    server = support_create(&tight);
    have_all_opened(server);
    SUPPORT_UNTIL(count_free_beside(server) == server->quota.max + OWN_PLACES);
    end_and_restore(server, &before);
}

static void assert_counts_descriptors(const struct weir_options *options)
{
    assert_reckons_with_what_it_opens(options);
    assert_leaves_no_descriptor(options);
}

#define TELLING(...) WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &telling, __VA_ARGS__)

static void what_a_server_opens_is_what_it_reckons_with(void **state)
{
    (void)state;
    assert_counts_descriptors(TELLING(.workers = 7));
    assert_counts_descriptors(TELLING(.workers = 2, .acceptors = 3,
                                      .dispatch = WEIR_DISPATCH_ACCEPTOR));
    assert_counts_descriptors(TELLING(.concurrency = WEIR_SERIAL));
    assert_counts_descriptors(TELLING(.concurrency = WEIR_THREAD, .acceptors = 2));
    assert_counts_descriptors(TELLING(.concurrency = WEIR_FORK, .max_children = 1000));
    assert_counts_descriptors(TELLING(.concurrency = WEIR_PREFORK, .processes = 1, .workers = 7));
    assert_counts_descriptors(TELLING(.concurrency = WEIR_PREFORK, .processes = 3, .workers = 2,
                                      .dispatch = WEIR_DISPATCH_ACCEPTOR));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_pool_has_no_more_than_its_places, clear_board),
        cmocka_unit_test_setup(threads_are_no_more_than_the_places, clear_board),
        cmocka_unit_test_setup(one_by_one_there_are_no_more, clear_board),
        cmocka_unit_test_setup(children_are_no_more_than_the_places, clear_board),
        cmocka_unit_test_setup(a_child_that_was_forked_beforehand_has_no_more, clear_board),
        cmocka_unit_test_setup(a_listener_has_no_more_than_its_own_places, clear_board),
        cmocka_unit_test_setup(datagrams_are_no_more_than_the_places, clear_board),
        cmocka_unit_test(a_place_that_was_taken_in_vain_is_found_by_who_rests),
        cmocka_unit_test_setup(who_is_submitted_needs_a_place, clear_board),
        cmocka_unit_test(who_was_submitted_before_the_bind_is_counted_once),
        cmocka_unit_test(what_a_server_opens_is_what_it_reckons_with),
        cmocka_unit_test(what_limits_connections_has_a_name),
        cmocka_unit_test(a_listeners_own_limit_has_a_name_too),
    };

    board = support_board(sizeof(*board));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
