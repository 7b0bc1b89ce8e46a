#ifndef WEIR_TESTS_ORDERS_SCENARIOS_H
#define WEIR_TESTS_ORDERS_SCENARIOS_H

#include "engine/sync/ready_queue.h"
#include "tests/orders/explorer.h"

extern const struct scenario *const scenarios[];    /* NULL ends them */

/*
 * For begin(): an empty ready queue of 1, 2 or 4 slots, whose words have names. Queues of as many
 * slots have the same ones, since there is one scenario at a time.
 */
void scenario_make_queue(struct ready_queue *ret, unsigned capacity);

#endif
