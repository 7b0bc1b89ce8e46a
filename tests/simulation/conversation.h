/*
 * conversation.h - one connection, as both of its ends and the oracle know it.
 *
 * Threads: one. Owns: nothing. Blocks: never.
 */
#ifndef WEIR_SIMULATION_CONVERSATION_H
#define WEIR_SIMULATION_CONVERSATION_H

#include <stdbool.h>
#include <stdint.h>

/* What the handler waits for, if it waits. */
enum phase {
    PHASE_NEW,              /* setup() has not been called */
    PHASE_BUSY,             /* nothing that a client or the kernel brings */
    PHASE_READ,
    PHASE_WRITE,
    PHASE_BOTH,             /* one fiber reads, another one writes: see reads and writes */
    PHASE_POLL,             /* its input */
    PHASE_EITHER,           /* input, or room if its last send has found none */
    PHASE_IDLE,             /* handle() said WEIR_KEEP */
    PHASE_OVER,             /* it has returned for the last time */
};

struct conversation {
    unsigned number;
    enum phase phase;
    uint64_t phase_since_ns, phase_held_ns; /* and what had been held before (scheduler.h) */
    bool reads, writes;     /* of PHASE_BOTH: a fiber is in a read, and in a write */
    bool client_first;      /* it is not begun before there is input */
    int status;             /* what finish() was given, or the error that a call has told */
    bool timed_out, cancelled, failed;      /* ... and what for */
    bool turned_away;       /* nobody has begun it */
    unsigned setups, finishes;
    uint64_t idle_since_ns;
    uint64_t handled_since_ns, handled_held_ns;     /* when handle() was called last, or 0 */
    uint64_t handled_late_ns;   /* ... after it may have been held up for so long before */
    bool was_told_to_end;   /* ... and has done so, then: */
    uint64_t ended_ns;
    bool was_last;          /* a drain has been seen at the end of handle() */
    void *client;
};

#endif
