/*
 * client.h - a client: it connects, asks, checks each byte of the answers, and goes, several times.
 *
 * It knows what every answer must be (language.h). A connection that ends without all answers needs
 * an excuse: something that the client has done, a deadline of the server's that it has outlived, a
 * fault that was injected, or a stop before its request had arrived.
 *
 * Threads: one. Owns: its end of a connection. Blocks: never; it is an actor.
 */
#ifndef WEIR_SIMULATION_CLIENT_H
#define WEIR_SIMULATION_CLIENT_H

#include "tests/simulation/conversation.h"
#include "tests/simulation/dice.h"
#include "tests/simulation/http_reader.h"
#include "tests/simulation/language.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/streams.h"

#include <stdbool.h>
#include <stdint.h>

#define CLIENT_PHRASES 32       /* asked and not answered yet */

/* How all clients of a run behave. */
struct client_manners {
    uint16_t port;
    uint16_t other_port;        /* of every second client; 0: there is none */
    uint32_t connections;       /* of each client, one after another */
    uint32_t requests;          /* of each connection, about */
    uint32_t pipelined;         /* at a time */
    uint32_t text_len;          /* of a line, about */
    uint32_t big_len;           /* of big replies, about */
    uint32_t wait_ms;           /* that it has the handler wait, about */
    const char *says;           /* the letters that it may use */
    bool http;                  /* it speaks HTTP */
    uint64_t rush_ns;           /* it connects at multiples of it, as all others; 0: at any time */
    uint64_t think_ns;          /* between two things that it does, about */
    uint64_t pause_in;          /* once in so many times it pauses for long ... */
    uint64_t pause_ns;          /* ... about */
    uint64_t reset_in;          /* once in so many things it resets */
    uint64_t leave_in;          /* ... closes, whatever is still to come */
    uint64_t half_close_in;     /* once in so many ends it says its end before the last answers */
    bool client_first;          /* the handler is not begun before it has spoken */
    uint64_t descriptors_in;    /* once in so many sends it sends some along (a Unix socket) */
    uint32_t piece;             /* bytes it sends or reads at a time, about */
};

/* Ends that are not the client's fault, nor the server's. */
struct client_excuses {
    bool faults;                /* something was injected that may cost a connection */
    bool limits;                /* connections may be refused or ended to make room */
    uint32_t idle_ms, read_ms, write_ms, request_ms;    /* the server's timeouts; 0: none */
    uint32_t head_ms, progress_ms;
    uint32_t drain_ms;          /* likewise: then nobody lingers any more either */
    uint64_t stopped_ns;        /* since when the server closes; 0: it doesn't */
    bool cancelled;
    bool nobody_lingers;        /* what a handler has said last may be lost behind its end */
};

extern struct client_excuses client_excuses;

struct client {
    struct actor actor;
    unsigned number;
    const struct client_manners *manners;
    struct dice dice;
    struct stream *stream;
    struct conversation *talk;
    uint32_t connections_left, requests_left;
    struct phrase phrases[CLIENT_PHRASES];
    uint32_t asked, sent, answered;     /* phrases, since the connection began */
    uint64_t whole_ns[CLIENT_PHRASES];  /* when each of those that are not answered was sent */
    size_t sent_of_it, answered_of_it;  /* bytes of the first that isn't whole */
    struct http_reader reader;
    uint32_t invited;                   /* phrases up to that one may be sent to their ends */
    uint32_t owed;                      /* answers, though the server closes: it had the requests */
    bool leaving;                       /* it has said its end, or will read no more */
    uint64_t active_ns;                 /* when it last sent or read */
    uint64_t connected_ns;
    bool in_rush;                       /* it is the moment to connect */
    bool attentive;                     /* there is nothing to do until something changes */
    bool done;
};

void client_init(struct client *client, unsigned number, const struct client_manners *manners,
                 uint64_t seed);

/* All have done all that they meant to. */
bool clients_are_done(void);
extern const char clients_reason;       /* is woken when one more is */
extern uint64_t clients_answered;       /* requests */
void clients_expect(unsigned n);
void client_is_done(void);              /* one of those that are expected */

/* The server begins to close: what has arrived is to be answered, as far as a read buffer goes. */
extern size_t client_buffer_len;
void client_note_stop(struct client *client);

/* handle() returns, for the first time since the server drains: likewise. */
void client_note_last(struct conversation *talk);

/* From now on it makes no new connection. */
void client_give_up(struct client *client);

/* No pauses any more, long or short, and no resets: it comes to an end. */
void clients_hurry(void);

/* For whoever reads what went wrong. */
void client_print(const struct client *client);

#endif
