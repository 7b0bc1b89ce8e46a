#include "engine/accept/housekeeping.h"

#include "engine/base/clock.h"
#include "engine/net/endpoint.h"
#include "engine/pool/connection.h"

#define TICK_MS 1
#define TICK_WATCHDOG_MAX_MS 100
#define TICKS_UNTIL_QUIET 50
#define SWEEPS_A_TIMEOUT 8
#define SWEEP_MIN_MS 10
#define SWEEP_MAX_MS 1000

/*
 * After a sweep that took long the next one waits for SWEEP_PAUSE times as long: one listener's
 * short timeout has the connections of all of them walked.
 */
#define SWEEP_PAUSE 20
#define NS_PER_MS UINT64_C(1000000)

void housekeeping_init(struct housekeeping *housekeeping, const struct housekeeping_config *config,
                       struct mixin *mixin, struct pool *pool)
{
    *housekeeping = (struct housekeeping){ .config = config, .mixin = mixin, .pool = pool };
}

/* ------------------------------------------------------------------ the sweep --------- */

static enum crew_pick idle_for_too_long(struct connection *conn, void *arg)
{
    const uint64_t *now_ms = arg;
    bool is_silent;
    uint64_t since_ms = connection_idle_since_ms(conn, &is_silent);
    uint64_t timeout_ms;

    if (since_ms == 0)
        return CREW_STAYS;
    timeout_ms = connection_idle_limit_ms(conn, is_silent);
    return timeout_ms > 0 && since_ms + timeout_ms + CLOCK_COARSE_LAG_MS < *now_ms ? CREW_EXPIRED
                                                                                   : CREW_STAYS;
}

/* Returns how long to pause behind it. */
static uint64_t walk_and_queue(struct crew *crew, uint64_t now_ms)
{
    uint64_t began_ns = clock_ns();

    crew_queue_idle(crew, idle_for_too_long, &now_ms);
    return clock_since(began_ns, clock_ns()) * SWEEP_PAUSE / NS_PER_MS;
}

/* An endpoint has an idle timeout, or a handler has set one, which is at least a second. */
static bool sweeps(const struct housekeeping *housekeeping)
{
    return housekeeping->config->shortest_idle_ms > 0 || crew_sweeps(&housekeeping->pool->crew);
}

static void sweep(struct housekeeping *housekeeping, uint64_t now_ms)
{
    uint64_t interval_ms = housekeeping->config->shortest_idle_ms / SWEEPS_A_TIMEOUT;
    uint64_t pause_ms = 0;

    if (interval_ms < SWEEP_MIN_MS)
        interval_ms = SWEEP_MIN_MS;
    if (interval_ms > SWEEP_MAX_MS || housekeeping->config->shortest_idle_ms == 0)
        interval_ms = SWEEP_MAX_MS;
    if (pool_open_count(housekeeping->pool) > 0)
        pause_ms = walk_and_queue(&housekeeping->pool->crew, now_ms);
    housekeeping->sweep_at_ms = now_ms + (interval_ms > pause_ms ? interval_ms : pause_ms);
}

/* ------------------------------------------------------------------ the tick ---------- */

void housekeeping_begin_ticking(struct housekeeping *housekeeping)
{
    housekeeping->ticking = true;
    housekeeping->quiet_ticks = 0;
}

static uint64_t tick_interval_ms(const struct pool *pool)
{
    uint64_t interval_ms = pool->config.stall.warn_ms / 4;

    if (pool->workers_len > 1)
        return TICK_MS;
    if (interval_ms > TICK_WATCHDOG_MAX_MS)
        return TICK_WATCHDOG_MAX_MS;
    return interval_ms > 0 ? interval_ms : TICK_MS;
}

static bool tick(struct housekeeping *housekeeping, uint64_t now_ms)
{
    struct pool *pool = housekeeping->pool;
    struct handoff *handoff = &pool->crew.handoff;
    bool stuck = pool_tick(pool, now_ms);

    housekeeping->tick_at_ms = now_ms + tick_interval_ms(pool);
    housekeeping->quiet_ticks++;
    if (!handoff_everyone_asleep(handoff))
        housekeeping->quiet_ticks = 0;
    if (housekeeping->quiet_ticks >= TICKS_UNTIL_QUIET)
        housekeeping->ticking = !handoff_unwatch(handoff);
    return stuck;
}

/* ------------------------------------------------------------------ what is due ------- */

static bool has_come(uint64_t at_ms, uint64_t now_ms)
{
    return at_ms != 0 && now_ms >= at_ms;
}

bool housekeeping_do(struct housekeeping *housekeeping, uint64_t now_ms)
{
    const struct housekeeping_config *config = housekeeping->config;
    struct mixin *mixin = housekeeping->mixin;
    bool stuck = false;

    if (housekeeping->ticking && now_ms >= housekeeping->tick_at_ms)
        stuck = tick(housekeeping, now_ms);
    if (has_come(mixin->due_at_ms, now_ms))
        mixin->reap(mixin);
    if (sweeps(housekeeping) && now_ms >= housekeeping->sweep_at_ms)
        sweep(housekeeping, now_ms);
    if (config->service_actions && now_ms >= housekeeping->service_at_ms) {
        housekeeping->service_at_ms = now_ms + config->poll_interval_ms;
        config->service_actions(config->server);
    }
    return stuck;
}

uint64_t housekeeping_next_ms(const struct housekeeping *housekeeping)
{
    const struct housekeeping_config *config = housekeeping->config;
    const struct mixin *mixin = housekeeping->mixin;
    uint64_t next_ms = CLOCK_NEVER;

    if (housekeeping->ticking)
        next_ms = clock_earlier(next_ms, housekeeping->tick_at_ms);
    if (mixin->due_at_ms != 0)
        next_ms = clock_earlier(next_ms, mixin->due_at_ms);
    if (sweeps(housekeeping))
        next_ms = clock_earlier(next_ms, housekeeping->sweep_at_ms);
    if (config->service_actions)
        next_ms = clock_earlier(next_ms, housekeeping->service_at_ms);
    return next_ms;
}
