/*
 * options.h - what the caller of weir_server_create said, checked and completed.
 *
 * Threads: any. Owns: nothing.
 */
#ifndef WEIR_ENGINE_OPTIONS_H
#define WEIR_ENGINE_OPTIONS_H

#include "engine/weir.h"

#include <stddef.h>
#include <stdint.h>

/*
 * Copies the caller's options, of whatever version, and puts the defaults' values in place of
 * zeros. The pointers in it are still the caller's.
 * Returns 0; -EINVAL or -E2BIG, and the reason in why.
 */
int options_read(const struct weir_options *in, struct weir_options *ret, char *why,
                 size_t why_size);

/* Checks a handler: 0, or -EINVAL and the reason in why, in which `what` names its user. */
int options_check_handler(const struct weir_handler *handler, const char *what, char *why,
                          size_t why_size);

/*
 * The i-th address to listen on. Its handler is the server's where it has none of its own; the
 * other fields are as the program said: terms_of tells what holds where they are 0.
 */
size_t options_listens(const struct weir_options *options);
struct weir_listen options_listen(const struct weir_options *options, size_t i);

/*
 * Returns true if one of the addresses is a Unix path. Without one, a mode or an owner for such
 * paths, which was meant to keep somebody out, does nothing, and is refused by this sentence.
 */
bool options_have_unix_path(const struct weir_options *options);
#define OPTIONS_NO_UNIX_PATH "%s is set, but no listener has a Unix path: add one, such as " \
    "unix:///run/weir.sock, or leave it out"

/* The sum of the listeners' own max_connections. */
uint64_t options_set_aside(const struct weir_options *options);

#endif
