/*
 * select.c - weir_select: who waits on several channels, and does what can be done first on one.
 *
 * It has a party in the list of each. Its choice says for which of them it has been chosen:
 *
 *   choice         it says                            set by
 *   CHOICE_OPEN    for none of them yet               weir_select
 *   1 + number     that case has been done            party_claim, inside of that channel's guard
 *   GIVEN_UP       the wait has ended otherwise       weir_select
 *
 * Each leaves CHOICE_OPEN by one compare-and-swap, and only one succeeds: so nothing is done twice,
 * and nothing is done for who has given up. The other parties are in their lists yet for a while;
 * who finds one there takes it out and goes on to the next. weir_select does not return before it
 * has looked inside of each guard that its party is out of the list.
 *
 * It comes to wait inside of all guards, which it enters in the order of their addresses, for
 * nothing may change between its look at one channel and its place in the list of another: two
 * that look for each other would both wait. All others are inside of one guard at a time.
 */
#include "engine/base/compiler.h"
#include "engine/share/channel.h"
#include "engine/weir.h"
#include "engine/weir_sync.h"

#include <errno.h>
#include <stddef.h>

#define GIVEN_UP UINT32_MAX

struct selection {
    struct weir_case *cases;
    uint32_t len;
    _Atomic uint32_t choice;
    struct waiter waiter;
    struct party parties[WEIR_CASES_MAX];
    uint64_t words[WEIR_CASES_MAX];     /* of the channels, while we are inside */
    uint8_t order[WEIR_CASES_MAX];      /* of cases, by the addresses of their channels */
};

_Static_assert(WEIR_CASES_MAX <= UINT8_MAX, "the number of a case is a byte");

static struct channel *channel_at(const struct selection *all, uint32_t number)
{
    return channel_of(all->cases[number].channel);
}

/* ------------------------------------------------------------------ without a wait ---- */

static void prepare_parties(struct selection *all, struct weir_case *cases, uint32_t len)
{
    all->cases = cases;
    all->len = len;
    for (uint32_t i = 0; i < len; i++) {
        struct party *party = &all->parties[i];

        party->sends = cases[i].send != NULL;
        party->item = party->sends ? (void *)cases[i].send : cases[i].receive;
        party->entry.listed = false;
        party->choice = &all->choice;
        party->as_choice = i + 1;
        party->faced = false;
    }
}

static uint32_t some_number(void)
{
    static _Thread_local uint32_t state = 1;

    state = state * UINT32_C(1664525) + UINT32_C(1013904223);
    return state >> 16;
}

static int case_done(struct selection *all, uint32_t number, int r)
{
    all->cases[number].result = r;
    return (int)number;
}

/* Begins with any of them, so that one that is always ready does not keep back the others. */
static int do_one_of(struct selection *all)
{
    uint32_t first = some_number() % all->len;

    for (uint32_t i = 0; i < all->len; i++) {
        uint32_t number = first + i < all->len ? first + i : first + i - all->len;
        int r = -EAGAIN;

        if (channel_at(all, number))
            r = channel_attempt(channel_at(all, number), &all->parties[number], false);
        if (r != -EAGAIN)
            return case_done(all, number, r);
    }
    return -EAGAIN;
}

/* ------------------------------------------------------------------ inside of all ----- */

static void sort_by_address(struct selection *all)
{
    for (uint32_t i = 0; i < all->len; i++) {
        uintptr_t address = (uintptr_t)channel_at(all, i);
        uint32_t at = i;

        for (; at > 0 && (uintptr_t)channel_at(all, all->order[at - 1]) > address; at--)
            all->order[at] = all->order[at - 1];
        all->order[at] = (uint8_t)i;
    }
}

/* Each channel once, however many cases name it. Returns true if the case in this place does. */
static bool stands_for_channel(const struct selection *all, uint32_t place)
{
    const struct channel *channel = channel_at(all, all->order[place]);

    return channel && (place == 0 || channel_at(all, all->order[place - 1]) != channel);
}

