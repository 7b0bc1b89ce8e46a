/*
 * access.h - rules that say who may connect: networks, users and groups.
 *
 * The public struct weir_access: weir.h has the text's form. Rules that are in force stand in
 * a slot, which acceptors read inside a reclaim section, without waiting; a thread that replaces
 * them leaves the old ones to the reclaimer.
 *
 * Threads: parsing any; a slot: set any, admits by threads between reclaim_thread_init and _fini.
 * Owns:    a slot owns its rules.
 * Blocks:  access_read, as reading a file does; the others never.
 */
#ifndef WEIR_ACCESS_H
#define WEIR_ACCESS_H

#include "engine/weir.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* See weir_access_parse and weir_access_read in weir.h. */
int access_parse(const char *text, struct weir_access **ret, char *why, size_t why_size);
int access_read(const char *path, struct weir_access **ret, char *why, size_t why_size);
void access_free(struct weir_access *access);

/* The peer that the rules are asked about. */
struct access_peer {
    const struct sockaddr *address;
    socklen_t address_len;
    int fd;                     /* a Unix peer's connection, which says whose it is ... */
    const struct ucred *sender; /* ... unless this does: of a datagram */
};

bool access_allows(const struct weir_access *access, const struct access_peer *peer);

struct access_slot {
    _Atomic(struct weir_access *) rules;    /* NULL: everybody may */
};

/* 0, and the rules are the slot's; -EBUSY: they are some slot's already. NULL: no rules. */
int access_slot_set(struct access_slot *slot, struct weir_access *rules);
void access_slot_fini(struct access_slot *slot);    /* nobody looks at it any more */
bool access_slot_admits(struct access_slot *slot, const struct access_peer *peer);

#endif
