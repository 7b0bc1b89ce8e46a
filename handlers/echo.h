/* echo.h - a handler that sends back what comes, as it comes. */
#ifndef WEIR_HANDLERS_ECHO_H
#define WEIR_HANDLERS_ECHO_H

#include <weir/weir.h>

extern const struct weir_handler echo_handler;

#endif
