/*
 * handler.h - the simulated server's handler: it waits in every call there is, and checks what the
 * call promises (language.h says what it is told to do).
 *
 * Threads: the engine's. Owns: nothing. Blocks: it parks.
 */
#ifndef WEIR_SIMULATION_HANDLER_H
#define WEIR_SIMULATION_HANDLER_H

#include "engine/weir.h"

#include <stdint.h>

/* What deadlines the server has, for the handler to check. */
struct handler_deadlines {
    uint32_t read_ms, write_ms, request_ms, head_ms, progress_ms;
    uint32_t rest_ms;       /* ... which a read may have outlived before handle() is called */
    uint32_t grain_ms;      /* how much later than said a wait may end */
};

extern struct handler_deadlines handler_deadlines;

extern struct weir_handler handler_lines;
extern struct weir_handler handler_datagrams;       /* each of them a line */

/* How many requests have been answered. */
extern uint64_t handler_requests;

#endif
