/*
 * http_talk.h - one client's conversation with the HTTP handler, whose every request is looked at
 * by the parser's library, too.
 *
 * Threads: the one there is.
 */
#ifndef WEIR_TESTS_FUZZ_HTTP_TALK_H
#define WEIR_TESTS_FUZZ_HTTP_TALK_H

#include <stddef.h>
#include <stdint.h>

enum { HTTP_TALK_MAX = 8 * 1024 };      /* bytes that a client sends */

/*
 * Has the conversation twice: all bytes at once, and `first` of them, then `piece` at a time. Both
 * must come to the same. read_size is what callbacks read of bodies at a time.
 */
void http_talk(const uint8_t *bytes, size_t len, size_t first, size_t piece, size_t read_size);

#endif
