/*
 * weir_sync.h - what handlers and threads share: locks, and waiting for each other.
 *
 *     static struct weir_mutex lock;
 *     static unsigned visitors;
 *
 *     static int count(struct weir_request *req)
 *     {
 *         unsigned number;
 *
 *         weir_mutex_lock(&lock);
 *         number = ++visitors;
 *         weir_mutex_unlock(&lock);
 *         return (int)weir_printf(req, "You are number %u\n", number) < 0 ? -EPIPE : 0;
 *     }
 *
 * They are like those of pthreads, but a handler that waits parks, so that its worker runs others
 * meanwhile, and a lock may be held across every call that parks. Any number of handlers and of the
 * program's own threads may share one, in whatever mixture, of one server or of several. A handler
 * in a pool parks; whoever else waits blocks its thread: a thread of the program's, a function that
 * weir_offload runs, a hook, a handler with WEIR_STACK_THREAD or under WEIR_SERIAL, _THREAD or
 * _FORK. They are for threads: each child of WEIR_FORK and WEIR_PREFORK has its own copy.
 *
 * What holds for all of it:
 *
 *   Begin    Zeroed memory is a lock that is free, a semaphore of 0, and so on: a static variable,
 *            calloc(3), memset(3), or "= { 0 }" ("= {}" in C++). They are not copied or moved while
 *            they are in use. There is nothing to destroy: who knows that nobody uses one any more
 *            may free it, and also who has been the last to get what it waited for.
 *   Fair     First come, first served: whoever waits gets it in the order of coming, and nobody
 *            who comes later is let in before, so that nobody starves. A lock that others wait for
 *            passes to the first of them when it is unlocked, whether that one runs already or not.
 *   Time     weir_..._within waits for ms at most, and returns -ETIMEDOUT then; with 0 it does not
 *            wait, with WEIR_FOREVER it waits for ever. In a handler it also ends with
 *            request_timeout_ms (-ETIMEDOUT, which counts in weir_stats.timeouts), and when the
 *            server cancels its handlers (-ECANCELED). A drain ends no wait.
 *   Threads  Any, but not signal handlers. A lock is unlocked by who has locked it: the same
 *            handler in the same call of handle(), or the same thread.
 *   Order    As with pthreads: what was done before an unlock, a release and so on is seen by who
 *            gets the lock or is woken by it.
 *   Memory   None: who waits does so on its stack.
 *   Check    With WEIR_CHECK=1 in the environment, handlers and threads that wait for each other's
 *            locks, by calls that nothing but the lock ends, end the program with a line:
 *            "weir: a deadlock: handler 'chat' waits for mutex 0x55d0c3a1b2c0, which a thread has;
 *            a thread waits for mutex 0x55d0c3a1b2d0, which handler 'chat' has".
 */
#ifndef WEIR_SYNC_H
#define WEIR_SYNC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ mutex ------------- */

/*
 * weir_mutex_lock waits until it has the lock, however long that takes, through a cancel and
 * request_timeout_ms as well: pthread_mutex_lock(3) is no cancellation point either, since whoever
 * cleans up has to get at what it shares. The handler that has the lock hears of a cancel where it
 * waits, and lets go. weir_mutex_lock_within hears of both, also with WEIR_FOREVER.
 * weir_mutex_try_lock does not wait.
 *
 * Parks, weir_mutex_try_lock and weir_mutex_unlock never. Each returns 0: the caller has the lock;
 * -EDEADLK: it has had it already, or another handler has, or waits for it before this one, that
 * could not go on while this one blocks the thread of both; weir_mutex_lock_within also -ETIMEDOUT
 * and -ECANCELED, weir_mutex_try_lock -EAGAIN. To unlock what isn't locked ends the program with a
 * line.
 */
struct weir_mutex {
    uint64_t opaque[2];
};

int weir_mutex_lock(struct weir_mutex *mutex);
int weir_mutex_lock_within(struct weir_mutex *mutex, uint32_t ms);
int weir_mutex_try_lock(struct weir_mutex *mutex);
void weir_mutex_unlock(struct weir_mutex *mutex);

/* ------------------------------------------------------------------ semaphore --------- */

/*
 * A number of units, 0 at first. weir_semaphore_release adds some, weir_semaphore_acquire takes
 * one, and waits for it if there is none; it hears of a cancel and of request_timeout_ms. For a
 * pool of 4 connections, release 4 at the start.
 *
 * weir_semaphore_acquire and _within park. They return 0: the unit is the caller's; -ECANCELED,
 * -ETIMEDOUT. weir_semaphore_try_acquire never parks: 0 or -EAGAIN. weir_semaphore_release never
 * parks: 0, or -EOVERFLOW: there would be more than UINT32_MAX, and none is added.
 */
