/*
 * acceptor_parts.h - the acceptor as its own files see it; acceptor.h is what the server does.
 *
 *   acceptor.c    its begin and end, and its loop
 *   accepting.c   the next client: accepted, and let in, turned away, or held
 *   resting.c     when nothing is accepted for a while
 *   line.c        in line with other processes, where listeners are shared
 *   lender.c      listeners that are lent to the workers
 *
 * Threads: the acceptor's.
 */
#ifndef WEIR_ACCEPTOR_PARTS_H
#define WEIR_ACCEPTOR_PARTS_H

#include "engine/accept/acceptor.h"

/* For want of descriptors or memory: nothing is accepted for so long, or until a close. */
#define ACCEPTOR_REST_MS 50

/* Tokens of the acceptor's set: the listeners count on from here. */
enum { ACCEPTOR_TOKEN_LISTENER = 6 };

int acceptor_watch(struct acceptor *acceptor, int fd, uint32_t events, uint64_t token);
bool acceptor_is_stopping(const struct acceptor *acceptor);

/* ------------------------------------------------------------------ accepting.c ------- */

bool acceptor_holds_one(const struct acceptor *acceptor);

/* Tries again to have it served who is held; it is held again, if that can't be. */
void acceptor_admit_held(struct acceptor *acceptor, int stop_fd);
void acceptor_refuse_held(struct acceptor *acceptor);

/* In a child of ours, which has it, too: closes its descriptor, and says nothing. */
void acceptor_leave_held(struct acceptor *acceptor);

/* Returns how many were admitted. */
unsigned acceptor_accept_batch(struct acceptor *acceptor, struct listening *listening);

/* ------------------------------------------------------------------ resting.c --------- */

/* Does anybody wait there? With neither room nor descriptors accept(2) can't tell. */
bool acceptor_has_waiting(const struct listening *listening);

/* Nothing more now: until a connection is closed, or in a moment. */
void acceptor_rest_for_room(struct acceptor *acceptor, uint64_t until_ms);
void acceptor_rest_while_full(struct acceptor *acceptor, const struct listening *listening);
void acceptor_rest_for_shortage(struct acceptor *acceptor, const struct listening *listening,
                                int error);
void acceptor_rest_for_somebody(struct acceptor *acceptor);

/* Of accepting that fails the acceptor knows by itself: see acceptor_rest_for_shortage. */
void acceptor_note_failures(struct acceptor *acceptor, uint64_t now_ms);

/* Those that could not receive try again, once it is time. */
void acceptor_kick_deaf(struct acceptor *acceptor, uint64_t now_ms);

/* ------------------------------------------------------------------ line.c ------------ */

void acceptor_stand_in_lines(struct acceptor *acceptor);
void acceptor_leave_line(struct acceptor *acceptor, struct listening *listening);
void acceptor_leave_lines(struct acceptor *acceptor);

/* While it is full, and nothing tells whether the others are, too, and somebody waits. */
void acceptor_rest_out_of_line(struct acceptor *acceptor);

/* ------------------------------------------------------------------ lender.c ---------- */

/* The i-th listener has admitted so many: it is lent if that is a rush. */
void acceptor_lend_if_due(struct acceptor *acceptor, size_t i, unsigned admitted, uint64_t now_ms);
void acceptor_take_all_back(struct acceptor *acceptor);
void acceptor_look_after_lent(struct acceptor *acceptor, uint64_t now_ms);

#endif
