/*
 * sender.h - a client that sends datagrams, and checks that each is answered once, by itself.
 *
 * A datagram is a line (language.h), in which the number of milliseconds is followed by a text that
 * no other datagram has.
 *
 * Threads: one. Owns: nothing. Blocks: never; it is an actor.
 */
#ifndef WEIR_SIMULATION_SENDER_H
#define WEIR_SIMULATION_SENDER_H

#include "tests/simulation/datagrams.h"
#include "tests/simulation/dice.h"
#include "tests/simulation/language.h"
#include "tests/simulation/scheduler.h"

#include <stdbool.h>
#include <stdint.h>

#define SENDER_OPEN 16          /* sent and not answered yet */

struct sender_manners {
    uint16_t port;
    uint32_t datagrams;
    uint32_t wait_ms;
    uint64_t think_ns;
    const char *says;
    uint64_t patience_ns;       /* an answer takes no longer */
    bool may_lose;              /* something was injected that may cost one */
};

struct sender {
    struct actor actor;
    struct datagram_peer peer;
    unsigned number;
    const struct sender_manners *manners;
    struct dice dice;
    uint32_t left, next;
    struct {
        struct phrase phrase;
        uint64_t until_ns;      /* 0: answered, or lost by the kernel */
    } open[SENDER_OPEN];
    bool done;
};

void sender_init(struct sender *sender, unsigned number, const struct sender_manners *manners,
                 uint64_t seed);

/* The server closes: nothing that is still to be answered need be. */
void senders_stop(void);

#endif
