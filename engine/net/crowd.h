/*
 * crowd.h - how many connections each address has, and no more of them than a limit.
 *
 * A hash table of those addresses that have any, chained, with a lock for each group of buckets.
 * Why not liburcu's lock-free one: an address comes and goes with its only connection, and an entry
 * whose count falls to 0 while another thread counts it up takes a tombstone, an allocation
 * and a grace period a connection to get right; under a lock it is a comparison. Acceptors and
 * closers meet at a lock only for a few loads, once a connection, and never park there.
 *
 * One that child processes share is a row of seats under a lock of its own, in memory that all of
 * them have: there are as many connections as children, and to walk these costs less than a fork.
 *
 * The whole address counts, of IPv6 too: an office or a host of many tenants has one /64, and to
 * lock all of them out for one is the graver mistake.
 *
 * Threads: enter, move and leave any; create and destroy before and after these.
 * Owns:    its entries.
 * Blocks:  for another's few loads.
 */
#ifndef WEIR_CROWD_H
#define WEIR_CROWD_H

#include "engine/net/cidr.h"

#include <stddef.h>
#include <stdint.h>

struct crowd;
struct crowd_guest;

/* limit: for each address; expected: addresses at a time, roughly. 0 or -ENOMEM. */
int crowd_create(uint32_t limit, size_t expected, struct crowd **ret);

/* One for this process and its children, which has `seats` entries. Returns 0 or -ENOMEM. */
int crowd_create_shared(uint32_t limit, size_t seats, struct crowd **ret);

/*
 * In a child, for a shared crowd: a connection that leaves is not counted any more, but its seat
 * stays the parent's, which leaves it when it sees that the child is done.
 */
void crowd_leave_to_parent(struct crowd *crowd);

void crowd_destroy(struct crowd *crowd);    /* NULL is fine; everybody has left */

/* One more for this host: 0, and a seat to be left once; -EUSERS it has its limit; -ENOMEM. */
int crowd_enter(struct crowd *crowd, const struct cidr *host, struct crowd_guest **ret);
void crowd_leave(struct crowd *crowd, struct crowd_guest *guest);

/*
 * As crowd_enter, for a guest that may have a seat already (*guest, or NULL): it leaves that one.
 * But a seat in a shared crowd stays the same and becomes the new host's, so that the parent need
 * not hear of it; and if that fails it is left alone. host: NULL for a guest without an address,
 * which is not counted. *guest may be NULL afterwards.
 */
int crowd_move(struct crowd *crowd, const struct cidr *host, struct crowd_guest **guest);

#endif
