/* hello.h - an HTTP site of one page, "/", that says hello. */
#ifndef WEIR_HANDLERS_HELLO_H
#define WEIR_HANDLERS_HELLO_H

#include <weir/weir.h>

extern const struct weir_handler hello_handler;

#endif
