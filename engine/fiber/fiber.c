/*
 * fiber.c - fibers on Boost.Context's switch.
 *
 * A fiber's first frame is the trampoline, which never returns: when entry has, it stays there
 * until the next fiber_run jumps in again. So a fiber is made once for each stack, however many
 * entries run on it.
 *
 * valgrind is told of every stack, if its header was there when this was built.
 *
 * Built with a sanitizer, it is told of every switch right before and behind the jump, by code
 * that is not instrumented itself: a function's entry noted on one stack and its exit on another
 * would unbalance ThreadSanitizer's shadow stack.
 *
 * A CPU's shadow stacks (CET) are not switched: this is for processes that run without.
 */
#include "engine/fiber/fiber.h"

#include <assert.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/compiler.h"
#include "engine/base/ensure.h"
#include "engine/fiber/stack.h"

#if WEIR_ASAN
#include <sanitizer/asan_interface.h>
#endif
#if WEIR_TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* Instructions that do nothing, and under valgrind tell it which stacks there are. */
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(lowest, highest) 0
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

/* clang instruments a function's entry and exit even under no_sanitize; gcc has only that. */
#if defined(__has_attribute) && __has_attribute(disable_sanitizer_instrumentation)
#define UNINSTRUMENTED __attribute__((disable_sanitizer_instrumentation))
#else
#define UNINSTRUMENTED __attribute__((no_sanitize("address"), no_sanitize("thread")))
#endif

/* From libboost_context, as boost/context/detail/fcontext.hpp declares them for C++. */
struct transfer {
    void *context;      /* where the jump came from: what to jump to, to go back */
    void *data;
};
struct transfer jump_fcontext(void *to, void *data);
void *make_fcontext(void *top, size_t size, void (*fn)(struct transfer));

/*
 * Which exceptions a thread of C++ has caught, and how many it has thrown and not caught yet, as
 * the runtime keeps them (the Itanium C++ ABI, 2.2.2). A handler may wait with some of either.
 */
struct exceptions {
    void *caught;
    unsigned uncaught;
};
/* NOLINTNEXTLINE(bugprone-reserved-identifier): its name is what the ABI says */
void *__cxa_get_globals(void) __attribute__((weak));

#define CANARY UINT64_C(0x7a1e5c0de5bad1ce)

struct fiber {
    uint64_t canary;                    /* next to the first frame */
    void *context;                      /* not running: where to go on */
    void *scheduler;                    /* running: the way back. NULL otherwise */
    void (*entry)(struct fiber *fiber, void *arg);      /* NULL: spare */
    void *arg;
    const char *_Atomic label;
    const void *_Atomic task;           /* for the reports of a crash and of a stall */
    struct fiber *next;                 /* in its cache */
    struct exceptions *exceptions;      /* of its thread; NULL: there is no C++ */
    unsigned size;                      /* of its stack */
    unsigned valgrind_id;               /* of the same */
#ifndef NDEBUG
    pthread_t owner;                    /* the thread that ran it */
#endif
#if WEIR_ASAN
    const void *bottom, *scheduler_bottom;
    size_t scheduler_size;
    void *fake_stack;
#endif
#if WEIR_TSAN
    void *tsan_fiber, *tsan_scheduler;
#endif
};

/* ------------------------------------------------------------------ instruments ------- */

/* On the scheduler, before and behind its jump. ASan keeps its fake stack in *fake_stack. */

static inline UNINSTRUMENTED void leave_scheduler(struct fiber *fiber, void **fake_stack)
{
#if WEIR_ASAN
    __sanitizer_start_switch_fiber(fake_stack, fiber->bottom, fiber->size);
#endif
#if WEIR_TSAN
    fiber->tsan_scheduler = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber->tsan_fiber, 0);
#endif
    (void)fiber;
    (void)fake_stack;
}

static inline UNINSTRUMENTED void reach_scheduler(void *fake_stack)
{
#if WEIR_ASAN
    __sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
#endif
    (void)fake_stack;
}

/*
 * On the fiber, before and behind its jump. A spare fiber has no frames but the trampoline's,
 * which is not instrumented: its fake stack is given up, and it starts without one again.
 */

static inline UNINSTRUMENTED void leave_fiber(struct fiber *fiber, bool has_ended)
{
#if WEIR_ASAN
    fiber->fake_stack = NULL;
    __sanitizer_start_switch_fiber(has_ended ? NULL : &fiber->fake_stack,
                                   fiber->scheduler_bottom, fiber->scheduler_size);
#endif
#if WEIR_TSAN
    __tsan_switch_to_fiber(fiber->tsan_scheduler, 0);
#endif
    (void)fiber;
    (void)has_ended;
}

