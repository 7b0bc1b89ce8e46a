/*
 * backend_host.h - a server that the driver has created: its options, its hooks, what it counts.
 *
 * Threads: all calls but host_tell on the thread that reads the driver's lines; hooks wherever weir
 *          runs them.
 * Owns:    itself, for ever: handlers of a daemon server may outlive the server.
 */
#ifndef WEIR_TESTS_CONFORMANCE_BACKEND_HOST_H
#define WEIR_TESTS_CONFORMANCE_BACKEND_HOST_H

#include <weir/weir.h>

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/conformance/backend_words.h"

enum verdict { VERDICT_YES, VERDICT_NO, VERDICT_ERROR, VERDICT_HOLD };
enum { VERDICTS_MAX = 8 };

struct host {
    unsigned number;
    struct weir_server *server;
    struct weir_handler handler;
    struct weir_options options;
    bool quiet;

    /* What the hooks and the handler are to do: numbers, since they are read from names. */
    uint32_t kind;              /* a place in handlers */
    uint32_t setup;             /* 1: fails */
    uint32_t finish;
    uint32_t service_actions;   /* a place in what_actions_do */
    uint32_t handle_error;      /* 1: the library's */
    enum verdict verdicts[VERDICTS_MAX];
    size_t verdicts_len;

    sem_t released;
    _Atomic size_t verified;
    _Atomic uint64_t errors;
    bool gone;                  /* its number is free again */
    struct host *older;
};

/* 0, or -errno: what weir_server_create said, or -ENOTSUP. */
int host_create(const struct words *words);

/* That of a number, in text, which must be there. host_next goes through all; NULL: the first. */
struct host *host_find(const char *number);
struct host *host_next(struct host *host);

/* Waits for the verb release. Blocks. */
void host_hold(struct host *host);

/* An event of it, unless it is quiet. */
void host_tell(const struct host *host, const char *event);

#endif
