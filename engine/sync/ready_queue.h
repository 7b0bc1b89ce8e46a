/*
 * ready_queue.h - hands ready connections to whichever worker is free.
 *
 * Threads: push from any thread; pop from any thread (the workers).
 * Owns:    its slots, not the connections: push gives a connection to the queue, pop gives it to
 *          the caller. Nobody else may touch it in between.
 * Order:   first in, first out. What the pusher wrote to the connection before push is visible
 *          to the popper after pop.
 * Blocks:  never, and it is lock-free at both ends: a thread that is stopped half-way through
 *          push or pop holds up nobody, because the next caller completes its step.
 * Allocates: only in init.
 *
 * Exclusion the caller provides (X):      push  pop  empty  len  init, fini
 *                                   push   -     -     -     -       X
 *                                   pop    -     -     -     -       X
 *                                   empty  -     -     -     -       X
 *                                   len    -     -     -     -       X
 *
 * How it works, after Shann, Huang and Chen, "A practical nonblocking queue algorithm using
 * compare-and-swap" (2000). Positions count up from 0 for ever. Position p lives in slot
 * p mod capacity, and it is there in lap p / capacity. A slot is one word that says both what is in
 * it and in which lap, so that one compare-and-swap decides everything:
 *
 *     word             means, for the position of lap n             next step
 *     (nothing, n)     it is free                                   push -> (connection, n)
 *     (connection, n)  it is taken                                  pop  -> (nothing, n + 1)
 *     (nothing, n + 1) it is over; the next lap's position is free
 *
 * `tail` and `head` merely tell where to look. They trail the slots by at most one position, and
 * anybody who finds a slot done already moves them on.
 *
 * What wraps: a position never does (64 bits), a lap is kept modulo 2^22, all that an address
 * leaves free in a word. It could only matter to a thread that reads a slot, sleeps while
 * the others go round 2^22 times (17 billion hand-offs with 4096 slots), and wakes in the
 * very lap, one in four million, that wears the same number. Even then no connection is lost or
 * doubled: its push lands in front of its turn and is found once the tail has got there.
 */
#ifndef WEIR_READY_QUEUE_H
#define WEIR_READY_QUEUE_H

#include "engine/base/compiler.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct connection;

/*
 * A connection's address must be a multiple of this, and below 2^48 as every address is that
 * Linux hands out unasked. (Leak checkers do not recognise the address in a slot: something else
 * has to refer to queued connections. The connection table does.)
 */
#define READY_QUEUE_ALIGNMENT 64

/* Producers and consumers each have a line of their own; the third one is only ever read. */
struct ready_queue {
    _Alignas(WEIR_CACHE_LINE) _Atomic uint64_t tail;   /* the position that the next push tries */
    _Alignas(WEIR_CACHE_LINE) _Atomic uint64_t head;   /* the position that the next pop tries */
    _Alignas(WEIR_CACHE_LINE) _Atomic uint64_t *slots;
    uint64_t mask;                       /* capacity - 1 */
    uint32_t lap_shift;                  /* log2(capacity) */
};

/*
 * ready_queue_init makes an empty queue of at least capacity slots (the next power of two), eight
 * bytes each; pages of slots that no connection has passed through yet take no memory.
 * Returns 0, -EINVAL for a capacity of 0 or above 2^40, or -ENOMEM.
 */
int ready_queue_init(struct ready_queue *queue, size_t capacity);

/* ready_queue_fini frees the slots. What is still queued stays its owner's to free. */
void ready_queue_fini(struct ready_queue *queue);

/*
 * ready_queue_push appends. Returns false if the queue is full. That cannot happen as long as
 * there are no more connections than slots and none is in the queue twice.
 */
bool ready_queue_push(struct ready_queue *queue, struct connection *conn);

/* ready_queue_pop takes the oldest connection; NULL means that for an instant there was none. */
struct connection *ready_queue_pop(struct ready_queue *queue);

/*
 * ready_queue_empty tells whether a pop would find nothing. Before falling asleep a worker says
 * that it sleeps, makes a seq_cst fence and asks; the pusher makes a seq_cst fence and then
 * looks for sleepers. If the pusher saw no sleeper, then the worker sees its connection, unless
 * that has been popped already. Without the fences the answer is a hint.
 */
bool ready_queue_empty(const struct ready_queue *queue);

/* ready_queue_len counts what is queued: a hint, for statistics; exact while all is quiet. */
size_t ready_queue_len(const struct ready_queue *queue);

#endif
