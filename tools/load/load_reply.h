/*
 * load_reply.h - what comes back: whether it is what has to.
 *
 * A struct replies is what the replies on all connections of a lane have in common, a struct reply
 * the place of one connection in the reply that is due on it. Neither knows of sockets: text goes
 * in, in the pieces that recv made of it.
 */
#ifndef WEIR_LOAD_REPLY_H
#define WEIR_LOAD_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tools/load/http_head.h"
#include "tools/load/load_lane.h"

enum { REPLY_KNOWN_MAX = 512 };         /* heads so long are recognised when they come again */

struct replies {
    enum load_mode mode;
    size_t line_len;
    char *line;                 /* as it has to come back, but for its number */
    uint64_t body_len;          /* HTTP's; known once have_body_len */
    bool have_body_len;
    size_t last_len;            /* of the last reply, of HTTP with its head; 0: none came yet */
    struct http_head known_head;        /* the last one read, and its text */
    char known[REPLY_KNOWN_MAX];
};

struct reply {
    bool in_body;
    bool until_end;             /* the body ends with the connection */
    bool closes;                /* the server closes behind this reply */
    uint64_t got;               /* bytes of the line, or of the body */
    uint64_t body_len;
    char *head;                 /* the part of a head that has come; NULL: none ever did */
    size_t head_len;
};

/* Returns 0 or -ENOMEM; replies_fini is due either way. */
int replies_init(struct replies *replies, const struct lane *lane);

void replies_fini(struct replies *replies);

/* Nothing of a reply has come yet. For one that is all zeroes that is so. */
void reply_begin(struct reply *reply);

void reply_fini(struct reply *reply);

/*
 * Checks what it can of a text that is not empty. number: the request's; gone_out: of a line, the
 * bytes of it that the server may have seen. Returns how many bytes of the text belong to this
 * reply, or -1 and what is wrong with it.
 */
ssize_t reply_take(struct replies *replies, struct reply *reply, uint32_t number, size_t gone_out,
                   const char *text, size_t len, enum load_error *ret_error);

/* All of it has come. */
bool reply_complete(const struct replies *replies, const struct reply *reply);

/* The connection has ended. Returns 0: that completes the reply, or -1 and what is wrong. */
int reply_ends(struct replies *replies, const struct reply *reply, enum load_error *ret_error);

#endif
