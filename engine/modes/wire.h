/*
 * wire.h - what a child that was forked beforehand and its parent tell each other.
 *
 * They share a page of memory: orders go down in it, statistics and what the child does come up.
 * Eventfds say that something was written: each child's own for orders, and two that all children
 * share for what comes up. A child is asked for its statistics; it does not publish them, so that
 * an idle child sleeps.
 *
 * Calls that begin with wire_child_ are the child's, all others the parent's.
 *
 * Threads: the parent's under its lock, but for wire_has_stopped and wire_accepts, for any thread;
 *          the child's one at a time.
 * Owns:    the page and the eventfd for orders. The other two are the mixin's.
 * Blocks:  wire_child_may_begin, until the parent has an order or has ended.
 */
#ifndef WEIR_WIRE_H
#define WEIR_WIRE_H

#include "engine/pool/roll.h"
#include "engine/weir.h"

#include <stdbool.h>
#include <stdint.h>

struct wire_page;

struct wire {
    struct wire_page *page;
    int order_fd;               /* eventfd: the parent has written to the page */
    int answer_fd;              /* eventfd of all children: one has answered */
    int said_fd;                /* eventfd of all children: one accepts now, or has stopped */
};

/* ------------------------------------------------------------------ the parent's ------ */

/* 0, or -errno and nothing is open. */
int wire_open(struct wire *wire, int answer_fd, int said_fd);
void wire_close(const struct wire *wire);

/*
 * Orders: begin; accept nothing more, drain and end, while others may go on (followed); look at all
 * listeners for clients.
 */
void wire_order_begin(const struct wire *wire);
void wire_order_stop(const struct wire *wire, bool followed);
void wire_order_look(const struct wire *wire);

/* Statistics: asked for, if no question is open, and what the child has answered last. */
void wire_ask(const struct wire *wire);
bool wire_is_answered(const struct wire *wire);
const struct weir_stats *wire_last_answer(const struct wire *wire);

/*
 * The same with the child's roll, of WIRE_ROLL_MAX entries at most. It may be added once it is
 * answered, and until it is asked for again.
 */
#define WIRE_ROLL_MAX 8192
void wire_ask_roll(const struct wire *wire);
bool wire_roll_is_answered(const struct wire *wire);
void wire_add_roll(const struct wire *wire, struct roll *roll);

/* What the child has said. Why it could not serve: -errno; 0: it has not said that. */
bool wire_accepts(const struct wire *wire);
bool wire_has_stopped(const struct wire *wire);
int wire_error(const struct wire *wire);

/* ------------------------------------------------------------------ the child's ------- */

/* Waits for the first order. True: to begin. False: to stop, or the parent has ended. */
bool wire_child_may_begin(const struct wire *wire, int parent_fd);

struct wire_orders {
    bool stop;
    bool look;
    bool answer;
    bool roll;
};

/* What the parent has ordered since the last call; a stop once more each time. */
struct wire_orders wire_child_hear(const struct wire *wire);

/* Returns true if others go on accepting when this child has been told to stop. */
bool wire_child_is_followed(const struct wire *wire);

/* An answer, whether it was asked for or not: where it is to be written, and that it is. */
struct weir_stats *wire_child_begin_answer(const struct wire *wire);
void wire_child_send_answer(const struct wire *wire);

/* The same of a roll, only after it has been asked for. */
void wire_child_begin_roll(const struct wire *wire, struct roll *ret_roll);
void wire_child_send_roll(const struct wire *wire, const struct roll *roll);

void wire_child_say_accepts(const struct wire *wire);
void wire_child_say_stopped(const struct wire *wire);
void wire_child_say_error(const struct wire *wire, int error);

#endif
