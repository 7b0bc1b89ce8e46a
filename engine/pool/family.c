#include "engine/pool/family.h"

#include "engine/pool/worker.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>

/* A child's number is its slot and 1, and above these bits how often the slot was used before. */
#define SLOT_BITS 16
#define SLOT_MASK ((1 << SLOT_BITS) - 1)
_Static_assert(FAMILY_CHILDREN_MAX <= SLOT_MASK, "each slot has a number above 0");

/* ------------------------------------------------------------------ records ----------- */

static struct child **children_of(struct task *task)
{
    return task->child ? &task->child->children : &task->family->children;
}

static bool have_slot(struct family *family)
{
    unsigned size = family->slots_size > 0 ? family->slots_size * 2 : 4;
    struct child **slots;

    if (family->slots_len < family->slots_size)
        return true;
    slots = reallocarray(family->slots, size, sizeof(struct child *));
    if (!slots)
        return false;
    family->slots = slots;
    family->slots_size = size;
    return true;
}

static struct child *create_record(struct family *family)
{
    struct child *child = have_slot(family) ? calloc(1, sizeof(*child)) : NULL;

    if (!child)
        return NULL;
    child->family = family;
    child->number = (int)family->slots_len + 1;
    family->slots[family->slots_len++] = child;
    return child;
}

static int take_record(struct family *family, struct child **ret_child)
{
    struct child *child = family->spare;

    if (child)
        family->spare = child->next;
    else if (family->slots_len == FAMILY_CHILDREN_MAX)
        return -EAGAIN;
    else
        child = create_record(family);
    if (!child)
        return -ENOMEM;
    *ret_child = child;
    return 0;
}

static void put_into_list(struct child *child, struct child **list)
{
    child->next = *list;
    child->link = list;
    if (child->next)
        child->next->link = &child->next;
    *list = child;
}

static void take_out_of_list(struct child *child)
{
    *child->link = child->next;
    if (child->next)
        child->next->link = child->link;
    child->link = NULL;
}

/* The next child that has the record has another number. */
static void put_record(struct child *child)
{
    take_out_of_list(child);
    child->number = child->number > INT_MAX - (SLOT_MASK + 1) ? child->number & SLOT_MASK
                                                             : child->number + SLOT_MASK + 1;
    child->next = child->family->spare;
    child->family->spare = child;
}

/* The task's child of that number that has not been joined, or NULL. */
static struct child *child_of(const struct task *task, int number)
{
    const struct family *family = task->family;
    unsigned slot = ((unsigned)number & SLOT_MASK) - 1;
    struct child *child = number > 0 && slot < family->slots_len ? family->slots[slot] : NULL;

    return child && child->number == number && child->link && child->parent == task ? child : NULL;
}

/* ------------------------------------------------------------------ a child's life ---- */

static void join_all(struct task *task, int *ret_first);

/* On the child's own fiber, whose stack holds its task. */
static void run_child(struct fiber *fiber, void *arg)
{
    struct child *child = arg;
    struct task *main = child->family->main;
    struct task task = {
        .fiber = fiber, .worker = main->worker, .conn = main->conn, .request = main->request,
        .family = child->family, .child = child, .cancelled = child->parent->cancelled,
    };
    int ignored = 0;

    fiber_set_label(fiber, task.conn->handler->name);
    fiber_set_task(fiber, &task);
    child->task = &task;
    child->family->here = &task;
    task.worker->resumed = &task;
    child->result = child->fn(child->req, child->arg);
    join_all(&task, &ignored);
    child->task = NULL;
    child->family->here = main;
    if (child->awaited)
        task_unpark(child->parent, 0);
}

int family_spawn(struct task *task, int (*fn)(struct weir_request *req, void *arg),
                 struct weir_request *req, void *arg)
{
    struct family *family = task->family;
    struct fiber_cache *fibers = &task->worker->fibers;
    struct task *resumed = task->worker->resumed;
    struct fiber *fiber;
    struct child *child;
    int r;

    task_require_here(task);
    r = take_record(family, &child);
    if (r < 0)
        return r;
    *child = (struct child){
        .family = family, .parent = task, .fn = fn, .req = req, .arg = arg,
        .number = child->number,
    };
    put_into_list(child, children_of(task));
    fiber = fiber_get(fibers);
    if (!fiber) {
        put_record(child);
        return -ENOMEM;
    }
    if (fiber_run_from(task->fiber, fiber, run_child, child))
        fiber_put(fibers, fiber);
    task->worker->resumed = resumed;
    family->here = task;
    return child->number;
}

