/*
 * privileges.h - the rights that `weir serve` gives up once its sockets are bound.
 *
 * Threads: the main thread, while there is no other.
 * Blocks:  while a name is looked up (a network's directory may be slow).
 */
#ifndef WEIR_TOOLS_PRIVILEGES_H
#define WEIR_TOOLS_PRIVILEGES_H

#include <stdbool.h>
#include <sys/types.h>
#include <weir/weir.h>

struct privileges {
    const char *user;           /* as it was given, or NULL */
    bool changes;               /* another user than the one that runs us is to be taken on */
    uid_t uid;
    gid_t gid;
    char owner[24];             /* the two, as --unix-owner takes them */
};

/*
 * privileges_read reads USER[:GROUP], names or numbers, or NULL for none; without a group, the
 * user's own is it. Returns 0, or -EINVAL after one line on standard error: also if the process
 * could not become that user, so that nothing is bound in vain.
 */
int privileges_read(struct privileges *ret_privileges, const char *user);

/*
 * privileges_own has that user own the server's Unix paths, if there are any and nobody is named
 * to: nobody but root could connect to what is root's, by the usual umask. The options refer to
 * the privileges then.
 */
void privileges_own(struct privileges *privileges, struct weir_options *options);

/*
 * privileges_drop becomes that user for good, with the groups that the user is in. Returns 0, or
 * -errno after one line: the process is then to end.
 */
int privileges_drop(const struct privileges *privileges);

/* privileges_warn says in one line that root goes on, unless that was asked for. */
void privileges_warn(const struct privileges *privileges);

/*
 * privileges_renounce sees to it that no program which is executed has more rights than we do
 * (no_new_privs). A kernel that refuses gets one line.
 */
void privileges_renounce(void);

#endif
