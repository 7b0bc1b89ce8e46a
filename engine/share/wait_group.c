/*
 * wait_group.c - the wait group of weir_sync.h.
 *
 * Its word counts what is under way, behind the marks. Nobody comes to wait when that is nothing;
 * who takes the last away sees to those who wait. Whoever finds nothing under way may free the
 * group: so to make it that is the last thing done with it, but for those who wait yet.
 */
#include "engine/base/compiler.h"
#include "engine/base/misuse.h"
#include "engine/share/wait_list.h"
#include "engine/weir.h"
#include "engine/weir_sync.h"

#include <errno.h>

#define ONE (UINT64_C(1) << WAIT_FIRST_BIT)
#define MARKS (ONE - 1)

struct wait_group {
    struct wait_list list;
} WAIT_OBJECT;

_Static_assert(sizeof(struct wait_group) == sizeof(struct weir_wait_group) &&
               _Alignof(struct wait_group) == _Alignof(struct weir_wait_group),
               "what programs declare is a wait group");

static struct wait_group *group_of(struct weir_wait_group *group)
{
    return (struct wait_group *)group;
}

static bool would_be_too_many(uint64_t word, uint64_t n)
{
    return word / ONE + n > UINT32_MAX;
}

static WEIR_NOINLINE int add_inside(struct wait_list *list, uint64_t n)
{
    uint64_t word = wait_list_enter(list);
    bool fits = !would_be_too_many(word, n);

    wait_list_leave(list, fits ? word + n * ONE : word);
    return fits ? 0 : -EOVERFLOW;
}

int weir_wait_group_add(struct weir_wait_group *group, uint32_t n)
{
    struct wait_list *list = &group_of(group)->list;
    uint64_t word = wait_list_word(list);

    while (!(word & MARKS) && !would_be_too_many(word, n)) {
        if (WEIR_LIKELY(wait_list_swap(list, word, word + n * ONE)))
            return 0;
        word = wait_list_word(list);
    }
    return add_inside(list, n);
}

static WEIR_NOINLINE void done_inside(struct wait_group *group)
{
    uint64_t word = wait_list_enter(&group->list);
    struct wait_chosen chosen;

    if (word < ONE)
        misuse_die("weir_wait_group_done has been called more often than was added");
    word -= ONE;
    wait_chosen_init(&chosen);
    if (word < ONE)
        wait_list_choose_all(&group->list, &chosen);
    wait_list_leave(&group->list, word);
    wait_list_hand_over(&chosen, 0);
}

void weir_wait_group_done(struct weir_wait_group *group)
{
    struct wait_list *list = &group_of(group)->list;
    uint64_t word = wait_list_word(list);

    while (!(word & MARKS) && word >= ONE) {
        if (WEIR_LIKELY(wait_list_swap(list, word, word - ONE)))
            return;
        word = wait_list_word(list);
    }
    done_inside(group_of(group));
}

static WEIR_NOINLINE int wait_for_last(struct wait_group *group, uint32_t ms)
{
    struct waiter waiter;
    struct wait_entry entry = { .waiter = &waiter };
    uint64_t word;

    waiter_init(&waiter);
    word = wait_list_enter(&group->list);
    if (word >= ONE && ms != 0)
        wait_list_put(&group->list, &entry);
    wait_list_leave(&group->list, word);
    if (word < ONE)
        return 0;
    return ms != 0 ? wait_for_turn(&group->list, &entry, ms) : -ETIMEDOUT;
}

int weir_wait_group_wait_within(struct weir_wait_group *group, uint32_t ms)
{
    return wait_list_word(&group_of(group)->list) == 0 ? 0 : wait_for_last(group_of(group), ms);
}

int weir_wait_group_wait(struct weir_wait_group *group)
{
    return weir_wait_group_wait_within(group, WEIR_FOREVER);
}
