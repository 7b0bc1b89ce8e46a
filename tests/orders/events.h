/*
 * events.h - what threads wait for in the kernel: eventfds, edge-triggered, and whatever else comes
 * from outside. Who signals one hands its past to who sees it.
 */
#ifndef WEIR_TESTS_ORDERS_EVENTS_H
#define WEIR_TESTS_ORDERS_EVENTS_H

#include <stdbool.h>

/* In begin(): nothing is signalled, and the numbers start anew. */
void events_reset(void);
int event_create(void);

void event_signal(int event);

/* Returns true, once, if it was signalled. */
bool event_look(int event);

/* Returns when it is signalled. */
void event_wait(int event);

#endif
