#include "engine/share/holder.h"

#include "engine/fiber/stack.h"
#include "engine/pool/worker.h"

/* What runs on a fiber has been put there by a worker, whose task is at its beginning. */
static const struct task *task_on_fiber(uintptr_t frame)
{
    size_t size;
    void *top = stack_holding((const void *)frame, &size);

    return top ? fiber_task(fiber_on_stack(top)) : NULL;
}

bool holder_blocks(const struct worker *worker)
{
    const struct worker *own = worker_self();

    while (own && own != worker)
        own = own->outer;
    return own != NULL;
}

bool holder_is_me(uint64_t word, const struct waiter *me)
{
    uintptr_t frame = word & HOLDER_MASK;
    const struct task *task;

    if (waiter_parks(me))
        return fiber_holds(me->task->fiber, (const void *)frame);
    if (frame - me->stack_begin < me->stack_size)
        return true;
    task = task_on_fiber(frame);
    return task && holder_blocks(task->worker);
}
