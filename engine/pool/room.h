/*
 * room.h - silent connections end to make room, once a quota is used up and others wait.
 *
 * Whoever finds it used up asks. The longest idle go first, some at a time; and where none is idle,
 * those go that have kept their handlers waiting for the longest time, if their requests have a
 * request_timeout_ms: room.c says what counts. To find them the table of connections is walked: for
 * each quota no more often than every 10 ms, and so that walking takes at most a tenth of the time.
 *
 * Threads: any, between reclaim_thread_init and _fini.
 * Owns:    nothing: what it claims belongs to the ready queue.
 * Blocks:  never.
 */
#ifndef WEIR_ROOM_H
#define WEIR_ROOM_H

#include "engine/pool/crew.h"

/*
 * Puts idle connections of the quota (NULL: of whichever) into the ready queue, to be ended unless
 * a request has come meanwhile, and ends the waits of handlers (see request_wait). Returns how many
 * of both: 0 if there is none, or it is too soon. Without workers' threads it does nothing: a
 * thread that keeps a connection waits for it.
 */
unsigned room_make(struct crew *crew, struct quota *quota);

/*
 * How long a client may keep others waiting, who wait now: this notes that they do. For room_make,
 * and for tests/orders.
 */
uint64_t room_silent_ms(struct quota_want *want, uint64_t now_ms);

/* When it may be asked again. */
uint64_t room_next_ms(const struct quota *quota);

#endif
