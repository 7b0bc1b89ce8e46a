/*
 * sized.h - handlers for messages of any length, each of which ends with a newline.
 *
 * Each message is answered by a byte, and the connection kept.
 * Threads: any.
 */
#ifndef WEIR_BENCH_SIZED_H
#define WEIR_BENCH_SIZED_H

#include <weir/weir.h>

#ifdef __cplusplus
extern "C" {
#endif

extern const struct weir_handler sized_line;        /* reads it as a line */
extern const struct weir_handler sized_peek;        /* knows its length: data, a size_t */
extern const struct weir_handler sized_peek_more;   /* peeks for a byte more until it is whole */

/* HTTP: a page at /, and one at /body once the body has been read. */
extern const struct weir_handler sized_http;

#ifdef __cplusplus
}
#endif
#endif
