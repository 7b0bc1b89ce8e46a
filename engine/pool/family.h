/*
 * family.h - the fibers of one request: its handler's own and its children.
 *
 * A task that spawns becomes the main one of a family. A child is a task like any other, on a fiber
 * of the same worker; it begins inside of the call that spawns it, which returns when the child
 * first waits or has ended. A task ends only when the children that it has spawned have ended, so
 * the tasks of a family are a tree, and the main task outlives all of them.
 *
 * For one connection two of them may wait at a time, one for input and one for room. Its task
 * (conn->task) is the main one all along, also while only children wait, so that a thread that sees
 * an event can reach the worker by it at any time. Who waits, the worker's thread alone knows:
 *
 *   waiting  the state word           an event                              a deadline, a cancel
 *   none     RUNNING                  leaves the mark READY                 (finds nobody)
 *   some     PARKED                   -> RUNNING; its worker is told, and   one task leaves; the
 *                                     wakes all whom it concerns; for the   last one takes the word
 *                                     others the word is PARKED again       to RUNNING
 *   some     RUNNING: the message     leaves the mark READY                 nobody leaves: the
 *            is on its way                                                  message wakes all
 *
 * A second task that begins to wait leaves the word as it is: either it is PARKED, or the message
 * that is on its way wakes both. No event is lost by that, since the worker reads no message
 * between a task's try and its wait (tests/models/family.pml).
 *
 * Threads: the worker's.
 * Owns:    the records of the children, until they are joined.
 * Parks:   family_wait, family_join and family_end, until what they wait for has come.
 */
#ifndef WEIR_FAMILY_H
#define WEIR_FAMILY_H

#include "engine/base/compiler.h"
#include "engine/pool/connection.h"
#include "engine/pool/task.h"
#include "engine/weir.h"

#include <stdbool.h>
#include <stdint.h>

/* At a time, in one family. */
#define FAMILY_CHILDREN_MAX 65535

/* A child's record, which stays until it is joined. */
struct child {
    struct family *family;
    struct task *task;          /* on its fiber's stack; NULL: it has ended */
    struct task *parent;
    struct child *children;     /* its own, which it has not joined */
    struct child *next;         /* of its parent's children; or spare */
    struct child **link;        /* the pointer that points here; NULL: the record is spare */
    int (*fn)(struct weir_request *req, void *arg);
    struct weir_request *req;
    void *arg;
    int result;                 /* what fn has returned */
    int number;                 /* its slot, and above that how often the slot was used */
    bool awaited;               /* its parent waits in family_join */
};

struct family {
    struct task *main;
    struct task *here;          /* the one that runs or ran last; main, if that has ended */
    struct task *waiting;       /* for the main task's own connection: see family_wait */
    struct child *children;     /* the main task's */
    struct child **slots;       /* all records */
    unsigned slots_len;
    unsigned slots_size;
    struct child *spare;        /* records that no child has */
};

/* The task has a family from now on. 0 or -ENOMEM. */
int family_begin(struct task *task);

/*
 * Waits until the children of the main task have ended, and is no family any more. ends: their
 * waits are cancelled.
 */
void family_end(struct task *task, bool ends);

/*
 * A child of the task, which runs on its own fiber: fn(req, arg), to its first wait. Returns its
 * number, which is above 0; or -ENOMEM or -EAGAIN, and nothing has begun.
 */
int family_spawn(struct task *task, int (*fn)(struct weir_request *req, void *arg),
                 struct weir_request *req, void *arg);

/* Until a child has ended, or for 0 all that the task has spawned: weir_join's result. */
int family_join(struct task *task, int number);

/* The waits of all others end with -ECANCELED, those that they are in and those that follow. */
void family_cancel_others(struct task *task);

/* task_wait of a task that has a family, watched already. */
int family_wait(struct task *task, struct connection *conn, uint32_t events, uint64_t deadline_ms,
                enum connection_wait wait, uint64_t since);

/*
 * The connection was taken out of PARKED, by these events: whom they concern is made runnable. For
 * FAMILY_ANY_EVENT all who wait are.
 */
#define FAMILY_ANY_EVENT UINT32_MAX
void family_wake(struct connection *conn, uint32_t events);

/* All who wait for the connection, whose task may have no family, and then waits alone. */
static inline void family_wake_all(struct connection *conn)
{
    if (WEIR_UNLIKELY(conn->task->family))
        family_wake(conn, FAMILY_ANY_EVENT);
    else
        task_unpark(conn->task, 0);
}

/*
 * A task that waits for a connection is to leave that wait. False: an event has come first, and the
 * message that says so is on its way.
 */
bool family_leave(struct task *task);

#endif
