/*
 * pooled.c - the pool: a connection goes into the ready queue, and a free worker serves it.
 */
#include "engine/modes/mixin.h"

#include <errno.h>
#include <stdlib.h>

/* Connections per listener and turn, so that one port's flood does not starve another's. */
#define POOLED_BATCH 16

struct pooled {
    struct mixin mixin;
    struct crew *crew;
};

static struct pooled *pooled_of(struct mixin *mixin)
{
    return caa_container_of(mixin, struct pooled, mixin);
}

static int pooled_process(struct mixin *mixin, const struct accepted *accepted)
{
    return accepted_queue(accepted, pooled_of(mixin)->crew);
}

/* What workers have done is counted with the pool, which a copy of the server may read, too. */
static void pooled_add_stats(struct mixin *mixin, struct weir_stats *sum, mixin_add_tally *add)
{
    (void)add;
    sum->workers = pooled_of(mixin)->crew->handoff.workers;
}

static void pooled_destroy(struct mixin *mixin)
{
    free(pooled_of(mixin));
}

int pooled_create(const struct mixin_config *config, struct mixin **ret)
{
    struct pooled *pooled = malloc(sizeof(*pooled));

    if (!pooled)
        return -ENOMEM;
    *pooled = (struct pooled){
        .mixin = {
            .prepare = mixin_needs_nothing, .process = pooled_process, .reap = mixin_has_nobody,
            .add_stats = pooled_add_stats, .add_roll = mixin_calls_nobody,
            .begin = mixin_needs_nothing, .end = mixin_has_nobody,
            .renew = mixin_has_nobody, .hand_on = mixin_has_nobody,
            .take_leave = mixin_has_nobody,
            .kill = mixin_has_nobody, .free_locks = mixin_has_nobody,
            .destroy = pooled_destroy,
            .accepts_here = true, .has_workers = true, .hands_on = true, .ended_fd = -1,
            .batch = POOLED_BATCH, .shortage = "",
        },
        .crew = config->crew,
    };
    *ret = &pooled->mixin;
    return 0;
}
