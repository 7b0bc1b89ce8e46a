/*
 * upstream.h - another server, which handlers ask by weir_connect: it says lines back, or refuses,
 * keeps silent, ends and resets, as the dice say.
 *
 * Threads: one. Owns: its end of each connection. Blocks: never; its connections are actors.
 */
#ifndef WEIR_SIMULATION_UPSTREAM_H
#define WEIR_SIMULATION_UPSTREAM_H

#include "tests/simulation/streams.h"

#include <stdbool.h>
#include <stdint.h>

struct upstream_manners {
    uint16_t port;
    uint64_t think_ns;          /* before each thing that it does, about */
    uint64_t refuse_in;         /* once in so many connections it refuses; 0: never */
    uint64_t ignore_in;         /* ... leaves it as it is */
    uint64_t spoil_in;          /* once in so many things it ends or resets instead */
};

/* It listens from now on. */
void upstream_begin(const struct upstream_manners *manners, uint64_t seed);

/* Returns true if connecting may end so: it is refused, or broken off as soon as it is there. */
bool upstream_may_say(int error);

/*
 * Returns true if it has broken this connection off, of which stream is either end. Both have a
 * conversation of their own, which the handler's calls are noted in.
 */
bool upstream_has_spoiled(const struct stream *stream);

#endif
