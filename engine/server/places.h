/*
 * places.h - how many places for connections the limit of descriptors leaves a server.
 *
 * It is shared out twice: when the options are read, by what a server is reckoned to open; and
 * once its sockets are bound, by the descriptors that are free then and what is still to be opened.
 * places.c has the table of what a server spends descriptors on.
 *
 * Threads: any.
 * Owns:    nothing.
 */
#ifndef WEIR_PLACES_H
#define WEIR_PLACES_H

#include "engine/net/quota.h"
#include "engine/weir.h"

#include <stddef.h>
#include <stdint.h>

/*
 * Completes max_connections of options that are complete else: as many as the soft limit allows
 * where the program has not said, and no more than the hard limit allows, beyond which nobody can
 * be accepted. Returns 0; or -EMFILE and the reason in why: no place is left.
 */
int places_reckon(struct weir_options *options, char *why, size_t why_size);

/*
 * Returns what max_connections of options that were read is due to, for people: the program that
 * said so, or a limit of the system's.
 */
const char *places_limit(const struct weir_options *said, const struct weir_options *read);

/*
 * Lowers the server's quota to what is left beside `aside` places that listeners have of their own.
 * All sockets are bound; whoever else takes places of the quota waits for the caller. Returns 0; or
 * -EMFILE and the reason in why: nothing is left; or the -errno of poll(2).
 */
int places_settle(const struct weir_options *options, struct quota *quota, uint64_t aside,
                  char *why, size_t why_size);

#endif
