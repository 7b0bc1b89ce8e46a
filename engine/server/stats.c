/* stats.c - weir_server_stats: what everybody has counted, and who waits where. */
#include "engine/server/server.h"

#include "engine/base/statistics.h"
#include "engine/base/tally.h"
#include "engine/pool/connection.h"

#include <string.h>

static void add_tally(void *arg, const struct tally *tally)
{
    struct weir_stats *stats = arg;

#define ADD(kind, member, meaning) stats->member += tally_read(tally, TALLY_##kind);
    STATISTICS(ADD, STATISTICS_NONE, STATISTICS_NONE)
#undef ADD
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

/* What is open, and how many threads or children serve it. */
static void add_open(struct weir_server *server, struct weir_stats *stats)
{
    struct connection_table *table = &server->pool->crew.table;

    server->mixin->add_stats(server->mixin, stats, add_tally);
    /* Where children accept, the table's are these children. */
    if (server->mixin->accepts_here) {
        connection_table_each(table, add_connection, stats);
        stats->running += connection_table_lent(table);
    }
    stats->offload_queued += offload_waiting(server->offload);
    stats->offload_threads += offload_threads(server->offload);
    stats->active = stats->queued + stats->running + stats->parked + stats->idle;
}

/* To a program of whatever version: what only a later library counts is 0. */
static void give(struct weir_stats *ret, size_t size, const struct weir_stats *stats)
{
    size_t known = size < sizeof(*stats) ? size : sizeof(*stats);

    memcpy(ret, stats, known);
    memset((char *)ret + known, 0, size - known);
}

int weir_server_stats(struct weir_server *server, struct weir_stats *ret_stats, size_t size)
{
    struct weir_stats stats = {
        /* relaxed: a count. pairs: note_submitted() */
        .accepted = atomic_load_explicit(&server->submitted, memory_order_relaxed),
    };

    for (size_t i = 0; i < server->acceptors_len; i++)
        add_tally(&stats, &server->acceptors[i].tally);
    for (unsigned i = 0; i < server->pool->workers_len; i++)
        add_tally(&stats, &server->pool->workers[i].tally);
    add_tally(&stats, &server->pool->tally);
    stats.wakeups = handoff_wakeups(&server->pool->crew.handoff);
    if (!server_is_copy(server))
        add_open(server, &stats);
    give(ret_stats, size, &stats);
    return 0;
}
