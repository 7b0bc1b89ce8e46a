/*
 * load_address.h - which of a name's addresses is asked.
 *
 * Threads: any. Blocks: where there are several, for who listens.
 */
#ifndef WEIR_LOAD_ADDRESS_H
#define WEIR_LOAD_ADDRESS_H

#include "engine/net/address.h"
#include "tools/load/load.h"

/* Of options->address. Returns 0, or -EINVAL and other errors of address_parse_all. */
int load_find_address(const struct load_options *options, struct address *ret_address);

#endif
