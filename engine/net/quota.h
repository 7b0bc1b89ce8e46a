/*
 * quota.h - the places for connections of all that share it, and how many of them are taken.
 *
 * A listener with a max_connections of its own has one; all others of a server share the server's.
 * What is counted is places. Whoever lets clients in takes a place before it asks the kernel for a
 * client, so that there are never more connections than places. A place has one owner at a time:
 *
 *   taken by                  is passed to                       given back if
 *   acceptor, side door,      struct accepted: the client        nobody waits there
 *   doorman                   that accept(2) has found
 *   weir_submit_fd            struct accepted                    the descriptor can't be served
 *   receiver                  the packet                         nothing was received, or it was
 *                                                                refused
 *
 *   and then by
 *   struct accepted           its connection, its packet or its  it is turned away; but not while
 *                             child                              the acceptor holds it
 *   connection                nobody                             it is closed
 *   packet                    nobody                             its reply has left
 *   child of WEIR_FORK        nobody                             it was reaped
 *
 * Places go back by connection_table_release(), which tells those who wait for a connection's end,
 * or, if they were taken in vain, by connection_table_give_back(). A copy that a fork leaves in a
 * child is the child's alone.
 *
 * Threads: any. max and limit are written under the server's lock: by whoever builds the server,
 *          and once more when its sockets have been bound, before an acceptor runs. Until then only
 *          weir_submit_fd takes places, under the same lock. next is set before the first place is
 *          taken.
 * Owns:    nothing; it is the server's, and goes with it.
 */
#ifndef WEIR_QUOTA_H
#define WEIR_QUOTA_H

#include "engine/base/compiler.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Others wait for room: room.c's notes. */
struct quota_want {
    _Atomic uint64_t walk_next_ns;  /* when it may look again who is to go */
    _Atomic uint64_t asked_ms;      /* when they waited last ... */
    _Atomic uint64_t since_ms;      /* ... and since when, without a pause */
};

struct quota {
    size_t max;
    _Atomic size_t count;   /* places that are taken: never more than max */
    _Atomic bool lacked;    /* somebody waits for one, and shall hear of one taken in vain */
    struct quota_want want;
    struct quota *next;     /* of the same table */
    const char *limit;      /* which limit max is, for people: "max_children" */
};

static inline size_t quota_count(const struct quota *quota)
{
    /* seq_cst: a thread that reads 0 sees everything the last handler did, and a thread that has
     * asked for room cannot miss a close. pairs: connection_table_release() */
    return atomic_load_explicit(&quota->count, memory_order_seq_cst);
}

/* A look: a place that is free may be taken before the caller comes to it. */
static inline bool quota_is_used_up(const struct quota *quota)
{
    return quota_count(quota) >= quota->max;
}

/*
 * The same look by a thread that waits for a place. If it returns true, the thread that gives back
 * a place that it has taken in vain writes the table's room_fd. That is so once: whoever waits on
 * asks again.
 */
static inline bool quota_lacks(struct quota *quota)
{
    if (!quota_is_used_up(quota))
        return false;
    /* seq_cst: says so, then looks once more. Store buffering.
     * pairs: connection_table_give_back() */
    atomic_store_explicit(&quota->lacked, true, memory_order_seq_cst);
    return quota_is_used_up(quota);
}

/* Of the free places one caller may take one and QUOTA_SHARE-th of them: others want some, too. */
#define QUOTA_SHARE 8

/*
 * Takes n places, or fewer, and returns how many: 0 if none is free. Whoever finds none waits for
 * the table's room_fd, and asks for room (connection_table_want_room) and looks once more before.
 */
static inline size_t quota_take(struct quota *quota, size_t n)
{
    size_t count = quota_count(quota);
    size_t most;

    do {
        while (WEIR_UNLIKELY(count >= quota->max)) {
            if (quota_lacks(quota))
                return 0;
            count = quota_count(quota);
        }
        most = (quota->max - count) / QUOTA_SHARE + 1;
        if (n > most)
            n = most;
        /*
         * seq_cst, also where it fails: a taker that has asked for room sees each place that was
         * given back before. The exchange succeeds only on the count that was compared with max,
         * so no moment has more than max. pairs: connection_table_release(), _give_back()
         */
    } while (!atomic_compare_exchange_weak_explicit(&quota->count, &count, count + n,
                                                    memory_order_seq_cst, memory_order_seq_cst));
    return n;
}

#endif
