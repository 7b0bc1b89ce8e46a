/*
 * check.h - what WEIR_CHECK=1 looks at around each turn of a handler, at a cost: what weir believes
 * of its own state, and what a handler may have done to what it shares with others.
 *
 * Each finding ends the program with a sentence (misuse_die).
 *
 * Threads: the one that the handler runs on.
 * Blocks:  never, except to write the last line.
 */
#ifndef WEIR_CHECK_H
#define WEIR_CHECK_H

struct task;
struct weir_request;

/* Before a handler's turn, and after it, while the request is still its own. */
void check_begin(const struct task *task);
void check_end(const struct weir_request *req);

#endif
