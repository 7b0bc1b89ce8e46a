/*
 * mutex.c - the lock of weir_sync.h.
 *
 *   its word        says                     leaves by                      to
 *   0               it is free               take_free, lock_entered        HOLDER
 *   HOLDER          somebody has it: where   weir_mutex_unlock              0
 *                   that one's stack is      lock_entered                   HOLDER, listed
 *   HOLDER, listed  ... and others wait      pass_to_first, which it has    HOLDER
 *                                            from then on
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

struct mutex {
    struct wait_list list;
} WAIT_OBJECT;

_Static_assert(sizeof(struct mutex) == sizeof(struct weir_mutex) &&
               _Alignof(struct mutex) == _Alignof(struct weir_mutex),
               "what programs declare is a mutex");

static struct mutex *mutex_of(struct weir_mutex *mutex)
{
    return (struct mutex *)mutex;
}

static WEIR_ALWAYS_INLINE bool take_free(struct mutex *mutex)
{
    return WEIR_LIKELY(wait_list_swap(&mutex->list, 0, holder_here()));
}

/* Inside, which it leaves. 0: it is the caller's; -EDEADLK, -EAGAIN: to be waited for. */
static int lock_entered(struct mutex *mutex, struct wait_entry *entry, bool waits)
{
    uint64_t word = wait_list_enter(&mutex->list);
    int r = -EAGAIN;

    if (word == 0)
        r = 0;
    else if (holder_is_me(word, entry->waiter) || wait_list_holds_up(&mutex->list, entry->waiter))
        r = -EDEADLK;
    else if (waits)
        wait_list_put(&mutex->list, entry);
    wait_list_leave(&mutex->list, r == 0 ? holder_of(entry->waiter) : word);
    return r;
}

static WEIR_NOINLINE int lock_listed(struct mutex *mutex, int64_t within_ms)
{
    struct waiter waiter;
    struct wait_entry entry = { .waiter = &waiter, .what = "mutex" };
    int r;

    waiter_init(&waiter);
    r = lock_entered(mutex, &entry, within_ms != 0);
    if (r != -EAGAIN)
        return r;
    return within_ms != 0 ? wait_for_turn(&mutex->list, &entry, within_ms) : -ETIMEDOUT;
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
    struct waiter *next = first ? first->waiter : NULL;

    if (word == 0)
        misuse_die("weir_mutex_unlock on a mutex that is not locked");
    wait_list_leave(&mutex->list, next ? holder_of(next) : 0);
    if (next)
        waiter_hand_over(next, 0);
}

void weir_mutex_unlock(struct weir_mutex *mutex)
{
    struct wait_list *list = &mutex_of(mutex)->list;
    uint64_t word = wait_list_word(list);

    if (WEIR_UNLIKELY(word & ~HOLDER_MASK || word == 0 || !wait_list_swap(list, word, 0)))
        pass_to_first(mutex_of(mutex));
}
