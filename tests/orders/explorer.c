#include "tests/orders/explorer.h"

#include "tests/orders/memory.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STACK_SIZE = 64 << 10, CHOICES = 4096, STEPS = 4096, NOTES = 1024 };

/* From libboost_context, as boost/context/detail/fcontext.hpp declares them for C++. */
struct transfer {
    void *context;
    void *data;
};
struct transfer jump_fcontext(void *to, void *data);
void *make_fcontext(void *top, size_t size, void (*fn)(struct transfer));

struct thread {
    void (*fn)(void *arg);
    void *arg;
    void *context;
    bool has_ended;
    struct explorer_step next;      /* where it has stopped */
    unsigned stores;                /* there were so many when its next step was seen to its end */
    _Alignas(64) unsigned char stack[STACK_SIZE];
};

static struct thread threads[MEMORY_THREADS];
static unsigned threads_len;
static int running = -1;
static bool is_pruned;
static unsigned steps;
static void *explorer_context;

/* The way of this execution through its choices; the next one differs in the last that can. */
static struct {
    uint16_t taken;
    uint16_t count;
} choices[CHOICES];
static unsigned choices_len, choices_at;

static struct {
    int thread;
    unsigned location;
    const char *what;
    uint64_t first, second;
} notes[NOTES];
static unsigned notes_len;
static uint64_t executions;
static const struct scenario *played;

/* ------------------------------------------------------------------ talk -------------- */

void explorer_note(unsigned location, const char *what, uint64_t first, uint64_t second)
{
    if (notes_len == NOTES)
        return;
    notes[notes_len].thread = running;
    notes[notes_len].location = location;
    notes[notes_len].what = what;
    notes[notes_len].first = first;
    notes[notes_len++].second = second;
}

#pragma GCC diagnostic ignored "-Wformat-nonliteral"

static void print_trace(void)
{
    printf("%s: execution %llu:\n", played->name, (unsigned long long)executions + 1);
    for (unsigned i = 0; i < notes_len; i++) {
        printf("  thread %d: ", notes[i].thread);
        if (notes[i].location != EXPLORER_NOWHERE)
            printf("%s: ", memory_name_of(notes[i].location));
        printf(notes[i].what, (unsigned long long)notes[i].first,
               (unsigned long long)notes[i].second);
        puts("");
    }
}

void explorer_fail(const char *format, ...)
{
    va_list arguments;

    print_trace();
    printf("FOUND in %s: ", played->name);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    puts("");
    exit(1);
}

void explorer_give_up(const char *format, ...)
{
    va_list arguments;

    printf("%s can't be played: ", played->name);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    puts("");
    exit(2);
}

/* ------------------------------------------------------------------ choices ----------- */

unsigned explorer_choose(unsigned n)
{
    if (n <= 1)
        return 0;
    if (choices_at == choices_len) {
        if (choices_len == CHOICES)
            explorer_give_up("an execution of more than %d choices", CHOICES);
        choices[choices_len].taken = 0;
        choices[choices_len++].count = (uint16_t)n;
    }
    return choices[choices_at++].taken;
}

static bool take_next_way(void)
{
    while (choices_len > 0 && choices[choices_len - 1].taken + 1 == choices[choices_len - 1].count)
        choices_len--;
    if (choices_len == 0)
        return false;
    choices[choices_len - 1].taken++;
    return true;
}

/* ------------------------------------------------------------------ threads ----------- */

static void first_frame(struct transfer from)
{
    explorer_context = from.context;
    threads[running].fn(threads[running].arg);
    threads[running].has_ended = true;
    jump_fcontext(explorer_context, NULL);
}

void explorer_add(void (*fn)(void *arg), void *arg)
{
    struct thread *thread = &threads[threads_len++];

    thread->fn = fn;
    thread->arg = arg;
    thread->has_ended = false;
    thread->context = make_fcontext(thread->stack + STACK_SIZE, STACK_SIZE, first_frame);
}

int explorer_thread(void)
{
    return running;
}

bool explorer_has_ended(unsigned thread)
{
    return threads[thread].has_ended;
}

bool explorer_on_own_stack(const volatile void *at)
{
    const volatile unsigned char *byte = at;
    const unsigned char *stack = threads[running].stack;

    return byte >= stack && byte < stack + STACK_SIZE;
}

static void run_until_it_stops(unsigned i)
{
    struct transfer back;

    running = (int)i;
    back = jump_fcontext(threads[i].context, NULL);
    threads[i].context = back.context;
    running = -1;
}

