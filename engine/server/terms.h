/*
 * terms.h - the terms on which a listener's clients are served: its own, else the server's.
 *
 * Threads: any. Owns: nothing.
 */
#ifndef WEIR_TERMS_H
#define WEIR_TERMS_H

#include "engine/net/endpoint.h"
#include "engine/weir.h"

/*
 * An endpoint without what is made for it: its quota, rules and crowd are NULL, and it has no
 * number. options were read by options_read, and listen came from options_listen.
 */
struct endpoint terms_of(const struct weir_options *options, const struct weir_listen *listen);

#endif