static inline UNINSTRUMENTED void reach_fiber(struct fiber *fiber)
{
#if WEIR_ASAN
    __sanitizer_finish_switch_fiber(fiber->fake_stack, &fiber->scheduler_bottom,
                                    &fiber->scheduler_size);
#endif
    (void)fiber;
}

/* When a fiber is made on a stack, and when the stack is given back. */

static void introduce(struct fiber *fiber, void *bottom)
{
#if WEIR_ASAN
    fiber->bottom = bottom;
#endif
#if WEIR_TSAN
    fiber->tsan_fiber = __tsan_create_fiber(0);
#endif
    fiber->valgrind_id = VALGRIND_STACK_REGISTER(bottom, fiber);
    (void)fiber;
    (void)bottom;
}

static void dismiss(struct fiber *fiber)
{
#if WEIR_ASAN
    /* Calls that do not return (longjmp, a thread's exit) leave marks on the frames they skip. */
    __asan_unpoison_memory_region(fiber->bottom, fiber->size);
#endif
#if WEIR_TSAN
    __tsan_destroy_fiber(fiber->tsan_fiber);
#endif
    VALGRIND_STACK_DEREGISTER(fiber->valgrind_id);
    (void)fiber;
}

/* ------------------------------------------------------------------ switching --------- */

/* On the scheduler: goes to where the fiber stopped. What fiber_run and fiber_resume return. */
static UNINSTRUMENTED bool enter_fiber(struct fiber *fiber)
{
    void *fake_stack = NULL;
    struct transfer from;

    leave_scheduler(fiber, &fake_stack);
    from = jump_fcontext(fiber->context, fiber);
    reach_scheduler(fake_stack);
    fiber->context = from.context;
    return from.data != NULL;
}

/* On the fiber: goes back to the scheduler, and returns the way to it when entered again. */
static UNINSTRUMENTED void *switch_away(struct fiber *fiber, bool has_ended)
{
    void *scheduler = fiber->scheduler;
    struct transfer from;

    fiber->scheduler = NULL;
    leave_fiber(fiber, has_ended);
    from = jump_fcontext(scheduler, has_ended ? fiber : NULL);
    reach_fiber(fiber);
    return from.context;
}

static UNINSTRUMENTED void trampoline(struct transfer from)
{
    struct fiber *fiber = from.data;

    reach_fiber(fiber);
    fiber->scheduler = from.context;
    for (;;) {
        fiber->entry(fiber, fiber->arg);
        fiber->entry = NULL;
        fiber->scheduler = switch_away(fiber, true);
    }
}

bool fiber_run(struct fiber *fiber, void (*entry)(struct fiber *fiber, void *arg), void *arg)
{
    WEIR_ENSURE(!fiber->entry);
#ifndef NDEBUG
    fiber->owner = pthread_self();
#endif
    fiber->entry = entry;
    fiber->arg = arg;
    return enter_fiber(fiber);
}

bool fiber_run_from(struct fiber *caller, struct fiber *fiber,
                    void (*entry)(struct fiber *fiber, void *arg), void *arg)
{
    struct exceptions *threads = caller->exceptions;
    struct exceptions own;
    bool has_ended;

    if (threads) {
        own = *threads;
        *threads = (struct exceptions){ 0 };
    }
    has_ended = fiber_run(fiber, entry, arg);
    if (threads)
        *threads = own;
    return has_ended;
}

bool fiber_resume(struct fiber *fiber)
{
    WEIR_ENSURE(fiber->entry && !fiber->scheduler);
    assert(pthread_equal(fiber->owner, pthread_self()));
    return enter_fiber(fiber);
}

bool fiber_is_sound(const struct fiber *fiber)
{
    return fiber->canary == CANARY;
}

bool fiber_holds(const struct fiber *fiber, const void *address)
{
    /* Its stack ends where it lies itself. */
    return (uintptr_t)fiber - (uintptr_t)address < fiber->size;
}

bool fiber_is_here(const struct fiber *fiber)
{
    return fiber_holds(fiber, __builtin_frame_address(0));
}

void fiber_park(struct fiber *fiber)
{
    struct exceptions *threads = fiber->exceptions;
    struct exceptions own;

    WEIR_ENSURE(fiber->scheduler);
    assert(pthread_equal(fiber->owner, pthread_self()));
    if (threads) {
        own = *threads;
        *threads = (struct exceptions){ 0 };
    }
    fiber->scheduler = switch_away(fiber, false);
    if (threads)
        *threads = own;
}

