/*
 * prefork_child.c - the child's side of prefork.
 *
 * The child waits until its parent has its pidfd: else nobody would see its end, and nothing shall
 * have been begun. Then it becomes a server of a pool. One thread more, the guard, waits for what
 * may happen to it from outside: an order, the cancelling eventfd that it has inherited, its
 * parent's end.
 */
#include "engine/modes/prefork_child.h"

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/sys.h"
#include "engine/base/thread.h"
#include "engine/fiber/crash.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

/* After the parent's end, cancelled handlers have this long to end. */
#define ORPHAN_MS 1000

struct guard {
    const struct prefork_child *child;
    int done_fd;                    /* eventfd: the child has nothing left to do */
};

static void answer_parent(const struct prefork_child *child)
{
    const struct mixin_config *config = child->config;

    config->child_calls->stats(config->server, wire_child_begin_answer(&child->wire));
    wire_child_send_answer(&child->wire);
}

static void call_roll(const struct prefork_child *child)
{
    const struct mixin_config *config = child->config;
    struct roll roll;

    wire_child_begin_roll(&child->wire, &roll);
    config->child_calls->roll(config->server, &roll);
    wire_child_send_roll(&child->wire, &roll);
}

static void obey(const struct prefork_child *child)
{
    const struct child_calls *calls = child->config->child_calls;
    struct wire_orders orders = wire_child_hear(&child->wire);

    if (orders.answer)
        answer_parent(child);
    if (orders.roll)
        call_roll(child);
    if (orders.look)
        calls->look(child->config->server);
    if (orders.stop)
        calls->stop(child->config->server);
}

static void *guard_main(void *arg)
{
    const struct guard *guard = arg;
    const struct prefork_child *child = guard->child;
    const struct child_calls *calls = child->config->child_calls;
    struct weir_server *server = child->config->server;
    uint64_t end_at_ms = CLOCK_NEVER;
    struct pollfd fds[] = {
        { .fd = guard->done_fd, .events = POLLIN },
        { .fd = child->wire.order_fd, .events = POLLIN },
        { .fd = child->config->crew->cancel_fd, .events = POLLIN },
        { .fd = child->parent_fd, .events = POLLIN },
    };

    crash_set_role("a child's thread that hears of its parent");
    for (;;) {
        sys_poll(fds, sizeof(fds) / sizeof(fds[0]), clock_timeout_ms(end_at_ms, clock_ms()));
        if (fds[0].revents)
            return NULL;
        if (clock_ms() >= end_at_ms)
            _exit(1);
        if (fds[1].revents)
            obey(child);
        if (fds[2].revents || fds[3].revents) {
            /* Never taken back. */
            fds[2].fd = -1;
            calls->cancel(server);
        }
        if (fds[3].revents) {
            fds[3].fd = -1;
            calls->stop(server);
            end_at_ms = clock_ms() + ORPHAN_MS;
        }
    }
}

static int begin_in_child(const struct prefork_child *child, struct guard *guard,
                          pthread_t *ret_thread)
{
    const struct child_calls *calls = child->config->child_calls;
    int r = guard->done_fd;

    if (r >= 0)
        r = calls->become(child->config->server, child->number, child->others_fd);
    if (r == 0)
        r = thread_start(ret_thread, -1, guard_main, guard);
    return r == 0 ? calls->begin(child->config->server) : r;
}

static void serve(const struct prefork_child *child)
{
    const struct child_calls *calls = child->config->child_calls;
    struct weir_server *server = child->config->server;
    bool followed;

    wire_child_say_accepts(&child->wire);
    calls->accept(server);
    followed = wire_child_is_followed(&child->wire);
    calls->accept_last(server, followed);
    /* Behind the last client: once a shutdown has returned, nobody is accepted. */
    wire_child_say_stopped(&child->wire);
    calls->drain(server, followed);
}

_Noreturn void prefork_child_main(const struct prefork_child *child)
{
    struct guard guard = { .child = child };
    pthread_t thread;
    int r;

    if (!wire_child_may_begin(&child->wire, child->parent_fd))
        _exit(0);
    guard.done_fd = sys_eventfd();
    r = begin_in_child(child, &guard, &thread);
    if (r < 0) {
        wire_child_say_error(&child->wire, r);
        _exit(1);
    }
    serve(child);
    sys_eventfd_signal(guard.done_fd);
    pthread_join(thread, NULL);
    /* Nobody has asked: these are the child's last words. */
    answer_parent(child);
    log_flush();
    _exit(0);
}
