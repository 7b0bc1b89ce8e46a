/*
 * quota.h - how many connections may be open at a time, of all that share it, and how many are.
 *
 * A listener with a max_connections of its own has one; all others of a server share the server's.
 * The connections of a table are counted here, and nowhere else: connection.c counts up and down,
 * and knows all quotas of its table, for whoever asks how many are open at all.
 *
 * Threads: any; max and next are set before the first connection.
 * Owns:    nothing; it is the server's, and goes with it.
 */
#ifndef WEIR_QUOTA_H
#define WEIR_QUOTA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct quota {
    size_t max;
    _Atomic size_t count;   /* accepted and not yet closed, and what is held or lent */
    _Atomic uint64_t room_next_ns;  /* when room.c may look for its idle ones again */
    struct quota *next;     /* of the same table */
};

static inline size_t quota_count(const struct quota *quota)
{
    /* seq_cst: a thread that reads 0 sees everything the last handler did, and a thread that has
     * asked for room cannot miss a close. pairs: connection_table_release() */
    return atomic_load_explicit(&quota->count, memory_order_seq_cst);
}

static inline bool quota_is_used_up(const struct quota *quota)
{
    return quota_count(quota) >= quota->max;
}

#endif
