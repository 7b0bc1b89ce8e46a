/*
 * holder_test.c - a handler that blocks the worker of a pool is told of a lock that a fiber of that
 * worker has, or waits for before it: neither could go on.
 */
#include "tests/support.h"

#include "engine/share/wait_list.h"

#include <errno.h>
#include <unistd.h>

#include <weir/weir_sync.h>

static struct weir_mutex mutex;
static struct weir_semaphore leave;

/* The one has it, and waits for something else. */
static int have_it(struct weir_request *req)
{
    int r = weir_mutex_lock(&mutex);

    weir_printf(req, "%d\n", r);
    weir_flush(req);
    r = weir_semaphore_acquire(&leave);
    weir_mutex_unlock(&mutex);
    return r;
}

static int want_it(struct weir_request *req)
{
    int r = weir_mutex_lock(&mutex);

    weir_printf(req, "%d\n", r);
    if (r == 0)
        weir_mutex_unlock(&mutex);
    return 0;
}

static const struct weir_handler fiber_has = { .name = "fiber has", .handle = have_it };
static const struct weir_handler fiber_wants = { .name = "fiber wants", .handle = want_it };
static const struct weir_handler blocks = {
    .name = "blocks", .handle = want_it, .stack = WEIR_STACK_THREAD,
};

static struct weir_server *serve_all(void)
{
    static const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0", .handler = &fiber_has },
        { .address = "tcp://127.0.0.1:0", .handler = &fiber_wants },
        { .address = "tcp://127.0.0.1:0", .handler = &blocks },
    };

    return support_start(WEIR_OPTIONS(.listeners = listeners, .listeners_len = 3, .workers = 1));
}

static unsigned waiting(void)
{
    struct wait_list *list = (struct wait_list *)&mutex;
    uint64_t word = wait_list_enter(list);
    unsigned n = 0;

    for (const struct wait_entry *entry = list->first; entry; entry = entry->next)
        n++;
    wait_list_leave(list, word);
    return n;
}

static void a_lock_of_a_fiber_of_the_same_worker_is_refused(void **state)
{
    struct weir_server *server = serve_all();
    int one = support_connect(server, 0);

    (void)state;
    support_expect(one, "0\n");
    support_talk(server, 2, "", "-35\n");
    assert_int_equal(weir_semaphore_release(&leave, 1), 0);
    support_expect_last(one, "");
    support_talk(server, 2, "", "0\n");
    weir_server_shutdown(server);
    weir_server_destroy(server);
}

/* A thread has it: the fiber is to have it next, and the one that blocks would come behind it. */
static void so_is_one_that_such_a_fiber_waits_for(void **state)
{
    struct weir_server *server = serve_all();
    int one;

    (void)state;
    assert_int_equal(weir_mutex_lock(&mutex), 0);
    one = support_connect(server, 1);
    SUPPORT_UNTIL(waiting() == 1);
    support_talk(server, 2, "", "-35\n");
    weir_mutex_unlock(&mutex);
    support_expect_last(one, "0\n");
    weir_server_shutdown(server);
    weir_server_destroy(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lock_of_a_fiber_of_the_same_worker_is_refused),
        cmocka_unit_test(so_is_one_that_such_a_fiber_waits_for),
    };

    _Static_assert(EDEADLK == 35, "what the handlers say");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
