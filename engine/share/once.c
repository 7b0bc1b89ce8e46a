/*
 * once.c - what is done once, of weir_sync.h.
 *
 *   its word  says                          leaves by                      to
 *   0         nobody has begun it           weir_once_within               RUNNING
 *   RUNNING   somebody is at it, whom       succeed                        DONE
 *             others may wait for           fail, if nobody waits          0
 *                                           fail: the first one's turn     RUNNING
 *   DONE      for good; nobody waits
 */
#include "engine/base/compiler.h"
#include "engine/share/holder.h"
#include "engine/share/wait_list.h"
#include "engine/weir.h"
#include "engine/weir_sync.h"

#include <errno.h>

#define RUNNING (UINT64_C(1) << WAIT_FIRST_BIT)
#define DONE (UINT64_C(2) << WAIT_FIRST_BIT)

/* What those who wait are handed besides 0: it is done. */
#define YOUR_TURN 1

struct once {
    struct wait_list list;
    struct holder holder;       /* who is at it */
} WAIT_OBJECT;

_Static_assert(sizeof(struct once) == sizeof(struct weir_once_flag) &&
               _Alignof(struct once) == _Alignof(struct weir_once_flag),
               "what programs declare is what is done once");

static struct once *once_of(struct weir_once_flag *once)
{
    return (struct once *)once;
}

/* All who wait have come before round 1. */
static void succeed(struct once *once)
{
    if (wait_list_swap(&once->list, RUNNING, DONE))
        return;
    wait_list_enter(&once->list);
    wait_list_leave_to_all(&once->list, DONE, 1);
}

static void fail(struct once *once)
{
    struct wait_entry *first;

    wait_list_enter(&once->list);
    first = wait_list_take_first(&once->list);
    wait_list_leave(&once->list, first ? RUNNING : 0);
    if (first)
        waiter_hand_over(first->waiter, YOUR_TURN);
}

static int run(struct once *once, int (*fn)(void *arg), void *arg)
{
    int r;

    holder_set(&once->holder);
    r = fn(arg);
    holder_clear(&once->holder);
    if (r < 0) {
        fail(once);
        return r;
    }
    succeed(once);
    return 0;
}

static WEIR_NOINLINE int wait_for_other(struct once *once, uint32_t ms)
{
    struct waiter waiter;
    struct wait_entry entry = { .waiter = &waiter };
    bool is_mine;
    uint64_t word;

    waiter_init(&waiter);
    word = wait_list_enter(&once->list);
    is_mine = word & RUNNING && holder_is_me(&once->holder, &waiter);
    if (word & RUNNING && !is_mine && ms != 0)
        wait_list_put(&once->list, &entry);
    wait_list_leave(&once->list, word & DONE ? DONE : RUNNING);
    if (word & DONE)
        return 0;
    if (!(word & RUNNING))
        return YOUR_TURN;
    if (is_mine)
        return -EDEADLK;
    return ms != 0 ? wait_for_turn(&once->list, &entry, ms) : -ETIMEDOUT;
}

int weir_once_within(struct weir_once_flag *once, int (*fn)(void *arg), void *arg, uint32_t ms)
{
    int r;

    if (WEIR_LIKELY(wait_list_word(&once_of(once)->list) == DONE))
        return 0;
    r = wait_list_swap(&once_of(once)->list, 0, RUNNING) ? YOUR_TURN
                                                         : wait_for_other(once_of(once), ms);
    return r == YOUR_TURN ? run(once_of(once), fn, arg) : r;
}

int weir_once(struct weir_once_flag *once, int (*fn)(void *arg), void *arg)
{
    return weir_once_within(once, fn, arg, WEIR_FOREVER);
}
