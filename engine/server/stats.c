/* stats.c - weir_server_stats: what everybody has counted, and who waits where. */
#include "engine/server/server.h"

#include "engine/base/tally.h"
#include "engine/pool/connection.h"

#include <errno.h>
#include <string.h>

static void add_tally(void *arg, const struct tally *tally)
{
    struct weir_stats *stats = arg;

    stats->accepted += tally_read(tally, TALLY_ACCEPTED);
    stats->refused += tally_read(tally, TALLY_REFUSED);
    stats->handled += tally_read(tally, TALLY_HANDLED);
    stats->closed += tally_read(tally, TALLY_CLOSED);
    stats->setup_errors += tally_read(tally, TALLY_SETUP_ERRORS);
    stats->handle_errors += tally_read(tally, TALLY_HANDLE_ERRORS);
    stats->finish_errors += tally_read(tally, TALLY_FINISH_ERRORS);
    stats->verify_errors += tally_read(tally, TALLY_VERIFY_ERRORS);
    stats->timeouts += tally_read(tally, TALLY_TIMEOUTS);
    stats->cancelled += tally_read(tally, TALLY_CANCELLED);
    stats->accept_errors += tally_read(tally, TALLY_ACCEPT_ERRORS);
    stats->bytes_in += tally_read(tally, TALLY_BYTES_IN);
    stats->bytes_out += tally_read(tally, TALLY_BYTES_OUT);
    stats->busy_ns += tally_read(tally, TALLY_BUSY_NS);
    stats->rescued += tally_read(tally, TALLY_RESCUED);
    stats->stalls += tally_read(tally, TALLY_STALLS);
    stats->resets += tally_read(tally, TALLY_RESETS);
    stats->no_memory += tally_read(tally, TALLY_NO_MEMORY);
    stats->full += tally_read(tally, TALLY_FULL);
    stats->made_room += tally_read(tally, TALLY_MADE_ROOM);
    stats->truncated += tally_read(tally, TALLY_TRUNCATED);
}

static void add_connection(struct connection *conn, void *arg)
{
    struct weir_stats *stats = arg;

    if (conn->kind != CONNECTION_ACCEPTED)
        return;
    switch (connection_state(conn)) {
    case CONNECTION_QUEUED:
        stats->queued++;
        break;
    case CONNECTION_RUNNING:
        stats->running++;
        break;
    case CONNECTION_PARKED:
        stats->parked++;
        break;
    case CONNECTION_IDLE:
        stats->idle++;
        break;
    case CONNECTION_CLOSED:
        break;
    }
}

/* What is open, and who serves it. */
static void add_open(struct weir_server *server, struct weir_stats *stats)
{
    struct mixin *mixin = server->mixin;

    stats->workers = server->pool->workers_len;
    connection_table_each(&server->pool->crew.table, add_connection, stats);
    if (mixin && mixin->tallies)
        stats->workers = mixin->tallies(mixin, add_tally, stats);
    if (mixin && mixin->add_stats)
        mixin->add_stats(mixin, stats);
    else
        stats->running += connection_table_lent(&server->pool->crew.table);
    stats->active = stats->queued + stats->running + stats->parked + stats->idle;
}

int weir_server_stats(struct weir_server *server, struct weir_stats *ret_stats, size_t size)
{
    struct weir_stats stats = {
        /* relaxed: a count. pairs: submit() */
        .accepted = atomic_load_explicit(&server->submitted, memory_order_relaxed),
    };

    if (size > sizeof(stats))
        return -EINVAL;
    for (size_t i = 0; i < server->acceptors_len; i++)
        add_tally(&stats, &server->acceptors[i].tally);
    for (unsigned i = 0; i < server->pool->workers_len; i++)
        add_tally(&stats, &server->pool->workers[i].tally);
    add_tally(&stats, &server->pool->tally);
    stats.wakeups = handoff_wakeups(&server->pool->crew.handoff);
    if (!server_is_copy(server))
        add_open(server, &stats);
    memcpy(ret_stats, &stats, size);
    return 0;
}
