/*
 * housekeeping.h - what has to be done by the clock, besides accepting: the pool's tick while
 * somebody is busy, the sweep of idle connections, service_actions, children that are overdue.
 *
 * Threads: the first acceptor's.
 * Owns:    nothing.
 * Blocks:  as service_actions does.
 */
#ifndef WEIR_HOUSEKEEPING_H
#define WEIR_HOUSEKEEPING_H

#include "engine/modes/mixin.h"
#include "engine/pool/pool.h"
#include "engine/weir.h"

#include <stdbool.h>
#include <stdint.h>

struct housekeeping_config {
    struct weir_server *server;
    uint32_t poll_interval_ms;
    uint32_t shortest_idle_ms;   /* the shortest of all endpoints; 0: none has any */
    void (*service_actions)(struct weir_server *server);
};

struct housekeeping {
    const struct housekeeping_config *config;
    struct mixin *mixin;
    struct pool *pool;
    bool ticking;
    unsigned quiet_ticks;
    uint64_t tick_at_ms;        /* each: 0 for as soon as may be */
    uint64_t service_at_ms;
    uint64_t sweep_at_ms;
};

void housekeeping_init(struct housekeeping *housekeeping, const struct housekeeping_config *config,
                       struct mixin *mixin, struct pool *pool);

/* Somebody is busy: from now on it ticks, until nobody has been for a while. */
void housekeeping_begin_ticking(struct housekeeping *housekeeping);

/* Does what is due. True: a worker is stuck whose work others might do. */
bool housekeeping_do(struct housekeeping *housekeeping, uint64_t now_ms);

/* When there is something to do again; CLOCK_NEVER. */
uint64_t housekeeping_next_ms(const struct housekeeping *housekeeping);

#endif