/* What the child's function has returned. */
static int join(struct task *task, struct child *child)
{
    int result;

    if (child->task) {
        child->awaited = true;
        task_await_child(task);
    }
    result = child->result;
    put_record(child);
    return result;
}

/* *ret_first is the result of the one that was spawned first, of those that have failed. */
static void join_all(struct task *task, int *ret_first)
{
    struct child **children = children_of(task);

    while (*children) {
        int result = join(task, *children);

        if (result < 0)
            *ret_first = result;
    }
}

int family_join(struct task *task, int number)
{
    struct child *child;
    int first = 0;

    if (number == 0) {
        join_all(task, &first);
        return first;
    }
    child = child_of(task, number);
    return child ? join(task, child) : -ESRCH;
}

/* ------------------------------------------------------------------ all of them ------- */

int family_begin(struct task *task)
{
    struct family *family = calloc(1, sizeof(*family));

    if (!family)
        return -ENOMEM;
    family->main = task;
    family->here = task;
    task->family = family;
    return 0;
}

static void free_family(struct family *family)
{
    for (unsigned i = 0; i < family->slots_len; i++)
        free(family->slots[i]);
    free(family->slots);
    free(family);
}

void family_end(struct task *task, bool ends)
{
    struct family *family = task->family;
    int ignored = 0;

    if (ends)
        family_cancel_others(task);
    join_all(task, &ignored);
    task->family = NULL;
    task->cancelled = false;
    free_family(family);
}

static void cancel(struct task *task)
{
    task->cancelled = true;
    if (!task->parked_link || task->patient || (task->waits_for && !family_leave(task)))
        return;
    task_unpark(task, -ECANCELED);
}

void family_cancel_others(struct task *task)
{
    struct family *family = task->family;

    if (task != family->main)
        cancel(family->main);
    for (unsigned i = 0; i < family->slots_len; i++) {
        struct task *other = family->slots[i]->task;

        if (other && other != task)
            cancel(other);
    }
}

/* ------------------------------------------------------------------ waiting together -- */

/* Of a connection that one of a family waits for: the first of them. */
static struct task **waiting_for(struct connection *conn)
{
    return conn->kind == CONNECTION_OPENED ? &conn->waiting : &conn->task->family->waiting;
}

static void stop_waiting(struct task *task)
{
    struct task **link = waiting_for(task->waits_for);

    while (*link != task)
        link = &(*link)->beside;
    *link = task->beside;
}

int family_wait(struct task *task, struct connection *conn, uint32_t events, uint64_t deadline_ms,
                enum connection_wait wait, uint64_t since)
{
    struct task **waiting = waiting_for(conn);
    int r;

    /* With others there, its state is theirs: see the table. */
    if (!*waiting && !connection_park(conn))
        return 0;
    task->beside = *waiting;
    *waiting = task;
    task->waits_for = conn;
    task->wanted = events;
    r = task_park(task, deadline_ms, wait, since);
    task->waits_for = NULL;
    return r;
}

/* Of events of one kind alone those are told who wait for that; anything else may be for all. */
static bool concerns(const struct task *task, uint32_t events)
{
    return (events != EPOLLIN && events != EPOLLOUT) || (task->wanted & events);
}

static void wake_concerned(struct task **waiting, uint32_t events)
{
    struct task **link = waiting;

    while (*link) {
        struct task *task = *link;

        if (!concerns(task, events)) {
            link = &task->beside;
            continue;
        }
        *link = task->beside;
        task_unpark(task, 0);
    }
}

void family_wake(struct connection *conn, uint32_t events)
{
    struct task **waiting = waiting_for(conn);

    if (events != EPOLLOUT)
        conn->drained = false;
    wake_concerned(waiting, events);
    /* False: another event has come meanwhile, and nobody knows of which kind. */
    if (*waiting && !connection_park(conn))
        wake_concerned(waiting, FAMILY_ANY_EVENT);
}

bool family_leave(struct task *task)
{
    struct connection *conn = task->waits_for;
    bool alone = *waiting_for(conn) == task && !task->beside;

    if (alone ? !connection_unpark(conn) : connection_state(conn) != CONNECTION_PARKED)
        return false;
    stop_waiting(task);
    return true;
}