struct weir_semaphore {
    uint64_t opaque[2];
};

int weir_semaphore_acquire(struct weir_semaphore *semaphore);
int weir_semaphore_acquire_within(struct weir_semaphore *semaphore, uint32_t ms);
int weir_semaphore_try_acquire(struct weir_semaphore *semaphore);
int weir_semaphore_release(struct weir_semaphore *semaphore, uint32_t units);

/* ------------------------------------------------------------------ condition --------- */

/*
 * What somebody waits for until another one has changed something under the same mutex:
 *
 *     weir_mutex_lock(&lock);
 *     while (r == 0 && list_is_empty(&list))
 *         r = weir_condition_wait(&filled, &lock);
 *
 * weir_condition_wait is called with the mutex locked. It unlocks it and waits as if both were one,
 * and has locked it again when it returns, whatever it returns. weir_condition_signal lets the
 * first of those who wait go on, weir_condition_broadcast all who have come before it; nobody goes
 * on for no reason. Who changes things does so with the mutex locked; it may be unlocked when it
 * calls these.
 *
 * The waits park, and hear of a cancel and of request_timeout_ms; the mutex they lock as
 * weir_mutex_lock does. They return 0, -ECANCELED or -ETIMEDOUT. With an ms of 0 nothing is
 * unlocked. weir_condition_signal and _broadcast never park.
 */
struct weir_condition {
    uint64_t opaque[2];
};

int weir_condition_wait(struct weir_condition *condition, struct weir_mutex *mutex);
int weir_condition_wait_within(struct weir_condition *condition, struct weir_mutex *mutex,
                               uint32_t ms);
void weir_condition_signal(struct weir_condition *condition);
void weir_condition_broadcast(struct weir_condition *condition);

/* ------------------------------------------------------------------ wait group -------- */

/*
 * How much is under way, 0 at first. Who begins something adds 1 before, who has done it says so,
 * and weir_wait_group_wait waits until nothing is under way. Then it may be used anew; whatever is
 * added meanwhile does not hold up who has waited for what was there before.
 *
 * weir_wait_group_add never parks: 0, or -EOVERFLOW beyond UINT32_MAX. weir_wait_group_done never
 * parks; more of them than were added end the program with a line. The waits park, and hear of a
 * cancel and of request_timeout_ms: 0, -ECANCELED, -ETIMEDOUT.
 */
struct weir_wait_group {
    uint64_t opaque[2];
};

int weir_wait_group_add(struct weir_wait_group *group, uint32_t n);
void weir_wait_group_done(struct weir_wait_group *group);
int weir_wait_group_wait(struct weir_wait_group *group);
int weir_wait_group_wait_within(struct weir_wait_group *group, uint32_t ms);

/* ------------------------------------------------------------------ once -------------- */

/*
 * What is to be done once, by whoever needs it first: weir_once calls fn(arg), and whoever calls it
 * meanwhile waits until fn has returned. fn may park. If it returns a negative errno, that is what
 * its caller is told, and it counts as not done: the first of those who wait, or else who comes
 * next, calls its fn.
 *
 * They park, and hear of a cancel and of request_timeout_ms while they wait for another one. They
 * return 0: it is done; what fn returned, if that is negative; -EDEADLK: fn itself has called it,
 * or as for weir_mutex_lock; -ECANCELED, -ETIMEDOUT.
 */
struct weir_once_flag {
    uint64_t opaque[2];
};

int weir_once(struct weir_once_flag *once, int (*fn)(void *arg), void *arg);
int weir_once_within(struct weir_once_flag *once, int (*fn)(void *arg), void *arg, uint32_t ms);

/* ------------------------------------------------------------------ read-write lock --- */

/*
 * Any number may have it to read, or one to write. Here, too, it is first come, first served: once
 * somebody waits to write, who comes to read waits behind; when the lock is free for the first who
 * waits, it and those behind it who can be in at the same time get it together. So who has it must
 * not ask for it again: a reader would wait for a writer that waits for it.
 *
 * As of a mutex, the plain calls wait through everything, and _within hears of a cancel and of
 * request_timeout_ms. They park, the others never. They return 0, -ETIMEDOUT, -ECANCELED, and
 * -EDEADLK: the caller has it to write, or as for weir_mutex_lock; the try calls 0 or -EAGAIN. Who
 * has it to read is not known: so a handler that blocks a worker of a pool (WEIR_STACK_THREAD, or
 * finish() behind -ENOMEM) must not wait for it where fibers of that worker read under it. To
 * unlock what isn't locked so ends the program with a line.
 */
struct weir_rwlock {
    uint64_t opaque[2];
};

