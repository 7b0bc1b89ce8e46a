#include "tests/simulation/scheduler.h"

#include "tests/simulation/report.h"
#include "tests/simulation/trace.h"

#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ACTORS 512
#define STACK_SIZE ((size_t)256 << 10)

/* From libboost_context: see engine/fiber/fiber.c. */
struct transfer {
    void *context;
    void *data;
};
struct transfer jump_fcontext(void *to, void *data);
void *make_fcontext(void *top, size_t size, void (*fn)(struct transfer));

int __real_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*main)(void *),
                          void *arg);
void *__real_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
int __real_sem_init(sem_t *sem, int shared, unsigned value);
int __real_sem_post(sem_t *sem);
int __real_sem_wait(sem_t *sem);

enum thread_state { FREE, RUNNABLE, BLOCKED, STALLED, ENDED };

struct sim_thread {
    void *context;
    uintptr_t local;            /* its thread-local memory */
    void *stack;
    enum thread_state state;
    bool woken;
    bool detached;
    const void *reason;
    uint64_t until_ns;
    uint64_t priority;
    unsigned at;                /* in runnable */
    void *(*main)(void *arg);
    void *arg;
    void *result;
};

static struct scheduler_options how;
static struct dice scheduling, other;
static struct sim_thread threads[SCHEDULER_THREADS];
static struct sim_thread *self;
static struct sim_thread *runnable[SCHEDULER_THREADS];
static unsigned runnable_len, threads_len;
static struct actor *actors[ACTORS], *ready[ACTORS];
static unsigned actors_len, ready_len;
static uint64_t now_ns = 1000 * MS_NS;      /* 0 means "never" or "none" in places of the engine */
static uint64_t next_ns = SCHEDULER_NEVER;  /* no timer is earlier */
static uint64_t held_ns;
static uint64_t lowest = UINT64_MAX / 2;
static unsigned stalled_len;
static bool no_stalls;
static unsigned depth;                      /* in the scheduler or an actor: no points there */
static void *host_context;
void (*scheduler_on_quiet)(void);

/* What is left until the CPU is taken: hooks count it down. */
static int64_t left = INT64_MAX;

/* ------------------------------------------------------------------ local memory ------ */

/*
 * Thread-local memory is what the thread pointer points at. It can't be made without the C
 * library's inner functions; so real threads, which do nothing and are never woken, lend theirs.
 */
static uintptr_t lent[SCHEDULER_THREADS];
static sem_t lent_one, never;
static const void *image;       /* of the program's own thread-local variables, as they begin */
static size_t image_len, image_size, image_align;

static inline uintptr_t thread_pointer(void)
{
#if defined(__x86_64__)
    uintptr_t pointer;

    __asm__ volatile("rdfsbase %0" : "=r"(pointer));
    return pointer;
#else
    return (uintptr_t)__builtin_thread_pointer();
#endif
}

static inline void set_thread_pointer(uintptr_t pointer)
{
#if defined(__x86_64__)
    __asm__ volatile("wrfsbase %0" : : "r"(pointer) : "memory");
#elif defined(__aarch64__)
    __asm__ volatile("msr tpidr_el0, %0" : : "r"(pointer) : "memory");
#else
#error "no way to set the thread pointer"
#endif
}

static void *lend_local_memory(void *slot)
{
    *(uintptr_t *)slot = thread_pointer();
    __real_sem_post(&lent_one);
    for (;;)
        __real_sem_wait(&never);
    return NULL;
}

static int find_image(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];

        if (header->p_type != PT_TLS)
            continue;
        image = (const void *)(info->dlpi_addr + header->p_vaddr);
        image_len = header->p_filesz;
        image_size = header->p_memsz;
        image_align = header->p_align;
    }
    return 1;   /* the program is the first one */
}

void scheduler_prepare(void)
{
    pthread_attr_t attr;
    pthread_t thread;

    dl_iterate_phdr(find_image, NULL);
    __real_sem_init(&lent_one, 0, 0);
    __real_sem_init(&never, 0, 0);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, (size_t)64 << 10);
    for (unsigned i = 0; i < SCHEDULER_THREADS; i++) {
        if (__real_pthread_create(&thread, &attr, lend_local_memory, &lent[i]) != 0)
            abort();
        __real_sem_wait(&lent_one);
    }
    pthread_attr_destroy(&attr);
}

/* Whoever had it before has left values there. */
static void clear_local_memory(uintptr_t pointer)
{
#if defined(__x86_64__)
    size_t span = (image_size + image_align - 1) & ~(image_align - 1);
    unsigned char *block = (unsigned char *)(pointer - span);
#else
    size_t span = (16 + image_align - 1) & ~(image_align - 1);
    unsigned char *block = (unsigned char *)(pointer + span);
#endif

    if (image_size == 0)
        return;
    memcpy(block, image, image_len);
    memset(block + image_len, 0, image_size - image_len);
}

/* ------------------------------------------------------------------ time and actors --- */

uint64_t scheduler_now_ns(void)
{
    return now_ns;
}

