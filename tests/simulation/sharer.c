#include "tests/simulation/sharer.h"

#include "engine/share/wait_list.h"
#include "engine/weir_sync.h"
#include "tests/simulation/report.h"
#include "tests/simulation/scheduler.h"

#include <errno.h>
#include <stddef.h>

/* Of the semaphore: fewer than want one. */
#define UNITS 2

/* As long as nobody waits, the thread does something. */
#define PAUSE_NS (2 * MS_NS)

static struct weir_mutex mutex;
static struct weir_semaphore semaphore;
static struct weir_rwlock rwlock;
static struct weir_condition condition;

static unsigned have_mutex, have_units, read_now, write_now;
static bool stops;

/* ------------------------------------------------------------------ having it --------- */

/* A handler's request, or NULL: the thread. */
static int keep(struct weir_request *req, uint32_t ms)
{
    if (req)
        return ms > 0 ? weir_sleep(req, ms) : weir_yield(req);
    scheduler_block(&have_mutex, scheduler_now_ns() + ms * MS_NS);
    return 0;
}

static void expect_alone(const unsigned *have, unsigned most, const char *what)
{
    if (*have > most)
        report_failure("%u have %s", *have, what);
}

static int have(struct weir_request *req, uint32_t ms)
{
    int r;

    have_mutex++;
    expect_alone(&have_mutex, 1, "the mutex");
    r = keep(req, ms);
    expect_alone(&have_mutex, 1, "the mutex");
    have_mutex--;
    weir_mutex_unlock(&mutex);
    return r;
}

static int lock(struct weir_request *req, uint32_t ms)
{
    int r = ms % 2 ? weir_mutex_lock_within(&mutex, ms) : weir_mutex_lock(&mutex);

    return r < 0 ? r : have(req, ms % 3);
}

static int acquire(struct weir_request *req, uint32_t ms)
{
    int r = weir_semaphore_acquire_within(&semaphore, ms);

    if (r < 0)
        return r;
    have_units++;
    expect_alone(&have_units, UNITS, "units");
    r = keep(req, ms % 4);
    have_units--;
    if (weir_semaphore_release(&semaphore, 1) != 0)
        report_failure("a unit can't be given back");
    return r;
}

static int read_or_write(struct weir_request *req, uint32_t ms)
{
    bool writes = ms % 3 == 0;
    unsigned *now = writes ? &write_now : &read_now;
    int r = writes ? weir_rwlock_write_lock_within(&rwlock, ms)
                   : weir_rwlock_read_lock_within(&rwlock, ms);

    if (r < 0)
        return r;
    ++*now;
    r = keep(req, ms % 3);
    if (write_now > 1 || (write_now == 1 && read_now > 0))
        report_failure("%u write, and %u read", write_now, read_now);
    --*now;
    if (writes)
        weir_rwlock_write_unlock(&rwlock);
    else
        weir_rwlock_read_unlock(&rwlock);
    return r;
}

static int wait_or_tell(struct weir_request *req, uint32_t ms)
{
    int r = weir_mutex_lock(&mutex);

    if (r < 0)
        return r;
    if (ms % 2) {
        r = weir_condition_wait_within(&condition, &mutex, ms);
        if (r < 0) {
            weir_mutex_unlock(&mutex);
            return r;
        }
    } else {
        weir_condition_broadcast(&condition);
    }
    return have(req, 0);
}

/* ------------------------------------------------------------------ who wants it ------ */

static int (*const ways[])(struct weir_request *req, uint32_t ms) = {
    lock, acquire, read_or_write, wait_or_tell,
};

static int share_one(struct weir_request *req, uint32_t ms)
{
    return ways[ms % (sizeof(ways) / sizeof(ways[0]))](req, ms / 4);
}

/* A deadline that has passed is the handler's own or its request's, which ends its next wait. */
int sharer_share(struct weir_request *req, uint32_t ms)
{
    int r = share_one(req, ms);

    if (r < 0 && r != -ETIMEDOUT && r != -ECANCELED && r != -EDEADLK)
        report_failure("what is shared says %d", r);
    return r == -ECANCELED ? r : 0;
}

void *sharer_main(void *nothing)
{
    uint32_t ms = 0;

    (void)nothing;
    if (weir_semaphore_release(&semaphore, UNITS) != 0)
        report_failure("a semaphore takes no units");
    while (!stops) {
        share_one(NULL, ms++ % 64);
        weir_condition_signal(&condition);
        scheduler_block(&stops, scheduler_now_ns() + PAUSE_NS);
    }
    return NULL;
}

void sharer_stop(void)
{
    stops = true;
    scheduler_wake(&stops, true);
}

/* ------------------------------------------------------------------ all is quiet ------ */

#define FIRST_BIT (UINT64_C(1) << WAIT_FIRST_BIT)

/* Returns true if somebody waits, and nobody is at the list who could see to it. */
static bool is_waited_for(const struct wait_list *list)
{
    return list->first && !(list->word & WAIT_GUARD);
}

void sharer_look_at_rest(void)
{
    const struct wait_list *mutexes = (const struct wait_list *)&mutex;
    const struct wait_list *units = (const struct wait_list *)&semaphore;
    const struct wait_list *readers = (const struct wait_list *)&rwlock;

    if (is_waited_for(mutexes) && mutexes->word < FIRST_BIT)
        report_failure("all is quiet, and somebody waits for a mutex that is free");
    if (is_waited_for(units) && units->word >= FIRST_BIT)
        report_failure("all is quiet, and somebody waits for a unit that is there");
    if (is_waited_for(readers) && (readers->first->writes ? readers->word < FIRST_BIT
                                                          : !(readers->word & FIRST_BIT)))
        report_failure("all is quiet, and somebody waits for a lock that may be had");
}

/* ------------------------------------------------------------------ the end ----------- */

static void expect_nobody(void *object, const char *what)
{
    const struct wait_list *list = object;

    if (list->first)
        report_failure("somebody waits for %s, and nobody is left", what);
}

void sharer_look(void)
{
    expect_nobody(&mutex, "the mutex");
    expect_nobody(&semaphore, "a unit");
    expect_nobody(&rwlock, "the read-write lock");
    expect_nobody(&condition, "the condition");
    if (weir_mutex_try_lock(&mutex) != 0)
        report_failure("nobody is left, and somebody has the mutex");
    if (weir_rwlock_try_write_lock(&rwlock) != 0)
        report_failure("nobody is left, and somebody has the read-write lock");
    for (unsigned i = 0; i < UNITS; i++)
        if (weir_semaphore_try_acquire(&semaphore) != 0)
            report_failure("a unit has got lost");
    if (weir_semaphore_try_acquire(&semaphore) == 0)
        report_failure("there are more units than before");
}
