/*
 * prefork_child.h - the child's side of prefork: all of it runs in a child that was forked
 * beforehand, and nothing of it in the parent.
 *
 * Threads: the only one that the new child has.
 * Owns:    the guard, a thread that hears the parent's orders.
 * Blocks:  until the child ends.
 */
#ifndef WEIR_PREFORK_CHILD_H
#define WEIR_PREFORK_CHILD_H

#include "engine/modes/mixin.h"
#include "engine/modes/wire.h"

struct prefork_child {
    const struct mixin_config *config;
    struct wire wire;           /* its own */
    unsigned number;            /* from 0; the child that replaces it has the same */
    int parent_fd;              /* a pidfd of the parent */
    int others_fd;              /* eventfd: the parent is to have all children look for clients */
};

/* Serves until the parent orders it to stop, has the handlers end, and ends the process. */
_Noreturn void prefork_child_main(const struct prefork_child *child);

#endif