void scheduler_stall_no_more(void)
{
    how.stall_in = 0;
    no_stalls = true;
}

uint64_t scheduler_held_ns(void)
{
    return held_ns;
}

uint64_t scheduler_held_before_ns(void)
{
    uint64_t on_ns = 0;

    for (unsigned i = 0; i < threads_len && stalled_len > 0; i++)
        if (threads[i].state == STALLED && threads[i].until_ns > now_ns)
            on_ns += threads[i].until_ns - now_ns;
    return held_ns - on_ns;
}

struct dice *scheduler_dice(void)
{
    return &other;
}

static void note_timer(uint64_t at_ns)
{
    if (at_ns < next_ns)
        next_ns = at_ns;
}

void actor_init(struct actor *actor, void (*step)(struct actor *actor))
{
    *actor = (struct actor){ .step = step, .at_ns = SCHEDULER_NEVER, .known = true };
    if (actors_len == ACTORS)
        abort();
    actors[actors_len++] = actor;
}

void actor_wake(struct actor *actor)
{
    if (actor->ready || !actor->known)
        return;
    actor->ready = true;
    ready[ready_len++] = actor;
}

void actor_wake_at(struct actor *actor, uint64_t at_ns)
{
    actor->at_ns = at_ns;
    note_timer(at_ns);
}

static void make_runnable(struct sim_thread *thread)
{
    thread->state = RUNNABLE;
    thread->reason = NULL;
    thread->at = runnable_len;
    runnable[runnable_len++] = thread;
}

static void take_from_runnable(struct sim_thread *thread)
{
    runnable[thread->at] = runnable[--runnable_len];
    runnable[thread->at]->at = thread->at;
}

static void fire_thread(struct sim_thread *thread)
{
    if (thread->state != BLOCKED && thread->state != STALLED)
        return;
    if (thread->until_ns > now_ns) {
        note_timer(thread->until_ns);
        return;
    }
    if (thread->state == STALLED)
        stalled_len--;
    make_runnable(thread);
}

/* All whose moment has come. */
static void fire_timers(void)
{
    next_ns = SCHEDULER_NEVER;
    for (unsigned i = 0; i < threads_len; i++)
        fire_thread(&threads[i]);
    for (unsigned i = 0; i < actors_len; i++) {
        struct actor *actor = actors[i];

        if (actor->at_ns > now_ns) {
            note_timer(actor->at_ns);
            continue;
        }
        actor->at_ns = SCHEDULER_NEVER;
        actor_wake(actor);
    }
}

static void step_an_actor(void)
{
    unsigned i = (unsigned)dice_below(&scheduling, ready_len);
    struct actor *actor = ready[i];

    ready[i] = ready[--ready_len];
    actor->ready = false;
    actor->step(actor);
}

/* ------------------------------------------------------------------ switching --------- */

static void draw_left(void)
{
    left = (int64_t)dice_around(&scheduling, how.span);
}

static void enter(struct sim_thread *thread)
{
    struct sim_thread *before = self;
    struct transfer from;

    if (thread == before)
        return;
    self = thread;
    set_thread_pointer(thread->local);
    from = jump_fcontext(thread->context, before);
    /* Somebody has come back to us: and that is who has just stopped. */
    ((struct sim_thread *)from.data)->context = from.context;
}

static struct sim_thread *choose_thread(void)
{
    struct sim_thread *best = runnable[0];

    if (!how.by_priority)
        return runnable[dice_below(&scheduling, runnable_len)];
    for (unsigned i = 1; i < runnable_len; i++)
        if (runnable[i]->priority > best->priority)
            best = runnable[i];
    return best;
}

static void pass_time(void)
{
    uint64_t step_ns;

    if (how.step_ns == 0)
        return;
    step_ns = dice_around(&scheduling, how.step_ns);
    now_ns += step_ns;
    held_ns += step_ns;
}

/* Nobody can do anything: the next moment at which somebody can. */
static void jump_in_time(void)
{
    if (stalled_len == 0 && scheduler_on_quiet)
        scheduler_on_quiet();
    if (ready_len > 0)
        return;
    fire_timers();
    if (runnable_len > 0 || ready_len > 0)
        return;
    if (next_ns == SCHEDULER_NEVER)
        report_failure("nobody can do anything, ever again");
    now_ns = next_ns;
    fire_timers();
}

/* Until there is a thread to run. */
static struct sim_thread *next_thread(void)
{
    depth++;
    pass_time();
    for (;;) {
        if (now_ns >= next_ns)
            fire_timers();
        if (ready_len > 0 && (runnable_len == 0 || dice_once_in(&scheduling, how.actor_in)))
            step_an_actor();
        else if (runnable_len > 0)
            break;
        else
            jump_in_time();
    }
    depth--;
    return choose_thread();
}

static void reschedule(void)
{
    struct sim_thread *thread = next_thread();

    draw_left();
    enter(thread);
}

