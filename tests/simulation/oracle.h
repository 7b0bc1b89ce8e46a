/*
 * oracle.h - what must hold when all is quiet, and at the end.
 *
 * All is quiet when every thread of the engine waits, and every client does. Whatever is ready then
 * and is not seen to will not be, but by luck or by a tick that is there for stuck handlers:
 * that is a wake-up that was lost.
 *
 * Threads: one. Blocks: never.
 */
#ifndef WEIR_SIMULATION_ORACLE_H
#define WEIR_SIMULATION_ORACLE_H

#include "tests/simulation/scheduler.h"

#include <stdbool.h>
#include <stdint.h>

struct weir_server;

/* Behind a wait that was held up for so long the engine begins anew: REQUEST_HELD_MS. */
#define HELD_NS (100 * MS_NS)

/* What the oracle has to know of the run. */
struct oracle_view {
    bool serves;            /* clients that wait are accepted at once */
    bool is_ending;         /* a stop, a cancel: rules of their own hold */
    bool drains;            /* nobody is kept any more */
    bool cancelled;         /* nobody waits any more */
    bool starves;           /* memory or stacks may be wanting */
    bool spares;            /* a worker may wait on its own stack: it is not idle then */
    bool computes;          /* handlers hold their workers now and then ... */
    unsigned computing;     /* ... these just now: what waits behind them is for a tick to rescue */
    bool datagrams;         /* some come */
    uint32_t read_ms, write_ms, idle_ms, request_ms;    /* the server's timeouts, or 0 */
    bool lacks_threads;     /* now and then none can be had */
    const struct weir_server *server;   /* NULL: there is none, or none any more */
};

extern struct oracle_view oracle_view;

/* From now on workers find it. */
bool oracle_drain_is_seen(void);

/* For scheduler_on_quiet. */
void oracle_look(void);

#endif
