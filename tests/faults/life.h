/*
 * life.h - a whole life of a server, whose clients check what becomes of them.
 *
 * Threads: the main thread of a trial, a process of its own. Blocks: until the life is over.
 */
#ifndef WEIR_TESTS_FAULTS_LIFE_H
#define WEIR_TESTS_FAULTS_LIFE_H

#include <stdbool.h>
#include <weir/weir.h>

/* How it is led. */
struct way {
    const char *name;
    enum weir_concurrency concurrency;
    enum weir_dispatch dispatch;
    unsigned acceptors;
    bool rushes;            /* many clients come at once, so that workers accept */
    unsigned losses;        /* so many clients may be lost by one fault */
};

/* What all trials share: the files that are served, and where Unix sockets are. */
void life_prepare(void);
void life_remove(void);

/* life_clear removes what a trial that failed may have left. */
void life_clear(void);

/*
 * life_lead leads one. Calls fail by the plan while it does. Ends the process with a complaint in
 * the plan if something is not as weir.h says, or is left.
 */
void life_lead(const struct way *way);

#endif
