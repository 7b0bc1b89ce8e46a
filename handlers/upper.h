/* upper.h - a handler that answers each line with the line in capitals. */
#ifndef WEIR_HANDLERS_UPPER_H
#define WEIR_HANDLERS_UPPER_H

#include <weir/weir.h>

extern const struct weir_handler upper_handler;

#endif
