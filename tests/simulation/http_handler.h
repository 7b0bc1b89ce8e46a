/*
 * http_handler.h - the simulated server's site: callbacks that read bodies, reply whole and in
 * pieces, wait, and leave bodies unread, as the path of the request tells them (http_language.h).
 *
 * Threads: the engine's. Owns: nothing. Blocks: it parks.
 */
#ifndef WEIR_SIMULATION_HTTP_HANDLER_H
#define WEIR_SIMULATION_HTTP_HANDLER_H

#include "engine/weir.h"

extern struct weir_handler handler_http;

#endif
