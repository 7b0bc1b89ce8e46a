/*
 * mutex.c - the lock of weir_sync.h.
 *
 *   its word             says                    leaves by                      to
 *   0                    it is free              take_free, lock_entered        LOCKED
 *   LOCKED               somebody has it         weir_mutex_unlock              0
 *                                                lock_entered                   LOCKED, listed
 *   LOCKED, WAIT_LISTED  ... and others wait     pass_to_first                  LOCKED
 *
 * It is never free while somebody waits: so who comes later has no chance before them.
 */
#include "engine/base/compiler.h"
#include "engine/base/misuse.h"
#include "engine/share/holder.h"
#include "engine/share/wait_list.h"
#include "engine/weir.h"
#include "engine/weir_sync.h"

#include <errno.h>

#define LOCKED (UINT64_C(1) << WAIT_FIRST_BIT)

struct mutex {
    struct wait_list list;
    struct holder holder;
} WAIT_OBJECT;

_Static_assert(sizeof(struct mutex) == sizeof(struct weir_mutex) &&
               _Alignof(struct mutex) == _Alignof(struct weir_mutex),
               "what programs declare is a mutex");

static struct mutex *mutex_of(struct weir_mutex *mutex)
{
    return (struct mutex *)mutex;
}

static bool take_free(struct mutex *mutex)
{
    if (WEIR_UNLIKELY(!wait_list_swap(&mutex->list, 0, LOCKED)))
        return false;
    holder_set(&mutex->holder);
    return true;
}

/* Inside, which it leaves. 0: it is the caller's; -EDEADLK, -EAGAIN: to be waited for. */
static int lock_entered(struct mutex *mutex, struct wait_entry *entry, bool waits)
{
    uint64_t word = wait_list_enter(&mutex->list);
    int r = !(word & LOCKED) ? 0 : holder_is_me(&mutex->holder, entry->waiter) ? -EDEADLK : -EAGAIN;

    if (r == -EAGAIN && waits)
        wait_list_put(&mutex->list, entry);
    wait_list_leave(&mutex->list, word | LOCKED);
    return r;
}

static WEIR_NOINLINE int lock_listed(struct mutex *mutex, int64_t within_ms)
{
    struct waiter waiter;
    struct wait_entry entry = { .waiter = &waiter };
    int r;

    waiter_init(&waiter);
    r = lock_entered(mutex, &entry, within_ms != 0);
    if (r == -EAGAIN)
        r = within_ms != 0 ? wait_for_turn(&mutex->list, &entry, within_ms) : -ETIMEDOUT;
    if (r == 0)
        holder_set(&mutex->holder);
    return r;
}

int weir_mutex_lock(struct weir_mutex *mutex)
{
    return take_free(mutex_of(mutex)) ? 0 : lock_listed(mutex_of(mutex), WAIT_PATIENTLY);
}

int weir_mutex_lock_within(struct weir_mutex *mutex, uint32_t ms)
{
    return take_free(mutex_of(mutex)) ? 0 : lock_listed(mutex_of(mutex), ms);
}

int weir_mutex_try_lock(struct weir_mutex *mutex)
{
    /* If somebody else is about to take it, that one has been first. */
    return take_free(mutex_of(mutex)) ? 0 : -EAGAIN;
}

static WEIR_NOINLINE void pass_to_first(struct mutex *mutex)
{
    uint64_t word = wait_list_enter(&mutex->list);
    struct wait_entry *first = wait_list_take_first(&mutex->list);

    if (!(word & LOCKED))
        misuse_die("weir_mutex_unlock on a mutex that is not locked");
    wait_list_leave(&mutex->list, first ? LOCKED : 0);
    if (first)
        waiter_hand_over(first->waiter, 0);
}

void weir_mutex_unlock(struct weir_mutex *mutex)
{
    holder_clear(&mutex_of(mutex)->holder);
    if (WEIR_UNLIKELY(!wait_list_swap(&mutex_of(mutex)->list, LOCKED, 0)))
        pass_to_first(mutex_of(mutex));
}
