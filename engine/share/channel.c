#include "engine/share/channel.h"

#include "engine/base/compiler.h"
#include "engine/weir.h"

#include <errno.h>
#include <string.h>

#define CLOSED (UINT64_C(1) << WAIT_FIRST_BIT)

_Static_assert(sizeof(struct channel) == sizeof(struct weir_channel) &&
               _Alignof(struct channel) == _Alignof(struct weir_channel) &&
               offsetof(struct channel, slots) == offsetof(struct weir_channel, slots) &&
               offsetof(struct channel, size) == offsetof(struct weir_channel, size) &&
               offsetof(struct channel, capacity) == offsetof(struct weir_channel, capacity),
               "what programs declare is a channel");

/* ------------------------------------------------------------------ inside ------------ */

/* The size that most channels have, of a pointer or a number, is worth no call. */
static void copy_item(const struct channel *channel, void *to, const void *from)
{
    if (WEIR_LIKELY(channel->size == sizeof(uint64_t)))
        memcpy(to, from, sizeof(uint64_t));
    else if (channel->size > 0)
        memcpy(to, from, channel->size);
}

/* So many behind the first slot, round the ring once at most. */
static char *slot(const struct channel *channel, uint64_t number)
{
    if (number >= channel->capacity)
        number -= channel->capacity;
    return channel->slots + number * channel->size;
}

static void put_behind_others(struct channel *channel, const void *item)
{
    copy_item(channel, slot(channel, (uint64_t)channel->head + channel->count), item);
    channel->count++;
}

static void take_oldest(struct channel *channel, void *item)
{
    copy_item(channel, item, slot(channel, channel->head));
    channel->head = channel->head + 1 < channel->capacity ? channel->head + 1 : 0;
    channel->count--;
}

/* Returns true if it waits for nothing else, or has not been chosen for that. */
static bool party_claim(struct party *party)
{
    return !party->choice || choice_make(party->choice, party->as_choice);
}

/*
 * Takes the first who waits to send, or to receive, and lets out those that a select has in the
 * list yet and that come too late. Returns NULL if there is none. All who wait want the same,
 * for else they would have met; only one select that does both finds nobody by itself.
 */
static struct party *choose_party(struct channel *channel, bool sends)
{
    struct wait_entry *entry = channel->list.first;

    while (entry) {
        struct wait_entry *next = entry->next;
        struct party *party = caa_container_of(entry, struct party, entry);

        if (party->sends != sends && !party->faced)
            return NULL;
        if (party->sends == sends) {
            wait_list_take(&channel->list, entry);
            if (party_claim(party))
                return party;
        }
        entry = next;
    }
    return NULL;
}

/* *other: whom it came to. Returns 0, -EPIPE, or -EAGAIN: there is no room. */
static int send_item(struct channel *channel, uint64_t word, const void *item, struct party **other)
{
    if (word & CLOSED)
        return -EPIPE;
    *other = choose_party(channel, false);
    if (*other)
        copy_item(channel, (*other)->item, item);
    else if (channel->count < channel->capacity)
        put_behind_others(channel, item);
    else
        return -EAGAIN;
    return 0;
}

/* *other: who got rid of its own. Returns 0, -EPIPE, or -EAGAIN: there is nothing. */
static int receive_item(struct channel *channel, uint64_t word, void *item, struct party **other)
{
    bool from_ring = channel->count > 0;

    if (from_ring)
        take_oldest(channel, item);
    *other = choose_party(channel, true);
    if (*other && from_ring)
        put_behind_others(channel, (*other)->item);
    else if (*other)
        copy_item(channel, item, (*other)->item);
    else if (!from_ring)
        return word & CLOSED ? -EPIPE : -EAGAIN;
    return 0;
}

/* ------------------------------------------------------------------ both sides -------- */

int channel_do(struct channel *channel, uint64_t word, const struct party *party,
               struct party **other)
{
    *other = NULL;
    return party->sends ? send_item(channel, word, party->item, other)
                        : receive_item(channel, word, party->item, other);
}

int channel_attempt(struct channel *channel, struct party *party, bool waits)
{
    uint64_t word = wait_list_enter(&channel->list);
    struct party *other;
    int r = channel_do(channel, word, party, &other);

    if (r == -EAGAIN && waits)
        wait_list_put(&channel->list, &party->entry);
    wait_list_leave(&channel->list, word);
    if (other)
        waiter_hand_over(other->entry.waiter, 0);
    return r;
}

static WEIR_NOINLINE int wait_for_party(struct channel *channel, struct party *party, uint32_t ms)
{
    struct waiter waiter;
    int r;

    waiter_init(&waiter);
    party->entry.waiter = &waiter;
    r = channel_attempt(channel, party, true);
    return r == -EAGAIN ? wait_for_turn(&channel->list, &party->entry, ms) : r;
}

static int carry_within(struct channel *channel, void *item, bool sends, uint32_t ms)
{
    struct party party = { .item = item, .sends = sends };
    int r = channel_attempt(channel, &party, false);

    if (WEIR_LIKELY(r != -EAGAIN))
        return r;
    return ms != 0 ? wait_for_party(channel, &party, ms) : -ETIMEDOUT;
}

static int try_to_carry(struct channel *channel, void *item, bool sends)
{
    struct party party = { .item = item, .sends = sends };

    return channel_attempt(channel, &party, false);
}

int weir_channel_send_within(struct weir_channel *channel, const void *item, uint32_t ms)
{
    return carry_within(channel_of(channel), (void *)item, true, ms);
}

int weir_channel_send(struct weir_channel *channel, const void *item)
{
    return weir_channel_send_within(channel, item, WEIR_FOREVER);
}

int weir_channel_try_send(struct weir_channel *channel, const void *item)
{
    return try_to_carry(channel_of(channel), (void *)item, true);
}

int weir_channel_receive_within(struct weir_channel *channel, void *item, uint32_t ms)
{
    return carry_within(channel_of(channel), item, false, ms);
}

int weir_channel_receive(struct weir_channel *channel, void *item)
{
    return weir_channel_receive_within(channel, item, WEIR_FOREVER);
}

int weir_channel_try_receive(struct weir_channel *channel, void *item)
{
    return try_to_carry(channel_of(channel), item, false);
}

/* ------------------------------------------------------------------ the end ----------- */

/* Inside: takes out all who wait, but for those who have been chosen elsewhere. */
static void end_all_waits(struct wait_list *list, struct wait_chosen *chosen)
{
    struct wait_entry *entry;

    while ((entry = wait_list_take_first(list)))
        if (party_claim(caa_container_of(entry, struct party, entry)))
            wait_chosen_add(chosen, entry);
}

int weir_channel_close(struct weir_channel *public)
{
    struct wait_list *list = &channel_of(public)->list;
    uint64_t word = wait_list_enter(list);
    struct wait_chosen chosen;

    wait_chosen_init(&chosen);
    if (!(word & CLOSED))
        end_all_waits(list, &chosen);
    wait_list_leave(list, word | CLOSED);
    wait_list_hand_over(&chosen, -EPIPE);
    return word & CLOSED ? -EALREADY : 0;
}
