/*
 * settings.h - what `weir serve` can be told: one table for reading it and for --help.
 *
 * Threads: the main thread, before the server exists.
 * Owns:    settings own their list of listeners; strings are argv's, or the file's.
 */
#ifndef WEIR_TOOLS_SETTINGS_H
#define WEIR_TOOLS_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <weir/weir.h>

#include "handlers/registry.h"
#include "tools/command/activation.h"
#include "tools/command/handover.h"
#include "tools/command/options_file.h"

enum {
    SETTINGS_LISTENERS_MAX = HANDOVER_LISTENERS_MAX,
    SETTINGS_FD_SIZE = sizeof("fd://2147483647"),
};

struct settings {
    struct weir_options options;                /* refers to `listeners` */
    struct weir_listen listeners[SETTINGS_LISTENERS_MAX];
    const char *addresses[SETTINGS_LISTENERS_MAX + 1];  /* of each, as --listen had it; NULL */
    struct handover_file files[SETTINGS_LISTENERS_MAX]; /* at the Unix path of each */
    struct handover handover;                   /* what another process has handed on to this one */
    struct activation passed;                   /* what "systemd:" stands for */
    char passed_uris[SETTINGS_LISTENERS_MAX][SETTINGS_FD_SIZE];
    const struct registry_entry *first_handler; /* for the listeners named before any handler */
    struct options_file file;                   /* of further options */
    const char *access;                         /* the file of rules, or NULL */
    const char *user;                           /* whom to become, or NULL */
    bool sandbox;                               /* only what serving takes is left: sandbox.h */
    bool help;                                  /* was asked for: nothing else counts */
};

/*
 * settings_read reads the arguments behind "serve". argv[0] is the name that messages begin with.
 * Sockets that a service manager passed, or another process handed on, are taken from the
 * environment, and gone from it then.
 * Returns 0, or -EINVAL after one line on standard error. It is not to be moved afterwards.
 */
int settings_read(struct settings *ret_settings, int argc, char **argv);

/* settings_help prints every option and its default. */
void settings_help(FILE *to);

#endif
