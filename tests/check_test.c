/*
 * check_test.c - WEIR_CHECK=1: each finding ends a child process, whose last words tell.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/compiler.h"
#include "engine/base/misuse.h"
#include "engine/fiber/fiber.h"
#include "engine/fiber/stack.h"
#include "engine/pool/pool.h"
#include "tests/support.h"

#define STATE_SIZE 24
#define SIXTY_FOUR_BYTES "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static int (*scene)(struct weir_request *req);

static int play_scene(struct weir_request *req)
{
    char byte;

    return weir_read(req, &byte, 1) == 1 ? scene(req) : 0;
}

static const struct weir_handler playing = {
    .name = "playing", .handle = play_scene, .state_size = STATE_SIZE,
};

static int close_descriptor(struct weir_request *req)
{
    close(weir_request_fd(req));
    return 0;
}

/* A client whose descriptor is closed sees its end, and the next one would get the same number. */
static bool frees_number(void)
{
    return scene == close_descriptor;
}

static void play(void)
{
    int clients = frees_number() ? 1 : 2;
    struct weir_server *server;

    signal(SIGABRT, SIG_DFL);
    setenv("WEIR_CHECK", "1", 1);
    server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0", .handler = &playing,
                                        .workers = 1));
    for (int i = 0; i < clients; i++) {
        char byte = 0;
        int fd = support_ask(server, 0, i == 0 ? SIXTY_FOUR_BYTES : "x");

        if (support_read_all(fd, &byte, 1) == 1 && byte != 'k')
            _exit(byte);
        close(fd);
    }
    weir_server_destroy(server);
    _exit(0);
}

static void expect_found(int (*what)(struct weir_request *req), const char *begin)
{
    struct support_end end;

    scene = what;
    end = support_run_in_child(play);
    assert_int_equal(end.status, -SIGABRT);
    if (strncmp(end.said, begin, strlen(begin)) != 0)
        fail_msg("not '%s' but '%s'", begin, end.said);
    assert_int_equal(strchr(end.said, '\n') - end.said + 1, strlen(end.said));
}

static int replace_descriptor(struct weir_request *req)
{
    dup2(STDERR_FILENO, weir_request_fd(req));
    return 0;
}

static int make_blocking(struct weir_request *req)
{
    fcntl(weir_request_fd(req), F_SETFL, 0);
    return WEIR_KEEP;
}

static int write_behind_state(struct weir_request *req)
{
    volatile unsigned char *state = weir_state(req);

    memset(weir_state(req), 1, STATE_SIZE);
    state[STATE_SIZE]++;
    return 0;
}

static int block_signal(struct weir_request *req)
{
    sigset_t one;

    (void)req;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    return 0;
}

static void what_a_handler_does_to_others_is_found(void **state)
{
    static const char closed[] = "weir: handler 'playing' has closed the descriptor of its "
                                 "client, ";

    (void)state;
    expect_found(close_descriptor, closed);
    expect_found(replace_descriptor, closed);
    expect_found(make_blocking, "weir: handler 'playing' has made the descriptor of its client, ");
    expect_found(write_behind_state, "weir: handler 'playing' has written beyond its weir_state, "
                                     "which has 24 bytes");
    expect_found(block_signal, "weir: handler 'playing' has returned with signal 12 (USR2) "
                               "blocked");
}

/* The second call of a handler looks at what the first one has kept. */
static char *kept;

static int keep_pointer(struct weir_request *req)
{
    if (kept)
        _exit(kept[40] == SIXTY_FOUR_BYTES[41] ? 43 : 42);
    if (weir_peek(req, &kept, 60) < 60)
        return 0;
    weir_consume(req, 63);
    return weir_write(req, "k", 1) == 1 ? WEIR_KEEP : 0;
}

static void a_buffer_is_overwritten_when_the_handler_has_returned(void **state)
{
    struct support_end end;

    (void)state;
    if (WEIR_ASAN)
        skip();     /* which finds the look itself */
    scene = keep_pointer;
    end = support_run_in_child(play);
    assert_int_equal(end.status, 42);
}

static int do_no_harm(struct weir_request *req)
{
    memset(weir_state(req), 1, STATE_SIZE);
    return weir_write(req, "k", 1) == 1 ? WEIR_KEEP : 0;
}

static void who_does_no_harm_is_left_alone(void **state)
{
    struct support_end end;

    (void)state;
    scene = do_no_harm;
    end = support_run_in_child(play);
    assert_int_equal(end.status, 0);
    assert_string_equal(end.said, "");
}

/* ------------------------------------------------------------------ weir's own -------- */

static void what_is_written_above_a_fibers_frames_is_found(void **state)
{
    struct stack_arena *arena;
    struct fiber_cache cache;
    struct fiber *fiber;
    unsigned char before;

    (void)state;
    assert_int_equal(stack_arena_create(0, 0, &arena), 0);
    fiber_cache_init(&cache, arena, 1);
    fiber = fiber_get(&cache);
    assert_true(fiber_is_sound(fiber));
    before = *(unsigned char *)fiber;
    *(unsigned char *)fiber = (unsigned char)~before;
    assert_false(fiber_is_sound(fiber));
    *(unsigned char *)fiber = before;
    fiber_put(&cache, fiber);
    fiber_cache_fini(&cache);
    stack_arena_destroy(arena);
}

static void leave_a_place_taken(void)
{
    struct pool *pool;

    signal(SIGABRT, SIG_DFL);
    setenv("WEIR_CHECK", "1", 1);
    misuse_read_environment();
    if (pool_create(&(const struct pool_config){ .crew = { .workers = 1, .rbufsize = 4096 } },
                    &pool) < 0)
        _exit(99);
    connection_table_hold(&pool->crew.table);
    pool_destroy(pool);
    _exit(0);
}

static void a_place_that_is_left_is_found(void **state)
{
    struct support_end end = support_run_in_child(leave_a_place_taken);

    (void)state;
    assert_int_equal(end.status, -SIGABRT);
    assert_non_null(strstr(end.said, "weir: a server is freed while 1 places are taken and 0 "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_handler_does_to_others_is_found),
        cmocka_unit_test(a_buffer_is_overwritten_when_the_handler_has_returned),
        cmocka_unit_test(who_does_no_harm_is_left_alone),
        cmocka_unit_test(what_is_written_above_a_fibers_frames_is_found),
        cmocka_unit_test(a_place_that_is_left_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