int weir_rwlock_read_lock(struct weir_rwlock *rwlock);
int weir_rwlock_read_lock_within(struct weir_rwlock *rwlock, uint32_t ms);
int weir_rwlock_try_read_lock(struct weir_rwlock *rwlock);
void weir_rwlock_read_unlock(struct weir_rwlock *rwlock);
int weir_rwlock_write_lock(struct weir_rwlock *rwlock);
int weir_rwlock_write_lock_within(struct weir_rwlock *rwlock, uint32_t ms);
int weir_rwlock_try_write_lock(struct weir_rwlock *rwlock);
void weir_rwlock_write_unlock(struct weir_rwlock *rwlock);

/* ------------------------------------------------------------------ channel ----------- */

/*
 * Carries items from any number of senders to any number of receivers, in the order of sending:
 *
 *     static struct job waiting[64];
 *     static struct weir_channel jobs = WEIR_CHANNEL(waiting);
 *
 *     weir_channel_send(&jobs, &job);
 *
 *     while (weir_channel_receive(&jobs, &job) == 0)
 *         work_on(&job);
 *
 * Its memory is the program's: an array of so many items as may be under way. WEIR_CHANNEL is what
 * one begins with; or else set slots, size and capacity, and the rest to 0. Items are copied as
 * bytes, of `size` each: of large ones send pointers. With a capacity of 0, which needs no array,
 * who sends waits until its item is received. With a size of 0 items are NULL.
 *
 * weir_channel_send waits while the channel is full, weir_channel_receive while it is empty. Who
 * sends, or receives, waits in a line, first come, first served. weir_channel_close says that
 * nothing more is sent. What is in the channel then is received yet, and after that each receive
 * returns -EPIPE, as each send does at once; so do those that wait. What a send that failed was to
 * carry has not been sent, and an item of a receive that failed is as it was. The array lives as
 * long as the channel.
 *
 * They return 0: it is done; -EPIPE: it is closed. The sends and receives that wait park, and hear
 * of a cancel and of request_timeout_ms: -ECANCELED, -ETIMEDOUT. weir_channel_try_send and
 * weir_channel_try_receive never park: -EAGAIN. weir_channel_close never parks: 0, or -EALREADY: it
 * has been closed before.
 */
struct weir_channel {
    uint64_t opaque[3];
    void *slots;                /* the array; NULL with a capacity of 0 */
    uint32_t size;              /* of an item, in bytes */
    uint32_t capacity;          /* items in the array */
};

#define WEIR_CHANNEL(slots) \
    { { 0 }, (slots), sizeof((slots)[0]), sizeof(slots) / sizeof((slots)[0]) }

int weir_channel_send(struct weir_channel *channel, const void *item);
int weir_channel_send_within(struct weir_channel *channel, const void *item, uint32_t ms);
int weir_channel_try_send(struct weir_channel *channel, const void *item);
int weir_channel_receive(struct weir_channel *channel, void *item);
int weir_channel_receive_within(struct weir_channel *channel, void *item, uint32_t ms);
int weir_channel_try_receive(struct weir_channel *channel, void *item);
int weir_channel_close(struct weir_channel *channel);

/* ------------------------------------------------------------------ select ------------ */

/*
 * Waits on several channels, and does what can be done first on one of them, and nothing else:
 *
 *     struct weir_case cases[] = { { .channel = &jobs, .receive = &job }, { .channel = &stop } };
 *
 *     switch (weir_select(cases, 2, 1000)) {
 *     case 0:
 *         return cases[0].result == 0 ? work_on(&job) : cases[0].result;
 *
 * A case whose `send` is set sends that item; any other receives one. One whose channel is NULL is
 * passed over, so that a case can be switched off. If several can be done it is any of them, so
 * that none is kept back by another. A channel may be in several cases, also to send and to
 * receive; a select does not receive from itself.
 *
 * It parks, and hears of a cancel and of request_timeout_ms. With an ms of 0 it does not wait, with
 * WEIR_FOREVER for ever. It returns the number of the case, whose result is 0: the item was sent,
 * or received; or -EPIPE: that channel is closed. Else -ETIMEDOUT, -ECANCELED, or -EINVAL: there
 * are no cases, or more than WEIR_CASES_MAX. Then nothing has been sent or received.
 */
struct weir_case {
    struct weir_channel *channel;
    const void *send;           /* the item to be sent; NULL: the case receives */
    void *receive;              /* where it receives an item */
    int result;                 /* set by weir_select, in the case that it returns */
};

#define WEIR_CASES_MAX 32

int weir_select(struct weir_case *cases, uint32_t len, uint32_t ms);

#ifdef __cplusplus
}
#endif

#endif
