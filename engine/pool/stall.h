/*
 * stall.h - finds a handler that holds its worker, and says who it is, whom it serves and where.
 *
 * Threads: the one that ticks, for one worker at a time.
 * Blocks:  for two files of /proc, once in a stall.
 */
#ifndef WEIR_STALL_H
#define WEIR_STALL_H

#include "engine/pool/worker.h"

#include <stdbool.h>
#include <stdint.h>

struct stall_watch {
    uint64_t steps;             /* that were made, when somebody looked last */
    uint64_t since_ms;          /* as many as now */
    uint64_t asked_ms;          /* the worker is asked where it is; 0: it is not */
    bool told;
};

struct stall_config {
    uint32_t warn_ms;           /* 0: nobody is warned */
    bool explains;              /* says of one that waits in futex(2) what that may mean */
};

/* The worker sleeps, or is to end: it is in no handler. */
void stall_note_sleep(struct stall_watch *watch, uint64_t now_ms);

/* Looks whether it is still in the same handler as long ago. True: a stall has been told of. */
bool stall_look(struct stall_watch *watch, const struct stall_config *config,
                const struct worker *worker, uint64_t now_ms);

#endif
