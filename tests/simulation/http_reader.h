/*
 * http_reader.h - a client's end of HTTP: what comes is compared with what http_language.h has, and
 * with the replies that the server may make of its own accord where something has happened that
 * excuses them.
 *
 * Threads: one. Owns: nothing. Blocks: never.
 */
#ifndef WEIR_SIMULATION_HTTP_READER_H
#define WEIR_SIMULATION_HTTP_READER_H

#include "tests/simulation/http_language.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct http_reader {
    unsigned conversation;      /* for whoever reads what is wrong */
    char head[HTTP_HEAD_ROOM];
    size_t head_len;
    bool in_body;
    size_t body_at;
    int page;                   /* the status of a page that is no answer to the phrase; 0: none */
    int late_page;              /* the same, and its text may follow, or not */
    bool invited;               /* by "100 Continue", to this phrase */
    bool said_end;              /* the last whole reply has said that the connection ends */
    time_t least_s;             /* no date is before that */
};

/* What the server may do for which no phrase asks. */
struct http_licence {
    bool may_close;             /* "Connection: close", since it stops */
    bool may_time_out;          /* 408: a read has been late */
    bool may_fail;              /* 500: a callback has failed, or has been late by itself */
    bool may_refuse;            /* 503 */
};

void http_reader_begin(struct http_reader *reader, unsigned conversation);

/* A byte has come, to a phrase, or to none (NULL). Returns true if a reply is whole with it. */
bool http_reader_take(struct http_reader *reader, const struct phrase *phrase,
                      const struct http_licence *licence, unsigned char byte);

#endif
