/*
 * values.h - numbers, sizes, times and permissions as people write them.
 *
 * Each parses all of text, and returns 0 or -EINVAL with ret_value left alone.
 */
#ifndef WEIR_TOOLS_VALUES_H
#define WEIR_TOOLS_VALUES_H

#include <stdint.h>

/* "12": decimal digits only. -EINVAL when it is more than max. */
int value_number(const char *text, uint64_t max, uint64_t *ret_value);

/* "512", "64K", "1M": bytes. */
int value_size(const char *text, uint64_t max, uint64_t *ret_value);

/* "500ms", "10s", "2m", or seconds alone: milliseconds, a fraction is not understood. */
int value_time(const char *text, uint64_t max, uint64_t *ret_value);

/* "660" or "0660": permissions in octal, at most 0777. */
int value_mode(const char *text, uint64_t *ret_value);

#endif