void explorer_stop_before(const struct explorer_step *step)
{
    if (++steps > STEPS)
        explorer_fail("%d steps, and no end", STEPS);
    threads[running].next = *step;
    explorer_context = jump_fcontext(explorer_context, NULL).context;
}

void explorer_prune(void)
{
    is_pruned = true;
    jump_fcontext(explorer_context, NULL);
    __builtin_unreachable();
}

/* ------------------------------------------------------------------ one execution ----- */

static bool may_go(unsigned i)
{
    const struct explorer_step *next = &threads[i].next;

    if (threads[i].has_ended)
        return false;
    return next->kind != EXPLORER_WAIT || next->may_go(next->object);
}

static bool is_sequential(const struct explorer_step *step)
{
    return step->kind <= EXPLORER_FENCE && step->order == memory_order_seq_cst;
}

static bool is_event(const struct explorer_step *step)
{
    return step->kind == EXPLORER_EVENT || step->kind == EXPLORER_WAIT;
}

static bool writes(const struct explorer_step *step)
{
    return step->kind == EXPLORER_STORE || step->kind == EXPLORER_CHANGE || is_event(step);
}

static bool reads(const struct explorer_step *step)
{
    return step->kind == EXPLORER_LOAD || step->kind == EXPLORER_CHANGE;
}

/*
 * Returns true if it matters that `taken` comes before `next`, rather than after it. Between
 * accesses that aren't seq_cst it does only if `next` reads what `taken` writes: where a store
 * comes in its order, and that an older one is read, are choices of their own.
 */
static bool matters_before(const struct explorer_step *next, const struct explorer_step *taken)
{
    if (next->kind == EXPLORER_FENCE || taken->kind == EXPLORER_FENCE)
        return is_sequential(next) && is_sequential(taken);
    if (is_event(next) != is_event(taken) || next->object != taken->object)
        return false;
    if (is_sequential(next) && is_sequential(taken))
        return true;
    return is_event(next) || (writes(taken) && next->kind != EXPLORER_STORE);
}

static uint32_t all_that_may_go(void)
{
    uint32_t set = 0;

    for (unsigned i = 0; i < threads_len; i++)
        if (may_go(i))
            set |= UINT32_C(1) << i;
    return set;
}

static unsigned nth_of(uint32_t set, unsigned n)
{
    while (n-- > 0)
        set &= set - 1;
    return (unsigned)__builtin_ctz(set);
}

/*
 * Asleep are threads whose next step has been seen to its end: it was tried first here or before,
 * and nothing has come since that matters to it. A thread that wakes because of a store reads that
 * one, or a newer one: for it has been seen to read all others.
 */
static uint32_t still_asleep(uint32_t asleep, const struct explorer_step *taken)
{
    for (unsigned i = 0; i < threads_len; i++) {
        const struct explorer_step *next = &threads[i].next;

        if (!(asleep >> i & 1) || !matters_before(next, taken))
            continue;
        asleep &= ~(UINT32_C(1) << i);
        if (reads(next) && !is_sequential(next))
            memory_read_newer_than(i, threads[i].stores + 1);
    }
    return asleep;
}

/* Returns true if it came to its end, and was not one that has been seen in another order. */
static bool run_execution(void)
{
    uint32_t asleep = 0;
    uint32_t awake;

    for (unsigned i = 0; i < threads_len; i++)
        run_until_it_stops(i);
    for (;;) {
        uint32_t able = all_that_may_go();
        struct explorer_step taken;
        unsigned n, chosen;

        awake = able & ~asleep;
        if (awake == 0)
            return able == 0;
        n = explorer_choose((unsigned)__builtin_popcount(awake));
        for (unsigned i = 0; i < n; i++) {
            asleep |= UINT32_C(1) << nth_of(awake, i);
            threads[nth_of(awake, i)].stores = memory_stores();
        }
        chosen = nth_of(awake, n);
        taken = threads[chosen].next;
        run_until_it_stops(chosen);
        if (is_pruned)
            return false;
        asleep = still_asleep(asleep, &taken);
    }
}

uint64_t explorer_run(const struct scenario *scenario, uint64_t most)
{
    played = scenario;
    executions = 0;
    choices_len = 0;
    do {
        threads_len = 0;
        is_pruned = false;
        steps = 0;
        choices_at = 0;
        notes_len = 0;
        memory_reset();
        scenario->begin();
        if (run_execution() && scenario->end)
            scenario->end();
        executions++;
    } while (executions < most && take_next_way());
    if (scenario->after)
        scenario->after();
    return executions;
}
