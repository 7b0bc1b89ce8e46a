#include "engine/share/holder.h"

bool holder_is_me(const struct holder *holder, const struct waiter *me)
{
    /* relaxed: see holder.h. pairs: holder_write() */
    uintptr_t frame = atomic_load_explicit(&holder->frame, memory_order_relaxed);
    uintptr_t thread = atomic_load_explicit(&holder->thread, memory_order_relaxed);

    if (!waiter_parks(me))
        return thread == (uintptr_t)pthread_self();
    return frame != 0 && fiber_holds(me->task->fiber, (const void *)frame);
}
