/*
 * histogram.c - see histogram.h.
 *
 * A value of n significant bits is shifted right until HISTOGRAM_BITS + 1 are left; what is left,
 * plus 128 for each bit shifted out, is its bucket. Small values need no shift, and the buckets of
 * one power of two end where those of the next begin.
 */
#include "tools/load/histogram.h"

enum { PER_POWER = 1 << HISTOGRAM_BITS };

static unsigned shift_of(uint64_t value)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);

    return bits > HISTOGRAM_BITS + 1 ? bits - (HISTOGRAM_BITS + 1) : 0;
}

static size_t bucket_of_value(uint64_t value)
{
    unsigned shift = shift_of(value);

    return (size_t)shift * PER_POWER + (size_t)(value >> shift);
}

static unsigned bucket_shift(size_t bucket)
{
    return bucket < (size_t)2 * PER_POWER ? 0 : (unsigned)(bucket / PER_POWER) - 1;
}

uint64_t histogram_bucket_low(size_t bucket)
{
    unsigned shift = bucket_shift(bucket);

    return (uint64_t)(bucket - (size_t)shift * PER_POWER) << shift;
}

uint64_t histogram_bucket_high(size_t bucket)
{
    return histogram_bucket_low(bucket) + (((uint64_t)1 << bucket_shift(bucket)) - 1);
}

void histogram_add(struct histogram *to, uint64_t value)
{
    if (to->count == 0 || value < to->min)
        to->min = value;
    if (value > to->max)
        to->max = value;
    to->count++;
    to->sum += value;
    to->buckets[bucket_of_value(value)]++;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    if (from->count == 0)
        return;
    if (to->count == 0 || from->min < to->min)
        to->min = from->min;
    if (from->max > to->max)
        to->max = from->max;
    to->count += from->count;
    to->sum += from->sum;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        to->buckets[i] += from->buckets[i];
}

/* How many values lie at or below the percentile: at least one, and rounded up. */
static uint64_t rank_of(uint64_t count, double share)
{
    double exact = share * (double)count;
    uint64_t rank = exact <= 1 ? 1 : exact >= (double)count ? count : (uint64_t)exact;

    return (double)rank < exact && rank < count ? rank + 1 : rank;
}

uint64_t histogram_percentile(const struct histogram *it, double share)
{
    uint64_t rank = rank_of(it->count, share);
    uint64_t seen = 0;

    if (it->count == 0)
        return 0;
    if (share <= 0)
        return it->min;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += it->buckets[i];
        if (seen >= rank) {
            uint64_t high = histogram_bucket_high(i);

            return high < it->max ? high : it->max;
        }
    }
    return it->max;
}

double histogram_mean(const struct histogram *it)
{
    return it->count > 0 ? (double)it->sum / (double)it->count : 0;
}
