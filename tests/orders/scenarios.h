#ifndef WEIR_TESTS_ORDERS_SCENARIOS_H
#define WEIR_TESTS_ORDERS_SCENARIOS_H

#include "tests/orders/explorer.h"

extern const struct scenario *const scenarios[];    /* NULL ends them */

#endif
