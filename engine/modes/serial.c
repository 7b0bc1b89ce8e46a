/*
 * serial.c - no mix-in at all: the thread that accepts or submits a connection serves it to
 * its end.
 */
#include "engine/modes/mixin.h"

#include "engine/modes/turn.h"

#include <errno.h>
#include <stdlib.h>

struct serial {
    struct mixin mixin;
    struct crew *crew;
    struct worker_alone alone;
    struct turn turn;           /* one connection after another */
    struct worker worker;
};

static struct serial *serial_of(struct mixin *mixin)
{
    return caa_container_of(mixin, struct serial, mixin);
}

static int serial_process(struct mixin *mixin, const struct accepted *accepted)
{
    struct serial *serial = serial_of(mixin);
    struct connection *conn = accepted_to_connection(accepted, &serial->crew->table);
    struct worker_alone alone = serial->alone;
    int r;

    if (!conn)
        return -ENOMEM;
    r = turn_take(&serial->turn);
    if (r < 0) {
        accepted_disconnect(accepted, &serial->crew->table, conn);
        return r;
    }
    alone.stop_fd = accepted->stop_fd;
    worker_serve_alone(&serial->worker, conn, &alone);
    turn_give(&serial->turn);
    return 0;
}

static void serial_add_stats(struct mixin *mixin, struct weir_stats *sum, mixin_add_tally *add)
{
    add(sum, &serial_of(mixin)->worker.tally);
    sum->workers = 1;
}

static void serial_destroy(struct mixin *mixin)
{
    struct serial *serial = serial_of(mixin);

    worker_fini_alone(&serial->worker);
    free(serial);
}

int serial_create(const struct mixin_config *config, struct mixin **ret)
{
    struct serial *serial = aligned_alloc(_Alignof(struct serial), sizeof(*serial));

    if (!serial)
        return -ENOMEM;
    serial->mixin = (struct mixin){
        .prepare = mixin_needs_nothing, .process = serial_process, .reap = mixin_has_nobody,
        .add_stats = serial_add_stats, .add_roll = mixin_calls_nobody,
        .begin = mixin_needs_nothing, .end = mixin_has_nobody,
        .renew = mixin_has_nobody, .hand_on = mixin_has_nobody,
        .take_leave = mixin_has_nobody,
        .kill = mixin_has_nobody, .free_locks = mixin_has_nobody,
        .destroy = serial_destroy,
        .accepts_here = true, .serves_at_once = true, .shortage = "", .ended_fd = -1,
        .batch = 1,     /* as socketserver: between two, a stop and service_actions are seen */
    };
    serial->crew = config->crew;
    serial->alone = config->alone;
    serial->alone.drain_timeout_ms = config->drain_timeout_ms;
    serial->alone.inside = true;
    serial->turn = (struct turn){ NULL };
    worker_init_alone(&serial->worker, config->crew, 0);
    *ret = &serial->mixin;
    return 0;
}
