/*
 * deadlock.h - with WEIR_CHECK=1, waits that wait for each other.
 *
 * Each wait that nothing but a hand-over ends, for something that somebody has, is noted. Before it
 * begins it is followed: who has that, what that one waits for, and so on. If that leads back to
 * who is about to wait, nobody on the way can go on, and the program ends with a line that names
 * each lock, and who has it.
 *
 * Threads: any.
 * Owns:    the list of the notes, which are on the stacks of who waits.
 * Blocks:  for as long as another thread looks.
 */
#ifndef WEIR_DEADLOCK_H
#define WEIR_DEADLOCK_H

#include "engine/share/wait_list.h"

struct deadlock_note {
    const struct wait_list *list;
    const struct wait_entry *entry;
    struct deadlock_note *next;
};

/* Before the wait, outside of the guard, and behind it. */
void deadlock_note(struct deadlock_note *note);
void deadlock_forget(const struct deadlock_note *note);

#endif
