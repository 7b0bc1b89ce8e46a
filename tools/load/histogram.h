/*
 * histogram.h - how often which value came: log-linear buckets, for percentiles.
 *
 * Each power of two has 128 buckets of equal width, so a bucket is at most 1/128 of its values
 * wide, and below 256 exactly one value. Adding takes the same few instructions for every value,
 * of all 64 bits; the memory is fixed, and two histograms add up without loss.
 *
 * Threads: one at a time. Zero bytes are an empty histogram.
 */
#ifndef WEIR_LOAD_HISTOGRAM_H
#define WEIR_LOAD_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    HISTOGRAM_BITS = 7,
    HISTOGRAM_BUCKETS = (64 - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS,
};

struct histogram {
    uint64_t count;
    uint64_t sum;               /* for the mean; it wraps around beyond 2^64 */
    uint64_t min, max;          /* exact; 0 while it is empty */
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *to, uint64_t value);
void histogram_merge(struct histogram *to, const struct histogram *from);

/*
 * histogram_percentile tells the least value that at least this share of all do not exceed: 0.5 is
 * the median, 0 the minimum, 1 the maximum. It may say up to 1/128 more, but never more than the
 * maximum. 0 while the histogram is empty.
 */
uint64_t histogram_percentile(const struct histogram *it, double share);

double histogram_mean(const struct histogram *it);

/* The least and the greatest value that a bucket counts. */
uint64_t histogram_bucket_low(size_t bucket);
uint64_t histogram_bucket_high(size_t bucket);

#ifdef __cplusplus
}
#endif
#endif
