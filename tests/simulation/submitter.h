/*
 * submitter.h - a program beside the server that accepts clients by itself, at a port of its own,
 * and hands them on by weir_submit_fd. Those that it can't hand on it closes, and says so in their
 * conversation.
 *
 * Threads: one of the simulated, which the caller starts. Owns: its socket.
 * Blocks:  until it is told to stop.
 */
#ifndef WEIR_SIMULATION_SUBMITTER_H
#define WEIR_SIMULATION_SUBMITTER_H

#include "engine/weir.h"

#include <stdbool.h>
#include <stdint.h>

struct submitter {
    struct weir_server *server;
    uint16_t port;
    bool may_refuse;            /* the server may have no room, or something was injected */
    bool stops;
};

/* Before any client connects. Its socket is there when this has returned. */
void submitter_listen(struct submitter *submitter);

/* For scheduler_start. */
void *submitter_main(void *submitter);

/* It returns soon. */
void submitter_stop(struct submitter *submitter);

#endif
