/*
 * sharer.h - what handlers share with each other and with a thread of the program's own: a mutex,
 * a semaphore, a read-write lock, a condition. Who has something keeps it over other waits; who
 * waits gives up after a while. Never do two have what only one may have, and at the end everything
 * is there again.
 *
 * Threads: sharer_share a handler's; sharer_main one of the simulated, which the caller starts.
 * Owns:    nothing.
 * Blocks:  sharer_main, until it is told to stop.
 * Parks:   sharer_share.
 */
#ifndef WEIR_SIMULATION_SHARER_H
#define WEIR_SIMULATION_SHARER_H

#include "engine/weir.h"

#include <stdint.h>

/* One of them, for which and how long ms stands. 0, also if it was not to be had; -ECANCELED. */
int sharer_share(struct weir_request *req, uint32_t ms);

void *sharer_main(void *nothing);
void sharer_stop(void);

/* When all is quiet: nobody waits for what is there. */
void sharer_look_at_rest(void);

/* When nobody shares anything any more. */
void sharer_look(void);

#endif