/* A long while without the CPU: a busy machine, a page that has to be read, a debugger. */
static void stall(uint64_t around_ns)
{
    uint64_t stall_ns = dice_around(&scheduling, around_ns);

    held_ns += stall_ns;
    take_from_runnable(self);
    self->state = STALLED;
    self->until_ns = now_ns + stall_ns;
    stalled_len++;
    note_timer(self->until_ns);
}

static void take_cpu(void)
{
    if (dice_once_in(&scheduling, how.stall_in))
        stall(how.stall_ns);
    else if (how.by_priority)
        self->priority = lowest--;
    reschedule();
}

void scheduler_point(uint32_t weight)
{
    left -= weight;
    if (left > 0)
        return;
    if (depth == 0 && self)
        take_cpu();
    else
        draw_left();
}

void scheduler_hold(uint64_t around_ns)
{
    if (depth > 0 || !self || no_stalls)
        return;
    stall(around_ns);
    reschedule();
}

void scheduler_point_call(void)
{
    scheduler_point(how.call_weight);
}

/* Whoever only yields waits for somebody who may be stalled: time must not stand still. */
#define YIELD_NS 10000

void scheduler_yield(void)
{
    now_ns += YIELD_NS;
    held_ns += YIELD_NS;
    self->priority = lowest--;
    reschedule();
}

/* ------------------------------------------------------------------ waiting ----------- */

unsigned scheduler_self(void)
{
    return self ? (unsigned)(self - threads) : 0;
}

bool scheduler_block(const void *reason, uint64_t until_ns)
{
    take_from_runnable(self);
    self->state = BLOCKED;
    self->reason = reason;
    self->until_ns = until_ns;
    self->woken = false;
    note_timer(until_ns);
    reschedule();
    return self->woken;
}

static void wake_thread(struct sim_thread *thread)
{
    thread->woken = true;
    make_runnable(thread);
}

unsigned scheduler_wake(const void *reason, bool all)
{
    struct sim_thread *waiting[SCHEDULER_THREADS];
    unsigned len = 0;

    for (unsigned i = 0; i < threads_len; i++)
        if (threads[i].state == BLOCKED && threads[i].reason == reason)
            waiting[len++] = &threads[i];
    if (len == 0)
        return 0;
    if (!all) {
        wake_thread(waiting[len > 1 ? dice_below(&scheduling, len) : 0]);
        return 1;
    }
    for (unsigned i = 0; i < len; i++)
        wake_thread(waiting[i]);
    return len;
}

bool scheduler_waits(unsigned thread, const void *reason)
{
    return threads[thread].state == BLOCKED && threads[thread].reason == reason;
}

/* ------------------------------------------------------------------ begin and end ----- */

/* Nobody comes back to a thread that has ended. */
static void end_thread(void)
{
    take_from_runnable(self);
    self->state = self->detached ? FREE : ENDED;
    scheduler_wake(self, true);
    if (self == &threads[0])
        jump_fcontext(host_context, self);
    reschedule();
    abort();
}

static void first_frame(struct transfer from)
{
    if (from.data)
        ((struct sim_thread *)from.data)->context = from.context;
    else
        host_context = from.context;
    self->result = self->main(self->arg);
    end_thread();
}

static struct sim_thread *free_thread(void)
{
    for (unsigned i = 0; i < threads_len; i++)
        if (threads[i].state == FREE && &threads[i] != self)
            return &threads[i];
    return threads_len < SCHEDULER_THREADS ? &threads[threads_len++] : NULL;
}

int scheduler_start(void *(*main)(void *arg), void *arg, bool detached)
{
    struct sim_thread *thread = free_thread();
    void *stack;

    if (!thread)
        return -1;
    stack = thread->stack;
    if (!stack)
        stack = __real_mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *thread = (struct sim_thread){
        .stack = stack, .main = main, .arg = arg, .detached = detached,
        .local = lent[thread - threads], .priority = UINT64_MAX / 2 + dice_below(&scheduling, 1000),
    };
    clear_local_memory(thread->local);
    thread->context = make_fcontext((unsigned char *)stack + STACK_SIZE, STACK_SIZE, first_frame);
    make_runnable(thread);
    return (int)(thread - threads);
}

bool scheduler_has_ended(unsigned thread)
{
    return threads[thread].state == ENDED;
}

void *scheduler_join(unsigned thread)
{
    while (threads[thread].state != ENDED)
        scheduler_block(&threads[thread], SCHEDULER_NEVER);
    threads[thread].state = FREE;
    return threads[thread].result;
}

struct first {
    void (*main)(void *arg);
    void *arg;
};

static void *first_main(void *arg)
{
    const struct first *first = arg;

    first->main(first->arg);
    return NULL;
}

void scheduler_run(const struct scheduler_options *options, void (*main)(void *arg), void *arg)
{
    struct first first = { main, arg };
    uintptr_t own = thread_pointer();

    how = *options;
    dice_init(&scheduling, options->seed);
    dice_init(&other, ~options->seed);
    scheduler_start(first_main, &first, false);
    draw_left();
    self = &threads[0];
    set_thread_pointer(self->local);
    jump_fcontext(self->context, NULL);
    self = NULL;
    set_thread_pointer(own);
    left = INT64_MAX;
}
