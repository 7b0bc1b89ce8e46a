#include "engine/sync/handoff.h"

#include "engine/base/ensure.h"
#include "engine/base/sys.h"

#include <errno.h>
#include <string.h>

/* Sleepers that are compared before one is woken. */
#define CANDIDATES_MAX 8

int handoff_init(struct handoff *handoff, const struct epoll_set *sets, unsigned workers,
                 size_t capacity, bool watched)
{
    int r;

    memset(handoff, 0, sizeof(*handoff));
    handoff->sets = sets;
    handoff->workers = workers;
    handoff->watched = watched;
    handoff->watch_fd = sys_eventfd();
    if (handoff->watch_fd < 0)
        return handoff->watch_fd;
    for (unsigned i = 0; i < workers; i++)
        handoff->wake_fds[i] = -EBADF;
    r = ready_queue_init(&handoff->queue, capacity);
    if (r < 0)
        goto fail_queue;
    for (unsigned i = 0; i < workers; i++) {
        handoff->wake_fds[i] = sys_eventfd();
        if (handoff->wake_fds[i] < 0) {
            r = handoff->wake_fds[i];
            goto fail_wake;
        }
    }
    return 0;

fail_wake:
    handoff_fini(handoff);
    return r;
fail_queue:
    sys_close(handoff->watch_fd);
    return r;
}

void handoff_fini(struct handoff *handoff)
{
    for (unsigned i = 0; i < handoff->workers; i++)
        sys_close(handoff->wake_fds[i]);
    sys_close(handoff->watch_fd);
    ready_queue_fini(&handoff->queue);
}

static uint64_t bit_of(unsigned i)
{
    return UINT64_C(1) << (i % 64);
}

/* Takes back worker i's announcement and writes its descriptor; nothing if it was taken back. */
static bool wake_if_asleep(struct handoff *handoff, unsigned i)
{
    /* acq_rel: of several wakers exactly one sees the bit. pairs: handoff_sleep() */
    uint64_t old = atomic_fetch_and_explicit(&handoff->sleeping[i / 64], ~bit_of(i),
                                             memory_order_acq_rel);

    if (!(old & bit_of(i)))
        return false;
    /* relaxed: a counter for people. pairs: none */
    atomic_fetch_add_explicit(&handoff->wakeups, 1, memory_order_relaxed);
    sys_eventfd_signal(handoff->wake_fds[i]);
    return true;
}

/*
 * Of the first few that sleep, the one with the fewest connections: a worker that takes a
 * connection keeps it. -1: nobody sleeps.
 */
static int choose_sleeper(const struct handoff *handoff)
{
    unsigned candidates = 0;
    uint32_t fewest = 0;
    int chosen = -1;

    for (unsigned word = 0; word * 64 < handoff->workers; word++) {
        /* relaxed: the fence in handoff_call orders it. pairs: handoff_sleep() */
        uint64_t sleepers = atomic_load_explicit(&handoff->sleeping[word], memory_order_relaxed);

        for (; sleepers != 0 && candidates < CANDIDATES_MAX; sleepers &= sleepers - 1) {
            unsigned i = word * 64 + (unsigned)__builtin_ctzll(sleepers);
            uint32_t members = epoll_set_members(&handoff->sets[i]);

            if (candidates++ == 0 || members < fewest) {
                fewest = members;
                chosen = (int)i;
            }
        }
    }
    return chosen;
}

/* False: nobody sleeps. */
static bool wake_one(struct handoff *handoff)
{
    int i;

    while ((i = choose_sleeper(handoff)) >= 0)
        if (wake_if_asleep(handoff, (unsigned)i))
            return true;
    return false;
}

void handoff_put(struct handoff *handoff, struct connection *conn)
{
    /* The queue holds every connection that the table does, and a connection is in it once. */
    bool pushed = ready_queue_push(&handoff->queue, conn);

    WEIR_ENSURE(pushed);
}

void handoff_call(struct handoff *handoff, unsigned n)
{
    /* Store buffering: our caller's puts, then the look at the sleepers. pairs: handoff_sleep() */
    atomic_thread_fence(memory_order_seq_cst);
    while (n > 0 && wake_one(handoff))
        n--;
}

