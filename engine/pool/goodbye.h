/*
 * goodbye.h - what a client is told that is turned away for want of room or time.
 *
 * The handler's own words, in its own protocol; without any, the connection just ends. It costs
 * neither a fiber nor a wait. What the client has asked is thrown away first: unread, it would turn
 * the end of the connection into a reset, and the goodbye might be lost. What arrives later may
 * still do so.
 *
 * Threads: whoever has the descriptor.
 * Owns:    nothing.
 * Blocks:  never: what the socket does not take at once is not sent.
 */
#ifndef WEIR_GOODBYE_H
#define WEIR_GOODBYE_H

#include "engine/weir.h"

#include <stdbool.h>

/* Says goodbye, whether or not the client has asked for something. The close is to come. */
void goodbye_say(int fd, const struct weir_handler *handler);

/*
 * The same, unless this is a handler whose client speaks first, and it has not. Returns true if it
 * was said, or the client has gone.
 */
bool goodbye_say_if_asked(int fd, const struct weir_handler *handler);

#endif
