/*
 * activation.h - the sockets that a service manager has opened and passed to this process:
 * LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, as sd_listen_fds(3) describes them.
 *
 * Threads: the main thread, before there are others: the environment is read and changed.
 * Owns:    nothing; names are the environment's, until activation_forget.
 */
#ifndef WEIR_TOOLS_ACTIVATION_H
#define WEIR_TOOLS_ACTIVATION_H

#include <stdbool.h>
#include <stdint.h>

enum {
    ACTIVATION_FIRST_FD = 3,
    ACTIVATION_MAX = 4096,      /* sockets: each is looked at, and names are counted for each */
};

struct activation {
    uint32_t len;               /* sockets, from ACTIVATION_FIRST_FD on; 0: why says why */
    const char *names;          /* of all of them, with colons between */
    char why[192];
};

/* Reads the three variables. Whether descriptors are open and listen, the engine finds out. */
void activation_read(struct activation *ret_activation);

/* Returns true if the i-th socket has that name; without LISTEN_FDNAMES each is called unknown. */
bool activation_is_named(const struct activation *activation, uint32_t i, const char *name);

/* Removes the variables: no process that this one starts takes the sockets for its own. */
void activation_forget(void);

#endif
