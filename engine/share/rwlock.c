/*
 * rwlock.c - the read-write lock of weir_sync.h.
 *
 *   its word   says                    leaves by
 *   0          it is free              lock_free_to_read, weir_rwlock_write_lock
 *   n READERs  as many read            lock_free_to_read, weir_rwlock_read_unlock
 *   WRITER     somebody writes: where  weir_rwlock_write_unlock
 *              that one's stack is
 *
 * and in each of them but the first others may wait (WAIT_LISTED). Then nobody comes in but through
 * the list: so a writer is not passed by readers that come after it. Whenever the first in the list
 * may come in, it is let in at once, with those behind it who may as well.
 */
#include "engine/base/compiler.h"
#include "engine/base/misuse.h"
#include "engine/share/holder.h"
#include "engine/share/wait_list.h"
#include "engine/weir.h"
#include "engine/weir_sync.h"

#include <errno.h>

#define WRITER (UINT64_C(1) << WAIT_FIRST_BIT)
#define READER (UINT64_C(2) << WAIT_FIRST_BIT)
#define MARKS (WRITER - 1)

struct rwlock {
    struct wait_list list;
} WAIT_OBJECT;

_Static_assert(sizeof(struct rwlock) == sizeof(struct weir_rwlock) &&
               _Alignof(struct rwlock) == _Alignof(struct weir_rwlock),
               "what programs declare is a read-write lock");

static struct rwlock *rwlock_of(struct weir_rwlock *rwlock)
{
    return (struct rwlock *)rwlock;
}

/* ------------------------------------------------------------------ the list ---------- */

static bool may_enter(uint64_t word, bool writes)
{
    return writes ? word < WRITER : !(word & WRITER);
}

static uint64_t with_one_more(uint64_t word, const struct wait_entry *entry)
{
    return entry->writes ? holder_of(entry->waiter) | WRITER : word + READER;
}

/* Inside, which it leaves: all at the head of the list come in who may. */
static void leave_to_next(struct wait_list *list, uint64_t word)
{
    struct wait_chosen chosen;

    wait_chosen_init(&chosen);
    word &= ~MARKS;
    while (list->first && may_enter(word, list->first->writes)) {
        word = with_one_more(word, list->first);
        wait_list_choose_first(list, &chosen);
    }
    wait_list_leave(list, word);
    wait_list_hand_over(&chosen, 0);
}

/* Inside, which it leaves. 0: it is in; -EDEADLK, -EAGAIN: to be waited for. */
static int enter_or_wait(struct rwlock *lock, struct wait_entry *entry, bool waits)
{
    uint64_t word = wait_list_enter(&lock->list);
    int r = -EAGAIN;

    if (!lock->list.first && may_enter(word, entry->writes)) {
        word = with_one_more(word, entry);
        r = 0;
    } else if ((word & WRITER && holder_is_me(word, entry->waiter)) ||
               wait_list_holds_up(&lock->list, entry->waiter)) {
        r = -EDEADLK;
    } else if (waits) {
        wait_list_put(&lock->list, entry);
    }
    wait_list_leave(&lock->list, word);
    return r;
}

static WEIR_NOINLINE int lock_inside(struct rwlock *lock, bool writes, int64_t within_ms)
{
    struct waiter waiter;
    struct wait_entry entry = {
        .waiter = &waiter, .what = "read-write lock", .writes = writes,
    };
    int r;

    waiter_init(&waiter);
    r = enter_or_wait(lock, &entry, within_ms != 0);
    if (r != -EAGAIN)
        return r;
    if (within_ms == 0)
        return -ETIMEDOUT;
    r = wait_for_turn(&lock->list, &entry, within_ms);
    /* Those behind it may have waited for it alone. */
    if (r < 0)
        leave_to_next(&lock->list, wait_list_enter(&lock->list));
    return r;
}

/* ------------------------------------------------------------------ to read ----------- */

static bool lock_free_to_read(struct wait_list *list)
{
    uint64_t word = wait_list_word(list);

    while (!(word & (MARKS | WRITER))) {
        if (WEIR_LIKELY(wait_list_swap(list, word, word + READER)))
            return true;
        word = wait_list_word(list);
    }
    return false;
}

static int lock_to_read(struct rwlock *lock, int64_t within_ms)
{
    return lock_free_to_read(&lock->list) ? 0 : lock_inside(lock, false, within_ms);
}

int weir_rwlock_read_lock(struct weir_rwlock *rwlock)
{
    return lock_to_read(rwlock_of(rwlock), WAIT_PATIENTLY);
}

int weir_rwlock_read_lock_within(struct weir_rwlock *rwlock, uint32_t ms)
{
    return lock_to_read(rwlock_of(rwlock), ms);
}

int weir_rwlock_try_read_lock(struct weir_rwlock *rwlock)
{
    return lock_to_read(rwlock_of(rwlock), 0) == 0 ? 0 : -EAGAIN;
}

static WEIR_NOINLINE void unlock_read_inside(struct wait_list *list)
{
    uint64_t word = wait_list_enter(list);

    if (word & WRITER || word < READER)
        misuse_die("weir_rwlock_read_unlock on a lock that nobody reads under");
    leave_to_next(list, word - READER);
}

void weir_rwlock_read_unlock(struct weir_rwlock *rwlock)
{
    struct wait_list *list = &rwlock_of(rwlock)->list;
    uint64_t word = wait_list_word(list);

    while (!(word & (MARKS | WRITER)) && word >= READER) {
        if (WEIR_LIKELY(wait_list_swap(list, word, word - READER)))
            return;
        word = wait_list_word(list);
    }
    unlock_read_inside(list);
}

/* ------------------------------------------------------------------ to write ---------- */

static WEIR_ALWAYS_INLINE int lock_to_write(struct rwlock *lock, int64_t within_ms)
{
    return wait_list_swap(&lock->list, 0, holder_here() | WRITER)
               ? 0 : lock_inside(lock, true, within_ms);
}

int weir_rwlock_write_lock(struct weir_rwlock *rwlock)
{
    return lock_to_write(rwlock_of(rwlock), WAIT_PATIENTLY);
}

int weir_rwlock_write_lock_within(struct weir_rwlock *rwlock, uint32_t ms)
{
    return lock_to_write(rwlock_of(rwlock), ms);
}

int weir_rwlock_try_write_lock(struct weir_rwlock *rwlock)
{
    return lock_to_write(rwlock_of(rwlock), 0) == 0 ? 0 : -EAGAIN;
}

static WEIR_NOINLINE void unlock_write_inside(struct wait_list *list)
{
    uint64_t word = wait_list_enter(list);

    if (!(word & WRITER))
        misuse_die("weir_rwlock_write_unlock on a lock that nobody writes under");
    leave_to_next(list, 0);
}

void weir_rwlock_write_unlock(struct weir_rwlock *rwlock)
{
    struct wait_list *list = &rwlock_of(rwlock)->list;
    uint64_t word = wait_list_word(list);

    if (WEIR_UNLIKELY((word & (WRITER | MARKS)) != WRITER || !wait_list_swap(list, word, 0)))
        unlock_write_inside(list);
}
