/*
 * lending.h - when a listener is lent to the workers, and when it is taken back.
 *
 * While few connections come, the acceptor accepts them: it is always there, whatever handlers do.
 * While they come fast, and workers keep turning, the workers accept them (side_door.h). The
 * acceptor takes the listener back when few come, when a worker is stuck, which may have left some
 * behind, when the server is full, and when clients wait too long (overload.h).
 *
 * Threads: the listener's acceptor.
 * Owns:    the side door.
 */
#ifndef WEIR_LENDING_H
#define WEIR_LENDING_H

#include "engine/pool/pool.h"
#include "engine/pool/side_door.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * LENDING_RUSH within LENDING_RUSH_MS is a rush. It is over when nobody has come for
 * LENDING_CALM_MS: workers may have to wait for a CPU for many milliseconds, while clients do come.
 */
#define LENDING_RUSH 4
#define LENDING_RUSH_MS 10
#define LENDING_CALM_MS 100

struct lending {
    struct side_door *door; /* NULL: it was never lent */
    uint64_t since_ms;      /* what follows is since then */
    unsigned admitted;      /* by the acceptor */
    uint64_t turns;         /* that the workers had made by then */
    uint64_t taken;         /* so many had come in by the side door by then */
};

/* The acceptor has let `admitted` in. Returns true if this is a rush, and workers are turning. */
bool lending_is_due(struct lending *lending, unsigned admitted, const struct pool *pool,
                    uint64_t now_ms);

/* 0 or -errno. The acceptor watches the listener no more, and again once it is taken back. */
int lending_begin(struct lending *lending, struct crew *crew,
                  const struct side_door_config *config, uint64_t now_ms);
void lending_end(struct lending *lending);

/* When to look again whether it goes on, and that look. False: it is to be taken back. */
uint64_t lending_look_at_ms(const struct lending *lending);
bool lending_goes_on(struct lending *lending, uint64_t now_ms);

#endif
