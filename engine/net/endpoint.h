/*
 * endpoint.h - one address that clients come in by, and what is agreed for all of them.
 *
 * Whatever comes by it, a connection or a datagram, carries a pointer to it. It is made before
 * anybody can come, never changed, and goes with the server: a connection may outlive its listener,
 * which a close or a child of a fork closes, but not the server.
 *
 * Threads: any may read it; create and destroy by who makes and frees the server.
 * Owns:    nothing: the handler is the program's, everything else the server's.
 */
#ifndef WEIR_ENDPOINT_H
#define WEIR_ENDPOINT_H

#include "engine/net/access.h"
#include "engine/net/crowd.h"
#include "engine/net/quota.h"
#include "engine/weir.h"

#include <stdbool.h>
#include <stdint.h>

struct weir_request;

struct endpoint {
    const struct weir_handler *handler; /* what weir_submit serves may have another */
    struct quota *quota;                /* which its connections are counted against */
    struct access_slot *access;         /* the rules for who comes in */
    struct crowd *crowd;                /* NULL: connections of an address aren't counted */
    bool spares_loopback;               /* ... nor those of loopback addresses in any case */
    uint32_t read_timeout_ms;           /* timeouts as in struct weir_options; 0: there is none */
    uint32_t write_timeout_ms;
    uint32_t request_timeout_ms;
    uint32_t head_timeout_ms;           /* of a greeting, too */
    uint32_t progress_timeout_ms;
    uint32_t idle_timeout_ms;
    uint32_t backlog;                   /* listen(2)'s, of its listeners; 0: SOMAXCONN */
    bool nodelay;                       /* TCP_NODELAY on its connections */
    bool taken_over;                    /* its inherited sockets: nobody else keeps them */
    /* What comes between accept and setup(): see greeting.h. NULL: nothing. */
    int (*greet)(struct weir_request *req);
    uint32_t number;                    /* which of the listeners; WEIR_NO_LISTENER: none */
    void *user;                         /* the listener's */
    char uri[WEIR_ADDRESS_SIZE];        /* as it is bound, a port 0 resolved */
};

/* Makes one of this address, otherwise like another one: 0 or -ENOMEM. */
int endpoint_create(const struct endpoint *like, const char *uri, struct endpoint **ret);
void endpoint_destroy(struct endpoint *endpoint);

/* Returns true if its connections come by weir_submit or weir_submit_fd, and by no listener. */
static inline bool endpoint_is_submission(const struct endpoint *endpoint)
{
    return endpoint->number == WEIR_NO_LISTENER;
}

/* One of them; 0: there is none. */
uint32_t endpoint_timeout_ms(const struct endpoint *endpoint, enum weir_timeout which);

/*
 * How long a connection may be idle; 0: for ever. is_silent: its client is to speak first and has
 * not yet, so that what would bound its handler's first read bounds this, too.
 */
uint32_t endpoint_idle_limit_ms(const struct endpoint *endpoint, bool is_silent);

#endif
