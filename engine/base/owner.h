/*
 * owner.h - users and groups as people write them: "www-data", "www-data:web", ":web", "1000:0",
 * as for chown(1).
 *
 * Threads: any. Blocks: while a name is looked up (a network's directory may be slow).
 */
#ifndef WEIR_OWNER_H
#define WEIR_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct owner {
    bool set_uid;               /* a user was named */
    bool set_gid;
    uid_t uid;
    gid_t gid;
};

/*
 * owner_parse reads "USER", "USER:GROUP" or ":GROUP"; each is a name, or else a number. A user
 * alone says nothing about the group. Returns 0, or -EINVAL or the error of getpwnam_r(3) and
 * getgrnam_r(3) with the reason in why and *ret left alone.
 */
int owner_parse(const char *text, struct owner *ret, char *why, size_t why_size);

#endif
