/*
 * semaphore.c - the semaphore of weir_sync.h.
 *
 * Its word counts the units that nobody has, behind the marks. There are none while somebody waits:
 * weir_semaphore_release gives them to the first ones.
 */
#include "engine/base/compiler.h"
#include "engine/share/wait_list.h"
#include "engine/weir.h"
#include "engine/weir_sync.h"

#include <errno.h>

#define UNIT (UINT64_C(1) << WAIT_FIRST_BIT)
#define MARKS (UNIT - 1)

struct semaphore {
    struct wait_list list;
} WAIT_OBJECT;

_Static_assert(sizeof(struct semaphore) == sizeof(struct weir_semaphore) &&
               _Alignof(struct semaphore) == _Alignof(struct weir_semaphore),
               "what programs declare is a semaphore");

static struct wait_list *list_of(struct weir_semaphore *semaphore)
{
    return &((struct semaphore *)semaphore)->list;
}

static uint64_t units_of(uint64_t word)
{
    return word / UNIT;
}

/* Several may try at once, each on what another has just changed. */
static bool take_unit(struct wait_list *list)
{
    uint64_t word = wait_list_word(list);

    while (!(word & MARKS) && units_of(word) > 0) {
        if (WEIR_LIKELY(wait_list_swap(list, word, word - UNIT)))
            return true;
        word = wait_list_word(list);
    }
    return false;
}

static WEIR_NOINLINE int acquire_listed(struct wait_list *list, int64_t within_ms)
{
    struct waiter waiter;
    struct wait_entry entry = { .waiter = &waiter };
    uint64_t word;
    bool free;

    waiter_init(&waiter);
    word = wait_list_enter(list);
    free = units_of(word) > 0;
    if (!free && within_ms != 0)
        wait_list_put(list, &entry);
    wait_list_leave(list, free ? word - UNIT : word);
    if (free)
        return 0;
    return within_ms != 0 ? wait_for_turn(list, &entry, within_ms) : -ETIMEDOUT;
}

int weir_semaphore_acquire_within(struct weir_semaphore *semaphore, uint32_t ms)
{
    struct wait_list *list = list_of(semaphore);

    return take_unit(list) ? 0 : acquire_listed(list, ms);
}

int weir_semaphore_acquire(struct weir_semaphore *semaphore)
{
    return weir_semaphore_acquire_within(semaphore, WEIR_FOREVER);
}

int weir_semaphore_try_acquire(struct weir_semaphore *semaphore)
{
    return weir_semaphore_acquire_within(semaphore, 0) == 0 ? 0 : -EAGAIN;
}

static WEIR_NOINLINE int release_listed(struct wait_list *list, uint64_t units)
{
    uint64_t word = wait_list_enter(list);
    struct wait_chosen chosen;

    if (units_of(word) + units > UINT32_MAX) {
        wait_list_leave(list, word);
        return -EOVERFLOW;
    }
    wait_chosen_init(&chosen);
    for (; units > 0 && list->first; units--)
        wait_list_choose_first(list, &chosen);
    wait_list_leave(list, word + units * UNIT);
    wait_list_hand_over(&chosen, 0);
    return 0;
}

int weir_semaphore_release(struct weir_semaphore *semaphore, uint32_t units)
{
    struct wait_list *list = list_of(semaphore);
    uint64_t word = wait_list_word(list);

    while (!(word & MARKS) && units_of(word) + units <= UINT32_MAX) {
        if (WEIR_LIKELY(wait_list_swap(list, word, word + units * UNIT)))
            return 0;
        word = wait_list_word(list);
    }
    return release_listed(list, units);
}
