#include "engine/pool/lending.h"

static void begin_period(struct lending *lending, uint64_t now_ms)
{
    lending->since_ms = now_ms;
    lending->admitted = 0;
}

bool lending_is_due(struct lending *lending, unsigned admitted, const struct pool *pool,
                    uint64_t now_ms)
{
    if (now_ms >= lending->since_ms + LENDING_RUSH_MS) {
        begin_period(lending, now_ms);
        lending->turns = pool_turns(pool);
    }
    lending->admitted += admitted;
    return lending->admitted >= LENDING_RUSH && pool_turns(pool) != lending->turns;
}

int lending_begin(struct lending *lending, struct crew *crew,
                  const struct side_door_config *config, uint64_t now_ms)
{
    int r = lending->door ? 0 : side_door_create(crew, config, &lending->door);

    if (r == 0)
        r = side_door_open(lending->door);
    if (r < 0)
        return r;
    begin_period(lending, now_ms);
    lending->taken = side_door_taken(lending->door);
    return 0;
}

void lending_end(struct lending *lending)
{
    side_door_shut(lending->door);
    lending->admitted = 0;
}

uint64_t lending_look_at_ms(const struct lending *lending)
{
    return lending->since_ms + LENDING_CALM_MS;
}

bool lending_goes_on(struct lending *lending, uint64_t now_ms)
{
    uint64_t taken = side_door_taken(lending->door);

    if (!side_door_is_open(lending->door))
        return false;
    if (now_ms < lending_look_at_ms(lending))
        return true;
    if (taken == lending->taken)
        return false;
    begin_period(lending, now_ms);
    lending->taken = taken;
    return true;
}
