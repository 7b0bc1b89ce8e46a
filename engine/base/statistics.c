#include "engine/base/statistics.h"

#include <weir/weir.h>

#include <stddef.h>
#include <stdint.h>

enum { FIELDS = sizeof(struct weir_stats) / sizeof(uint64_t) };

#define ONE(...) + 1   /* NOLINT(bugprone-macro-parentheses): a sum without its beginning */
_Static_assert(0 STATISTICS(ONE, ONE, ONE) == FIELDS, "every member of weir_stats has its line");
_Static_assert(sizeof(struct weir_stats) == FIELDS * sizeof(uint64_t), "members are uint64_t");

/* By the place in the structure: of two lines of one member the compiler would warn. */
#define FIELD(member, says, of_kind) \
    [offsetof(struct weir_stats, member) / sizeof(uint64_t)] = { \
        .name = #member, .meaning = (says), .offset = offsetof(struct weir_stats, member), \
        .kind = (of_kind), \
    },
#define TALLIED(kind, member, says) FIELD(member, says, WEIR_STAT_COUNTER)
#define COUNTED(member, says) FIELD(member, says, WEIR_STAT_COUNTER)
#define NOW(member, says) FIELD(member, says, WEIR_STAT_GAUGE)

static const struct weir_stat fields[FIELDS] = { STATISTICS(TALLIED, COUNTED, NOW) };

const struct weir_stat *weir_stats_field(size_t i)
{
    return i < FIELDS ? &fields[i] : NULL;
}

static uint64_t *value(struct weir_stats *stats, size_t i)
{
    return (uint64_t *)stats + i;
}

void statistics_add(struct weir_stats *sum, const struct weir_stats *more)
{
    const uint64_t *values = (const uint64_t *)more;

    for (size_t i = 0; i < FIELDS; i++)
        *value(sum, i) += values[i];
}

void statistics_end(struct weir_stats *stats)
{
    /* Not what was active: a connection that lingers is closed and active. */
    if (stats->accepted > stats->refused + stats->closed)
        stats->closed = stats->accepted - stats->refused;
    for (size_t i = 0; i < FIELDS; i++)
        if (fields[i].kind == WEIR_STAT_GAUGE)
            *value(stats, i) = 0;
}
