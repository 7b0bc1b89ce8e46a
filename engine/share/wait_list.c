#include "engine/share/wait_list.h"

#include "engine/base/clock.h"
#include "engine/base/compiler.h"
#include "engine/base/misuse.h"
#include "engine/base/sys.h"
#include "engine/share/deadlock.h"
#include "engine/share/holder.h"
#include "engine/stream/request.h"

#include <errno.h>
#include <sched.h>

/* ------------------------------------------------------------------ the guard --------- */

/*
 * Who is in will be out within nanoseconds, if it has the CPU. If it has lost it, yielding gives it
 * back, but not to a thread of lower priority than ours: therefore the rest.
 */
#define SPINS 64
#define YIELDS 64

static inline void let_other_thread_of_core(void)
{
#if defined(__x86_64__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void wait_for_guard(unsigned tries)
{
    if (tries % SPINS != 0)
        let_other_thread_of_core();
    else if (tries % (SPINS * YIELDS) != 0)
        sched_yield();
    else
        sys_poll(NULL, 0, 1);
}

uint64_t wait_list_enter(struct wait_list *list)
{
    for (unsigned tries = 1;; tries++) {
        /* relaxed: a guess that the exchange checks. pairs: none */
        uint64_t word = atomic_load_explicit(&list->word, memory_order_relaxed) & ~WAIT_GUARD;

        /* acquire: what was done inside before us. pairs: wait_list_leave(), wait_list_swap() */
        if (atomic_compare_exchange_weak_explicit(&list->word, &word, word | WAIT_GUARD,
                                                  memory_order_acquire, memory_order_relaxed))
            return word;
        wait_for_guard(tries);
    }
}

void wait_list_leave(struct wait_list *list, uint64_t word)
{
    uint64_t listed = list->first ? WAIT_LISTED : 0;

    word &= ~(WAIT_GUARD | WAIT_LISTED);
    /* release: what was done inside. pairs: wait_list_enter(), wait_list_swap() */
    atomic_store_explicit(&list->word, word | listed, memory_order_release);
}

/* ------------------------------------------------------------------ the list ---------- */

void wait_list_put(struct wait_list *list, struct wait_entry *entry)
{
    struct wait_entry *first = list->first;

    entry->next = NULL;
    entry->listed = true;
    if (first) {
        entry->prev = first->prev;
        first->prev->next = entry;
        first->prev = entry;
    } else {
        entry->prev = entry;
        list->first = entry;
    }
}

void wait_list_take(struct wait_list *list, struct wait_entry *entry)
{
    struct wait_entry *first = list->first;

    if (entry == first)
        list->first = entry->next;
    else
        entry->prev->next = entry->next;
    if (entry->next)
        entry->next->prev = entry->prev;
    else if (entry != first)
        first->prev = entry->prev;
    entry->listed = false;
}

struct wait_entry *wait_list_take_first(struct wait_list *list)
{
    struct wait_entry *first = list->first;

    if (first)
        wait_list_take(list, first);
    return first;
}

bool wait_list_holds_up(const struct wait_list *list, const struct waiter *me)
{
    if (waiter_parks(me) || !worker_self())
        return false;
    for (const struct wait_entry *entry = list->first; entry; entry = entry->next)
        if (waiter_parks(entry->waiter) && holder_blocks(entry->waiter->task->worker))
            return true;
    return false;
}

void wait_list_choose_first(struct wait_list *list, struct wait_chosen *chosen)
{
    wait_chosen_add(chosen, wait_list_take_first(list));
}

void wait_list_choose_all(struct wait_list *list, struct wait_chosen *chosen)
{
    while (list->first)
        wait_list_choose_first(list, chosen);
}

void wait_list_hand_over(struct wait_chosen *chosen, int value)
{
    struct wait_entry *next;

    *chosen->end = NULL;
    for (struct wait_entry *entry = chosen->first; entry; entry = next) {
        next = entry->next;
        waiter_hand_over(entry->waiter, value);
    }
}

bool wait_list_withdraw(struct wait_list *list, struct wait_entry *entry)
{
    uint64_t word = wait_list_enter(list);
    bool listed = entry->listed;

    if (listed)
        wait_list_take(list, entry);
    wait_list_leave(list, word);
    return listed;
}

/* ------------------------------------------------------------------ waiting ----------- */

struct place {
    struct wait_list *list;
    struct wait_entry *entry;
};

static bool withdraw(void *arg)
{
    struct place *place = arg;

    return wait_list_withdraw(place->list, place->entry);
}

/* The request of the handler that waits; NULL: no handler does. */
static struct weir_request *request_of(const struct waiter *waiter)
{
    return waiter->task ? waiter->task->request : NULL;
}

int wait_unless_withdrawn(struct waiter *waiter, int64_t within_ms, bool (*withdraw_it)(void *arg),
                          void *arg)
{
    struct weir_request *req = request_of(waiter);
    uint64_t limit_ms = req ? req->deadline_ms : 0;
    uint64_t until_ms;
    bool cut;
    int r;

    if (within_ms == WAIT_PATIENTLY)
        return waiter_await(waiter);
    until_ms = within_ms != WEIR_FOREVER ? clock_ms() + (uint64_t)within_ms + 1 : 0;
    cut = limit_ms != 0 && (until_ms == 0 || limit_ms < until_ms);
    r = waiter_wait(waiter, cut ? limit_ms : until_ms);
    if (r == 0 || !withdraw_it(arg))
        return waiter_await(waiter);
    return r == -ETIMEDOUT && cut ? request_timed_out(req, limit_ms, CONNECTION_NOT_LATE) : r;
}

/* Returns true if nothing but a hand-over ends the wait, or a cancel. */
static bool is_endless(const struct waiter *waiter, int64_t within_ms)
{
    const struct weir_request *req = request_of(waiter);

    return within_ms == WAIT_PATIENTLY ||
           (within_ms == WEIR_FOREVER && !(req && req->deadline_ms != 0));
}

int wait_for_turn(struct wait_list *list, struct wait_entry *entry, int64_t within_ms)
{
    struct place place = { .list = list, .entry = entry };
    struct deadlock_note note = { .list = list, .entry = entry };
    bool noted = WEIR_UNLIKELY(misuse_is_thorough()) && entry->what &&
                 is_endless(entry->waiter, within_ms);
    int r;

    if (noted)
        deadlock_note(&note);
    r = wait_unless_withdrawn(entry->waiter, within_ms, withdraw, &place);
    if (noted)
        deadlock_forget(&note);
    return r;
}
