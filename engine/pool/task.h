/*
 * task.h - a handler at work, and its waits.
 *
 * A task lives on its fiber's stack from the call of crew->serve to its return, and stays with
 * one worker. Waiting parks the fiber: the worker runs others meanwhile. A task on the worker's
 * own stack (WEIR_STACK_THREAD) really blocks. A wait from elsewhere than the task's own fiber ends
 * the program with a line.
 *
 * Threads: the waits from the task's own fiber; unpark from its worker's thread.
 */
#ifndef WEIR_TASK_H
#define WEIR_TASK_H

#include "engine/base/timer.h"
#include "engine/pool/connection.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* So often a task may find what it wants at once, before others get their turn. */
#define TASK_STREAK_MAX 16

struct child;
struct family;
struct fiber;
struct weir_request;
struct worker;

struct task {
    struct fiber *fiber;            /* NULL: it runs on the worker's own stack */
    struct worker *worker;
    struct connection *conn;        /* whose handler it is */
    struct weir_request *request;   /* that the handler was given */
    struct connection *waits_for;   /* while parked: the connection that has to get ready */
    struct task *next;              /* in its worker's list of runnable ones */
    struct task *parked_next;       /* in its worker's list of parked ones */
    struct task **parked_link;      /* the pointer that points here; NULL: not parked */
    struct timer timer;             /* ends the wait */
    struct family *family;          /* of its children, or that it is a child in; NULL: none */
    unsigned streak;                /* how often, since it last gave its worker away */
    int16_t outcome;                /* of the wait: 0, -ETIMEDOUT, -ECANCELED */
    bool patient;                   /* this wait can't be cancelled */
    bool yields;                    /* runnable, and only after a look at the events */
    bool connects;                  /* it is in weir_connect */
    uint32_t unsent;                /* when a wait for room began: what the peer had not taken */
    uint32_t earns;                 /* ... and for each byte of it that the peer takes the wait
                                       counts from so much later, in 65,536ths of a millisecond */
    /* In a family: see family.h. */
    struct child *child;            /* its record; NULL: it is the main one */
    struct task *beside;            /* another that waits for the same connection */
    uint32_t wanted;                /* the events that this wait is for */
    bool cancelled;                 /* another one has ended its waits */
};

/*
 * Each wait parks. deadline_ms is absolute, on clock_ms; 0: none. They return -ECANCELED once the
 * crew is cancelled.
 */

/*
 * Until conn is ready (0; it may be a false alarm: try the I/O again and wait again) or the
 * deadline has passed (-ETIMEDOUT). events: EPOLLIN, EPOLLOUT. since: as for connection_note_wait;
 * a moment of 0: now. Also errors of epoll_ctl(2).
 */
int task_wait(struct task *task, struct connection *conn, uint32_t events, uint64_t deadline_ms,
              uint64_t since);

int task_sleep(struct task *task, uint64_t deadline_ms);  /* 0: it has passed */
int task_yield(struct task *task);

/*
 * Off the stack until somebody has called task_unpark: what that says. A timer calls it at the
 * deadline, and a cancel, unless the task is patient. wait, since: as for connection_note_wait.
 */
int task_park(struct task *task, uint64_t deadline_ms, enum connection_wait wait, uint64_t since);

/* Until its child has ended, which calls task_unpark. Can't be cancelled: the child's waits can. */
void task_await_child(struct task *task);

/*
 * Until task_unpark, which a message to its worker calls. Can't be cancelled. begin_awaiting comes
 * before the message can.
 */
void task_begin_awaiting(struct task *task);
void task_await(struct task *task);

/*
 * Until task_unpark, on behalf of another fiber or thread: its outcome; or the deadline has passed
 * (-ETIMEDOUT). See waiter.h. patient: can't be cancelled. The task has a fiber.
 */
int task_wait_for_others(struct task *task, uint64_t deadline_ms, bool patient);

/* Makes a parked task runnable; its wait returns outcome. */
void task_unpark(struct task *task, int outcome);

static inline bool task_is_parked(const struct task *task)
{
    return task->parked_link != NULL;
}

/* What the thread of a task that has no fiber waits for. */
void task_note_block(struct task *task, bool begins);

/*
 * The caller runs on the task's fiber, or the program ends with a line: to park the task would be
 * to leave a stack that nobody is on.
 */
void task_require_here(const struct task *task);

/* The call, on a request of this task's, was made from elsewhere. */
_Noreturn void task_die_of_misuse(const struct task *task, const char *call);

/* Whom it serves. Async-signal-safe on the thread that the task is on. */
void task_peer(const struct task *task, struct sockaddr_storage *ret, socklen_t *ret_len);

/* Registers the task's connection, so that it can be kept. 0, or an error of epoll_ctl(2). */
int task_watch(struct task *task);

#endif