static void enter_all(struct selection *all)
{
    for (uint32_t i = 0; i < all->len; i++) {
        uint32_t number = all->order[i];

        if (stands_for_channel(all, i))
            all->words[number] = wait_list_enter(&channel_at(all, number)->list);
        else if (i > 0)
            all->words[number] = all->words[all->order[i - 1]];
    }
}

static void leave_all(struct selection *all)
{
    for (uint32_t i = 0; i < all->len; i++)
        if (stands_for_channel(all, i))
            wait_list_leave(&channel_at(all, all->order[i])->list, all->words[all->order[i]]);
}

/* The cases of one channel are beside each other in this order. */
static void note_faced(struct selection *all)
{
    bool sends[2] = { false, false };
    uint32_t first = 0;

    for (uint32_t i = 0; i < all->len; i++) {
        if (stands_for_channel(all, i)) {
            first = i;
            sends[0] = sends[1] = false;
        }
        sends[all->parties[all->order[i]].sends] = true;
        for (uint32_t j = first; j <= i; j++)
            all->parties[all->order[j]].faced = sends[0] && sends[1];
    }
}

/* Returns the number of a case that could be done, or -EAGAIN: its parties are in all lists. */
static int come_inside(struct selection *all, struct party **other)
{
    for (uint32_t i = 0; i < all->len; i++) {
        struct channel *channel = channel_at(all, i);
        int r = channel ? channel_do(channel, all->words[i], &all->parties[i], other) : -EAGAIN;

        if (r != -EAGAIN)
            return case_done(all, i, r);
    }
    for (uint32_t i = 0; i < all->len; i++)
        if (channel_at(all, i))
            wait_list_put(&channel_at(all, i)->list, &all->parties[i].entry);
    return -EAGAIN;
}

static int come_to_wait(struct selection *all)
{
    struct party *other = NULL;
    int r;

    sort_by_address(all);
    note_faced(all);
    enter_all(all);
    r = come_inside(all, &other);
    leave_all(all);
    if (other)
        waiter_hand_over(other->entry.waiter, 0);
    return r;
}

/* ------------------------------------------------------------------ the wait ---------- */

/* done: the case that was, which is out of its list, and whose channel may be gone; else none. */
static void go_from_all(struct selection *all, uint32_t done)
{
    for (uint32_t i = 0; i < all->len; i++)
        if (i != done && channel_at(all, i))
            wait_list_withdraw(&channel_at(all, i)->list, &all->parties[i].entry);
}

static bool give_up(void *arg)
{
    struct selection *all = arg;

    return choice_make(&all->choice, GIVEN_UP);
}

static int wait_for_one(struct selection *all, uint32_t ms)
{
    int r = wait_unless_withdrawn(&all->waiter, ms, give_up, all);
    /* relaxed: it came with the hand-over, or is our own. pairs: choice_make() */
    uint32_t choice = atomic_load_explicit(&all->choice, memory_order_relaxed);

    go_from_all(all, choice - 1);
    return choice == GIVEN_UP ? r : case_done(all, choice - 1, r);
}

static WEIR_NOINLINE int come_and_wait(struct selection *all, uint32_t ms)
{
    int r;

    waiter_init(&all->waiter);
    for (uint32_t i = 0; i < all->len; i++)
        all->parties[i].entry.waiter = &all->waiter;
    /* relaxed: nobody else knows of it yet. pairs: none */
    atomic_store_explicit(&all->choice, CHOICE_OPEN, memory_order_relaxed);
    r = come_to_wait(all);
    return r == -EAGAIN ? wait_for_one(all, ms) : r;
}

int weir_select(struct weir_case *cases, uint32_t len, uint32_t ms)
{
    struct selection all;
    int r;

    if (len == 0 || len > WEIR_CASES_MAX)
        return -EINVAL;
    prepare_parties(&all, cases, len);
    r = do_one_of(&all);
    if (r != -EAGAIN)
        return r;
    return ms != 0 ? come_and_wait(&all, ms) : -ETIMEDOUT;
}
