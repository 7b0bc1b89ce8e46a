/*
 * condition.c - the condition of weir_sync.h.
 *
 * Its word says no more than whether somebody waits. What is waited for is under the mutex: who
 * waits is in the list before the mutex is unlocked, and so is seen by who changes things under it.
 */
#include "engine/share/wait_list.h"
#include "engine/weir.h"
#include "engine/weir_sync.h"

#include <errno.h>

struct condition {
    struct wait_list list;
} WAIT_OBJECT;

_Static_assert(sizeof(struct condition) == sizeof(struct weir_condition) &&
               _Alignof(struct condition) == _Alignof(struct weir_condition),
               "what programs declare is a condition");

static struct condition *condition_of(struct weir_condition *condition)
{
    return (struct condition *)condition;
}

static void come(struct condition *condition, struct wait_entry *entry)
{
    uint64_t word = wait_list_enter(&condition->list);

    wait_list_put(&condition->list, entry);
    wait_list_leave(&condition->list, word);
}

int weir_condition_wait_within(struct weir_condition *condition, struct weir_mutex *mutex,
                               uint32_t ms)
{
    struct waiter waiter;
    struct wait_entry entry = { .waiter = &waiter };
    int r;

    if (ms == 0)
        return -ETIMEDOUT;
    waiter_init(&waiter);
    come(condition_of(condition), &entry);
    weir_mutex_unlock(mutex);
    r = wait_for_turn(&condition_of(condition)->list, &entry, ms);
    weir_mutex_lock(mutex);
    return r;
}

int weir_condition_wait(struct weir_condition *condition, struct weir_mutex *mutex)
{
    return weir_condition_wait_within(condition, mutex, WEIR_FOREVER);
}

/* Returns true if somebody waits, as far as the caller can know by the mutex. */
static bool is_waited_for(const struct condition *condition)
{
    return wait_list_word(&condition->list) != 0;
}

void weir_condition_signal(struct weir_condition *public)
{
    struct condition *condition = condition_of(public);
    struct wait_entry *first;
    uint64_t word;

    if (!is_waited_for(condition))
        return;
    word = wait_list_enter(&condition->list);
    first = wait_list_take_first(&condition->list);
    wait_list_leave(&condition->list, word);
    if (first)
        waiter_hand_over(first->waiter, 0);
}

void weir_condition_broadcast(struct weir_condition *public)
{
    struct condition *condition = condition_of(public);
    struct wait_chosen chosen;
    uint64_t word;

    if (!is_waited_for(condition))
        return;
    wait_chosen_init(&chosen);
    word = wait_list_enter(&condition->list);
    wait_list_choose_all(&condition->list, &chosen);
    wait_list_leave(&condition->list, word);
    wait_list_hand_over(&chosen, 0);
}
