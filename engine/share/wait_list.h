/*
 * wait_list.h - a word that says how things stand, and who waits for it to change.
 *
 * Each object of weir_sync.h begins with one. As long as nobody waits, a compare-and-swap of the
 * word does what is to be done. Else the word is entered: WAIT_GUARD is a lock that is held for a
 * few instructions, never over a wait, in which the list is looked at and it is decided who gets
 * what. Whoever leaves writes the word anew.
 *
 *   mark        it says                                   set by              cleared by
 *   WAIT_GUARD  somebody is in: the list is theirs, and   wait_list_enter     wait_list_leave
 *               nobody else changes the word
 *   WAIT_LISTED somebody waits. A compare-and-swap that   wait_list_leave     wait_list_leave
 *               is to be fair fails
 *
 * The bits from WAIT_FIRST_BIT on are the object's. The list is in the order of coming.
 *
 * Threads: any. Blocks: wait_list_enter, while another thread is in; it spins, and yields the CPU.
 * Owns:    nothing; entries are on the stacks of who waits.
 * Parks:   wait_for_turn, wait_unless_withdrawn.
 */
#ifndef WEIR_WAIT_LIST_H
#define WEIR_WAIT_LIST_H

#include "engine/pool/waiter.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define WAIT_GUARD UINT64_C(1)
#define WAIT_LISTED UINT64_C(2)
#define WAIT_FIRST_BIT 2

/*
 * What programs have zeroed as bytes, or as the numbers of a public structure, is used as what it
 * is for.
 */
#define WAIT_OBJECT __attribute__((may_alias))

struct wait_entry {
    struct waiter *waiter;
    const char *what;           /* "mutex": the word says who has it; NULL: it does not */
    struct wait_entry *next;
    struct wait_entry *prev;    /* of the first: the last one */
    bool listed;                /* it is in the list; changes inside only */
    bool writes;                /* of a read-write lock: it waits to write */
};

struct wait_list {
    _Atomic uint64_t word;
    struct wait_entry *first;
} WAIT_OBJECT;

/*
 * Those that one call hands something to, in their order. They are chosen inside, all at once, and
 * handed over to once the list is left for good: whoever is told of it last may free the object.
 * So the list is held for a few nanoseconds for each of them, be they thousands.
 */
struct wait_chosen {
    struct wait_entry *first;
    struct wait_entry **end;    /* the pointer that the next one is put into */
};

static inline void wait_chosen_init(struct wait_chosen *chosen)
{
    chosen->end = &chosen->first;
}

/* Inside: one that has been taken out. */
static inline void wait_chosen_add(struct wait_chosen *chosen, struct wait_entry *entry)
{
    *chosen->end = entry;
    chosen->end = &entry->next;
}

/* Returns the word, without WAIT_GUARD. */
uint64_t wait_list_enter(struct wait_list *list);

/* word: the object's bits; the marks are set as they are due. The last thing done with the list. */
void wait_list_leave(struct wait_list *list, uint64_t word);

/* Inside. */
void wait_list_put(struct wait_list *list, struct wait_entry *entry);
void wait_list_take(struct wait_list *list, struct wait_entry *entry);

/*
 * Inside: returns true if the caller, whose waiter it is, would block a fiber that waits before it
 * and is to have the object first.
 */
bool wait_list_holds_up(const struct wait_list *list, const struct waiter *me);

/* Inside: takes the first one. Returns NULL if there is none. */
struct wait_entry *wait_list_take_first(struct wait_list *list);

/* Outside: takes an entry out. Returns false if it has been taken out already. */
bool wait_list_withdraw(struct wait_list *list, struct wait_entry *entry);

/* Inside: takes the first one, which there is, or all of them. */
void wait_list_choose_first(struct wait_list *list, struct wait_chosen *chosen);
void wait_list_choose_all(struct wait_list *list, struct wait_chosen *chosen);

/* Once the list is left. The entries, and the list, may be gone then. */
void wait_list_hand_over(struct wait_chosen *chosen, int value);

/* One compare-and-swap of a word in which no mark is set. Returns true if it was `from`. */
static inline bool wait_list_swap(struct wait_list *list, uint64_t from, uint64_t to)
{
    /* acq_rel: what the thread before us has done; what we have done. pairs: itself,
     * wait_list_leave() */
    return atomic_compare_exchange_strong_explicit(&list->word, &from, to, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

static inline uint64_t wait_list_word(const struct wait_list *list)
{
    /* acquire: what was done before it became so. pairs: wait_list_swap(), wait_list_leave() */
    return atomic_load_explicit(&list->word, memory_order_acquire);
}

/* How long one of those who wait does so. */
#define WAIT_PATIENTLY (-1)     /* for ever, through a cancel and the request's deadline */

/*
 * Waits for what an entry that was put into the list is chosen for. within_ms: an uint32_t, of
 * which WEIR_FOREVER is for ever, or WAIT_PATIENTLY. Returns the value that was handed over; or,
 * taken out of the list, -ETIMEDOUT, -ECANCELED, which nobody hands over.
 */
int wait_for_turn(struct wait_list *list, struct wait_entry *entry, int64_t within_ms);

/*
 * The same for who is in several lists. When the wait ends otherwise, withdraw_it says so to those
 * who might choose it yet; it returns false if it has been chosen already.
 */
int wait_unless_withdrawn(struct waiter *waiter, int64_t within_ms, bool (*withdraw_it)(void *arg),
                          void *arg);

#endif
