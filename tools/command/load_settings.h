/*
 * load_settings.h - what `weir load` can be told.
 *
 * Threads: the main thread, before the load exists.
 * Owns:    what its options point at; strings are argv's.
 */
#ifndef WEIR_TOOLS_LOAD_SETTINGS_H
#define WEIR_TOOLS_LOAD_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "engine/net/address.h"
#include "tools/load/load.h"

enum {
    LOAD_SOURCES_MAX = 64,
    LOAD_CPUS_MAX = 256,
    LOAD_HEADERS_SIZE = 8192,
    LOAD_ADDRESS_SIZE = 320,
};

#define LOAD_NO_END UINT32_MAX          /* of a duration */

struct load_settings {
    struct load_options options;        /* refers to what is below */
    const char *payload;                /* what it is called; NULL until all is read */
    uint32_t duration_ms;               /* LOAD_NO_END: by --requests or a signal; 0: not read */
    uint32_t warmup_ms;
    const char *json;                   /* a file's name, "-", or NULL */
    bool datagrams;                     /* the address is one of them */
    bool help;                          /* was asked for: nothing else counts */
    struct address sources[LOAD_SOURCES_MAX];
    int cpus[LOAD_CPUS_MAX];
    char address[LOAD_ADDRESS_SIZE];    /* of a URL */
    const char *url_host;               /* NULL: the address was no URL */
    int url_host_len;
    char headers[LOAD_HEADERS_SIZE];
    size_t headers_len;
};

/*
 * load_settings_read reads the arguments behind "load", and resolves the address for a look at it.
 * Returns 0, or -EINVAL after one line on standard error. It is not to be moved afterwards.
 */
int load_settings_read(struct load_settings *ret_settings, int argc, char **argv);

void load_settings_help(FILE *to);

#endif
