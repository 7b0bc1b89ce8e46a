/*
 * registry.h - the bundled handlers by name, for programs that are told one on a command line.
 *
 * Threads: any; all of it is constant.
 */
#ifndef WEIR_HANDLERS_REGISTRY_H
#define WEIR_HANDLERS_REGISTRY_H

#include <stddef.h>
#include <weir/weir.h>

struct registry_entry {
    const struct weir_handler *handler;
    const char *summary;            /* one line, without a full stop */
};

extern const struct registry_entry registry[];
extern const size_t registry_len;

/* registry_find returns the entry of that name, or NULL. */
const struct registry_entry *registry_find(const char *name);

#endif
