/*
 * explorer.h - runs a scenario in every way in which its threads can go.
 *
 * The threads are coroutines. Before each operation on shared memory a thread stops, and the
 * explorer chooses who goes on, and which store a load reads; it takes the scenario from its
 * beginning again for each further choice, until there is none left. Of executions that differ only
 * in the order of steps that don't concern each other it runs one (sleep sets: Godefroid, "Partial-
 * order methods for the verification of concurrent systems", 1996).
 */
#ifndef WEIR_TESTS_ORDERS_EXPLORER_H
#define WEIR_TESTS_ORDERS_EXPLORER_H

#include <stdbool.h>
#include <stdint.h>

struct scenario {
    const char *name;
    const char *what;           /* it shows, for people */
    void (*begin)(void);        /* makes what is shared, and adds the threads */
    void (*end)(void);          /* nobody can go on: checks what is left. May be NULL */
    void (*after)(void);        /* all executions are through. May be NULL */
};

enum explorer_kind {
    EXPLORER_LOAD, EXPLORER_STORE, EXPLORER_CHANGE, EXPLORER_FENCE,
    EXPLORER_EVENT,             /* an event is signalled, or looked at */
    EXPLORER_WAIT,              /* ... or waited for */
};

struct explorer_step {
    enum explorer_kind kind;
    int order;
    unsigned object;            /* location or event */
    bool (*may_go)(unsigned object);    /* EXPLORER_WAIT */
};

/* Returns how many executions there were; exits with a trace when one fails. */
uint64_t explorer_run(const struct scenario *scenario, uint64_t most);

/* In begin(): a thread that runs fn(arg). They are numbered from 0. */
void explorer_add(void (*fn)(void *arg), void *arg);

/* The thread that runs; -1: none, it is begin() or end() that runs. */
int explorer_thread(void);

/* In end(): whether a thread has come to its end, and does not wait. */
bool explorer_has_ended(unsigned thread);

/* The thread is about to take this step: returns when it may. */
void explorer_stop_before(const struct explorer_step *step);

/*
 * ... and has: for the trace. `what` is a printf's format of up to two numbers, and stays; the
 * location is one of memory.h's, or EXPLORER_NOWHERE.
 */
#define EXPLORER_NOWHERE UINT32_MAX
void explorer_note(unsigned location, const char *what, uint64_t first, uint64_t second);

/* One of n ways, 0 to n - 1. */
unsigned explorer_choose(unsigned n);

/* The execution goes on as another one does: it is not played any further. */
void explorer_prune(void) __attribute__((noreturn));

/* The execution has shown a fault; or can't be played. Neither returns. */
void explorer_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void explorer_give_up(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Returns true if the thread's stack is where `at` is. */
bool explorer_on_own_stack(const volatile void *at);

#endif
