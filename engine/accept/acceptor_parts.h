/*
 * acceptor_parts.h - the acceptor as its own files see it; acceptor.h is what the server does.
 *
 *   acceptor.c    its begin and end, and its loop
 *   accepting.c   the next client: accepted, and let in, turned away, or held
 *   resting.c     which listeners rest, and until when
 *   line.c        in line with other processes, where listeners are shared
 *   lender.c      listeners that are lent to the workers
 *
 * Threads: the acceptor's.
 */
#ifndef WEIR_ACCEPTOR_PARTS_H
#define WEIR_ACCEPTOR_PARTS_H

#include "engine/accept/acceptor.h"

/* ------------------------------------------------------------------ accepting.c ------- */

bool acceptor_holds_one(const struct acceptor *acceptor);

/* Tries again to have the held connection served; holds it again if that fails. */
void acceptor_admit_held(struct acceptor *acceptor, int stop_fd);
void acceptor_refuse_held(struct acceptor *acceptor);

/* In a child of ours, which has it, too: closes its descriptor, and says nothing. */
void acceptor_leave_held(struct acceptor *acceptor);

/* Returns how many were admitted. */
unsigned acceptor_accept_batch(struct acceptor *acceptor, struct listening *listening);

/* ------------------------------------------------------------------ resting.c --------- */

/* Listeners that share this quota rest until there is room, or until_ms. */
void acceptor_rest_for_room(struct acceptor *acceptor, struct quota *quota, uint64_t until_ms);

/* The same, where somebody waits at this endpoint: idle connections make room. */
void acceptor_rest_while_full(struct acceptor *acceptor, const struct endpoint *endpoint);

/* This one rests for a moment, if somebody waits: as many connections wait for a worker as may. */
void acceptor_rest_for_queue(struct acceptor *acceptor, struct listening *listening);

/* All listeners rest: the means to accept there, or to serve the held connection, are lacking. */
void acceptor_rest_for_shortage(struct acceptor *acceptor, const struct endpoint *endpoint,
                                int error);
void acceptor_rest_for_held(struct acceptor *acceptor);

/* A connection has been closed: those go on that have room. */
void acceptor_note_room(struct acceptor *acceptor);

/* Those go on whose moment has come, deaf sockets too. */
void acceptor_wake_in_time(struct acceptor *acceptor, uint64_t now_ms);

/* Sockets that the pool could not receive from rest, too: each by itself. */
void acceptor_note_failures(struct acceptor *acceptor, uint64_t now_ms);

/* ------------------------------------------------------------------ line.c ------------ */

void acceptor_stand_in_lines(struct acceptor *acceptor);
void acceptor_leave_lines(struct acceptor *acceptor);

/* They rest that are full: nothing tells whether the others are, too, and somebody waits. */
void acceptor_leave_full_lines(struct acceptor *acceptor);

/* ------------------------------------------------------------------ lender.c ---------- */

/* The listener has admitted `admitted` clients in this turn: it is lent if that is a rush. */
void acceptor_lend_if_due(struct acceptor *acceptor, struct listening *listening,
                          unsigned admitted, uint64_t now_ms);
void acceptor_take_all_back(struct acceptor *acceptor);
void acceptor_look_after_lent(struct acceptor *acceptor, uint64_t now_ms);

#endif
