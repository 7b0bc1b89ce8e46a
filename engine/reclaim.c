#include "engine/reclaim.h"

#include "engine/compiler.h"

static _Thread_local unsigned registered;

#if WEIR_TSAN
#include <sanitizer/tsan_interface.h>
/* One address stands for "all readers so far": exit and defer release it, settle acquires it. */
static char grace_period;
#define GRACE_RELEASE() __tsan_release(&grace_period)
#define GRACE_ACQUIRE() __tsan_acquire(&grace_period)
#else
#define GRACE_RELEASE() ((void)0)
#define GRACE_ACQUIRE() ((void)0)
#endif

void reclaim_thread_init(void)
{
    if (registered++ == 0)
        urcu_memb_register_thread();
}

void reclaim_thread_fini(void)
{
    if (--registered == 0)
        urcu_memb_unregister_thread();
}

void reclaim_enter(void)
{
    urcu_memb_read_lock();
}

void reclaim_exit(void)
{
    GRACE_RELEASE();
    urcu_memb_read_unlock();
}

void reclaim_defer(struct reclaim_head *head, void (*fn)(struct reclaim_head *head))
{
    GRACE_RELEASE();
    urcu_memb_call_rcu(head, fn);
}

void reclaim_settle(void)
{
    GRACE_ACQUIRE();
}
