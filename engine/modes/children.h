/*
 * children.h - child processes as their parent sees them: the end of each is an event.
 *
 * Every child has a pidfd, and all pidfds are in one epoll set, which is readable once a child has
 * ended. So nobody else's child is reaped, and nobody else's process is killed. Before the fork
 * the parent opens a descriptor, whose number the pidfd then gets: so it forks no child whose end
 * it could not see.
 *
 * All of these calls are the parent's, but for the one whose name ends in _in_child.
 *
 * Threads: one at a time: the mixin holds its lock around them, over the fork too.
 *          children_open, children_close and children_each_event before, after or beside that.
 * Owns:    the epoll set, the reserved descriptor, and the pidfds.
 * Blocks:  children_abandon, for a second at most.
 */
#ifndef WEIR_CHILDREN_H
#define WEIR_CHILDREN_H

#include "engine/modes/mixin.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct children {
    int ended_fd;               /* the epoll set: readable once a child has ended */
    int reserved_fd;            /* its number is the next pidfd's; -1: none is reserved */
};

struct child {
    pid_t pid;
    int pidfd;                  /* -1: it has none */
};

/* 0, or -errno and nothing is open. */
int children_open(struct children *children);
void children_close(struct children *children);

/* Another descriptor whose readiness is an event of the set. 0 or -errno. */
int children_add_event(struct children *children, int fd, uint64_t token);

/* Before a fork: 0, or -errno: no descriptor can be had. One that is reserved already stays. */
int children_reserve_fd(struct children *children);

/* After a fork: its end is an event with this token. 0, or -errno, and it has no pidfd. */
int children_watch(struct children *children, pid_t pid, uint64_t token, struct child *ret_child);

/* Calls fn with the token of each event that has come, up to a bound; the others come again. */
void children_each_event(struct children *children, void (*fn)(void *arg, uint64_t token),
                         void *arg);

/* True: it has ended, with this status as of wait(2), and has no pidfd any more. */
bool children_reap(struct children *children, struct child *child, int *ret_status);

/*
 * Ends by force a child that was cancelled and still runs, and says so. peer and handler may be "".
 */
void children_kill(const struct child *child, const char *peer, const char *handler);

/* Ends by force a child without a pidfd that has begun nothing, and reaps it. */
void children_abandon(pid_t pid);

/* A child has died of error (-ECHILD: unknown): says so on standard error, and to handle_error. */
void children_tell_death(const struct mixin_config *config, pid_t pid, int status, int error,
                         const char *peer, const char *handler);

/* In a new child: closes what tells of its parent's children. The caller closes their pidfds. */
void children_leave_in_child(const struct children *children);

#endif
