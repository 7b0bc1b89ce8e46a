/*
 * roll.h - who is connected at this moment, and what each connection waits for.
 *
 * A roll is a copy: it is called while connections come and go, and read at leisure. Children of
 * WEIR_PREFORK call theirs into memory that they share with their parent, so an entry holds nothing
 * that is a process's own: endpoints have been there before the fork, which a handler that is
 * submitted need not have been.
 *
 * Threads: a roll is one thread's. The connections that are called are anybody's.
 * Owns:    its entries, unless they are another's memory (roll_lend).
 * Blocks:  never.
 */
#ifndef WEIR_ROLL_H
#define WEIR_ROLL_H

#include "engine/pool/connection.h"
#include "engine/weir.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct crew;

#define ROLL_NAME_SIZE 48

/* An address of the families that a connection notes. */
union roll_peer {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

struct roll_entry {
    char handler[ROLL_NAME_SIZE];   /* its name, or the beginning of it */
    const struct endpoint *endpoint;
    uint64_t since_ms;          /* of this wait, or of its work, on clock_ms ... */
    uint64_t begun_ms;          /* was accepted */
    union roll_peer peer;
    socklen_t peer_len;         /* 0: it is not known yet */
    int fd;                     /* -1: a child has it */
    pid_t pid;                  /* the process that serves it */
    uint8_t state;              /* enum connection_state */
    uint8_t wait;               /* enum connection_wait */
    bool at_most;               /* ... not earlier than then */
};

struct roll {
    struct roll_entry *entries;
    size_t len;
    size_t room;
    bool lent;                  /* the entries are another's, and can't grow */
    uint64_t left_out;          /* connections that there was no room for */
    uint64_t datagrams;         /* that are being served */
    uint64_t silent_children;   /* that have not called theirs in time */
};

/* Has a roll use this memory. */
void roll_lend(struct roll *roll, struct roll_entry *entries, size_t room);
void roll_free(struct roll *roll);

/* A new entry, cleared, or NULL: it is counted as left out. */
struct roll_entry *roll_add(struct roll *roll);

void roll_name(struct roll_entry *entry, const struct weir_handler *handler);

/*
 * Adds all that have a place in the crew's table. parks: the crew's handlers wait on fibers, but
 * for those of WEIR_STACK_THREAD.
 */
void roll_call(struct roll *roll, struct crew *crew, bool parks);

/* What a note says (connection_noted), of a connection that is in this state. */
void roll_judge(struct roll_entry *entry, enum connection_state state, uint64_t noted, bool parks);

/* Brings them into order: those that wait for what a program does, the longest first; then idle. */
void roll_sort(struct roll *roll);

/* As in "waits=read". */
const char *roll_wait_name(const struct roll_entry *entry);
const char *roll_state_name(const struct roll_entry *entry);

#endif
