/*
 * acceptor.h - a thread that accepts: its listeners, and when it rests.
 *
 * Edge-triggered: a listener that is ready stays so until accept says that there is no more
 * (listening.h has the states). It is served in bounded batches, in turn with the others. It rests
 * until a connection is closed or a moment has passed, and the kernel's backlog holds the clients
 * back: when its quota is used up those rest that share it, when descriptors or memory are, all of
 * them. So they rest, too, when the mixin can have nobody to serve a client: that one is held
 * meanwhile, and is the next.
 *
 * Threads: init, fini, open and close by the server; run by the accepting thread; stop from any,
 *          and from signal handlers.
 * Owns:    its listeners.
 * Blocks:  run, in epoll_wait.
 */
#ifndef WEIR_ACCEPTOR_H
#define WEIR_ACCEPTOR_H

#include "engine/accept/housekeeping.h"
#include "engine/accept/listening.h"
#include "engine/base/tally.h"
#include "engine/modes/mixin.h"
#include "engine/net/admission.h"
#include "engine/net/endpoint.h"
#include "engine/pool/packet.h"
#include "engine/pool/pool.h"
#include "engine/weir.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How long a listener rests where no close tells of room: descriptors and memory have none. */
#define ACCEPTOR_REST_MS 50

/* What all acceptors of a server share. */
struct acceptor_config {
    struct admission admission;
    struct mixin *mixin;        /* serves what is accepted */
    bool shared;                /* other processes accept from the same listeners */
    int others_fd;              /* shared: eventfd that has all of them look for clients */
    struct housekeeping_config housekeeping;
};

/* Accepted, while the mixin can't have a thread or child for it. */
struct held {
    struct accepted accepted;   /* its endpoint is NULL: nobody is held */
    struct sockaddr_storage peer;
    uint64_t again_ms;          /* not to be tried before; 0: at once */
};

struct acceptor {
    const struct acceptor_config *config;
    struct pool *pool;
    bool first;                 /* the one that keeps house */
    const struct acceptor *outer;   /* in whose hook or handler it runs, on the same thread */
    int epoll_fd;
    int stop_fd;                /* eventfd */
    int call_fd;                /* eventfd: a worker has shut a side door, or acceptor_look */
    struct listening *listening;
    size_t listening_len;
    struct packet_tray *tray;   /* where it receives datagrams itself; NULL: it never has */
    struct buffers packets;
    struct housekeeping housekeeping;   /* the first one's */
    struct held held;           /* the running thread's; else the server's, as its listeners are */
    bool complained;            /* of this shortage */
    _Atomic bool stopping;
    struct tally tally;
};

/* 0 or -errno. fini closes the listeners. */
int acceptor_init(struct acceptor *acceptor, const struct acceptor_config *config,
                  struct pool *pool, bool first);
void acceptor_fini(struct acceptor *acceptor);

/*
 * Takes over an open listener; what comes by it is the endpoint's, which outlives the acceptor. 0,
 * or -errno and the listener is still the caller's.
 */
int acceptor_add(struct acceptor *acceptor, const struct listener *listener,
                 const struct endpoint *endpoint);

/*
 * Closes what listens, and refuses who is held; and the datagram sockets, once no reply is to leave
 * by them and no worker runs.
 */
void acceptor_close_listeners(struct acceptor *acceptor);
void acceptor_close_sockets(struct acceptor *acceptor);

/* Closes and forgets them. Nothing has been accepted yet. */
void acceptor_drop_listeners(struct acceptor *acceptor);

/* In a forked copy: the held client stays the other process's, which may have been changing it. */
void acceptor_forget_held(struct acceptor *acceptor);

/* In a forked child: closes its descriptors of everything that accepts, and nothing else. */
void acceptor_leave_to_parent(struct acceptor *acceptor);

/*
 * Outside of a run: accepts one client of the i-th listener and gives it to the mixin, or refuses
 * it: 1; or -errno (-EAGAIN: none waits; -EUSERS: no place is free for it). The caller is in a
 * reclaim thread.
 */
int acceptor_admit_one(struct acceptor *acceptor, size_t i);

/* The same with who is held, and has a place. Returns true if somebody was. */
bool acceptor_admit_held_one(struct acceptor *acceptor);

/*
 * The same with who is held, and with those who wait in the backlogs and have asked, as far as
 * there is room: a listener that is closed resets them, unless it is kept elsewhere. It ends
 * however many come meanwhile.
 */
void acceptor_admit_waiting(struct acceptor *acceptor);

/*
 * After the last run, where listeners are shared: of each one client for whom the kernel may have
 * called this process, and nobody else.
 */
void acceptor_admit_called(struct acceptor *acceptor);

/*
 * Who kept its listeners: take_over: those that the endpoint says were taken over are ours alone;
 * hand_on: all are kept elsewhere, too. is_followed: returns true if any stream's is.
 */
void acceptor_take_over(struct acceptor *acceptor);
void acceptor_hand_on(struct acceptor *acceptor);
bool acceptor_is_followed(const struct acceptor *acceptor);

/*
 * Accepts until it is stopped. What it takes is there once acceptor_prepare has returned 0, not
 * -errno; acceptor_give_up: there will be no run after all.
 */
int acceptor_prepare(struct acceptor *acceptor);
void acceptor_give_up(struct acceptor *acceptor);
void acceptor_run(struct acceptor *acceptor);

/* Makes the run that is on, or the next one, return. */
void acceptor_stop(struct acceptor *acceptor);

/* The same before any run, and in this process alone. */
void acceptor_stop_here(struct acceptor *acceptor);

/* Where listeners are shared: a process that was called for a client may have died. Any thread. */
void acceptor_look(struct acceptor *acceptor);

/* Before a run: takes a stop back that nobody has obeyed yet. */
void acceptor_forget_stop(struct acceptor *acceptor);

/* The acceptor whose run the calling thread is in, the innermost of several, or NULL. */
const struct acceptor *acceptor_self(void);

#endif