/* ------------------------------------------------------------------ making ------------ */

/*
 * All fibers lie at the same place of their pages. Spreading them over the sets of the CPU's
 * caches was tried, and gained nothing with 1 to 32,768 fibers in turn (bench/fiber_benchmark.cc).
 */
#define HEADER_SIZE ((sizeof(struct fiber) + WEIR_CACHE_LINE - 1) & -(size_t)WEIR_CACHE_LINE)

struct fiber *fiber_on_stack(void *top)
{
    return (struct fiber *)((unsigned char *)top - HEADER_SIZE);
}

static void *top_of(struct fiber *fiber)
{
    return (unsigned char *)fiber + HEADER_SIZE;
}

/*
 * The runtime may be the program's own, or one that a library has brought: the linker leaves that
 * out of account in a program of C.
 */
static struct exceptions *exceptions_of_thread(void)
{
    void *(*get)(void) = __cxa_get_globals;

    if (!get)
        get = (void *(*)(void))(uintptr_t)dlsym(RTLD_DEFAULT, "__cxa_get_globals");
    return get ? get() : NULL;
}

/* On the thread that the cache belongs to. */
static struct exceptions *cache_exceptions(struct fiber_cache *cache)
{
    if (!cache->looked_for_exceptions)
        cache->exceptions = exceptions_of_thread();
    cache->looked_for_exceptions = true;
    return cache->exceptions;
}

static struct fiber *fiber_create(struct fiber_cache *cache)
{
    size_t size = stack_arena_size(cache->arena);
    void *top = stack_arena_get(cache->arena);
    struct fiber *fiber;

    if (!top)
        return NULL;
    fiber = fiber_on_stack(top);
    *fiber = (struct fiber){
        .canary = CANARY,
        .context = make_fcontext(fiber, size - HEADER_SIZE, trampoline),
        .exceptions = cache_exceptions(cache),
        .size = (unsigned)size,
    };
    introduce(fiber, (unsigned char *)top - size);
    return fiber;
}

static void fiber_destroy(struct fiber *fiber, struct stack_arena *arena)
{
    dismiss(fiber);
    stack_arena_put(arena, top_of(fiber));
}

void fiber_cache_init(struct fiber_cache *cache, struct stack_arena *arena, unsigned max_idle)
{
    *cache = (struct fiber_cache){ .arena = arena, .max_idle = max_idle };
}

static struct fiber *pop_warm(struct fiber_cache *cache)
{
    struct fiber *fiber = cache->warm;

    cache->warm = fiber->next;
    cache->warm_len--;
    if (cache->least_len > cache->warm_len)
        cache->least_len = cache->warm_len;
    return fiber;
}

void fiber_cache_fini(struct fiber_cache *cache)
{
    while (cache->warm)
        fiber_destroy(pop_warm(cache), cache->arena);
}

void fiber_cache_trim(struct fiber_cache *cache, unsigned count)
{
    if (count > cache->least_len)
        count = cache->least_len;
    for (; count > 0 && fiber_cache_trimmable(cache); count--)
        fiber_destroy(pop_warm(cache), cache->arena);
    cache->least_len = cache->warm_len;
}

struct fiber *fiber_get(struct fiber_cache *cache)
{
    return WEIR_LIKELY(cache->warm) ? pop_warm(cache) : fiber_create(cache);
}

void fiber_put(struct fiber_cache *cache, struct fiber *fiber)
{
    WEIR_ENSURE(!fiber->entry);
    fiber_set_label(fiber, NULL);
    fiber->next = cache->warm;
    cache->warm = fiber;
    cache->warm_len++;
}

void fiber_set_task(struct fiber *fiber, const void *task)
{
    /* relaxed: what is behind it is the task's own to order. pairs: fiber_task() */
    atomic_store_explicit(&fiber->task, task, memory_order_relaxed);
}

/* Another thread may ask, which knows from a stack pointer alone that there is a fiber. */
UNINSTRUMENTED const void *fiber_task(const struct fiber *fiber)
{
    /* relaxed: as above. pairs: fiber_set_task() */
    return atomic_load_explicit(&fiber->task, memory_order_relaxed);
}

void fiber_set_label(struct fiber *fiber, const char *label)
{
    /* relaxed: what it points to was there before any fiber. pairs: none */
    atomic_store_explicit(&fiber->label, label, memory_order_relaxed);
}

const char *fiber_label(const struct fiber *fiber)
{
    /* relaxed: as above. pairs: none */
    return atomic_load_explicit(&fiber->label, memory_order_relaxed);
}
