/*
 * listening.h - a listener as its acceptor watches it: its state, and how that changes.
 *
 * Threads: the acceptor's while it runs, else the server's, one call at a time.
 * Owns:    the listener or socket, its receiver and its side door.
 * Blocks:  take_back and close, as side_door_shut and receiver_destroy do.
 *
 * Its state says who looks for clients, or datagrams, that come by it:
 *
 *   state      who looks             leaves by
 *   CHILDRENS  the children of       listening_watch          -> WATCHED
 *              WEIR_PREFORK; at      listening_share          -> ASIDE
 *              first nobody          listening_give_to_pool   -> POOLS
 *   WATCHED    the acceptor's set,   listening_call           -> READY    its edge: somebody waits
 *              edge-triggered        listening_lend           -> LENT     this is a rush
 *                                    listening_rest           -> RESTING
 *   READY      the acceptor, which   listening_run_dry        -> WATCHED  accept(2) found nobody;
 *              accepts a batch each                           or ASIDE    ... of a shared one
 *              turn                  listening_lend           -> LENT     this is a rush
 *                                    listening_rest           -> RESTING  no room, or a shortage
 *   RESTING    nobody, until         listening_wake           -> READY    room was made, or the
 *              until_ms                                       or ASIDE    moment has passed
 *   LENT       the workers           listening_take_back      -> WATCHED  the rush is over, or a
 *              (side_door.h)                                  or READY    worker has shut the door;
 *                                                                         ... of a shared one
 *                                    listening_call           -> READY    a shared one: the parent
 *                                                                         says: look
 *   ASIDE      other processes       listening_stand_in_line  -> IN_LINE  the acceptor will sleep
 *                                    listening_call           -> READY    the parent says: look
 *                                    listening_lend           -> LENT     this is a rush
 *                                    listening_rest           -> RESTING
 *   IN_LINE    whichever process is  listening_call           -> READY    this process was first,
 *              the first in line                              and has left the line
 *                                    listening_leave_line     -> ASIDE    the run is over
 *                                    listening_rest           -> RESTING  before it is called, or
 *                                                             the others have to look
 *   POOLS      a worker              listening_deafen         -> DEAF     it could not receive
 *              (receiver.h)
 *   DEAF       nobody, until         listening_hear           -> POOLS
 *              until_ms
 *   CLOSED     nobody
 *
 * Every state but CLOSED leaves by listening_close. No client is forgotten whose edge comes while
 * the listener rests or is lent: READY begins with accept(2), and ASIDE and LENT are left for that
 * or for a new registration in the set, at which the kernel tells at once of who waits already.
 */
#ifndef WEIR_LISTENING_H
#define WEIR_LISTENING_H

#include "engine/net/endpoint.h"
#include "engine/net/listener.h"
#include "engine/pool/lending.h"
#include "engine/pool/receiver.h"

#include <stdbool.h>
#include <stdint.h>

enum listening_state {
    LISTENING_CHILDRENS, LISTENING_WATCHED, LISTENING_READY, LISTENING_RESTING, LISTENING_LENT,
    LISTENING_ASIDE, LISTENING_IN_LINE, LISTENING_POOLS, LISTENING_DEAF, LISTENING_CLOSED,
};

struct listening {
    struct listener listener;
    const struct endpoint *endpoint;    /* of what comes by it */
    int epoll_fd;                       /* the acceptor's set */
    uint64_t token;                     /* ... and what it is called there */
    enum listening_state state;
    bool shared;                        /* other processes accept from it: it began ASIDE */
    bool unheeded;                      /* it was called IN_LINE, or a worker may have been for it
                                           LENT, and nobody was accepted since */
    bool paused;                        /* max_queued wait, and nobody was accepted since */
    uint64_t until_ms;                  /* RESTING and DEAF: how long */
    uint64_t deaf_ms;                   /* when it was deafened last; 0: never */
    struct receiver *receiver;          /* POOLS and DEAF; else NULL */
    struct lending lending;             /* of its door, which is kept */
};

/* CHILDRENS. The listener is the caller's until one of the three that follow has returned 0. */
void listening_init(struct listening *listening, const struct listener *listener,
                    const struct endpoint *endpoint, int epoll_fd, uint64_t token);
int listening_watch(struct listening *listening);   /* 0 or -errno: still CHILDRENS */
void listening_share(struct listening *listening);
int listening_give_to_pool(struct listening *listening, struct crew *crew,
                           const struct receiver_config *config);   /* as listening_watch */

/* Closes it. The side door stays, for a worker may hold its token until its thread has ended. */
void listening_close(struct listening *listening);
void listening_fini(struct listening *listening);   /* once they have; CLOSED */

/* Somebody may wait there. Nothing happens where it isn't the acceptor's to look. */
void listening_call(struct listening *listening);

/* READY: a client was accepted; or accept(2) says that nobody waits any more. */
void listening_note_client(struct listening *listening);
void listening_run_dry(struct listening *listening);

/* From WATCHED, READY, ASIDE and IN_LINE, or for another while; in other states nothing happens. */
void listening_rest(struct listening *listening, uint64_t until_ms);
void listening_wake(struct listening *listening);   /* RESTING */

/* READY, WATCHED or ASIDE: 0, or -errno and it stays so. */
int listening_lend(struct listening *listening, struct crew *crew,
                   const struct side_door_config *config, uint64_t now_ms);
/* LENT. If the kernel has no memory for it, it stays LENT, to nobody, and is due at once again. */
void listening_take_back(struct listening *listening);

/* ASIDE: 0, or -errno and it stays ASIDE. */
int listening_stand_in_line(struct listening *listening);
void listening_leave_line(struct listening *listening); /* IN_LINE */

/* Returns true if the kernel may have called this process alone for somebody who waits there. */
bool listening_may_be_called(const struct listening *listening);

/* POOLS or DEAF. Returns false if it was deaf a moment ago, too: everything has been said. */
bool listening_deafen(struct listening *listening, uint64_t until_ms, uint64_t now_ms);
void listening_hear(struct listening *listening);       /* DEAF */

/* When its state asks for a look: at RESTING, DEAF and LENT; else CLOCK_NEVER. */
uint64_t listening_due_ms(const struct listening *listening);

/*
 * 1: a client waits; 0: none does; or -errno: it can't be told. accept(2) can't tell, with neither
 * room nor descriptors.
 */
int listening_count_waiting(const struct listening *listening);

#endif
