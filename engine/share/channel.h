/*
 * channel.h - a channel as its two sides find it: those who send and receive, and weir_select.
 *
 * A ring of items, and a list of who waits: to receive, while the ring is empty, or to send, while
 * it is full. All of it changes inside of the list's guard, and items are copied there, too. What
 * is sent while somebody waits to receive it goes to that one past the ring; whoever takes an item
 * from a full ring puts that of the first sender behind the others. So items come out in the order
 * in which weir_channel_send was called, and who waits has got, or got rid of, its item when it is
 * told so.
 *
 *   its word   it says                   set by
 *   0          it is open                whoever makes it
 *   CLOSED     nobody sends any more     weir_channel_close
 *
 * Threads: any.
 * Owns:    nothing: the ring is the program's, and parties are on the stacks of who waits.
 * Blocks:  as wait_list_enter does.
 */
#ifndef WEIR_CHANNEL_H
#define WEIR_CHANNEL_H

#include "engine/share/wait_list.h"
#include "engine/weir_sync.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct channel {
    struct wait_list list;
    uint32_t head;              /* the slot of the oldest item */
    uint32_t count;             /* items in the ring */
    char *slots;
    uint32_t size;
    uint32_t capacity;
} WAIT_OBJECT;

/* Of one who waits in several lists: it has been chosen in none. */
#define CHOICE_OPEN 0

/* Who sends or receives an item, as the other side finds it in the list. */
struct party {
    struct wait_entry entry;
    void *item;                 /* the caller's; of one that sends it is only read */
    _Atomic uint32_t *choice;   /* of one that waits in several lists; NULL: in this alone */
    uint32_t as_choice;         /* what this party is of these */
    bool sends;
    bool faced;                 /* the same select does the opposite on the same channel, too */
};

static inline struct channel *channel_of(struct weir_channel *channel)
{
    return (struct channel *)channel;
}

/* Returns true if nobody else has: then it is `what`, for good. */
static inline bool choice_make(_Atomic uint32_t *choice, uint32_t what)
{
    uint32_t open = CHOICE_OPEN;

    /* relaxed: only the first has it so; what it did with the item comes with the hand-over.
     * pairs: itself, wait_for_one() */
    return atomic_compare_exchange_strong_explicit(choice, &open, what, memory_order_relaxed,
                                                   memory_order_relaxed);
}

/*
 * Inside, of what wait_list_enter returned: does what a party wants. Returns 0: it is done, and
 * *other is whom it was done with, to be told so behind the guard, or NULL; -EPIPE; -EAGAIN.
 */
int channel_do(struct channel *channel, uint64_t word, const struct party *party,
               struct party **other);

/* Enters for it. With -EAGAIN, one that waits is in the list. */
int channel_attempt(struct channel *channel, struct party *party, bool waits);

#endif
