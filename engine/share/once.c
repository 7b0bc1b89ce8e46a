/*
 * once.c - what is done once, of weir_sync.h.
 *
 *   its word  says                          leaves by                        to
 *   0         nobody has begun it           weir_once_within, wait_for_other HOLDER
 *   HOLDER    somebody is at it, whom       succeed                          DONE
 *             others may wait for           fail, if nobody waits            0
 *                                           fail: the first one's turn       HOLDER
 *   DONE      for good; nobody waits
 */
#include "engine/base/compiler.h"
#include "engine/share/holder.h"
#include "engine/share/wait_list.h"
#include "engine/weir.h"
#include "engine/weir_sync.h"

#include <errno.h>

#define DONE (UINT64_C(1) << WAIT_FIRST_BIT)

/* What those who wait are handed besides 0: it is done. */
#define YOUR_TURN 1

struct once {
    struct wait_list list;
} WAIT_OBJECT;

_Static_assert(sizeof(struct once) == sizeof(struct weir_once_flag) &&
               _Alignof(struct once) == _Alignof(struct weir_once_flag),
               "what programs declare is what is done once");

static struct once *once_of(struct weir_once_flag *once)
{
    return (struct once *)once;
}

static void succeed(struct once *once)
{
    struct wait_chosen chosen;

    wait_chosen_init(&chosen);
    wait_list_enter(&once->list);
    wait_list_choose_all(&once->list, &chosen);
    wait_list_leave(&once->list, DONE);
    wait_list_hand_over(&chosen, 0);
}

static void fail(struct once *once)
{
    struct waiter *next = NULL;
    struct wait_entry *first;

    wait_list_enter(&once->list);
    first = wait_list_take_first(&once->list);
    if (first)
        next = first->waiter;
    wait_list_leave(&once->list, next ? holder_of(next) : 0);
    if (next)
        waiter_hand_over(next, YOUR_TURN);
}

static int run(struct once *once, int (*fn)(void *arg), void *arg)
{
    int r = fn(arg);

    if (r < 0) {
        fail(once);
        return r;
    }
    succeed(once);
    return 0;
}

/* Inside, which it leaves. YOUR_TURN, 0: it is done; -EDEADLK, -EAGAIN: to be waited for. */
static int begin_or_wait(struct once *once, struct wait_entry *entry, bool waits)
{
    uint64_t word = wait_list_enter(&once->list);
    int r = -EAGAIN;

    if (word & DONE) {
        r = 0;
    } else if (word == 0) {
        word = holder_of(entry->waiter);
        r = YOUR_TURN;
    } else if (holder_is_me(word, entry->waiter) ||
               wait_list_holds_up(&once->list, entry->waiter)) {
        r = -EDEADLK;
    } else if (waits) {
        wait_list_put(&once->list, entry);
    }
    wait_list_leave(&once->list, word);
    return r;
}

static WEIR_NOINLINE int wait_for_other(struct once *once, uint32_t ms)
{
    struct waiter waiter;
    struct wait_entry entry = { .waiter = &waiter, .what = "weir_once" };
    int r;

    waiter_init(&waiter);
    r = begin_or_wait(once, &entry, ms != 0);
    if (r != -EAGAIN)
        return r;
    return ms != 0 ? wait_for_turn(&once->list, &entry, ms) : -ETIMEDOUT;
}

int weir_once_within(struct weir_once_flag *once, int (*fn)(void *arg), void *arg, uint32_t ms)
{
    int r;

    if (WEIR_LIKELY(wait_list_word(&once_of(once)->list) == DONE))
        return 0;
    r = wait_list_swap(&once_of(once)->list, 0, holder_here()) ? YOUR_TURN
                                                               : wait_for_other(once_of(once), ms);
    return r == YOUR_TURN ? run(once_of(once), fn, arg) : r;
}

int weir_once(struct weir_once_flag *once, int (*fn)(void *arg), void *arg)
{
    return weir_once_within(once, fn, arg, WEIR_FOREVER);
}
