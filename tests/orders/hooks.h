/*
 * hooks.h - the atomics of code that is compiled as for ThreadSanitizer.
 *
 * Sites are the places in the code that make atomic operations. One may be weakened: then the
 * operation runs under another order than the code asks for. What holds nevertheless did not need
 * the order.
 */
#ifndef WEIR_TESTS_ORDERS_HOOKS_H
#define WEIR_TESTS_ORDERS_HOOKS_H

#include <stdint.h>

/* The sites that have been passed since they were forgotten, in the order of their first time. */
struct site {
    const void *at;             /* an address in the program */
    int order;                  /* that the code asks for; of a compare-exchange that succeeds */
    const char *kind;
};
const struct site *hooks_sites(unsigned *ret_len);
void hooks_forget_sites(void);

/* The operation at this site, counted from the program's begin, runs under `order`. */
void hooks_weaken(uintptr_t offset, int order);
uintptr_t hooks_offset_of(const void *at);

#endif
