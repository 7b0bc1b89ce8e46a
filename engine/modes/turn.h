/*
 * turn.h - a lock that is held while a handler runs, and that refuses a wait without an end.
 *
 * Two servers that serve one connection after another may submit to each other from their handlers:
 * each thread would wait for the other's turn. So a thread that is about to wait follows, from
 * holder to holder, what each of them waits for, and hears of it when the way leads back to itself.
 *
 * After a fork(2) the child may take a turn that nobody has in the parent. One that is held there
 * is held in the child for ever: its server is a copy, which nobody serves in the child.
 *
 * Threads: any, turn_give by the thread that took it; the calls about fork(2) by process.c.
 * Blocks:  turn_take, while another thread has the turn.
 */
#ifndef WEIR_TURN_H
#define WEIR_TURN_H

struct turn_taker;

struct turn {
    const struct turn_taker *holder;    /* NULL: nobody */
};

/* Returns 0, or -EDEADLK: its holder waits, by however many others, for the calling thread. */
int turn_take(struct turn *turn);
void turn_give(struct turn *turn);

/* Around any fork(2), so that the child can take a turn that nobody has in the parent. */
void turn_before_fork(void);
void turn_after_fork(void);
void turn_after_fork_in_child(void);

#endif
