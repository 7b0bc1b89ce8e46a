#include "engine/pool/waiter.h"

#include "engine/base/clock.h"
#include "engine/base/compiler.h"
#include "engine/base/sys.h"
#include "engine/pool/worker.h"

#include <errno.h>
#include <pthread.h>

/*
 *   stage    it says                          leaves by
 *   AWAY     nothing has come, nobody sleeps  waiter_hand_over -> HERE; sleep_in_futex -> ASLEEP
 *   ASLEEP   its thread has to be woken       waiter_hand_over -> HERE
 *   HERE     it has been handed over
 */
enum waiter_stage { WAITER_AWAY, WAITER_ASLEEP, WAITER_HERE };

/* Of the calling thread; asked for once, since it takes long of the main thread. 0: not known. */
static _Thread_local uintptr_t stack_begin;
static _Thread_local size_t stack_size;
static _Thread_local bool is_looked_at;

/*
 * Where the main thread's stack has no limit, what is said of it may take in others' memory below.
 * As much as this below the present frame is none of a caller's.
 */
#define BELOW_MAX ((uintptr_t)1 << 20)

static WEIR_NOINLINE void look_at_stack(struct waiter *waiter)
{
    uintptr_t lowest = waiter->frame - BELOW_MAX;
    uintptr_t end;
    pthread_attr_t attributes;
    void *begin;

    if (!is_looked_at && pthread_getattr_np(pthread_self(), &attributes) == 0) {
        if (pthread_attr_getstack(&attributes, &begin, &stack_size) == 0)
            stack_begin = (uintptr_t)begin;
        pthread_attr_destroy(&attributes);
    }
    is_looked_at = true;
    end = stack_begin + stack_size;
    waiter->stack_begin = stack_begin > lowest ? stack_begin : lowest;
    waiter->stack_size = end > waiter->stack_begin ? end - waiter->stack_begin : 0;
}

void waiter_init(struct waiter *waiter)
{
    waiter->task = worker_task_here();
    waiter->value = 0;
    waiter->frame = (uintptr_t)__builtin_frame_address(0);
    if (!waiter_parks(waiter))
        look_at_stack(waiter);
    /* relaxed: nobody else knows of it yet. pairs: none */
    atomic_store_explicit(&waiter->stage, WAITER_AWAY, memory_order_relaxed);
}

static bool has_arrived(const struct waiter *waiter)
{
    /* acquire: all that was done before it was handed over. pairs: wake_thread(), arrive() */
    return atomic_load_explicit(&waiter->stage, memory_order_acquire) == WAITER_HERE;
}

/* ------------------------------------------------------------------ a thread ---------- */

static void sleep_in_futex(struct waiter *waiter, int timeout_ms)
{
    uint32_t away = WAITER_AWAY;

    /* relaxed: it says only that we sleep; futex(2) looks at it again. pairs: wake_thread() */
    atomic_compare_exchange_strong_explicit(&waiter->stage, &away, WAITER_ASLEEP,
                                            memory_order_relaxed, memory_order_relaxed);
    sys_futex_wait(&waiter->stage, WAITER_ASLEEP, timeout_ms);
}

static int hear_orders(const struct task *task)
{
    return crew_cancelled(task->worker->crew) ? -ECANCELED : worker_hear_orders(task->worker);
}

/* A task on its thread's own stack hears an order within a slice; other threads are given none. */
static int block(struct waiter *waiter, uint64_t deadline_ms, bool hears)
{
    while (!has_arrived(waiter)) {
        uint64_t now_ms = clock_ms();
        uint64_t until_ms = deadline_ms != 0 ? deadline_ms : CLOCK_NEVER;
        int r = hears ? hear_orders(waiter->task) : 0;

        if (r < 0)
            return r;
        if (until_ms <= now_ms)
            return -ETIMEDOUT;
        if (hears)
            until_ms = clock_earlier(until_ms, now_ms + WORKER_SLICE_MS);
        sleep_in_futex(waiter, clock_timeout_ms(until_ms, now_ms));
    }
    return 0;
}

static int block_noted(struct waiter *waiter, uint64_t deadline_ms, bool patient)
{
    struct task *task = waiter->task;
    int r;

    if (task)
        task_note_block(task, true);
    r = block(waiter, deadline_ms, task && !patient);
    if (task)
        task_note_block(task, false);
    return r;
}

/* Its memory may be another's by the time of the wake-up, which is one for nothing then. */
static void wake_thread(struct waiter *waiter)
{
    /* acq_rel: the value, and what was done before. pairs: has_arrived(), sleep_in_futex() */
    if (atomic_exchange_explicit(&waiter->stage, WAITER_HERE, memory_order_acq_rel) ==
        WAITER_ASLEEP)
        sys_futex_wake(&waiter->stage);
}

/* ------------------------------------------------------------------ a fiber ----------- */

/* On its worker's thread. If it isn't parked its wait has ended already, and it finds this. */
static void arrive(struct waiter *waiter)
{
    /* release: the value, and what was done before. pairs: has_arrived() */
    atomic_store_explicit(&waiter->stage, WAITER_HERE, memory_order_release);
    if (task_is_parked(waiter->task))
        task_unpark(waiter->task, 0);
}

static void deliver_told(struct worker *worker, struct message *message)
{
    (void)worker;
    arrive(caa_container_of(message, struct waiter, told));
}

static void tell_worker(struct waiter *waiter, const struct worker *self)
{
    struct worker *worker = waiter->task->worker;

    waiter->told.deliver = deliver_told;
    if (self && self->crew == worker->crew)
        worker_tell(worker, &waiter->told);
    else
        worker_tell_from_afar(worker, &waiter->told);
}

/* ------------------------------------------------------------------ both -------------- */

int waiter_wait(struct waiter *waiter, uint64_t deadline_ms)
{
    int r;

    if (!waiter_parks(waiter))
        return block_noted(waiter, deadline_ms, false);
    r = task_wait_for_others(waiter->task, deadline_ms, false);
    return has_arrived(waiter) ? 0 : r;
}

int waiter_await(struct waiter *waiter)
{
    if (!waiter_parks(waiter))
        block_noted(waiter, 0, true);
    while (!has_arrived(waiter))
        task_wait_for_others(waiter->task, 0, true);
    return waiter->value;
}

void waiter_hand_over(struct waiter *waiter, int value)
{
    const struct worker *self;

    waiter->value = value;
    if (!waiter_parks(waiter)) {
        wake_thread(waiter);
        return;
    }
    self = worker_self();
    if (waiter->task->worker == self)
        arrive(waiter);
    else
        tell_worker(waiter, self);
}