bool handoff_wake(struct handoff *handoff, unsigned i)
{
    /* Store buffering: our caller's put, then the look at the sleeper. pairs: handoff_sleep() */
    atomic_thread_fence(memory_order_seq_cst);
    return handoff_asleep(handoff, i) && wake_if_asleep(handoff, i);
}

void handoff_wake_all(const struct handoff *handoff)
{
    for (unsigned i = 0; i < handoff->workers; i++)
        sys_eventfd_signal(handoff->wake_fds[i]);
}

void handoff_pass_on(struct handoff *handoff)
{
    /* No fence: the call that we pass on has shown us the push. pairs: handoff_call() */
    if (!ready_queue_empty(&handoff->queue))
        wake_one(handoff);
}

void handoff_sleep(struct handoff *handoff, unsigned i)
{
    /*
     * Store buffering: we announce, then our caller looks at the queue and its inbox; the waker
     * puts, then looks at the announcement. pairs: handoff_call(), handoff_wake()
     */
    atomic_fetch_or_explicit(&handoff->sleeping[i / 64], bit_of(i), memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}

/* Calls the acceptor if it has stopped looking. */
static void call_watcher(struct handoff *handoff)
{
    /* seq_cst, behind the change of sleeping: store buffering. pairs: handoff_unwatch() */
    if (WEIR_LIKELY(atomic_load_explicit(&handoff->watching, memory_order_seq_cst)))
        return;
    /* relaxed: of several that wake, one calls; a second call would do no harm. pairs: none */
    if (!atomic_exchange_explicit(&handoff->watching, true, memory_order_relaxed))
        sys_eventfd_signal(handoff->watch_fd);
}

bool handoff_awake(struct handoff *handoff, unsigned i)
{
    /* seq_cst, before the look at watching: store buffering again. And acquire: if we were
     * called, the push that we were called for. pairs: handoff_unwatch(), wake_if_asleep() */
    uint64_t old = atomic_fetch_and_explicit(&handoff->sleeping[i / 64], ~bit_of(i),
                                             memory_order_seq_cst);

    if (handoff->watched)
        call_watcher(handoff);
    return !(old & bit_of(i));
}

bool handoff_asleep(const struct handoff *handoff, unsigned i)
{
    /* relaxed: a hint, or ordered by handoff_wake's fence. pairs: handoff_sleep() */
    return atomic_load_explicit(&handoff->sleeping[i / 64], memory_order_relaxed) & bit_of(i);
}

bool handoff_anyone_asleep(const struct handoff *handoff)
{
    for (unsigned word = 0; word < HANDOFF_WORDS; word++)
        /* relaxed: a hint. pairs: none */
        if (atomic_load_explicit(&handoff->sleeping[word], memory_order_relaxed) != 0)
            return true;
    return false;
}

bool handoff_everyone_asleep(const struct handoff *handoff)
{
    unsigned asleep = 0;

    for (unsigned word = 0; word < HANDOFF_WORDS; word++)
        /* seq_cst: ordered behind the store in handoff_unwatch. pairs: handoff_awake() */
        asleep += (unsigned)__builtin_popcountll(
            atomic_load_explicit(&handoff->sleeping[word], memory_order_seq_cst));
    return asleep == handoff->workers;
}

uint64_t handoff_wakeups(const struct handoff *handoff)
{
    /* relaxed: for people. pairs: none */
    return atomic_load_explicit(&handoff->wakeups, memory_order_relaxed);
}

bool handoff_unwatch(struct handoff *handoff)
{
    /* seq_cst, before the look at the sleepers: store buffering. pairs: handoff_awake() */
    atomic_store_explicit(&handoff->watching, false, memory_order_seq_cst);
    if (handoff_everyone_asleep(handoff))
        return true;
    /* relaxed: only whether we tick hangs on it. pairs: none */
    atomic_store_explicit(&handoff->watching, true, memory_order_relaxed);
    return false;
}
